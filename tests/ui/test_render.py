"""Highlights that are drawn into a page's image: each kind has its own look, and the answer is above all others."""

import numpy as np
from PIL import Image

from retrieval.types import Highlight, Page, Region, RegionKind
from ui.api.render import FILL, OUTLINE, highlighted_page

SIZE = 1000  # pixels of the page's sides


def drawn(*regions: Region) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    highlight = Highlight(Page("a", 1, "a.pdf"), (), regions, "", ())
    return np.asarray(highlighted_page(Image.new("RGB", (SIZE, SIZE), "white"), highlight))


def region(kind: RegionKind, y: float, strength: float = 1.0) -> Region:
    return Region((0.1, y, 0.3, y + 0.04), strength, kind)


def test_each_kind_has_its_own_fill_and_only_the_answer_and_its_heads_an_outline() -> None:
    kinds: tuple[RegionKind, ...] = ("answer", "head", "word", "near")
    page = drawn(*(region(kind, 0.1 * i) for i, kind in enumerate(kinds, start=1)))
    for i, kind in enumerate(kinds, start=1):
        middle, edge = page[100 * i + 20, 200], page[100 * i + 20, 98]
        assert tuple(middle) == FILL.get(kind, (255, 255, 255)), kind
        assert (tuple(edge) == OUTLINE.get(kind)) == (kind in ("answer", "head")), kind


def test_the_answer_is_drawn_over_the_words_and_its_outline_is_wider_than_a_heads() -> None:
    page = drawn(region("answer", 0.1), region("word", 0.1), region("head", 0.5))
    assert tuple(page[120, 200]) == FILL["answer"]

    def width(row: int) -> int:
        return int((page[row, :200] == OUTLINE["answer"]).all(axis=-1).sum())

    assert width(120) > width(520) > 0


def test_the_sentence_around_the_answer_is_pale_and_has_no_outline() -> None:
    page = drawn(region("passage", 0.1, strength=0.6), region("answer", 0.5))
    assert int(page[120, 200].sum()) > int(page[520, 200].sum())
    assert not (page[80:160] == OUTLINE["answer"]).all(axis=-1).any()


def test_without_an_answer_the_strongest_words_get_an_outline() -> None:
    page = drawn(*(region("word", 0.1 * i, 1 - 0.1 * i) for i in range(1, 6)))
    outlined = [tuple(page[100 * i + 20, 98]) == OUTLINE["word"] for i in range(1, 6)]
    assert outlined == [True, True, True, False, False]


def test_weaker_words_are_paler() -> None:
    page = drawn(region("word", 0.1), region("word", 0.3, strength=0.2))
    assert int(page[320, 200].sum()) > int(page[120, 200].sum())
