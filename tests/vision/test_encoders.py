"""Every family of page encoders on tiny checkpoints from disk: properties that do not depend on the weights."""

import json
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import colpali_engine.models as engine
import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageDraw

import configs.settings as configs
from retrieval.encoders import colvision
from retrieval.encoders.vision import VisionEncoder
from retrieval.errors import DeviceMissing, MissingExtra, ModelBroken
from retrieval.models import checkpoints
from retrieval.models.token_batches import TokenBudget
from retrieval.types import PageContent, Vectors
from tests.vision import tiny
from tests.vision.conftest import Folder, Load, content, settings_for

ROOT = Path(__file__).parents[2]
EVERY = [*tiny.FAMILIES, "neomme"]
QUESTIONS = ["net", "quarterly revenue by region, and what else the energy report says of it"]


@pytest.mark.parametrize("name", EVERY)
def test_a_page_is_the_same_alone_and_among_others(name: str, load: Load, pages: list[PageContent]) -> None:
    encoder = load(name)
    together = encoder.encode_pages(pages)
    for page, among in zip(pages, together, strict=True):
        alone = encoder.encode_pages([page])[0]
        np.testing.assert_allclose(alone.vectors, among.vectors, atol=2e-6)
        np.testing.assert_array_equal(alone.regions, among.regions)
        if name == "neomme":
            assert alone.dense is not None
            assert among.dense is not None
            np.testing.assert_allclose(alone.dense, among.dense, atol=2e-6)
    again = encoder.encode_pages(pages)
    for first, second in zip(together, again, strict=True):
        np.testing.assert_array_equal(first.vectors, second.vectors)


@pytest.mark.parametrize("name", EVERY)
def test_a_question_is_the_same_alone_and_beside_a_longer_one(name: str, load: Load) -> None:
    encoder = load(name)
    together = encoder.encode_queries(QUESTIONS)
    for question, among in zip(QUESTIONS, together, strict=True):
        alone = encoder.encode_queries([question])[0]
        np.testing.assert_allclose(alone.vectors, among.vectors, atol=2e-6)
        assert alone.tokens == among.tokens
        words = {token for token, own in zip(alone.tokens, alone.content, strict=True) if own}
        assert words == {word.strip(",") for word in question.split()}


@pytest.mark.parametrize("name", EVERY)
def test_vectors_have_unit_length_and_every_image_vector_has_its_region(
    name: str, load: Load, pages: list[PageContent]
) -> None:
    for embedding in load(name).encode_pages(pages):
        np.testing.assert_allclose(np.linalg.norm(embedding.vectors, axis=1), 1, atol=1e-5)
        placed = embedding.regions[~np.isnan(embedding.regions).any(axis=1)]
        assert len(placed) >= 4
        assert len(placed) < len(embedding.regions)  # vectors of the prompt have no region
        assert (placed >= 0).all()
        assert (placed <= 1).all()
        assert (placed[:, 2:] > placed[:, :2]).all()
        area = np.prod(placed[:, 2:] - placed[:, :2], axis=1).sum()
        assert area == pytest.approx(2 if name in ("colidefics3", "colmodernvbert") else 1, abs=1e-3)


def features(encoder: VisionEncoder, image: Image.Image) -> torch.Tensor:
    """Returns the vision tower's features (image tokens, d), before attention mixes them with the text."""
    family = encoder._family
    inputs = family.page(image).tensors
    if isinstance(family, colvision.ColQwen):
        out = family.model.get_image_features(
            inputs["pixel_values"], inputs["image_grid_thw"][None], return_dict=True
        )
    elif isinstance(family, colvision.ColGemma3):
        out = family.model.get_image_features(inputs["pixel_values"][None], return_dict=True)
    elif isinstance(family, colvision.ColTiled):
        masks = {"pixel_attention_mask": inputs["pixel_attention_mask"][None]}
        out = family.model.model.get_image_features(
            pixel_values=inputs["pixel_values"][None], **masks, return_dict=True
        )
    elif isinstance(family, colvision.ColPali):
        out = family.model.model.model.get_image_features(
            pixel_values=inputs["pixel_values"][None], return_dict=True
        )
    else:
        out = family._model.model.get_image_features(inputs["pixel_values"], return_dict=True)  # type: ignore[attr-defined]
    pooled = out.pooler_output
    rows = (
        torch.cat([p.reshape(-1, p.shape[-1]) for p in pooled])
        if isinstance(pooled, (list, tuple))
        else pooled
    )
    return rows.reshape(-1, rows.shape[-1])


