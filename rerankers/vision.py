"""The parts that all cross-encoders of the Qwen-VL kind share.

The vision tower reads each page once, whatever the question; its output is cached by the page's image and the model.
Then the language model reads question and page together, in batches by tokens, and the score comes from the last
position. The other pages of a batch affect a page's score only in the rounding that padding causes.
"""

import hashlib
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from configs.cores import available_cores
from configs.models import cautions
from rerankers.features import FeatureCache, Features
from retrieval.errors import RerankerFailed, first_line
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement
from retrieval.models.pixels import Pixels
from retrieval.models.token_batches import TokenBudget, pad, sent
from retrieval.types import PageContent
from retrieval.work_notes import note

if TYPE_CHECKING:
    import configs.settings as configs

IMAGE = "<|image_pad|>"
MOST_THREADS = 16


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A checkpoint that is ready to run, and where it came from."""

    model: Any
    processor: Any
    placement: Placement
    folder: Path


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPage:
    """A page as patches for the vision tower or, if they were cached, as the tower's features."""

    key: str
    grid: Tensor  # (3,): frames, rows, columns of patches
    pixels: Tensor | None  # (patches, values); None if `features` are there
    features: Features | None = None


class VisionReranker(ABC):
    """Scores with one checkpoint. Subclasses define the prompt, and how the last position becomes a score."""

    listwise = False

    def __init__(self, settings: "configs.VisionRerankerSettings", loaded: LoadedModel) -> None:
        placement = loaded.placement
        self.placement = placement
        self.name = f"{settings.kind} ({settings.model})"
        self.notes = (f"{settings.model}: {placement}", *cautions(settings.model))
        self.batch_pages = 32 if placement.device.type == "cuda" else 2
        self._model, self._processor = loaded.model, loaded.processor
        self._tokenizer = loaded.processor.tokenizer
        self._image_token = int(self._tokenizer.convert_tokens_to_ids(IMAGE))
        self._pixels = Pixels(loaded.processor.image_processor, placement)
        self._merge = loaded.processor.image_processor.merge_size
        self._budget = TokenBudget(settings.batch_tokens)
        tokens = settings.max_visual_tokens
        self._limit_image(tokens)
        revision = checkpoints.revision_of(loaded.folder)
        identity = f"{revision}-{tokens}-{placement.precision}-{placement.attention}"
        self._identity = hashlib.sha256(identity.encode()).hexdigest()[:12]
        cache = settings.cache
        cache_folder = Path(cache.folder).expanduser() if cache.folder else None
        self.cache = FeatureCache(cache.memory_mb, cache.disk_mb, cache_folder)
        self._lock = threading.Lock()
        self._cache_writes: list[Future[None]] = []
        self._threads = ThreadPoolExecutor(min(MOST_THREADS, available_cores()), thread_name_prefix="pages")

    @abstractmethod
    def prompt(self, query: str) -> str:
        """Returns the text of a pair, with IMAGE once in the page's place."""

    @abstractmethod
    def probabilities(self, hidden: Tensor) -> Tensor:
        """Returns the probabilities (n,) that the pages answer the question, in float32.

        hidden: (n, hidden), the states of each pair's last position.
        """

    @property
    def core(self) -> Any:
        """The model without its head."""
        return self._model.model

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """Returns a probability for each page, in the order given. Raises RerankerFailed if the model fails.

        Calls from several threads take turns, because they would compete for the same memory.
        """
        with self._lock:
            try:
                scores = self._scores(query, pages)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                first = first_line(error)
                raise RerankerFailed(f"{self.name} failed ({type(error).__name__}: {first})") from error
        if not all(map(math.isfinite, scores)):
            raise RerankerFailed(
                f"{self.name} gave a score that is not finite in {self.placement.precision}",
                remedy="set dtype: bfloat16 or float32",
            )
        return scores

    def _scores(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        query = checkpoints.without_special_tokens(query, self._tokenizer)
        self._wait_for_cache()
        prepared = self._prepare_all(pages)
        patches = [0 if page.pixels is None else len(page.pixels) // self._merge**2 for page in prepared]
        features = self._budget.run_batches(patches, lambda batch: self._tower([prepared[i] for i in batch]))
        rows = [self.tokens(query, self._image_tokens(page)) for page in prepared]

        def batch_scores(batch: Sequence[int]) -> list[float]:
            with torch.inference_mode():
                hidden = self._last(
                    [rows[i] for i in batch], [prepared[i] for i in batch], [features[i] for i in batch]
                )
                return [float(score) for score in self.probabilities(hidden)]

        return self._budget.run_batches([len(row) for row in rows], batch_scores)

    def hidden(self, query: str, pages: Sequence[PageContent]) -> Tensor:
        """Returns the states (n, hidden) of each pair's last position, with gradients for weights that require them.

        For training. The vision tower runs without gradients, and on one page at a time, so that its output does not
        depend, even in rounding, on which pages were cached.
        """
        query = checkpoints.without_special_tokens(query, self._tokenizer)
        self._wait_for_cache()
        prepared = self._prepare_all(pages)
        features = [
            {name: tensor.clone() for name, tensor in made.items()}  # autograd cannot use inference tensors
            for page in prepared
            for made in self._tower([page])
        ]
        rows = [self.tokens(query, self._image_tokens(page)) for page in prepared]

        def batch_states(batch: Sequence[int]) -> list[Tensor]:
            return list(
                self._last(
                    [rows[i] for i in batch], [prepared[i] for i in batch], [features[i] for i in batch]
                )
            )

        return torch.stack(self._budget.run_batches([len(row) for row in rows], batch_states))

    def _wait_for_cache(self) -> None:
        """Wait until the features of earlier calls are in the cache: threads copy them there in the background."""
        writes, self._cache_writes = self._cache_writes, []
        for write in writes:
            write.result()

    def tokens(self, query: str, image_tokens: int) -> Tensor:
        """Returns the ids (length,) of the pair's prompt, with `image_tokens` tokens in the page's place."""
        text = self.prompt(query).replace(IMAGE, IMAGE * image_tokens, 1)
        ids: Tensor = self._tokenizer(text, return_tensors="pt")["input_ids"][0]
        return ids

    def _prepare_all(self, pages: Sequence[PageContent]) -> list[PreparedPage]:
        prepared = list(self._threads.map(self._prepare, pages))
        if pages:
            cached = sum(page.features is not None for page in prepared)
            note("features of {} of {} pages were cached", cached, len(prepared))
        return prepared

    def _prepare(self, page: PageContent) -> PreparedPage:
        key = f"{page.image_key()}-{self._identity}"
        features = self.cache.get(key)
        if features is not None:
            return PreparedPage(key, features["grid"], None, features)
        made = self._pixels.prepare(page.image())
        return PreparedPage(key, made["image_grid_thw"][0], made["pixel_values"])

    def _tower(self, pages: Sequence[PreparedPage]) -> list[Features]:
        """Returns the features of each page: cached ones, and new ones of the vision tower, which are then cached."""
        fresh = [page for page in pages if page.pixels is not None]
        made: dict[int, Features] = {}
        if fresh:
            grids = torch.stack([page.grid for page in fresh]).to(self.placement.device)
            with torch.inference_mode():
                pixels = torch.cat([self._pixels.values(p.pixels) for p in fresh if p.pixels is not None])
                out = self.core.get_image_features(pixels, grids, return_dict=True)
            for k, page in enumerate(fresh):
                features = {"grid": page.grid, "pooled": out.pooler_output[k]}
                for level, layer in enumerate(getattr(out, "deepstack_features", None) or ()):
                    features[f"deep{level}"] = layer[k]
                self._cache_writes.append(self._threads.submit(self.cache.put, page.key, features))
                made[id(page)] = features
        return [made[id(page)] if page.features is None else page.features for page in pages]

    def _last(
        self, rows: Sequence[Tensor], pages: Sequence[PreparedPage], features: Sequence[Features]
    ) -> Tensor:
        """Returns the states (n, hidden) of the last position of these pairs, computed as one batch."""
        hidden: Tensor = self.core(
            **self._batch(rows),
            image_grid_thw=torch.stack([page.grid for page in pages]).to(self.placement.device),
            mm_encoder_outputs={"image": self.encoder_output(features)},
            use_cache=False,
            return_dict=True,
        ).last_hidden_state
        return hidden[:, -1]

    def _image_tokens(self, page: PreparedPage) -> int:
        return int(page.grid.prod()) // int(self._merge) ** 2

    def _batch(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """Returns the model's input sequences for these rows, padded on the left, on the device."""
        ones = [torch.ones_like(row) for row in rows]
        kinds = [(row == self._image_token).int() for row in rows]
        sequences = {"input_ids": rows, "attention_mask": ones, "mm_token_type_ids": kinds}
        padded = pad(sequences, True, int(self._tokenizer.pad_token_id))
        return {name: tensor.to(self.placement.device) for name, tensor in padded.items()}

    def encoder_output(self, features: Sequence[Features]) -> Any:
        """Returns the pages' features as the model expects them from its vision tower."""
        device = self.placement.device
        return BaseModelOutputWithPooling(pooler_output=[sent(f["pooled"], device) for f in features])

    def _limit_image(self, tokens: int) -> None:
        image = self._processor.image_processor
        side = (image.patch_size * image.merge_size) ** 2
        image.size = {"shortest_edge": 4 * side, "longest_edge": tokens * side}


def load_model(
    settings: "configs.VisionRerankerSettings", model_class: Any, processor_class: Any, **options: Any
) -> LoadedModel:
    """Returns model and processor of these settings. options: as of `checkpoints.load_checkpoint`.

    Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra.
    """
    placement = checkpoints.choose_placement(settings.device, settings.dtype, settings.attn)
    folder = checkpoints.fetch_checkpoint(settings.model, settings.revision)
    model = checkpoints.load_checkpoint(model_class, folder, placement, **options)
    return LoadedModel(model, checkpoints.load_processor(processor_class, folder), placement, folder)


def answer_tokens(tokenizer: Any, yes: str, no: str) -> tuple[int, int]:
    """Returns the ids of the two answers. Raises ValueError if one of them is not a single token."""
    vocabulary = tokenizer.get_vocab()
    for word in (yes, no):
        if word not in vocabulary:
            raise ValueError(f"{word!r} is not one token of this tokenizer")
    return vocabulary[yes], vocabulary[no]
