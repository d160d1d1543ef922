"""Write all documents, or the named ones: `python -m samples.make [MODULE ...]`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

DOCUMENTS = (
    "brackwater", "tessaly", "ashmoor", "quillon", "orrin", "fx2207", "paper", "contract", "auenrode",
    "verrerie",
    "tarnbrook", "sandrey",
)  # fmt: skip

if __name__ == "__main__":
    folder = Path(__file__).parent.parent / "pdfs"
    folder.mkdir(exist_ok=True)
    for name in sys.argv[1:] or DOCUMENTS:
        path = import_module(f"samples.make.documents.{name}").write(folder)
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")
