"""A second group's annual report: the words and tables of Brackwater's, with other numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4

from samples.make import charts
from samples.make.documents.brackwater_accounts import statement
from samples.make.documents.brackwater_numbers import amount, total, totals
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper()
LOOK = Look("#7a2e3a", PAPER.width, size=10.7)
COLOURS = ("#7a2e3a", "#c9a227", "#4a6b57")
SEGMENTS = ("Ferry Services", "Port Engineering", "Navigation Systems")
REVENUE = {2022: (182.9, 79.4, 38.1), 2023: (176.3, 88.2, 41.5)}
ADJUSTED = {2022: (24.6, 5.2, 6.0, -4.4), 2023: (19.8, 7.7, 7.1, -4.9)}
p, h1, h2, note, table = LOOK.p, LOOK.h1, LOOK.h2, LOOK.note, LOOK.table


def furniture(canvas: Any, number: int, pages: int) -> None:
    if number == 1:
        return
    canvas.setFillColor(HexColor("#7a2e3a"))
    canvas.rect(0, A4[1] - 26, A4[0], 26, stroke=0, fill=1)
    canvas.setFillColor(white)
    canvas.setFont("Helvetica", 8)
    canvas.drawString(62, A4[1] - 17, "Tessaly Marine Group plc  |  Annual Report 2023")
    canvas.setFillColor(HexColor("#555555"))
    canvas.drawCentredString(A4[0] / 2, 32, f"{number} / {pages}")


def cover(canvas: Any) -> None:
    canvas.setFillColor(HexColor("#7a2e3a"))
    canvas.rect(0, 0, 190, A4[1], stroke=0, fill=1)
    canvas.setFillColor(HexColor("#c9a227"))
    canvas.rect(190, 470, A4[0], 5, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#7a2e3a"))
    canvas.setFont("Helvetica-Bold", 30)
    canvas.drawString(215, 560, "Tessaly Marine")
    canvas.drawString(215, 524, "Group plc")
    canvas.setFont("Helvetica", 16)
    canvas.drawString(215, 488, "Annual Report 2023")
    canvas.setFillColor(HexColor("#333333"))
    canvas.setFont("Helvetica", 10)
    for i, line in enumerate(("Revenue £306.0 million", "Adjusted operating profit £29.7 million",
                              "1,904 employees on average",
                              "Dividend for the year 7.0 pence per share")):  # fmt: skip
        canvas.drawString(215, 440 - 20 * i, line)


def chair() -> list[Flowable]:
    return [
        h1("Chair's statement"),
        *LOOK.ps(
            "Dear shareholder, this was a mixed year. Group revenue rose by 1.9% to £306.0 million, but "
            "adjusted operating "
            "profit fell by 5.4% to £29.7 million. Our ferries lost passengers to a new low-fare operator "
            "on the Dunmere crossing, "
            "while Port Engineering and Navigation Systems both had their best year.",
            "There were no redundancies in 2023, and no ship was impaired. The only item left out of "
            "adjusted operating "
            "profit is the cost of £2.4 million of defending a claim over the stranding of the "
            "<i>Larkspur</i> in 2020. Judgment "
            "is expected in the autumn of 2024. We have made no provision, since counsel thinks that the "
            "claim will more "
            "likely than not fail.",
            "The Board recommends a final dividend of 4.2 pence per share. With the interim dividend of "
            "2.8 pence, the dividend for "
            "the year is 7.0 pence, unchanged from 2022.",
        ),
        h2("The Board"),
        *LOOK.ps("Our finance director, Colm Rattray, retired on 30 June 2023 and was succeeded by Yusra "
                 "Delgado. No other "
                 "director joined or left. The Board met seven times and nobody missed a meeting."),
        h2("Outlook"),
        *LOOK.ps("We expect adjusted operating profit in 2024 to be between £28 million and £31 million. "
                 "Summer bookings stand 2% "
                 "below last year's. We plan to close the night sailing on the Dunmere crossing from "
                 "October unless freight "
                 "customers commit to it by the end of June."),
        LOOK.gap(10), p("<b>Dame Orla Whitcombe</b><br/>Chair, 21 March 2024"),
    ]  # fmt: skip


def ferries() -> list[Flowable]:
    return [
        h1("Ferry Services"),
        *LOOK.ps("Revenue fell by 3.6% to £176.3 million and adjusted operating profit by 19.5% to £19.8 "
                 "million. We carried "
                 "2.9 million passengers, 6% fewer than in 2022, on five routes with nine ships."),
        h2("Passengers by route, 2023 (thousand)"),
        charts.across({"Dunmere – Port Ashling": 1046, "Dunmere – Holm": 733, "Ashling – Scarra": 512,
                       "Holm – Scarra": 367, "Little Scarra": 242}, LOOK.width, 140, colour="#7a2e3a"),
        h2("Punctuality and cancellations"),
        table([["", "2021", "2022", "2023"], ["Sailings planned", "16,210", "17,940", "18,020"],
               ["Sailings cancelled, weather", "301", "233", "274"],
               ["Sailings cancelled, technical", "140", "162", "131"],
               ["Arrived within 15 minutes, %", "91.3", "90.8", "89.5"]], [3, 1, 1, 1]),
        h2("Fuel"),
        *LOOK.ps("Marine gas oil cost £648 a tonne on average. We do not hedge fuel. Instead, a surcharge "
                 "follows the price with a "
                 "delay of two months; it brought £5.6 million (2022: £9.3 million). The fuel bill was "
                 "£31.4 million (2022: "
                 "£35.0 million).",
                 "The <i>Saint Brannoc</i> was lengthened by 18 metres in dry dock and returned in May "
                 "with 62 more car spaces."),
    ]  # fmt: skip


def others() -> list[Flowable]:
    return [
        h1("Port Engineering and Navigation Systems"),
        *LOOK.ps("Port Engineering raised revenue by 11.1% to £88.2 million and adjusted operating profit "
                 "by 48.1% to £7.7 million. "
                 "All lock and quay contracts were finished at or above the planned margin."),
        h2("Order book at 31 December (£ million)"),
        charts.bars(["2019", "2020", "2021", "2022", "2023"],
                    {"Maintenance": [31, 33, 36, 38, 44], "New works": [40, 35, 42, 57, 71]}, LOOK.width, 190,
                    colours=COLOURS, stacked=True),
        *LOOK.ps("Navigation Systems raised revenue by 8.9% to £41.5 million. Our buoy network "
                 "<i>Seamark</i> is used by 17 ports; two "
                 "customers left in the year and four joined. Research and development cost £5.2 million, "
                 "all of it "
                 "charged to profit."),
        h2("Employees, average"),
        table([["", "2023", "2022"], ["Ferry Services", "1,163", "1,190"], ["Port Engineering", "528", "496"],
               ["Navigation Systems", "166", "158"], ["Central", "47", "46"], ["In all", "1,904", "1,890"]],
              [4, 1, 1], totals=[-1]),
    ]  # fmt: skip


def profit() -> list[Flowable]:
    rows = [["£ million", "2023", "2022"]]
    rows += [
        [n, *(amount(ADJUSTED[y][i]) for y in (2023, 2022))] for i, n in enumerate((*SEGMENTS, "Central"))
    ]
    rows += [["Adjusted operating profit", *(amount(total(ADJUSTED[y])) for y in (2023, 2022))],
             ["Legal costs, Larkspur claim", "(2.4)", "(0.9)"],
             ["Reported operating profit", "27.3", "30.5"]]  # fmt: skip
    names = ["Q1", "Q2", "Q3", "Q4"]
    quarters = {"Ferry Services": (28.7, 47.9, 64.2, 35.5), "Port Engineering": (19.6, 22.4, 23.7, 22.5),
                "Navigation Systems": (9.3, 10.1, 11.0, 11.1)}  # fmt: skip
    sums = [total(column) for column in zip(*quarters.values(), strict=True)]
    assert total(sums) == total(REVENUE[2023])
    return [
        h1("Adjusted and reported profit"),
        table(rows, [4, 1, 1], totals=[5, -1]),
        h2("Revenue, two years (£ million)"),
        charts.bars(["2022", "2023"], {n: [REVENUE[y][i] for y in (2022, 2023)] for i,
                                       n in enumerate(SEGMENTS)},
                    LOOK.width, 170, "£m", 1, colours=COLOURS),
        h2("Revenue by quarter, 2023"),
        table([["£ million", *names, "2023"],
               *([name, *map(amount, row), amount(total(row))] for name, row in quarters.items()),
               ["Revenue", *map(amount, sums), amount(total(sums))],
               ["Adjusted operating profit", "0.4", "7.9", "16.8", "4.6", "29.7"]], [2.5, 1, 1, 1, 1, 1],
               totals=[-2, -1]),
    ]  # fmt: skip


def income() -> list[Flowable]:
    lines = [
        ("Revenue", 306.0, 300.4),
        ("Cost of sales", -221.9, -215.2),
        ("Administrative expenses", -56.8, -54.7),
    ]
    before = [
        ("Operating profit brought down", 27.3, 30.5),
        ("Finance income", 0.8, 0.2),
        ("Finance costs", -5.9, -4.7),
    ]
    after = [("Profit before tax brought down", 22.2, 26.0), ("Tax", -5.2, -5.7)]
    return [
        h1("Consolidated income statement"),
        p("For the year ended 31 December 2023"),
        statement(LOOK, [("", lines, "Operating profit (reported)"), ("", before, "Profit before tax"),
                         ("", after, "Profit for the year")],
                         {"Revenue": "2", "Finance costs": "5", "Tax": "6"}),
        table([["Pence per share", "Note", "2023", "2022"], ["Basic earnings", "7", "13.6", "16.2"],
               ["Dividend, interim and final", "8", "7.0", "7.0"]], [4, 0.6, 1, 1]),
        h2("Operating profit is stated after charging"),
        table([["£ million", "2023", "2022"], ["Fuel", "31.4", "35.0"],
               ["Wages and salaries", "86.3", "83.0"],
               ["Depreciation", "18.2", "17.9"], ["Fees of the auditor, Penrose Audit LLP", "0.6", "0.6"]],
               [4, 1, 1]),
    ]  # fmt: skip


def cash() -> list[Flowable]:
    operations = [("Operating profit", 27.3, 30.5), ("Depreciation", 18.2, 17.9), ("Amortisation", 2.1, 2.0),
                  ("Change in working capital", 4.4, -5.2), ("Interest paid", -5.7, -4.5),
                  ("Tax paid", -5.5, -4.9)]  # fmt: skip
    investing = [("Ships, yards and equipment", -33.8, -21.6), ("Software and development", -0.9, -1.1),
                 ("Proceeds of disposals", 0.3, 1.7), ("Interest received", 0.8, 0.2)]  # fmt: skip
    financing = [("Loans drawn", 10.0, 0.0), ("Loans repaid", -6.0, -6.0), ("Lease payments", -5.1, -4.9),
                 ("Dividends paid", -8.8, -8.8)]  # fmt: skip
    change = totals([*operations, *investing, *financing])
    end = [("Change in cash", change[0], change[1]), ("Cash at 1 January", 19.5, round(19.5 - change[1], 1))]
    return [
        h1("Consolidated cash flow statement"),
        p("For the year ended 31 December 2023"),
        statement(LOOK, [("Operating activities", operations, "Net cash from operating activities"),
                         ("Investing activities", investing, "Net cash used in investing activities"),
                         ("Financing activities", financing, "Net cash used in financing activities"),
                         ("", end, "Cash at 31 December")], {}),
        note("Ships, yards and equipment of 2023 include £14.6 million for lengthening the Saint Brannoc."),
    ]  # fmt: skip


def notes() -> list[Flowable]:
    return [
        h1("Borrowings and later events"),
        h2("Note 11: bank loans"),
        table([["£ million", "Repaid by", "2023", "2022"],
               ["Term loan, fixed 3.80%", "March 2028", "54.0", "60.0"],
               ["Ship loan, floating", "May 2033", "18.0", "8.0"], ["In all", "", "72.0", "68.0"]],
              [3, 1.6, 1, 1], left=(0, 1), totals=[-1]),
        *LOOK.ps("Under the covenants, net debt must not exceed 2.5 times adjusted EBITDA. The test was "
                 "met at each date. An undrawn "
                 "facility of £25.0 million runs until March 2026."),
        h2("Pensions"),
        *LOOK.ps("The closed defined benefit scheme has a surplus of £3.1 million (2022: £1.2 million), "
                 "which is not recognised, "
                 "as the Group has no right to a refund. No contributions are being paid."),
        h2("Safety"),
        *LOOK.ps("There were 2.6 lost-time injuries per million hours worked (2022: 2.4). A fitter died on "
                 "3 August in a fall at the "
                 "Holm dry dock. The Marine Accident Board has not yet reported."),
        h2("Emissions"),
        table([["Thousand tonnes of CO2 equivalent", "2022", "2023"], ["Scope 1: ships", "139.7", "133.8"],
               ["Scope 1: yards and vehicles", "3.9", "4.0"],
               ["Scope 2: electricity, market based", "2.2", "2.1"]],
              [3, 1, 1]),
        h2("Events after the balance sheet date"),
        *LOOK.ps("On 11 March 2024 the Group bought the remaining 45% of Ashling Pilot Services for £3.7 "
                 "million. There were no other "
                 "events to report."),
        h2("For shareholders"),
        *LOOK.ps("Annual general meeting: 23 May 2024, Dunmere Town Hall. The final dividend will be paid "
                 "on 14 June 2024."),
    ]  # fmt: skip


def write(folder: Path) -> Path:
    path = folder / "tessaly-annual-report-2023.pdf"
    pages = [chair, ferries, others, profit, income, cash, notes]
    write_pdf(path, [Sheet([], draw=cover), *(Sheet(page()) for page in pages)], PAPER,
              title="Tessaly Marine Group plc: Annual Report 2023", author="Tessaly Marine Group plc",
              furniture=furniture)  # fmt: skip
    return path
