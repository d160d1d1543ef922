"""JSON for other programs: strict, so that every parser reads it. The only place that turns a value into JSON text."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from pathlib import PurePath
from typing import Any


def json_text(value: Any, indent: int | None = None) -> str:
    """Return `value` as JSON, on one line unless `indent` is given.

    JSON has no infinity and no NaN: both become null. Dataclasses become objects, sequences and sets arrays, paths
    strings, times ISO 8601 to the second. Raises TypeError for anything else that JSON cannot hold.
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(name): _plain(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
        case PurePath():
            return str(value)
        case datetime():
            return value.isoformat(timespec="seconds")
        case _ if is_dataclass(value) and not isinstance(value, type):
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case _ if hasattr(value, "tolist"):  # numpy's scalars and arrays
            return _plain(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
