from pathlib import Path

import pytest

import configs.settings as configs
from configs.errors import ProfileError


@pytest.mark.parametrize("name", configs.profile_names())
def test_every_profile_that_ships_fits_the_schema(name: str) -> None:
    assert configs.load_profile(name)


def test_the_default_profile_is_the_embedded_one() -> None:
    assert configs.load_profile("cpu").encoder == configs.Words()


def test_an_unknown_profile_names_those_that_exist() -> None:
    with pytest.raises(ProfileError, match=r"cpu, .*smoke"):
        configs.load_profile("gpu-900gb")


def test_a_profile_is_also_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("search: {depth: 50}\nencoder: {kind: hashing, dim: 8}\n")
    assert configs.load_profile(str(file)).search.depth == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("search: {deph: 50}", r"search\.deph.*given: 50"),
        ("search: {depth: -1}", r"search\.depth.*greater than 0.*given: -1"),
        ("encoder: {kind: magic}", "encoder.*magic"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ProfileError, match=message):
        configs.load_profile(str(file))
