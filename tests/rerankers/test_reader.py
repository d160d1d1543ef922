"""The shipped reader says where a page answers; what it says does not depend on the other pages or on the batch."""

from dataclasses import replace

import numpy as np
import pytest

import configs.settings as configs
import rerankers
from rerankers.reader import LONGEST, SPANS, WINDOWS, TextReader
from rerankers.text import NOTHING
from retrieval.types import PageReader
from tests.build import content

FACT = "Ferry Services carried 733 thousand passengers between Dunmere and Holm in 2023"
NAME = "The lighthouse of Scarra was painted by Oswin Tarrant before the winter"
FILLER = "\n".join("meeting minutes were read and approved by all members of the board" for _ in range(60))
QUERY = "how many passengers travelled between Dunmere and Holm?"


@pytest.fixture(scope="module")
def reader() -> TextReader:
    loaded = rerankers.load_reranker(configs.Text())
    assert isinstance(loaded, TextReader)
    assert isinstance(loaded, PageReader)
    return loaded


@pytest.mark.parametrize(
    ("query", "sentence", "answer", "most"),
    [
        (QUERY, FACT, "733", "733 thousand passengers"),
        ("who painted the lighthouse of Scarra?", NAME, "Tarrant", "by Oswin Tarrant"),
    ],
)
def test_the_evidence_and_the_likeliest_span_are_where_this_question_is_answered(
    reader: TextReader, query: str, sentence: str, answer: str, most: str
) -> None:
    page = content("\n".join([FILLER, FACT, FILLER, NAME, FILLER]))
    (reading,) = reader.read(query, [page], whole=True)
    texts = [word.text for word in page.words]
    at = texts.index(answer)
    first, end, probability = reading.spans[0]
    assert first <= at < end
    assert " ".join(texts[first:end]) in most  # the answer itself, not the whole sentence
    assert 0 < probability <= 1
    evidence = np.array(reading.evidence)
    begin = at - sentence.split().index(answer)
    answers = np.zeros(len(texts), np.bool_)
    answers[begin : begin + len(sentence.split())] = True
    assert evidence[at] > evidence[~answers].max()
    typical = np.median(evidence[answers])  # most of the sentence's words are evidence, not only the answer
    assert typical > 0.1 * evidence[at]
    assert typical > 10 * evidence[~answers].mean()  # of the other fact's words as well
    assert reading.passages[0].first <= at < reading.passages[0].end
    assert len(reading.passages) <= WINDOWS
    assert len(reading.spans) <= SPANS
    assert all(end - first <= LONGEST for first, end, _ in reading.spans)


def test_a_reading_does_not_depend_on_other_pages_and_has_the_score_of_the_order(reader: TextReader) -> None:
    pages = [content(FILLER), content(""), content(FACT), content(FILLER + "\n" + FACT)]
    together = reader.read(QUERY, pages, whole=True)
    fresh = TextReader(configs.Text())
    assert together == [fresh.read(QUERY, [page], whole=True)[0] for page in pages]
    assert [reading.score for reading in together] == reader.score(QUERY, pages)
    assert [reading.score for reading in reader.read(QUERY, pages, whole=False)] == reader.score(QUERY, pages)


def test_a_page_without_words_has_nothing_to_say(reader: TextReader) -> None:
    (reading,) = reader.read(QUERY, [content("")], whole=True)
    assert (reading.score, reading.spans, reading.passages, reading.evidence) == (NOTHING, (), (), ())


def test_in_part_it_reads_only_what_the_order_was_made_from(reader: TextReader) -> None:
    page = content(FILLER + "\n" + FACT)
    focused = replace(page, focus=(page.words[-1].box,))
    (part,) = reader.read(QUERY, [focused], whole=False)
    (whole,) = reader.read(QUERY, [focused], whole=True)
    assert len(part.passages) == configs.Text().windows
    assert len(whole.passages) > len(part.passages)


def test_rows_that_were_read_are_not_read_again(reader: TextReader, monkeypatch: pytest.MonkeyPatch) -> None:
    page = content(FILLER + "\nThe regatta was won by the crew of Little Scarra")
    query = "who won the regatta?"
    before = reader.read(query, [page], whole=True)
    monkeypatch.setattr(
        reader._runner, "run_outputs", lambda rows, _: [] if not rows else pytest.fail("read again")
    )
    assert reader.read(query, [page], whole=True) == before
    assert reader.score(query, [page]) == [before[0].score]


def test_words_that_the_tokenizer_does_not_know_at_all_cost_no_others(reader: TextReader) -> None:
    odd = "\u200b"  # no piece at all
    page = content(f"{odd} {FACT} {odd}")
    (reading,) = reader.read(QUERY, [page], whole=True)
    assert (reading.evidence[0], reading.evidence[-1]) == (0, 0)
    first, end, _ = reading.spans[0]
    assert "733" in [word.text for word in page.words[first:end]]
