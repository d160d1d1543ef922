"""The settings schema and the profiles that ship."""
