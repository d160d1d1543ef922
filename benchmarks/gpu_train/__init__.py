"""Trains the small models on a GPU that is lent for minutes: `pack` here, `fit` there, `unpack` here again."""
