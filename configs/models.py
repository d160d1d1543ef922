"""The size and licence of the models that the profiles name."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A published model."""

    gigabytes: float  # size of the published weights
    licence: str
    caution: str = ""
    """Shown when the model is loaded: what its licence forbids, or where the model is weak."""


QWEN_RESEARCH = "the Qwen2.5-VL-3B base is under the Qwen research licence: not for commercial use"
NON_COMMERCIAL = "CC-BY-NC-4.0: not for commercial use without a licence from Jina AI"

KNOWN = {
    "vultr/VultronRetrieverFlash-Qwen3.5-0.8B": KnownModel(1.7, "Apache-2.0"),
    "vultr/VultronRetrieverCore-Qwen3.5-4.5B": KnownModel(9.1, "Apache-2.0"),
    "vultr/VultronRetrieverPrime-Qwen3.5-8B": KnownModel(16.8, "Apache-2.0"),
    "tencent/EVIE-4.5B": KnownModel(9.1, "Apache-2.0"),
    "Hcompany/NeoMME-260M-Retriever": KnownModel(0.53, "Apache-2.0"),
    "Hcompany/NeoMME-800M-Retriever": KnownModel(1.6, "Apache-2.0"),
    "ModernVBERT/colmodernvbert": KnownModel(0.5, "MIT", "trained on English only"),
    "vidore/colpali-v1.3": KnownModel(
        5.9, "Gemma", "the Gemma terms of use apply to whoever runs it: ai.google.dev/gemma/terms"
    ),
    "vidore/colqwen2-v1.0": KnownModel(4.4, "Apache-2.0"),
    "vidore/colqwen2.5-v0.2": KnownModel(7.5, "Apache-2.0 (adapter)", QWEN_RESEARCH),
    "vidore/colSmol-256M": KnownModel(0.5, "Apache-2.0"),
    "vidore/colSmol-500M": KnownModel(1.0, "Apache-2.0"),
    "naver/v-splade-quality": KnownModel(0.66, "Apache-2.0", "trained on English only"),
    "naver/v-splade-efficient": KnownModel(0.66, "Apache-2.0", "trained on English only"),
    "Qwen/Qwen3-VL-Reranker-2B": KnownModel(4.3, "Apache-2.0"),
    "Qwen/Qwen3-VL-Reranker-8B": KnownModel(17.5, "Apache-2.0"),
    "jinaai/jina-reranker-m0": KnownModel(4.9, "CC-BY-NC-4.0", NON_COMMERCIAL),
    "lightonai/MonoQwen2-VL-v0.1": KnownModel(4.4, "Apache-2.0"),
    "lightonai/LightOn-rerank-PW-2B": KnownModel(4.3, "Apache-2.0"),
}


def cautions(model: str) -> list[str]:
    """Return what the user should know when this model is loaded."""
    known = KNOWN.get(model)
    return [f"{model}: {known.caution}"] if known and known.caution else []
