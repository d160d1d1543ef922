"""A slide deck: few words, the numbers are in charts, and seven of the nine charts are pixels only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from reportlab.lib.colors import HexColor, white

from samples.make import charts, plots
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper(size=(960, 540), margins=(54, 62, 54, 44))
LOOK = Look("#0b6e75", PAPER.width, size=17)
TEAL, AMBER, NAVY, GREY, RED = "#0b6e75", "#e08e2b", "#24476b", "#a9b4bd", "#b9382f"
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep"]
TALL = 330.0


def furniture(canvas: Any, number: int, pages: int) -> None:
    canvas.setFillColor(HexColor(TEAL))
    canvas.rect(0, 0, 960, 22, stroke=0, fill=1)
    canvas.setFillColor(white)
    canvas.setFont("Helvetica", 9)
    canvas.drawString(54, 7.5, "Orrin Valley Water  |  Operations review, third quarter 2024")
    canvas.drawRightString(906, 7.5, f"{number} of {pages}")


def cover(canvas: Any) -> None:
    canvas.setFillColor(HexColor("#0b6e75"))
    canvas.rect(0, 0, 960, 540, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#0f8a92"))
    for x, y, r in ((800, 420, 150), (690, 190, 70), (890, 150, 95)):
        canvas.circle(x, y, r, stroke=0, fill=1)
    canvas.setFillColor(white)
    canvas.setFont("Helvetica-Bold", 42)
    canvas.drawString(70, 310, "Operations review")
    canvas.setFont("Helvetica", 24)
    canvas.drawString(70, 268, "Third quarter 2024")
    canvas.setFont("Helvetica", 15)
    canvas.drawString(70, 200, "Orrin Valley Water  |  Board, 17 October 2024")


def slide(title: str, *body: Flowable, says: str = "") -> Sheet:
    return Sheet([LOOK.h1(title, 28), *body, *([LOOK.p(says, size=15, colour="#444444")] if says else [])])


def leakage() -> Flowable:
    drawn, axes = plots.figure(PAPER.width, TALL, size=13)
    axes.plot(
        MONTHS, [61.2, 63.8, 60.1, 57.4, 55.9, 54.3, 52.8, 51.1, 49.6], "o-", color=TEAL, lw=2.5, label="2024"
    )
    axes.plot(
        MONTHS, [58.9, 60.4, 59.7, 58.8, 58.1, 57.0, 57.6, 58.3, 57.2], "o--", color=GREY, lw=2, label="2023"
    )
    for i, v in ((0, 61.2), (1, 63.8), (8, 49.6)):
        axes.annotate(
            f"{v}", (i, v), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=12, color=TEAL
        )
    axes.axhline(52, color=RED, lw=1.2)
    axes.text(0, 52.4, "target 52", color=RED, fontsize=11)
    axes.set_ylabel("megalitres a day")
    axes.set_ylim(45, 68)
    axes.legend(frameon=False, fontsize=12)
    return plots.pixels(drawn)


def complaints() -> Flowable:
    drawn, axes = plots.figure(PAPER.width, TALL, size=13)
    kinds = ["Billing", "Pressure", "Taste and smell", "Roadworks", "Discolour", "No supply"]
    axes.barh(kinds[::-1], [412, 188, 97, 143, 61, 229][::-1], color=[AMBER] + [TEAL] * 4 + [NAVY])
    plots.label_bars(axes, size=13)
    axes.set_xlabel("written complaints, July to September 2024")
    axes.tick_params(axis="y", labelsize=13)
    axes.grid(axis="y", visible=False)
    return plots.pixels(drawn)


def reservoirs() -> Flowable:
    drawn, axes = plots.figure(PAPER.width, TALL, size=13)
    names = ["Upper Orrin", "Kessock", "Blackmere", "Tarnhow", "Dunnet"]
    at = np.arange(5)
    axes.bar(at - 0.2, [71, 64, 58, 83, 47], 0.38, color=TEAL, label="30 September 2024")
    axes.bar(at + 0.2, [78, 61, 74, 80, 69], 0.38, color=GREY, label="30 September 2023")
    plots.label_bars(axes, "{:.0f} %", 12)
    axes.set_xticks(at, names, fontsize=13)
    axes.set_ylim(0, 108)
    axes.set_ylabel("% of capacity")
    axes.legend(frameon=False, fontsize=12, ncols=2, loc="upper left")
    return plots.pixels(drawn)


def bursts() -> Flowable:
    drawn, (left, right) = plots.figure(PAPER.width, TALL, 1, 2, size=11)
    materials = {
        "Cast iron, before 1950": 46,
        "Cast iron, later": 21,
        "Asbestos cement": 17,
        "PVC": 11,
        "Polyethylene": 5,
    }
    pie = left.pie(
        list(materials.values()),
        labels=list(materials),
        autopct="%.0f %%",
        colors=[NAVY, TEAL, AMBER, GREY, "#d8c79a"],
        startangle=90,
        counterclock=False,
        textprops={"fontsize": 10},
    )
    for share in pie[2][:2]:
        share.set_color("white")
    left.set_title("Bursts by pipe material", fontsize=13)
    right.bar(
        ["Q3 22", "Q4 22", "Q1 23", "Q2 23", "Q3 23", "Q4 23", "Q1 24", "Q2 24", "Q3 24"],
        [168, 214, 251, 159, 172, 226, 287, 143, 131],
        color=TEAL,
    )
    plots.label_bars(right, size=10)
    right.tick_params(axis="x", labelsize=9)
    right.set_title("Bursts per quarter", fontsize=13)
    return plots.pixels(drawn)


def cost() -> Flowable:
    drawn, axes = plots.figure(PAPER.width, TALL, size=13)
    steps = [
        ("Budget", 24.6),
        ("Energy", -1.3),
        ("Chemicals", 0.8),
        ("Overtime", 0.6),
        ("Tankers", 1.1),
        ("Actual", 25.8),
    ]
    base = 0.0
    for name, value in steps:
        whole = name in ("Budget", "Actual")
        start = 0.0 if whole else base
        axes.bar(name, value, 0.6, bottom=start, color=NAVY if whole else (TEAL if value < 0 else AMBER))
        label = f"{value:.1f}" if whole else f"{value:+.1f}"
        axes.text(name, max(start, start + value) + 0.12, label, ha="center", fontsize=13)
        base = value if whole else base + value
    axes.set_ylim(20, 28)
    axes.set_ylabel("£ million, from 20")
    axes.tick_params(axis="x", labelsize=13)
    return plots.pixels(drawn)


def meters() -> Flowable:
    drawn, axes = plots.figure(PAPER.width, TALL, size=13)
    areas = ["Kessock", "Dunnet", "Stavely Road", "Blackmere", "Old Town"]
    parts = {
        "Smart meter": [71, 64, 52, 33, 12],
        "Older meter": [18, 22, 27, 41, 35],
        "No meter": [11, 14, 21, 26, 53],
    }
    left = np.zeros(5)
    for (name, share), colour in zip(parts.items(), (TEAL, GREY, AMBER), strict=True):
        drawn_bars = axes.barh(areas[::-1], share[::-1], left=left, color=colour, label=name)
        ink = "white" if colour == TEAL else "black"
        axes.bar_label(drawn_bars, label_type="center", fmt="%d %%", fontsize=12, color=ink)
        left = left + np.array(share[::-1])
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of households")
    axes.tick_params(axis="y", labelsize=13)
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=12)
    return plots.pixels(drawn)


def demand() -> Flowable:
    drawn, axes = plots.figure(PAPER.width, TALL, size=13)
    hours = np.arange(24)
    normal = 52 + 34 * np.exp(-((hours - 7.5) ** 2) / 5) + 27 * np.exp(-((hours - 19) ** 2) / 8)
    hot = normal + 26 * np.exp(-((hours - 20) ** 2) / 9)
    axes.plot(hours, normal, color=GREY, lw=2.5, label="Mean of September weekdays")
    axes.plot(hours, hot, color=RED, lw=2.5, label="Friday 26 July")
    peak, hour = float(hot.max()), int(hot.argmax())
    axes.annotate(
        f"peak {peak:.0f} Ml/d at {hour}:00",
        (hour, peak),
        xytext=(-230, -4),
        textcoords="offset points",
        fontsize=13,
        color=RED,
        arrowprops={"arrowstyle": "->", "color": RED},
    )
    axes.axhline(110, color=NAVY, ls="--", lw=1.4)
    axes.text(0.2, 111.2, "works capacity 110", color=NAVY, fontsize=11)
    axes.set_xticks(range(0, 24, 3), [f"{h:02d}:00" for h in range(0, 24, 3)])
    axes.set_ylim(40, 122)
    axes.set_ylabel("megalitres a day")
    axes.legend(frameon=False, fontsize=12, loc="upper left", bbox_to_anchor=(0.0, 0.85))
    return plots.pixels(drawn)


def write(folder: Path) -> Path:
    path = folder / "orrin-valley-water-q3-review.pdf"
    scorecard = LOOK.table(
        [["Measure", "Target", "Q3 2024", "Q3 2023", "Status"],
         ["Leakage, Ml/d", "52.0", "51.2", "57.7", "met"],
         ["Supply interruptions, min per property", "4.5", "5.8", "4.1", "missed"],
         ["Samples that passed at the tap, %", "99.95", "99.97", "99.94", "met"],
         ["Calls answered in 60 seconds, %", "85", "79", "86", "missed"],
         ["Pollution events", "2", "1", "3", "met"],
         ["Smart meters fitted", "9,000", "9,412", "6,870", "met"]],
        [3.4, 1, 1, 1, 1], left=(0, 4), size=16, pad=7)  # fmt: skip
    sheets = [
        Sheet([], draw=cover, furniture=False),
        slide("Four targets met, two missed", scorecard,
              says="Interruptions: one main at Old Town accounts for 2.2 of the 5.8 minutes."),
        slide("Leakage fell below target in August", leakage(),
              says="Pressure control in 14 more zones since April"),
        slide("Who complained, and of what", complaints(), says="1,130 written complaints; 1,004 a year ago"),
        slide("Two reservoirs are lower than we like", reservoirs(),
              says="Drought permit for Dunnet applied for on 2 October"),
        slide("Old iron still breaks", bursts()),
        slide("Energy use per megalitre is falling",
              charts.enlarged(charts.bars(
                  ["2019", "2020", "2021", "2022", "2023", "2024 to Sep"],
                  {"Treatment": [412, 405, 398, 391, 377, 362], "Pumping": [288, 291, 283, 279, 268, 241]},
                  PAPER.width / 1.7, TALL / 1.7, "kWh/Ml", colours=(TEAL, AMBER)), 1.7),
              says="New pumps at Kessock have run since February."),
        slide("Operating cost is over budget", cost(),
              says="Year to date; tankers were needed in the Dunnet zone in July and August"),
        slide("Smart meters: the Old Town lags", meters()),
        slide("26 July came close to our limit", demand()),
        slide("Capital programme: spent and to spend (£ million)",
              charts.enlarged(charts.bars(
                  ["Mains renewal", "Treatment works", "Meters", "Reservoir safety", "IT"],
                  {"Spent to September": [18.4, 9.7, 6.2, 2.9, 3.3],
                   "Plan for the year": [26.0, 12.5, 8.0, 7.4, 3.6]},
                  PAPER.width / 1.7, TALL / 1.7, "£m", 1, colours=(NAVY, GREY)), 1.7),
              says="Reservoir safety: spillway at Blackmere not begun; consent came in September, not in "
                   "March."),
        slide("What we ask of the Board",
              *LOOK.bullets([
                  "Approve £1.9 million for two booster stations at Dunnet before summer 2025",
                  "Move £2.5 million of reservoir safety money to 2025",
                  "Note that no hosepipe ban is proposed, unless Dunnet falls below 40% before 1 December",
                  "Agree that Old Town meters are fitted in the street, not in the home",
              ]),
              says="Next review: 23 January 2025. Questions to Tamsin Okafor, director of operations"),
    ]  # fmt: skip
    write_pdf(path, sheets, PAPER, title="Operations review, third quarter 2024", author="Orrin Valley Water",
              furniture=lambda c, n, m: None if n == 1 else furniture(c, n, m))  # fmt: skip
    return path
