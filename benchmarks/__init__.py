"""Measurements: each script prints a table and writes benchmarks/results/NAME.json. Both sides in one run."""
