"""Pixels that reach the device as bytes become what the image processor itself makes of an image, bit for bit."""

from typing import Any

import pytest
import torch
import transformers as hf

from retrieval.models.checkpoints import Placement
from retrieval.models.pixels import Pixels
from tests.vision import tiny

CPU = Placement(torch.device("cpu"), torch.float32, "sdpa")
MEAN, STD = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]  # of channels that differ


def qwen(**options: Any) -> Any:
    size = {"shortest_edge": 4096, "longest_edge": 64 * 1024}
    return hf.Qwen2VLImageProcessor(patch_size=16, size=size, image_mean=MEAN, image_std=STD, **options)


PROCESSORS = {
    "patches": qwen(),
    "images": hf.SiglipImageProcessor(size={"height": 64, "width": 64}, image_mean=MEAN, image_std=STD),
    "without normalising": qwen(do_normalize=False),
}


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_values_are_the_image_processors_own(name: str, mode: str) -> None:
    processor = PROCESSORS[name]
    image = tiny.page(200, 300, seed=3).convert(mode)
    pixels = Pixels(processor, CPU)
    prepared = pixels.prepare(image)
    true = processor(images=[image.convert("RGB")], return_tensors="pt")
    assert torch.equal(pixels.values(prepared["pixel_values"]), true["pixel_values"])
    assert prepared.keys() == true.keys()
    if "image_grid_thw" in true:
        assert torch.equal(prepared["image_grid_thw"], true["image_grid_thw"])


def test_a_limit_that_is_set_later_counts() -> None:
    processor, image = qwen(), tiny.page(200, 300)
    pixels = Pixels(processor, CPU)
    many = len(pixels.prepare(image)["pixel_values"])
    processor.size = {"shortest_edge": 4096, "longest_edge": 16 * 1024}
    few = pixels.prepare(image)["pixel_values"]
    assert len(few) < many
    assert torch.equal(pixels.values(few), processor(images=[image], return_tensors="pt")["pixel_values"])


def test_pages_travel_as_bytes_and_are_not_changed_by_reading_them() -> None:
    pixels = Pixels(qwen(), CPU)
    prepared = pixels.prepare(tiny.page(200, 300))["pixel_values"]
    before = prepared.clone()
    assert prepared.dtype == torch.uint8
    first, second = pixels.values(prepared), pixels.values(prepared)
    assert torch.equal(first, second)
    assert torch.equal(prepared, before)


def test_the_dtype_is_the_models() -> None:
    half = Pixels(qwen(), Placement(torch.device("cpu"), torch.bfloat16, "sdpa"))
    assert half.values(half.prepare(tiny.page(200, 300))["pixel_values"]).dtype == torch.bfloat16
