"""A German municipal energy report: Energiebericht der Stadt Auenrode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4

from samples.make import charts, plots
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper()
LOOK = Look("#2e6b3f", PAPER.width, size=10.6)
GREEN = ("#2e6b3f", "#c7a83c", "#7b8f99", "#a4552f")
h1, h2, note, table = LOOK.h1, LOOK.h2, LOOK.note, LOOK.table
# name, area in m2, heat 2022, heat 2023, electricity 2023, in MWh
HOUSES = (
    ("Rathaus", 4120, 486, 441, 172), ("Grundschule Am Anger", 3650, 512, 468, 88),
    ("Gesamtschule Nord", 9870, 1284, 1131, 341),
    ("Hallenbad", 2940, 1926, 1988, 812), ("Feuerwache", 1780, 243, 219, 97),
    ("Stadtbücherei", 1310, 151, 128, 61),
    ("Kita Sonnenhang", 890, 118, 121, 29), ("Bauhof", 2260, 297, 264, 74),
)  # fmt: skip


def de(value: float, decimals: int = 0) -> str:
    return f"{value:,.{decimals}f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def furniture(canvas: Any, number: int, pages: int) -> None:
    canvas.setFillColor(HexColor("#2e6b3f"))
    canvas.rect(0, 0, 14, A4[1], stroke=0, fill=1)
    canvas.setFillColor(HexColor("#555555"))
    canvas.setFont("Helvetica", 8)
    canvas.drawString(62, 34, "Stadt Auenrode – Energiebericht 2023")
    canvas.drawRightString(A4[0] - 62, 34, f"Seite {number} von {pages}")


def heating() -> Flowable:
    drawn, axes = plots.figure(LOOK.width, 185)
    months = ["Jan", "Feb", "Mär", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"]
    axes.bar(months, [14, 26, 52, 71, 88, 96, 93, 84, 63, 38, 19, 11], color="#c7a83c")
    plots.label_bars(axes, size=8)
    axes.set_ylabel("MWh")
    axes.set_title("Ertrag der städtischen Photovoltaik 2023 nach Monaten", fontsize=10, loc="left")
    axes.set_ylim(0, 110)
    return plots.pixels(drawn)


def write(folder: Path) -> Path:
    path = folder / "auenrode-energiebericht-2023.pdf"
    sums = [sum(int(h[i]) for h in HOUSES) for i in (1, 2, 3, 4)]
    rows = [["Gebäude", "Fläche, m²", "Wärme 2022, MWh", "Wärme 2023, MWh", "Strom 2023, MWh"]]
    rows += [[h[0], *(de(v) for v in h[1:])] for h in HOUSES]
    rows += [["Summe", *map(de, sums)]]
    pages: list[list[Flowable]] = [
        [
            LOOK.gap(40), h1("Energiebericht 2023", 28),
            h2("Verbrauch, Kosten und Emissionen der städtischen Gebäude", 14), LOOK.gap(14),
            *LOOK.ps(
                "Dieser Bericht beschreibt, wie viel Wärme, Strom und Wasser die acht größten Gebäude der "
                "Stadt Auenrode im Jahr 2023 verbraucht "
                "haben, was dies gekostet hat und welche Maßnahmen im laufenden Jahr folgen. Er wird dem "
                "Stadtrat jährlich im Mai vorgelegt.",
                "Mietwohnungen der Wohnungsgesellschaft und die Kläranlage sind nicht enthalten. Die "
                "Straßenbeleuchtung wird nur auf "
                "Seite 4 behandelt."),
            h2("Das Wichtigste in Kürze"),
            *LOOK.bullets([
                f"Der Wärmeverbrauch sank von {de(sums[1])} auf {de(sums[2])} MWh, obwohl das Hallenbad "
                f"mehr verbrauchte.",
                f"Der Stromverbrauch betrug {de(sums[3])} MWh; davon stammten 298 MWh aus eigener "
                f"Photovoltaik.",
                "Die Kosten für Energie und Wasser stiegen trotzdem auf 1,21 Millionen Euro, weil die "
                "Preisbremse nur bis Dezember galt und der alte "
                "Gasvertrag im März auslief.",
                "Zwei der fünf für 2023 geplanten Maßnahmen wurden nicht umgesetzt.",
            ]),
            h2("Wärmequellen der Gebäude 2023"),
            charts.donut({"Fernwärme": 54, "Erdgas": 33, "Holzpellets": 9, "Wärmepumpe": 4}, LOOK.width, 130,
                         colours=GREEN, middle="Wärme"),
            LOOK.gap(10),
            LOOK.p("Amt für Gebäudewirtschaft, Energiebeauftragte: Dr. Swantje Ohlsen<br/>Auenrode, 6. Mai "
                   "2024"),
        ],
        [
            h1("Verbrauch nach Gebäuden"),
            table(rows, [2.1, 1, 1.3, 1.3, 1.3], totals=[-1], size=9.2),
            note("Die Werte sind nicht witterungsbereinigt. Bereinigt beträgt der Rückgang der Wärme 2,9 "
                 "statt 5,1 Prozent."),
            h2("Wärme je Quadratmeter 2023 (kWh)"),
            charts.across({str(h[0]): h[3] * 1000 / h[1] for h in sorted(HOUSES, key=lambda h: -h[3] / h[1])},
                          LOOK.width, 175,
                          colour="#2e6b3f"),
            LOOK.gap(8),
            *LOOK.ps("Das Hallenbad verbraucht je Quadratmeter mehr als das Vierfache der anderen Gebäude. "
                     "Sein Verbrauch stieg, weil das Wasser "
                     "ab April wieder auf 28 Grad geheizt wurde. In der Kita Sonnenhang war der Regler der "
                     "Heizung von Januar bis März defekt."),
        ],
        [
            h1("Kosten und Preise"),
            table([["Tausend Euro", "2020", "2021", "2022", "2023"],
                   ["Fernwärme", "262", "271", "318", "371"], ["Erdgas", "141", "148", "236", "302"],
                   ["Holzpellets", "21", "22", "41", "33"], ["Strom", "338", "342", "405", "426"],
                   ["Wasser und Abwasser", "71", "72", "74", "78"],
                   ["Summe", "833", "855", "1.074", "1.210"]], [2.4, 1, 1, 1, 1], totals=[-1]),
            h2("Kosten der Energie, vier Jahre (Tausend Euro)"),
            charts.bars(["2020", "2021", "2022", "2023"],
                        {"Wärme": [424, 441, 595, 706], "Strom": [338, 342, 405, 426]}, LOOK.width, 180,
                        "T €", colours=GREEN),
            h2("Preise je Kilowattstunde"),
            table([["Cent, brutto", "2021", "2022", "2023", "2024, erwartet"],
                   ["Fernwärme", "9,1", "10,9", "13,4", "12,8"],
                   ["Erdgas", "5,6", "9,4", "12,7", "9,9"], ["Strom", "22,4", "26,8", "28,6", "27,1"]],
                   [1.6, 1, 1, 1, 1.3]),
            *LOOK.ps("Der neue Gasvertrag gilt bis 31. Dezember 2025. Er darf während der Laufzeit nicht "
                     "gekündigt werden, es sei denn, der Preis steigt "
                     "um mehr als 15 Prozent."),
        ],
        [
            h1("Strom, Photovoltaik und Straßenbeleuchtung"),
            heating(),
            *LOOK.ps("Die Anlagen auf vier Dächern erzeugten zusammen 655 MWh. Davon wurden 298 MWh in den "
                     "Gebäuden selbst verbraucht und 357 MWh "
                     "eingespeist. Auf der Feuerwache ist keine Anlage möglich, da das Dach nicht "
                     "tragfähig ist."),
            table([["Anlage", "Leistung, kWp", "in Betrieb seit", "Ertrag 2023, MWh"],
                   ["Gesamtschule Nord", "310", "2019", "286"],
                   ["Bauhof", "185", "2021", "171"], ["Hallenbad", "148", "2022", "131"],
                   ["Rathaus", "74", "2016", "67"], ["Summe", "717", "", "655"]],
                  [2, 1.2, 1.3, 1.4], totals=[-1]),
            h2("Straßenbeleuchtung"),
            table([["", "2021", "2022", "2023"], ["Leuchten insgesamt", "3.412", "3.420", "3.437"],
                   ["davon LED", "1.610", "2.044", "2.689"],
                   ["Verbrauch, MWh", "934", "781", "602"]], [2.5, 1, 1, 1]),
            *LOOK.ps("Zwischen 1 und 4 Uhr wird das Licht auf 40 Prozent gedimmt, außer an Kreuzungen, "
                     "Zebrastreifen und am Bahnhof."),
        ],
        [
            h1("Maßnahmen"),
            h2("Stand der Maßnahmen des Jahres 2023"),
            table([["Maßnahme", "Kosten, Euro", "Ersparnis, MWh/Jahr", "Stand"],
                   ["Dämmung des Daches, Gesamtschule Nord", "412.000", "146", "umgesetzt"],
                   ["LED in der Stadtbücherei", "38.500", "19", "umgesetzt"],
                   ["Neue Lüftung, Hallenbad", "690.000", "310", "nicht umgesetzt"],
                   ["Heizungsregler, Rathaus", "24.000", "35", "umgesetzt"],
                   ["Fenster, Grundschule Am Anger", "268.000", "54", "nicht umgesetzt"]],
                  [2.8, 1.1, 1.4, 1.2], left=(0, 3)),
            *LOOK.ps("Die Lüftung des Hallenbads wurde nicht erneuert, weil auf die Ausschreibung kein "
                     "Angebot einging. Die Fenster der Grundschule wurden "
                     "verschoben, da die Förderzusage des Landes erst im November kam."),
            h2("Geplant für 2024"),
            table([["Maßnahme", "Kosten, Euro", "Ersparnis, MWh/Jahr"],
                   ["Neue Lüftung, Hallenbad", "745.000", "310"],
                   ["Fenster, Grundschule Am Anger", "275.000", "54"],
                   ["Wärmepumpe, Kita Sonnenhang", "186.000", "82"],
                   ["Photovoltaik, Grundschule Am Anger", "142.000", "105"], ["Summe", "1.348.000", "551"]],
                  [3, 1.2, 1.4], totals=[-1]),
            h2("Zuschüsse"),
            *LOOK.ps("Das Land fördert die Fenster mit 40 Prozent und die Wärmepumpe mit 35 Prozent. Für "
                     "die Lüftung gibt es keinen Zuschuss. Die Photovoltaik "
                     "wird über einen Pachtvertrag mit der Bürgerenergie Auenrode eG bezahlt.",
                     "Zuschüsse verfallen, wenn nicht bis zum 30. September 2025 abgerechnet wird. Eine "
                     "Verlängerung ist ausgeschlossen, "
                     "ausgenommen bei höherer Gewalt."),
        ],
        [
            h1("Emissionen und Wasser"),
            h2("Treibhausgase der Gebäude (Tonnen CO<sub>2</sub>-Äquivalent)"),
            charts.lines(["2018", "2019", "2020", "2021", "2022", "2023"],
                         {"Wärme": [1382, 1341, 1217, 1266, 1154, 1061],
                          "Strom": [742, 698, 611, 604, 571, 519]},
                         LOOK.width, 190, "t", colours=GREEN, mark="."),
            *LOOK.ps("Seit 2018 sind die Emissionen um 25,6 Prozent gesunken. Das Ziel für 2030, höchstens "
                     "900 Tonnen, wird ohne die Sanierung "
                     "des Hallenbads nicht erreicht."),
            h2("Wasserverbrauch (Kubikmeter)"),
            table([["Gebäude", "2022", "2023"], ["Hallenbad", "18.940", "19.610"],
                   ["Gesamtschule Nord", "3.120", "3.040"], ["Bauhof", "1.480", "2.215"],
                   ["Übrige fünf Gebäude", "4.350", "4.290"], ["Summe", "27.890", "29.155"]], [3, 1, 1],
                   totals=[-1], share=0.8),
            *LOOK.ps("Am Bauhof blieb ein Rohrbruch von Juni bis August unbemerkt. Seitdem meldet ein "
                     "Zähler jeden nächtlichen Verbrauch über "
                     "50 Liter je Stunde."),
            h2("Ansprechpartner"),
            *LOOK.ps("Fragen zum Bericht beantwortet das Amt für Gebäudewirtschaft, Zimmer 214, dienstags "
                     "und donnerstags von 9 bis 12 Uhr."),
        ],
    ]  # fmt: skip
    write_pdf(path, [Sheet(page) for page in pages], PAPER, title="Energiebericht 2023",
              author="Stadt Auenrode", lang="de",
              furniture=furniture)  # fmt: skip
    return path
