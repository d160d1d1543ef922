"""What the tables of the service share: one SQLite file, its connection, and the lock around it."""

import sqlite3
import threading
from pathlib import Path


class SQLiteFile:
    """A connection in autocommit mode, for subclasses that take the lock around each use of it."""

    def __init__(self, path: Path, script: str) -> None:
        """script: statements that are executed when the file is opened. Raises sqlite3.Error."""
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.executescript(script)

    def close(self) -> None:
        with self._lock:
            self._database.close()
