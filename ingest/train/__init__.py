"""Making what the ingest ships: the quantised line recogniser."""
