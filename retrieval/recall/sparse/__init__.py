"""Sparse vectors of passages in lists by token."""
