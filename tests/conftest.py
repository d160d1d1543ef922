"""Fixtures that several folders of tests use."""

from pathlib import Path

import pytest

from retrieval.encoders.hashing import HashingEncoder
from retrieval.store import Store


@pytest.fixture
def encoder() -> HashingEncoder:
    return HashingEncoder(dim=64)


@pytest.fixture
def store(tmp_path: Path, encoder: HashingEncoder) -> Store:
    return Store.create(str(tmp_path / "index.lance"), encoder.fingerprint)
