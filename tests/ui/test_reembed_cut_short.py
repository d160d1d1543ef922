"""After a power cut while a re-embedded index replaces the old one, a complete index opens."""

from pathlib import Path

import pytest

import configs.settings as configs
from retrieval.errors import IndexBusy, IndexMissing
from retrieval.store import swap
from retrieval.store.locks import locked
from retrieval.store.store import Store
from tests.ui.conftest import SMALL, filled
from ui.service.library import reembed_library

OTHER = SMALL.model_copy(update={"encoder": configs.Hashing(dim=32)})


class PowerCut(BaseException):
    """Stands for the end of the process."""


def reembed(uri: str) -> None:
    for _ in reembed_library(uri, OTHER):
        pass


def cut_at_rename(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Cuts the power before the rename with this number, from 1."""
    rename, renames = Path.rename, 0

    def counted(path: Path, target: Path) -> Path:
        nonlocal renames
        if path.name.startswith("index.lance"):  # LanceDB's own files are not renamed by Python
            renames += 1
            if renames == number:
                raise PowerCut
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", counted)


def ends_well(uri: str) -> None:
    """Checks that the old index is in place with all its documents, and that re-embedding it again replaces it."""
    old = Store.open(uri)
    assert (old.fingerprint.dim, len(old.documents())) == (64, 2)
    reembed(uri)
    assert (Store.open(uri).fingerprint.dim, len(Store.open(uri).documents())) == (32, 2)
    assert Store.open(f"{uri}.before").fingerprint.dim == 64
    assert not Path(f"{uri}.reembedding").exists()


def test_without_a_power_cut_the_new_index_replaces_the_old_one_which_is_saved(tmp_path: Path) -> None:
    ends_well(filled(tmp_path))


@pytest.mark.parametrize("system", ["exchanges names", "cannot exchange names"])
def test_after_a_power_cut_before_any_step_the_old_index_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    uri = filled(tmp_path)
    if system == "cannot exchange names":
        monkeypatch.setattr(swap, "exchange", lambda *_: False)
    for number in range(1, 5 if system == "cannot exchange names" else 2):
        with monkeypatch.context() as patched:
            cut_at_rename(patched, number)
            with pytest.raises(PowerCut):
                reembed(uri)
        assert len(Store.open(uri).documents()) == 2
    ends_well(uri)


def test_after_a_power_cut_before_the_exchange_the_old_index_is_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = filled(tmp_path)

    def no_power(*_: Path) -> bool:
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(swap, "exchange", no_power)
        with pytest.raises(PowerCut):
            reembed(uri)
    ends_well(uri)


def test_after_a_power_cut_between_two_renames_opening_the_index_restores_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = filled(tmp_path)
    monkeypatch.setattr(swap, "exchange", lambda *_: False)
    with monkeypatch.context() as patched:
        cut_at_rename(patched, 4)
        with pytest.raises(PowerCut):
            reembed(uri)
    assert not Path(uri).exists()
    with locked(Path(f"{uri}.before") / ".writer", IndexBusy()), pytest.raises(IndexBusy, match="try again"):
        Store.open(uri)  # another process is still re-embedding
    created = Store.create(uri, Store.open(f"{uri}.before").fingerprint)
    assert len(created.documents()) == 2
    ends_well(uri)


def test_an_index_that_was_moved_away_is_not_restored(tmp_path: Path) -> None:
    uri = filled(tmp_path)
    reembed(uri)
    Path(uri).rename(tmp_path / "elsewhere.lance")
    with pytest.raises(IndexMissing):
        Store.open(uri)


def test_two_folders_exchange_their_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not swap.exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange names")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    with pytest.raises(FileNotFoundError):
        swap.exchange(tmp_path / "a", tmp_path / "nothing")
