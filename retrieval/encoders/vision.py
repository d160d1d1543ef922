"""The parts that all encoders of page images share.

Threads prepare pages (decode, resize, cut into patches) one by one, ahead of the device; then pages are batched by
tokens. The device gets a batch before the vectors of the one before are read, so that it does not wait in between. The
other pages of a batch affect a page only by its padding, and padding is masked.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from configs.cores import available_cores
from retrieval.encoders.geometry import Boxes, Positions
from retrieval.models.checkpoints import Placement, without_special_tokens
from retrieval.models.token_batches import TokenBudget, pad
from retrieval.types import Fingerprint, PageContent, PageEmbedding, QueryEmbedding

SEQUENCES = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
MOST_EXPECTED = 256
"""The most prepared pages that may wait for the device; each takes 5 MB, or up to 24 where pixels are not bytes."""
MOST_THREADS = 16
A = TypeVar("A", Tensor, NDArray[np.float32])


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """One page or question as the processor prepared it. Only `pixel_values` have a batch dimension."""

    tensors: Mapping[str, Tensor]
    positions: Positions | None = None  # (n,) of the image tokens
    boxes: Boxes | None = None  # (n, 4)

    @property
    def ids(self) -> list[int]:
        return [int(i) for i in self.tensors["input_ids"]]

    def __len__(self) -> int:
        return len(self.tensors["input_ids"])


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """The vectors of one page or question."""

    vectors: NDArray[np.float32]  # (length, dim), unit length
    dense: NDArray[np.float32] | None = None


class Family(ABC):
    """One architecture: it prepares inputs, runs the model, and knows where each vector lies on the page."""

    dim: int
    keep: int | None = None
    """The number of leading dimensions of each vector that are used (Matryoshka); None for all."""
    tokenizer: Any
    pad_left = True
    mean_maxsim = False
    """Whether scores are the mean over the question's vectors, not the sum."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement

    @abstractmethod
    def page(self, image: Image.Image) -> Inputs:
        """Returns the inputs for a page's image."""

    @abstractmethod
    def query(self, text: str) -> Inputs:
        """Returns the inputs for a question."""

    @abstractmethod
    def forward(self, batch: dict[str, Tensor], items: Sequence[Inputs]) -> tuple[Tensor, Tensor | None]:
        """Returns vectors (n, longest, dim), not normalised, and dense vectors (n, e) or None."""

    def encode(self, items: Sequence[Inputs]) -> list[Encoded]:
        """Returns the vectors of each item, as one batch. Raises ValueError if a vector is not finite."""
        return [launched.encoded() for launched in self.launch(items)]

    def launch(self, items: Sequence[Inputs]) -> "list[Launched]":
        """Starts to compute the vectors of each item, as one batch."""
        with torch.inference_mode():
            vectors, dense = self.run_padded(items)
            unit = torch.nn.functional.normalize(vectors[..., : self.keep].float(), dim=-1)
            batch = LaunchedBatch(
                torch.isfinite(vectors).all(), unit, None if dense is None else dense.float(), self.placement
            )
        return [
            Launched(batch, k, slice(-len(item), None) if self.pad_left else slice(len(item)))
            for k, item in enumerate(items)
        ]

    def run_padded(self, items: Sequence[Inputs]) -> tuple[Tensor, Tensor | None]:
        """Pads the items to one batch, and returns what `forward` makes of it; `unpad` removes the padding."""
        names = [name for name in SEQUENCES if name in items[0].tensors]
        sequences = {name: [item.tensors[name] for item in items] for name in names}
        batch = pad(sequences, self.pad_left, int(getattr(self.tokenizer, "pad_token_id", 0) or 0))
        device = self.placement.device
        return self.forward({name: tensor.to(device) for name, tensor in batch.items()}, items)

    def unpad(self, batch: A, items: Sequence[Inputs]) -> list[A]:
        """Returns each item's own rows (length, d) of a padded batch (n, longest, d)."""
        return [
            batch[k, -len(item) :] if self.pad_left else batch[k, : len(item)] for k, item in enumerate(items)
        ]


