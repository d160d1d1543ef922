"""The settings: one closed schema. A profile (YAML) holds only what differs from these defaults."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from configs.errors import ProfileError

PROFILES = Path(__file__).parent / "profiles"


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Words(Model):
    """The embedded default: words in context by a small ONNX model that ships with Folioscope."""

    kind: Literal["words"] = "words"
    model: str = "folio-1"
    """A folder of `models/`, or a path to a folder with the same files."""
    threads: PositiveInt | None = None
    """Threads that encode at once; None: one per core."""


class Hashing(Model):
    """Deterministic vectors from word hashes: for tests and smoke runs."""

    kind: Literal["hashing"] = "hashing"
    dim: PositiveInt = 64


EncoderSettings = Annotated[Words | Hashing, Field(discriminator="kind")]


class Text(Model):
    """A small ONNX cross-encoder that reads the page's text in windows."""

    kind: Literal["text"] = "text"
    model: str = "folio-1"
    windows: PositiveInt = 2
    """Windows of a page that are read, where the first stage found most."""
    threads: PositiveInt | None = None


class Overlap(Model):
    """Share of the query's words that the page holds: for tests."""

    kind: Literal["overlap"] = "overlap"


class NoReranker(Model):
    kind: Literal["none"] = "none"


RerankerSettings = Annotated[Text | Overlap | NoReranker, Field(discriminator="kind")]


class Ingest(Model):
    renderer: Literal["pymupdf", "poppler"] = "pymupdf"
    """The first renderer; the other one is tried where it fails on a file."""
    dpi: PositiveInt = 150
    """Resolution of the stored page images, dots per inch."""
    ocr: Literal["rapidocr", "tesseract", "off"] = "rapidocr"
    workers: PositiveInt | None = None
    """Processes that rasterize and read; None: one per core."""
    seconds_per_page: PositiveFloat = 60.0
    """A page that takes longer ends its worker, and its document fails as 'too slow'."""
    memory_mb: PositiveInt = 1500
    """Address space that one worker may add; more ends it, and the document fails as 'too much memory'."""
    max_pages: PositiveInt = 20_000
    """Documents with more pages are refused."""
    max_pixels: PositiveInt = 50_000_000
    """Larger pages are rasterized at a lower resolution so that they have this many pixels; images larger
    than eight times this are refused."""
    max_file_mb: PositiveInt = 2_000
    thumbnail_px: PositiveInt = 260
    """Width of the thumbnails."""


class Search(Model):
    depth: PositiveInt = 100
    """Candidates that the first stage ranks."""
    rerank: PositiveInt = 20
    """Candidates that the reranker may read, best first."""
    budget_ms: PositiveInt = 1500
    """The reranker stops after the batch that passes this; the rest keep their first-stage place."""
    top: PositiveInt = 10
    text_weight: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of BM25 in the first stage; the rest is the vectors'."""
    rerank_weight: NonNegativeFloat = 0.5
    """Weight of the reranker's z-score beside 1 for the first stage's."""
    exact_mb: PositiveInt = 1024
    """Vectors up to this many MiB are kept in memory and scanned whole; past it they are streamed from disk."""
    max_query_chars: PositiveInt = 2_000


class Settings(Model):
    encoder: EncoderSettings = Words()
    reranker: RerankerSettings = Text()
    ingest: Ingest = Ingest()
    search: Search = Search()


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load(profile: str) -> Settings:
    """The settings of a shipped profile by name, or of a YAML file by path."""
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ProfileError(
            f"no profile {profile!r}: choose one of {', '.join(profile_names())}, "
            "or give the path of a .yaml file"
        ) from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"profile {path} cannot be read: {error}") from error
    try:
        return Settings.model_validate(data)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, e['loc']))}: {e['msg']} (given: {e['input']!r})" for e in error.errors()
        ]
        raise ProfileError("\n".join([f"profile {path} does not fit:", *lines])) from error
