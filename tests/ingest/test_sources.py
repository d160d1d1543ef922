"""Finding files, their uris and ids, and titles."""

import os
from pathlib import Path

import pytest

from ingest.read.titles import printable, title_of
from ingest.sources import content_id, discover, path_of, state_of
from retrieval.errors import BadSource
from tests.permissions import shut


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def _names(folder: Path, *paths: str | Path) -> list[str]:
    return [source.path.relative_to(folder).as_posix() for source in discover(paths)]


def test_a_folder_yields_its_documents_sorted_without_hidden_and_other_files(tmp_path: Path) -> None:
    _touch(tmp_path, "b.pdf", "a/z.PNG", "a/.secret.pdf", ".git/x.pdf", "notes.txt", "c.tiff")
    assert _names(tmp_path, tmp_path) == ["a/z.PNG", "b.pdf", "c.tiff"]


def test_a_file_that_is_named_is_ingested_whatever_its_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "notes.txt")
    assert _names(tmp_path, tmp_path / "notes.txt") == ["notes.txt"]


def test_a_pattern_matches_at_any_depth(tmp_path: Path) -> None:
    _touch(tmp_path, "x/1.pdf", "x/y/2.pdf", "x/y/3.txt")
    assert _names(tmp_path, f"{tmp_path}/**/*.pdf") == ["x/1.pdf", "x/y/2.pdf"]


def test_a_file_given_twice_is_yielded_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.pdf")
    assert _names(tmp_path, tmp_path / "a.pdf", tmp_path) == ["a.pdf"]


def test_a_link_to_a_parent_folder_does_not_loop(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.pdf")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert _names(tmp_path, tmp_path) == ["a/1.pdf"]


def test_a_link_to_itself_is_yielded_and_fails_when_it_is_opened(tmp_path: Path) -> None:
    _touch(tmp_path, "b.pdf")
    (tmp_path / "a.pdf").symlink_to(tmp_path / "a.pdf")
    assert _names(tmp_path, tmp_path) == ["a.pdf", "b.pdf"]


def test_a_folder_that_vanishes_meanwhile_is_reported_and_the_others_are_searched(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.pdf", "b/2.pdf", "c/3.pdf")
    unreadable: list[tuple[Path, str]] = []
    sources = discover([tmp_path], lambda folder, reason: unreadable.append((folder, reason)))
    assert next(sources).path == tmp_path / "a" / "1.pdf"
    (tmp_path / "b" / "2.pdf").unlink()
    (tmp_path / "b").rmdir()
    assert [source.path for source in sources] == [tmp_path / "c" / "3.pdf"]
    assert unreadable == [(tmp_path / "b", "No such file or directory")]


def test_a_named_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "shut/1.pdf")
    with shut(tmp_path / "shut"):
        with pytest.raises(BadSource, match="shut cannot be read"):
            list(discover([tmp_path / "shut"]))
        with pytest.raises(BadSource, match=r"1\.pdf cannot be read"):
            list(discover([tmp_path / "shut" / "1.pdf"]))


def test_the_state_of_a_path_is_returned_without_an_error(tmp_path: Path) -> None:
    _touch(tmp_path, "shut/1.pdf", "open/2.pdf")
    (tmp_path / "open" / "loop.pdf").symlink_to(tmp_path / "open" / "loop.pdf")
    os.mkfifo(tmp_path / "open" / "pipe.pdf")
    expected = {
        "open/2.pdf": "file",
        "open": "folder",
        "open/pipe.pdf": "other",
        "open/3.pdf": "gone",
        "open/2.pdf/4.pdf": "gone",
        "open/loop.pdf": "unreachable",
        "shut/1.pdf": "unreachable",
    }
    with shut(tmp_path / "shut"):
        assert {name: state_of(tmp_path / name) for name in expected} == expected


def test_a_pattern_copes_with_a_link_into_a_folder_without_permission(tmp_path: Path) -> None:
    _touch(tmp_path, "shut/1.pdf", "open/2.pdf")
    (tmp_path / "open" / "link.pdf").symlink_to(tmp_path / "shut" / "1.pdf")
    with shut(tmp_path / "shut"):
        names = [source.path.name for source in discover([tmp_path / "open" / "*.pdf"])]
    assert names == ["2.pdf", "link.pdf"]  # opening the link raises the error


@pytest.mark.parametrize("name", [b"r\xe9sum\xe9.pdf", "Straße 50% #1?.pdf".encode(), b"plain.pdf"])
def test_a_uri_is_ascii_and_leads_back_to_the_file(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    try:
        path.write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("this file system does not allow the name")
    [source] = discover([tmp_path])
    assert source.uri.startswith("file:///")
    assert source.uri.isascii()
    assert path_of(source.uri) == path


def test_a_file_has_one_uri_however_it_is_named(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.pdf", "b/2.pdf")
    [straight], [around] = discover([tmp_path / "a/1.pdf"]), discover([tmp_path / "b/../a/./1.pdf"])
    assert around.uri == straight.uri
    assert path_of(straight.uri) == tmp_path / "a" / "1.pdf"


def test_a_uri_keeps_dot_dot_after_a_link_to_another_folder(tmp_path: Path) -> None:
    _touch(tmp_path, "far/away/x", "far/1.pdf")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    [source] = discover([tmp_path / "link/../1.pdf"])
    assert path_of(source.uri).samefile(tmp_path / "far" / "1.pdf")


@pytest.mark.parametrize("given", ["missing.pdf", "*.pdf", "empty"])
def test_a_path_that_matches_nothing_is_an_error_that_names_it(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSource, match=given.replace("*", r"\*")):
        list(discover([tmp_path / given]))


def test_the_content_id_is_the_beginning_of_the_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert content_id(tmp_path / "abc") == "ba7816bf8f01cfea"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("r\udce9sum\udce9", "r\ufffdsum\ufffd"),
        ("\ud83d\ude00 \ud83dA", "\N{GRINNING FACE} \ufffdA"),
        ("a\0b", "ab"),
        ("\ufeffStraße\n", "\ufeffStraße\n"),
    ],
)
def test_cleaned_text_has_no_lone_surrogates_and_no_null_characters(text: str, cleaned: str) -> None:
    assert printable(text) == cleaned


@pytest.mark.parametrize(
    ("metadata", "name", "title"),
    [
        ("Annual Report 2023", "x.pdf", "Annual Report 2023"),
        ("Microsoft Word - final2.doc", "harbour_report-2023.pdf", "harbour report 2023"),
        ("untitled", "HarbourReport.pdf", "Harbour Report"),
        ("C:\\Users\\me\\report.indd", "0e94b4197b10096b1f4c699701570fbf.pdf", ""),
        ("", "2310.05634v2.pdf", ""),
        ("", "Straßenbau.pdf", "Straßenbau"),
        ("Annual\0 Report \udce9", "x.pdf", "Annual Report"),
        ("", "harbour report n\udcb0 4.pdf", "harbour report n\ufffd 4"),
    ],
)
def test_a_title_is_kept_if_a_person_wrote_it(metadata: str, name: str, title: str) -> None:
    assert title_of(metadata, Path(name)) == title
