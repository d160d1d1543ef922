"""Apart from the schema, so that catching it does not import the schema's libraries."""


class ProfileError(ValueError):
    """A profile cannot be read or does not fit the schema."""
