"""Makes the demo's report: an HTML file that opens from disk and contains its images."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO

from PIL import Image

from retrieval.highlight import snippet_pieces
from retrieval.types import Highlight, Hit, SearchResult
from ui.cli import terminal

WIDTH = 520  # width of a page image in the report, in pixels


@dataclass(frozen=True, slots=True)
class Answer:
    """A question of the demo with its result."""

    query_id: str
    result: SearchResult
    highlights: Sequence[Highlight]
    grades: Mapping[str, int]  # page name -> grade
    pages: Sequence[Image.Image]  # with highlights, in the order of the hits


def html(answers: Sequence[Answer], measures: Mapping[str, Mapping[str, float]], questions: int) -> str:
    """Return the report. measures: means by stage and measure, over `questions` questions."""
    body = "".join(map(_answer, answers))
    names = list(next(iter(measures.values())))
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = "".join(
        f"<tr><th>{escape(stage)}</th>"
        + "".join(f"<td>{100 * row[name]:.1f}</td>" for name in names)
        + "</tr>"
        for stage, row in measures.items()
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Folioscope: ten questions about the samples</title><style>{STYLE}</style>
<main><h1>Ten questions about the samples</h1>
<p class="lead">For each question, the report shows the best pages in their final order, how far the reranker moved each
page, and what matched: yellow marks the words that answer, blue a word of the question, pale violet a passage with a
similar meaning.
A <b class="right">✓</b> marks pages that were judged relevant in advance.</p>
{body}
<section><h2>Every stage on {questions} questions about the samples</h2>
<p>Each stage's ranking is measured against relevance judgements made by hand (in hundredths; higher is better).
“First stage” fuses text and vectors; “reranked” is the final order.</p>
<div class="scroll"><table><tr><th></th>{head}</tr>{rows}</table></div></section></main></html>
"""


def _answer(answer: Answer) -> str:
    result = answer.result
    times = " · ".join(f"{escape(stage.name)} {stage.seconds * 1000:,.0f} ms" for stage in result.stages)
    cards = zip(result.hits, answer.highlights, answer.pages, strict=True)
    return (
        f"<section><h2>{escape(result.query)}</h2>"
        f"{_best_answer(result)}<p class=meta>{times}<br>{escape(result.decision.reason)}</p>"
        f"<div class=cards>{''.join(_card(answer, *card) for card in cards)}</div></section>"
    )


def _best_answer(result: SearchResult) -> str:
    if not result.answers:
        return ""
    best = result.answers[0]
    return f"<p class=answer><mark>{escape(best.text)}</mark> <small>{escape(best.page.name)}</small></p>"


def _card(answer: Answer, hit: Hit, highlight: Highlight, page: Image.Image) -> str:
    name = escape(hit.page.name)
    right = "<b class=right title='judged relevant'>✓</b>" if answer.grades.get(hit.page.name) else ""
    moved = (
        f"<span class=moved>{terminal.movement(hit)} first stage {hit.first_rank}</span>"
        if hit.reranked
        else ""
    )
    likely = "" if hit.confidence is None else f"{hit.confidence:.0%} likely to answer "
    note = f"<p class=note>{escape(highlight.note)}</p>" if highlight.note else ""
    return (
        f"<article><h3><span class=rank>{hit.rank}</span> {name} {right}</h3>"
        f"<p class=meta>{likely}{moved}</p>"
        f"<img loading=lazy alt='{name}' src='{_data_uri(page)}'>"
        f"<p class=snippet>{_snippet(highlight)}</p>{note}</article>"
    )


def _snippet(highlight: Highlight) -> str:
    return "".join(
        f"<mark>{escape(text)}</mark>" if bold else escape(text) for text, bold in snippet_pieces(highlight)
    )


def _data_uri(page: Image.Image) -> str:
    small = page.resize((WIDTH, round(page.height * WIDTH / page.width)), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    small.save(buffer, "WEBP", quality=72, method=2)
    return "data:image/webp;base64," + b64encode(buffer.getvalue()).decode()


STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5a6675;--line:#d9dee5;--paper:#fff;--back:#f5f6f8;--mark:#ffe27a}
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf1;--soft:#a3afbd;--line:#333c48;--paper:#1b2129;--back:#12161c;
--mark:#6b5600}}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:24px 16px 64px}h1{font-size:28px;margin:8px 0}
.lead{max-width:70ch;color:var(--soft)}section{margin-top:40px}h2{font-size:20px;margin:0 0 4px}
.meta{color:var(--soft);font-size:13px;margin:2px 0 10px}.cards{display:flex;gap:14px;overflow-x:auto;
padding-bottom:8px}
article{flex:0 0 300px;background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:12px;min-width:0}
h3{font-size:14px;margin:0;overflow-wrap:anywhere}.rank{display:inline-block;min-width:22px;text-align:center;
border-radius:6px;background:var(--ink);color:var(--paper)}
img{width:100%;border:1px solid var(--line);border-radius:4px}
.snippet{font-size:13px;margin:8px 0 0;overflow-wrap:anywhere}.note{font-size:13px;color:var(--soft)}
.answer{font-size:20px;font-weight:600;margin:4px 0}.answer small{font-weight:400;color:var(--soft)}
mark{background:var(--mark);color:inherit;border-radius:2px}.right{color:#1a8a4a}.moved{margin-left:6px}
table{border-collapse:collapse}th,td{padding:6px 12px;border-bottom:1px solid var(--line);text-align:right}
th:first-child{text-align:left}.scroll{overflow-x:auto}
"""
