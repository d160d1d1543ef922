"""Worker processes with limits of time and memory: a hostile file ends its worker, not the ingest."""