@pytest.mark.parametrize("size", [(425, 550), (600, 350), (517, 401)])
@pytest.mark.parametrize("name", EVERY)
def test_a_block_drawn_on_the_page_changes_the_vector_whose_region_contains_it(
    name: str, size: tuple[int, int], load: Load
) -> None:
    encoder = load(name)
    rng = random.Random(3)
    width, height = size
    page = tiny.page(width, height)
    regions = encoder.encode_pages([content(page)])[0].regions
    boxes = regions[~np.isnan(regions).any(axis=1)]
    with torch.inference_mode():
        before = features(encoder, page)
        for k in range(4):
            x, y = rng.randrange(width - 40), rng.randrange(height - 40)
            planted = page.copy()
            ImageDraw.Draw(planted).rectangle((x, y, x + 30, y + 30), fill="red" if k % 2 else "black")
            changed = (features(encoder, planted) - before).norm(dim=-1).numpy()
            assert len(changed) == len(boxes)
            x0, y0, x1, y1 = boxes[int(changed.argmax())] * np.array([width, height, width, height])
            middle = (x0 + x1) / 2, (y0 + y1) / 2
            assert x - (x1 - x0) <= middle[0] <= x + 30 + (x1 - x0)
            assert y - (y1 - y0) <= middle[1] <= y + 30 + (y1 - y0)


@pytest.mark.parametrize("name", tiny.FAMILIES)
def test_vectors_are_those_of_the_library(
    name: str, load: Load, folder: Folder, pages: list[PageContent]
) -> None:
    model_class, processor_class = colvision.CLASSES[name]
    model = model_class.from_pretrained(folder(name), dtype=torch.float32).eval()
    processor = processor_class.from_pretrained(folder(name))
    processor.query_prefix = "Query: " if name in colvision.PREFIXED else ""
    encoder = load(name)
    with torch.inference_mode():
        for page in pages:
            theirs = model(**processor.process_images([page.image()]))[0].numpy()
            np.testing.assert_allclose(encoder.encode_pages([page])[0].vectors, theirs, atol=1e-5)
        batch = processor.process_queries([QUESTIONS[1]])
        if (
            name == "colpali"
        ):  # without padding, the library omits this mask: colvision's docstring says why it matters
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        theirs = model(**batch)[0].numpy()
    np.testing.assert_allclose(encoder.encode_queries([QUESTIONS[1]])[0].vectors, theirs, atol=1e-5)


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_is_close_to_float32(name: str, load: Load, pages: list[PageContent]) -> None:
    sharp, rough = (
        load(name, dtype=dtype).encode_pages(pages[:1])[0].vectors for dtype in ("float32", "bfloat16")
    )
    assert (sharp * rough).sum(axis=1).min() > 0.99


def test_special_tokens_in_a_question_are_not_obeyed(load: Load) -> None:
    encoder = load("colqwen2")
    plain, quoted = encoder.encode_queries(["net margin", "net <|image_pad|><|im_end|> margin"])
    assert set(quoted.tokens) <= set(plain.tokens) | {"Ġ"}
    assert "<|image_pad|>" not in quoted.tokens


