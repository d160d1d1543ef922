"""Answers a question from the pages of a search result: asks a model, or refuses, or quotes what the reader found.

Before a model is asked, the pages must be likely enough to answer. Afterwards every quote is looked up on its page, so
the reader sees which sentences stand there and which do not. Without a model nothing is written: the answer consists of
the result's own `answers`, which are words of the pages.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import configs.settings as configs
from retrieval.answering.client import ChatClient, Completion, Form
from retrieval.answering.parse import Claim, Evidence, Part, Reply
from retrieval.answering.prompt import Prompt, build_prompt
from retrieval.answering.quotes import QuotablePage, denies, missing_numbers, negation_differs
from retrieval.answering.types import (
    Citation,
    CitedAnswer,
    Delta,
    Event,
    GivenPage,
    Match,
    Note,
    PagesChosen,
    Problem,
    Reason,
    Status,
)
from retrieval.errors import AnswerFailed, BadReply, NotFound
from retrieval.types import Box, Hit, Page, PageContent, SearchResult

DEFAULT_PAGES = 3  # the closest pages that are shown if there is no model
ENOUGH_OF_BEST = 0.2
"""Further pages are given to the model if they are at least this fraction as likely to answer as the likeliest one."""
SIMILAR_REGIONS = 3  # the most regions of a place without words
MARGIN_TOKENS = 256  # of the context, for what chat templates add
NEAR_LIMIT = 8  # tokens between a truncated prompt and the limit that truncated it

MESSAGES: dict[Reason, str] = {
    "nothing_matches": "No page is likely to answer this question, so no model was asked. These are the closest pages.",
    "not_in_pages": "The model found no answer on the pages that match best.",
    "no_quote_verified": "The model wrote an answer, but none of its quotes is on the pages: do not rely on it.",
    "no_model": "This server has no model that writes answers.",
    "model_unreachable": "The model that writes answers did not answer.",
    "model_failed": "The model's answer broke off, or cannot be read.",
}


class PageSource(Protocol):
    """Reads pages of an index; `Searcher` is one."""

    def focused(self, query: str, pages: Sequence[Page]) -> list[PageContent]:
        """Return the pages' content with the places closest to the query (`focus`). Raises NotFound."""
        ...


@dataclass(slots=True)
class _Draft:
    """An answer that is being written."""

    given: list[GivenPage]
    contents: list[PageContent]
    text: str = ""
    citations: list[Citation] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    quotable: dict[int, QuotablePage] = field(default_factory=dict)  # by n


