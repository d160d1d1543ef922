"""The web page's routes, and what its components are given to draw."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from configs import settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import FolioscopeError
from retrieval.store import Store
from tests.build import add_document, webp
from ui.app import create_app, serve, server
from ui.components import assets
from ui.components.documents import documents_value
from ui.components.results import home, search
from ui.components.viewer import page_view, view
from ui.library import Library, open_library
from ui.uploads import file_name, sweep

DOC = "0123456789abcdef"
GONE = "f" * 16
HOSTILE = "a ${alert(1)} <img src=x onerror=alert(2)> {{b}}.pdf"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An index with one document of three pages, whose file is there, and one whose file is not."""
    folder = tmp_path_factory.mktemp("web")
    uri, encoder = str(folder / "index.lance"), HashingEncoder()
    store = Store.create(uri, encoder.fingerprint)
    original = folder / "tides.pdf"
    original.write_bytes(b"%PDF-1.4 tides")
    texts = ["tides of the north harbour", "harbour fees", "lamps and oil"]
    add_document(store, encoder, "tides.pdf", texts, doc_id=DOC, uri=original.as_uri(), title="Tides")
    hostile = ["${alert(3)} <script>harbour</script> seals"]
    add_document(store, encoder, HOSTILE, hostile, doc_id=GONE, source="ocr", scanned_pages=1)
    return uri


@pytest.fixture(scope="module")
def library(uri: str) -> Library:
    return open_library(uri, configs.load("smoke"), samples=Path(uri) / "none")


@pytest.fixture(scope="module")
def client(library: Library) -> TestClient:
    return TestClient(server(library, max_file_mb=1))


def test_a_page_image_is_kept_by_browsers_for_ever(client: TestClient) -> None:
    answer = client.get(f"/media/{DOC}/2.webp")
    assert answer.content == webp()
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/media/{DOC}/2.webp", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head(f"/media/{DOC}/2.webp").status_code == 200


def test_a_thumbnail_is_another_image_than_its_page(client: TestClient) -> None:
    assert client.get(f"/media/{DOC}/1.thumb.webp").content == b"thumbnail"


@pytest.mark.parametrize(
    "path",
    [f"/media/{DOC}/4.webp", f"/media/{DOC}/0.webp", f"/media/{DOC}/1.png", "/media/" + "0" * 16 + "/1.webp",
     "/media/tides.pdf/1.webp", f"/media/{DOC}/1.webp.webp", "/media/..%2F..%2Fetc/passwd",
     f"/media/{DOC}/%27%20OR%20true", "/media/tides.pdf/original"],
)  # fmt: skip
def test_what_is_not_in_the_store_is_not_found_in_words(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    if path.startswith("/media/" + DOC):
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith(("There is no such page", "Page images are named"))


def test_the_original_file_is_served_while_it_is_there(client: TestClient) -> None:
    answer = client.get(f"/media/{DOC}/original")
    assert (answer.content, answer.headers["content-type"]) == (b"%PDF-1.4 tides", "application/pdf")
    assert answer.headers["content-disposition"].startswith("inline")
    gone = client.get(f"/media/{GONE}/original")
    assert (gone.status_code, gone.text) == (
        404,
        "The file this document was read from has been moved or deleted.",
    )


def whole(uri: str, host: str = "") -> FastAPI:
    """Gradio's mount included."""

    async def make() -> FastAPI:
        return create_app(uri, configs.load("smoke"), host=host)  # in a running loop Gradio leaves none open

    return asyncio.run(make())


@pytest.mark.parametrize("path", ["/upload/a.pdf", "/gradio_api/queue/join"])
@pytest.mark.parametrize(
    ("host", "address", "origin"),
    [
        ("0.0.0.0", "http://library.example:7860", "http://evil.example"),
        ("0.0.0.0", "http://library.example:7860", "null"),
        ("127.0.0.1", "http://127.0.0.1:7860", "http://localhost:3000"),
        ("127.0.0.1", "http://localhost:7860", "http://localhost"),
    ],
)
def test_other_sites_change_nothing_and_get_no_leave_to(
    uri: str, host: str, address: str, origin: str, path: str
) -> None:
    client = TestClient(whole(uri, host), base_url=address)
    asked = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    for method in ("OPTIONS", "PUT", "POST", "DELETE"):
        answer = client.request(method, path, headers=asked, content=b"x" if method == "PUT" else None)
        assert (answer.status_code, f"comes from {origin}" in answer.text) == (403, True)
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://library.example:7860", "library.example:7860"),
        ("https://library.example", "Library.example"),
        ("https://library.example", "library.example:443"),
        (None, "library.example"),
    ],
)
def test_the_page_itself_and_programs_are_let_through(uri: str, origin: str | None, host: str) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = TestClient(whole(uri)).post("/gradio_api/queue/join", headers=headers, json={})
    assert answer.status_code == 422  # Gradio's own: it has read the request and misses its fields


