import numpy as np
import pytest

from retrieval.answers import Located
from retrieval.encoders.hashing import HashingEncoder
from retrieval.highlight import answer_heat, focus, heat, highlight
from retrieval.types import Answer, Highlight, Page, PageEmbedding, QueryEmbedding, Region, TermMatch
from tests.build import content

ENCODER = HashingEncoder(64)
TEXT = "Site A passed the inspection\nSite B failed its inspections\nNothing else of note here"


def lit(query: str, text: str = TEXT) -> Highlight:
    page = content(text)
    return highlight(query, ENCODER.encode_queries([query])[0], page, ENCODER.encode_pages([page])[0])


def test_a_word_lights_up_where_it_stands_in_any_inflection() -> None:
    result = lit("which inspection failed?")
    places = {term.term: [region.box for region in term.regions] for term in result.terms}
    words = content(TEXT).words
    assert places == {"inspection": [words[4].box, words[9].box], "failed": [words[7].box]}


def test_the_rare_word_close_to_others_is_strongest() -> None:
    result = lit("which inspection failed?")
    assert result.regions[0].box == content(TEXT).words[7].box
    assert result.regions[0].strength == 1.0
    assert all(0 < region.strength <= 1 for region in result.regions)


def test_the_snippet_is_around_the_strongest_place_and_marks_the_words() -> None:
    result = lit("failed", "start " * 60 + "\nSite B failed its inspection\n" + "end " * 60)
    assert [result.snippet[a:b] for a, b in result.snippet_matches] == ["failed"]
    assert "Site B failed its inspection" in result.snippet
    assert result.snippet.startswith("… ")
    assert result.snippet.endswith("…")


def test_where_nothing_stands_out_nothing_is_lit_and_it_is_said() -> None:
    result = lit("zebra crossings")
    assert result.regions == ()
    assert "No place on this page stands out" in result.note


def test_a_page_without_text_says_so() -> None:
    assert "No text was read" in lit("zebra", "").note


def test_stop_words_are_not_highlighted() -> None:
    assert [term.term for term in lit("what is the inspection of it").terms] == ["inspection"]


def test_not_is_lit_since_it_can_be_the_point() -> None:
    assert [t.term for t in lit("sites that did not pass", "did not pass").terms] == ["sites", "not", "pass"]


def located(*, sure: bool, in_passage: float = 0.9) -> Located:
    """ "failed" answers, in the sentence of site B, with "passed" as a head."""
    words = content(TEXT).words
    row = tuple(word.box for word in words[5:10])
    answer = Answer(
        Page("a", 1, "a.pdf"), "failed", (words[7].box,), 0.9, "Site B failed its inspections", row, 7
    )
    heads = (words[2].box,)
    lines = (words[0].box, words[5].box)
    return Located(answer, 7, 8, sure, in_passage, heads, lines, (0.1, 1.0))


def with_answer(*, sure: bool, in_passage: float = 0.9) -> Highlight:
    page, query = content(TEXT), "which inspection went wrong?"
    vectors = ENCODER.encode_queries([query])[0], ENCODER.encode_pages([page])[0]
    return highlight(query, vectors[0], page, vectors[1], located(sure=sure, in_passage=in_passage))


def test_the_answer_is_lit_before_its_passage_its_heads_and_the_words_of_the_question() -> None:
    result = with_answer(sure=True)
    kinds = [region.kind for region in result.regions]
    assert kinds == ["answer", *["passage"] * 5, "head", "word", "word"]
    strengths = [region.strength for region in result.regions]
    assert strengths == sorted(strengths, reverse=True)
    assert strengths[0] == 1
    assert result.answer is not None
    assert [result.snippet[a:b] for a, b in result.snippet_matches] == ["failed"]


def test_if_the_words_are_not_sure_their_passage_is_lit_as_the_answer_and_none_is_given() -> None:
    result = with_answer(sure=False)
    assert [region.kind for region in result.regions] == [*["answer"] * 5, "word", "word"]
    assert result.answer is None
    assert "inspections" in [result.snippet[a:b] for a, b in result.snippet_matches]


def test_a_passage_that_may_have_the_answer_is_lit_softly_before_the_words_of_the_question() -> None:
    result = with_answer(sure=False, in_passage=0.3)
    assert [region.kind for region in result.regions] == [*["passage"] * 5, "word", "word"]
    assert result.regions[0].strength == max(region.strength for region in result.regions)