class Answerer:
    """Answers questions by one profile's settings. Safe to call from several threads."""

    def __init__(self, settings: configs.Answer | None, clock: Callable[[], float] = time.monotonic) -> None:
        """settings: None if no model writes answers. clock: as in `ChatClient`.

        Raises AnswerFailed if the environment variable with the server's key is not set.
        """
        self._settings = settings
        self._client = ChatClient(settings, clock) if settings else None

    @property
    def model(self) -> str:
        """The name of the model that writes answers; "" if there is none."""
        return self._settings.model if self._settings else ""

    def answer(
        self, result: SearchResult, source: PageSource, stop: threading.Event | None = None
    ) -> CitedAnswer:
        """Return the answer to `result.query`; see `steps`."""
        *_, last = self.steps(result, source, stop)
        assert isinstance(last, CitedAnswer)
        return last

    def steps(
        self, result: SearchResult, source: PageSource, stop: threading.Event | None = None
    ) -> Iterator[Event]:
        """Yield the pages, then text and citations as they arrive, then the whole answer.

        result: of the last step of a search. source: reads its pages. stop: set it when nobody waits any more. A model
        that fails does not raise: the answer says so.
        """
        began = time.perf_counter()
        for event in self._steps(result, source, stop):
            if isinstance(event, CitedAnswer):
                yield replace(event, seconds=time.perf_counter() - began)
            else:
                yield event

    def _steps(
        self, result: SearchResult, source: PageSource, stop: threading.Event | None
    ) -> Iterator[Event]:
        hits = choose_hits(result, self._settings.pages if self._settings else DEFAULT_PAGES)
        contents = _read_present(source, result.query, [hit.page for hit in hits])
        present = {content.page.page_id for content in contents}
        given = [
            GivenPage(n, hit.page, hit.score, hit.confidence)
            for n, hit in enumerate((hit for hit in hits if hit.page.page_id in present), start=1)
        ]
        chosen = PagesChosen(
            tuple(given),
            next((stage.pages for stage in result.stages if stage.name == "recall"), 0),
            len(result.candidates),
        )
        yield chosen
        draft = _Draft(given, contents)
        settings, client = self._settings, self._client
        if settings is None or client is None:
            yield from _extract(result, chosen, draft, "no_model")
            return
        if not given or _is_too_weak(result, settings.gate):
            yield _refusal(result, chosen, draft, "nothing_matches")
            return
        if all(hit.confidence is None for hit in result.hits):
            draft.notes.append(
                Note(
                    "gate_off",
                    "The index is not calibrated, or nothing was reranked: whether the pages answer was not checked "
                    "before the model was asked.",
                )
            )
        completion, reply = Completion(), Reply()
        prompts: list[Prompt] = []

        def prompt(form: Form) -> Prompt:
            prompts.append(self._prompt(settings, result.query, contents, form))
            return prompts[-1]

        try:
            for piece in client.stream(prompt, completion, stop):
                yield from _apply(reply.feed(piece), draft, source)
        except AnswerFailed as error:
            draft.notes.append(Note("server", error.message))
            if draft.text:  # what was written stays, and its status says that it is not complete
                yield from _apply(reply.end(), draft, source)
                yield self._finished(result, chosen, draft, completion, "model_failed")
            else:
                is_bad = isinstance(error, BadReply)
                yield from _extract(result, chosen, draft, "model_failed" if is_bad else "model_unreachable")
            return
        yield from _apply(reply.end(), draft, source)
        draft.notes += _notes(prompts[-1], completion, settings)
        reason: Reason = ""
        if not draft.text:
            reason = "not_in_pages" if reply.not_found else "model_failed"
        elif reply.is_broken or completion.finish == "stopped":
            reason = "model_failed"
        yield self._finished(result, chosen, draft, completion, reason)

    def _prompt(
        self, settings: configs.Answer, question: str, contents: Sequence[PageContent], form: Form
    ) -> Prompt:
        """Return the prompt, with less page text if that is needed to fit into the server's context."""
        text_tokens = settings.text_tokens
        while True:
            prompt = build_prompt(
                question,
                contents,
                form=form,
                images=settings.images,
                image_px=settings.image_px,
                image_kb=settings.max_image_kb,
                text_tokens=text_tokens,
            )
            room = (settings.context_tokens or 10**9) - settings.max_tokens - MARGIN_TOKENS
            if prompt.tokens <= room or not text_tokens:
                return prompt
            text_tokens = max(0, min(text_tokens - (prompt.tokens - room), int(text_tokens * 0.9)))

    def _finished(
        self,
        result: SearchResult,
        chosen: PagesChosen,
        draft: _Draft,
        completion: Completion,
        reason: Reason,
    ) -> CitedAnswer:
        """Return the answer with the status that its citations give it."""
        verified = [citation.verified for citation in draft.citations]
        status: Status = "partly"
        if not draft.text:
            status = "refused"
        elif not any(citation.match != "none" for citation in draft.citations):
            status, reason = "refused", reason or "no_quote_verified"
        elif all(verified) and not reason:
            status = "grounded"
        marked = len({c.start for c in draft.citations if not c.verified})
        message = MESSAGES.get(reason, "")
        if status == "grounded":
            message = "Every sentence has a quote that was found on its page."
        elif status == "partly":
            count = f"{marked} sentence{'s are' if marked != 1 else ' is'} not supported by a quote from its page."
            message = f"{message} {count if marked else ''}".strip()
        elif status == "refused":
            draft.notes += _closest(chosen)
        if not draft.text and any(note.kind == "context_truncated" for note in draft.notes):
            message += " It has not read all that it was sent: see the note."
        return CitedAnswer(
            result.query, draft.text, status, reason, message, chosen, tuple(draft.citations), tuple(draft.notes),
            self.model, completion.usage,
        )  # fmt: skip


