"""Sparse vectors of page images (V-SPLADE: Cho et al., 2026; arXiv 2605.30917; github.com/naver/v-splade).

A page's image is the input of ModernVBERT (Teiletche et al., 2025). Its masked-word head gives each piece of the
vocabulary a logit at each place of the page; a piece weighs the logarithm of 1 plus its highest logit, which is scaled
by the fourth root of the hidden size and 0 if it is negative. Special tokens weigh nothing.

A question needs no model: each of its pieces has the weight of a table, the softplus of a projection of the piece's
embedding. So only `encode_images` loads the model and needs its device; the table is made when the encoder is.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import Idefics3Processor, ModernVBertConfig, ModernVBertModel
from transformers.models.modernvbert.modeling_modernvbert import ModernVBertPreTrainedModel

from configs.cores import available_cores
from retrieval.encoders.sparse import SparseVector
from retrieval.errors import ModelBroken, first_line
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement
from retrieval.models.token_batches import TokenBudget, pad

if TYPE_CHECKING:
    import configs.settings as configs

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
"""Pieces that never weigh anything."""
PAGES_AT_ONCE = 16
"""Pages that are prepared ahead of the device; each takes up to 20 MB in two-byte numbers."""
MOST_THREADS = 16
FILE = "model.safetensors"
QUERY = "query_encoder."
EMBEDDINGS = "encoder.encoder.model.text_model.embeddings.tok_embeddings."
RENAMED = {
    r"^encoder\.encoder\.model\.": "model.",
    r"^encoder\.mlm_head\.": "mlm_head.",
    r"modality_projection\.proj\.": "modality_projection.",
}
"""The checkpoint's names of weights, as regular expressions, and the names in `VSplade`."""
NOT_OF_PAGES = (r"^query_encoder\.", r"vision_model\.head\.")
"""Weights that `VSplade` does not use: the questions' own, and SigLIP's pooling of a picture into one vector."""


class VSpladeEncoder:
    """Implements SparseImageEncoder.

    Questions may be encoded by several threads at the same time, pages by one. Raises ModelMissing and ModelBroken,
    and with the first page DeviceMissing and MissingExtra.
    """

    most = (
        3.0  # the logarithm of 1 plus a scaled logit of 19; the authors' sample page has no weight above 1.84
    )
    by_rarity = False

    def __init__(self, settings: "configs.VSplade") -> None:
        self._settings = settings
        self._folder = checkpoints.fetch_checkpoint(settings.model, settings.revision)
        checkpoints.check_files(self._folder)
        self._tokenizer = checkpoints.load_processor(Idefics3Processor, self._folder).tokenizer
        self._weights = query_weights(self._folder)
        self._weights[special_ids(self._tokenizer, self._folder)] = 0
        self._budget = TokenBudget(settings.batch_tokens)
        self.name = f"v_splade {Path(settings.model).name}@{checkpoints.revision_of(self._folder)}"
        # A tokenizer may set its padding with its first call, which no other thread may use meanwhile.
        self.encode_query("warm up")

    def encode_query(self, query: str) -> SparseVector:
        ids = np.array(self._tokenizer(query, add_special_tokens=False)["input_ids"], np.int64)
        # Pieces of pictures, beyond the vocabulary, weigh nothing; a piece that occurs twice weighs twice as much.
        tokens, counts = np.unique(ids[ids < len(self._weights)], return_counts=True)
        weights = (self._weights[tokens] * counts).astype(np.float32)
        return SparseVector(tokens[weights > 0].astype(np.uint32), weights[weights > 0])

    def encode_images(self, images: Sequence[Callable[[], bytes]]) -> list[SparseVector]:
        reader = self._page_reader
        chunks = [images[at : at + PAGES_AT_ONCE] for at in range(0, len(images), PAGES_AT_ONCE)]
        vectors: list[SparseVector] = []
        with ThreadPoolExecutor(min(MOST_THREADS, available_cores()), "page images") as threads:
            waiting = [threads.submit(reader.prepare, read) for read in chunks[0]] if chunks else []
            for following in [*chunks[1:], ()]:
                pages = [page.result() for page in waiting]
                waiting = [threads.submit(reader.prepare, read) for read in following]
                vectors += self._encode(reader, pages)
        return vectors

    def _encode(self, reader: "PageReader", pages: Sequence[dict[str, Tensor]]) -> list[SparseVector]:
        lengths = [len(page["input_ids"]) for page in pages]
        return self._budget.run_batches(lengths, lambda batch: reader.encode([pages[at] for at in batch]))

    @cached_property
    def _page_reader(self) -> "PageReader":
        return PageReader(self._settings, self._folder)