def test_visual_tokens_are_limited_if_the_family_allows_it(load: Load, pages: list[PageContent]) -> None:
    for name, budget in (("colqwen2", 16), ("colqwen3_5", 16), ("colidefics3", 128)):
        regions = load(name, max_visual_tokens=budget).encode_pages(pages[:1])[0].regions
        assert 4 <= (~np.isnan(regions).any(axis=1)).sum() <= budget
    with pytest.raises(ModelBroken, match="colpali always makes the same number"):
        load("colpali", max_visual_tokens=16)
    with pytest.raises(ModelBroken, match="at least 128 tokens of a page: set max_visual_tokens to 128"):
        load("colmodernvbert", max_visual_tokens=100)


def test_shorter_vectors_are_prefixes_of_unit_length_and_another_index(
    load: Load, pages: list[PageContent]
) -> None:
    whole, short = load("colqwen3_5"), load("colqwen3_5", truncate_dim=32)
    assert short.fingerprint.dim == 32
    assert any("does not say that it was trained for shorter vectors" in note for note in short.notes)
    long, cut = (encoder.encode_pages(pages[:1])[0].vectors for encoder in (whole, short))
    prefix = long[:, :32] / np.linalg.norm(long[:, :32], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, prefix, atol=1e-6)
    with pytest.raises(ModelBroken, match=r"truncate_dim is 256.* 128 dimensions"):
        load("colqwen3_5", truncate_dim=256)


def test_pooled_vectors_have_the_union_of_their_cells_as_region(load: Load, pages: list[PageContent]) -> None:
    whole = load("colqwen2").encode_pages(pages[:1])[0]
    encoder = load("colqwen2", pool_factor=3)
    pooled = encoder.encode_pages(pages[:1])[0]
    assert encoder.fingerprint.pooling == "hierarchical 3"
    image = ~np.isnan(whole.regions).any(axis=1)
    kept = ~np.isnan(pooled.regions).any(axis=1)
    assert (~kept).sum() == (~image).sum()  # the prompt is not pooled
    assert image.sum() // 4 <= kept.sum() <= image.sum() // 3
    np.testing.assert_allclose(np.linalg.norm(pooled.vectors, axis=1), 1, atol=1e-5)
    boxes = pooled.regions[kept]
    for cell in whole.regions[image]:  # every cell of the page is inside one of them
        inside = (boxes[:, :2] <= cell[:2] + 1e-6).all(axis=1) & (boxes[:, 2:] >= cell[2:] - 1e-6).all(axis=1)
        assert inside.any()


def test_bidirectional_lets_the_first_word_attend_to_the_last(load: Load) -> None:
    def first(encoder: VisionEncoder, text: str) -> Vectors:
        return np.asarray(encoder.encode_queries([text])[0].vectors[0])

    causal, both = load("colqwen3_5"), load("colqwen3_5", bidirectional=True)
    assert both.fingerprint != causal.fingerprint
    np.testing.assert_array_equal(first(causal, "net income"), first(causal, "net margin"))
    assert np.abs(first(both, "net income") - first(both, "net margin")).max() > 1e-5
    with pytest.raises(ModelBroken, match="bidirectional"):
        load("colpali", bidirectional=True)


