"""A SPLADE checkpoint becomes a model folder that the sparse encoder loads. The checkpoint is tiny and random."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

import configs.settings as configs
from rerankers.train.splade import export_splade
from retrieval.encoders.splade import OVERLAP, WINDOW, SpladeEncoder
from retrieval.models.onnx import MODELS
from retrieval.train.curriculum import TrainingRefused


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,
    )
    model = BertForMaskedLM(config)
    config.save_pretrained(folder)
    weights = {
        name: value.contiguous() for name, value in model.state_dict().items() if "decoder" not in name
    }
    save_file(weights, folder / "model.safetensors")
    shutil.copy(MODELS / "folio-2" / "tokenizer.json", folder / "tokenizer.json")
    return folder


def test_the_exported_model_gives_the_checkpoints_weights(checkpoint: Path, tmp_path: Path) -> None:
    assert export_splade(checkpoint, tmp_path / "model") > 0.99
    encoder = SpladeEncoder(configs.Splade(model=str(tmp_path / "model"), threads=1))
    query = encoder.encode_query("net revenue by segment")
    assert len(query.tokens) == len(set(query.tokens.tolist())) > 0
    assert (query.weights > 0).all()
    (page, empty) = encoder.encode_pages([["net", "revenue", "by", "segment"], []])
    assert empty == []
    np.testing.assert_array_equal(page[0].tokens, query.tokens)
    (long,) = encoder.encode_pages([["net"] * (2 * WINDOW - OVERLAP)])
    assert len(long) == 2


def test_a_checkpoint_that_lacks_weights_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(checkpoint, broken)
    weights = load_file(broken / "model.safetensors")
    del weights["bert.encoder.layer.0.attention.self.query.weight"]
    save_file(weights, broken / "model.safetensors")
    with pytest.raises(TrainingRefused, match="lacks"):
        export_splade(broken, tmp_path / "model")
    assert not (tmp_path / "model").exists()
