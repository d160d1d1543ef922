"""Upkeep of the tables: what an interrupted writer left, indices, small files and old versions."""

from collections.abc import Collection
from datetime import timedelta

from lancedb.index import BTree

from retrieval.store.tables import TEXT_INDEX, Tables, in_list, indices
from retrieval.store.text_search import has_positions

ID_INDEX_FROM = 50_000
"""Rows from which an index of page ids is worth its upkeep: without it, finding one page of a million takes 57 ms, with
it 9 ms; of 10,000 pages, 5 ms either way."""
KEEP_VERSIONS = timedelta(minutes=10)  # readers of an older version may still need its files


def optimize(tables: Tables) -> None:
    """Create or update the indices, merge small files, and drop old versions."""
    if not has_positions(tables.pages):
        tables.pages.create_index("search_text", config=TEXT_INDEX, replace=True)
    index_ids(tables)
    for table in tables.by_name().values():
        table.optimize(cleanup_older_than=KEEP_VERSIONS)


def index_ids(tables: Tables) -> None:
    """Create the indices of page ids if the tables are large and have none."""
    for table in (tables.pages, tables.images):
        if table.count_rows() >= ID_INDEX_FROM and not indices(table, "page_id"):
            table.create_index("page_id", config=BTree())


def sweep(tables: Tables, listed: Collection[str]) -> None:
    """Delete pages and images of documents that are not listed (doc_ids), as an interrupted writer leaves them."""
    for table in (tables.pages, tables.images):
        stored = set(table.search().select(["doc_id"]).to_arrow()["doc_id"].unique().to_pylist())
        if strays := stored.difference(listed):
            table.delete(in_list("doc_id", sorted(strays)))
