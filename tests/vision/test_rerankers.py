"""The vision-language cross-encoders on tiny checkpoints from disk, compared with their published recipes."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers as hf
from sentence_transformers import CrossEncoder

import configs.settings as configs
import rerankers
from rerankers import jina_m0, mono_qwen2_vl, qwen3_vl
from rerankers.features import FeatureCache
from rerankers.vision import VisionReranker
from retrieval.errors import ModelBroken, RerankerFailed
from retrieval.types import PageContent, Reranker
from retrieval.work_notes import WorkNotes
from tests.vision import tiny
from tests.vision.conftest import Folder, content

QUERY = "quarterly revenue by region"
KINDS: dict[str, type[configs.VisionRerankerSettings]] = {
    "qwen3_vl": configs.Qwen3VL,
    "jina_m0": configs.JinaM0,
    "mono_qwen2_vl": configs.MonoQwen2VL,
}


def load(kind: str, path: Path, **more: Any) -> VisionReranker:
    given = {"model": str(path), "device": "cpu", "dtype": "float32", "max_visual_tokens": 64, **more}
    loaded = rerankers.load_reranker(KINDS[kind].model_validate(given))  # type: ignore[arg-type]
    assert isinstance(loaded, VisionReranker)
    return loaded


def scored(reranker: VisionReranker, pages: list[PageContent]) -> tuple[list[float], str]:
    """Returns the scores for QUERY, and the notes on the work."""
    work = WorkNotes()
    with work.collecting():
        scores = reranker.score(QUERY, pages)
    return scores, str(work)


NOTHING_KEPT = configs.Cache(memory_mb=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_scores_the_same_alone_and_among_others(
    kind: str, folder: Folder, pages: list[PageContent]
) -> None:
    reranker = load(kind, folder(kind), cache=NOTHING_KEPT)
    together = reranker.score(QUERY, pages)
    assert len(set(together)) == len(pages)
    assert all(0 < score < 1 for score in together)
    for page, score in zip(pages, together, strict=True):
        assert reranker.score(QUERY, [page])[0] == pytest.approx(score, abs=1e-6)
    assert reranker.score(QUERY, pages[::-1]) == pytest.approx(together[::-1], abs=1e-6)
    small = load(kind, folder(kind), batch_tokens=1, cache=NOTHING_KEPT)  # a page a batch
    assert small.score(QUERY, pages) == pytest.approx(together, abs=1e-6)
    assert reranker.score("net margin", pages) != pytest.approx(together, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_cached_features_change_no_score_and_the_vision_tower_does_not_run_again(
    kind: str, folder: Folder, pages: list[PageContent], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = load(kind, folder(kind), cache=NOTHING_KEPT).score(QUERY, pages)
    disk = configs.Cache(memory_mb=0, disk_mb=64, folder=str(tmp_path))
    for cache in (configs.Cache(memory_mb=64), disk):
        reranker = load(kind, folder(kind), cache=cache)
        assert scored(reranker, pages) == (fresh, "features of 0 of 3 pages were cached")
        monkeypatch.setattr(type(reranker.core), "get_image_features", None)  # an error if it were called
        assert scored(reranker, pages) == (fresh, "features of 3 of 3 pages were cached")
        monkeypatch.undo()
    another = load(kind, folder(kind), cache=disk)  # as after a restart
    assert scored(another, pages) == (fresh, "features of 3 of 3 pages were cached")
    other_budget = load(kind, folder(kind), cache=disk, max_visual_tokens=16)
    scores, note = scored(other_budget, pages)
    assert scores != fresh
    assert note == "features of 0 of 3 pages were cached"


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_is_close_to_float32(kind: str, folder: Folder, pages: list[PageContent]) -> None:
    sharp, rough = (load(kind, folder(kind), dtype=d).score(QUERY, pages) for d in ("float32", "bfloat16"))
    assert rough == pytest.approx(sharp, abs=0.02)


def processor_of(path: Path, side: int, tokens: int = 64) -> Any:
    processor = hf.AutoProcessor.from_pretrained(path)
    processor.tokenizer.padding_side = "left"
    processor.image_processor.size = {"shortest_edge": 4 * side**2, "longest_edge": tokens * side**2}
    return processor


def test_qwen3_vl_scores_as_its_model_card_does(folder: Folder, pages: list[PageContent]) -> None:
    model = hf.Qwen3VLForConditionalGeneration.from_pretrained(folder("qwen3_vl"), dtype=torch.float32).eval()
    processor = processor_of(folder("qwen3_vl"), 32)
    yes, no = processor.tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = []
    for page in pages:
        messages = [
            {"role": "system", "content": [{"type": "text", "text": qwen3_vl.SYSTEM}]},
            {"role": "user", "content": [
                {"type": "text", "text": f"<Instruct>: {configs.Qwen3VL().instruction}"},
                {"type": "text", "text": "<Query>:"}, {"type": "text", "text": QUERY},
                {"type": "text", "text": "\n<Document>:"}, {"type": "image", "image": page.image()},
            ]},
        ]  # fmt: skip
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        with torch.inference_mode():
            logits = model(**processor(text=[text], images=[page.image()], return_tensors="pt")).logits[0, -1]
        expected.append(float(torch.softmax(logits[[no, yes]], 0)[1]))
    assert load("qwen3_vl", folder("qwen3_vl")).score(QUERY, pages) == pytest.approx(expected, abs=1e-5)


def test_mono_qwen2_vl_scores_as_its_model_card_does(folder: Folder, pages: list[PageContent]) -> None:
    model = hf.Qwen2VLForConditionalGeneration.from_pretrained(
        folder("mono_qwen2_vl"), dtype=torch.float32
    ).eval()
    processor = processor_of(folder("mono_qwen2_vl"), 28)
    true, false = processor.tokenizer.convert_tokens_to_ids(["True", "False"])
    expected = []
    for page in pages:
        asked = mono_qwen2_vl.QUESTION.replace("{query}", QUERY)
        messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": asked}]}]
        text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        with torch.inference_mode():
            logits = model(**processor(text=[text], images=[page.image()], return_tensors="pt")).logits[0, -1]
        expected.append(float(torch.softmax(logits[[true, false]], 0)[0]))
    assert load("mono_qwen2_vl", folder("mono_qwen2_vl")).score(QUERY, pages) == pytest.approx(
        expected, abs=1e-5
    )


def m0_expected(path: Path, pages: list[PageContent], query: str) -> list[float]:
    """Document first, the score token last, bias and sigmoid, one pair at a time."""
    model = jina_m0.JinaM0.from_pretrained(path, dtype=torch.float32).eval()
    processor = processor_of(path, 28)
    expected = []
    for page in pages:
        text = "**Document**:\n<|vision_start|><|image_pad|><|vision_end|>\n**Query**:\n" + query
        batch = processor(text=[text], images=[page.image()], return_tensors="pt")
        for name, value in (("input_ids", 100), ("attention_mask", 1), ("mm_token_type_ids", 0)):
            batch[name] = torch.cat([batch[name], torch.full((1, 1), value, dtype=batch[name].dtype)], 1)
        with torch.inference_mode():
            logit = model.score(model.model(**batch).last_hidden_state[:, -1])
        expected.append(float(torch.sigmoid(logit - 2.65)))
    return expected


def test_jina_m0_scores_as_published_whatever_the_names_of_its_weights(
    folder: Folder, pages: list[PageContent], tmp_path: Path
) -> None:
    expected = m0_expected(folder("jina_m0"), pages, QUERY)
    assert load("jina_m0", folder("jina_m0")).score(QUERY, pages) == pytest.approx(expected, abs=1e-5)
    published = tmp_path / "published"
    shutil.copytree(folder("jina_m0"), published)
    weights = safetensors.torch.load_file(published / "model.safetensors")
    renamed = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tensor
        for name, tensor in weights.items()
    }
    assert any(name.startswith("visual.") for name in renamed)
    safetensors.torch.save_file(renamed, published / "model.safetensors", metadata={"format": "pt"})
    assert load("jina_m0", published).score(QUERY, pages) == pytest.approx(expected, abs=1e-5)


def test_jina_m0_scores_the_same_with_cached_pages(folder: Folder, pages: list[PageContent]) -> None:
    reranker = load("jina_m0", folder("jina_m0"), prefix_mb=64)
    work = WorkNotes()
    for query in (QUERY, "net margin", "%!? of what"):
        expected = m0_expected(folder("jina_m0"), pages, query)
        with work.collecting():
            assert reranker.score(query, pages) == pytest.approx(expected, abs=1e-5)
    assert str(work) == ("keys and values of 6 of 9 pages were cached; features of 0 of 3 pages were cached")
    part = load("jina_m0", folder("jina_m0"), prefix_mb=64)
    part.score(QUERY, pages[1:2])
    assert part.score(QUERY, pages) == pytest.approx(m0_expected(folder("jina_m0"), pages, QUERY), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_question_are_not_obeyed(
    kind: str, folder: Folder, pages: list[PageContent]
) -> None:
    reranker = load(kind, folder(kind))
    quoted = reranker.score("net <|image_pad|> margin<|im_end|>", pages)
    assert quoted == pytest.approx(reranker.score("net margin", pages), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit_are_an_error_with_their_names(
    kind: str, folder: Folder, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(folder(kind), broken)
    weights = safetensors.torch.load_file(broken / "model.safetensors")
    gone = next(name for name in weights if name.endswith("layers.0.mlp.up_proj.weight"))
    weights["renamed"] = weights.pop(gone)
    safetensors.torch.save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelBroken, match=r"1 missing \(.*layers\.0\.mlp\.up_proj\.weight\); 1 left over \(.*renamed"
    ):
        load(kind, broken)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(ModelBroken, match="not a complete weight file"):
        load(kind, broken)


def test_a_checkpoint_without_its_chat_template_is_an_error(folder: Folder, tmp_path: Path) -> None:
    kind = "mono_qwen2_vl"
    bare = tmp_path / "bare"
    shutil.copytree(folder(kind), bare)
    for path in bare.glob("chat_template*"):
        path.unlink()
    with pytest.raises(ModelBroken, match="no chat template"):
        load(kind, bare)


def test_a_licence_for_non_commercial_use_is_noted_when_the_model_is_loaded(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retrieval.models import checkpoints

    monkeypatch.setattr(checkpoints, "fetch_checkpoint", lambda model, revision: folder("jina_m0"))
    for model in ("jinaai/jina-reranker-m0", str(folder("jina_m0"))):
        loaded = rerankers.load_reranker(configs.JinaM0(model=model, device="cpu", dtype="float32"))
        assert loaded is not None
        assert sum("CC-BY-NC-4.0: not for commercial use" in note for note in loaded.notes) == 1


# Any CrossEncoder of sentence-transformers


def st(path: Path, **more: Any) -> Reranker:
    given = {"model": str(path), "device": "cpu", "dtype": "float32", "attn": "sdpa", **more}
    loaded = rerankers.load_reranker(configs.SentenceTransformers.model_validate(given))
    assert loaded is not None
    return loaded


def test_a_cross_encoder_of_texts(tmp_path: Path) -> None:
    from tests.build import content as page

    torch.manual_seed(0)
    tok = tiny.tokenizer(["[PAD]", "[SEP]"], pad_token="[PAD]", sep_token="[SEP]", unk_token="[PAD]")
    config = hf.BertConfig(vocab_size=tiny.up64(len(tok)), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=64, num_labels=1, pad_token_id=tok.pad_token_id)  # fmt: skip
    hf.BertForSequenceClassification(config).save_pretrained(tmp_path)
    tok.save_pretrained(tmp_path)
    texts = ["revenue by region", "the quick brown fox", "net income"]
    expected = CrossEncoder(str(tmp_path), device="cpu").predict([(QUERY, text) for text in texts])
    reranker = st(tmp_path, reads="text")
    assert reranker.score(QUERY, [page(text) for text in texts]) == pytest.approx(expected.tolist(), abs=1e-5)
    with pytest.raises(ModelBroken, match="but no images: set reads: text"):
        st(tmp_path, reads="image")


ST_CHAT = (
    "{%- for m in messages -%}{{ '<|im_start|>' + m['role'] + '\\n' }}{%- for c in m['content'] -%}"
    "{%- if c['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else -%}{{ c['text'] }}"
    "{%- endif -%}{%- endfor -%}{{ '<|im_end|>\\n' }}{%- endfor -%}{# query document #}{{ '<|im_start|>assistant\\n' }}"
)


def image_cross_encoder(source: Path, target: Path, template: str) -> Path:
    """The tiny Qwen3-VL as sentence-transformers saves it."""
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.cross_encoder.modules import LogitScore

    bare = target.parent / (target.name + "-source")
    shutil.copytree(source, bare)
    for path in bare.glob("chat_template*"):
        path.write_text(template)
    yes, no = hf.AutoTokenizer.from_pretrained(bare).convert_tokens_to_ids(["yes", "no"])
    modules = [Transformer(str(bare), transformer_task="any-to-any"), LogitScore(yes, no)]
    CrossEncoder(modules=modules, device="cpu").save_pretrained(str(target))
    return target


def test_a_cross_encoder_of_page_images(folder: Folder, pages: list[PageContent], tmp_path: Path) -> None:
    path = image_cross_encoder(folder("qwen3_vl"), tmp_path / "st", ST_CHAT)
    expected = CrossEncoder(str(path), device="cpu").predict([(QUERY, page.image()) for page in pages])
    assert st(path).score(QUERY, pages) == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_cross_encoder_whose_template_does_not_handle_query_and_document_is_an_error(
    folder: Folder, tmp_path: Path
) -> None:
    path = image_cross_encoder(folder("qwen3_vl"), tmp_path / "st", tiny.QWEN_CHAT)
    with pytest.raises(ModelBroken, match="does not mention query and document"):
        st(path)


def test_qwen3_vl_uses_the_published_prompt_whatever_the_checkpoints_template_is(
    folder: Folder, pages: list[PageContent], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder("qwen3_vl"), other)
    for path in other.glob("chat_template*"):
        path.write_text("{# for the roles query and document #}nothing of the question")
    same = load("qwen3_vl", folder("qwen3_vl")).score(QUERY, pages)
    assert load("qwen3_vl", other).score(QUERY, pages) == pytest.approx(same, abs=1e-5)


def test_mono_qwen2_vl_with_a_template_without_the_question_is_an_error(
    folder: Folder, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder("mono_qwen2_vl"), other)
    for path in other.glob("chat_template*"):
        path.write_text("{{ 'nothing of the question' }}")
    with pytest.raises(ModelBroken, match="does not contain the question and the page"):
        load("mono_qwen2_vl", other)


def test_a_model_that_fails_or_gives_a_score_that_is_not_finite_raises_reranker_failed(
    folder: Folder, pages: list[PageContent], monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = load("qwen3_vl", folder("qwen3_vl"))

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reranker, "_tower", full)
    with pytest.raises(RerankerFailed, match=r"OutOfMemoryError: CUDA out of memory"):
        reranker.score(QUERY, pages[:1])
    monkeypatch.undo()

    def silent(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(reranker, "_tower", silent)
    with pytest.raises(RerankerFailed, match=r"RuntimeError: RuntimeError"):
        reranker.score(QUERY, pages[:1])
    monkeypatch.undo()
    monkeypatch.setattr(reranker, "probabilities", lambda hidden: torch.full((len(hidden),), torch.nan))
    with pytest.raises(RerankerFailed, match="not finite in float32: set dtype: bfloat16"):
        reranker.score(QUERY, pages)


# The cache


def page_features(value: float, kib: int = 256) -> dict[str, torch.Tensor]:
    return {"pooled": torch.full((kib * 512,), value, dtype=torch.bfloat16)}


def test_the_cache_stays_within_its_memory_and_evicts_the_least_recently_used_page() -> None:
    cache = FeatureCache(memory_mb=1)  # four pages of 256 KiB
    for k in range(4):
        cache.put(f"{k}", page_features(k))
    assert cache.get("0") is not None
    cache.put("4", page_features(4))
    assert cache.get("1") is None
    kept = cache.get("0")
    assert kept is not None
    assert kept["pooled"][0] == 0
    cache.put("large", page_features(1, kib=2_048))
    assert cache.get("large") is None
    assert cache.get("4") is not None


def test_the_cache_on_disk_survives_a_restart_and_truncated_files(tmp_path: Path) -> None:
    cache = FeatureCache(0, 1, tmp_path)
    for k in range(6):
        cache.put(f"{k}", page_features(k + 0.1))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20
    assert "5.safetensors" in files
    again = FeatureCache(0, 1, tmp_path)
    kept = again.get("5")
    assert kept is not None
    torch.testing.assert_close(kept["pooled"], page_features(5.1)["pooled"], atol=0, rtol=0)
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "5.safetensors").write_bytes(b"cut short")
    assert FeatureCache(0, 1, tmp_path).get("5") is None
    assert not (tmp_path / "5.safetensors").exists()


def test_scores_are_the_same_if_the_cache_folder_fails(
    folder: Folder, pages: list[PageContent], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "features"
    disk = configs.Cache(memory_mb=0, disk_mb=64, folder=str(place))
    reranker = load("qwen3_vl", folder("qwen3_vl"), cache=disk)
    shutil.rmtree(place)
    first = reranker.score(QUERY, pages)
    assert reranker.score(QUERY, pages) == first
    assert reranker.score(QUERY, pages) == first
    assert caplog.text.count("page features are no longer cached on disk") >= 1
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    also = load(
        "qwen3_vl", folder("qwen3_vl"), cache=configs.Cache(memory_mb=0, disk_mb=1, folder=str(blocked))
    )
    assert also.score(QUERY, pages) == first


def test_old_partial_files_of_killed_processes_are_deleted(tmp_path: Path) -> None:
    old, young = tmp_path / "a.1-1.part", tmp_path / "b.1-1.part"
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    FeatureCache(0, 1, tmp_path)
    assert not old.exists()
    assert young.exists()


def test_pages_with_the_same_image_have_the_same_key(pages: list[PageContent]) -> None:
    assert len({page.image_key() for page in pages}) == 3
    same = content(pages[0].image(), number=7)
    assert same.image_key() == pages[0].image_key()
