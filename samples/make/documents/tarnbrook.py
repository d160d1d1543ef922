"""A spreadsheet printed in landscape: a stock count with many columns of numbers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper(size=(842, 595), margins=(34, 52, 34, 36))
LOOK = Look("#3d4a57", PAPER.width, size=8.6, grid=True)
SITES = ("Tarnbrook", "Hexley", "Port Ashling")
GOODS = (
    ("Hand tools", "HT", ("Claw hammer 450 g", "Claw hammer 680 g", "Ball pein hammer 340 g",
                          "Cold chisel 19 mm", "Bolster 75 mm", "Combination pliers 180 mm",
                          "Side cutters 160 mm",
                          "Adjustable spanner 250 mm", "Pipe wrench 350 mm", "Hex key set, 9 pieces",
                          "Wood chisel 12 mm", "Wood chisel 25 mm", "Hacksaw frame", "Tenon saw 300 mm",
                          "Tape measure 5 m", "Tape measure 8 m", "Spirit level 600 mm", "Plumb line, brass"),
     (8.45, 11.20, 7.95, 4.15, 6.30, 9.85, 8.70, 13.60, 19.40, 12.95, 6.75, 8.10, 9.25, 16.80, 4.95, 7.35,
      14.50, 11.65)),
    ("Power tools", "PT", ("Cordless drill 18 V", "Hammer drill 800 W", "Rotary hammer SDS 2.6 kg",
                           "Angle grinder 115 mm", "Angle grinder 230 mm", "Circular saw 190 mm",
                           "Jigsaw 650 W",
                           "Orbital sander 125 mm", "Belt sander 76 mm", "Router 1 200 W",
                           "Battery 18 V 2.0 Ah", "Battery 18 V 5.0 Ah", "Charger 18 V", "Heat gun 2 000 W",
                           "Mixer 1 400 W", "Planer 82 mm",
                           "Multi-tool 300 W", "Wet vacuum 25 l"),
     (94.50, 78.90, 164.00, 52.40, 109.00, 98.75, 61.30, 47.20, 84.60, 118.50, 36.75, 69.90, 28.40, 33.15,
      142.00, 96.80, 87.25, 131.60)),
    ("Fixings", "FX", ("Wood screw 4 x 40, box 200", "Wood screw 5 x 60, box 200",
                       "Wood screw 6 x 100, box 100", "Drywall screw 3.5 x 35, box 500",
                       "Coach bolt M8 x 80, box 50", "Coach bolt M10 x 120, box 25",
                       "Hex bolt M12 x 60, box 50", "Nut M8, box 200", "Nut M12, box 100",
                       "Washer M8, box 250", "Wall plug 6 mm, box 100", "Wall plug 8 mm, box 100",
                       "Wall plug 10 mm, box 50",
                       "Threaded rod M10, 1 m", "Nail 65 mm, 1 kg", "Nail 100 mm, 1 kg",
                       "Masonry nail 40 mm, box 100", "Hook and eye, 10 pairs"),
     (5.85, 7.10, 8.95, 6.40, 13.25, 16.10, 14.60, 9.30, 11.75, 4.20, 2.35, 2.95, 3.40, 3.85, 3.10, 3.25,
      4.70, 2.60)),
    ("Safety", "SF", ("Safety glasses, clear", "Safety glasses, tinted", "Ear defenders 30 dB",
                      "Ear plugs, box 200", "Gloves, leather, size 9", "Gloves, leather, size 10",
                      "Gloves, nitrile, box 100", "Helmet, white",
                      "Helmet, orange", "Dust mask FFP2, box 20", "Dust mask FFP3, box 10",
                      "Half mask with filters", "High-visibility vest, L", "High-visibility vest, XL",
                      "Knee pads", "Safety boots, size 42",
                      "Safety boots, size 44", "First aid kit, 20 persons"),
     (3.90, 4.60, 11.85, 19.50, 6.75, 6.75, 9.40, 12.30, 12.30, 21.60, 24.75, 27.90, 4.85, 4.85, 13.70, 48.60,
      48.60, 61.20)),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Item:
    code: str
    name: str
    bin: str
    booked: tuple[int, ...]  # pieces, by site
    counted: tuple[int, ...]
    cost: float  # pounds each
    reorder: int
    supplier: str

    @property
    def difference(self) -> int:
        return sum(self.counted) - sum(self.booked)

    @property
    def value(self) -> float:
        return round(sum(self.counted) * self.cost, 2)


def items(group: int) -> list[Item]:
    rng = random.Random(2207 + group)
    _, prefix, names, costs = GOODS[group]
    usual = sum(costs) / len(costs)
    made = []
    for i, (name, cost) in enumerate(zip(names, costs, strict=True)):
        scale = 200 / usual
        booked = tuple(int(rng.uniform(6, 40) * scale / (1 + s)) + 3 for s in range(3))
        counted = tuple(
            max(b + (rng.choice((-7, -3, -2, -1, 1, 2)) if rng.random() < 0.22 else 0), 0) for b in booked
        )
        made.append(Item(f"{prefix}-{4000 + 100 * group + 7 * i}", name,
                         f"{rng.choice('ABCDEF')}{rng.randint(1, 24):02d}-{rng.randint(1, 5)}", booked,
                         counted,
                         cost, int(sum(booked) * rng.uniform(0.3, 1.15)),
                         rng.choice(("Brannock", "Ostrava Tool", "Kemble", "Lund & Sons"))))  # fmt: skip
    return made


def furniture(canvas: Any, number: int, pages: int) -> None:
    canvas.setFont("Helvetica-Bold", 10)
    canvas.drawString(34, 566, "Tarnbrook Tools Ltd - annual stock count, 28 and 29 June 2024")
    canvas.setFont("Helvetica", 8)
    canvas.drawRightString(808, 566, "stock_count_2024_final.xlsx")
    canvas.drawString(34, 22, "Printed 02/07/2024 08:14")
    canvas.drawRightString(808, 22, f"Page {number} of {pages}")


def signed(value: int) -> str:
    return f"{value:+d}" if value else "0"


def group_page(group: int) -> list[Flowable]:
    rows: list[list[str]] = [["Code", "Description", "Bin", *(f"{s.split()[-1]} booked" for s in SITES),
                              *(f"{s.split()[-1]} counted" for s in SITES), "Booked", "Counted", "Diff.",
                              "Cost, £", "Value, £",
                              "Reorder at", "Order?", "Supplier"]]  # fmt: skip
    stock = items(group)
    for item in stock:
        total = sum(item.counted)
        rows.append([item.code, item.name, item.bin, *(f"{n:,}" for n in (*item.booked, *item.counted)),
                     f"{sum(item.booked):,}", f"{total:,}", signed(item.difference), f"{item.cost:.2f}",
                     f"{item.value:,.2f}", f"{item.reorder:,}", "ORDER" if total < item.reorder else "",
                     item.supplier])  # fmt: skip
    sums = [f"{sum(i.booked[s] for i in stock):,}" for s in range(3)] + [
        f"{sum(i.counted[s] for i in stock):,}" for s in range(3)
    ]
    rows.append(["Total", "", "", *sums, f"{sum(sum(i.booked) for i in stock):,}",
                 f"{sum(sum(i.counted) for i in stock):,}", signed(sum(i.difference for i in stock)), "",
                 f"{sum(i.value for i in stock):,.2f}", "", "", ""])  # fmt: skip
    # The heads of number columns are set in two lines, as a spreadsheet wraps them.
    rows[0] = [h if c in (0, 1, 2, 15) else h.replace(" ", "\n") for c, h in enumerate(rows[0])]
    return [LOOK.h2(f"Sheet {group + 1}: {GOODS[group][0]}", 12),
            LOOK.table(rows, [1.05, 2.9, 0.85, *[0.98] * 6, 0.85, 0.9, 0.6, 0.8, 1.15, 0.9, 0.85, 1.25],
                       left=(0, 1, 2, 15, 16), totals=[-1], size=7.2, pad=5)]  # fmt: skip


def summary() -> list[Flowable]:
    rows = [
        [
            "Group",
            "Lines",
            "Pieces booked",
            "Pieces counted",
            "Difference",
            "Value counted, £",
            "Lines with a difference",
            "Lines to order",
        ]
    ]
    sums = [0.0] * 7
    for g, (name, _, _, _) in enumerate(GOODS):
        stock = items(g)
        values = [len(stock), sum(sum(i.booked) for i in stock), sum(sum(i.counted) for i in stock),
                  sum(i.difference for i in stock), sum(i.value for i in stock),
                  sum(i.booked != i.counted for i in stock),
                  sum(sum(i.counted) < i.reorder for i in stock)]  # fmt: skip
        sums = [a + b for a, b in zip(sums, values, strict=True)]
        rows.append(
            [
                name,
                str(values[0]),
                f"{values[1]:,}",
                f"{values[2]:,}",
                signed(int(values[3])),
                f"{values[4]:,.2f}",
                str(values[5]),
                str(values[6]),
            ]
        )
    rows.append(
        [
            "All groups",
            f"{sums[0]:.0f}",
            f"{sums[1]:,.0f}",
            f"{sums[2]:,.0f}",
            signed(int(sums[3])),
            f"{sums[4]:,.2f}",
            f"{sums[5]:.0f}",
            f"{sums[6]:.0f}",
        ]
    )
    value = [[s, *(f"{sum(i.counted[k] * i.cost for i in items(g)):,.2f}" for g in range(4)),
              f"{sum(i.counted[k] * i.cost for g in range(4) for i in items(g)):,.2f}"]
             for k, s in enumerate(SITES)]  # fmt: skip
    notes = LOOK.bullets([
        "Counted by two people at each site, who did not see the booked figures. Port Ashling was counted "
        "on 29 June, the other two on 28 June.",
        "Goods on loan to customers (41 pieces) are not included. Returns in cage R2 at Hexley are "
        "included, unless they are marked as scrap.",
        "Cost is the mean purchase price of the last twelve months, without carriage. No line has been "
        "written down below cost.",
        "A line is to be ordered when the pieces counted over all sites are fewer than its reorder level.",
        "Differences of more than five pieces on a line were counted again by the auditor, Ms Ruth "
        "Abelard, on 1 July.",
    ])  # fmt: skip
    return [
        LOOK.h2("Sheet 5: summary", 12), LOOK.table(rows, [1.6, 0.8, 1.2, 1.2, 1, 1.6, 1.5, 1.2], totals=[-1],
                                                    size=9.5, pad=6),
        LOOK.gap(8), LOOK.h2("Value counted by site, £", 12),
        LOOK.table([["Site", *(g[0] for g in GOODS), "All"], *value], [1.6, 1.2, 1.2, 1.2, 1.2, 1.4],
                   size=9.5, pad=6, share=0.8),
        LOOK.gap(8), LOOK.h2("Notes", 12), *notes,
    ]  # fmt: skip


def write(folder: Path) -> Path:
    path = folder / "tarnbrook-stock-count-2024.pdf"
    sheets = [Sheet(group_page(g)) for g in range(4)] + [Sheet(summary())]
    write_pdf(
        path,
        sheets,
        PAPER,
        title="Annual stock count 2024",
        author="Tarnbrook Tools Ltd",
        furniture=furniture,
    )
    return path