@pytest.mark.parametrize("layout", ["new", "of 2024"])
def test_adapters_are_merged_into_their_base(
    layout: str, folder: Folder, tmp_path: Path, pages: list[PageContent]
) -> None:
    from peft import LoraConfig, get_peft_model

    base = engine.ColQwen2.from_pretrained(folder("colqwen2"), dtype=torch.float32).eval()
    processor = engine.ColQwen2Processor.from_pretrained(folder("colqwen2"))
    torch.manual_seed(1)
    adapted = get_peft_model(base, LoraConfig(
        r=4, lora_alpha=16, init_lora_weights=False, task_type="FEATURE_EXTRACTION",
        target_modules=r"(.*(language_model).*(down_proj|gate_proj|up_proj|k_proj|q_proj|v_proj|o_proj).*$|"
                       r".*(custom_text_proj).*$)",
    ))  # fmt: skip
    with torch.inference_mode():
        theirs = adapted(**processor.process_images([pages[0].image()]))[0].numpy()
    adapted.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(folder("colqwen2"))
    if layout == "of 2024":
        config["target_modules"] = config["target_modules"].replace("(language_model)", "(model)")
        weights = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
        renamed = {
            k.replace("base_model.model.language_model.", "base_model.model.model."): v
            for k, v in weights.items()
        }
        safetensors.torch.save_file(
            renamed, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"}
        )
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    settings = configs.ColVision(family="colqwen2", model=str(tmp_path), device="cpu", dtype="float32")
    ours = colvision.load(settings).encode_pages(pages[:1])[0].vectors
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_batch_halves_when_memory_runs_out_and_no_page_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def compute(batch: list[int]) -> list[str]:
        tried.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return [f"page {i}" for i in batch]

    budget = TokenBudget(800)
    assert budget.run_batches([100] * 9, compute) == [f"page {i}" for i in range(9)]
    assert tried == [8, 4, 2, 2, 2, 2, 1]
    assert budget.tokens == 200
    assert "from now on at most 4" in caplog.text
    with pytest.raises(torch.OutOfMemoryError):
        TokenBudget(10).run_batches([50], lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError()))


def test_batches_are_sized_by_their_longest_row() -> None:
    assert TokenBudget(100).batches([10, 90, 30, 40, 20, 300]) == [[5], [1], [3, 2], [4, 0]]


def test_expected_pages_are_prepared_ahead_and_their_number_is_limited(
    load: Load, pages: list[PageContent]
) -> None:
    encoder = load("colqwen2")
    encoder.expect(pages)
    together = encoder.encode_pages(pages)
    assert not encoder._expected
    np.testing.assert_array_equal(together[1].vectors, load("colqwen2").encode_pages(pages)[1].vectors)
    for number in range(300):
        encoder.expect([content(tiny.page(64, 64), number)])
    assert len(encoder._expected) == 256


def test_gemma_with_an_attention_that_changes_its_vectors_is_an_error(folder: Folder) -> None:
    with pytest.raises(ModelBroken, match="set attn: sdpa"):
        colvision.load(
            configs.ColVision(family="colgemma3", model=str(folder("colgemma3")), attn="flash_attention_2")
        )


