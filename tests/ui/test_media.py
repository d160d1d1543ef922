"""Documents whose file may not be looked at: the library goes on without the file."""

from dataclasses import replace
from pathlib import Path

from fastapi.testclient import TestClient

from retrieval.store.store import Store
from tests.permissions import shut
from tests.ui.conftest import DOC, TIDES, filled, serving
from ui.web.server import server


def test_a_file_in_a_folder_that_may_not_be_entered_counts_as_not_there(tmp_path: Path) -> None:
    uri, archive = filled(tmp_path), tmp_path / "archive"
    archive.mkdir()
    moved = (tmp_path / "tides.pdf").rename(archive / "tides.pdf")
    store = Store.open(uri)
    with store.writing():
        store.update(replace(store.document(DOC), uri=moved.as_uri()))
    service = serving(uri)
    client = TestClient(server(service))
    assert client.get(f"/api/v1/documents/{DOC}").json()["original"] is True
    with shut(archive):
        assert client.get("/api/v1/documents").status_code == 200
        assert client.get(f"/api/v1/documents/{DOC}").json()["original"] is False
        assert client.get(f"/media/{DOC}/original").status_code == 404
        again = client.post("/api/v1/documents/reread", json={"doc_ids": [DOC]})
        assert (again.status_code, "the server cannot reach the file" in again.text) == (404, True)
    assert client.get(f"/media/{DOC}/original").content == TIDES
    service.close()


def test_a_file_that_may_not_be_read_is_not_found(tmp_path: Path) -> None:
    service = serving(filled(tmp_path))
    client = TestClient(server(service))
    with shut(tmp_path / "tides.pdf"):
        assert client.get(f"/media/{DOC}/original").status_code == 404
    service.close()
