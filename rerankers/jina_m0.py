"""Reranks with Jina Reranker M0, Qwen2-VL-2B with a scoring head (Jina AI, 2025; CC-BY-NC-4.0: not for commercial use).

The code that comes with the model does not run. Its files use the names that Qwen2-VL's weights had in early 2025; they
are mapped by hand, because an unmapped weight would silently stay random. The prompt is the document, then the
question, then token 100, at whose position the head reads the score: sigmoid(logit - 2.65), as published.

Because the document comes first, its keys and values do not depend on the question either. Up to `prefix_mb` of them
are cached; for a cached page, the model only reads the few tokens of the question.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import DynamicCache, Qwen2VLConfig, Qwen2VLModel, Qwen2VLProcessor
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLPreTrainedModel

from configs.models import NON_COMMERCIAL
from rerankers.features import FeatureCache, Features
from rerankers.vision import IMAGE, LoadedModel, PreparedPage, VisionReranker, load_model
from retrieval.models import checkpoints
from retrieval.models.token_batches import sent
from retrieval.types import PageContent
from retrieval.work_notes import note

if TYPE_CHECKING:
    import configs.settings as configs

BEFORE = f"**Document**:\n<|vision_start|>{IMAGE}<|vision_end|>\n**Query**:\n"
SCORE_TOKEN = 100
BIAS = 2.65
PUBLISHED_NAMES = {
    r"^visual\.": "model.visual.",
    r"^model\.(?!language_model|visual)": "model.language_model.",
}


class JinaM0(Qwen2VLPreTrainedModel):
    """The published architecture: two layers on the last position in place of the language model's head."""

    def __init__(self, config: Qwen2VLConfig) -> None:
        super().__init__(config)
        width = config.text_config.hidden_size
        self.model = Qwen2VLModel(config)
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
        self.post_init()


