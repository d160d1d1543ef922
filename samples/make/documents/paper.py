"""A two-column research paper with figures, tables and references, all invented."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from reportlab.graphics.shapes import Drawing, Line, Rect, String
from reportlab.lib.colors import HexColor

from samples.make import plots
from samples.make.documents.paper_text import ABSTRACT, PARTS, REFERENCES
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

B5 = (499.0, 709.0)
PAPER = Paper(size=B5, margins=(44, 58, 44, 50), columns=2, gutter=18)
LOOK = Look("#111111", PAPER.column, "Stix", "Stix-Bold", size=11, justify=True)
WIDE = Look("#111111", PAPER.width, "Stix", "Stix-Bold", size=11, justify=True)
PAGES = 6


def furniture(canvas: Any, number: int, _: int) -> None:
    canvas.setFont("Stix-Italic", 9)
    canvas.drawString(44, B5[1] - 38, f"Journal of Small Water Supplies 11 (2023), 204–{203 + PAGES}")
    canvas.drawRightString(B5[0] - 44, B5[1] - 38, "Resting sand filters")
    canvas.setFont("Stix", 9)
    canvas.drawCentredString(B5[0] / 2, 30, str(203 + number))


def column() -> Any:
    """Figure 1: a filter in section, with depths in millimetres."""
    drawing = Drawing(PAPER.column, 215)
    layers = (("water, 60 mm", 168, 22, "#cfe3f1"), ("biological layer, about 20 mm", 156, 12, "#8a9a5b"),
              ("fine sand, 540 mm", 62, 94, "#e6d3a3"),
              ("coarse sand, 80 mm", 42, 20, "#cdb47c"), ("gravel, 100 mm", 14, 28, "#9e9e9e"))  # fmt: skip
    for name, y, tall, colour in layers:
        drawing.add(
            Rect(
                14, y, 56, tall, fillColor=HexColor(colour), strokeColor=HexColor("#444444"), strokeWidth=0.6
            )
        )
        drawing.add(Line(70, y + tall / 2, 79, y + tall / 2, strokeWidth=0.5))
        drawing.add(String(82, y + tall / 2 - 3, name, fontSize=8, fontName="Helvetica"))
    drawing.add(Line(14, 14, 14, 208, strokeWidth=2))
    drawing.add(Line(70, 14, 70, 208, strokeWidth=2))
    drawing.add(Line(14, 14, 70, 14, strokeWidth=2))
    drawing.add(Line(5, 20, 14, 20, strokeWidth=3, strokeColor=HexColor("#1f4e79")))
    drawing.add(Line(5, 20, 5, 198, strokeWidth=3, strokeColor=HexColor("#1f4e79")))
    drawing.add(String(24, 200, "inlet", fontSize=8, fontName="Helvetica"))
    return drawing


def removal() -> Flowable:
    drawn, axes = plots.figure(PAPER.column, 185, size=8)
    weeks = np.arange(1, 13)
    for name, colour, curve in (
        ("A, no rest", "#1f4e79", (0.4, 0.7, 1.1, 1.5, 1.8, 2.0, 2.1, 2.2, 2.3, 2.3, 2.4, 2.4)),
        ("B, rest 12 h", "#2f7f79", (0.4, 0.6, 1.1, 1.4, 1.8, 2.1, 2.3, 2.5, 2.6, 2.6, 2.7, 2.7)),
        ("C, rest 48 h", "#d9822b", (0.3, 0.5, 0.7, 0.9, 1.1, 1.2, 1.2, 1.3, 1.3, 1.2, 1.3, 1.3)),
    ):  # fmt: skip
        axes.plot(weeks, curve, "o-", ms=3, color=colour, label=name)
        axes.annotate(
            f"{curve[-1]}",
            (12, curve[-1]),
            xytext=(4, -3),
            textcoords="offset points",
            fontsize=8,
            color=colour,
        )
    axes.set_xlabel("week")
    axes.set_ylabel("log removal of E. coli")
    axes.set_xlim(0.5, 13)
    axes.legend(frameon=False, fontsize=7.5)
    return plots.pixels(drawn, 200)


def oxygen() -> Flowable:
    drawn, axes = plots.figure(PAPER.column, 175, size=8)
    hours = np.array([0, 4, 8, 12, 18, 24, 30, 36, 42, 48])
    axes.plot(hours, [7.9, 6.6, 5.5, 4.6, 3.2, 2.1, 1.2, 0.6, 0.4, 0.3], "o-", ms=3, color="#8a4f7d")
    axes.axhline(1.0, color="#b9382f", ls="--", lw=1)
    axes.text(1, 1.15, "1 mg/l", color="#b9382f", fontsize=8)
    axes.annotate(
        "31 h",
        (31.5, 1.0),
        xytext=(6, 14),
        textcoords="offset points",
        fontsize=8,
        arrowprops={"arrowstyle": "->"},
    )
    axes.set_xlabel("hours of rest")
    axes.set_ylabel("dissolved oxygen, mg/l")
    return plots.pixels(drawn, 200)


def flow_rate() -> Flowable:
    drawn, axes = plots.figure(PAPER.column, 165, size=8)
    names = ["A", "B", "C", "D"]
    at = np.arange(4)
    axes.bar(at - 0.2, [21.4, 21.1, 20.8, 21.3], 0.38, color="#a9b4bd", label="week 1")
    axes.bar(at + 0.2, [9.6, 13.2, 16.9, 14.8], 0.38, color="#1f4e79", label="week 12")
    plots.label_bars(axes, "{:.1f}", 7.5)
    axes.set_xticks(at, names)
    axes.set_ylim(0, 29)
    axes.set_ylabel("flow, litres per hour")
    axes.legend(frameon=False, ncols=2, fontsize=7.5)
    return plots.pixels(drawn, 200)


def tables() -> dict[str, list[Flowable]]:
    one = LOOK.table(
        [["Group", "Rest, h", "Filters", "Litres a day"], ["A", "0", "6", "240"], ["B", "12", "6", "120"],
         ["C", "48", "6", "30"],
         ["D", "12, aerated", "4", "120"]], [0.8, 1.3, 0.9, 1.2])  # fmt: skip
    two = LOOK.table(
        [["", "A", "B", "C", "D"], ["E. coli, log", "2.4", "2.7", "1.3", "2.8"],
         ["Turbidity, NTU", "0.6", "0.4", "0.9", "0.4"],
         ["Nitrate out, mg/l", "11.2", "12.9", "4.1", "13.4"],
         ["Nitrite out, mg/l", "0.02", "0.03", "0.71", "0.02"],
         ["Odour, days", "0", "0", "19", "0"]], [2.3, 0.8, 0.8, 0.8, 0.8])  # fmt: skip
    three = LOOK.table(
        [["Cause of failure", "A", "B", "C", "D"], ["Clogged", "3", "1", "0", "0"],
         ["Cracked wall", "0", "1", "1", "0"], ["Sand disturbed", "1", "0", "0", "1"],
         ["None", "2", "4", "5", "3"]], [2.1, 0.8, 0.8, 0.8, 0.8])  # fmt: skip
    four = LOOK.table(
        [["Item", "Shillings"], ["Concrete and mould", "1,150"], ["Sand, washed and sieved", "620"],
         ["Pipe, lid, diffuser", "480"], ["Labour, 1.5 days", "900"],
         ["Transport", "350"], ["In all", "3,500"]], [2, 1], totals=[-1])  # fmt: skip
    five = LOOK.table(
        [["Week", "°C", "NTU", "E. coli"], ["1", "19.4", "6.1", "2,700"], ["2", "19.8", "5.8", "2,900"],
         ["3", "20.6", "7.4", "3,300"], ["4", "21.5", "6.9", "2,800"],
         ["5", "22.7", "7.7", "3,000"], ["6", "23.1", "21.8", "5,600"], ["7", "22.4", "9.3", "3,400"],
         ["8", "22.9", "7.2", "2,600"], ["9", "23.6", "8.1", "2,900"],
         ["10", "24.3", "8.8", "3,200"], ["11", "24.8", "9.4", "3,300"], ["12", "24.1", "8.5", "3,000"]],
         [1, 1, 1, 1.2])  # fmt: skip
    six = LOOK.table(
        [["Group A", "Litres a day", "E. coli, log"], ["week 12", "240", "2.4"], ["week 13", "120", "2.4"],
         ["week 14", "120", "2.5"], ["week 15", "120", "2.6"]],
        [1.2, 1.2, 1.2])  # fmt: skip
    return {
        "table 5": [
            five,
            LOOK.caption(
                "<b>Table 5.</b> The Teku at 06:00, by week: temperature, turbidity and E. coli in 100 ml."
            ),
        ],
        "table 6": [six, LOOK.caption("<b>Table 6.</b> The second experiment.")],
        "table 1": [one, LOOK.caption("<b>Table 1.</b> The four groups.")],
        "table 2": [
            two,
            LOOK.caption(
                "<b>Table 2.</b> Means of weeks 9 to 12. Inlet: E. coli 3,100 per 100 ml, turbidity 8.7 "
                "NTU, nitrate 9.8 mg/l. Odour over 84 days."
            ),
        ],
        "table 3": [three, LOOK.caption("<b>Table 3.</b> Filters by cause of failure within 84 days.")],
        "table 4": [four, LOOK.caption("<b>Table 4.</b> Cost of one filter.")],
        "figure 1": [column(), LOOK.caption("<b>Figure 1.</b> Section through a filter.")],
        "figure 2": [
            removal(),
            LOOK.caption(
                "<b>Figure 2.</b> Removal of E. coli by week; each point is the median of the filters of a "
                "group."
            ),
        ],
        "figure 3": [
            oxygen(),
            LOOK.caption("<b>Figure 3.</b> Oxygen in the biological layer of group C during a rest."),
        ],
        "figure 4": [
            flow_rate(),
            LOOK.caption("<b>Figure 4.</b> Flow with a full reservoir, before and after."),
        ],
    }


def write(folder: Path) -> Path:
    path = folder / "resting-sand-filters-paper.pdf"
    floats = tables()
    banner = [
        WIDE.p("How long may a sand filter rest? Household filters under intermittent flow in the hill "
               "town of Mbarule", size=17, align="centre", after=10),
        WIDE.p("Adaeze Njeru<super>1</super>, Lennart Volmer<super>2</super> and Priya "
               "Sundaresh<super>1</super>", align="centre", after=2),
        WIDE.p("<super>1</super>Mbarule Institute of Water, <super>2</super>University of Dornstett",
               size=9.5, align="centre", after=12),
        WIDE.p(f"<b>Abstract.</b> {ABSTRACT}", indent=28, after=14),
    ]  # fmt: skip
    flow: list[Flowable] = []
    for kind, text in PARTS:
        if kind == "float":
            flow.append(tuple(floats[text]))
        else:
            flow.append(LOOK.h2(text, 12.5) if kind == "head" else LOOK.p(text))
    flow.append(LOOK.h2("References", 12.5))
    flow += [
        LOOK.p(f"[{i}]&nbsp; {text}", size=9.3, indent=18, hang=18, after=3)
        for i, text in enumerate(REFERENCES, 1)
    ]
    sheets = [Sheet(flow, banner=banner, carry=True), *(Sheet([], carry=True) for _ in range(PAGES - 1))]
    write_pdf(path, sheets, PAPER, title="How long may a sand filter rest?",
              author="A. Njeru, L. Volmer, P. Sundaresh",
              furniture=furniture)  # fmt: skip
    return path
