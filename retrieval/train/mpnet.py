"""MPNet (Song et al., 2020) for training on a GPU: attention runs in torch's fused kernel, with the position bias.

The weights have the names of all-mpnet-base-v2's checkpoint. The ids are those of BERT's uncased vocabulary, which
MPNet's is too, shifted by 4 (checked), with its own [CLS], [SEP] and padding. The word table may hold a part of the
vocabulary only: `rows` says which row a piece has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SHIFT = 4
BERT_PIECES = 30522
SPECIAL = {0: 1, 101: 0, 102: 2}
"""BERT's [PAD], [CLS] and [SEP] are MPNet's <pad>, <s> and </s>."""
BUCKETS, FURTHEST = 32, 128
FIRST_POSITION = 2


@dataclass(frozen=True, slots=True)
class MPNetConfig:
    """Sizes of the model; the defaults are all-mpnet-base-v2's."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    positions: int = 514
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class Encoded:
    last_hidden_state: Tensor  # (n, length, width)


class MPNet(nn.Module):
    """The encoder, called as transformers' BertModel is. The position bias and the word table are not trained."""

    def __init__(self, config: MPNetConfig, rows: Tensor) -> None:
        """rows (BERT_PIECES,): the row of the word table for each of BERT's pieces."""
        super().__init__()
        self.config = config
        self.register_buffer("rows", rows, persistent=False)
        self.embeddings = nn.ModuleDict(
            {
                "word_embeddings": nn.Embedding(int(rows.max()) + 1, config.width),
                "position_embeddings": nn.Embedding(config.positions, config.width),
                "LayerNorm": nn.LayerNorm(config.width, eps=1e-5),
            }
        )
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList([_Layer(config) for _ in range(config.layers)])
        self.encoder.relative_attention_bias = nn.Embedding(BUCKETS, config.heads)
        for frozen in (self.embeddings["word_embeddings"], self.encoder.relative_attention_bias):
            frozen.requires_grad_(False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Encoded:
        """ids and mask (n, length), padded on the right. MPNet has no segments."""
        hidden, bias = self.embed(input_ids, attention_mask)
        for layer in self.encoder.layer:
            hidden = layer(hidden, bias)
        return Encoded(hidden)

    def embed(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the first layer's input (n, length, width), and the attention bias (n, heads, length, length)."""
        length = input_ids.shape[1]
        place = torch.arange(length, device=input_ids.device)
        hidden = self.embeddings["word_embeddings"](getattr(self, "rows")[input_ids])  # noqa: B009
        hidden = hidden + self.embeddings["position_embeddings"](place + FIRST_POSITION)
        hidden = nn.functional.dropout(
            self.embeddings["LayerNorm"](hidden), self.config.dropout, self.training
        )
        bias = self.encoder.relative_attention_bias(_buckets(place)).permute(2, 0, 1)[None]
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        padding = (1 - attention_mask[:, None, None, :].to(hidden.dtype)) * -1e4
        return hidden, (bias + padding).to(dtype)


class _Attention(nn.Module):
    def __init__(self, config: MPNetConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.dropout = config.dropout
        self.attn = nn.ModuleDict({name: nn.Linear(config.width, config.width) for name in "qkvo"})
        self.LayerNorm = nn.LayerNorm(config.width, eps=1e-5)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        shape = (*hidden.shape[:2], self.heads, -1)
        q, k, v = (self.attn[name](hidden).view(shape).transpose(1, 2) for name in "qkv")
        dropout = self.dropout if self.training else 0.0
        seen = nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=bias.to(q.dtype), dropout_p=dropout
        )
        seen = self.attn["o"](seen.transpose(1, 2).flatten(2))
        output: Tensor = self.LayerNorm(hidden + nn.functional.dropout(seen, self.dropout, self.training))
        return output


class _Layer(nn.Module):
    def __init__(self, config: MPNetConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention = _Attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.inner)})
        self.output = nn.ModuleDict(
            {
                "dense": nn.Linear(config.inner, config.width),
                "LayerNorm": nn.LayerNorm(config.width, eps=1e-5),
            }
        )

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        hidden = self.attention(hidden, bias)
        inner = self.output["dense"](nn.functional.gelu(self.intermediate["dense"](hidden)))
        inner = nn.functional.dropout(inner, self.dropout, self.training)
        output: Tensor = self.output["LayerNorm"](hidden + inner)
        return output


def _buckets(place: Tensor) -> Tensor:
    """Returns the bucket of each relative position (length, length): exact when near, logarithmic when far."""
    relative = place[None, :] - place[:, None]
    half = BUCKETS // 2
    distance, exact = relative.abs(), BUCKETS // 4
    far = exact + (
        (distance.clamp(min=1).float() / exact).log() / math.log(FURTHEST / exact) * (half - exact)
    ).long().clamp(max=half - 1 - exact)
    return (relative > 0).long() * half + torch.where(distance < exact, distance, far)


def rows_of(pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Returns which rows of MPNet's word table to keep for these of BERT's pieces, and `rows` for the model.

    A piece that is not among them has the row of [UNK].
    """
    kept = torch.unique(torch.cat([pieces, torch.tensor([100, *SPECIAL])]))
    own = torch.tensor([SPECIAL.get(int(piece), int(piece) + SHIFT) for piece in kept])
    rows = torch.full((BERT_PIECES,), int((kept == 100).nonzero()[0, 0]), dtype=torch.long)
    rows[kept] = torch.arange(len(kept))
    return own, rows


def trimmed(weights: Mapping[str, Tensor], layers: int, own: Tensor) -> dict[str, Tensor]:
    """Returns the weights of the lowest layers, and of the word table the rows `own`."""
    kept = {
        name: value
        for name, value in weights.items()
        if name.startswith(("embeddings.", "encoder."))
        and not name.endswith("position_ids")
        and (not name.startswith("encoder.layer.") or int(name.split(".")[2]) < layers)
    }
    return kept | {"embeddings.word_embeddings.weight": weights["embeddings.word_embeddings.weight"][own]}
