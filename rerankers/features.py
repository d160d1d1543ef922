"""What a vision tower made of a page, kept: it does not depend on the question, and is more than half of the work.

Least recently used pages go first, out of memory to disk, and out of disk for good. A value that comes back is
bit for bit what went in. Safe to use from several threads; several processes may share the folder.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from retrieval.lru import LRU

log = logging.getLogger("folioscope")
ABANDONED_S = 3_600.0
"""Half-written files older than this have no writer any more."""

Features = Mapping[str, Tensor]  # on the CPU


class FeatureCache:
    """`memory_mb` and `disk_mb` bound what is kept (MiB); 0 keeps nothing there. `folder` is needed for disk.

    It may forget, but never fails: where the disk does, that is said once, and the disk is left alone from then on.
    """

    def __init__(self, memory_mb: int, disk_mb: int = 0, folder: Path | None = None) -> None:
        self._memory_bytes, self._disk_bytes = memory_mb << 20, disk_mb << 20 if folder else 0
        self._kept: LRU[str, Features] = LRU(self._memory_bytes, size)
        self._folder = folder
        self._disk_used = 0
        self._lock = threading.Lock()
        if self._disk_bytes:
            with self._forgiving():
                assert folder is not None
                folder.mkdir(parents=True, exist_ok=True)
                for part in folder.glob("*.part"):  # of a writer that was killed
                    if time.time() - part.stat().st_mtime > ABANDONED_S:
                        part.unlink(missing_ok=True)
                self._disk_used = sum(n for _, n, _ in self._files())

    def get(self, key: str) -> Features | None:
        """`key` is made of hex digits and dashes."""
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        found = self._read(key)
        if found is not None:
            self._kept.put(key, found)
        return found

    def put(self, key: str, features: Features) -> None:
        if not self._memory_bytes and not self._disk_bytes:
            return
        # copies: a slice would keep the whole batch that it was cut from
        kept = {name: tensor.detach().to("cpu", copy=True) for name, tensor in features.items()}
        self._kept.put(key, kept)
        self._write(key, kept)

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"

    def _read(self, key: str) -> Features | None:
        if not self._disk_bytes:
            return None
        path = self._path(key)
        try:
            found: dict[str, Tensor] = load_file(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):  # cut short when a machine went down: computed again
            with self._forgiving():
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # its turn to go is last again
        return found

    def _write(self, key: str, features: Features) -> None:
        if not self._disk_bytes or size(features) > self._disk_bytes:
            return
        with self._forgiving():
            path = self._path(key)
            draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
            try:
                save_file(dict(features), draft)
                draft.replace(path)  # others never see half a file
            finally:
                draft.unlink(missing_ok=True)
            with self._lock:
                self._disk_used += path.stat().st_size
                full = self._disk_used > self._disk_bytes
            if full:
                self._prune()

    def _prune(self) -> None:
        """Down to nine tenths, so that the folder is not looked through for every page."""
        files = sorted(self._files())
        total = sum(n for _, n, _ in files)
        for _, n, file in files:
            if total <= self._disk_bytes * 0.9:
                break
            file.unlink(missing_ok=True)
            total -= n
        with self._lock:
            self._disk_used = total

    def _files(self) -> list[tuple[int, int, Path]]:
        """(when last used, bytes, path)"""
        assert self._folder is not None
        found = []
        for file in self._folder.glob("*.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                found.append((stat.st_mtime_ns, stat.st_size, file))
        return found

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (OSError, SafetensorError) as error:
            log.warning("page features are not kept on disk any more: %s: %s", self._folder, error)
            self._disk_bytes = 0


def size(features: Features) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in features.values())
