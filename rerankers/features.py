"""What a vision tower made of a page, kept: it does not depend on the question, and is more than half of the work.

Least recently used pages go first, out of memory to disk, and out of disk for good. A value that comes back is
bit for bit what went in. Safe to use from several threads; several processes may share the folder.
"""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Features = Mapping[str, Tensor]  # on the CPU


@dataclass(slots=True)
class Counts:
    memory: int = 0
    disk: int = 0
    missed: int = 0

    def __str__(self) -> str:
        asked = self.memory + self.disk + self.missed
        return f"features of {self.memory + self.disk} of {asked} pages were known" if asked else ""


class FeatureCache:
    """`memory_mb` and `disk_mb` bound what is kept (MiB); 0 keeps nothing there. `folder` is needed for disk.

    `pinned` memory is copied to a GPU at the full speed of the bus.
    """

    def __init__(
        self, memory_mb: int, disk_mb: int = 0, folder: Path | None = None, pinned: bool = False
    ) -> None:
        self._pinned = pinned
        self._memory_bytes, self._disk_bytes = memory_mb << 20, disk_mb << 20 if folder else 0
        self._folder = folder
        self._kept: OrderedDict[str, Features] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._counts = Counts()
        if folder and disk_mb:
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: str) -> Features | None:
        """`key` is made of hex digits and dashes."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                self._counts.memory += 1
                return self._kept[key]
        found = self._read(key)
        with self._lock:
            if found is None:
                self._counts.missed += 1
                return None
            self._counts.disk += 1
        self._remember(key, found)
        return found

    def take_counts(self) -> Counts:
        """What was asked for since this was last called."""
        with self._lock:
            taken, self._counts = self._counts, Counts()
        return taken

    def put(self, key: str, features: Features) -> None:
        if not self._memory_bytes and not self._disk_bytes:
            return
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in features.items()}
        if self._pinned:
            kept = {name: tensor.pin_memory() for name, tensor in kept.items()}
        self._remember(key, kept)
        self._write(key, kept)

    def _remember(self, key: str, features: Features) -> None:
        with self._lock:
            if key in self._kept:
                self._bytes -= size(self._kept.pop(key))
            if size(features) > self._memory_bytes:
                return
            self._kept[key] = features
            self._bytes += size(features)
            while self._bytes > self._memory_bytes:
                self._bytes -= size(self._kept.popitem(last=False)[1])

    def _path(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{key}.safetensors"

    def _read(self, key: str) -> Features | None:
        if not self._disk_bytes:
            return None
        path = self._path(key)
        try:
            found: dict[str, Tensor] = load_file(path)
            os.utime(path)  # its turn to go is last again
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):  # cut short when a machine went down: computed again
            path.unlink(missing_ok=True)
            return None
        return found

    def _write(self, key: str, features: Features) -> None:
        if not self._disk_bytes or size(features) > self._disk_bytes:
            return
        path = self._path(key)
        draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.part")
        save_file(dict(features), draft)
        draft.replace(path)  # others never see half a file
        files = []
        for file in path.parent.glob("*.safetensors"):
            with contextlib.suppress(FileNotFoundError):
                files.append((file.stat().st_mtime_ns, file.stat().st_size, file))
        total = sum(n for _, n, _ in files)
        for _, n, file in sorted(files):
            if total <= self._disk_bytes:
                break
            file.unlink(missing_ok=True)
            total -= n


def size(features: Features) -> int:
    """Bytes."""
    return sum(tensor.numel() * tensor.element_size() for tensor in features.values())
