"""The server around REST: images, uploads, headers, the page's own files, the login."""

import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from starlette.routing import Mount
from starlette.types import ASGIApp

from configs import settings as configs
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import EncoderMismatch, FolioscopeError
from retrieval.store.store import Store
from tests.build import add_document, webp
from tests.ui.conftest import DOC, GONE, SMALL, TIDES, filled, serving, whole
from ui.service.library import Library
from ui.service.service import Service
from ui.service.uploads import file_name, sweep
from ui.web.auth import open_authentication
from ui.web.components import assets
from ui.web.page import NeededPathsOnly
from ui.web.server import serve, server


def test_browsers_cache_a_page_image_for_ever(client: TestClient) -> None:
    answer = client.get(f"/media/{DOC}/2.webp")
    assert answer.content == webp()
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    again = client.get(f"/media/{DOC}/2.webp", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head(f"/media/{DOC}/2.webp").status_code == 200


def test_a_thumbnail_differs_from_its_page_image(client: TestClient) -> None:
    assert client.get(f"/media/{DOC}/1.thumb.webp").content == b"thumbnail"


@pytest.mark.parametrize(
    "path",
    [f"/media/{DOC}/4.webp", f"/media/{DOC}/0.webp", f"/media/{DOC}/1.png", "/media/" + "0" * 16 + "/1.webp",
     "/media/tides.pdf/1.webp", f"/media/{DOC}/1.webp.webp", "/media/..%2F..%2Fetc/passwd",
     f"/media/{DOC}/%27%20OR%20true", "/media/tides.pdf/original"],
)  # fmt: skip
def test_a_missing_image_gives_a_message_in_words(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    if path.startswith("/media/" + DOC):
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith(("There is no such page", "Page images are named"))


def test_the_original_file_is_served_while_it_exists(client: TestClient) -> None:
    answer = client.get(f"/media/{DOC}/original")
    assert (answer.content, answer.headers["content-type"]) == (b"%PDF-1.4 tides", "application/pdf")
    assert answer.headers["content-disposition"].startswith("inline")
    gone = client.get(f"/media/{GONE}/original")
    assert (gone.status_code, gone.text) == (
        404,
        "The file this document was read from has been moved, changed or deleted.",
    )


@pytest.mark.parametrize("path", ["/api/v1/upload/a.pdf", "/gradio_api/queue/join", "/mcp"])
@pytest.mark.parametrize(
    ("host", "address", "origin"),
    [
        ("0.0.0.0", "http://library.example:7860", "http://evil.example"),
        ("0.0.0.0", "http://library.example:7860", "null"),
        ("127.0.0.1", "http://127.0.0.1:7860", "http://localhost:3000"),
        ("127.0.0.1", "http://localhost:7860", "http://localhost"),
    ],
)
def test_other_sites_change_nothing_and_fail_the_preflight(
    service: Service, host: str, address: str, origin: str, path: str
) -> None:
    client = TestClient(whole(service, host=host), base_url=address)
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
def test_the_page_itself_and_programs_may_change_things(
    service: Service, origin: str | None, host: str
) -> None:
    headers = {"Host": host} | ({"Origin": origin} if origin else {})
    answer = TestClient(whole(service)).post("/api/v1/documents/undo", headers=headers, json={})
    assert answer.status_code == 422  # the route has read the request, which lacks its fields


def test_the_page_loads_nothing_from_other_sites_and_its_policy_forbids_it(service: Service) -> None:
    answer = TestClient(whole(service)).get("/")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert f"folio/{assets.digest()}/folioscope.css" in answer.text


def test_browsers_cache_the_files_of_the_page_under_their_digest(client: TestClient) -> None:
    for name, kind in (("folioscope.css", "text/css"), ("viewer.js", "text/javascript")):
        answer = client.get(f"/{assets.address(name)}")
        assert answer.headers["content-type"].startswith(kind)
        assert "immutable" in answer.headers["cache-control"]
        assert client.get(f"/folio/0ld/{name}").headers["cache-control"] == "no-store"
    for name in ("login.html", "..%2Fapp.py", "nothing.js"):
        assert client.get(f"/folio/{assets.digest()}/{name}").status_code == 404


def test_every_imported_module_exists() -> None:
    for module in assets.STATIC.glob("*.js"):
        for name in re.findall(r"from '\./([^']+)'", module.read_text()):
            assert (assets.STATIC / name).is_file(), f"{module.name} imports {name}"


def test_health_and_readiness(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    ready = client.get("/ready")
    assert (ready.status_code, ready.json()["documents"]) == (200, 2)


def test_on_a_loopback_address_other_host_names_are_rejected(service: Service) -> None:
    app = server(service, host="127.0.0.1")
    assert TestClient(app, base_url="http://127.0.0.1:7860").get("/health").status_code == 200
    assert TestClient(app, base_url="http://attacker.example").get("/health").status_code == 400


def test_an_upload_is_stored_under_a_clean_name_in_the_uploads_folder(
    client: TestClient, library: Library
) -> None:
    assert client.put("/api/v1/upload/..%2F..%2Fa%3Cb%3E.pdf", content=b"1").json() == {"name": "a_b_.pdf"}
    assert client.put("/api/v1/upload/a%3Cb%3E.pdf", content=b"2").json() == {"name": "a_b_ (2).pdf"}
    assert client.put("/api/v1/upload/a%3Cb%3E.pdf", content=b"1").json() == {"name": "a_b_.pdf"}
    kept = {path.name: path.read_bytes() for path in library.jobs.folder.glob("[!.]*")}
    assert kept == {"a_b_.pdf": b"1", "a_b_ (2).pdf": b"2"}
    assert {job.name for job in library.jobs.listed(10)} >= {"a_b_.pdf", "a_b_ (2).pdf"}


def test_an_upload_above_the_limit_is_rejected_and_leaves_nothing(
    client: TestClient, library: Library
) -> None:
    before = set(library.jobs.folder.iterdir())
    answer = client.put(
        "/api/v1/upload/big.pdf", content=iter([b"x" * 2**19] * 3)
    )  # streamed: no content-length
    assert (answer.status_code, "more than 1 MiB" in answer.json()["error"]["message"]) == (413, True)
    assert client.put("/api/v1/upload/big.pdf", content=b"x" * (2**20 + 1)).status_code == 413
    assert set(library.jobs.folder.iterdir()) == before


def test_abandoned_parts_of_uploads_are_deleted_and_active_ones_are_not(tmp_path: Path) -> None:
    left, arriving, kept = tmp_path / ".upload-a", tmp_path / ".upload-b", tmp_path / "c.pdf"
    for path in (left, arriving, kept):
        path.touch()
    for path in (left, kept):
        os.utime(path, (0, 0))
    sweep(tmp_path)
    assert [path.exists() for path in (left, arriving, kept)] == [False, True, True]


def test_a_port_in_use_is_reported_with_a_remedy(uri: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FolioscopeError, match=rf"port {port} .*in use.*--port"):
            serve(uri, SMALL, port=port)


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
        ("中" * 300 + ".pdf", "中" * 78 + ".pdf"),  # at most 240 bytes, because file systems count bytes
    ],
)
def test_names_of_uploads_are_made_safe(given: str, kept: str) -> None:
    assert file_name(given) == kept


def test_a_library_offers_the_questions_whose_sample_documents_it_contains(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    (samples / "pdfs").mkdir(parents=True)
    (samples / "pdfs" / "tides.pdf").write_bytes(b"")
    (samples / "queries.jsonl").write_text(
        '{"query_id": "q1", "text": "When?"}\n{"query_id": "q2", "text": "Why?"}\n'
    )
    (samples / "qrels.txt").write_text(
        "q1 0 tides.pdf#page=1 1\nq2 0 tides.pdf#page=1 1\nq2 0 ebb.pdf#page=3 1\n"
    )
    (samples / "demo.txt").write_text("q2\nq9\n")
    service = serving(str(tmp_path / "new.lance"), samples=samples)
    assert (len(service.library.sample_files()), service.library.questions()) == (1, [])
    document = add_document(service.library.store, HashingEncoder(), "tides.pdf", ["tides"])
    assert [(q, [(p.doc_id, p.number) for p in pages]) for q, pages in service.library.examples()] == [
        ("Why?", [(document.doc_id, 1)])
    ]
    service.close()


def test_with_a_login_only_health_login_and_style_are_open(service: Service, tmp_path: Path) -> None:
    guard = open_authentication(tmp_path, token="a-token-that-is-long-enough")
    client = TestClient(whole(service, guard))
    for path in ("/", "/config", "/gradio_api/info", "/api/v1/library", "/api/v1/openapi.json", "/openapi.json",
                 "/docs", "/metrics", "/ready", "/theme.css", f"/media/{DOC}/1.webp", "/mcp"):  # fmt: skip
        assert client.get(path).status_code == 401, path
    assert client.get("/health").status_code == 200
    assert client.get("/login").status_code == 200
    asked = client.get("/", headers={"Accept": "text/html"}, follow_redirects=False)
    assert (asked.status_code, asked.headers["location"]) == (303, "/login?next=/")
    key = {"Authorization": "Bearer a-token-that-is-long-enough"}
    for path in ("/", "/api/v1/library", "/metrics", f"/media/{DOC}/1.webp"):
        assert client.get(path, headers=key).status_code == 200, path
    assert client.get("/api/v1/library", headers=key).json()["user"] == "token"


def test_request_bodies_are_limited_whether_their_length_is_announced_or_not(client: TestClient) -> None:
    body = b'{"doc_ids": ["' + b"a" * 2**20 + b'"]}'
    for content in (body, iter([body[: 2**19], body[2**19 :]])):
        answer = client.post(
            "/api/v1/documents/undo", content=content, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 413


def test_only_the_paths_of_gradio_that_the_page_needs_are_open(service: Service) -> None:
    app = whole(service)
    client = TestClient(app)
    (needed,) = [route.app for route in app.routes if isinstance(route, Mount)]
    assert isinstance(needed, NeededPathsOnly)
    paths = {re.sub(r"\{[^}]*\}", "x", path) for path in _paths(needed.app)}
    assert {"/gradio_api/queue/join", "/gradio_api/upload", "/gradio_api/file=x", "/monitoring"} <= paths
    open_to_reading = set()
    for path in paths - {"/openapi.json"}:  # our own route
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            answer = client.request(method, path, follow_redirects=False)
            if answer.text != "There is no such address here." and (method, answer.status_code) != (
                "HEAD",
                404,
            ):
                assert method in ("GET", "HEAD"), (method, path)
                open_to_reading.add(path)
    assert open_to_reading == {
        "/", "/config", "/config/", "/theme.css", "/favicon.ico", "/robots.txt", "/assets/x", "/static/x", "/svelte/x",
    }  # fmt: skip


def _paths(app: ASGIApp) -> set[str]:
    assert isinstance(app, FastAPI)
    return {context.path for context in iter_route_contexts(app.routes) if context.path}


def test_other_sites_may_link_to_the_page_but_not_embed_it(service: Service) -> None:
    client = TestClient(whole(service))
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for path in ("/api/v1/export?q=harbour&format=pdf", f"/media/{DOC}/1.webp", "/api/v1/library"):
        assert client.get(path, headers=embedded).status_code == 403
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/?q=harbour", headers=followed).status_code == 200
    answer = client.get("/config", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert client.get("/api/v1/library").headers["cache-control"] == "private, no-store"


def test_a_link_that_replaces_a_file_is_not_followed(tmp_path: Path) -> None:
    service = serving(filled(tmp_path))
    client = TestClient(server(service))
    secret, original = tmp_path / "secret", tmp_path / "tides.pdf"
    secret.write_text("secret")
    assert client.get(f"/media/{DOC}/original").content == TIDES
    original.unlink()
    original.symlink_to(secret)
    assert client.get(f"/media/{DOC}/original").status_code == 404
    service.close()


def test_a_file_named_like_another_document_does_not_replace_it(tmp_path: Path) -> None:
    service = serving(filled(tmp_path))
    add_document(service.library.store, HashingEncoder(), DOC, ["evil"], doc_id="e" * 16)
    assert TestClient(server(service)).get(f"/api/v1/documents/{DOC}").json()["name"] == "tides.pdf"
    service.close()


def test_a_public_address_needs_a_login(uri: str) -> None:
    with pytest.raises(FolioscopeError, match=r"refuses to listen on 0\.0\.0\.0 without a login"):
        serve(uri, SMALL, host="0.0.0.0", port=0)


def test_a_full_library_rejects_uploads(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"serve": configs.Serve(max_library_gb=1e-6)})  # 1,073 bytes
    store = Store.create(str(tmp_path / "index.lance"), HashingEncoder().fingerprint)
    service = serving(store.uri, settings)
    client = TestClient(server(service))
    answer = client.put("/api/v1/upload/a.pdf", content=b"x" * 2000)
    assert (answer.status_code, "All uploads together may have" in answer.json()["error"]["message"]) == (
        507,
        True,
    )
    service.close()


@pytest.mark.parametrize("sign", ["${value}", "{{value}}", r"\d", "`"])
def test_no_template_contains_text_that_javascript_would_evaluate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sign: str
) -> None:
    for name in ("header", "ask", "results", "viewer", "compare", "library"):
        assets.component(name)
    (tmp_path / "bad.html").write_text(f"<p>{sign}</p>")
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    with pytest.raises(ValueError, match="JavaScript would evaluate"):
        assets.component("bad")


def test_the_message_of_a_failed_reembedding_has_neither_commands_nor_paths_of_the_server() -> None:
    def reembed_library() -> Iterator[tuple[int, int]]:
        yield 0, 1
        raise OSError(28, "No space left on device", "/srv/index")

    mismatch = EncoderMismatch("the index is of another encoder", remedy="folioscope index reembed /srv/new")
    service = Service(SMALL, lambda: pytest.fail("the library is not opened"), None, reembed_library)
    service.failure = mismatch
    service.reembed()
    deadline = time.monotonic() + 10
    while service.state == "loading" and time.monotonic() < deadline:
        time.sleep(0.01)
    message = "the index is of another encoder (encoding again failed: No space left on device)"
    assert service.message == message
    assert str(service.failure) == f"{message}: folioscope index reembed /srv/new"
    service.close()
