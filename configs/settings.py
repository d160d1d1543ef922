"""The settings: one closed schema. A profile (a YAML file) names only the settings that differ from these defaults."""

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
    """The default encoder: one vector for each word in its context, from a small ONNX model that ships with
    Folioscope."""

    kind: Literal["words"] = "words"
    model: str = "folio-2"
    """The name of a folder in `models/`, or the path of a folder with the same files."""
    threads: PositiveInt | None = None
    """Threads that encode in parallel. None: one for each core."""


class Hashing(Model):
    """Deterministic vectors from hashes of words, for tests and smoke runs."""

    kind: Literal["hashing"] = "hashing"
    dim: PositiveInt = 64
    """Dimensions of a vector."""


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
    """The settings that all models on torch have."""

    model: str
    """The id of a model on the hub (owner/name), or the path of its folder."""
    revision: str | None = None
    """A commit, tag or branch of the model on the hub. None: the main branch."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    """The device that the model runs on: cuda, cuda:1, mps or cpu. auto: the first GPU, or the processor if there is
    none."""
    dtype: Dtype = "bfloat16"
    """The number format of the weights and activations."""
    attn: Attention = "auto"
    """The implementation of attention. auto: flash_attention_2 if it is installed and can run, otherwise sdpa."""
    batch_tokens: PositiveInt = 16_384
    """The most tokens in a batch, padding included. It is halved whenever the device runs out of memory."""


class ColVision(TorchModel):
    """Encoders of the ColPali family through colpali-engine: one vector for each patch of a page image."""

    kind: Literal["colvision"] = "colvision"
    family: ColFamily
    """The model's architecture. It is never guessed from the model's name."""
    max_visual_tokens: PositiveInt | None = None
    """The most image tokens of a page, for families whose number of tokens can be set. None: as published."""
    query_prefix: str | None = None
    """Text before every query. None: as the family was trained ("Query: " for ColPali, ColQwen2, ColQwen2.5 and
    ColSmol)."""
    bidirectional: bool = False
    """Attend in both directions: for weights that were trained without the causal mask (EVIE)."""
    truncate_dim: PositiveInt | None = None
    """Keep only this many leading dimensions, for models trained for it (Matryoshka: EVIE). None: keep all."""
    pool_factor: PositiveInt = 1
    """Cluster a page's image vectors into this many times fewer. 1: keep all of them."""


class NeoMME(TorchModel):
    """NeoMME: a multi-vector and a dense embedding in one pass, small enough for a processor."""

    kind: Literal["neomme"] = "neomme"
    model: str = "Hcompany/NeoMME-260M-Retriever"
    max_side: PositiveInt | None = 1024
    """The longest side of a page image in pixels; 1024 gives about 770 vectors for an A4 page. None: the stored
    size."""
    pool_factor: PositiveInt = 1
    """Cluster a page's image vectors into this many times fewer. 1: keep all of them."""


EncoderSettings = Annotated[Words | Hashing | ColVision | NeoMME, Field(discriminator="kind")]


class Text(Model):
    """A small ONNX cross-encoder that reads the page's text in windows."""

    kind: Literal["text"] = "text"
    model: str = "folio-2"
    """The name of a folder in `models/`, or the path of a folder with the same files."""
    windows: PositiveInt = 2
    """Windows of each page that are read: those where the first stage matched best."""
    threads: PositiveInt | None = None
    """Threads that read in parallel. None: one for each core."""


class Overlap(Model):
    """Scores a page by the share of the query's words that it contains, for tests."""

    kind: Literal["overlap"] = "overlap"


class Cache(Model):
    """A cache of the vision tower's output for each page, which does not depend on the question."""

    memory_mb: NonNegativeInt = 2_048
    """Size of the cache in memory, in MB; a page takes 2 to 13 MB. 0: no cache in memory."""
    disk_mb: NonNegativeInt = 0
    """Size of the cache on disk, in MB, for pages that do not fit into memory. 0: no cache on disk."""
    folder: str = "~/.cache/folioscope/features"
    """The folder of the cache on disk."""


