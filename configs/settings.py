"""The settings: one closed schema. A profile (YAML) holds only what differs from these defaults."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
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


Dtype = Literal["bfloat16", "float16", "float32"]
Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]
ColFamily = Literal[
    "colpali",
    "colqwen2",
    "colqwen2_5",
    "colqwen3",
    "colqwen3_5",
    "colidefics3",
    "colmodernvbert",
    "colgemma3",
]


class TorchModel(Model):
    """What all models that run on torch have in common."""

    model: str
    """The id of a model on the hub (owner/name), or the path of its folder."""
    revision: str | None = None
    """The hub's commit, tag or branch; None: its main branch."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """cuda, cuda:1, mps, cpu; auto: the first GPU, or else the processor."""
    dtype: Dtype = "bfloat16"
    attn: Attention = "auto"
    """auto: flash_attention_2 where it is installed and can run, or else sdpa."""
    batch_tokens: PositiveInt = 16_384
    """Padded tokens of one batch; halves itself when the device's memory is exceeded."""


class ColVision(TorchModel):
    """ColPali and its kin through colpali-engine: page images to one vector per patch."""

    kind: Literal["colvision"] = "colvision"
    family: ColFamily
    """The architecture: it is never guessed from the model's name."""
    max_visual_tokens: PositiveInt | None = None
    """Image tokens of a page at most, for the families that let one choose; None: as the model was published."""
    query_prefix: str | None = None
    """None: as the family was trained ("Query: " for ColPali, ColQwen2, ColQwen2.5 and ColSmol)."""
    bidirectional: bool = False
    """For weights trained without the causal mask (EVIE)."""
    truncate_dim: PositiveInt | None = None
    """Keep the first dimensions only, for models trained for it (Matryoshka: EVIE)."""
    pool_factor: PositiveInt = 1
    """Image vectors are clustered to so many times fewer."""


class NeoMME(TorchModel):
    """NeoMME: multi-vector and dense embedding in one pass, small enough for a processor."""

    kind: Literal["neomme"] = "neomme"
    model: str = "Hcompany/NeoMME-260M-Retriever"
    max_side: PositiveInt | None = 1024
    """Longest side of the page in pixels: 1024 makes about 770 vectors of an A4 page. None: as it is stored."""
    pool_factor: PositiveInt = 1


EncoderSettings = Annotated[Words | Hashing | ColVision | NeoMME, Field(discriminator="kind")]


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


class Cache(Model):
    """What the vision tower made of a page is kept for the next question: it does not depend on the question."""

    memory_mb: NonNegativeInt = 2_048
    """0: nothing is kept in memory. A page takes 2 to 13 MB."""
    disk_mb: NonNegativeInt = 0
    """What memory has no room for is looked up here; 0: nothing is kept on disk."""
    folder: str = "~/.cache/folioscope/features"


class VisionRerankerSettings(TorchModel):
    """What the cross-encoders that look at the page have in common."""

    kind: str
    max_visual_tokens: PositiveInt = 768
    """Image tokens of a page at most: more is slower and sharper."""
    cache: Cache = Cache()


class Qwen3VL(VisionRerankerSettings):
    """Qwen3-VL-Reranker 2B or 8B."""

    kind: Literal["qwen3_vl"] = "qwen3_vl"
    model: str = "Qwen/Qwen3-VL-Reranker-2B"
    instruction: str = "Given a search query, retrieve relevant candidates that answer the query."
    """The model card's; in English, whatever the documents' language. One of your own may gain 1 to 5%."""


class JinaM0(VisionRerankerSettings):
    """Jina Reranker M0: CC-BY-NC-4.0, not for commercial use."""

    kind: Literal["jina_m0"] = "jina_m0"
    model: str = "jinaai/jina-reranker-m0"
    prefix_mb: NonNegativeInt = 0
    """Memory for the keys and values of whole pages, 22 MB each: a known page then costs only the question's tokens."""


class MonoQwen2VL(VisionRerankerSettings):
    """MonoQwen2-VL: Qwen2-VL asked for True or False."""

    kind: Literal["mono_qwen2_vl"] = "mono_qwen2_vl"
    model: str = "lightonai/MonoQwen2-VL-v0.1"


class SentenceTransformers(TorchModel):
    """Any CrossEncoder of sentence-transformers, for page images (LightOn-rerank, Nemotron-rerank) or texts."""

    kind: Literal["sentence_transformers"] = "sentence_transformers"
    reads: Literal["image", "text"] = "image"
    batch_size: PositiveInt = 8
    trust_remote_code: bool = False
    """Run Python code that comes with the model: only from owners you trust as you trust your own code."""


class HttpModel(Model):
    """What all models behind HTTP have in common."""

    url: str
    """Where the server is, without a path: http://gpu-room:8000, https://api.jina.ai."""
    model: str
    reads: Literal["image", "text"] = "image"
    key_variable: str | None = None
    """The environment variable that holds the key for the service."""
    timeout_s: PositiveFloat = 20.0
    retries: NonNegativeInt = 2
    max_image_kb: PositiveInt = 1_500
    """Larger page images are sent smaller."""
    max_text_chars: PositiveInt = 20_000
    break_after: PositiveInt = 3
    """After so many failures in a row nothing is asked for `rest_s` seconds: the first stage's order stands."""
    rest_s: PositiveFloat = 30.0


