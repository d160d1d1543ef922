"""Statements and notes of Brackwater's annual report, pages 13 to 18."""

from __future__ import annotations

from collections.abc import Sequence

from samples.make.documents.brackwater_numbers import (
    ADJUSTED,
    ADJUSTING,
    REVENUE,
    Line,
    amount,
    total,
    totals,
)
from samples.make.look import Look
from samples.make.press import Flowable, Sheet

HEAD = ["£ million", "Note", "2023", "2022"]


def statement(
    look: Look, blocks: Sequence[tuple[str, Sequence[Line], str]], notes: dict[str, str]
) -> Flowable:
    """Lines under a heading, then their running total; an empty total name means none."""
    rows, sums = [HEAD], []
    for heading, lines, name in blocks:
        if heading:
            rows.append([f"<b>{heading}</b>", "", "", ""])
        rows += [[n, notes.get(n, ""), amount(a), amount(b)] for n, a, b in lines]
        if name:
            sums.append(len(rows))
            rows.append([name, notes.get(name, ""), *map(amount, totals(lines))])
    return look.table(rows, [4, 0.6, 1, 1], totals=sums, pad=2.6)


def income(look: Look) -> list[Flowable]:
    lines: list[Line] = [
        ("Revenue", 414.8, 392.6), ("Cost of sales", -297.4, -284.9),
        ("Administrative expenses", -85.5, -74.9),
    ]  # fmt: skip
    operating = totals(lines)
    before: list[Line] = [("Operating profit brought down", operating[0], operating[1]),
                          ("Finance income", 1.1, 0.4),
                          ("Finance costs", -7.6, -6.2)]  # fmt: skip
    profit = totals(before)
    after: list[Line] = [("Profit before tax brought down", profit[0], profit[1]), ("Tax", -6.1, -6.2)]
    return [
        look.h1("Consolidated income statement"),
        look.p("For the year ended 31 December 2023"),
        statement(look, [("", lines, "Operating profit (reported)"), ("", before, "Profit before tax"),
                         ("", after, "Profit for the year")],
                  {"Revenue": "3", "Finance costs": "6", "Tax": "7", "Operating profit (reported)": "4"}),
        look.table([["Pence per share", "Note", "2023", "2022"], ["Basic earnings", "8", "20.0", "21.7"],
                    ["Diluted earnings", "8", "19.8", "21.5"],
                    ["Dividend, interim and final", "9", "9.5", "8.8"]],
                   [4, 0.6, 1, 1]),
        look.note("All of the Group's activities continue. Operating profit is stated after adjusting "
                  "items of £11.3 million "
                  "(2022: £5.8 million), which are listed on page 9."),
        look.h2("Note 4: operating profit is stated after charging"),
        look.table([["£ million", "2023", "2022"], ["Fuel", "38.2", "39.6"],
                    ["Wages and salaries", "121.7", "117.9"],
                    ["Social security and pensions", "17.4", "16.6"], ["Depreciation", "24.7", "22.9"],
                    ["Amortisation", "4.9", "4.5"],
                    ["Fees of the auditor, Strand &amp; Mabey LLP", "0.8", "0.7"]],
                   [4, 1, 1]),
    ]  # fmt: skip


def balance(look: Look) -> list[Flowable]:
    fixed: list[Line] = [("Goodwill", 48.0, 48.0), ("Other intangible assets", 22.6, 23.3),
                         ("Ships, yards and equipment", 246.8, 240.6),
                         ("Right-of-use assets", 34.9, 36.2)]  # fmt: skip
    current: list[Line] = [("Inventories", 18.7, 17.2), ("Trade and other receivables", 71.6, 64.0),
                           ("Cash and cash equivalents", 29.7, 28.4)]  # fmt: skip
    short: list[Line] = [("Trade and other payables", -74.2, -72.8),
                         ("Bank loans, due within a year", -12.5, -12.5),
                         ("Leases, due within a year", -8.4, -8.2)]  # fmt: skip
    long: list[Line] = [("Bank loans", -112.5, -105.0), ("Leases", -27.8, -29.3),
                        ("Pension deficit", -14.2, -17.9),
                        ("Deferred tax", -19.7, -19.4)]  # fmt: skip
    equity: list[Line] = [
        ("Share capital", 9.7, 9.6),
        ("Share premium", 41.8, 41.3),
        ("Retained earnings", 151.5, 141.7),
    ]
    net: list[Line] = [("Assets less liabilities", *totals([*fixed, *current, *short, *long]))]
    assert net[0][1:] == totals(equity)
    return [
        look.h1("Consolidated balance sheet"),
        look.p("At 31 December 2023"),
        statement(look, [("Non-current assets", fixed, "Non-current assets in all"),
                         ("Current assets", current, "Current assets in all"),
                         ("Current liabilities", short, "Current liabilities in all"),
                         ("Non-current liabilities", long, "Non-current liabilities in all"), ("", net, ""),
                         ("Equity", equity, "Equity in all")],
                  {"Bank loans": "12", "Pension deficit": "14", "Goodwill": "10",
                   "Ships, yards and equipment": "11"}),
        look.p("Approved by the Board on 7 March 2024 and signed on its behalf by Marguerite Thole, chief "
               "financial officer."),
    ]  # fmt: skip