def test_the_heat_of_an_answer_is_that_of_the_pages_lines_and_faint_lines_are_cold() -> None:
    warmth = answer_heat(located(sure=True))
    assert warmth.terms == ("answer",)
    assert warmth.values.tolist() == [[0.0, 1.0]]


def test_a_negation_is_lit_beside_other_words_only() -> None:
    text = "Site A did not pass\n" + "\n" * 5 + "Not a word of it"
    result = lit("which sites did not pass?", text)
    assert [r.box for r in result.regions if r.kind == "word"].count(content(text).words[3].box) == 1
    assert content(text).words[5].box not in [region.box for region in result.regions]
    assert len(next(term for term in result.terms if term.term == "not").regions) == 2  # counted all the same


def rows(*values: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Unit vectors in the plane whose cosine with (1, 0) is each value."""
    return np.array([(v, (1 - v * v) ** 0.5) for v in values], np.float32)


def regions(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([(0.1, 0.01 * i, 0.3, 0.01 * i + 0.01) for i in range(count)], np.float32)


ASKED = QueryEmbedding(rows(1.0), ("ships",), (True,))


def test_a_near_match_is_lit_only_where_it_stands_out() -> None:
    page = content("boats " * 3)
    clear = PageEmbedding(rows(*[0.1] * 12, 0.8), regions(13))
    assert [r.box[1] for r in highlight("ships", ASKED, page, clear).regions] == [float(np.float32(0.12))]
    level = PageEmbedding(rows(*[0.7] * 6, *[0.8] * 6), regions(12))
    assert highlight("ships", ASKED, page, level).regions == ()
    far = PageEmbedding(rows(*[0.01] * 12, 0.3), regions(13))
    assert highlight("ships", ASKED, page, far).regions == ()


def test_large_regions_are_never_highlighted() -> None:
    whole = regions(13)
    whole[12] = (0, 0, 1, 1)
    page = PageEmbedding(rows(*[0.1] * 12, 0.9), whole)
    assert highlight("ships", ASKED, content("boats"), page).regions == ()


def test_focus_goes_to_the_nearest_small_region_and_skips_vectors_without_a_place() -> None:
    places = regions(4)
    places[0] = (0, 0, 1, 1)
    places[1] = np.nan
    page = PageEmbedding(rows(0.9, 0.95, 0.2, 0.7), places)
    boxes = focus(ASKED, page)
    assert [round(box[1], 3) for box in boxes] == [0.03, 0.02, 0.0]


def test_heat_is_on_one_scale_for_the_question_and_only_for_words_that_were_found() -> None:
    """Ten regions; 'strong' stands out by .9 in one, 'weak' by .5 in another, 'absent' was not found."""
    boxes = np.array([[0.1 * i, 0.1, 0.1 * i + 0.08, 0.2] for i in range(10)], np.float32)
    vectors = np.zeros((10, 3), np.float32)
    vectors[2, 0], vectors[7, 1], vectors[:, 2] = 0.9, 0.5, 0.1
    query = QueryEmbedding(np.eye(3, dtype=np.float32), ("Strong", "weak", "absent"), (True, True, True))
    spot = (Region((0.2, 0.1, 0.28, 0.2), 1.0, "near"),)
    terms = (TermMatch("strong", spot), TermMatch("weak", spot), TermMatch("absent", ()))
    lit = Highlight(Page("d", 1, "d.pdf"), terms, spot, "", ())
    found = heat(query, PageEmbedding(vectors, boxes), lit)
    assert found.terms == ("strong", "weak")
    assert found.values[0].argmax() == 2
    assert found.values[0].max() == 1.0
    # Each stands alone above nine zeros: its excess over mean + deviation is a fixed share of its height.
    assert found.values[1].max() == pytest.approx(0.5 / 0.9, abs=1e-4)
    assert (found.values[:, [0, 1, 3]] == 0).all()


def test_there_is_no_heat_where_nothing_was_found() -> None:
    boxes = np.array([[0.1 * i, 0.1, 0.1 * i + 0.08, 0.2] for i in range(10)], np.float32)
    query = QueryEmbedding(np.eye(2, dtype=np.float32)[:1], ("word",), (True,))
    page = PageEmbedding(np.eye(10, 2, dtype=np.float32), boxes)
    nothing = Highlight(Page("d", 1, "d.pdf"), (TermMatch("word", ()),), (), "", ())
    assert heat(query, page, nothing).terms == ()
