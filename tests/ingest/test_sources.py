from pathlib import Path

import pytest

from ingest.sources import content_id, discover
from ingest.titles import title_of
from retrieval.errors import BadSource


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def _names(folder: Path, *paths: str | Path) -> list[str]:
    return [source.path.relative_to(folder).as_posix() for source in discover(paths)]


def test_a_folder_gives_its_documents_sorted_and_leaves_hidden_and_other_files_out(tmp_path: Path) -> None:
    _touch(tmp_path, "b.pdf", "a/z.PNG", "a/.secret.pdf", ".git/x.pdf", "notes.txt", "c.tiff")
    assert _names(tmp_path, tmp_path) == ["a/z.PNG", "b.pdf", "c.tiff"]


def test_a_file_that_is_named_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    _touch(tmp_path, "notes.txt")
    assert _names(tmp_path, tmp_path / "notes.txt") == ["notes.txt"]


def test_a_pattern_matches_at_any_depth(tmp_path: Path) -> None:
    _touch(tmp_path, "x/1.pdf", "x/y/2.pdf", "x/y/3.txt")
    assert _names(tmp_path, f"{tmp_path}/**/*.pdf") == ["x/1.pdf", "x/y/2.pdf"]


def test_a_file_given_twice_comes_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.pdf")
    assert _names(tmp_path, tmp_path / "a.pdf", tmp_path) == ["a.pdf"]


def test_a_link_back_up_does_not_loop(tmp_path: Path) -> None:
    _touch(tmp_path, "a/1.pdf")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert _names(tmp_path, tmp_path) == ["a/1.pdf"]


@pytest.mark.parametrize("given", ["missing.pdf", "*.pdf", "empty"])
def test_a_path_that_matches_nothing_is_refused_by_name(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSource, match=given.replace("*", r"\*")):
        list(discover([tmp_path / given]))


def test_the_content_id_is_the_head_of_the_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert content_id(tmp_path / "abc") == "ba7816bf8f01cfea"


@pytest.mark.parametrize(
    ("metadata", "name", "title"),
    [
        ("Annual Report 2023", "x.pdf", "Annual Report 2023"),
        ("Microsoft Word - final2.doc", "harbour_report-2023.pdf", "harbour report 2023"),
        ("untitled", "HarbourReport.pdf", "Harbour Report"),
        ("C:\\Users\\me\\report.indd", "0e94b4197b10096b1f4c699701570fbf.pdf", ""),
        ("", "2310.05634v2.pdf", ""),
        ("", "Straßenbau.pdf", "Straßenbau"),
    ],
)
def test_a_title_is_what_a_person_wrote(metadata: str, name: str, title: str) -> None:
    assert title_of(metadata, Path(name)) == title