class JinaM0Reranker(VisionReranker):
    """Scores with Jina M0, with a cache of the keys and values of pages if the settings allow one."""

    def __init__(self, settings: "configs.JinaM0", loaded: LoadedModel) -> None:
        super().__init__(settings, loaded)
        if not any(NON_COMMERCIAL in note for note in self.notes):  # the model's folder has another name
            self.notes = (*self.notes, f"Jina Reranker M0: {NON_COMMERCIAL}")
        self._prefixes = FeatureCache(settings.prefix_mb) if settings.prefix_mb else None

    def prompt(self, query: str) -> str:
        return BEFORE + query

    def tokens(self, query: str, image_tokens: int) -> Tensor:
        return torch.cat([super().tokens(query, image_tokens), torch.tensor([SCORE_TOKEN])])

    def probabilities(self, hidden: Tensor) -> Tensor:
        first, _, last = self._model.score
        logit = torch.nn.functional.linear(
            torch.relu(first(hidden)).float(), last.weight.float(), last.bias.float()
        )
        return torch.sigmoid(logit.squeeze(-1) - BIAS)

    def _scores(self, query: str, pages: Sequence[PageContent]) -> list[float]:
        self._wait_for_cache()
        question = self._question(checkpoints.without_special_tokens(query, self._tokenizer))
        if self._prefixes is None or question is None:
            return super()._scores(query, pages)
        keys = [f"{page.image_key()}-{self._identity}" for page in pages]
        cached = [self._prefixes.get(key) for key in keys]
        missing = [i for i, prefix in enumerate(cached) if prefix is None]
        note("keys and values of {} of {} pages were cached", len(cached) - len(missing), len(cached))
        for i, prefix in zip(missing, self._read_pages([pages[i] for i in missing]), strict=True):
            self._prefixes.put(keys[i], prefix)
            cached[i] = prefix
        prefixes = [prefix for prefix in cached if prefix is not None]
        lengths = [int(prefix["keys"].shape[2]) + len(question) for prefix in prefixes]
        return self._budget.run_batches(
            lengths, lambda batch: self._answer(question, [prefixes[i] for i in batch])
        )

    def _question(self, query: str) -> Tensor | None:
        """Returns the ids (q,) after the document, or None if the tokenizer joins document and question in a token."""
        prompt = super().tokens(query, 1)
        document = self._document(1)
        if not torch.equal(prompt[: len(document)], document):
            return None
        return torch.cat([prompt[len(document) :], torch.tensor([SCORE_TOKEN])])

    def _document(self, image_tokens: int) -> Tensor:
        """Returns the ids of the prompt before the question."""
        text = BEFORE.replace(IMAGE, IMAGE * image_tokens, 1)
        ids: Tensor = self._tokenizer(text, return_tensors="pt")["input_ids"][0]
        return ids

    def _read_pages(self, pages: Sequence[PageContent]) -> list[Features]:
        """Returns keys and values (layers, heads, length, d) of each page's part of the prompt, and where it ends."""
        prepared = self._prepare_all(pages)
        lengths = [len(self._document(self._image_tokens(page))) for page in prepared]
        return self._budget.run_batches(lengths, lambda batch: self._prefix([prepared[i] for i in batch]))

    def _prefix(self, pages: Sequence[PreparedPage]) -> list[Features]:
        features = self._tower(pages)
        rows = [self._document(self._image_tokens(page)) for page in pages]
        batch = self._batch(rows)
        grids = torch.stack([page.grid for page in pages]).to(self.placement.device)
        with torch.inference_mode():
            places, _ = self.core.get_rope_index(
                batch["input_ids"],
                mm_token_type_ids=batch["mm_token_type_ids"],
                image_grid_thw=grids,
                attention_mask=batch["attention_mask"],
            )
            made = self.core(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                position_ids=places,
                image_grid_thw=grids,
                mm_encoder_outputs={"image": self.encoder_output(features)},
                past_key_values=DynamicCache(),
                use_cache=True,
                return_dict=True,
            ).past_key_values
        prefixes: list[Features] = []
        for k, row in enumerate(rows):
            start = batch["input_ids"].shape[1] - len(row)
            prefixes.append(
                {
                    "keys": torch.stack([layer.keys[k, :, start:] for layer in made.layers]),
                    "values": torch.stack([layer.values[k, :, start:] for layer in made.layers]),
                    "next": places[:, k, start:].max().cpu() + 1,
                }
            )
        return prefixes

    def _answer(self, question: Tensor, prefixes: Sequence[Features]) -> list[float]:
        """Returns the scores of pages, given as prefixes, for the ids (q,) of a question."""
        device, count = self.placement.device, len(prefixes)
        lengths = [prefix["keys"].shape[2] for prefix in prefixes]
        longest = max(lengths)
        mask = torch.zeros((count, longest + len(question)), dtype=torch.long)
        places = torch.stack([prefix["next"] + torch.arange(len(question)) for prefix in prefixes])
        for k, length in enumerate(lengths):
            mask[k, longest - length :] = 1
        cache = DynamicCache()
        for layer in range(prefixes[0]["keys"].shape[0]):
            keys, values = (
                _left_padded([sent(prefix[part][layer], device) for prefix in prefixes], longest)
                for part in ("keys", "values")
            )
            cache.update(keys, values, layer)
        with torch.inference_mode():
            hidden = self.core(
                input_ids=question.expand(count, -1).to(device),
                attention_mask=mask.to(device),
                position_ids=places.expand(3, -1, -1).to(device),
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
            ).last_hidden_state[:, -1]
            return [float(score) for score in self.probabilities(hidden)]


def _left_padded(rows: Sequence[Tensor], longest: int) -> Tensor:
    """Returns (n, heads, longest, d) with zeros on the left."""
    return torch.stack([torch.nn.functional.pad(row, (0, 0, longest - row.shape[1], 0)) for row in rows])


def load(settings: "configs.JinaM0") -> JinaM0Reranker:
    """Returns the reranker. Raises ModelMissing, ModelBroken, DeviceMissing, MissingExtra."""
    options = {"may_have": (r"^lm_head\.",), "key_mapping": PUBLISHED_NAMES}
    return JinaM0Reranker(settings, load_model(settings, JinaM0, Qwen2VLProcessor, **options))