class LaunchedBatch:
    """The vectors of a batch, on their way from the device into pinned memory."""

    def __init__(self, finite: Tensor, vectors: Tensor, dense: Tensor | None, placement: Placement) -> None:
        """finite (): whether all vectors are. vectors (n, longest, d) and dense (n, e), float32, on the device."""
        self._precision = placement.precision
        cuda = placement.device.type == "cuda"  # other devices have no event that says when a copy is done
        self._finite, self._vectors = (made.to("cpu", non_blocking=cuda) for made in (finite, vectors))
        self._dense = None if dense is None else dense.to("cpu", non_blocking=cuda)
        self._done = torch.cuda.Event() if cuda else None
        if self._done is not None:
            self._done.record(torch.cuda.current_stream(placement.device))

    def rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Returns vectors (n, longest, d) and dense vectors, when they are there.

        Raises ValueError if a vector is not finite.
        """
        if self._done is not None:
            self._done.synchronize()
        if not self._finite:
            raise ValueError(
                f"the model gave vectors that are not finite in {self._precision}: set dtype: bfloat16 or float32"
            )
        return self._vectors.numpy(), None if self._dense is None else self._dense.numpy()


@dataclass(frozen=True, slots=True, eq=False)
class Launched:
    """One item of a batch that the device is computing."""

    batch: LaunchedBatch
    row: int
    own: slice
    """Its rows, without padding."""

    def encoded(self) -> Encoded:
        """Returns its vectors, when they are there. Raises ValueError if a vector of the batch is not finite."""
        vectors, dense = self.batch.rows()
        # Copies, because pinned memory is scarce.
        return Encoded(vectors[self.row, self.own].copy(), None if dense is None else dense[self.row].copy())


def sequences_of(made: Mapping[str, Any]) -> dict[str, Tensor]:
    """Returns the token sequences of a processor's batch with a single row."""
    return {name: torch.as_tensor(made[name][0]) for name in SEQUENCES if name in made}