def test_vectors_that_are_not_finite_are_an_error(
    load: Load, pages: list[PageContent], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load("colqwen2")
    broken = torch.full((1, 400, 128), torch.nan)
    monkeypatch.setattr(encoder._family, "forward", lambda batch, items: (broken, None))
    with pytest.raises(ValueError, match="not finite in float32"):
        encoder.encode_pages(pages[:1])


def copied(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target


def test_weights_that_do_not_fit_are_an_error_with_their_names(folder: Folder, tmp_path: Path) -> None:
    def broken(path: Path, family: str = "colqwen2") -> str:
        with pytest.raises(ModelBroken) as caught:
            colvision.load(configs.ColVision(family=family, model=str(path), device="cpu", dtype="float32"))  # type: ignore[arg-type]
        return str(caught.value)

    renamed = copied(folder("colqwen2"), tmp_path / "renamed")
    weights = safetensors.torch.load_file(renamed / "model.safetensors")
    weights["custom_text_prog.weight"] = weights.pop("custom_text_proj.weight")
    safetensors.torch.save_file(weights, renamed / "model.safetensors", metadata={"format": "pt"})
    message = broken(renamed)
    assert "1 missing (custom_text_proj.weight)" in message
    assert "1 left over (custom_text_prog.weight)" in message

    reshaped = copied(folder("colqwen2"), tmp_path / "reshaped")
    weights = safetensors.torch.load_file(reshaped / "model.safetensors")
    weights["custom_text_proj.bias"] = torch.zeros(64)
    safetensors.torch.save_file(weights, reshaped / "model.safetensors", metadata={"format": "pt"})
    assert "custom_text_proj.bias" in broken(reshaped)

    cut = copied(folder("colqwen2"), tmp_path / "cut")
    whole = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert f"{cut / 'model.safetensors'} is not a complete weight file" in broken(cut)

    without = copied(folder("colqwen2"), tmp_path / "without")
    (without / "model.safetensors").unlink()
    assert "holds no weights" in broken(without)

    assert "left over" in broken(folder("colqwen3"), "colqwen2") or "missing" in broken(
        folder("colqwen3"), "colqwen2"
    )


@pytest.mark.parametrize("name", EVERY)
def test_pages_and_questions_can_be_encoded_from_many_threads_at_once(
    name: str, load: Load, pages: list[PageContent]
) -> None:
    encoder = load(name)
    expected = encoder.encode_queries(QUESTIONS[:1])[0].vectors
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(encoder.encode_queries, QUESTIONS[:1]) for _ in range(40)]
        for number in range(40):
            encoder.expect([content(tiny.page(90, 80, number), number)])
        read = threads.submit(encoder.encode_pages, [content(tiny.page(90, 80, n), n) for n in range(40)])
        assert len(read.result()) == 40
        for answer in asked:
            np.testing.assert_allclose(answer.result()[0].vectors, expected, atol=2e-6)


def test_models_of_the_hub_are_loaded_from_its_cache_and_named_by_their_commit(
    folder: Folder, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--tiny--colqwen2"
    shutil.copytree(folder("colqwen2"), cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    script = (
        "import configs.settings as c, retrieval.encoders as e, sys\n"
        "s = c.ColVision(family='colqwen2', model='tiny/colqwen2', device='cpu', revision=sys.argv[1] or None)\n"
        "print(e.load_encoder(s).fingerprint)"
    )

    def run(revision: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        environment.pop("HF_HUB_CACHE", None)
        return subprocess.run([sys.executable, "-c", script, revision], cwd=ROOT, env=environment,
                              capture_output=True, text=True)  # fmt: skip

    for revision in ("", commit):
        assert f"colvision tiny/colqwen2@{commit[:12]}" in run(revision).stdout
    other = run("f" * 40)
    assert "ModelMissing" in other.stderr
    assert f"hf download tiny/colqwen2 --revision {'f' * 40}" in other.stderr


@pytest.mark.parametrize("name", EVERY)
def test_a_renamed_weight_or_a_truncated_file_is_an_error_for_every_family(
    name: str, folder: Folder, tmp_path: Path
) -> None:
    import retrieval.encoders

    path = copied(folder(name), tmp_path / "broken")
    weights = safetensors.torch.load_file(path / "model.safetensors")
    gone = sorted(key for key in weights if "layers.1." in key and key.endswith("weight"))[-1]
    weights["of_another_model"] = weights.pop(gone)
    safetensors.torch.save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelBroken, match=r"1 missing \(.*layers\.1\..*1 left over \(of_another_model"):
        retrieval.encoders.load_encoder(settings_for(name, path))
    (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(ModelBroken, match=r"model\.safetensors is not a complete weight file"):
        retrieval.encoders.load_encoder(settings_for(name, path))


def test_a_device_or_an_attention_that_this_machine_lacks_is_an_error_and_never_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceMissing, match=r"asks for cuda:1, but torch .* finds no CUDA GPU"):
        checkpoints.choose_placement("cuda:1", "bfloat16", "auto")
    assert str(checkpoints.choose_placement("auto", "bfloat16", "auto")) == "bfloat16, sdpa attention, on cpu"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="flash-attn is not installed"):
        checkpoints.choose_placement("cpu", "bfloat16", "flash_attention_2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # as if it were installed
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert checkpoints.choose_placement("cuda", "bfloat16", "auto").attention == "flash_attention_2"
    assert checkpoints.choose_placement("cuda", "float32", "auto").attention == "sdpa"
    with pytest.raises(DeviceMissing, match="this machine has 1 GPUs") as missing:
        checkpoints.choose_placement("cuda:1", "bfloat16", "auto")
    assert "set device" not in missing.value.message  # readers of the web page cannot change the profile
    assert missing.value.remedy == "set device: cuda:0, or device: auto"