class VisionRerankerSettings(TorchModel):
    """The settings that all cross-encoders of page images have."""

    kind: str
    max_visual_tokens: PositiveInt = 768
    """The most image tokens of a page. More tokens show finer detail and take longer."""
    cache: Cache = Cache()
    """The cache of vision features."""


class Qwen3VL(VisionRerankerSettings):
    """Qwen3-VL-Reranker 2B or 8B."""

    kind: Literal["qwen3_vl"] = "qwen3_vl"
    model: str = "Qwen/Qwen3-VL-Reranker-2B"
    instruction: str = "Given a search query, retrieve relevant candidates that answer the query."
    """The task that the model is given, in English whatever the documents' language. The default is the model card's;
    an instruction for your own documents may gain 1 to 5%."""


class JinaM0(VisionRerankerSettings):
    """Jina Reranker M0. Its licence, CC-BY-NC-4.0, forbids commercial use."""

    kind: Literal["jina_m0"] = "jina_m0"
    model: str = "jinaai/jina-reranker-m0"
    prefix_mb: NonNegativeInt = 0
    """Size of the cache of pages' keys and values, in MB; a page takes 22 MB. For a cached page only the question's
    tokens are computed. 0: no cache."""


class MonoQwen2VL(VisionRerankerSettings):
    """MonoQwen2-VL: Qwen2-VL that answers True or False for a question and a page."""

    kind: Literal["mono_qwen2_vl"] = "mono_qwen2_vl"
    model: str = "lightonai/MonoQwen2-VL-v0.1"


class SentenceTransformers(TorchModel):
    """Any CrossEncoder of sentence-transformers, for page images (LightOn-rerank, Nemotron-rerank) or for texts."""

    kind: Literal["sentence_transformers"] = "sentence_transformers"
    reads: Literal["image", "text"] = "image"
    """What the model is given of a page."""
    batch_size: PositiveInt = 8
    """Pages in a batch."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the model. Allow it only for owners whom you trust like your own code."""


class HttpModel(Model):
    """The settings that all models behind HTTP have."""

    url: str
    """The server's address without a path: http://gpu-room:8000, https://api.jina.ai."""
    model: str
    """The model's name on the server."""
    key_variable: str | None = None
    """The environment variable that holds the service's API key. None: no key is sent."""
    timeout_s: PositiveFloat = 20.0
    """Seconds until a request without an answer counts as failed."""
    retries: NonNegativeInt = 2
    """How often a failed request is sent again."""
    max_image_kb: PositiveInt = 1_500
    """Page images of more kB are scaled down before they are sent."""
    break_after: PositiveInt = 3
    """After this many failures in a row no request is sent for `rest_s` seconds: searches keep the first stage's
    order, questions get no written answer."""
    rest_s: PositiveFloat = 30.0
    """Seconds without requests after `break_after` failures."""


class HttpReranker(HttpModel):
    """The settings that all rerankers behind HTTP have."""

    reads: Literal["image", "text"] = "image"
    """What the server is sent of a page."""
    max_text_chars: PositiveInt = 20_000
    """Longer page texts are cut off after this many characters."""


class Remote(HttpReranker):
    """A reranker behind HTTP: vLLM, SGLang, or a service with the protocol of Jina or Cohere."""

    kind: Literal["remote"] = "remote"
    dialect: Literal["vllm", "sglang", "jina", "cohere"]
    """The server's protocol."""
    instruction: str | None = None
    """The task that the model is given, for SGLang with Qwen3-VL-Reranker. None: the server's own."""
    batch_size: PositiveInt = 16
    """Pages in a request."""
    parallel: PositiveInt = 2
    """Requests that are sent at the same time."""


