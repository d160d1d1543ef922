"""V-SPLADE on tiny checkpoints in the authors' layout, compared with the computation that they published."""

import json
import shutil
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file

import configs.settings as configs
from retrieval.encoders import load_sparse_encoder
from retrieval.encoders.hashing import HashingEncoder
from retrieval.encoders.sparse import SparseImageEncoder, SparseTextEncoder, SparseVector
from retrieval.encoders.v_splade import VSpladeEncoder
from retrieval.errors import DeviceMissing, MissingExtra, ModelBroken, ModelMissing
from retrieval.recall.sparse import upkeep
from retrieval.search import Searcher
from retrieval.store.schema import PageRecord
from retrieval.store.store import Store
from retrieval.types import Document, Page, PageContent
from tests.build import ADDED, words_of
from tests.vision import tiny
from ui import factory
from ui.cli.models import Needed, needed

THRESHOLD = 20.0  # leaves a page about 50 of the tiny vocabulary's pieces
IMAGES = [tiny.page(425, 550, 0), tiny.page(600, 350, 1), tiny.page(333, 97, 2)]
QUESTIONS = ["net", "revenue, revenue and revenue by region", "the [SEP] of <image> [UNK]", ""]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.v_splade(tmp_path_factory.mktemp("v_splade") / "quality", threshold=THRESHOLD)


def settings_for(path: Path | str, **more: object) -> configs.VSplade:
    return configs.VSplade.model_validate({"model": str(path), "device": "cpu", "dtype": "float32", **more})


def file_of(image: Image.Image) -> Callable[[], bytes]:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue


def dense(vector: SparseVector, size: int) -> NDArray[np.float32]:
    out = np.zeros(size, np.float32)
    out[vector.tokens] = vector.weights
    return out


class Published:
    """The authors' computation (train/models of github.com/naver/v-splade), on transformers' ModernVBertModel."""

    def __init__(self, folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        self.heads = {
            name.removeprefix("encoder.mlm_head."): tensor
            for name, tensor in weights.items()
            if "mlm_head" in name
        }
        self.query = {
            name.removeprefix("query_encoder."): tensor
            for name, tensor in weights.items()
            if "query_encoder" in name
        }
        inner = {
            name.removeprefix("encoder.encoder.model."): tensor
            for name, tensor in weights.items()
            if name.startswith("encoder.encoder.model.")
        }
        table = "text_model.embeddings.tok_embeddings"
        inner[f"{table}.weight"] = torch.cat(
            [inner[f"{table}.weight"], inner.pop(f"{table}.additional_embedding.weight")]
        )
        inner["connector.modality_projection.weight"] = inner.pop("connector.modality_projection.proj.weight")
        config = hf.ModernVBertConfig.from_pretrained(folder)
        config.text_config.vocab_size = len(inner[f"{table}.weight"])
        self.model = hf.ModernVBertModel(config).eval()
        self.model.load_state_dict(inner)
        self.processor = hf.Idefics3Processor.from_pretrained(folder)
        self.pieces = len(self.heads["decoder.bias"])
        self.mask = torch.ones(self.pieces)
        tok = self.processor.tokenizer
        specials = [
            tok.unk_token_id,
            tok.cls_token_id,
            tok.sep_token_id,
            tok.pad_token_id,
            tok.mask_token_id,
        ]
        self.mask[specials] = 0

    def pages(self, images: list[Image.Image]) -> NDArray[np.float32]:
        chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ""}]}]
        prompt = self.processor.apply_chat_template(chat, add_generation_prompt=True)
        made = self.processor(
            images=[[image] for image in images],
            text=[prompt] * len(images),
            return_tensors="pt",
            padding=True,
        )
        with torch.inference_mode():
            hidden = self.model(**made)[0]
            h = hidden @ self.heads["dense.weight"].T + self.heads["dense.bias"]
            h = torch.nn.functional.gelu(h)
            h = torch.nn.functional.layer_norm(
                h, h.shape[-1:], self.heads["norm.weight"], self.heads["norm.bias"]
            )
            h = (h @ self.heads["decoder.weight"].T + self.heads["decoder.bias"]) * hidden.shape[-1] ** -0.25
            w = torch.log1p(torch.relu(h)) * made["attention_mask"].unsqueeze(-1)
            made_of: NDArray[np.float32] = (w.max(dim=1).values * self.mask).numpy()
        return made_of

    def question(self, text: str) -> NDArray[np.float32]:
        ids = self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]
        out = torch.zeros(self.pieces)
        for token in ids:
            if token < self.pieces:
                embedded = self.query["embeddings.weight"][token]
                score = embedded @ self.query["projection.weight"][0] + self.query["projection.bias"][0]
                out[token] += torch.nn.functional.softplus(score)
        vector: NDArray[np.float32] = (out * self.mask).numpy()
        return vector


