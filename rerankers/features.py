"""Caches the vision tower's output of a page, which does not depend on the question and is more than half of the work.

Memory and disk each evict the least recently used pages. A cached value is bit for bit the one that was stored. Safe to
use from several threads; several processes may share the folder.
"""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from retrieval.lru import LRU

log = logging.getLogger("folioscope")
ABANDONED_S = 3_600.0
"""Seconds after which nobody writes to a partly written file any more."""

Features = Mapping[str, Tensor]  # on the CPU when they come from the cache


class FeatureCache:
    """Caches features by key in memory and on disk, within limits in MiB.

    A limit of 0 switches that part off, and so does a missing `folder` for the disk. The cache never raises: after
    an error of the disk it warns once and goes on in memory only. What `put` gets from a GPU is kept in pinned memory,
    from which it returns up to ten times as fast.
    """

    def __init__(self, memory_mb: int, disk_mb: int = 0, folder: Path | None = None) -> None:
        self._memory_bytes, self._disk_bytes = memory_mb << 20, disk_mb << 20 if folder else 0
        self._memory: LRU[str, Features] = LRU(self._memory_bytes, size_in_bytes)
        self._folder = folder
        self._disk_used = 0
        self._lock = threading.Lock()
        if self._disk_bytes:
            with self._disk_errors_caught():
                assert folder is not None
                folder.mkdir(parents=True, exist_ok=True)
                for part in folder.glob("*.part"):  # left by a process that was killed while it wrote
                    if time.time() - part.stat().st_mtime > ABANDONED_S:
                        part.unlink(missing_ok=True)
                self._disk_used = sum(n for _, n, _ in self._files())

    def get(self, key: str) -> Features | None:
        """Returns the cached features, or None. key: of hex digits and dashes, as it becomes a file name."""
        features = self._memory.get(key)
        if features is None:
            features = self._read(key)
            if features is not None:
                self._memory.put(key, features)
        return features

    def put(self, key: str, features: Features) -> None:
        """Cache the features under `key`."""
        if not self._memory_bytes and not self._disk_bytes:
            return
        # A copy, because a slice would keep the whole batch that it was cut from in memory.
        copied = {name: _copied(tensor.detach()) for name, tensor in features.items()}
        self._memory.put(key, copied)
        self._write(key, copied)

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"

    def _read(self, key: str) -> Features | None:
        if not self._disk_bytes:
            return None
        path = self._path(key)
        try:
            features: dict[str, Tensor] = load_file(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):  # truncated when a machine went down: the page is computed again
            with self._disk_errors_caught():
                path.unlink(missing_ok=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # now the most recently used file
        return features

    def _write(self, key: str, features: Features) -> None:
        if not self._disk_bytes or size_in_bytes(features) > self._disk_bytes:
            return
        with self._disk_errors_caught():
            path = self._path(key)
            draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
            try:
                save_file(dict(features), draft)
                draft.replace(path)  # other processes never see a partly written file
            finally:
                draft.unlink(missing_ok=True)
            with self._lock:
                self._disk_used += path.stat().st_size
                full = self._disk_used > self._disk_bytes
            if full:
                self._prune()

    def _prune(self) -> None:
        """Delete files down to nine tenths of the limit, so that not every new page has to list the folder."""
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
        """Returns (time of last use in ns, bytes, path) of each cached file."""
        assert self._folder is not None
        files = []
        for file in self._folder.glob("*.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                stat = file.stat()
                files.append((stat.st_mtime_ns, stat.st_size, file))
        return files

    @contextlib.contextmanager
    def _disk_errors_caught(self) -> Iterator[None]:
        """Switch the disk off after an error in this block."""
        try:
            yield
        except (OSError, SafetensorError) as error:
            log.warning("page features are no longer cached on disk, in %s: %s", self._folder, error)
            self._disk_bytes = 0


def _copied(tensor: Tensor) -> Tensor:
    """Returns a copy on the CPU, in pinned memory if the tensor is on a GPU."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return copy.copy_(tensor)


def size_in_bytes(features: Features) -> int:
    """Returns the bytes that the tensors take; torch rounds each piece of pinned memory up to a power of two."""
    sizes = ((tensor.numel() * tensor.element_size(), tensor.is_pinned()) for tensor in features.values())
    return sum(1 << (size - 1).bit_length() if pinned else size for size, pinned in sizes)