class Listwise(HttpReranker):
    """A listwise reranker: a (vision-language) chat model behind an OpenAI-compatible server that orders pages."""

    kind: Literal["listwise"] = "listwise"
    timeout_s: PositiveFloat = 60.0
    """Seconds until a request without an answer counts as failed."""
    max_image_kb: PositiveInt = 600
    """Page images of more kB are scaled down before they are sent."""
    max_text_chars: PositiveInt = 3_000
    """Longer page texts are cut off after this many characters."""
    window: Annotated[int, Field(ge=2, le=50)] = 8
    """Pages in a request, 2 to 50. The window moves from the last pages to the first."""
    stride: PositiveInt = 4
    """Pages by which the window moves."""
    passes: PositiveInt = 1
    """How often the window moves over all pages."""
    max_tokens: PositiveInt = 512
    """The most tokens of an answer. A model that reasons before it answers needs more."""


class NoReranker(Model):
    """No reranker: searches end with the first stage's order."""

    kind: Literal["none"] = "none"


SingleReranker = Annotated[
    Text | Overlap | Qwen3VL | JinaM0 | MonoQwen2VL | SentenceTransformers | Remote | Listwise,
    Field(discriminator="kind"),
]


class Ensemble(Model):
    """Several rerankers that score the same pages; their scores are fused."""

    kind: Literal["ensemble"] = "ensemble"
    members: Annotated[tuple[SingleReranker, ...], Field(min_length=2)]
    """The rerankers, at least two."""
    fuse: Literal["z_scores", "rrf", "borda"] = "z_scores"
    """The method of fusion: a mean of z-scores, reciprocal rank fusion, or Borda counts."""
    weights: tuple[PositiveFloat, ...] = ()
    """A weight for each member. Empty: all members count the same."""


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


class Answer(HttpModel):
    """A model that writes answers with citations: a (vision-language) chat model behind an OpenAI-compatible server,
    such as vLLM, SGLang, llama.cpp or Ollama."""

    timeout_s: PositiveFloat = 120.0
    """Seconds that an answer may take, from the request to its last word."""
    retries: NonNegativeInt = 1
    """How often a request is sent again if it fails before its first word."""
    pages: Annotated[int, Field(ge=1, le=5)] = 3
    """The most pages that the model is given, 1 to 5."""
    gate: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The model is asked only if a page answers with at least this probability. It has no effect on an index that is
    not calibrated, and the answer then says so."""
    images: bool = True
    """Send the pages' images. false: only their text, for models that cannot see."""
    image_px: Annotated[int, Field(ge=256, le=4096)] = 1400
    """Pixels of the longer side of an image that is sent; 1,400 are about 1,300 visual tokens in a Qwen-VL."""
    max_image_kb: PositiveInt = 800
    """Page images of more kB are scaled down before they are sent."""
    text_tokens: NonNegativeInt = 6_000
    """The most tokens of page text in a request, estimated, shared by its pages. 0: only images are sent."""
    max_tokens: PositiveInt = 1_024
    """The most tokens of an answer. A model that reasons before it answers needs more."""
    context_tokens: PositiveInt | None = None
    """The server's context size in tokens: page text is cut until prompt and answer fit. Ollama's default is 4,096 on
    GPUs below 24 GiB, and it cuts longer prompts without an error. None: unknown. What the server reports to have read
    is checked in any case."""
    format: Literal["auto", "json_schema", "text"] = "auto"
    """The form in which the model answers. json_schema: the server enforces a JSON schema. text: sentences with quotes
    in brackets. auto: JSON, and text if the server rejects the schema."""