@pytest.mark.parametrize("counts_pictures", [True, False])
def test_pages_and_questions_have_the_published_weights(
    counts_pictures: bool, checkpoint: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "v_splade")
    config = json.loads((folder / "config.json").read_text())
    published = Published(folder)
    if not counts_pictures:  # the vocabulary's size in config.json, as in the authors' first revision
        config["text_config"]["vocab_size"] = published.pieces
        (folder / "config.json").write_text(json.dumps(config))
    encoder = VSpladeEncoder(settings_for(folder))
    expected = published.pages(IMAGES)
    for vector, theirs in zip(encoder.encode_images([file_of(i) for i in IMAGES]), expected, strict=True):
        assert 20 < len(vector.tokens) < 100
        np.testing.assert_allclose(dense(vector, published.pieces), theirs, atol=2e-5)
    for question in QUESTIONS:
        vector = encoder.encode_query(question)
        np.testing.assert_allclose(
            dense(vector, published.pieces), published.question(question), rtol=1e-5, atol=1e-6
        )
        assert (vector.weights > 0).all()


def test_special_tokens_never_weigh_anything(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "v_splade")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.mlm_head.decoder.bias"] += 100  # each piece has a weight
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    encoder = VSpladeEncoder(settings_for(folder))
    (page,) = encoder.encode_images([file_of(IMAGES[2])])
    pieces = len(weights["encoder.mlm_head.decoder.bias"])
    assert len(page.tokens) == pieces - 5
    assert len(encoder.encode_query("[UNK] [CLS] [SEP] [PAD] [MASK]<image>").tokens) == 1  # the space


