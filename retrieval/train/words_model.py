"""The bi-encoder of the `words` encoder, without its training: torch and transformers alone import it.

`bi_encoder` says what it computes, and trains it.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from retrieval.train.minilm import load_bert

QUESTION_MARKER, PASSAGE_MARKER = 1, 2
"""[unused0] and [unused1] of BERT's vocabulary: pieces that occur in no text."""


@dataclass(frozen=True, slots=True)
class Side:
    """The vectors of a batch of texts: `whole` (n, d), `parts` (n, p, d), and the weight of each part (n, p)."""

    whole: Tensor
    parts: Tensor
    weights: Tensor  # of a question's words: sums to 1; of a passage's runs: 1, or 0 for padding


class BiEncoder(nn.Module):
    """MiniLM with a projection to the vectors, and a layer that weighs a question's words."""

    def __init__(
        self, folder: Path, *, dim: int = 128, frozen_layers: int = 2, markers: bool = False
    ) -> None:
        """folder: MiniLM's. markers: whether questions and passages begin with a marker."""
        super().__init__()
        self.markers = markers
        self.bert = load_bert(folder, frozen_layers)
        width = self.bert.config.hidden_size
        self.project = nn.Linear(width, dim, bias=False)
        self.weigh = nn.Linear(width, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)
        self.scale = nn.Parameter(torch.tensor(20.0).log())

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Returns the hidden states (n, length, width), with zeros for padding."""
        hidden: Tensor = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden.float() * mask[..., None]

    def encode(self, ids: Tensor, mask: Tensor, groups: Tensor, weighted: bool) -> Side:
        """Returns the vectors of tokenised texts. groups (n, length): each piece's word or run from 0, -1 for none."""
        hidden = self(ids, mask)
        whole = hidden.sum(1) / mask.sum(1, keepdim=True)
        count = int(groups.max()) + 1
        one_hot = nn.functional.one_hot(groups.clamp(min=0), count).float() * (groups >= 0)[..., None]
        sizes = one_hot.sum(1)
        parts = torch.einsum("nlw,nlp->npw", hidden, one_hot) / sizes.clamp(min=1)[..., None]
        present = sizes > 0
        if weighted:
            logits = self.weigh(parts)[..., 0].masked_fill(~present, float("-inf"))
            weights = logits.softmax(-1)
        else:
            weights = present.float()
        unit = nn.functional.normalize
        return Side(unit(self.project(whole), dim=-1), unit(self.project(parts), dim=-1), weights)


def scores(questions: Side, passages: Side) -> tuple[Tensor, Tensor]:
    """Returns the dense and the late-interaction scores, both (questions, passages)."""
    dense = questions.whole @ passages.whole.T
    similarity = torch.einsum("qwd,prd->qpwr", questions.parts, passages.parts)
    similarity = similarity.masked_fill(passages.weights[None, :, None, :] == 0, -1.0)
    late = (similarity.amax(-1) * questions.weights[:, None, :]).sum(-1)
    return dense, late
