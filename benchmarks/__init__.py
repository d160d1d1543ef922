"""Measurements: each script prints a table and writes benchmarks/results/NAME.json. Both sides in one run."""

from configs.privacy import switch_off_reports

switch_off_reports()
