"""Annual report of an invented ferry, harbour and navigation group: cover to strategy, pages 1 to 4.

`brackwater_review.py` has pages 5 to 12, `brackwater_accounts.py` the statements and notes. The numbers
are in `brackwater_numbers.py`, so that what is a sum on a page is a sum in the script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4

from samples.make import charts
from samples.make.documents import brackwater_accounts, brackwater_review
from samples.make.documents.brackwater_numbers import REVENUE, SEGMENTS
from samples.make.documents.brackwater_review import LOOK, PAPER, h1, h2, note, p, table
from samples.make.press import Flowable, Sheet, write_pdf


def furniture(canvas: Any, number: int, _: int) -> None:
    if number == 1:
        return
    canvas.setFont("Helvetica", 7.5)
    canvas.setFillColor(HexColor("#5c6670"))
    canvas.drawString(62, A4[1] - 40, "Brackwater Marine Holdings plc")
    canvas.drawRightString(A4[0] - 62, A4[1] - 40, "Annual Report 2023")
    canvas.line(62, A4[1] - 46, A4[0] - 62, A4[1] - 46)
    canvas.drawRightString(A4[0] - 62, 34, str(number))


def cover(canvas: Any) -> None:
    width, height = A4
    canvas.setFillColor(HexColor("#1f4e79"))
    canvas.rect(0, height * 0.42, width, height * 0.58, stroke=0, fill=1)
    for i, shade in enumerate(("#2d628f", "#3f78a6", "#6a9cc2", "#a8c6de")):
        canvas.setFillColor(HexColor(shade))
        path = canvas.beginPath()
        base = height * (0.50 - 0.035 * i)
        path.moveTo(0, base)
        path.curveTo(width * 0.3, base + 70 - 12 * i, width * 0.6, base - 60, width, base + 26)
        path.lineTo(width, height * 0.36)
        path.lineTo(0, height * 0.36)
        canvas.drawPath(path, stroke=0, fill=1)
    canvas.setFillColor(white)
    canvas.rect(0, 0, width, height * 0.37, stroke=0, fill=1)
    canvas.setFont("Helvetica-Bold", 34)
    canvas.drawString(62, height - 150, "Brackwater")
    canvas.drawString(62, height - 190, "Marine Holdings plc")
    canvas.setFont("Helvetica", 18)
    canvas.drawString(62, height - 232, "Annual Report and Accounts")
    canvas.setFillColor(HexColor("#1f4e79"))
    canvas.setFont("Helvetica-Bold", 44)
    canvas.drawString(62, 170, "2023")
    canvas.setFont("Helvetica", 10)
    canvas.drawString(62, 140, "For the year ended 31 December 2023")


def glance() -> list[Flowable]:
    tiles = table(
        [["Revenue", "Adjusted operating profit", "Reported operating profit", "Dividend per share"],
         ["£414.8m", "£43.2m", "£31.9m", "9.5p"],
         ["2022: £392.6m", "2022: £38.6m", "2022: £32.8m", "2022: 8.8p"]],
        [1, 1.1, 1.1, 1], left=(0, 1, 2, 3), size=10.5, pad=6,
    )  # fmt: skip
    contents = [["Section", "Page"]] + [[name, str(page)] for name, page in (
        ("Chair's statement", 3), ("Markets and strategy", 4), ("Ferry Services", 5),
        ("Harbour Engineering", 6),
        ("Navigation Systems", 7), ("Financial review", 8), ("Adjusted and reported profit", 9),
        ("Quarterly performance", 10), ("Principal risks", 11), ("People and safety", 12),
        ("Consolidated income statement", 13), ("Consolidated balance sheet", 14),
        ("Consolidated cash flow statement", 15), ("Segment notes", 16),
        ("Borrowings and later events", 18))]  # fmt: skip
    return [
        h1("2023 at a glance"), tiles,
        p("Brackwater carries passengers and freight on nine routes around the Skerne Sea, maintains "
          "harbours for "
          "port authorities, and sells vessel traffic systems to 41 ports."),
        h2("Revenue by segment, 2023"),
        charts.donut(dict(zip(SEGMENTS, REVENUE[2023], strict=True)), LOOK.width, 130, " £m", 1,
                     middle="£414.8m"),
        h2("Contents"), table(contents, [5, 1], size=8.4, pad=1.9, share=0.7),
    ]  # fmt: skip


def chair() -> list[Flowable]:
    return [
        h1("Chair's statement"),
        *LOOK.ps(
            "Dear shareholder, 2023 was the first full year in which people travelled on our ferries as "
            "freely as they "
            "did before 2020, and the first in which every one of our routes earned its cost of capital. "
            "Group revenue "
            "rose by 5.7% to £414.8 million. Adjusted operating profit rose by 11.9% to £43.2 million.",
            "Not everything went well. The Selsworth yard, which we had hoped to fill with dredger "
            "conversions, lost its "
            "two largest customers in the spring. After a review that began in May we decided to close the "
            "north slipway "
            "and to offer voluntary redundancy to 118 colleagues. The charge for this, together with the "
            "impairment of "
            "the MV <i>Curlew</i>, is the reason why reported operating profit fell, by 2.7%, to £31.9 "
            "million.",
            "The Board recommends a final dividend of 6.1 pence per share. Together with the interim "
            "dividend of "
            "3.4 pence paid in October, this makes 9.5 pence for the year, an increase of 8.0%. We did not "
            "buy back any "
            "shares in 2023, and do not intend to do so while the new ferry is being paid for.",
        ),
        h2("The Board"),
        *LOOK.ps(
            "Dr Ines Calloway joined the Board on 1 March 2023 as a non-executive director and chairs the "
            "audit "
            "committee. Peter Asquith-Lowe retired in April after nine years; we thank him for his "
            "counsel. Following the "
            "year end, Marguerite Thole, our chief financial officer, told us that she will leave in "
            "September 2024. The "
            "search for her successor has begun, and is led by the senior independent director.",
            "The Board met nine times. All directors attended every meeting, except for Harald Brune, who "
            "missed the "
            "July meeting owing to illness.",
        ),
        h2("Outlook"),
        *LOOK.ps(
            "Summer bookings for 2024 stand 4% above the same point last year. The order book of Harbour "
            "Engineering "
            "is lower than we would like; Navigation Systems enters the year with the largest backlog of "
            "its history. We "
            "expect adjusted operating profit in 2024 to be between £45 million and £48 million, provided "
            "that marine "
            "gas oil stays below £720 a tonne.",
        ),
        LOOK.gap(10), p("<b>Sir Alastair Penhale</b><br/>Chair, 7 March 2024"),
    ]  # fmt: skip


def strategy() -> list[Flowable]:
    return [
        h1("Markets and strategy"),
        *LOOK.ps("Three things shape our markets: how many people cross the Skerne Sea, how much port "
                 "authorities spend "
                 "on their walls and berths, and what the coast guards require vessels to report."),
        h2("Our four goals to 2027"),
        table(
            [["Goal", "Measure", "2022", "2023", "Target 2027"],
             ["Fill the ships we have", "Load factor, ferries, %", "61", "66", "72"],
             ["Recurring income", "Share of Navigation revenue, %", "38", "47", "60"],
             ["Cut emissions", "kg CO2 per vehicle-mile", "3.42", "3.18", "2.40"],
             ["Keep people safe", "Lost-time injuries per million hours", "2.9", "2.1", "1.0"]],
            [2, 2.6, 0.8, 0.8, 1], left=(0, 1)),
        h2("A new ship for the Orrin route"),
        *LOOK.ps(
            "In November we ordered a hybrid ferry of 1,150 passengers and 240 cars from the Varholm yard "
            "for "
            "£86.5 million, to be delivered in May 2026. She will replace the MV <i>Curlew</i> and the MV "
            "<i>Dunlin</i>. "
            "We paid a first instalment of £13.0 million in December; nothing further falls due before "
            "steel is cut "
            "in January 2025. An option for a sister ship lapses on 30 June 2025.",
        ),
        h2("What we will not do"),
        *LOOK.bullets([
            "We will not enter cruise or container shipping, where we have no advantage.",
            "We will not tender for harbour works outside Europe unless a partner bears the currency risk.",
            "We will not let net debt exceed 2.0 times adjusted EBITDA, save for up to twelve months after "
            "delivery "
            "of a ship.",
        ]),
        h2("Crossings of the Skerne Sea, all operators (million passengers)"),
        charts.lines(["2018", "2019", "2020", "2021", "2022", "2023"],
                     {"All operators": [9.8, 10.1, 4.2, 6.6, 8.9, 9.6],
                      "Brackwater": [3.6, 3.7, 1.5, 2.5, 3.4, 3.8]},
                     LOOK.width, 150, "million", 1),
        note("Source: Skerne Sea Passenger Survey; own counts. Our share of crossings rose from 38% in "
             "2022 to 40%."),
    ]  # fmt: skip


def write(folder: Path) -> Path:
    path = folder / "brackwater-annual-report-2023.pdf"
    review = brackwater_review
    pages = [
        glance, chair, strategy, review.ferries, review.harbour, review.navigation, review.finances,
        review.bridge, review.quarters, review.risks, review.people,
    ]  # fmt: skip
    sheets = [Sheet([], draw=cover), *(Sheet(page()) for page in pages), *brackwater_accounts.sheets(LOOK)]
    write_pdf(path, sheets, PAPER, title="Brackwater Marine Holdings plc: Annual Report 2023",
              author="Brackwater Marine Holdings plc", furniture=furniture)  # fmt: skip
    return path
