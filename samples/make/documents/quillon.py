"""Filled-in claim forms, faxed: a TIFF of six black and white pages (CCITT group 4)."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from samples.make import scan
from samples.make.press import fonts

KINDS = ("Crushed", "Wet", "Missing", "Late", "Wrong goods", "Temperature")
DECISIONS = ("Accepted in full", "Accepted in part", "Refused", "More evidence needed")


@dataclass(frozen=True, slots=True)
class Claim:
    number: str
    claimant: str
    town: str
    consignment: str
    goods: str
    delivered: str  # day.month.year
    value: str
    claimed: str
    kinds: tuple[str, ...]
    on_note: bool  # damage noted on the delivery note
    photos: bool
    words: tuple[str, ...]  # what happened, by hand
    decision: str
    paid: str
    remark: str
    skew: float


CLAIMS = (
    Claim("Q-50112", "Bellweather Ceramics", "Holmstead", "QF 8814 207", "24 boxes stoneware plates",
          "04.03.2024", "2,160.00",
          "540.00", ("Crushed",), True, True, ("Six boxes crushed on the", "lower pallet. Driver saw it."),
          "Accepted in full", "540.00",
          "Strap was missing", 0.7),
    Claim("Q-50119", "Marlow & Finch Books", "Kelsby", "QF 8816 034", "Printed books, 11 parcels",
          "06.03.2024", "1,845.00", "1,845.00",
          ("Wet",), False, True, ("All parcels soaked. We only", "opened them two days later."), "Refused",
          "0.00",
          "Not noted within 24 hours", -0.9),
    Claim("Q-50127", "Oakhanger Dairy", "Fenwold", "QF 8820 556", "Soft cheese, 3 pallets", "11.03.2024",
          "4,310.00", "4,310.00",
          ("Late", "Temperature"), True, False, ("Cooler showed 9.5 degrees", "on arrival, four hours late."),
          "Accepted in part", "2,875.00",
          "One pallet was sold", 0.5),
    Claim("Q-50133", "Theo Lindqvist Violins", "Stavely", "QF 8822 910", "Cello in flight case", "14.03.2024",
          "6,900.00", "780.00",
          ("Crushed",), True, True, ("Case dented, neck joint open.", "Repair quote is attached."),
          "More evidence needed", "0.00",
          "Ask for repair invoice", -0.4),
    Claim("Q-50138", "Penhallow Garden Centre", "Marrick", "QF 8823 118", "120 apple trees, bare root",
          "15.03.2024", "1,380.00", "414.00",
          ("Missing", "Wrong goods"), True, False, ("36 trees short, and twelve", "were pears, not apples."),
          "Accepted in full", "414.00",
          "Found at Kelsby depot", 1.0),
    Claim("Q-50141", "Nadir Surgical Supplies", "Orrin", "QF 8825 402", "Sterile drapes, 40 cartons",
          "19.03.2024", "3,520.00", "1,056.00",
          ("Wet", "Missing"), True, True, ("Twelve cartons wet or gone.", "Tape had been cut."), "Refused",
          "0.00",
          "Packing not sterile grade", -0.6),
)  # fmt: skip


def box(canvas: Any, x: float, y: float, wide: float, label: str, value: str) -> None:
    canvas.setLineWidth(0.8)
    canvas.rect(x, y, wide, 32)
    canvas.setFont("Helvetica", 7)
    canvas.drawString(x + 4, y + 23, label)
    canvas.setFont("Courier-Bold", 12)
    canvas.drawString(x + 6, y + 7, value)


def tick(canvas: Any, x: float, y: float, label: str, on: bool) -> None:
    canvas.setLineWidth(1)
    canvas.rect(x, y, 11, 11)
    if on:
        canvas.setLineWidth(1.8)
        canvas.line(x - 1, y - 1, x + 12, y + 12.5)
        canvas.line(x - 1, y + 12, x + 12.5, y - 1)
    canvas.setFont("Helvetica", 10)
    canvas.drawString(x + 17, y + 2, label)


def section(canvas: Any, y: float, title: str) -> None:
    canvas.setFillGray(0)
    canvas.rect(56, y, A4[0] - 112, 16, fill=1)
    canvas.setFillGray(1)
    canvas.setFont("Helvetica-Bold", 10)
    canvas.drawString(61, y + 4.5, title)
    canvas.setFillGray(0)


def form(canvas: Any, claim: Claim, seed: int) -> None:
    canvas.setFont("Helvetica-Bold", 20)
    canvas.drawString(56, 772, "QUILLON FREIGHT")
    canvas.setFont("Helvetica", 11)
    canvas.drawString(56, 756, "Claim for loss of or damage to goods  -  Form C7")
    box(canvas, 399, 756, 140, "Claim number", claim.number)
    section(canvas, 726, "A  Claimant")
    box(canvas, 56, 690, 290, "Name of firm", claim.claimant)
    box(canvas, 352, 690, 187, "Town", claim.town)
    section(canvas, 662, "B  Consignment")
    box(canvas, 56, 626, 160, "Consignment number", claim.consignment)
    box(canvas, 222, 626, 317, "Goods", claim.goods)
    box(canvas, 56, 588, 160, "Delivered on", claim.delivered)
    box(canvas, 222, 588, 155, "Value of goods, pounds", claim.value)
    box(canvas, 384, 588, 155, "Amount claimed, pounds", claim.claimed)
    section(canvas, 560, "C  What is wrong (mark all that apply)")
    for i, kind in enumerate(KINDS):
        tick(canvas, 62 + 160 * (i % 3), 538 - 22 * (i // 3), kind, kind in claim.kinds)
    canvas.setFont("Helvetica", 10)
    canvas.drawString(62, 488, "Damage noted on the delivery note?")
    tick(canvas, 260, 486, "yes", claim.on_note)
    tick(canvas, 320, 486, "no", not claim.on_note)
    canvas.drawString(380, 488, "Photographs?")
    tick(canvas, 456, 486, "yes", claim.photos)
    tick(canvas, 506, 486, "no", not claim.photos)
    section(canvas, 456, "D  What happened, in your own words")
    for i, words in enumerate((*claim.words, "")):
        canvas.setLineWidth(0.4)
        canvas.line(62, 424 - 30 * i, 533, 424 - 30 * i)
        scan.hand(canvas, 70, 429 - 30 * i, words, 21, seed + i)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(62, 318, "Signature of claimant")
    scan.signature(canvas, 160, 316, seed + 60, 130)
    canvas.line(150, 316, 330, 316)
    section(canvas, 282, "E  For Quillon Freight only")
    for i, decision in enumerate(DECISIONS):
        tick(canvas, 62 + 240 * (i % 2), 258 - 24 * (i // 2), decision, decision == claim.decision)
    box(canvas, 56, 190, 160, "Amount paid, pounds", claim.paid)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(230, 214, "Reason or remark")
    scan.hand(canvas, 232, 195, claim.remark, 19, seed + 7)
    canvas.line(230, 190, 539, 190)
    canvas.drawString(62, 150, "Claims officer")
    scan.signature(canvas, 130, 146, 777, 110)
    canvas.line(125, 146, 290, 146)
    canvas.setFont("Helvetica", 7.5)
    canvas.drawString(
        56,
        96,
        "Claims must reach us within seven days of delivery. Visible damage must be noted on the delivery "
        "note within 24 hours.",
    )
    canvas.drawString(
        56,
        85,
        "Quillon Freight is liable up to 8.33 SDR per kilogram, unless a higher value was declared and "
        "paid for.",
    )
    canvas.drawRightString(539, 62, "Form C7, edition 2021")


def write(folder: Path) -> Path:
    path = folder / "quillon-claim-forms.tiff"
    fonts()
    with tempfile.TemporaryDirectory() as work:
        printed = Path(work) / "printed.pdf"
        canvas = Canvas(str(printed), pagesize=A4, invariant=1)
        for i, claim in enumerate(CLAIMS):
            form(canvas, claim, 40 + 10 * i)
            canvas.showPage()
        canvas.save()
        pages = [scan.fax(scan.render(printed, i), 500 + i, claim.skew) for i, claim in enumerate(CLAIMS)]
    pages[0].save(path, format="tiff", save_all=True, append_images=pages[1:], compression="group4",
                  dpi=(scan.DPI, scan.DPI))  # fmt: skip
    return path
