"""Profiles are checked against the schema of the settings."""

import ast
from itertools import pairwise
from pathlib import Path

import pytest

import configs.settings as configs
from configs.errors import ProfileError


@pytest.mark.parametrize("name", configs.profile_names())
def test_every_profile_that_ships_fits_the_schema(name: str) -> None:
    assert configs.load_profile(name)


def test_the_default_profile_has_the_encoder_that_ships() -> None:
    assert configs.load_profile("cpu").encoder == configs.Words()


def test_the_error_for_an_unknown_profile_names_the_profiles_that_exist() -> None:
    with pytest.raises(ProfileError, match=r"cpu, .*smoke"):
        configs.load_profile("gpu-900gb")


def test_a_yaml_file_is_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
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
def test_the_error_for_a_wrong_setting_names_it_and_its_value(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ProfileError, match=message):
        configs.load_profile(str(file))


def test_every_setting_has_a_docstring() -> None:
    """The docstrings of the settings are their documentation; only these names explain themselves."""
    plain = {"kind", "model", "ingest", "search", "serve"}
    for part in ast.parse(Path(configs.__file__).read_text()).body:
        if not isinstance(part, ast.ClassDef) or part.name == "Model":
            continue
        assert ast.get_docstring(part), part.name
        for line, after in pairwise([*part.body, None]):
            if (
                isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and line.target.id not in plain
            ):
                assert isinstance(after, ast.Expr), f"{part.name}.{line.target.id}"
