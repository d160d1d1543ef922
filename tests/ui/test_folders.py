"""Folders of the server: what a browser may see of them, and that nothing outside of the roots can be read."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from retrieval.errors import BadSource, NotFound
from ui.service import folders as folders_module
from ui.service.folders import Folders, Listing


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    touch(
        root / "a.pdf",
        root / "notes.txt",
        root / ".hidden.pdf",
        root / ".hidden" / "x.pdf",
        root / "2023" / "b.PDF",
        root / "2023" / "c.png",
        root / "2023" / "may" / "d.pdf",
        root / "empty" / "readme.md",
        tmp_path / "secret" / "s.pdf",
    )
    return root


def opened(folders: Folders, *names: str) -> Listing:
    """Returns the folder that is reached by opening these names one after another, beginning at the roots."""
    listing = folders.listing()
    for name in names:
        (folder_id,) = (id for id, shown, _ in listing.folders if shown == name)
        listing = folders.listing(folder_id)
    return listing


def shown(listing: Listing) -> list[tuple[str, int]]:
    return [(name, documents) for _, name, documents in listing.folders]


def names(files: Iterator[Path]) -> list[str]:
    return [path.name for path in files]


def test_roots_and_the_folders_below_them_are_listed_with_their_documents(archive: Path) -> None:
    folders = Folders([archive])
    assert shown(folders.listing()) == [("archive", 1)]
    root = opened(folders, "archive")
    assert (root.name, root.parent, root.documents, root.note) == ("archive", "", 1, "")
    assert shown(root) == [("2023", 2), ("empty", 0)]
    may = opened(folders, "archive", "2023", "may")
    assert (may.name, may.documents, may.folders) == ("archive/2023/may", 1, ())
    assert folders.listing(may.parent).name == "archive/2023"
    assert (folders.any, Folders([]).any, Folders([]).listing().folders) == (True, False, ())


def test_files_come_from_one_folder_or_also_from_all_below_it(archive: Path) -> None:
    folders = Folders([archive])
    root = opened(folders, "archive").id
    assert names(folders.files(root)) == ["b.PDF", "c.png", "d.pdf", "a.pdf"]
    assert names(folders.files(root, deep=False)) == ["a.pdf"]
    assert names(folders.files(opened(folders, "archive", "2023").id, deep=False)) == ["b.PDF", "c.png"]
    with pytest.raises(BadSource, match="archive/empty: no document"):
        list(folders.files(opened(folders, "archive", "empty").id))


@pytest.mark.parametrize(
    "hostile", ["..", "/etc", "../secret", "archive", "\0", "a" * 10_000, "٣", "file:///etc/passwd"]
)
def test_an_id_that_was_never_listed_is_rejected(archive: Path, hostile: str) -> None:
    folders = Folders([archive])
    folders.listing()
    for ask in (folders.listing, folders.files):
        with pytest.raises(NotFound, match="open the list of folders again"):
            ask(hostile)


def test_ids_differ_between_servers_and_do_not_reveal_the_path(archive: Path) -> None:
    first, second = Folders([archive]).listing(), Folders([archive])
    second.listing()
    assert "archive" not in first.folders[0][0]
    with pytest.raises(NotFound):
        second.listing(first.folders[0][0])


def test_links_out_of_the_roots_are_ignored_and_links_within_are_followed(
    archive: Path, tmp_path: Path
) -> None:
    (archive / "out").symlink_to(tmp_path / "secret")
    (archive / "up").symlink_to(tmp_path)
    (archive / "out.pdf").symlink_to(tmp_path / "secret" / "s.pdf")
    (archive / "2023" / "loop").symlink_to(archive)
    (archive / "2023" / "itself").symlink_to("itself")
    (archive / "2023" / "broken.pdf").symlink_to("nowhere.pdf")
    (archive / "2023" / "alias.pdf").symlink_to(archive / "a.pdf")
    folders = Folders([archive])
    root = opened(folders, "archive")
    assert (shown(root), root.documents) == ([("2023", 3), ("empty", 0)], 1)
    assert set(names(folders.files(root.id))) == {
        "alias.pdf",
        "b.PDF",
        "c.png",
        "d.pdf",
    }  # a.pdf by its first name
    looped = opened(folders, "archive", "2023", "loop")
    assert (looped.id, looped.name) == (root.id, "archive")


def test_a_listed_folder_that_becomes_a_link_out_of_the_roots_is_rejected(
    archive: Path, tmp_path: Path
) -> None:
    folders = Folders([archive])
    may = opened(folders, "archive", "2023", "may").id
    (archive / "2023" / "may" / "d.pdf").unlink()
    (archive / "2023" / "may").rmdir()
    with pytest.raises(NotFound):
        folders.listing(may)
    (archive / "2023" / "may").symlink_to(tmp_path / "secret")
    for ask in (folders.listing, folders.files):
        with pytest.raises(NotFound):
            ask(may)


def test_a_root_that_is_a_link_is_resolved_once(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(archive)
    folders = Folders([tmp_path / "link", archive])
    assert shown(folders.listing()) == [("archive", 1)]


def test_roots_with_the_same_name_are_distinct_and_a_root_may_be_inside_another(tmp_path: Path) -> None:
    touch(tmp_path / "x" / "data" / "sub" / "a.pdf", tmp_path / "y" / "data" / "b.pdf")
    folders = Folders([tmp_path / "x" / "data", tmp_path / "y" / "data", tmp_path / "x" / "data" / "sub"])
    assert [name for name, _ in shown(folders.listing())] == [
        str(tmp_path / "x" / "data"),
        str(tmp_path / "y" / "data"),
        "sub",
    ]
    assert (opened(folders, "sub").name, opened(folders, "sub").parent) == ("sub", "")


def test_roots_that_are_not_folders_are_rejected(archive: Path) -> None:
    with pytest.raises(BadSource, match="nowhere: no such folder"):
        Folders([archive / "nowhere"])
    with pytest.raises(BadSource, match="is a file"):
        Folders([archive / "a.pdf"])


def test_a_long_listing_is_cut_and_says_so(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders_module, "SHOWN", 2)
    for name in ("Z", "y", "x"):
        touch(archive / "many" / name / "a.pdf")
    folders = Folders([archive / "many"])
    many = opened(folders, "many")
    assert shown(many) == [("x", 1), ("y", 1)]
    assert many.note.startswith("The first 2 of 3 folders are shown")
    assert len(names(folders.files(many.id))) == 3


def test_names_with_invalid_unicode_or_markup_are_shown_as_text(archive: Path) -> None:
    odd = os.fsdecode(b"\xe9t\xe9")
    touch(archive / odd / "a.pdf", archive / "<b>&amp;" / "a.pdf")
    root = opened(Folders([archive]), "archive")
    assert {"\ufffdt\ufffd", "<b>&amp;"} < {name for _, name, _ in root.folders}
