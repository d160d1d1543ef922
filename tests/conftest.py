"""Fixtures that several folders of tests use."""

import os
import signal
from pathlib import Path

import pytest

from retrieval.encoders.hashing import HashingEncoder
from retrieval.store.store import Store

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # tests run on the processor, also where there is a GPU

# A shell's background jobs ignore Ctrl-C, and so would all that they start: tests that send it would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def encoder() -> HashingEncoder:
    return HashingEncoder(dim=64)


@pytest.fixture
def store(tmp_path: Path, encoder: HashingEncoder) -> Store:
    return Store.create(str(tmp_path / "index.lance"), encoder.fingerprint)