class PageReader:
    """The model that reads pages, on its device."""

    def __init__(self, settings: "configs.VSplade", folder: Path) -> None:
        self._placement = checkpoints.choose_placement(settings.device, settings.dtype, settings.attn)
        self._processor = checkpoints.load_processor(Idefics3Processor, folder)
        checkpoints.check_template(self._processor, settings.model)
        # As in the authors' example: an image and no words.
        content = [{"type": "image"}, {"type": "text", "text": ""}]
        chat = [{"role": "user", "content": content}]
        self._prompt = self._processor.apply_chat_template(chat, add_generation_prompt=True)
        self._model = load_model(folder, self._placement)
        self._special = special_ids(self._processor.tokenizer, folder)

    def prepare(self, read: Callable[[], bytes]) -> dict[str, Tensor]:
        """Return a page's token sequences (length,) and its tiles (tiles, 3, 512, 512). Safe in several threads."""
        image = Image.open(BytesIO(read())).convert("RGB")
        made = self._processor(images=[image], text=self._prompt, return_tensors="pt")
        names = ("input_ids", "attention_mask", "pixel_values")
        page = {name: made[name][0] for name in names}
        return {**page, "pixel_values": page["pixel_values"].to(self._placement.dtype)}

    def encode(self, pages: Sequence[dict[str, Tensor]]) -> list[SparseVector]:
        """Return the vectors of prepared pages, as one batch. Raises ModelBroken if one is not finite."""
        names = ("input_ids", "attention_mask")
        pad_id = int(self._processor.tokenizer.pad_token_id)
        batch = pad({name: [page[name] for page in pages] for name in names}, left=False, pad_id=pad_id)
        # The model leaves out tiles of zeros, which pages with fewer tiles are padded with.
        batch["pixel_values"] = pad_sequence([page["pixel_values"] for page in pages], batch_first=True)
        with torch.inference_mode():
            batch = {name: tensor.to(self._placement.device) for name, tensor in batch.items()}
            weights = self._model(**batch)
            weights[:, self._special] = 0
            rows = weights.cpu().numpy()
        if not np.isfinite(rows).all():
            raise ModelBroken(
                f"V-SPLADE gave weights that are not finite in {self._placement.precision}",
                remedy="set dtype: bfloat16 or float32",
            )
        return [_vector(row) for row in rows]


class VSplade(ModernVBertPreTrainedModel):  # type: ignore[misc]
    """V-SPLADE's encoder of pages. `config.pieces` counts the pieces of the vocabulary that can have a weight."""

    def __init__(self, config: ModernVBertConfig) -> None:
        super().__init__(config)
        self.model = ModernVBertModel(config)
        size, width = config.text_config.vocab_size, config.text_config.hidden_size
        text = self.model.text_model
        text.embeddings.tok_embeddings = SplitEmbedding(config.pieces, size - config.pieces, width)
        self.mlm_head = MaskedWordHead(width, config.pieces)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        """Return the weights (n, pieces), float32, of n pages.

        input_ids and attention_mask (n, longest), padded on the right; pixel_values (n, most tiles, 3, side, side).
        """
        hidden = self.model(
            input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values
        ).last_hidden_state
        lengths = attention_mask.sum(dim=1).tolist()
        # Page by page: the logits of all places of a page take 0.1 GB.
        highest = [self.mlm_head(page[:n]).amax(dim=0) for page, n in zip(hidden, lengths, strict=True)]
        scaled = torch.stack(highest).float() * hidden.shape[-1] ** -0.25
        return torch.log1p(torch.relu(scaled))


