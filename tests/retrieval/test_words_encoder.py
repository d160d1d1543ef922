"""The default encoder with the model that ships."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import configs.settings as configs
from retrieval.encoders.words import OVERLAP, WordsEncoder, piece_runs, windows
from retrieval.errors import ModelBroken
from retrieval.models.onnx import MODELS, ModelFolder
from retrieval.recall.maxsim import maxsim
from retrieval.types import PageContent, PageEmbedding
from tests.build import content

PUMP = "The centrifugal pump was tested at full load\nand its bearings ran hot after two hours"
MONEY = "Revenue of the retail segment grew by four percent\nwhile operating costs fell"


@pytest.fixture(scope="module")
def encoder() -> WordsEncoder:
    return WordsEncoder(configs.Words())


def best(encoder: WordsEncoder, query: str, pages: Sequence[PageEmbedding]) -> int:
    asked = encoder.encode_queries([query])[0]
    return int(np.argmax([maxsim(asked, page.vectors) for page in pages]))


@pytest.mark.parametrize(
    ("query", "expected"),
    [("which machine became too warm?", 0), ("did sales of shops rise?", 1), ("bearings", 0)],
)
def test_meaning_finds_the_page_that_shares_no_word(encoder: WordsEncoder, query: str, expected: int) -> None:
    pages = encoder.encode_pages([content(PUMP), content(MONEY)])
    assert best(encoder, query, pages) == expected


def test_every_vector_has_unit_length_and_the_box_of_its_words(encoder: WordsEncoder) -> None:
    page = content(PUMP)
    embedding = encoder.encode_pages([page])[0]
    assert embedding.vectors.shape == (len(embedding.regions), encoder.fingerprint.dim)
    np.testing.assert_allclose(np.linalg.norm(embedding.vectors, axis=1), 1, atol=1e-5)
    boxes = np.array([word.box for word in page.words])
    window = embedding.regions[0]
    np.testing.assert_allclose(window, [*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0)], atol=1e-6)
    assert ((embedding.regions[1:, 3] - embedding.regions[1:, 1]) < 0.06).all()


def test_a_page_does_not_depend_on_the_pages_encoded_with_it(encoder: WordsEncoder) -> None:
    together = encoder.encode_pages([content(PUMP), content(MONEY * 30), content(MONEY)])
    for text, other in zip([PUMP, MONEY * 30, MONEY], together, strict=True):
        alone = encoder.encode_pages([content(text)])[0]
        np.testing.assert_array_equal(alone.vectors, other.vectors)
    first, second = encoder.encode_queries(["warm machine", "a much longer question about sales in shops"])
    np.testing.assert_array_equal(encoder.encode_queries(["warm machine"])[0].vectors, first.vectors)
    assert second.vectors.shape[0] == len(second.tokens)


def test_the_title_is_context_for_its_pages(encoder: WordsEncoder) -> None:
    plain = content("Total 412 388 365")
    pages = encoder.encode_pages(
        [replace(plain, title="Oakhurst Hospital energy use"), replace(plain, title="Port fees")]
    )
    assert best(encoder, "how much energy did the hospital use?", pages) == 0


def test_a_page_without_words_has_no_vectors(encoder: WordsEncoder) -> None:
    assert encoder.encode_pages([content("")])[0].vectors.shape == (0, encoder.fingerprint.dim)


def test_one_endless_word_does_not_fill_the_page(encoder: WordsEncoder) -> None:
    assert len(encoder.encode_pages([content("x9" * 5_000)])[0].vectors) <= 4


def test_a_querys_tokens_are_whole_words_with_weights_that_sum_to_one(encoder: WordsEncoder) -> None:
    query = encoder.encode_queries(["Where is FX-2207's overheating threshold?"])[0]
    assert query.tokens[0] == "[question]"
    assert "overheating" in query.tokens
    assert query.weights is not None
    assert query.weights.sum() == pytest.approx(1, abs=1e-5)
    content_words = [t for t, is_content in zip(query.tokens, query.content, strict=True) if is_content]
    assert "threshold" in content_words
    assert not {"[question]", "Where", "is", "?"} & set(content_words)


def test_a_query_of_unknown_characters_has_no_vectors(encoder: WordsEncoder) -> None:
    assert encoder.encode_queries(["ꦱꦫꦶ ꦲꦤ"])[0].vectors.shape == (0, encoder.fingerprint.dim)


def test_a_long_query_is_cut_at_the_limit(encoder: WordsEncoder) -> None:
    query = encoder.encode_queries(["pump " * 400])[0]
    assert len(query.tokens) == 121  # 120 pieces, and one vector for the question as a whole


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_pages_are_encoded_in_as_many_threads_as_the_process_may_use_cores() -> None:
    """One core of several, as in a container."""
    script = (
        "import os, threading\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "import configs.settings as configs\n"
        "from retrieval.encoders.words import WordsEncoder\n"
        "WordsEncoder(configs.Words()).encode_queries(['a pump', 'a valve', 'a gate', 'a crane'])\n"
        "print(sum(thread.name.startswith('onnx') for thread in threading.enumerate()))"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "1"


def test_windows_cover_every_piece_and_share_their_edges() -> None:
    assert list(windows(0, 100)) == []
    assert list(windows(100, 100)) == [(0, 100)]
    assert list(windows(150, 100)) == [(0, 100), (100 - OVERLAP, 150)]


def test_runs_are_whole_words_and_end_with_lines(encoder: WordsEncoder) -> None:
    page: PageContent = content(
        "one two three four five\nsix seven eight nine ten eleven twelve thirteen fourteen"
    )
    pieces = encoder._pieces(page.words)
    assert [(run.first, run.last) for run in piece_runs(pieces, page.words)] == [(0, 4), (5, 12), (13, 13)]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(MODELS / "folio-2", tmp_path / "folio-copy")


def test_a_model_given_by_its_path_has_the_same_fingerprint(copied: Path, encoder: WordsEncoder) -> None:
    assert WordsEncoder(configs.Words(model=str(copied))).fingerprint == encoder.fingerprint


def test_a_changed_file_is_an_error_with_its_name_and_both_checksums(copied: Path) -> None:
    data = bytearray((copied / "table.bin").read_bytes())
    data[1000] ^= 1
    (copied / "table.bin").write_bytes(data)
    expected = json.loads((copied / "manifest.json").read_text())["sha256"]["table.bin"]
    with pytest.raises(ModelBroken, match=rf"table\.bin is not the file.*{expected}"):
        WordsEncoder(configs.Words(model=str(copied)))


def test_a_missing_file_and_a_missing_model_are_errors_with_their_names(copied: Path) -> None:
    (copied / "words.onnx").unlink()
    with pytest.raises(ModelBroken, match=r"words\.onnx.*no file"):
        WordsEncoder(configs.Words(model=str(copied)))
    with pytest.raises(ModelBroken, match="folio-99 holds no model"):
        ModelFolder("folio-99")


def test_another_reranker_in_the_same_folder_does_not_change_the_encoders_fingerprint(
    copied: Path, encoder: WordsEncoder
) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["sha256"]["reader.onnx"] = "0" * 64
    (copied / "manifest.json").write_text(json.dumps(manifest))
    assert WordsEncoder(configs.Words(model=str(copied))).fingerprint == encoder.fingerprint
    manifest["sha256"]["tokenizer.json"] = "0" * 64
    assert ModelFolder(str(copied)).revision("words.onnx") != ModelFolder(str(copied)).revision("reader.onnx")