class VisionEncoder:
    """Implements Encoder over a Family. As safe to call from several threads as torch is."""

    needs: frozenset[Literal["images", "words"]] = frozenset({"images"})
    batch_pages = 32

    def __init__(
        self,
        family: Family,
        fingerprint: Fingerprint,
        *,
        batch_tokens: int,
        pool_factor: int = 1,
        notes: Sequence[str] = (),
    ) -> None:
        """batch_tokens: the most padded tokens of a batch. pool_factor: image vectors that become one; 1 for none."""
        self.fingerprint = fingerprint
        self.notes = (f"{fingerprint.model}: {family.placement}", *notes)
        self._family = family
        self._budget = TokenBudget(batch_tokens)
        self._pool_factor = pool_factor
        threads = min(MOST_THREADS, available_cores())
        # With a GPU, torch computes on the CPU only in these threads, and each would start as many again.
        single = (lambda: torch.set_num_threads(1)) if family.placement.device.type == "cuda" else None
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="pages", initializer=single)
        # A tokenizer cannot change its padding while another thread uses it ("Already borrowed"). All calls here ask
        # for the same padding, and this one sets it before other threads call.
        self._family.query("warm up")
        self._expected: OrderedDict[str, Future[Inputs]] = OrderedDict()

    def expect(self, pages: Sequence[PageContent]) -> None:
        """Start to prepare these pages, which will be encoded soon."""
        for page in pages:
            self._expected[page.page.page_id] = self._prepare(page)
        while len(self._expected) > MOST_EXPECTED:  # pages of documents that failed are never encoded
            self._expected.popitem(last=False)[1].cancel()

    def encode_pages(self, pages: Sequence[PageContent]) -> list[PageEmbedding]:
        waiting = [
            self._expected.pop(page.page.page_id)
            if page.page.page_id in self._expected
            else self._prepare(page)
            for page in pages
        ]
        embeddings: list[Future[PageEmbedding]] = []
        before: list[tuple[Inputs, Launched]] = []

        def collect() -> None:
            embeddings.extend(
                self._threads.submit(self._embedding, item, launched.encoded()) for item, launched in before
            )

        start = 0
        while start < len(waiting):  # threads prepare the next pages meanwhile
            at_once = max(1, self._budget.tokens // len(waiting[start].result()))
            inputs = [future.result() for future in waiting[start : start + at_once]]
            start += at_once
            launched = self._launch(inputs)
            collect()
            before = list(zip(inputs, launched, strict=True))
        collect()
        return [future.result() for future in embeddings]

    def encode_queries(self, queries: Sequence[str]) -> list[QueryEmbedding]:
        texts = [without_special_tokens(query, self._family.tokenizer) for query in queries]
        inputs = [self._family.query(text) for text in texts]
        embeddings = []
        for query, item, launched in zip(texts, inputs, self._launch(inputs), strict=True):
            encoded = launched.encoded()
            tokens, content = question_words(self._family.tokenizer, item.ids, query)
            weights = np.full(len(tokens), 1 / len(tokens), np.float32) if self._family.mean_maxsim else None
            embeddings.append(QueryEmbedding(encoded.vectors, tokens, content, weights, encoded.dense))
        return embeddings

    def _prepare(self, page: PageContent) -> "Future[Inputs]":
        return self._threads.submit(lambda: self._family.page(page.image()))

    def _launch(self, inputs: Sequence[Inputs]) -> list[Launched]:
        lengths = [len(item) for item in inputs]
        return self._budget.run_batches(
            lengths, lambda batch: self._family.launch([inputs[i] for i in batch])
        )

    def _embedding(self, inputs: Inputs, encoded: Encoded) -> PageEmbedding:
        assert inputs.positions is not None
        assert inputs.boxes is not None
        regions = np.full((len(encoded.vectors), 4), np.nan, np.float32)
        regions[inputs.positions] = inputs.boxes
        vectors = encoded.vectors
        if self._pool_factor > 1:
            from retrieval.encoders.pooling import (
                pool_vectors,
            )  # imports colpali-engine, which not every family needs

            vectors, regions = pool_vectors(vectors, regions, self._pool_factor)
        return PageEmbedding(vectors, regions, encoded.dense)


def question_words(
    tokenizer: Any, ids: Sequence[int], query: str
) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Returns for each token the word of the question that it is part of, and whether it is part of the question.

    Tokens of prefixes, templates and query augmentation are returned as the tokenizer spells them.
    """
    decode = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    ends = [len(tokenizer.decode(list(ids[: k + 1]), **decode)) for k in range(len(ids))]
    whole = tokenizer.decode(list(ids), **decode)
    first = whole.rfind(query)
    special = set(tokenizer.all_special_ids)
    tokens, content = [], []
    for k, (token, start, end) in enumerate(zip(ids, [0, *ends], ends, strict=False)):
        piece = whole[start:end]
        inside = first >= 0 and start < first + len(query) and end > first
        at = start + len(piece) - len(piece.lstrip()) - first
        own = token not in special and bool(piece.strip()) and (inside if first >= 0 else True)
        tokens.append(_word_at(query, at) if own and inside else tokenizer.convert_ids_to_tokens(ids[k]))
        content.append(own)
    return tuple(tokens), tuple(content)


def _word_at(text: str, at: int) -> str:
    at = min(max(at, 0), len(text) - 1)
    start, end = at, at
    while start > 0 and not text[start - 1].isspace():
        start -= 1
    while end < len(text) and not text[end].isspace():
        end += 1
    return text[start:end].strip("\"'“”„«»()[]{}?!.,:;…") or text[start:end]
