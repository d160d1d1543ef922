"""Brackwater's business and financial review: pages 5 to 12 of its annual report."""

from __future__ import annotations

from samples.make import charts, plots
from samples.make.documents.brackwater_numbers import (
    ADJUSTED,
    ADJUSTING,
    EARLIER,
    QUARTERS,
    REVENUE,
    SEGMENTS,
    amount,
    total,
    totals,
)
from samples.make.look import Look
from samples.make.press import Flowable, Paper

PAPER = Paper()
LOOK = Look("#1f4e79", PAPER.width, size=10.7)
p, h1, h2, note, table = LOOK.p, LOOK.h1, LOOK.h2, LOOK.note, LOOK.table


def ferries() -> list[Flowable]:
    routes = {"Orrin – Kelsby": 1184, "Orrin – Stavely": 902, "Marrick – Tarn Isle": 611,
              "Kelsby – Fenwold": 438,
              "Marrick – Stavely": 297, "Other four routes": 368}  # fmt: skip
    return [
        h1("Ferry Services"),
        *LOOK.ps(
            "Revenue rose by 8.3% to £214.6 million and adjusted operating profit by 24.6% to £27.9 "
            "million. We "
            f"carried {sum(routes.values()) / 1000:.1f} million passengers, 12% more than in 2022, with "
            f"the same twelve ships.",
            "Freight was flat: 186,000 lorries against 187,000. Two sailings in every hundred were "
            "cancelled, half "
            "of them in the storms of late October. We paid £1.3 million in compensation to passengers.",
        ),
        h2("Passengers by route, 2023 (thousand)"),
        charts.across(routes, LOOK.width, 150),
        h2("Punctuality and cancellations"),
        table(
            [["", "2021", "2022", "2023"], ["Sailings planned", "21,640", "24,870", "25,310"],
             ["Sailings cancelled, weather", "398", "286", "259"],
             ["Sailings cancelled, technical", "211", "244", "247"],
             ["Arrived within 15 minutes, %", "88.4", "90.1", "92.7"]], [3, 1, 1, 1]),
        note("A sailing counts as cancelled when it leaves more than three hours after its time."),
        h2("Fuel"),
        *LOOK.ps(
            "Marine gas oil cost £641 a tonne on average, 9% less than in 2022. We had hedged 60% of our "
            "needs at £690, "
            "so the fall did not help us in full: the fuel bill was £38.2 million (2022: £39.6 million). "
            "For 2024 we have "
            "hedged 45% at £655.",
            "The MV <i>Curlew</i> was taken out of service on 4 November and will not return. Her carrying "
            "amount was "
            "written down by £4.6 million to scrap value.",
        ),
    ]  # fmt: skip


def harbour() -> list[Flowable]:
    return [
        h1("Harbour Engineering"),
        *LOOK.ps(
            "Revenue fell by 5.5% to £131.8 million and adjusted operating profit by 28.2% to £9.4 "
            "million. The quay wall "
            "at Port Ellery was finished in June, six weeks early; the lock gates at Marrick cost us £2.9 "
            "million more "
            "than we had priced, and will not earn a margin.",
            "We won 14 of the 39 tenders that we entered. The largest is the deepening of Fenwold basin "
            "for the Fenwold "
            "Port Authority, worth £31.4 million over three years.",
        ),
        h2("Order book at 31 December (£ million)"),
        charts.bars(["2019", "2020", "2021", "2022", "2023"],
                    {"Maintenance": [52, 49, 61, 66, 58], "New works": [74, 88, 97, 81, 53]}, LOOK.width, 175,
                    stacked=True),
        note("Maintenance: framework contracts with a term of at least two years. New works: signed, not "
             "yet begun or "
             "in progress, at the price still to be invoiced."),
        h2("Larger contracts"),
        table(
            [["Contract", "Client", "Value, £m", "Done, %", "Margin"],
             ["Quay wall, Port Ellery", "Ellery Harbour Board", "27.8", "100", "above plan"],
             ["Lock gates, Marrick", "Marrick Canal Trust", "19.2", "81", "none expected"],
             ["Basin deepening, Fenwold", "Fenwold Port Authority", "31.4", "6", "on plan"],
             ["Fender renewal, Kelsby", "Kelsby Port Company", "8.7", "54", "on plan"],
             ["Breakwater repair, Tarn Isle", "Tarn Isle Council", "12.1", "38", "below plan"]],
            [2.3, 2, 0.9, 0.8, 1.2], left=(0, 1, 4)),
        h2("Selsworth yard"),
        *LOOK.ps("The north slipway closed on 30 September. Of 274 posts, 118 were given up; 97 colleagues "
                 "took "
                 "voluntary redundancy, 21 moved to other parts of the Group, and nobody was made redundant "
                 "against their will. The south slipway stays open."),
    ]  # fmt: skip


