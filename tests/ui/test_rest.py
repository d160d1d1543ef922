"""REST: answers to valid requests, and messages for the others."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from configs import settings as configs
from rerankers.overlap import OverlapReranker
from retrieval.encoders.hashing import HashingEncoder
from retrieval.errors import RerankerFailed
from retrieval.search import Searcher
from retrieval.store.store import Store
from retrieval.types import PageContent, SearchRequest, SearchResult
from tests.build import add_document, webp
from tests.ui.conftest import DOC, GONE, HOSTILE, SMALL, filled, serving, whole
from ui.api.rest import description
from ui.service.folders import Folders
from ui.service.library import Library, open_library
from ui.service.service import Service, service_for
from ui.web.server import server

API = "/api/v1"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[TestClient, Service]]:
    """A library of its own, for tests that change it."""
    service = serving(filled(tmp_path))
    (tmp_path / "archive").mkdir()
    service.folders = Folders([tmp_path / "archive"])
    yield TestClient(server(service)), service
    service.close()


def settled(client: TestClient) -> dict[str, Any]:
    for _ in range(400):
        jobs: dict[str, Any] = client.get(f"{API}/jobs").json()
        if not jobs["busy"] and not jobs["task"]:
            return jobs
        time.sleep(0.025)
    raise AssertionError(jobs)


def names(client: TestClient, **asked: Any) -> list[str]:
    return [d["name"] for d in client.get(f"{API}/documents", params=asked).json()["documents"]]


# Search


def test_a_search_gives_ranked_pages_with_both_ranks_and_a_snippet(client: TestClient) -> None:
    found = client.get(f"{API}/search", params={"q": "harbour seals"}).json()
    best = found["hits"][0]
    assert (best["document"], best["page"], best["pages"], best["rank"], best["scanned"]) == (
        HOSTILE,
        1,
        1,
        1,
        True,
    )
    assert best["moved"] == best["first_rank"] - 1
    assert best["link"] == f"?q=harbour+seals&doc={GONE}&p=1"
    assert ["seals", True] in best["snippet"]
    assert found["decision"]["kind"] == "reranked"
    assert found["decision"]["text"].startswith("Reranked the first 4 of 4 candidates by overlap")
    assert (found["decision"]["read"], found["decision"]["shortlist"]) == (4, 4)
    assert (found["searched"], found["found"], found["provisional"]) == (4, 4, False)
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3, 4]


def test_as_ndjson_the_first_stage_is_the_first_line(client: TestClient) -> None:
    answer = client.get(
        f"{API}/search", params={"q": "harbour fees anew"}, headers={"Accept": "application/x-ndjson"}
    )
    first, last = map(json.loads, answer.text.splitlines())
    assert [found["decision"]["kind"] for found in (first, last)] == ["pending", "reranked"]
    assert (first["provisional"], first["reranked"], first["hits"][0]["moved"]) == (True, False, None)
    assert (last["provisional"], last["reranked"]) == (False, True)
    assert [stage["name"] for stage in last["stages"]] == ["encode query", "recall", "rerank"]
    again = client.get(
        f"{API}/search", params={"q": "harbour  fees anew"}, headers={"Accept": "application/x-ndjson"}
    )
    assert [json.loads(line)["provisional"] for line in again.text.splitlines()] == [False]  # remembered


@pytest.mark.parametrize(
    ("filters", "documents"),
    [
        ({"document": DOC}, {"tides.pdf"}),
        ({"document": [DOC, GONE]}, {"tides.pdf", HOSTILE}),
        ({"collection": "ports"}, {"tides.pdf"}),
        ({"tag": "sea"}, {"tides.pdf"}),
        ({"since": "2023"}, {"tides.pdf"}),
        ({"until": "2022"}, {HOSTILE}),
        ({"scanned": True}, {HOSTILE}),
        ({"scanned": False}, {"tides.pdf"}),
        ({"tag": "sky"}, set()),
    ],
)
def test_filters_restrict_the_result_to_matching_documents(
    client: TestClient, filters: dict[str, Any], documents: set[str]
) -> None:
    found = client.get(f"{API}/search", params={"q": "harbour", **filters}).json()
    assert {hit["document"] for hit in found["hits"]} == documents
    if not documents:
        assert [note["kind"] for note in found["notes"]] == ["filtered_out"]


def test_more_results_are_the_same_list_longer_and_candidates_have_both_ranks(client: TestClient) -> None:
    short = client.get(f"{API}/search", params={"q": "harbour", "top": 2}).json()
    whole = client.get(f"{API}/search", params={"q": "harbour", "top": 50, "candidates": True}).json()
    assert [hit["page_name"] for hit in whole["hits"]][:2] == [hit["page_name"] for hit in short["hits"]]
    assert sorted(page["first_rank"] for page in whole["candidates"]) == [1, 2, 3, 4]
    assert [page["rank"] for page in whole["candidates"]] == [1, 2, 3, 4]


def test_without_reranking_there_is_one_order_and_no_movement(client: TestClient) -> None:
    found = client.get(f"{API}/search", params={"q": "harbour", "rerank": False}).json()
    assert {hit["moved"] for hit in found["hits"]} == {None}
    assert found["decision"] == {
        "kind": "off", "text": "Not reranked: switched off for this search", "read": 0, "shortlist": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"q": "  "}, 422, "the question is empty"),
        ({"q": "x" * 3000}, 422, "3,000 characters, 2,000 are allowed"),
        ({"q": "x", "since": "May"}, 422, "'May' is not a date"),
        (
            {"q": "x", "until": "2024-13"},
            422,
            "'2024-13' is not a date: write it as 2024-01-31, 2024-01 or 2024",
        ),
        ({"q": "x", "top": 0}, 422, "top: Input should be greater than or equal to 1"),
        ({}, 422, "q: Field required"),
    ],
)
def test_a_refused_search_says_why(client: TestClient, asked: dict[str, Any], status: int, said: str) -> None:
    answer = client.get(f"{API}/search", params=asked)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_an_unknown_address_is_not_answered_by_the_web_page(client: TestClient) -> None:
    assert client.get(f"{API}/nothing").status_code == 404


# Pages


def test_a_page_is_highlighted_only_at_words_that_are_on_it(client: TestClient) -> None:
    shown = client.get(f"{API}/documents/{DOC}/pages/1", params={"q": "harbour whales"}).json()
    harbour, whales = shown["terms"]
    assert (harbour["term"], harbour["kind"], harbour["count"]) == ("harbour", "word", 1)
    assert harbour["regions"][0][:4] == pytest.approx([0.46, 0.1, 0.54, 0.12], abs=1e-4)  # word 5 of line 1
    assert (whales["term"], whales["kind"], whales["regions"]) == ("whales", None, [])
    assert [(region["kind"], region["strength"]) for region in shown["regions"]] == [("word", 1.0)]
    assert shown["answer"] is None  # no reader has read it
    assert [word[0] for word in shown["words"]] == ["tides", "of", "the", "north", "harbour"]
    assert shown["original"] == f"media/{DOC}/original"
    dark = client.get(f"{API}/documents/{DOC}/pages/1", params={"q": "whales"}).json()
    assert (dark["note"], dark["heat"]) == ("No place on this page stands out for this question.", None)


def test_a_number_past_the_end_is_the_last_page_and_a_removed_document_a_message(client: TestClient) -> None:
    assert client.get(f"{API}/documents/{DOC}/pages/99").json()["page"] == 3
    answer = client.get(f"{API}/documents/nothing/pages/1")
    assert (answer.status_code, answer.json()["error"]["kind"]) == (404, "NotFound")


def test_highlights_are_the_page_without_the_rest(client: TestClient) -> None:
    lit = client.get(f"{API}/documents/{DOC}/pages/2/highlights", params={"q": "fees"}).json()
    assert (lit["page"], lit["terms"][0]["count"], "words" in lit) == (2, 1, False)


def test_a_page_image_is_returned_plain_and_highlighted(client: TestClient) -> None:
    place = f"{API}/documents/{DOC}/pages/1/image"
    assert client.get(place).content == webp()
    plain, lit = (client.get(place, params={"format": "png", "q": q}).content for q in ("", "harbour"))
    assert plain[:4] == lit[:4] == b"\x89PNG"
    assert plain != lit
    assert client.get(f"{API}/documents/{DOC}/pages/9/image").status_code == 404


# Export


def test_results_are_exported_as_csv_json_and_pdf(client: TestClient) -> None:
    asked: dict[str, Any] = {"q": "harbour fees", "top": 2}
    table = client.get(f"{API}/export", params={**asked, "format": "csv"})
    assert table.headers["content-type"].startswith("text/csv")
    assert "folioscope-harbour-fees.csv" in table.headers["content-disposition"]
    assert len(table.text.splitlines()) == 3
    rows = client.get(f"{API}/export", params={**asked, "format": "json"}).json()
    assert [hit["rank"] for hit in rows["hits"]] == [1, 2]
    pdf = client.get(f"{API}/export", params={**asked, "format": "pdf"})
    assert (pdf.content[:5], pdf.headers["content-type"]) == (b"%PDF-", "application/pdf")


# Documents


def test_the_list_of_documents_is_filtered_and_sorted(client: TestClient) -> None:
    assert names(client, sort="name", descending=False) == [HOSTILE, "tides.pdf"]
    assert names(client, sort="pages") == ["tides.pdf", HOSTILE]
    assert names(client, find="TIDES sea") == ["tides.pdf"]
    assert names(client, collection="ports") == ["tides.pdf"]
    assert names(client, tag="nowhere") == []
    page = client.get(f"{API}/documents", params={"count": 1, "start": 1, "sort": "pages"}).json()
    assert (page["total"], page["pages"], [d["name"] for d in page["documents"]]) == (2, 4, [HOSTILE])
    facts = client.get(f"{API}/documents/{GONE}").json()
    assert (facts["original"], facts["scanned_pages"], facts["leaving"]) == (False, 1, False)


def test_a_removed_document_disappears_at_once_and_undo_restores_it(
    own: tuple[TestClient, Service],
) -> None:
    client, service = own
    service.settings = SMALL.model_copy(update={"serve": configs.Serve(undo_s=60)})
    client.post(f"{API}/documents/remove", json={"doc_ids": [DOC]}).raise_for_status()
    assert client.get(f"{API}/documents/{DOC}").json()["leaving"]
    assert {hit["doc_id"] for hit in client.get(f"{API}/search", params={"q": "harbour"}).json()["hits"]} == {
        GONE
    }
    client.post(f"{API}/documents/undo", json={"doc_ids": [DOC]}).raise_for_status()
    found = client.get(f"{API}/search", params={"q": "harbour"}).json()
    assert {hit["doc_id"] for hit in found["hits"]} == {DOC, GONE}


def test_after_the_time_to_undo_it_is_removed(own: tuple[TestClient, Service]) -> None:
    client, _ = own
    client.post(f"{API}/documents/remove", json={"doc_ids": [DOC]}).raise_for_status()
    settled(client)
    assert names(client) == [HOSTILE]


def test_a_document_is_renamed_and_tagged(own: tuple[TestClient, Service]) -> None:
    client, _ = own
    changed = client.patch(
        f"{API}/documents/{DOC}", json={"name": "ebb.pdf", "tags": ["flow"], "date": "2020-02"}
    )
    assert (changed.json()["name"], changed.json()["tags"], changed.json()["title"]) == (
        "ebb.pdf",
        ["flow"],
        "Tides",
    )
    assert (
        client.get(f"{API}/search", params={"q": "tides", "tag": "flow"}).json()["hits"][0]["document"]
        == "ebb.pdf"
    )
    refused = client.patch(f"{API}/documents/{DOC}", json={"name": HOSTILE})
    assert (refused.status_code, refused.json()["error"]["kind"]) == (422, "BadLabel")
    assert client.patch(f"{API}/documents/{DOC}", json={"date": "yesterday"}).status_code == 422


def test_uploads_folders_and_samples_become_jobs(own: tuple[TestClient, Service], tmp_path: Path) -> None:
    client, _ = own
    (tmp_path / "archive" / "a").mkdir()
    (tmp_path / "archive" / "a" / "bad.pdf").touch()
    assert client.put(f"{API}/upload/empty.pdf", content=b"").status_code == 201
    roots = client.get(f"{API}/folders").json()
    inner = client.get(f"{API}/folders", params={"id": roots["folders"][0]["id"]}).json()
    assert [(f["name"], f["documents"]) for f in inner["folders"]] == [("a", 1)]
    client.post(f"{API}/folders/ingest", json={"id": inner["folders"][0]["id"]}).raise_for_status()
    jobs = settled(client)
    assert {(job["name"], job["state"]) for job in jobs["jobs"]} == {
        ("empty.pdf", "failed"),
        ("bad.pdf", "failed"),
    }
    assert client.get(f"{API}/folders", params={"id": "../../etc"}).status_code == 404
    assert client.post(f"{API}/folders/ingest", json={"id": "/etc"}).status_code == 404
    client.post(f"{API}/jobs/clear").raise_for_status()
    assert client.get(f"{API}/jobs").json()["jobs"] == []


def test_a_file_that_became_a_link_out_after_it_was_listed_is_not_read(tmp_path: Path) -> None:
    archive, secret = tmp_path / "archive", tmp_path / "secret.pdf"
    archive.mkdir()
    swapped, secret_bytes = archive / "a.pdf", (Path(__file__).parents[2] / "samples").glob("pdfs/*.pdf")
    secret.write_bytes(next(secret_bytes).read_bytes())
    swapped.touch()
    service = service_for(filled(tmp_path), SMALL, samples=tmp_path, roots=[archive])
    service.open()
    client = TestClient(server(service))
    with service.library.store.writing():  # the job waits for the lock
        (root,) = client.get(f"{API}/folders").json()["folders"]
        client.post(f"{API}/folders/ingest", json={"id": root["id"]}).raise_for_status()
        swapped.unlink()
        swapped.symlink_to(secret)
    (job,) = settled(client)["jobs"]
    assert (job["state"], "outside of the folders" in job["message"]) == ("failed", True)
    assert names(client, sort="name", descending=False) == [HOSTILE, "tides.pdf"]
    service.close()


def test_the_index_is_described_compacted_and_verified(own: tuple[TestClient, Service]) -> None:
    client, _ = own
    index = client.get(f"{API}/index").json()
    assert (index["documents"], index["pages"], index["encoder"].startswith("hashing")) == (2, 4, True)
    assert index["disk"]["pages"] > 0
    client.post(f"{API}/index/verify").raise_for_status()
    assert "4 pages of 2 documents checked" in settled(client)["task_result"]
    client.post(f"{API}/index/compact").raise_for_status()
    assert settled(client)["task_result"].startswith("Compacted:")


# Judgements


def test_a_judgement_is_stored_shown_and_counted_towards_the_lift(own: tuple[TestClient, Service]) -> None:
    client, _ = own
    assert client.get(f"{API}/judgements").json()["lift"] == []
    client.get(f"{API}/search", params={"q": "harbour fees"})
    thumb = {"query": "harbour fees", "doc_id": DOC, "page": 2, "grade": 1}
    client.post(f"{API}/judgements", json=thumb).raise_for_status()
    hits = client.get(f"{API}/search", params={"q": "harbour fees"}).json()["hits"]
    assert {(hit["doc_id"], hit["page"]): hit["judged"] for hit in hits}[DOC, 2] == 1
    assert client.get(f"{API}/documents/{DOC}/pages/2", params={"q": "harbour fees"}).json()["judged"] == 1
    said = client.get(f"{API}/judgements").json()
    assert [(row["measure"], row["wins"] + row["ties"] + row["losses"]) for row in said["lift"]] == [
        ("nDCG@10", 1),
        ("RR@10", 1),
    ]
    assert "harbour fees\t0\ttides.pdf#page=2\t1" in client.get(f"{API}/judgements.txt").text
    client.post(f"{API}/judgements", json={**thumb, "grade": None}).raise_for_status()
    assert client.get(f"{API}/judgements").json()["judged"] == []
    assert client.post(f"{API}/judgements", json={**thumb, "page": 9}).status_code == 404


# The queue and the loading


def test_while_the_models_load_everything_says_so_and_health_answers(tmp_path: Path) -> None:
    go_on = threading.Event()
    uri = filled(tmp_path)

    def slowly() -> Any:
        go_on.wait(10)
        return open_library(uri, SMALL, tmp_path)

    service = Service(SMALL, slowly)
    service.start()
    client = TestClient(server(service))
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").status_code == 503
    assert client.get(f"{API}/library").json()["state"] == "loading"
    answer = client.get(f"{API}/search", params={"q": "harbour"})
    assert (answer.status_code, answer.json()["error"]["kind"], answer.headers["retry-after"]) == (
        503,
        "NotReady",
        "1",
    )
    assert client.get(f"/media/{DOC}/1.webp").status_code == 503
    go_on.set()
    for _ in range(200):
        if client.get("/ready").status_code == 200:
            break
        time.sleep(0.02)
    assert client.get(f"{API}/library").json()["documents"] == 2
    service.close()


def test_a_library_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    uri = filled(tmp_path)
    other = SMALL.model_copy(update={"encoder": configs.Hashing(dim=32)})
    service = Service(other, lambda: open_library(uri, other, tmp_path))
    failed = threading.Event()
    service.start(failed.set)
    assert failed.wait(10)
    said = TestClient(server(service)).get(f"{API}/library").json()
    assert (said["state"], said["kind"]) == ("failed", "EncoderMismatch")
    service.close()


def test_an_index_of_another_encoder_is_encoded_again_and_opened(tmp_path: Path) -> None:
    uri = filled(tmp_path)
    other = SMALL.model_copy(update={"encoder": configs.Hashing(dim=32)})
    service = service_for(uri, other, samples=tmp_path)
    failed = threading.Event()
    service.start(failed.set)
    assert failed.wait(10)
    client = TestClient(server(service))
    client.post(f"{API}/index/reembed").raise_for_status()
    assert client.get(f"{API}/library").json()["state"] != "failed"  # it is at work
    for _ in range(400):
        if client.get("/ready").status_code == 200:
            break
        time.sleep(0.025)
    found = client.get(f"{API}/search", params={"q": "harbour fees"}).json()
    assert (found["hits"][0]["document"], service.library.store.fingerprint.dim) == ("tides.pdf", 32)
    assert Store.open(f"{uri}.before").fingerprint.dim == 64
    assert client.post(f"{API}/index/reembed").status_code == 400
    service.close()


def test_what_changes_while_an_index_is_encoded_again_is_caught_up(tmp_path: Path) -> None:
    from ui.service.library import reembed_library

    uri = filled(tmp_path)
    other = SMALL.model_copy(update={"encoder": configs.Hashing(dim=32)})
    work = reembed_library(f"{uri}/", other)
    next(work)
    next(work)
    source = Store.open(uri)
    add_document(source, HashingEncoder(), "new.pdf", ["harbour master"])
    source.remove([GONE])
    source.update(replace(source.document(DOC), title="Ebb"))
    for _ in work:
        pass
    fresh = Store.open(uri)
    assert fresh.fingerprint.dim == 32
    assert {(d.name, d.title) for d in fresh.documents()} == {("tides.pdf", "Ebb"), ("new.pdf", "")}


def test_a_search_beyond_the_queue_is_refused_and_the_others_are_answered(tmp_path: Path) -> None:
    """One search holds the only turn, one may wait, the third is refused with a time to come back."""
    settings = SMALL.model_copy(update={"serve": configs.Serve(at_once=1, waiting=1, waiting_each=1)})
    service = serving(filled(tmp_path), settings)
    client = TestClient(server(service))
    go_on, begun = threading.Event(), threading.Event()
    steps = service.library.searcher.steps

    def slowly(request: SearchRequest, *, stop: threading.Event | None = None) -> Iterator[SearchResult]:
        begun.set()
        go_on.wait(10)
        yield from steps(request, stop=stop)

    service.library.searcher.steps = slowly  # type: ignore[method-assign]

    async def three() -> list[Any]:
        first = asyncio.ensure_future(service.search(SearchRequest("harbour one"), "a"))
        await asyncio.to_thread(begun.wait, 10)
        second = asyncio.ensure_future(service.search(SearchRequest("harbour two"), "b"))
        await asyncio.sleep(0.05)
        third = await asyncio.gather(
            service.search(SearchRequest("harbour three"), "c"), return_exceptions=True
        )
        go_on.set()
        return [await first, await second, *third]

    first, second, third = asyncio.run(three())
    assert (first.query, second.query, str(third)) == (
        "harbour one",
        "harbour two",
        "the server is busy: 1 searches wait already; try again in a moment",
    )
    del client
    service.close()


def test_an_error_after_the_first_line_is_a_line(tmp_path: Path) -> None:
    service = serving(filled(tmp_path))
    steps = service.library.searcher.steps

    def broken(request: SearchRequest, *, stop: threading.Event | None = None) -> Iterator[SearchResult]:
        yield next(steps(request, stop=stop))
        raise RuntimeError("out of memory")

    service.library.searcher.steps = broken  # type: ignore[method-assign]
    answer = TestClient(server(service)).get(
        f"{API}/search", params={"q": "harbour"}, headers={"Accept": "application/x-ndjson"}
    )
    first, last = map(json.loads, answer.text.splitlines())
    assert first["provisional"]
    assert last["error"]["message"].startswith(
        "The reranked order could not be made because of an unexpected error"
    )
    assert last["error"]["request_id"] == answer.headers["x-request-id"]
    service.close()


def test_a_client_that_disconnects_frees_its_turn_and_stops_the_reranker(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"serve": configs.Serve(at_once=1)})
    service = serving(filled(tmp_path), settings)
    begun, ended = threading.Event(), threading.Event()
    steps = service.library.searcher.steps

    def slowly(request: SearchRequest, *, stop: threading.Event | None = None) -> Iterator[SearchResult]:
        begun.set()
        if stop and stop.wait(10):
            ended.set()
        yield from steps(request, stop=stop)

    async def leaving() -> SearchResult:
        service.library.searcher.steps = slowly  # type: ignore[method-assign]
        gone = asyncio.ensure_future(service.search(SearchRequest("harbour one"), "a"))
        await asyncio.to_thread(begun.wait, 10)
        gone.cancel()
        service.library.searcher.steps = steps  # type: ignore[method-assign]
        after = await asyncio.wait_for(service.search(SearchRequest("harbour two"), "b"), 5)
        assert ended.is_set()  # the turn was kept until its thread had ended
        return after

    assert asyncio.run(leaving()).query == "harbour two"
    service.close()


def test_a_judgement_is_stored_with_the_order_that_was_seen_if_there_is_one(
    own: tuple[TestClient, Service],
) -> None:
    client, service = own
    thumb = {"query": "harbour fees", "doc_id": DOC, "page": 2, "grade": 1}
    client.get(f"{API}/search", params={"q": "harbour fees", "document": DOC})  # only under a filter
    client.post(f"{API}/judgements", json=thumb).raise_for_status()
    assert client.get(f"{API}/judgements").json()["lift"] == []
    client.get(f"{API}/search", params={"q": "harbour fees"})
    client.post(f"{API}/judgements", json=thumb).raise_for_status()
    assert client.get(f"{API}/judgements").json()["lift"][0]["wins"] is not None
    del service


class StartingReranker(OverlapReranker):
    """Fails in its first call, takes longer than `budget_ms` for the second one, and is quick from then on."""

    def __init__(self, budget_ms: float) -> None:
        self.budget_ms = budget_ms
        self.calls = 0

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        self.calls += 1
        if self.calls == 1:
            raise RerankerFailed("the server is starting")
        if self.calls == 2:
            time.sleep(1.2 * self.budget_ms / 1000)
        return super().score(query, pages)


def test_a_question_whose_reranking_failed_or_was_cut_is_searched_again(tmp_path: Path) -> None:
    asked = SearchRequest("harbour fees", budget_ms=500)

    def starting() -> Library:
        library = open_library(filled(tmp_path), SMALL, tmp_path)
        reranker = StartingReranker(500)
        searcher = Searcher(library.store, library.searcher.encoder, reranker, SMALL.search)
        return replace(library, searcher=searcher)

    service = Service(SMALL, starting)
    service.open()

    async def ask_four_times() -> list[SearchResult]:
        results = []
        for _ in range(4):
            results.append(await service.search(asked, "a"))
            assert await service.cached_result(asked) is results[-1]  # a judgement refers to what was shown
        return results

    failed, cut, complete, again = asyncio.run(ask_four_times())
    service.close()
    assert failed.decision.kind == "failed"
    assert (cut.decision.kind, cut.decision.read, cut.decision.shortlist) == ("reranked_in_part", 1, 4)
    assert (complete.decision.kind, complete.decision.read) == ("reranked", 4)
    assert again is complete


def test_a_refused_upload_leaves_no_file(own: tuple[TestClient, Service]) -> None:
    client, service = own
    before = set(service.library.jobs.folder.iterdir())
    answer = client.put(f"{API}/upload/report.pdf", params={"tag": "a,b"}, content=b"%PDF-")
    assert (answer.status_code, answer.json()["error"]["kind"]) == (422, "BadLabel")
    assert set(service.library.jobs.folder.iterdir()) == before


def test_a_long_question_is_highlighted_quickly(client: TestClient) -> None:
    words = " ".join(f"harbour{n}" for n in range(190))
    began = time.perf_counter()
    found = client.get(f"{API}/search", params={"q": words, "top": 50}).json()
    assert time.perf_counter() - began < 3
    terms = client.get(f"{API}/documents/{DOC}/pages/1", params={"q": words}).json()["terms"]
    assert len(terms) == 32
    del found


def test_a_search_after_an_ingest_sees_what_is_new(own: tuple[TestClient, Service]) -> None:
    client, service = own
    assert len(client.get(f"{API}/search", params={"q": "harbour"}).json()["hits"]) == 4
    add_document(service.library.store, HashingEncoder(), "new.pdf", ["harbour master"])
    assert len(client.get(f"{API}/search", params={"q": "harbour"}).json()["hits"]) == 5


# What surrounds it


def test_the_description_is_of_this_api_and_names_every_route(service: Service) -> None:
    client = TestClient(whole(service))
    described = client.get("/openapi.json").json()
    assert described["info"]["title"] == "Folioscope"
    assert described == client.get(f"{API}/openapi.json").json()
    for path in ("search", "export", "upload/{name}", "jobs", "documents/{doc_id}/pages/{number}/highlights"):
        assert f"{API}/{path}" in described["paths"]
    assert not [path for path in described["paths"] if not path.startswith(API)]
    assert described["paths"][f"{API}/search"]["get"]["responses"]["422"]["content"]["application/json"][
        "schema"
    ] == {"$ref": "#/components/schemas/ErrorOut"}


def test_the_page_of_the_description_has_every_route_and_schema_and_loads_nothing(service: Service) -> None:
    client = TestClient(whole(service))
    answer, described = client.get("/docs"), client.get("/openapi.json").json()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"].startswith(
        "default-src 'none'; style-src 'unsafe-inline'"
    )
    for path, item in described["paths"].items():
        for method in item:
            assert f"<h3><code>{method.upper()} {path}</code></h3>" in answer.text
    for name in described["components"]["schemas"]:
        assert f'<section id="{name}">' in answer.text
    linked = re.findall(r'href="([^"]*)"', answer.text)
    anchors = set(re.findall(r'id="([^"]*)"', answer.text))
    assert {link for link in linked if not link.startswith("#")} == {"openapi.json"}
    assert {link[1:] for link in linked if link.startswith("#")} <= anchors
    assert not re.search(r"src=|<script|<link|url\(|https?:", answer.text)


def test_descriptions_are_shown_as_text_not_as_html() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    shown = description.page({
        "info": {"title": hostile, "version": hostile, "description": hostile},
        "paths": {f"/{hostile}": {"get": {"description": hostile, "responses": {"200": {"description": hostile}}}}},
        "components": {"schemas": {hostile: {"description": hostile, "properties": {hostile: {"type": hostile}}}}},
    })  # fmt: skip
    assert "<img" not in shown
    assert "&lt;img src=x" in shown


def test_metrics_are_prometheus_text_and_grow(client: TestClient) -> None:
    client.get(f"{API}/search", params={"q": "lamps counted"})
    text = client.get("/metrics").text
    assert 'folioscope_searches_total{outcome="reranked"}' in text
    assert 'folioscope_stage_seconds_bucket{le="0.1",stage="rerank"}' in text
    assert "folioscope_pages 4.0" in text
    assert "folioscope_ready 1.0" in text
