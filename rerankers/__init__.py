"""Cross-encoders that read question and page together. `load` picks one by its kind, and imports only that one."""

from typing import assert_never

import configs.settings as configs
from retrieval.types import Reranker


def load(settings: configs.RerankerSettings) -> Reranker | None:
    """The reranker of the profile; None where the profile has none."""
    match settings:
        case configs.Text():
            from rerankers.text import TextReranker

            return TextReranker(settings)
        case configs.Overlap():
            from rerankers.overlap import OverlapReranker

            return OverlapReranker()
        case configs.NoReranker():
            return None
        case _:
            assert_never(settings)
