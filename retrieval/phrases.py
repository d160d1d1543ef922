"""Says which quoted phrases of a question stand on no page: a ranking without them would look like an answer."""

from collections.abc import Callable, Mapping, Sequence

from retrieval.store.store import Store
from retrieval.store.text_query import quoted_phrases
from retrieval.text import words
from retrieval.types import EVERYTHING, Filter, Note, Page, PageContent

PAGES = 8
"""The best pages of BM25 for a phrase: if it is on none of these, it is on none."""

Read = Callable[[Sequence[Page]], Mapping[str, PageContent]]


def missing_phrases(query: str, where: Filter, store: Store, read: Read) -> tuple[Note, ...]:
    """Return a note for each quoted phrase that stands on none of the pages that `where` allows.

    read: returns contents by page_id. Words are compared folded, so that case, accents and punctuation do not matter.
    """
    notes = []
    for phrase in quoted_phrases(query):
        wanted = words(phrase)
        if wanted and not any(
            _stands_in(wanted, words(text)) for text in _likeliest(phrase, where, store, read)
        ):
            text = f"“{phrase}” stands on no page{' that passes the filters' if where != EVERYTHING else ''}."
            notes.append(Note("missing_phrase", text))
    return tuple(notes)


def _likeliest(phrase: str, where: Filter, store: Store, read: Read) -> list[str]:
    """Return the texts of the pages that are likeliest to have the phrase."""
    documents = {document.doc_id: document for document in store.documents(where)}
    found = store.search_text(f'"{phrase}"', PAGES, list(documents), where.scanned)
    pages = []
    for page_id, _ in found:
        doc_id, _, number = page_id.rpartition("#")
        if doc_id in documents:
            pages.append(Page(doc_id, int(number), documents[doc_id].name))
    return [content.text for content in read(pages).values()]


def _stands_in(wanted: Sequence[str], text: Sequence[str]) -> bool:
    length = len(wanted)
    return any(list(text[at : at + length]) == list(wanted) for at in range(len(text) - length + 1))
