"""The index in LanceDB: tables, reading and writing, verification."""

import os

os.environ.setdefault(
    "LANCEDB_LOG", "error"
)  # LanceDB reads it at its import; without it, new tables warn on stderr