def cash(look: Look) -> list[Flowable]:
    operations: list[Line] = [
        ("Operating profit", 31.9, 32.8), ("Depreciation", 24.7, 22.9), ("Amortisation", 4.9, 4.5),
        ("Impairment of MV Curlew", 4.6, 0), ("Gain on sale of Pier House", -2.2, 0),
        ("Change in working capital", -7.3, 3.6),
        ("Interest paid", -7.2, -5.9), ("Tax paid", -5.4, -4.8),
    ]  # fmt: skip
    investing: list[Line] = [
        ("Ships, yards and equipment", -38.5, -29.7), ("Software and development", -4.2, -3.6),
        ("Purchase of Pharos Data Ltd, net of cash", 0, -18.5), ("Proceeds of disposals", 9.0, 0.6),
        ("Interest received", 1.1, 0.4),
    ]  # fmt: skip
    financing: list[Line] = [("Loans drawn", 20.0, 15.0), ("Loans repaid", -12.5, -10.0),
                             ("Lease payments", -8.8, -8.1),
                             ("Dividends paid", -8.8, -7.9)]  # fmt: skip
    change = totals([*operations, *investing, *financing])
    assert (total((28.4, change[0])), total((37.1, change[1]))) == (29.7, 28.4)
    end: list[Line] = [("Change in cash", change[0], change[1]), ("Cash at 1 January", 28.4, 37.1)]
    return [
        look.h1("Consolidated cash flow statement"),
        look.p("For the year ended 31 December 2023"),
        statement(look, [("Operating activities", operations, "Net cash from operating activities"),
                         ("Investing activities", investing, "Net cash used in investing activities"),
                         ("Financing activities", financing, "Net cash used in financing activities"),
                         ("", end, "Cash at 31 December")], {"Loans drawn": "12", "Loans repaid": "12"}),
        look.note("Ships, yards and equipment of 2023 include the first instalment of £13.0 million on the "
                  "new hybrid ferry. "
                  "Dividends paid are the final dividend of 2022 (5.7 pence) and the interim dividend of "
                  "2023 (3.4 pence)."),
    ]  # fmt: skip


def segments(look: Look, year: int, other: Sequence[Sequence[str]], words: str, title: str) -> list[Flowable]:
    adjusting = {2023: (-4.6, -5.8, -3.1, 2.2), 2022: (-1.2, 0.0, -2.9, -1.7)}[year]
    assert total(adjusting) == totals(ADJUSTING)[0 if year == 2023 else 1]
    revenue, profit = REVENUE[year], ADJUSTED[year]
    inner = {2023: (0.4, 6.2, 1.9), 2022: (0.5, 5.4, 1.6)}[year]

    def row(name: str, values: Sequence[float]) -> list[str]:
        return [name, *map(amount, values), amount(total(values))]

    rows = [
        ["£ million", "Ferry Services", "Harbour Engin.", "Navigation", "Central", "Group"],
        row("Revenue with others", [*revenue, 0]),
        ["Between segments", *map(amount, inner), "–", "–"],
        row("Adjusted operating profit", profit),
        row("Adjusting items", adjusting),
        row("Reported operating profit", [total(pair) for pair in zip(profit, adjusting, strict=True)]),
        *[list(r) for r in other],
    ]
    return [
        look.h1(title),
        look.p("The Group has three segments, which the Board reviews monthly. Sales between segments are "
               "at the prices paid by "
               "others, and are left out of the Group's column."),
        look.h2(f"Year ended 31 December {year}"),
        look.table(rows, [2.3, 1, 1.05, 1, 0.9, 0.9], totals=[5], size=8.4),
        *look.ps(*words.split("|")),
    ]  # fmt: skip


