"""The schema of the settings, the profiles that ship, and what is known about their models."""
