"""Groups that teach where the short answer stands: the marked pieces are the answer, and negatives do not have it."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.gpu_train.documents import ReadPage
from benchmarks.gpu_train.pack import Builder
from benchmarks.gpu_train.spans import Spans, marked_by_line, marked_of, read_squad
from retrieval.layout import Layout
from retrieval.models.onnx import MODELS
from retrieval.reading_lines import reading_lines
from retrieval.tables import Tables
from retrieval.train.minilm import load_tokenizer
from retrieval.train.packed import Item, Role
from tests.retrieval.test_page_layout import page

TEXT = """
Passengers by route
                        2021     2022     2023
Dunmere to Holm         711      702      733
Ashling to Scarra       401      455      512
"""
TEXT += "".join(
    f"\nLine {i} of a report about harbours, ships and everything that floats on water" for i in range(40)
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return load_tokenizer(MODELS / "folio-2")


@pytest.fixture
def builder(tokenizer: Tokenizer) -> Builder:
    words = page(TEXT)
    layout = Layout(words)
    read = ReadPage(
        "a.pdf",
        1,
        "Yearly report",
        tuple(word.text for word in words),
        (),
        tuple((line.first, line.end) for line in layout.lines),
        tuple(reading_lines(Tables(layout))),
    )
    return Builder(tokenizer, {("a.pdf", 1): read})


def shown(builder: Builder, item: Item, *, answer: bool) -> str:
    """The text of an item's window, or of its answer."""
    text, start, length, _, _ = builder.packer.windows[item.window]
    pieces = builder.packer.texts[text][start : start + length]
    return str(builder.tokenizer.decode((pieces[item.first : item.last + 1] if answer else pieces).tolist()))


def positives(builder: Builder, group: int) -> list[Item]:
    return [item for item in builder.packer.group_items[group] if item.role is Role.POSITIVE]


def test_an_answer_in_a_table_is_marked_in_a_row_with_the_heads_of_its_columns(builder: Builder) -> None:
    row = {"file": "a.pdf", "page": 1, "q": "How many went to Holm in 2022?", "line": 2, "answer": "702"}
    Spans(builder).add_marked(list(marked_by_line([row], builder.pages)))
    found = positives(builder, 0)
    assert found
    for item in found:
        assert shown(builder, item, answer=True) == "702"
        assert "2022 : 702" in shown(builder, item, answer=False)
    others = [item for item in builder.packer.group_items[0] if item.role is Role.NEGATIVE]
    assert others
    assert not any("702" in shown(builder, item, answer=False) for item in others)
    title = builder.packer.windows[found[0].window][3]
    assert builder.tokenizer.decode(builder.packer.texts[title].tolist()) == "yearly report"


def test_an_answer_on_another_line_than_it_is_said_to_be_is_left_out(builder: Builder) -> None:
    row = {"file": "a.pdf", "page": 1, "q": "How many?", "line": 30, "answer": "702"}
    assert list(marked_by_line([row], builder.pages)) == []


def test_only_the_training_part_is_marked(builder: Builder) -> None:
    row = {
        "file": "a.pdf",
        "page": 1,
        "q": "How many went to Holm?",
        "kind": "table",
        "answer": "733",
        "evidence": "Dunmere to Holm 711 702 733",
    }
    rows = [{**row, "split": "train"}, {**row, "split": "held"}]
    (marked,) = marked_of(rows, builder)
    assert builder.pages["a.pdf", 1].words[marked.answer.first] == "733"


def test_a_question_to_a_table_of_wikipedia_has_one_cell_as_answer(builder: Builder, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "csv" / "200-csv").mkdir(parents=True)
    (tmp_path / "page" / "200-page").mkdir(parents=True)
    (tmp_path / "page" / "200-page" / "7.json").write_text('{"title": "Timbers"}', encoding="utf-8")
    table = "Year\tLeague\tCup\n2003\tA-League\tout\n2004\tB-League\t4th Round\n2005\tA-League\t4th Round"
    (tmp_path / "csv" / "200-csv" / "7.tsv").write_text(table, encoding="utf-8")
    questions = [
        ("what was the league in 2004?", "B-League"),
        ("how far did they come in 2005?", "4th Round"),  # two cells
        ("how many years are listed?", "3"),  # none
        ("which league is the odd one?", "B-League"),  # needs other rows
    ]
    lines = [f"nt-{i}\t{q}\tcsv/200-csv/7.csv\t{a}" for i, (q, a) in enumerate(questions)]
    text = "\n".join(["id\tutterance\tcontext\ttargetValue", *lines])
    (tmp_path / "data" / "training.tsv").write_text(text, encoding="utf-8")
    spans = Spans(builder)
    spans.add_tables(tmp_path)
    assert spans.counts == {"wikitables": 1}
    (item,) = positives(builder, 0)
    assert shown(builder, item, answer=True) == "b - league"
    assert "year : 2004 | league : b - league | cup : 4th round" in shown(builder, item, answer=False)


def test_tatqa_answers_are_cells_or_words_of_a_paragraph(builder: Builder, tmp_path: Path) -> None:
    table = [["", "2019", "2018"], ["Wireless", "1,320", "1,086"], ["Cable", "1,153", "1,429"]]
    paragraphs = [
        {"order": i, "text": f"Paragraph {i}: costs rose by {i} % owing to storms."} for i in range(1, 16)
    ]

    def asked(text: str, answer: str, kind: str = "span", *places: str) -> dict[str, object]:
        return {"question": text, "answer": [answer], "answer_type": kind, "rel_paragraphs": list(places)}

    questions = [
        asked("Cable in 2018?", "1,429"),
        *(asked(f"By how much in {i}?", f"{i} %", "span", str(i)) for i in range(1, 16)),
        asked("Change?", "234", "arithmetic"),
    ]
    path = tmp_path / "tatqa.json"
    context = {"table": {"table": table}, "paragraphs": paragraphs, "questions": questions}
    path.write_text(json.dumps([context]), encoding="utf-8")
    Spans(builder).add_tatqa(path)
    first = positives(builder, 0)[0]
    assert shown(builder, first, answer=True) == "1, 429"
    assert "cable | 2019 : 1, 153 | 2018 : 1, 429" in shown(builder, first, answer=False)
    assert [shown(builder, positives(builder, i)[0], answer=True) for i in (1, 15)] == ["1 %", "15 %"]
    assert len(builder.packer.groups) == 16


def test_of_several_answers_the_most_common_one_is_taken(tmp_path: Path) -> None:
    answers = [{"text": t, "answer_start": s} for t, s in (("a long one", 2), ("one", 9), ("one", 9))]
    paragraph = {"context": "= a long one.", "qas": [{"question": "Which?", "answers": answers}]}
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), encoding="utf-8")
    (found,) = read_squad(path)
    assert (found.answer, found.start) == ("one", 9)