def later(look: Look) -> list[Flowable]:
    loans = [("Term loan A, fixed 4.15%", "June 2027", 75.0, 75.0),
             ("Term loan B, floating", "March 2026", 30.0, 42.5),
             ("Ship loan, floating", "December 2035", 20.0, 0.0)]  # fmt: skip
    return [
        look.h1("Borrowings and later events"),
        look.h2("Note 12: bank loans"),
        look.table(
            [["£ million", "Repaid by", "2023", "2022"],
             *([n, d, amount(a), amount(b)] for n, d, a, b in loans),
             ["In all", "", amount(total(x[2] for x in loans)), amount(total(x[3] for x in loans))]],
            [3, 1.6, 1, 1], left=(0, 1), totals=[-1]),
        *look.ps(
            "The ship loan pays for the hybrid ferry and is secured on her; the term loans are not "
            "secured. Under the covenants, "
            "net debt must not exceed 3.0 times adjusted EBITDA, and adjusted EBITDA must be at least 4.0 "
            "times net "
            "finance costs. Both were met at each test date. A breach does not make the ship loan "
            "repayable unless it lasts for "
            "more than sixty days.",
            "The Group also has an undrawn facility of £40.0 million, which runs until June 2027.",
        ),
        look.h2("Note 15: commitments"),
        *look.ps("Contracts for ships and equipment that are not provided for amount to £78.9 million, of "
                 "which £73.5 million is for "
                 "the hybrid ferry."),
        look.h2("Note 16: events after the balance sheet date"),
        *look.ps(
            "On 22 January 2024 a fire damaged a warehouse at Kelsby that the Group leases. Nobody was "
            "hurt. Stocks of £0.9 million "
            "were lost and are insured, save for an excess of £0.1 million.",
            "On 15 February 2024 the Group agreed to sell its 30% share in Tarn Isle Moorings for £2.4 "
            "million.",
        ),
        look.h2("For shareholders"),
        look.table(
            [["Event", "Date"], ["Shares quoted without final dividend", "18 April 2024"],
             ["Annual general meeting, Kelsby Guildhall",
             "9 May 2024"], ["Final dividend paid", "24 May 2024"],
             ["Half-year results", "5 September 2024"]],
            [3, 1.4], left=(0, 1), share=0.75),
        look.p("Registrar: Foxholes Registrars Ltd, 12 Weir Street, Kelsby. Registered office: 1 Customs "
               "Quay, Kelsby."),
    ]  # fmt: skip


def sheets(look: Look) -> list[Sheet]:
    now = [["Depreciation", "15.9", "7.1", "1.2", "0.5", "24.7"],
           ["Additions to fixed assets", "29.8", "6.6", "5.7", "0.6", "42.7"],
           ["Assets", "231.5", "129.4", "73.6", "37.8", "472.3"]]  # fmt: skip
    then = [["Depreciation", "14.8", "6.6", "1.0", "0.5", "22.9"],
            ["Additions to fixed assets", "21.0", "7.3", "4.6", "0.4", "33.3"],
            ["Assets", "224.9", "126.2", "69.8", "36.8", "457.7"]]  # fmt: skip
    this_year = (
        "Adjusting items of Ferry Services are the impairment of the MV <i>Curlew</i>; those of Harbour "
        "Engineering are the "
        "restructuring of the Selsworth yard, those of Navigation Systems the amortisation of acquired "
        "intangibles. The gain on "
        "Pier House is shown under Central.|No customer accounts for more than a tenth of revenue, except "
        "for the Fenwold Port "
        "Authority with 2023 revenue of £44.1 million over all segments.|By place: £301.2 million of "
        "revenue arose in the "
        "United Kingdom, £84.9 million in the European Union and £28.7 million elsewhere."
    )
    last_year = (
        "Adjusting items of Ferry Services are the merger of two ticket offices; those of Navigation "
        "Systems are the amortisation "
        "of acquired intangibles, those of Central the costs of buying Pharos Data Ltd.|No customer "
        "accounted for more than a tenth "
        "of revenue in 2022.|By place: £291.0 million of revenue arose in the United Kingdom, £78.3 "
        "million in the European "
        "Union and £23.3 million elsewhere."
    )
    return [
        Sheet(income(look)), Sheet(balance(look)), Sheet(cash(look)),
        Sheet(segments(look, 2023, now, this_year, "Note 3: segments")),
        Sheet(segments(look, 2022, then, last_year, "Note 3: segments (continued)")),
        Sheet(later(look)),
    ]  # fmt: skip
