"""Answers to errors: one shape for all of them, and an id that leads from the answer to the log."""

import logging
import re
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from retrieval.errors import NotFound
from tests.ui.conftest import DOC, filled, serving, whole
from ui.service.service import Service
from ui.web.auth import open_authentication

API = "/api/v1"


def test_an_unexpected_error_is_answered_in_words_and_logged_with_its_id(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service = serving(filled(tmp_path))
    client = TestClient(whole(service), raise_server_exceptions=False)
    shutil.rmtree(tmp_path / "index.lance" / "pages.lance")
    for path in (f"documents/{DOC}/pages/1?q=harbour", "search?q=harbour", "index"):
        caplog.clear()
        answer = client.get(f"{API}/{path}")
        error = answer.json()["error"]
        assert (answer.status_code, error["kind"]) == (500, "InternalError")
        assert answer.headers["x-request-id"] == error["request_id"]
        assert error["request_id"] in error["message"]
        assert "pages.lance" not in answer.text
        (record,) = [r for r in caplog.records if r.name == "folioscope" and r.levelno == logging.ERROR]
        assert error["request_id"] in record.getMessage()
        assert record.exc_info
        assert "pages.lance" in str(record.exc_info[1])
    service.close()


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/api", 404, "NoSuchAddress"),
        ("GET", "/api/v2/search", 404, "NoSuchAddress"),
        ("GET", f"{API}/nothing", 404, "NoSuchAddress"),
        ("PUT", f"{API}/nothing", 404, "NoSuchAddress"),
        ("GET", f"{API}/documents/{'0' * 16}", 404, "NotFound"),
        ("DELETE", f"{API}/search", 405, "WrongMethod"),
        ("POST", f"{API}/library", 405, "WrongMethod"),
        ("GET", f"{API}/search?q=", 422, "BadQuery"),
        ("GET", f"{API}/search?q=a&top=0", 422, "BadRequest"),
        ("GET", f"{API}/search", 422, "BadRequest"),
    ],
)
def test_every_refusal_of_the_api_has_the_same_shape(
    service: Service, method: str, path: str, status: int, kind: str
) -> None:
    answer = TestClient(whole(service)).request(method, path)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (status, kind)
    assert set(answer.json()) == {"error"}
    assert set(answer.json()["error"]) == {"kind", "message"}


@pytest.mark.parametrize(
    "path", [f"documents/{'0' * 16}", f"documents/{'0' * 16}/pages/1", "search?q=harbour&min_confidence=0.5"]
)
def test_no_refusal_names_a_command_or_a_path_of_the_server(service: Service, uri: str, path: str) -> None:
    answer = TestClient(whole(service)).get(f"{API}/{path}")
    assert answer.status_code in (404, 422)
    assert "folioscope " not in answer.text
    assert uri not in answer.text


def test_the_command_line_also_gets_the_remedy(service: Service) -> None:
    with pytest.raises(NotFound) as missing:
        service.library.store.document("no.pdf")
    assert missing.value.message == "no document 'no.pdf' in the index"
    assert "'folioscope docs list' names those in" in str(missing.value)


def test_the_answer_to_a_wrong_method_lists_the_right_ones(service: Service) -> None:
    answer = TestClient(whole(service)).delete(f"{API}/documents/{DOC}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, PATCH")


def test_refusals_of_middlewares_have_the_same_shape(service: Service, tmp_path: Path) -> None:
    client = TestClient(whole(service))
    elsewhere = client.put(f"{API}/upload/a.pdf", headers={"Origin": "http://evil.example"})
    assert (elsewhere.status_code, elsewhere.json()["error"]["kind"]) == (403, "Refused")
    local = TestClient(whole(service, host="127.0.0.1"), base_url="http://127.0.0.1")
    assert local.get(f"{API}/library").status_code == 200
    foreign = local.get(f"{API}/library", headers={"Host": "evil.example"})
    assert (foreign.status_code, foreign.json()["error"]["kind"]) == (400, "ForeignHost")
    assert local.get("/health", headers={"Host": "evil.example"}).text == "Invalid host header"
    long = client.post(f"{API}/documents/undo", content=b"x" * (2**20 + 1))
    assert (long.status_code, long.json()["error"]["kind"]) == (413, "TooLong")
    locked = TestClient(whole(service, open_authentication(tmp_path, token="a-token-that-is-long-enough")))
    stranger = locked.get(f"{API}/nothing")
    assert (stranger.status_code, stranger.json()["error"]["kind"]) == (401, "LoginNeeded")


@pytest.mark.parametrize("path", ["/", "/health", f"{API}/library", f"{API}/nothing", "/media/none/1.webp"])
def test_every_answer_has_an_id_which_is_the_clients_own_if_it_is_valid(service: Service, path: str) -> None:
    client = TestClient(whole(service))
    made = client.get(path).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert client.get(path).headers["x-request-id"] != made
    assert client.get(path, headers={"X-Request-ID": "trace-1.a_B"}).headers["x-request-id"] == "trace-1.a_B"
    for odd in ("", "a b", "a" * 65, "<script>", "a;b"):
        answered = client.get(path, headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{32}", answered)