def navigation() -> list[Flowable]:
    drawn, axes = plots.figure(LOOK.width, 210)
    years = ["2019", "2020", "2021", "2022", "2023"]
    recurring, systems = [10.3, 13.2, 16.6, 20.9, 32.1], [29.5, 31.0, 30.7, 34.0, 36.3]
    first = axes.bar(years, recurring, 0.55, label="Recurring (licences, data, support)", color="#2f7f79")
    second = axes.bar(years, systems, 0.55, bottom=recurring, label="Systems sold", color="#e0a458")
    axes.bar_label(first, label_type="center", color="white", fmt="%.1f")
    axes.bar_label(second, label_type="center", fmt="%.1f")
    axes.set_ylim(0, 82)
    axes.set_ylabel("£ million")
    axes.set_title("Navigation Systems: revenue by kind", fontsize=10, loc="left")
    axes.legend(frameon=False, ncols=2, fontsize=8, loc="upper left")
    return [
        h1("Navigation Systems"),
        *LOOK.ps(
            "Revenue rose by 24.6% to £68.4 million and adjusted operating profit by 37.0% to £12.6 "
            "million. Six ports "
            "chose our vessel traffic system <i>Lodestar</i> in the year, and none of our 35 existing "
            "customers left.",
            "A growing share of revenue recurs: ports now rent the software and pay by the vessel movement, "
            "instead of buying a system once in ten years.",
        ),
        plots.pixels(drawn),
        LOOK.gap(6), h2("Lodestar in numbers"),
        table(
            [["", "2022", "2023"], ["Ports under contract at year end", "35", "41"],
             ["Vessel movements handled, million", "2.6", "3.9"], ["Availability, %", "99.971", "99.984"],
             ["Engineers", "148", "173"], ["Research and development, £m", "7.7", "9.1"]], [3, 1, 1],
             share=0.8),
        note("Of the research and development of 2023, £4.2 million was capitalised (2022: £3.6 million)."),
        h2("Outlook"),
        *LOOK.ps("The backlog stood at £57.0 million at the year end (2022: £41.5 million), of which £33 "
                 "million will "
                 "be revenue in 2024. From January 2025 all vessels above 300 gross tonnes must report "
                 "their draught on "
                 "entering a port of the Skerne Sea; we expect this to bring orders, but have put none in "
                 "our plan."),
    ]  # fmt: skip


def finances() -> list[Flowable]:
    years = sorted(EARLIER | REVENUE)
    series = {name: [(EARLIER | REVENUE)[y][i] for y in years] for i, name in enumerate(SEGMENTS)}
    return [
        h1("Financial review"),
        h2("Revenue, five years (£ million)"),
        charts.bars([str(y) for y in years], series, LOOK.width, 210, "£m", 1, stacked=True),
        table(
            [["£ million", *map(str, years)], *([n, *(f"{v:.1f}" for v in row)] for n, row in series.items()),
             ["Total revenue", *(amount(total((EARLIER | REVENUE)[y])) for y in years)]],
             [2.4, 1, 1, 1, 1, 1], totals=[-1]),
        h2("Net debt"),
        *LOOK.ps(
            "Net debt, excluding leases, rose from £89.1 million to £95.3 million, because of the first "
            "instalment on the "
            "new ship. It stood at 1.37 times adjusted EBITDA of £69.7 million (2022: 1.41 times £63.1 "
            "million). Our bank "
            "covenant, which is tested each June and December, allows 3.0 times.",
        ),
        h2("Tax and earnings per share"),
        *LOOK.ps(
            "The effective tax rate was 24.0% (2022: 23.0%). Basic earnings per share were 20.0 pence "
            "(2022: 21.7 pence), "
            "on a weighted average of 96.5 million shares; adjusted earnings per share were 29.6 pence "
            "(2022: 26.5 pence).",
        ),
        h2("Pensions"),
        *LOOK.ps(
            "The deficit of the closed defined benefit scheme fell to £14.2 million (2022: £17.9 million). "
            "We pay "
            "£3.0 million a year into it until 2028, or until it is fully funded if that is sooner.",
        ),
    ]  # fmt: skip


