"""BM25 over the pages' text in LanceDB: words, phrases, and words by their beginning."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from lancedb.query import BooleanQuery, FullTextQuery, MatchQuery, Occur, PhraseQuery

from retrieval.lru import LRU
from retrieval.store.documents import DocumentList
from retrieval.store.tables import Tables, in_list, indices
from retrieval.store.text_query import parse_text_query
from retrieval.text import words

PREFIX_PAGES = 500  # pages read for the words that begin with a prefix
PREFIX_WORDS = 20  # words that a prefix stands for at most
CACHED_PREFIXES = 256
SPARE_ROWS = 64  # rows read beyond the depth, as pages of a document that is being written match too


class TextSearch:
    """Safe to call from several threads."""

    def __init__(self, tables: Tables, documents: DocumentList) -> None:
        self._pages = tables.pages
        self._documents = documents
        self._expansions: LRU[str, tuple[int, tuple[str, ...]]] = LRU(
            CACHED_PREFIXES
        )  # prefix: version, words

    def search(
        self,
        query: str,
        depth: int,
        doc_ids: Sequence[str] | None,
        scanned: bool | None,
        without: frozenset[str] = frozenset(),
    ) -> list[tuple[str, float]]:
        text = self._full_text_query(query)
        if text is None:
            return []
        listed = self._documents.by_id()
        allowed = (listed.keys() if doc_ids is None else listed.keys() & set(doc_ids)) - without
        if not allowed:
            return []
        # A document's id in the condition costs about as much time as a row that is read and passed over. So
        # rows are read while there are fewer of them than ids: with 100,000 ids, 30 ms in place of 600.
        limit = (depth + SPARE_ROWS) * len(listed) // len(allowed)
        while doc_ids is None or limit <= len(allowed):
            rows = self._rows(text, limit, scanned)
            hits = [(row["page_id"], row["_score"]) for row in rows if row["doc_id"] in allowed]
            if len(hits) >= depth or len(rows) < limit:
                return hits[:depth]
            limit *= 4
        rows = self._rows(text, depth, scanned, in_list("doc_id", sorted(allowed)))
        return [(row["page_id"], row["_score"]) for row in rows]

    def _rows(
        self, text: FullTextQuery, limit: int, scanned: bool | None, condition: str = ""
    ) -> list[dict[str, Any]]:
        """Read the best rows, of listed and unlisted documents alike."""
        source = "" if scanned is None else f"source {'=' if scanned else '!='} 'ocr'"
        search = self._pages.search(text, query_type="fts")
        if where := " AND ".join(filter(None, (condition, source))):
            search = search.where(where, prefilter=True)
        rows: list[dict[str, Any]] = (
            search.select(["page_id", "doc_id", "_score"]).limit(limit).to_arrow().to_pylist()
        )
        return rows

    def _full_text_query(self, query: str) -> FullTextQuery | None:
        """Return LanceDB's query, or None if the question has no word."""
        parsed = parse_text_query(query)
        expansions = [word for prefix in parsed.prefixes for word in self.expand(prefix)]
        folded = " ".join([parsed.words, *expansions])
        if not folded:
            return None
        match = MatchQuery(folded, "search_text")
        if not parsed.phrases or not has_positions(self._pages):
            return match
        phrases = [PhraseQuery(phrase, "search_text") for phrase in parsed.phrases]
        return BooleanQuery([(Occur.SHOULD, clause) for clause in (match, *phrases)])

    def expand(self, prefix: str) -> tuple[str, ...]:
        version = self._documents.version()
        cached_version, expansion = self._expansions.get(prefix) or (-1, ())
        if cached_version == version or not prefix:
            return expansion
        pattern = "\\b" + re.escape(prefix).replace("'", "''")
        rows = self._pages.search().where(f"regexp_like(search_text, '{pattern}')").select(["search_text"])
        texts = rows.limit(PREFIX_PAGES).to_arrow()["search_text"].to_pylist()
        counts = Counter(word for text in texts for word in words(text) if word.startswith(prefix))
        expansion = tuple(word for word, _ in counts.most_common(PREFIX_WORDS))
        self._expansions.put(prefix, (version, expansion))
        return expansion


def has_positions(pages: Any) -> bool:
    """Whether the text index of the table `pages` knows the positions of words, which phrases need."""
    described = indices(pages, "search_text")
    return bool(described and described[0].index_details.get("with_position"))
