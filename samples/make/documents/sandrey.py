"""Minutes of a board: born digital, with a scanned letter as page 4 and a page of /Rotate 90 as page 5."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Frame

from samples.make import charts, scan
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, pour, write_pdf

PAPER = Paper()
LOOK = Look("#26495c", PAPER.width, "Stix", "Stix-Bold", size=12)
WIDE = Look("#26495c", A4[1] - 120, "Stix", "Stix-Bold", size=11.5)
LETTER = Look("#000000", PAPER.width, "Times-Roman", "Times-Bold", size=12.5)
h1, h2, table = LOOK.h1, LOOK.h2, LOOK.table


def furniture(canvas: Any, number: int, pages: int) -> None:
    canvas.setFont("Stix", 9)
    canvas.setFillColor(HexColor("#555555"))
    canvas.drawString(62, 34, "Sandrey Harbour Trust: minutes of the Board, 12 September 2024")
    canvas.drawRightString(A4[0] - 62, 34, f"{number} of {pages}")


def letter() -> ImageReader:
    """The letter as a scanner saw it."""

    def draw(canvas: Any) -> None:
        scan.signature(canvas, 70, 338, 91, 120)
        scan.hand(canvas, 330, 740, "Item 6 - Board 12/9", 17, 6)

    flow = [
        LETTER.p("<b>SKERNE FISHERMEN'S ASSOCIATION</b>", size=17, after=2),
        LETTER.p("3 Net Loft Lane, Sandrey", after=26),
        LETTER.p("To the Board of the Sandrey Harbour Trust", after=4), LETTER.p("28 August 2024", after=20),
        LETTER.p("<b>Proposed rise of landing dues</b>", after=12),
        *LETTER.ps(
            "Dear members of the Board,",
            "Our 37 boats have read with concern that landing dues are to rise from 2.2% to 3.1% of the "
            "value of the catch from 1 January 2025.",
            "We do not object to a rise as such. We object to its size, and to its date. We would accept "
            "2.6% from 1 April 2025, provided that the ice "
            "plant, which has stood idle since 19 June, is running again before that day.",
            "Should the ice plant not be repaired, we shall not pay more than 2.2%, and eleven of our "
            "larger boats will land at Kelsby, where ice costs "
            "£48 a tonne. You charged us £71.",
            "We ask to be heard at your meeting. Our speaker is Mr Ewan Tolliver."),
        LETTER.p("Yours faithfully,", after=70), LETTER.p("Isla Brandreth, secretary"),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        printed = Path(work) / "letter.pdf"
        write_pdf(printed, [Sheet(flow, draw=draw)], PAPER, title="", author="")
        page = scan.scan(scan.render(printed, 0), seed=77, skew=-1.1)
    return ImageReader(scan.jpeg(page))


def berths() -> Sheet:
    """A landscape page: drawn turned to the left, put upright by /Rotate."""
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug"]
    flow: list[Flowable] = [
        WIDE.h1("Annex 1: berths and traffic, January to August 2024"),
        WIDE.table(
            [["Berth", "Length, m", "Depth, m", "User", "Nights let", "Income, £", "Remark"],
             ["North 1", "84", "5.2", "Brackwater ferry (reserve)", "61", "24,400", ""],
             ["North 2", "60", "4.8", "Aggregates", "118", "35,400", "crane out of use in May"],
             ["Fish quay", "112", "3.6", "Skerne Fishermen", "–", "58,900", "landing dues, not nights"],
             ["East pontoon", "140", "2.4", "Visiting yachts", "1,944", "52,488", "full on 31 nights"],
             ["West wall", "75", "3.1", "not let", "0", "0", "closed: wall moves"],
             ["In all", "471", "", "", "", "171,188", ""]],
            [1.1, 0.8, 0.8, 1.9, 0.8, 0.9, 1.8], left=(0, 3, 6), totals=[-1], pad=5),
        WIDE.h2("Visiting yachts, nights by month"),
        charts.bars(months, {"2023": [12, 18, 64, 171, 288, 402, 489, 455],
                             "2024": [9, 21, 58, 183, 301, 418, 512, 442]}, A4[1] - 130, 195, "nights"),
    ]  # fmt: skip

    def draw(canvas: Any) -> None:
        canvas.translate(A4[0], 0)
        canvas.rotate(90)
        rest = pour(Frame(60, 50, A4[1] - 120, A4[0] - 100, 0, 0, 0, 0), flow, canvas, "annex 1")
        assert not rest
        canvas.setFont("Stix", 9)
        canvas.drawRightString(A4[1] - 60, 30, "5 of 6")

    return Sheet([], draw=draw, rotate=90, furniture=False)


def write(folder: Path) -> Path:
    path = folder / "sandrey-harbour-minutes.pdf"
    image = letter()
    pages: list[list[Flowable]] = [
        [
            h1("Sandrey Harbour Trust"),
            h2("Minutes of the meeting of the Board on 12 September 2024, 18:00, Custom House", 13.5),
            table([["Present", "Gwen Astbury (chair), Rafiq Noor, Hilary Stott, Dougal Mearns, Beatrix Lane"],
                   ["In attendance", "Simon Yarrow (harbour master), Nell Park (treasurer), Ewan Tolliver "
                   "(for item 6 only)"], ["Apologies", "Colin Feather"],
                   ["Absent without apology", "Vincent Strang"]], [1, 3.4], head=0, left=(0, 1), pad=5),
            h2("1  Minutes of the last meeting"),
            *LOOK.ps("The minutes of 11 July were approved with one change: in item 4, the dredging "
                     "company quoted £86,000, not £68,000."),
            h2("2  Declarations of interest"),
            *LOOK.ps("Dougal Mearns owns a share in a fishing boat and did not vote on item 6. Nobody else "
                     "declared an interest."),
            h2("3  Harbour master's report"),
            *LOOK.ps("Traffic is set out in annex 1. There were three incidents since July: a yacht "
                     "aground on the bar (no damage), a diesel spill of about 40 litres at the fish quay, "
                     "and a broken ladder at North 2. The ladder has been replaced; the spill is being "
                     "investigated by the coast guard, which has not yet reported.",
                     "The ice plant has been out of order since 19 June. The compressor cannot be "
                     "repaired. A new one costs £33,700 and takes fourteen weeks to arrive."),
            h2("4  Safety"),
            *LOOK.ps("The Port Marine Safety audit found two faults and no serious fault. Life rings are "
                     "missing at the west wall; they will not be replaced, since the wall is closed to "
                     "the public. The oil spill plan dates from 2016 and must be renewed by 31 January "
                     "2025."),
        ],
        [
            h2("5  West wall"),
            *LOOK.ps("The engineer's survey shows that the west wall has moved seaward by 14 mm in twelve "
                     "months, against 5 mm in the twelve months before. Three options were put to the "
                     "Board:"),
            table([["Option", "Cost, £", "Life, years", "Berths kept", "Months of closure"],
                   ["A  Anchors", "640,000", "25", "yes", "7"],
                   ["B  New sheet piles", "1,480,000", "60", "yes", "13"],
                   ["C  Rock armour", "390,000", "40", "no", "4"]], [1.8, 1, 1, 1, 1.4], pad=5),
            *LOOK.ps("Hilary Stott preferred option B for its long life. The treasurer said that the Trust "
                     "could not borrow more than £900,000. The Board chose option A by four votes to one, "
                     "on the "
                     "condition that the county pays at least 40%. If it does not do so by 31 March 2025, "
                     "option C will be carried out instead.",
                     "The wall stays closed to vessels and to walkers. Anglers may use the outer 20 "
                     "metres, except at spring tides."),
            h2("6  Landing dues"),
            *LOOK.ps("The Board had before it a letter from the Skerne Fishermen's Association (page 4). "
                     "Ewan Tolliver spoke for the Association and left before the vote.",
                     "The Board resolved, with Dougal Mearns not voting, that landing dues rise from 2.2% "
                     "to 2.7% on 1 April 2025; that the new compressor is ordered at once; and that the "
                     "rise "
                     "does not take effect until the ice plant has run for two weeks. The proposal of 3.1% "
                     "was withdrawn. The price of ice stays at £71 a tonne until 31 December 2024, and "
                     "then falls "
                     "to £60."),
            h2("7  Yacht fees"),
            *LOOK.ps("The fee for visiting yachts rises from £27 to £29 a night for boats of up to 12 "
                     "metres. It does not change for longer boats, which pay £38. Boats that stay for a "
                     "seventh night in "
                     "a row do not pay for it."),
            h2("8  Café lease"),
            *LOOK.ps("The lease of the Custom House café ends on 28 February 2025. The tenant asked for "
                     "five more years. The Board offered three, with a rent of £14,500 a year, and no "
                     "right to renew. "
                     "Alcohol may not be sold on the quay, other than at the regatta."),
        ],
        [
            h2("9  Budget"),
            *LOOK.ps("The treasurer presented the budget for 2024 with a forecast after eight months."),
            table([["£", "Actual 2023", "Budget 2024", "Forecast 2024", "Forecast less budget"],
                   ["Landing dues", "93,200", "101,000", "86,500", "(14,500)"],
                   ["Berths and yachts", "148,700", "151,000", "158,300", "7,300"],
                   ["Ice", "41,900", "44,000", "19,600", "(24,400)"],
                   ["Rents", "37,500", "38,200", "38,200", "–"],
                   ["Grants", "12,000", "25,000", "30,000", "5,000"],
                   ["Income", "333,300", "359,200", "332,600", "(26,600)"],
                   ["Staff", "164,800", "171,500", "172,900", "1,400"],
                   ["Repairs", "58,300", "62,000", "67,400", "5,400"],
                   ["Dredging", "–", "70,000", "86,000", "16,000"],
                   ["Energy", "29,600", "27,000", "21,100", "(5,900)"],
                   ["Insurance and other", "44,100", "45,200", "46,000", "800"],
                   ["Spending", "296,800", "375,700", "393,400", "17,700"],
                   ["Surplus or (deficit)", "36,500", "(16,500)", "(60,800)", "(44,300)"]],
                  [1.9, 1, 1, 1.1, 1.5], totals=[6, 12, 13], pad=4.5),
            *LOOK.ps("The forecast contains neither the compressor nor the west wall. The deficit will be "
                     "met from the reserve, which stood at £412,000 on 31 August. The Board's rule is that "
                     "the reserve "
                     "shall not fall below £250,000, unless all members agree."),
            h2("10  Any other business"),
            *LOOK.ps("Beatrix Lane asked that papers be sent ten days before a meeting, not five. Agreed. "
                     "Vincent Strang has missed three meetings without apology; under rule 9 he ceases to "
                     "be a "
                     "member unless he writes to the chair within 28 days."),
            h2("11  Next meeting"),
            *LOOK.ps("Thursday 14 November 2024, 18:00. The meeting of 10 October is cancelled."),
        ],
    ]  # fmt: skip
    actions = [
        h1("Annex 2: actions", 17),
        table([["No.", "Action", "Who", "By", "State"],
               ["24/31", "Order the compressor for the ice plant", "S. Yarrow", "16 Sep 2024", "open"],
               ["24/32", "Ask the county for 40% of option A", "G. Astbury", "30 Sep 2024", "open"],
               ["24/33", "Renew the oil spill plan", "S. Yarrow", "31 Jan 2025", "open"],
               ["24/34", "Write to V. Strang under rule 9", "G. Astbury", "19 Sep 2024", "open"],
               ["24/35", "Send the offer of a lease to the café", "N. Park", "30 Sep 2024", "open"],
               ["24/27", "Replace the ladder at North 2", "S. Yarrow", "31 Aug 2024", "done"],
               ["24/26", "Quotes for CCTV on the pontoon", "H. Stott", "31 Aug 2024", "late"],
               ["24/22", "Mark the new moorings on the chart", "R. Noor", "30 Jun 2024", "late"],
               ["24/19", "Insure the crane at North 2", "N. Park", "31 May 2024", "done"]],
               [0.8, 3.2, 1.2, 1.3, 0.8], left=(0, 1, 2, 3, 4), pad=6),
        *LOOK.ps("Two actions are late. Rafiq Noor is waiting for the survey of the moorings; Hilary Stott "
                 "has one quote, and needs three.",
                 "Action 24/24, a second slipway, was dropped on 11 July and is not carried forward."),
        LOOK.gap(20), *LOOK.ps("Signed as a true record:",
                               "................................................................ "
                               "&nbsp;&nbsp; Gwen Astbury, chair"),
    ]  # fmt: skip
    sheets = [
        *(Sheet(page) for page in pages),
        Sheet([], draw=lambda c: c.drawImage(image, 0, 0, A4[0], A4[1]), furniture=False),
        berths(),
        Sheet(actions),
    ]
    write_pdf(
        path,
        sheets,
        PAPER,
        title="Minutes of the Board, 12 September 2024",
        author="Sandrey Harbour Trust",
        furniture=furniture,
    )
    return path
