"""Encoders turn pages and questions into vectors. `load_encoder` chooses one by its kind, and imports only that one."""

from typing import TYPE_CHECKING, assert_never

from retrieval.errors import missing_extra
from retrieval.types import Encoder

if TYPE_CHECKING:
    import configs.settings as configs
    from retrieval.encoders.sparse import SparseEncoder


def load_encoder(settings: "configs.EncoderSettings") -> Encoder:
    """Returns the encoder of the profile. Raises MissingExtra if its libraries are not installed."""
    try:
        return _load(settings)
    except ImportError as error:
        raise missing_extra(error) from error


def _load(settings: "configs.EncoderSettings") -> Encoder:
    import configs.settings as configs

    match settings:
        case configs.Words():
            from retrieval.encoders.words import WordsEncoder

            return WordsEncoder(settings)
        case configs.Hashing():
            from retrieval.encoders.hashing import HashingEncoder

            return HashingEncoder(settings.dim)
        case configs.ColVision():
            from retrieval.encoders import colvision

            return colvision.load(settings)
        case configs.NeoMME():
            from retrieval.encoders import neomme

            return neomme.load(settings)
        case _:
            assert_never(settings)


def load_sparse_encoder(settings: "configs.SparseSettings") -> "SparseEncoder | None":
    """Returns the profile's encoder of sparse vectors, None if it has none.

    Raises ModelBroken, ModelMissing, and MissingExtra if its libraries are not installed.
    """
    try:
        return _load_sparse(settings)
    except ImportError as error:
        raise missing_extra(error) from error


def _load_sparse(settings: "configs.SparseSettings") -> "SparseEncoder | None":
    import configs.settings as configs

    match settings:
        case configs.NoSparse():
            return None
        case configs.Passages():
            from retrieval.encoders.sparse import PassageEncoder

            return PassageEncoder()
        case configs.Splade():
            from retrieval.encoders.splade import SpladeEncoder

            return SpladeEncoder(settings)
        case configs.VSplade():
            from retrieval.encoders.v_splade import VSpladeEncoder

            return VSpladeEncoder(settings)
        case _:
            assert_never(settings)
