"""Cross-encoders of the Qwen-VL kind: what they share.

The work is in two parts. The vision tower reads each page once, whatever the question; its output is kept by the
page's image and the model. Then the language model reads question and page together, in batches by tokens, and only
the last position is looked at. A page's score does not depend on the pages around it but for the rounding of padding.
"""

import hashlib
import math
import os
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

from configs.models import cautions
from rerankers.features import FeatureCache, Features
from retrieval.errors import RerankerFailed, first_line
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement
from retrieval.models.token_batches import TokenBudget, pad
from retrieval.types import PageContent
from retrieval.work_notes import note

if TYPE_CHECKING:
    import configs.settings as configs

IMAGE = "<|image_pad|>"


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A page as the vision tower takes it, or left it."""

    key: str
    grid: Tensor  # (3,): frames, rows, columns of patches
    pixels: Tensor | None  # (patches, values); None where `features` are known
    features: Features | None = None


class VisionReranker(ABC):
    """One checkpoint. Subclasses say how the prompt reads and how the score is read off the last position."""

    listwise = False

    def __init__(
        self, settings: "configs.VisionRerankerSettings", model: Any, processor: Any, placement: Placement, folder: Path
    ) -> None:  # fmt: skip
        self.placement = placement
        self.name = f"{settings.kind} ({settings.model})"
        self.notes = (f"{settings.model}: {placement}", *cautions(settings.model))
        self.batch_pages = 32 if placement.device.type == "cuda" else 2
        self._model, self._processor = model, processor
        self._tokenizer = processor.tokenizer
        self._image_token = int(self._tokenizer.convert_tokens_to_ids(IMAGE))
        self._merge = processor.image_processor.merge_size
        self._budget = TokenBudget(settings.batch_tokens)
        tokens = settings.max_visual_tokens
        self._limit_image(tokens)
        identity = f"{checkpoints.revision_of(folder)}-{tokens}-{placement.precision}-{placement.attention}"
        self._identity = hashlib.sha256(identity.encode()).hexdigest()[:12]
        cache = settings.cache
        where = Path(cache.folder).expanduser() if cache.folder else None
        self.cache = FeatureCache(cache.memory_mb, cache.disk_mb, where)
        self._one_at_a_time = threading.Lock()
        self._keeping: list[Future[None]] = []
        self._threads = ThreadPoolExecutor(min(16, os.cpu_count() or 1), thread_name_prefix="pages")

    @abstractmethod
    def prompt(self, query: str) -> str:
        """The text of a pair, with IMAGE once where the page stands."""

    @abstractmethod
    def read(self, hidden: Tensor) -> Tensor:
        """(n, hidden) of the last position -> (n,) probabilities that the page answers the question, in float32."""

    @property
    def core(self) -> Any:
        """The model below its head."""
        return self._model.model

    def score(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        """A probability for each page, in the order given. Raises RerankerFailed where the device gives up.

        One call at a time: two would compete for the same memory.
        """
        with self._one_at_a_time:
            try:
                scores = self._scores(query, pages)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                first = first_line(error)
                raise RerankerFailed(f"{self.name} failed ({type(error).__name__}: {first})") from error
        if not all(map(math.isfinite, scores)):
            raise RerankerFailed(
                f"{self.name} gave a score that is no number in {self.placement.precision}: "
                "try dtype: bfloat16 or float32"
            )
        return scores

    def _scores(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        query = checkpoints.plain(query, self._tokenizer)
        self._kept()
        seen = self._look_all(pages)
        patches = [0 if page.pixels is None else len(page.pixels) // self._merge**2 for page in seen]
        towered = self._budget.run(patches, lambda batch: self._tower([seen[i] for i in batch]))
        rows = [self.tokens(query, self._image_tokens(page)) for page in seen]
        return self._budget.run(
            [len(row) for row in rows],
            lambda batch: self._score([rows[i] for i in batch], [seen[i] for i in batch], [towered[i] for i in batch]),
        )  # fmt: skip

    def hidden(self, query: str, pages: Sequence[PageContent]) -> Tensor:
        """(n, hidden) of each pair's last position, with gradients where the weights ask for them.

        For training. The vision tower is run without gradients, and on one page at a time, so that what it gives
        never depends, not even in its rounding, on which pages were known already.
        """
        query = checkpoints.plain(query, self._tokenizer)
        self._kept()
        seen = self._look_all(pages)
        features = [
            {name: tensor.clone() for name, tensor in made.items()}  # no gradient may pass inference tensors
            for page in seen
            for made in self._tower([page])
        ]
        rows = [self.tokens(query, self._image_tokens(page)) for page in seen]
        last = self._budget.run(
            [len(row) for row in rows],
            lambda batch: list(
                self._last([rows[i] for i in batch], [seen[i] for i in batch], [features[i] for i in batch])
            ),
        )
        return torch.stack(last)

    def _kept(self) -> None:
        """Wait until what earlier calls made is in the cache: it is copied there while they go on."""
        waiting, self._keeping = self._keeping, []
        for copied in waiting:
            copied.result()

    def tokens(self, query: str, image_tokens: int) -> Tensor:
        """(length,) ids of the pair's prompt, the image's place filled with as many tokens as it has."""
        text = self.prompt(query).replace(IMAGE, IMAGE * image_tokens, 1)
        ids: Tensor = self._tokenizer(text, return_tensors="pt")["input_ids"][0]
        return ids

    def _look_all(self, pages: Sequence[PageContent]) -> list[Seen]:
        seen = list(self._threads.map(self._look, pages))
        if pages:
            note(
                "features of {} of {} pages were cached", sum(s.features is not None for s in seen), len(seen)
            )
        return seen

    def _look(self, page: PageContent) -> Seen:
        key = f"{page.image_key()}-{self._identity}"
        known = self.cache.get(key)
        if known is not None:
            return Seen(key, known["grid"], None, known)
        made = self._processor.image_processor(images=[page.image()], return_tensors="pt")
        return Seen(key, made["image_grid_thw"][0], made["pixel_values"])

    def _tower(self, pages: Sequence[Seen]) -> list[Features]:
        """The features of each page: those known, and those computed now, which are kept."""
        fresh = [page for page in pages if page.pixels is not None]
        made: dict[int, Features] = {}
        if fresh:
            device = self.placement.device
            pixels = torch.cat([p.pixels for p in fresh if p.pixels is not None]).to(device)
            grids = torch.stack([page.grid for page in fresh]).to(device)
            with torch.inference_mode():
                out = self.core.get_image_features(pixels, grids, return_dict=True)
            for k, page in enumerate(fresh):
                features = {"grid": page.grid, "pooled": out.pooler_output[k]}
                for level, layer in enumerate(getattr(out, "deepstack_features", None) or ()):
                    features[f"deep{level}"] = layer[k]
                self._keeping.append(self._threads.submit(self.cache.put, page.key, features))
                made[id(page)] = features
        return [made[id(page)] if page.features is None else page.features for page in pages]

    def _score(
        self, rows: Sequence[Tensor], pages: Sequence[Seen], features: Sequence[Features]
    ) -> list[float]:
        with torch.inference_mode():
            return [float(score) for score in self.read(self._last(rows, pages, features))]

    def _last(self, rows: Sequence[Tensor], pages: Sequence[Seen], features: Sequence[Features]) -> Tensor:
        """(n, hidden) of the last position of these pairs, as one batch."""
        hidden: Tensor = self.core(
            **self._batch(rows),
            image_grid_thw=torch.stack([page.grid for page in pages]).to(self.placement.device),
            mm_encoder_outputs={"image": self.encoder_output(features)}, use_cache=False, return_dict=True,
        ).last_hidden_state  # fmt: skip
        return hidden[:, -1]

    def _image_tokens(self, page: Seen) -> int:
        return int(page.grid.prod()) // int(self._merge) ** 2

    def _batch(self, rows: Sequence[Tensor]) -> dict[str, Tensor]:
        """The sequences of these rows, padded on the left, on the device."""
        ones = [torch.ones_like(row) for row in rows]
        kinds = [(row == self._image_token).int() for row in rows]
        sequences = {"input_ids": rows, "attention_mask": ones, "mm_token_type_ids": kinds}
        padded = pad(sequences, True, int(self._tokenizer.pad_token_id))
        return {name: tensor.to(self.placement.device) for name, tensor in padded.items()}

    def encoder_output(self, features: Sequence[Features]) -> Any:
        """The pages' features as the model takes them."""
        device = self.placement.device
        return BaseModelOutputWithPooling(pooler_output=[f["pooled"].to(device) for f in features])

    def _limit_image(self, tokens: int) -> None:
        image = self._processor.image_processor
        side = (image.patch_size * image.merge_size) ** 2
        image.size = {"shortest_edge": 4 * side, "longest_edge": tokens * side}


def opened(
    settings: "configs.VisionRerankerSettings", model_class: Any, processor_class: Any, **options: Any
) -> tuple[Any, Any, Placement, Path]:
    """(model, processor, where it runs, its folder). Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    placement = checkpoints.place(settings.device, settings.dtype, settings.attn)
    folder = checkpoints.fetch(settings.model, settings.revision)
    model = checkpoints.load_checkpoint(model_class, folder, placement, **options)
    return model, checkpoints.load_processor(processor_class, folder), placement, folder


def yes_or_no(tokenizer: Any, yes: str, no: str) -> tuple[int, int]:
    """The ids of the two answers. Raises ValueError where one of them is not a single token."""
    vocabulary = tokenizer.get_vocab()
    for word in (yes, no):
        if word not in vocabulary:
            raise ValueError(f"{word!r} is not one token of this tokenizer")
    return vocabulary[yes], vocabulary[no]