class SplitEmbedding(nn.Module):  # type: ignore[misc]
    """Embeds the pieces of the vocabulary, and after them those of pictures, in two tables as the checkpoint has."""

    def __init__(self, pieces: int, additional: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(pieces, width))
        self.additional_embedding = nn.Embedding(additional, width)

    def forward(self, ids: Tensor) -> Tensor:
        pieces = len(self.weight)
        own = nn.functional.embedding(ids.clamp(max=pieces - 1), self.weight)
        additional = self.additional_embedding((ids - pieces).clamp(min=0))
        return torch.where((ids < pieces)[..., None], own, additional)


class MaskedWordHead(nn.Module):  # type: ignore[misc]
    """Gives each piece a logit at each place: hidden states (..., width) become (..., pieces)."""

    def __init__(self, width: int, pieces: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.decoder = nn.Linear(width, pieces)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.norm(nn.functional.gelu(self.dense(hidden))))
        return logits


def load_model(folder: Path, placement: Placement) -> Any:
    """Return the VSplade of a checkpoint. Raises ModelBroken."""
    try:
        with safe_open(folder / FILE, "pt") as weights:
            pieces = weights.get_slice(f"{EMBEDDINGS}weight").get_shape()[0]
            additional = weights.get_slice(f"{EMBEDDINGS}additional_embedding.weight").get_shape()[0]
        config = ModernVBertConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise _not_v_splade(folder, error) from error
    # The size of the vocabulary in config.json counts the pieces of pictures in one revision, and not in another.
    config.text_config.vocab_size = pieces + additional
    config.pieces = pieces
    config.vision_config.vision_use_head = False
    return checkpoints.load_checkpoint(
        VSplade, folder, placement, may_have=NOT_OF_PAGES, config=config, key_mapping=RENAMED
    )


def query_weights(folder: Path) -> NDArray[np.float32]:
    """Return the weight of each piece (pieces,) in a question. Raises ModelBroken."""
    try:
        with safe_open(folder / FILE, "pt") as weights:
            embeddings, projection, bias = (
                weights.get_tensor(f"{QUERY}{name}").float()
                for name in ("embeddings.weight", "projection.weight", "projection.bias")
            )
    except (OSError, SafetensorError) as error:
        raise _not_v_splade(folder, error) from error
    table: NDArray[np.float32] = nn.functional.softplus(embeddings @ projection[0] + bias).numpy()
    return table


def special_ids(tokenizer: Any, folder: Path) -> list[int]:
    """Return the ids of SPECIAL. Raises ModelBroken if the tokenizer does not have one of them."""
    vocabulary = tokenizer.get_vocab()
    missing = [token for token in SPECIAL if token not in vocabulary]
    if missing:
        raise ModelBroken(
            f"the tokenizer in {folder} has no {', '.join(missing)}: it is not V-SPLADE's",
            remedy=checkpoints.OTHER_KIND,
        )
    return [vocabulary[token] for token in SPECIAL]


def _not_v_splade(folder: Path, error: Exception) -> ModelBroken:
    return ModelBroken(
        f"{folder / FILE} does not hold the weights of V-SPLADE ({first_line(error)})",
        remedy=checkpoints.OTHER_KIND,
    )


def _vector(weights: NDArray[np.float32]) -> SparseVector:
    """weights (pieces,): of every piece."""
    tokens = np.flatnonzero(weights > 0)
    return SparseVector(tokens.astype(np.uint32), weights[tokens])
