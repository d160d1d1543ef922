"""Rerankers score a question and a page together. `load_reranker` chooses one by kind, and imports only that one."""

from typing import TYPE_CHECKING, assert_never

from configs.privacy import switch_off_reports
from retrieval.errors import missing_extra
from retrieval.types import Reranker

if TYPE_CHECKING:
    import configs.settings as configs

switch_off_reports()


def load_reranker(settings: "configs.RerankerSettings") -> Reranker | None:
    """Returns the reranker of the profile, or None for `kind: none`.

    Raises MissingExtra if its libraries are not installed.
    """
    try:
        return _load(settings)
    except ImportError as error:
        raise missing_extra(error) from error


def _load(settings: "configs.RerankerSettings") -> Reranker | None:
    import configs.settings as configs

    match settings:
        case configs.Text():
            return _load_text(settings)
        case configs.Overlap():
            from rerankers.overlap import OverlapReranker

            return OverlapReranker()
        case configs.Qwen3VL():
            from rerankers import qwen3_vl

            return qwen3_vl.load(settings)
        case configs.JinaM0():
            from rerankers import jina_m0

            return jina_m0.load(settings)
        case configs.MonoQwen2VL():
            from rerankers import mono_qwen2_vl

            return mono_qwen2_vl.load(settings)
        case configs.SentenceTransformers():
            from rerankers import sentence_transformers

            return sentence_transformers.load(settings)
        case configs.Remote():
            from rerankers.remote import RemoteReranker

            return RemoteReranker(settings)
        case configs.Listwise():
            from rerankers.listwise import ListwiseReranker

            return ListwiseReranker(settings)
        case configs.Ensemble():
            from rerankers.ensemble import EnsembleReranker

            members = [_load(member) for member in settings.members]
            return EnsembleReranker([m for m in members if m is not None], settings.fuse, settings.weights)
        case configs.NoReranker():
            return None
        case _:
            assert_never(settings)


def _load_text(settings: "configs.Text") -> Reranker:
    """Returns the model in the folder: a reader, which also says where a page answers, or a cross-encoder."""
    from retrieval.models.onnx import ModelFolder

    folder = ModelFolder(settings.model)
    if folder.facts.get("reranker") == "reader":
        from rerankers.reader import TextReader

        return TextReader(settings, folder)
    from rerankers.text import TextReranker

    return TextReranker(settings, folder)
