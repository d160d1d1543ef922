"""The four tables of an index in LanceDB: connecting to them, creating them, and writing conditions and rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
from lancedb.index import FTS

from retrieval.errors import IndexDamaged
from retrieval.store import schema
from retrieval.store.locks import is_remote, write_lock
from retrieval.types import Fingerprint, Precision

NAMES = ("documents", "pages", "images", "ledger")
FRESH = timedelta(0)  # readers look for new versions at every query
TEXT_INDEX = FTS(
    base_tokenizer="icu", language="English", stem=True, remove_stop_words=False, with_position=True
)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables as LanceDB opens them.

    Rows of `pages` and `images` may belong to a document that is not listed: `Store` hides those, the tables do not.
    """

    documents: Any
    pages: Any
    images: Any
    ledger: Any

    @classmethod
    def open(cls, connection: Any) -> "Tables":
        """Open the tables of a connection. Raises what LanceDB raises."""
        return cls(**{name: connection.open_table(name) for name in NAMES})

    def by_name(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NAMES}


def connect(uri: str) -> Any:
    """Connect to the index at `uri`, so that every query sees the newest version."""
    return lancedb.connect(uri, read_consistency_interval=FRESH)


def exist(connection: Any) -> bool:
    """Whether there is an index: `create` makes the table `documents` last."""
    return "documents" in connection.list_tables().tables


def create(uri: str, connection: Any, encoder: Fingerprint, precision: Precision) -> None:
    """Create the tables unless they exist. Only empty tables are ever overwritten.

    Raises IndexBusy, and IndexDamaged if there are pages, images or a ledger, but no documents.
    """
    if not is_remote(uri):
        Path(uri).mkdir(parents=True, exist_ok=True)
    with write_lock(uri):
        if exist(connection):
            return
        present = connection.list_tables().tables
        filled = [name for name in present if connection.open_table(name).count_rows()]
        if filled:
            raise IndexDamaged(
                f"the index has no list of documents, but its {', '.join(sorted(filled))} are not empty",
                remedy=f"restore {uri} from a copy, or move it away and ingest again",
            )
        layouts = {
            "pages": schema.pages_schema(encoder, precision),
            "images": schema.images_schema(),
            "ledger": schema.ledger_schema(),
            "documents": schema.documents_schema(),
        }
        for name, layout in layouts.items():
            table = connection.create_table(name, schema=layout, mode="overwrite")
            if name == "pages":
                table.create_index("search_text", config=TEXT_INDEX)


def indices(table: Any, column: str) -> list[Any]:
    """Return LanceDB's descriptions of the indices on this one column; at most one as our code makes them."""
    return [index for index in table.list_indices() if index.columns == [column]]


def upsert(table: Any, rows: pa.Table, key: str) -> None:
    """Add rows, each in the place of the row that has the same `key`, if any."""
    table.merge_insert(key).when_matched_update_all().when_not_matched_insert_all().execute(rows)


def in_list(column: str, values: Sequence[str]) -> str:
    """Return a condition in SQL that is true for rows whose column has one of these values."""
    quoted = ", ".join("'" + value.replace("'", "''") + "'" for value in values)
    return f"{column} IN ({quoted})" if quoted else "false"
