"""Worker processes with limits: a hostile file ends its worker, not the run."""