def test_a_page_is_the_same_alone_and_among_others(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrieval.encoders.v_splade.PAGES_AT_ONCE", 2)
    encoder = VSpladeEncoder(settings_for(checkpoint))
    together = encoder.encode_images([file_of(image) for image in IMAGES])
    for image, among in zip(IMAGES, together, strict=True):
        (alone,) = encoder.encode_images([file_of(image)])
        np.testing.assert_array_equal(alone.tokens, among.tokens)
        np.testing.assert_allclose(alone.weights, among.weights, atol=2e-5)
    assert encoder.encode_images([]) == []
    assert isinstance(encoder, SparseImageEncoder)
    assert not isinstance(encoder, SparseTextEncoder)


def add(
    store: Store, encoder: HashingEncoder, name: str, texts: list[str], images: list[Image.Image]
) -> None:
    doc_id = name.partition(".")[0]
    contents = [
        PageContent(Page(doc_id, number, name, 612, 792), words_of(text), "text layer", file_of(image))
        for number, (text, image) in enumerate(zip(texts, images, strict=True), start=1)
    ]
    with store.writing():
        pending = store.begin_document(doc_id)
        pending.add(
            [
                PageRecord(c.page, c.words, c.source, "", embedding, c.read_image(), b"thumbnail")
                for c, embedding in zip(contents, encoder.encode_pages(contents), strict=True)
            ]
        )
        pending.commit(Document(doc_id, name, f"file:///{name}", len(texts), ADDED))


def question_for(encoder: VSpladeEncoder, page: int) -> str:
    """Return a piece of the vocabulary that only this one of IMAGES has a weight for."""
    vectors = encoder.encode_images([file_of(image) for image in IMAGES])
    others = {int(token) for k, vector in enumerate(vectors) if k != page for token in vector.tokens}
    own = [int(token) for token in vectors[page].tokens if int(token) not in others]
    texts = [str(encoder._tokenizer.decode([token])) for token in own]
    return next(
        text
        for token, text in zip(own, texts, strict=True)
        if text.strip().isalpha() and encoder.encode_query(text).tokens.tolist() == [token]
    )


def test_a_page_is_found_by_its_image_alone_and_the_lists_follow_the_model(
    store: Store, encoder: HashingEncoder, checkpoint: Path, tmp_path: Path
) -> None:
    texts = ["walrus ice", "seal ice", ""]
    add(store, encoder, "a.pdf", texts[:2], IMAGES[:2])
    add(store, encoder, "b.pdf", texts[2:], IMAGES[2:])
    sparse = settings_for(checkpoint)
    settings = configs.Search(sparse=sparse, sparse_weight=1.0, depth=1)
    reader = VSpladeEncoder(sparse)
    question = question_for(reader, 2)
    without = Searcher(store, encoder, None, configs.Search(depth=1)).search(question)
    assert [hit.page.page_id for hit in without.candidates] != ["b#1"]

    assert factory.refresh_inverted_index(store, settings, lambda *_: None)
    assert not factory.refresh_inverted_index(store, settings, lambda *_: None)
    searcher = Searcher(store, encoder, None, settings)
    (hit,) = searcher.search(question).candidates
    assert hit.page.page_id == "b#1"
    weight = dense(reader.encode_images([file_of(IMAGES[2])])[0], 1000)
    query = reader.encode_query(question)
    step = VSpladeEncoder.most / 255
    assert hit.scores["sparse"] == pytest.approx(
        float(query.weights[0] * weight[query.tokens[0]]), abs=float(query.weights[0]) * step
    )

    # A search on a machine without the model's device finds it too: only pages need the device.
    elsewhere = configs.Search(sparse=settings_for(checkpoint, device="cuda:7"), sparse_weight=1.0, depth=1)
    found = Searcher(store, encoder, None, elsewhere).search(question)
    assert [hit.page.page_id for hit in found.candidates] == ["b#1"]

    other = settings_for(tiny.v_splade(tmp_path / "efficient", seed=1, threshold=THRESHOLD))
    assert upkeep.load_lists(store, VSpladeEncoder(other)) is None
    changed = configs.Search(sparse=other, sparse_weight=1.0, depth=1)
    assert "no sparse vectors yet" in Searcher(store, encoder, None, changed).search(question).stages[1].note
    assert factory.refresh_inverted_index(store, changed, lambda *_: None)
    assert upkeep.load_lists(store, reader) is None
    lists = upkeep.load_lists(store, VSpladeEncoder(other))
    assert lists is not None
    assert upkeep.missing_documents(lists, store.documents()) == []
    (hit,) = Searcher(store, encoder, None, changed).search(question_for(VSpladeEncoder(other), 1)).candidates
    assert hit.page.page_id == "a#2"


def test_a_model_that_is_not_v_splade_or_not_here_is_an_error(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = load_file(checkpoint / "model.safetensors")

    def broken(name: str, kept: Callable[[str], bool]) -> Path:
        folder = shutil.copytree(checkpoint, tmp_path / name)
        left = {key: tensor for key, tensor in weights.items() if kept(key)}
        save_file(left, folder / "model.safetensors", {"format": "pt"})
        return folder

    with pytest.raises(ModelBroken, match="does not hold the weights of V-SPLADE"):
        load_sparse_encoder(settings_for(broken("no-query", lambda key: "query_encoder" not in key)))
    lacking = VSpladeEncoder(settings_for(broken("no-head", lambda key: "mlm_head.dense.bias" not in key)))
    with pytest.raises(ModelBroken, match=r"1 missing \(mlm_head.dense.bias\)"):
        lacking.encode_images([file_of(IMAGES[0])])
    folder = shutil.copytree(checkpoint, tmp_path / "no-template")
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelBroken, match="has no chat template"):
        VSpladeEncoder(settings_for(folder)).encode_images([file_of(IMAGES[0])])
    with pytest.raises(DeviceMissing):
        VSpladeEncoder(settings_for(checkpoint, device="cuda:7")).encode_images([file_of(IMAGES[0])])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelMissing, match=r"naver/v-splade-quality, 0.66 GB"):
        load_sparse_encoder(configs.VSplade())
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "retrieval.encoders.v_splade")
    with pytest.raises(MissingExtra, match="make gpu"):
        load_sparse_encoder(configs.VSplade())


def test_weights_that_are_not_finite_are_an_error(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "v_splade")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.mlm_head.decoder.bias"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelBroken, match="not finite"):
        VSpladeEncoder(settings_for(folder)).encode_images([file_of(IMAGES[2])])


def test_a_profile_needs_the_model() -> None:
    settings = configs.Settings(search=configs.Search(sparse=configs.VSplade(revision="abc")))
    assert list(needed(settings)) == [Needed("sparse", "naver/v-splade-quality", "abc")]
