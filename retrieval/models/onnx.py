"""Loads and runs the small ONNX models that ship, on all cores that the process may use.

A model folder holds ONNX files, the word table that they share as external data, `tokenizer.json`, and
`manifest.json` with the sha256 of each file. A file that does not match its checksum is not loaded.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from configs.cores import available_cores
from retrieval.errors import ModelBroken

MODELS = Path(__file__).resolve().parents[2] / "models"


class ModelFolder:
    """The files of one model, each checked against the manifest before it is used.

    name: a folder of `models/`, or the path of a folder with the same files. Raises ModelBroken without a manifest.
    """

    def __init__(self, name: str) -> None:
        self.path = MODELS / name if (MODELS / name).is_dir() else Path(name)
        try:
            manifest = json.loads((self.path / "manifest.json").read_text(encoding="utf-8"))
            self.name: str = manifest["name"]
            self.facts: dict[str, Any] = manifest["facts"]
            self._sums: dict[str, str] = manifest["sha256"]
        except (OSError, ValueError, KeyError) as error:
            raise ModelBroken(
                f"{self.path} holds no model: its manifest.json is missing or cannot be read ({error!r})",
                remedy="check out the repository again, or name another model in the profile",
            ) from error

    @property
    def names(self) -> list[str]:
        """The names of the files in the manifest."""
        return sorted(self._sums)

    def file(self, name: str) -> Path:
        """Returns the path of one file. Raises ModelBroken if its checksum differs from the manifest's."""
        path = self.path / name
        expected = self._sums.get(name)
        if expected is None:
            raise ModelBroken(
                f"{self.path / 'manifest.json'} does not list {name}: this model is of another kind",
                remedy="name another model in the profile",
            )
        actual = _sha256(path, path.stat().st_mtime_ns) if path.is_file() else "no file"
        if actual != expected:
            raise ModelBroken(
                f"{path} is not the file that its manifest lists: sha256 {actual}, expected {expected}",
                remedy="check out the repository again",
            )
        return path

    def revision(self, *names: str) -> str:
        """Returns a name for the exact weights in these files: 12 hex digits of a hash over their checksums."""
        sums = {name: self._sums.get(name) for name in sorted(names)}
        return hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:12]

    def tokenizer(self) -> Tokenizer:
        """Returns the tokenizer, without truncation or padding. Raises ModelBroken as `file` does."""
        tokenizer = Tokenizer.from_file(str(self.file("tokenizer.json")))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def session(self, name: str) -> onnxruntime.InferenceSession:
        """Returns a session over the ONNX file `name`; it computes in the thread of its caller."""
        self.file("table.bin")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = (
            1  # rows run in parallel: threads within a row would only wait for each other
        )
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(str(self.file(name)), options, providers=["CPUExecutionProvider"])


def write_manifest(folder: Path, name: str, facts: dict[str, object]) -> None:
    """Write the checksums of the model files in `folder` to its manifest.json."""
    files = sorted(p for p in folder.iterdir() if p.suffix in {".onnx", ".bin"} or p.name == "tokenizer.json")
    sums = {file.name: _sha256(file, file.stat().st_mtime_ns) for file in files}
    text = json.dumps({"name": name, "facts": facts, "sha256": sums}, indent=2)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


@lru_cache(maxsize=64)
def _sha256(path: Path, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RowRunner:
    """Runs rows of word pieces through a session, one row per pass, in several threads.

    Rows are never batched: int8 kernels scale activations by the largest value in the whole input, so a row's result
    would depend on the other rows of its batch. Rows of 100 pieces and more keep a core busy by themselves.

    threads: None for as many as there are cores that this process may use.
    """

    def __init__(self, session: onnxruntime.InferenceSession, threads: int | None) -> None:
        self._session = session
        self._pool = ThreadPoolExecutor(threads or available_cores(), thread_name_prefix="onnx")

    def run_rows(
        self, rows: Sequence[Sequence[int]], lengths: Sequence[int] | None = None
    ) -> list[NDArray[np.float32]]:
        """Returns the model's first output for each row, in the order given.

        lengths: for models that read pairs, the number of pieces in each row's first segment.
        """
        return [outputs[0] for outputs in self.run_outputs(rows, lengths)]

    def run_outputs(
        self, rows: Sequence[Sequence[int]], lengths: Sequence[int] | None = None
    ) -> list[tuple[NDArray[np.float32], ...]]:
        """Returns all outputs of the model for each row. rows, lengths: as for `run_rows`."""

        def run_row(i: int) -> tuple[NDArray[np.float32], ...]:
            ids = np.array([rows[i]], np.int64)
            feed = {"ids": ids, "mask": np.ones_like(ids)}
            if lengths is not None:
                feed["segments"] = (np.arange(len(rows[i])) >= lengths[i]).astype(np.int64)[None]
            return tuple(output[0] for output in self._session.run(None, feed))

        return list(self._pool.map(run_row, range(len(rows))))