def bridge() -> list[Flowable]:
    rows = [
        ["£ million", "2023", "2022"],
        ["Adjusted operating profit", *(amount(total(ADJUSTED[y])) for y in (2023, 2022))],
    ]
    rows += [[name, amount(a), amount(b)] for name, a, b in ADJUSTING]
    sums = totals(ADJUSTING)
    rows += [["Adjusting items in all", *map(amount, sums)]]
    rows += [
        [
            "Reported operating profit",
            *(amount(total(ADJUSTED[y]) + s) for y, s in zip((2023, 2022), sums, strict=True)),
        ]
    ]
    return [
        h1("Adjusted and reported profit"),
        *LOOK.ps("We judge our business by adjusted operating profit, which leaves out items that are "
                 "large, do not recur, "
                 "or say little about the year's trading. It is not defined by accounting standards, and "
                 "other "
                 "companies may compute it otherwise."),
        table(rows, [4, 1, 1], totals=[1, -2, -1], size=9.4),
        h2("Why each item is left out"),
        *LOOK.bullets([
            "<b>Restructuring.</b> Redundancy of £4.1 million and clearing of the north slipway at "
            "Selsworth of £1.7 million; "
            "in 2022, the merger of two ticket offices.",
            "<b>Amortisation of acquired intangibles.</b> Customer relations and software of Pharos Data "
            "Ltd, bought in 2022, and "
            "of Ridley Buoys, bought in 2018.",
            "<b>Impairment.</b> The MV <i>Curlew</i>, 31 years old, is to be scrapped.",
            "<b>Gain on sale.</b> Pier House, our former head office in Kelsby, was sold for £9.0 million.",
            "<b>Acquisition costs.</b> Advice on buying Pharos Data Ltd.",
        ]),
        h2("Adjusted operating margin"),
        table(
            [["%", "2023", "2022"],
             *([n, f"{100 * ADJUSTED[2023][i] / REVENUE[2023][i]:.1f}",
                f"{100 * ADJUSTED[2022][i] / REVENUE[2022][i]:.1f}"]
               for i, n in enumerate(SEGMENTS)),
             ["Group", *(f"{100 * total(ADJUSTED[y]) / total(REVENUE[y]):.1f}" for y in (2023, 2022))]],
            [4, 1, 1], totals=[-1]),
        note("Group margin is after central costs. Items that are adjusted are the same for bonuses of "
             "directors, with one "
             "exception: the gain on Pier House did not count towards any bonus, and neither did the "
             "impairment."),
    ]  # fmt: skip


def quarters() -> list[Flowable]:
    names = ["Q1", "Q2", "Q3", "Q4"]
    rows = [["£ million", *names, "2023"]]
    rows += [[n, *(f"{v:.1f}" for v in QUARTERS[n]), amount(total(QUARTERS[n]))] for n in SEGMENTS]
    sums = [total(column) for column in zip(*(QUARTERS[n] for n in SEGMENTS), strict=True)]
    rows += [["Revenue", *map(amount, sums), amount(total(sums))]]
    profit = QUARTERS["Adjusted operating profit"]
    rows += [["Adjusted operating profit", *map(amount, profit), amount(total(profit))]]
    return [
        h1("Quarterly performance"),
        *LOOK.ps("Our year has a shape: passengers come in summer, and harbour works slow down in winter. "
                 "The figures "
                 "of single quarters are not audited."),
        table(rows, [2.5, 1, 1, 1, 1, 1], totals=[-2, -1]),
        h2("Revenue by quarter, 2023 (£ million)"),
        charts.bars(names, {n: QUARTERS[n] for n in SEGMENTS}, LOOK.width, 190, "£m", 1),
        h2("Adjusted operating profit by quarter (£ million)"),
        charts.bars(names, {"2022": [1.4, 10.9, 19.2, 7.1], "2023": profit}, LOOK.width, 150, "£m", 1),
        *LOOK.ps("The third quarter brought half of the year's adjusted profit. Profit grew in every "
                 "quarter against the "
                 "same quarter of 2022; the fourth grew least in money, since storms stopped 131 sailings "
                 "in October."),
    ]  # fmt: skip