class Ingest(Model):
    """How documents are read into an index."""

    vectors: Literal["float16", "int8"] = "float16"
    """The number format of a new index's vectors; an existing index keeps its own. int8 halves disk and memory, and
    moves 0.5 to 2% of exact search's best pages to another place (docs/recall.md)."""
    renderer: Literal["pymupdf", "poppler"] = "pymupdf"
    """The renderer that is tried first. If it fails on a file, the other one is tried."""
    dpi: PositiveInt = 150
    """Resolution of the stored page images, in dots per inch."""
    ocr: Literal["rapidocr", "tesseract", "off"] = "rapidocr"
    """The OCR engine for pages without a usable text layer and for pictures with text. off: their text is not read."""
    workers: PositiveInt | None = None
    """Processes that rasterize and read pages. None: one for each core."""
    seconds_per_page: PositiveFloat = 60.0
    """Seconds that a page may take. If one takes longer, its worker is ended and its document fails as 'too slow'."""
    memory_mb: PositiveInt = 1500
    """MB of address space that a worker may add. A worker that needs more is ended, and its document fails as 'too
    much memory'."""
    max_pages: PositiveInt = 20_000
    """Documents with more pages are rejected."""
    max_pixels: PositiveInt = 50_000_000
    """Pages with more pixels are rasterized at a lower resolution, so that they have this many. Images with more than
    eight times as many are rejected."""
    max_file_mb: PositiveInt = 2_000
    """Files of more MiB are rejected."""
    thumbnail_px: PositiveInt = 260
    """Width of the thumbnails, in pixels."""


class Fold(Model):
    """A rule that folds near-duplicates of a better page into that page."""

    kind: Literal["fold"] = "fold"
    likeness: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Two pages are near-duplicates if they share at least this fraction of their word shingles; above 0, at most 1."""
    among: PositiveInt = 50
    """Pages that are compared, best first."""


class PerDocument(Model):
    """A rule that limits the pages of each document: surplus pages move behind the others."""

    kind: Literal["per_document"] = "per_document"
    most: PositiveInt = 3
    """Pages of a document that keep their place."""


class NewerFirst(Model):
    """A rule that orders pages with nearly the same score by the date of their document, newest first."""

    kind: Literal["newer_first"] = "newer_first"
    within: PositiveFloat = 0.25
    """The largest difference that counts as nearly the same score, in standard deviations of the candidates' scores."""


Rule = Annotated[Fold | PerDocument | NewerFirst, Field(discriminator="kind")]


class NoSparse(Model):
    """No sparse vectors: the first stage has vectors and BM25 over pages."""

    kind: Literal["none"] = "none"


class Passages(Model):
    """BM25 over passages of 150 words: a page scores as its best passage, so that words which stand together count
    more than words which are scattered over the page. It needs no model."""

    kind: Literal["passages"] = "passages"


class Splade(Model):
    """Learned sparse vectors of a page's windows and of the question, from a small ONNX model that does not ship
    (docs/recall.md says how to make its folder)."""

    kind: Literal["splade"] = "splade"
    model: str
    """The path of the model's folder."""
    threads: PositiveInt | None = None
    """Threads that encode in parallel. None: one for each core."""


class VSplade(TorchModel):
    """V-SPLADE: learned sparse vectors of page images, for pages whose text is not read or is read badly. The model
    reads pages only; a question is looked up in a table, on the processor. English."""

    kind: Literal["v_splade"] = "v_splade"
    model: str = "naver/v-splade-quality"
    """naver/v-splade-quality, naver/v-splade-efficient (a page has fewer tokens, so that searches read less), or the
    path of a folder with one of them."""


SparseSettings = Annotated[NoSparse | Passages | Splade | VSplade, Field(discriminator="kind")]