def choose_hits(result: SearchResult, most: int) -> list[Hit]:
    """Return the pages to read: the likeliest ones, or the first ones if the index is not calibrated.

    Pages that are far less likely to answer than the likeliest are left out.
    """
    likely = [hit for hit in result.hits if hit.confidence is not None]
    if not likely:
        return list(result.hits[:most])
    likely.sort(key=lambda hit: (-(hit.confidence or 0.0), hit.rank))
    least = ENOUGH_OF_BEST * (likely[0].confidence or 0.0)
    return [hit for hit in likely[:most] if (hit.confidence or 0.0) >= least]


def _is_too_weak(result: SearchResult, gate: float) -> bool:
    confidences = [hit.confidence for hit in result.hits if hit.confidence is not None]
    return any(note.kind == "weak_match" for note in result.notes) or (
        bool(confidences) and max(confidences) < gate
    )


def _read_present(source: PageSource, query: str, pages: Sequence[Page]) -> list[PageContent]:
    """Return those of `pages` that are still in the index."""
    try:
        return source.focused(query, pages) if pages else []
    except NotFound:
        contents = []
        for page in pages:
            try:
                contents += source.focused(query, [page])
            except NotFound:
                continue
        return contents


def _apply(parts: Sequence[Part | Claim], draft: _Draft, source: PageSource) -> Iterator[Event]:
    """Add parts of a reply to the draft, and yield their events."""
    for part in parts:
        if isinstance(part, Part):
            between = " " if draft.text and len(draft.text) == _end_of_claims(draft) else ""
            draft.text += between + part.text
            yield Delta(between + part.text)
        else:
            start = len(draft.text) - len(part.text)
            citations = list(cite(part, start, draft.given, draft.contents, draft.quotable, source))
            draft.citations += citations
            yield from citations


def _end_of_claims(draft: _Draft) -> int:
    return draft.citations[-1].end if draft.citations else 0


def cite(
    claim: Claim,
    start: int,
    given: Sequence[GivenPage],
    contents: Sequence[PageContent],
    quotable: dict[int, QuotablePage],
    source: PageSource,
) -> Iterator[Citation]:
    """Yield a citation for each quote of a claim, or one that says that it has none.

    start: of the claim in the answer's text. quotable: a cache by n, of the pages that were prepared already.
    """
    end = start + len(claim.text)
    evidence = [item for item in claim.evidence if item.quote]
    if not evidence:
        handles = [item.page for item in claim.evidence if 1 <= item.page <= len(given)]
        n = handles[0] if handles else None
        page = given[n - 1].page if n else None
        yield Citation(start, end, n, page, "", "none", (), ("no_quote",))
        return
    citations = [
        _look_up(item, start, end, given, contents, quotable, source, claim.text) for item in evidence
    ]
    quotes = [c.cited_text for c in citations if c.match in ("exact", "fuzzy")]
    shared: list[Problem] = []
    if quotes and missing_numbers(claim.text, quotes):
        shared.append("number")
    if quotes and negation_differs(claim.text, quotes):
        shared.append("negation")
    for citation in citations:
        problems = tuple(dict.fromkeys((*citation.problems, *(shared if citation.match != "none" else ()))))
        yield replace(citation, problems=problems)


def _look_up(
    item: Evidence,
    start: int,
    end: int,
    given: Sequence[GivenPage],
    contents: Sequence[PageContent],
    quotable: dict[int, QuotablePage],
    source: PageSource,
    sentence: str,
) -> Citation:
    if not 1 <= item.page <= len(given):
        return Citation(start, end, None, None, item.quote, "none", (), ("no_such_page",))
    page, content = given[item.page - 1].page, contents[item.page - 1]
    if item.page not in quotable:
        quotable[item.page] = QuotablePage(content)
    found = quotable[item.page].find(item.quote)
    if found:
        problems: tuple[Problem, ...] = (
            ("negation",) if found.behind_negation and not denies(sentence) else ()
        )
        match: Match = "exact" if found.exact else "fuzzy"
        return Citation(start, end, item.page, page, found.text, match, found.boxes, problems)
    wordless = _wordless_regions(source, f"{sentence} {item.quote}", content)
    if wordless or not content.words:
        return Citation(start, end, item.page, page, item.quote, "image_only", wordless, ("unchecked",))
    return Citation(start, end, item.page, page, item.quote, "none", (), ("not_found",))