class Remote(HttpModel):
    """A reranker behind HTTP: vLLM, SGLang, or a service that speaks Jina's or Cohere's protocol."""

    kind: Literal["remote"] = "remote"
    dialect: Literal["vllm", "sglang", "jina", "cohere"]
    instruction: str | None = None
    """For SGLang with Qwen3-VL-Reranker."""
    batch_size: PositiveInt = 16
    parallel: PositiveInt = 2
    """Requests at once."""


class Listwise(HttpModel):
    """A (vision-language) chat model behind an OpenAI-compatible server, asked to put pages in order."""

    kind: Literal["listwise"] = "listwise"
    timeout_s: PositiveFloat = 60.0
    max_image_kb: PositiveInt = 600
    max_text_chars: PositiveInt = 3_000
    window: Annotated[int, Field(ge=2, le=50)] = 8
    """Pages of one request; the window moves from the last pages to the first, `stride` at a time."""
    stride: PositiveInt = 4
    passes: PositiveInt = 1
    max_tokens: PositiveInt = 512
    """Of an answer; a model that thinks aloud needs more."""


class NoReranker(Model):
    kind: Literal["none"] = "none"


SingleReranker = Annotated[
    Text | Overlap | Qwen3VL | JinaM0 | MonoQwen2VL | SentenceTransformers | Remote | Listwise,
    Field(discriminator="kind"),
]


class Ensemble(Model):
    """Several rerankers that read the same pages, fused."""

    kind: Literal["ensemble"] = "ensemble"
    members: Annotated[tuple[SingleReranker, ...], Field(min_length=2)]
    fuse: Literal["z_scores", "rrf", "borda"] = "z_scores"
    weights: tuple[PositiveFloat, ...] = ()
    """One for each member; none: all count the same."""


RerankerSettings = Annotated[
    Text
    | Overlap
    | Qwen3VL
    | JinaM0
    | MonoQwen2VL
    | SentenceTransformers
    | Remote
    | Listwise
    | Ensemble
    | NoReranker,
    Field(discriminator="kind"),
]


class Ingest(Model):
    vectors: Literal["float16", "int8"] = "float16"
    """How a new index stores its vectors. int8: half the disk and memory, for 0.5 to 2% of exact search's best pages
    in another place (docs/recall.md). An index that is there keeps its own."""
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


class Fold(Model):
    """Pages that repeat a better one stand with it."""

    kind: Literal["fold"] = "fold"
    likeness: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of their word shingles that two pages have in common, from which one is folded."""
    among: PositiveInt = 50
    """Pages that are compared, best first."""


class PerDocument(Model):
    """At most so many pages of a document, the others behind."""

    kind: Literal["per_document"] = "per_document"
    most: PositiveInt = 3


class NewerFirst(Model):
    """Of pages with nearly the same score, those of newer documents first."""

    kind: Literal["newer_first"] = "newer_first"
    within: PositiveFloat = 0.25
    """The difference of scores that counts as nearly the same, in standard deviations of the candidates'."""


Rule = Annotated[Fold | PerDocument | NewerFirst, Field(discriminator="kind")]


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
    reference_weight: NonNegativeFloat = 2.0
    """Standard deviations by which the first stage lifts a page whose place the question names ("page 14", "Figure 2");
    0: not at all."""
    rerank_weight: NonNegativeFloat = 0.5
    """Weight of the reranker's z-score beside 1 for the first stage's."""
    gate: PositiveFloat | None = None
    """Lead of the best page over the second, in the first stage's fused score, from which nothing is reranked.
    None: always rerank. 'folioscope tune' finds one that costs no quality."""
    weak: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Where the index is calibrated: if no page is this likely to answer, it is said that nothing matches well."""
    rules: tuple[Rule, ...] = ()
    """What happens after reranking, in this order: fold, per_document, newer_first."""
    recall_ms: NonNegativeFloat = 50.0
    """While a scan of all vectors takes no longer than this, on this machine and for a question of 20 vectors, all are
    scanned; past that the inverted lists that 'folioscope index build' makes are used, where they are there."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """A GPU on which all vectors are kept and scanned, exactly: cuda, cuda:1; cpu: on none; auto: on the first one,
    where there is one and a model of the profile runs on torch."""
    gpu_mb: PositiveInt = 1024
    """Memory of that GPU, in MiB, for vectors: 2 bytes a value. An index of more is searched as without it."""
    exact_mb: PositiveInt = 1024
    """Memory, in MiB, for vectors that are scanned, and as much again for those of pages that lists lead to. More than
    fit are streamed from disk."""
    max_query_chars: PositiveInt = 2_000


class Serve(Model):
    """How the web page, REST and MCP share the models."""

    at_once: PositiveInt = 2
    """Searches that use the models at once; 1 where they share one GPU."""
    waiting: PositiveInt = 64
    """Searches that may wait; one more is told that the server is busy."""
    waiting_each: PositiveInt = 32
    """Searches of one user, or of one address without a login, that may wait."""
    undo_s: NonNegativeFloat = 10.0
    """Seconds in which a removal can be taken back."""
    max_library_gb: NonNegativeFloat = 0
    """Uploads are refused past so many GiB of uploaded files; 0: while the disk has room."""
    uploads_at_once: PositiveInt = 16
    """Uploads that may arrive at the same time; one more is told to come again in a moment."""
    upload_idle_s: PositiveFloat = 60.0
    """Seconds in which an upload must make progress (16 KiB, or its end); then it is given up."""


class Settings(Model):
    encoder: EncoderSettings = Words()
    reranker: RerankerSettings = Text()
    ingest: Ingest = Ingest()
    search: Search = Search()
    serve: Serve = Serve()


def profile_names() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(profile: str) -> Settings:
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