def test_the_page_loads_nothing_from_elsewhere_and_says_so(uri: str) -> None:
    answer = TestClient(whole(uri)).get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert "folio/folioscope.css?v=" in answer.text


def test_the_style_is_kept_by_browsers_under_its_digest(client: TestClient) -> None:
    answer = client.get("/folio/folioscope.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["documents"]) == (200, 2)


def test_on_a_loopback_address_other_host_names_are_refused(library: Library) -> None:
    app = server(library, max_file_mb=1, host="127.0.0.1")
    assert TestClient(app, base_url="http://127.0.0.1:7860").get("/healthz").status_code == 200
    assert TestClient(app, base_url="http://attacker.example").get("/healthz").status_code == 400


def test_an_upload_is_kept_under_a_clean_name_in_the_uploads_folder(
    client: TestClient, library: Library
) -> None:
    assert client.put("/upload/..%2F..%2Fa%3Cb%3E.pdf", content=b"1").json() == {"name": "a_b_.pdf"}
    assert client.put("/upload/a%3Cb%3E.pdf", content=b"2").json() == {"name": "a_b_ (2).pdf"}
    assert client.put("/upload/a%3Cb%3E.pdf", content=b"1").json() == {"name": "a_b_.pdf"}
    kept = {path.name: path.read_bytes() for path in library.jobs.folder.glob("[!.]*")}
    assert kept == {"a_b_.pdf": b"1", "a_b_ (2).pdf": b"2"}
    assert [(job.name, job.state) for job in library.jobs.list()] == [
        ("a_b_.pdf", "queued"),
        ("a_b_ (2).pdf", "queued"),
    ]


def test_an_upload_past_the_limit_is_refused_and_leaves_nothing(client: TestClient, library: Library) -> None:
    before = set(library.jobs.folder.iterdir())
    answer = client.put("/upload/big.pdf", content=iter([b"x" * 2**19] * 3))  # streamed: no content-length
    assert (answer.status_code, "more than 1 MiB" in answer.json()["message"]) == (413, True)
    assert client.put("/upload/big.pdf", content=b"x" * (2**20 + 1)).status_code == 413
    assert set(library.jobs.folder.iterdir()) == before


def test_parts_of_uploads_that_never_ended_are_deleted_and_those_under_way_are_not(tmp_path: Path) -> None:
    left, arriving, kept = tmp_path / ".upload-a", tmp_path / ".upload-b", tmp_path / "c.pdf"
    for path in (left, arriving, kept):
        path.touch()
    for path in (left, kept):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert [path.exists() for path in (left, arriving, kept)] == [False, True, True]


def test_a_port_in_use_is_told_with_the_remedy(uri: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FolioscopeError, match=rf"port {port} .*in use.*--port"):
            serve(uri, configs.load("smoke"), port=port)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\a.pdf", "a.pdf"),
        ("", "document"),
        ("...", "document"),
        ("a\x00b\u202egnp.pdf", "a_b_gnp.pdf"),
        ("  .hidden.pdf ", "hidden.pdf"),
        ("Jahresbericht für Öl.pdf", "Jahresbericht für Öl.pdf"),
        ("x" * 300 + ".pdf", "x" * 120 + ".pdf"),
        ("中" * 300 + ".pdf", "中" * 78 + ".pdf"),  # 240 bytes at most: file systems count those
    ],
)
def test_names_of_uploads_are_made_safe(given: str, kept: str) -> None:
    assert file_name(given) == kept


