from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

import configs.settings as configs
from retrieval.encoders.vision import VisionEncoder
from retrieval.types import Page, PageContent
from tests.vision import tiny

Folder = Callable[[str], Path]
Load = Callable[..., VisionEncoder]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Returns the folder of a tiny checkpoint by name; tests must not change its files."""
    root = tmp_path_factory.mktemp("checkpoints")
    return lambda name: tiny.checkpoint(name, root)


def settings_for(name: str, path: Path, **more: object) -> configs.ColVision | configs.NeoMME:
    given: dict[str, object] = {"model": str(path), "device": "cpu", "dtype": "float32", **more}
    if name == "neomme":
        return configs.NeoMME.model_validate({"max_side": 320, **given})
    return configs.ColVision.model_validate({"family": name, **given})


@pytest.fixture
def load(folder: Folder) -> Load:
    """Loads the encoder of a family with its tiny checkpoint."""
    import retrieval.encoders

    def loaded(name: str, **more: object) -> VisionEncoder:
        encoder = retrieval.encoders.load_encoder(settings_for(name, folder(name), **more))
        assert isinstance(encoder, VisionEncoder)
        return encoder

    return loaded


def content(image: Image.Image, number: int = 1) -> PageContent:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return PageContent(Page("d", number, "d.pdf", 612, 792), (), "none", buffer.getvalue)


@pytest.fixture(scope="session")
def pages() -> list[PageContent]:
    """Three pages: portrait, landscape, and of an unusual shape."""
    sizes = [(425, 550), (600, 350), (333, 97)]
    return [content(tiny.page(*size, seed=k), k + 1) for k, size in enumerate(sizes)]
