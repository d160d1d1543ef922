"""An answer with its citations, and the events in which it arrives."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from retrieval.types import Box, Page

Status = Literal[
    "grounded",  # every sentence has a quote that is on its page
    "partly",  # some sentences have none, or one that does not support their numbers
    "refused",  # no answer: `reason` says why
    "extractive",  # no model wrote: the answer consists of words of the pages
]
Reason = Literal[
    "",
    "nothing_matches",  # no page is likely enough to answer: no model was asked
    "not_in_pages",  # the model found no answer in the pages
    "no_quote_verified",  # no quote of the answer was found on its page
    "no_model",  # the profile has no `answer:`
    "model_unreachable",  # the model's server did not answer
    "model_failed",  # the model's answer broke off, or cannot be read
]
Match = Literal[
    "exact",  # the same letters and digits are on the page
    "fuzzy",  # the same words are on the page, except for filler words and letters that OCR confuses
    "image_only",  # the place has no words to compare with: boxes are a region by similarity, not a quote
    "none",  # not found on the page
]
Problem = Literal[
    "not_found",  # the quote is not on the page
    "no_quote",  # the sentence has no quote
    "no_such_page",  # the model named a page that it was not given
    "number",  # a number of the sentence is not in its quotes
    "negation",  # the sentence and its quotes differ in a negation, or the quote was cut off behind one
    "unchecked",  # the place has no words, so nothing could be compared
]
NoteKind = Literal[
    "gate_off",  # the index is not calibrated: whether the pages answer was not checked before the model was asked
    "context_truncated",  # the server has read less than it was sent
    "text_cut",  # not all text of the pages was sent
    "cut_short",  # the answer ended at the limit of its length
    "closest",  # the pages are the closest ones, but not an answer
    "server",  # what the server failed with
]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the reader of an answer should know: `kind` for programs, `text` in words."""

    kind: NoteKind
    text: str


@dataclass(frozen=True, slots=True)
class GivenPage:
    """A page that the model was given, or would have been given. `n`, from 1, is its name in citations."""

    n: int
    page: Page
    score: float
    confidence: float | None  # the probability that it answers; None without a calibration


@dataclass(frozen=True, slots=True)
class Citation:
    """One quote behind a sentence of the answer, as it was found on its page."""

    start: int  # the sentence is characters [start, end) of the answer's text
    end: int
    n: int | None  # the page among those given; None if the sentence names none of them
    page: Page | None
    cited_text: str  # as on the page; as the model gave it if it was not found
    match: Match
    boxes: tuple[Box, ...] = ()  # one for each line; empty for "none"
    problems: tuple[Problem, ...] = ()

    @property
    def verified(self) -> bool:
        return self.match in ("exact", "fuzzy") and not self.problems


@dataclass(frozen=True, slots=True)
class PagesChosen:
    """The first event: the pages, before the model has read them."""

    pages: tuple[GivenPage, ...]
    searched: int  # pages that were searched
    found: int  # candidates among them


@dataclass(frozen=True, slots=True)
class Delta:
    """More of the answer's text. `text` extends what earlier events gave."""

    text: str


@dataclass(frozen=True, slots=True)
class CitedAnswer:
    """The last event: the whole answer, with everything that the events before it have said."""

    query: str
    text: str
    status: Status
    reason: Reason
    message: str  # one sentence for people about status and reason
    chosen: PagesChosen
    citations: tuple[Citation, ...] = ()
    notes: tuple[Note, ...] = ()
    model: str = ""  # that wrote the text; "" if none did
    usage: Mapping[str, int] = field(
        default_factory=dict
    )  # prompt_tokens and completion_tokens, as the server says
    seconds: float = 0.0

    @property
    def pages(self) -> tuple[GivenPage, ...]:
        return self.chosen.pages


Event = PagesChosen | Delta | Citation | CitedAnswer
