"""LanceDB imported without two things that it loads and Folioscope never uses: half of a short command's time.

Nothing is lost: whoever asks for either later on gets it.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrieval.store import Store


def store_class() -> type["Store"]:
    """Import `retrieval.store`, and LanceDB with it, and return its Store."""
    if "lancedb" not in sys.modules:
        with _without_pandas():
            import pyarrow.dataset  # noqa: F401
        with _without_checked_calls():
            import lancedb  # noqa: F401
    from retrieval.store import Store

    return Store


@contextmanager
def _without_pandas() -> Iterator[None]:
    """Hide pandas, where it is not loaded yet.

    PyArrow looks for it once, when its first scalar is made, to find out whether that came from a data frame. If it
    finds none it looks again when somebody converts to pandas.
    """
    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        yield
    finally:
        sys.meta_path.remove(hidden)


class _Hidden(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ImportError("pandas is not needed")
        return None


@contextmanager
def _without_checked_calls() -> Iterator[None]:
    """Leave functions as they are that would get a check of their arguments by pydantic.

    The client of Lance's REST catalogue has hundreds of them, and making their checks is most of its import.
    Folioscope opens folders and object stores, and calls none of them.
    """
    import pydantic

    kept = pydantic.validate_call

    def unchecked(function: Callable[..., Any] | None = None, /, **_: Any) -> Any:
        return function or (lambda each: each)

    vars(pydantic)["validate_call"] = unchecked
    try:
        yield
    finally:
        vars(pydantic)["validate_call"] = kept