def risks() -> list[Flowable]:
    rows = [
        ["Risk", "What could happen", "What we do", "Change"],
        ["Fuel price", "A rise of £50 a tonne costs £3.0 million a year before hedging.",
         "Hedge between 40% and 70% of the next twelve months.", "lower"],
        ["Loss of a ship", "One large ferry out of service in July costs £2.2 million a week.",
         "Keep one ship in reserve from May to September; business interruption cover of £25 million.",
         "same"],
        ["Fixed-price works", "Cost above price, as with the Marrick lock gates.",
         "Since July no fixed price above £10 million without approval of the Board.", "higher"],
        ["Cyber attack", "Lodestar fails in several ports at once.",
         "Two data centres; yearly test by an outside firm; no insurance cover could be bought at a fair "
         "price.", "higher"],
        ["Skills", "Deck officers retire faster than we train them.", "Cadets doubled to 24 a year.", "same"],
        ["Interest rates", "One point more costs £0.5 million a year.", "60% of loans are at a fixed rate.",
         "same"],
        ["Pension scheme", "Members live longer than assumed.",
         "Scheme closed in 2011; assets matched to 80%.", "lower"],
        ["Climate", "More gales: each further cancelled day costs £0.3 million.",
         "Weather routing on all ships since 2022.",
         "higher"],
    ]  # fmt: skip
    return [
        h1("Principal risks"),
        *LOOK.ps("The Board reviews these risks twice a year. The last column says how each risk changed "
                 "in 2023."),
        table(rows, [1.2, 2.5, 2.8, 0.8], left=(0, 1, 2, 3), pad=4.5, size=8.4),
        h2("Viability"),
        *LOOK.ps(
            "We tested the Group's plan for three years against a fall of 40% in passengers that lasts for "
            "two summers, "
            "together with the loss of the largest harbour contract. Even so, the Group would keep within "
            "its covenants, "
            "provided that it paid no dividend in the second year. The directors therefore expect that the "
            "Group can meet its "
            "liabilities as they fall due over the three years to December 2026.",
            "There is no risk that the Board regards as both likely and large. The three that rose in 2023 "
            "are fixed-price "
            "works, cyber attack and climate.",
        ),
    ]  # fmt: skip


def people() -> list[Flowable]:
    staff = [("Ferry Services", 1412, 1388), ("Harbour Engineering", 866, 951),
             ("Navigation Systems", 308, 271),
             ("Central", 74, 71)]  # fmt: skip
    return [
        h1("People and safety"),
        h2("Average number of employees"),
        table([["", "2023", "2022"], *([n, f"{a:,}", f"{b:,}"] for n, a, b in staff),
               ["In all", f"{sum(s[1] for s in staff):,}", f"{sum(s[2] for s in staff):,}"]], [4, 1, 1],
               totals=[-1]),
        *LOOK.ps("Women hold 29% of all posts and 34% of senior posts (2022: 27% and 31%). The median "
                 "gender pay gap "
                 "was 9.8%, down from 11.2%."),
        h2("Lost-time injuries per million hours worked"),
        charts.lines(["2018", "2019", "2020", "2021", "2022", "2023"],
                     {"Ferry Services": [3.1, 2.8, 2.6, 2.4, 2.3, 1.6],
                      "Harbour Engineering": [5.2, 4.9, 4.6, 4.7, 4.4, 3.4]},
                     LOOK.width, 170, "", 1),
        *LOOK.ps("There was no fatal accident in 2023. In Navigation Systems nobody was injured. The worst "
                 "event was the "
                 "parting of a mooring line at Stavely on 17 February, in which a deck hand broke an arm. "
                 "All lines of that "
                 "make were replaced within ten days."),
        h2("Emissions"),
        table(
            [["Thousand tonnes of CO2 equivalent", "2021", "2022", "2023"],
             ["Scope 1: ships", "158.2", "171.9", "168.4"],
             ["Scope 1: yards and vehicles", "6.1", "5.8", "5.2"],
             ["Scope 2: electricity, market based", "4.4", "2.9", "0.7"]],
            [3, 1, 1, 1]),
        note("Scope 2 fell because both yards have bought wind power since February. Scope 3 has not been "
             "measured."),
    ]  # fmt: skip