class Search(Model):
    """How a question is searched for."""

    depth: PositiveInt = 100
    """Candidates that the first stage ranks."""
    rerank: PositiveInt = 20
    """The most candidates that the reranker scores, best first."""
    budget_ms: PositiveInt = 1500
    """Milliseconds after which the reranker starts no further batch. Candidates that it has not scored keep their
    place in the first stage's order."""
    top: PositiveInt = 10
    """Pages in a result."""
    fuse: Literal["z_scores", "log_odds"] = "z_scores"
    """The method by which the first stage fuses vectors and BM25. z_scores: a mean of z-scores, for any encoder.
    log_odds: a sum of the scores as they are, times coefficients that were fitted for the encoder; its model must carry
    them, as folio-2 does."""
    text_weight: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Weight of BM25 for `fuse: z_scores`, 0 to 1. The vectors' weight is the rest."""
    sparse: SparseSettings = NoSparse()
    """A third kind of evidence, from lists that 'folioscope ingest' and 'serve' keep up to date. Searches do without it
    until the lists have all documents, and say so."""
    sparse_weight: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Weight of the sparse vectors for `fuse: z_scores`, 0 to 1. The others share the rest."""
    reference_weight: NonNegativeFloat = 2.0
    """Standard deviations that the first stage adds to the score of a page that the question names ("page 14",
    "Figure 2"). 0: none."""
    rerank_weight: NonNegativeFloat = 0.5
    """Weight of the reranker's z-score. The weight of the first stage's is 1."""
    gate: PositiveFloat | None = None
    """Nothing is reranked if the best page leads the second by at least this much in the first stage's fused score.
    None: always rerank. 'folioscope tune' finds a gate that costs no quality."""
    weak: Annotated[float, Field(ge=0, le=1)] = 0.1
    """If the index is calibrated and no page answers with at least this probability, the result says that nothing
    matches well."""
    answer: Annotated[float, Field(ge=0, le=1)] = 0.6
    """The least probability of an answer that is shown above the pages."""
    lit: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The least probability that a sentence or row has the answer, for it to be lit: softly below 0.6."""
    rules: tuple[Rule, ...] = ()
    """Rules that are applied after reranking, in this order: fold, per_document, newer_first."""
    recall_ms: NonNegativeFloat = 50.0
    """All vectors are scanned if that takes at most this many milliseconds on this machine for a question of 20
    vectors. Otherwise the inverted index of 'folioscope index build' is used, if there is one."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    """The GPU that keeps all vectors and scans them exactly: cuda or cuda:1. cpu: no GPU. auto: the first GPU, if there
    is one and a model of the profile runs on torch."""
    gpu_mb: PositiveInt = 1024
    """MiB of that GPU's memory for vectors, which take 2 bytes a value. A larger index is searched without the GPU."""
    exact_mb: PositiveInt = 1024
    """MiB of memory for vectors that are scanned, and as much again for the vectors of candidates from the inverted
    index. Vectors that do not fit are streamed from disk."""
    max_query_chars: PositiveInt = 2_000
    """Longer questions, in characters, are rejected."""


class Serve(Model):
    """How the server shares the models and the disk among the users of the web page, REST and MCP."""

    at_once: PositiveInt = 2
    """Searches that use the models at the same time. Set 1 if the models share one GPU."""
    waiting: PositiveInt = 64
    """Length of the queue of searches. Further searches are rejected because the server is busy."""
    waiting_each: PositiveInt = 32
    """Searches of one user, or of one address without a login, that may be in the queue."""
    undo_s: NonNegativeFloat = 10.0
    """Seconds in which a removal can be undone."""
    max_library_gb: NonNegativeFloat = 0
    """Uploads are rejected if the uploaded files would exceed this many GiB. 0: the only limit is the disk."""
    uploads_at_once: PositiveInt = 16
    """Uploads that the server receives at the same time. It rejects further ones, which may be tried again."""
    upload_idle_s: PositiveFloat = 60.0
    """Seconds in which an upload must make progress (16 KiB, or its end). Otherwise the server drops it."""


class Settings(Model):
    """All settings of a profile."""

    encoder: EncoderSettings = Words()
    """The model that makes vectors of pages and questions."""
    reranker: RerankerSettings = Text()
    """The model that scores the first stage's best candidates."""
    answer: Answer | None = None
    """The model that writes answers from the best pages. None: answers are quotes of the pages, if there are any."""
    ingest: Ingest = Ingest()
    search: Search = Search()
    serve: Serve = Serve()


def profile_names() -> list[str]:
    """Return the names of the profiles that ship, in alphabetical order."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load_profile(profile: str) -> Settings:
    """Return the settings of a shipped profile, by its name, or of a YAML file, by its path.

    Raises ProfileError if there is no such profile, if it cannot be read, or if it does not fit the schema.
    """
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ProfileError(
            f"there is no profile {profile!r}: choose one of {', '.join(profile_names())}, "
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
        raise ProfileError(
            "\n".join([f"profile {path} does not fit the settings' schema:", *lines])
        ) from error