def _wordless_regions(source: PageSource, text: str, content: PageContent) -> tuple[Box, ...]:
    """Return the places of the page closest to `text`, if no word stands in the closest one: a chart or a picture."""
    try:
        (focused,) = source.focused(text[:1000], [content.page])
    except NotFound:
        return ()
    regions = focused.focus[:SIMILAR_REGIONS]
    if not regions or _has_word(regions[0], content):
        return ()
    return tuple(region for region in regions if not _has_word(region, content))


def _has_word(region: Box, content: PageContent) -> bool:
    x0, y0, x1, y1 = region
    return any(
        x0 <= (word.box[0] + word.box[2]) / 2 <= x1 and y0 <= (word.box[1] + word.box[3]) / 2 <= y1
        for word in content.words
    )


def _extract(result: SearchResult, chosen: PagesChosen, draft: _Draft, reason: Reason) -> Iterator[Event]:
    """Yield the result's own answers as lines of text with their citations, or a refusal if it has none."""
    present = {
        content.page.page_id: given.n for content, given in zip(draft.contents, draft.given, strict=True)
    }
    for answer in result.answers:
        line = ("\n" if draft.text else "") + answer.text
        start = len(draft.text) + len(line) - len(answer.text)
        draft.text += line
        yield Delta(line)
        n = present.get(answer.page.page_id)
        citation = Citation(start, len(draft.text), n, answer.page, answer.text, "exact", answer.boxes)
        draft.citations.append(citation)
        yield citation
    if not draft.text:
        yield _refusal(result, chosen, draft, reason)
        return
    message = f"{MESSAGES[reason]} These are words of the pages that are likely to answer."
    yield CitedAnswer(
        result.query,
        draft.text,
        "extractive",
        reason,
        message,
        chosen,
        tuple(draft.citations),
        tuple(draft.notes),
    )


def _refusal(result: SearchResult, chosen: PagesChosen, draft: _Draft, reason: Reason) -> CitedAnswer:
    message = MESSAGES[reason] if chosen.pages else "No page matches this question, so no model was asked."
    notes = (*draft.notes, *_closest(chosen))
    return CitedAnswer(result.query, "", "refused", reason, message, chosen, (), notes)


def _closest(chosen: PagesChosen) -> list[Note]:
    """Return what to know about the pages of a refusal."""
    text = f"The closest of the {chosen.searched:,} pages that were searched; none is a verified answer."
    return [Note("closest", text)] if chosen.pages else []


def _notes(prompt: Prompt, completion: Completion, settings: configs.Answer) -> list[Note]:
    notes = []
    read = completion.usage.get("prompt_tokens", 0)
    if read and is_truncated(read, prompt, settings.context_tokens):
        notes.append(
            Note(
                "context_truncated",
                f"The server has read {read:,} tokens of about {prompt.tokens:,} that it was sent, so parts of the "
                "pages or of the question are missing. Its context is too small: raise it (Ollama: "
                "OLLAMA_CONTEXT_LENGTH), or set answer.context_tokens in the profile.",
            )
        )
    if prompt.is_text_cut and settings.text_tokens:
        notes.append(
            Note(
                "text_cut",
                "The pages have more text than the model was sent: only the parts that match best.",
            )
        )
    if completion.finish == "length":
        notes.append(
            Note(
                "cut_short",
                f"The answer ended at its limit of {settings.max_tokens:,} tokens (answer.max_tokens).",
            )
        )
    return notes


def is_truncated(read: int, prompt: Prompt, context_tokens: int | None) -> bool:
    """Return whether a server that says it has read `read` tokens must have cut the prompt.

    Either fewer tokens are impossible, or the number is suspiciously close to a limit: Ollama cuts prompts to the size
    of its context, and newer versions to half of it (a power of two in either case, unless it was set otherwise).
    """
    if read < prompt.least_tokens:
        return True
    limits = [2**power for power in range(10, 18)]
    limits += [context_tokens, context_tokens // 2] if context_tokens else []
    return prompt.tokens > 1.1 * read and any(abs(read - limit) <= NEAR_LIMIT for limit in limits)