def test_a_search_shows_the_first_stage_and_then_the_reranked_order(library: Library) -> None:
    first, last = search(library, "harbour seals", [], rerank=True)
    assert (first["provisional"], last["provisional"]) == (True, False)
    assert first["cards"][0]["moved"] is None
    card = last["cards"][0]
    assert (card["name"], card["page"], card["pages"], card["rank"], card["scanned"]) == (
        HOSTILE,
        1,
        1,
        1,
        True,
    )
    assert card["moved"] == card["first_rank"] - 1
    assert card["bar"] == 1.0
    assert ("seals", True) in card["snippet"]
    assert last["decision"].startswith("Reranked the first 4 of 4 candidates by overlap")
    assert last["status"].startswith("The best 4 pages of 4 ·")


def test_without_reranking_there_is_one_order_and_no_movement(library: Library) -> None:
    (only,) = search(library, "harbour", [], rerank=False)
    assert {card["moved"] for card in only["cards"]} == {None}
    assert only["decision"] == "Not reranked: switched off for this search"


def test_a_search_keeps_to_the_chosen_documents(library: Library) -> None:
    *_, last = search(library, "harbour", [DOC], rerank=True)
    assert {card["doc"] for card in last["cards"]} == {DOC}


def test_an_empty_question_shows_the_start_and_a_long_one_says_why_not(library: Library) -> None:
    assert list(search(library, "  ", [], rerank=True)) == [{"query": "", "show": None}]
    (refused,) = search(library, "x" * 3000, [], rerank=True)
    assert "3,000 characters, 2,000 are allowed" in refused["problem"]


def test_a_page_is_lit_where_the_word_stands_and_dark_where_it_does_not(library: Library) -> None:
    shown = view(library, "harbour whales", DOC, 1)
    harbour, whales = shown["terms"]
    assert (harbour["term"], harbour["exact"], harbour["count"]) == ("harbour", True, 1)
    assert harbour["regions"][0][:4] == pytest.approx([0.46, 0.1, 0.54, 0.12], abs=1e-4)  # word 5 of line 1
    assert (whales["term"], whales["regions"]) == ("whales", [])
    assert view(library, "whales", DOC, 1)["note"] == "No place on this page stands out for this question."


def test_a_page_of_a_removed_document_is_a_message_not_an_error(library: Library) -> None:
    asked = page_view(library)
    assert "no document" in asked({"query": "q", "doc": "nothing", "page": "x"})["problem"]
    assert asked({"doc": DOC, "page": 99})["page"] == 3  # the last one, for a link that goes too far


def test_the_documents_list_says_what_is_there(library: Library) -> None:
    value = documents_value(library)
    assert (value["total"], value["pages"], value["samples"]) == (2, 4, 0)
    assert {row["name"] for row in value["documents"]} == {"tides.pdf", HOSTILE}


def test_an_empty_library_offers_the_samples_and_a_filled_one_their_questions(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    (samples / "pdfs").mkdir(parents=True)
    (samples / "pdfs" / "tides.pdf").write_bytes(b"")
    (samples / "queries.jsonl").write_text(
        '{"query_id": "q1", "text": "When?"}\n{"query_id": "q2", "text": "Why?"}\n'
    )
    (samples / "demo.txt").write_text("q2\nq9\n")
    library = open_library(str(tmp_path / "new.lance"), configs.load("smoke"), samples=samples)
    assert (home(library)["documents"], home(library)["samples"], home(library)["questions"]) == (0, 1, [])
    add_document(library.store, HashingEncoder(), "tides.pdf", ["tides"])
    assert home(library)["questions"] == ["Why?"]


def test_no_template_holds_a_placeholder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for template in assets.STATIC.glob("*.html"):
        assert "${" not in template.read_text()
        assert "{{" not in template.read_text()
    (tmp_path / "bad.html").write_text("<p>${value}</p>")
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    with pytest.raises(ValueError, match="placeholder"):
        assets.component("bad")
