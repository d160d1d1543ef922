"""Ingest: find files, rasterize and read their pages, embed them, write them to the index, and report progress."""

from configs.privacy import switch_off_reports

switch_off_reports()
