"""The error for profiles, in a file of its own so that catching it does not import pydantic."""


class ProfileError(ValueError):
    """A profile does not exist, cannot be read, or does not fit the schema."""
