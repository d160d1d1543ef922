"""A scanned inspection report: printed, signed, scanned askew; no text layer, one sheet upside down."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reportlab.lib.pagesizes import A4

from samples.make import charts, scan
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper(margins=(70, 76, 62, 70))
LOOK = Look("#111111", PAPER.width, "Times-Roman", "Times-Bold", size=11.5, grid=True)
p, h1, h2, table = LOOK.p, LOOK.h1, LOOK.h2, LOOK.table
SKEW = (0.4, -0.9, 0.7, 1.1, -0.6, 0.3, -1.2, 0.9, -0.8, 0.5, 1.0, -0.5)
UPSIDE_DOWN, SIDEWAYS = 9, 11  # pages, from 1
INSPECTORS = {"D. Hallam": 11, "R. Osei": 23}


@dataclass(frozen=True, slots=True)
class Structure:
    code: str
    name: str
    kind: str
    day: str
    inspector: str
    readings: tuple[tuple[str, str, str, str], ...]  # what, measured, limit, verdict
    remarks: tuple[str, ...]
    result: str
    pen: str = ""  # added by hand


STRUCTURES = (
    Structure("AM-03", "Weir Lane Footbridge", "Steel beams, timber deck, span 18.4 m, built 1987",
              "3 October 2022", "D. Hallam",
        (("Parapet height", "1 160 mm", "min. 1 150 mm", "within"),
         ("Deflection under test load 2.5 kN/m2", "14 mm", "max. 30 mm", "within"),
         ("Paint thickness, mean of 12", "212 µm", "min. 180 µm", "within"),
         ("Deck boards replaced", "0 of 92", "-", "-")),
        ("Surface rust on two bolts of the east bearing; wire brushed and painted on site.",
         "Slip resistance of the deck 48 (wet), which is low risk.",
         "Next principal inspection: October 2028."), "PASSED"),
    Structure("AM-07", "Tannery Culvert", "Brick arch, length 41 m, span 2.1 m, built about 1870",
              "4 October 2022", "R. Osei",
        (("Mortar loss, depth, mean of 20", "38 mm", "max. 20 mm", "exceeded"),
         ("Missing bricks, crown", "17", "max. 5", "exceeded"),
         ("Deformation of the arch", "22 mm", "max. 40 mm", "within"),
         ("Silt at the outlet", "310 mm", "max. 400 mm", "within")),
        ("Void of about 0.4 m3 behind the north wall, found by hammer at 26 m from the inlet.",
         "Do not store plant on the verge above. Barriers were put up the same day.",
         "Repair before 31 March 2023: grouting, and 60 m2 of repointing. Estimate 38 500 pounds."),
         "DID NOT PASS",
        "Barriers checked 11 Nov. RO"),
    Structure("AM-09", "Stone Mill Bridge", "Masonry, two arches of 6.2 m, built 1794, listed",
              "5 October 2022", "D. Hallam",
        (("Spandrel bulge, upstream", "31 mm", "max. 35 mm", "within"),
         ("Scour depth, pier 1", "0.62 m", "max. 0.80 m", "within"),
         ("Crack, arch 2, width", "2.8 mm", "max. 3.0 mm", "within"),
         ("Assessed capacity", "13.5 t", "18 t", "below")),
        ("Passes on the condition that the weight limit of 12 tonnes stays in force; the sign on the south "
         "approach is missing.",
         "Monitor the crack in arch 2 every six months.",
         "Vegetation to be removed by hand, not by herbicide (listed)."),
        "PASSED WITH CONDITIONS", "Sign replaced 19/10/22"),
    Structure("AM-12", "Priory Footbridge", "Timber (larch), span 11.0 m, built 1996", "6 October 2022",
              "R. Osei",
        (("Handrail, deflection at 0.74 kN/m", "41 mm", "max. 25 mm", "exceeded"),
         ("Moisture, main beam west", "34 %", "max. 22 %", "exceeded"),
         ("Resistance drilling, sound section", "61 %", "min. 80 %", "below"),
         ("Deflection under test load 2.5 kN/m2", "27 mm", "max. 22 mm", "exceeded")),
        ("Brown rot in the west beam over 1.9 m. The beam cannot be repaired.",
         "Bridge closed at 15:40 on the day of the inspection.",
         "Replacement of the superstructure advised; do not reopen, not even for cyclists on foot."),
         "DID NOT PASS", "Closed. Keys with depot 4"),
    Structure("AM-15", "Canal Street Underpass", "Reinforced concrete box, 3.0 m x 2.4 m, built 1972",
              "10 October 2022", "D. Hallam",
        (("Cover to reinforcement, mean", "34 mm", "min. 30 mm", "within"),
         ("Carbonation depth, maximum", "19 mm", "max. 30 mm", "within"),
         ("Chloride by mass of cement", "0.11 %", "max. 0.30 %", "within"),
         ("Lighting, mean", "64 lux", "min. 50 lux", "within")),
        ("Graffiti on both walls, not structural.", "Drain at the north end blocked; cleared on site.",
         "One lamp of eight did not work and has been reported."), "PASSED"),
    Structure("AM-18", "Cobb's Ford Bridge", "Prestressed concrete beams, span 14.7 m, built 1964",
              "11 October 2022", "D. Hallam",
        (("Chloride by mass of cement", "0.62 %", "max. 0.30 %", "exceeded"),
         ("Half-cell potential, lowest", "-412 mV", "min. -350 mV", "exceeded"),
         ("Cover to reinforcement, mean", "27 mm", "min. 30 mm", "below"),
         ("Spalled area, soffit", "1.3 m2", "max. 0.5 m2", "exceeded")),
        ("Two strands exposed in beam 4, one of them broken.",
         "Weight limit of 3 tonnes proposed at once; buses to be diverted.",
         "Special assessment of the prestressing needed before the winter is over."), "DID NOT PASS",
         "Bus 41 diverted 14/10"),
    Structure("AM-21", "Railway Walk Footbridge", "Steel truss, span 26.5 m, built 1931", "12 October 2022",
              "R. Osei",
        (("Loss of section, bottom chord", "7 %", "max. 10 %", "within"),
         ("Paint thickness, mean of 12", "94 µm", "min. 180 µm", "below"),
         ("Parapet height", "1 155 mm", "min. 1 150 mm", "within"),
         ("Bolts loose", "3 of 288", "max. 0", "tightened")),
        ("Passes on condition that the truss is repainted before October 2023.",
         "Old paint contains lead: no dry blasting.",
         "Pigeon netting is torn at the north tower."), "PASSED WITH CONDITIONS"),
    Structure("AM-22", "Lower Heath Culvert", "Concrete pipe, diameter 1.2 m, length 33 m, built 2004",
              "13 October 2022", "R. Osei",
        (("Joint displacement, largest", "9 mm", "max. 25 mm", "within"),
         ("Crack width, largest", "0.2 mm", "max. 0.3 mm", "within"),
         ("Silt at the outlet", "120 mm", "max. 400 mm", "within"),
         ("Flow at the inspection", "0.08 m3/s", "-", "-")),
        ("Inspected by camera, not on foot.", "Roots at joint 7 do not obstruct the flow.",
         "Headwall in good order."), "PASSED"),
)  # fmt: skip


def furniture(canvas: Any, number: int, pages: int) -> None:
    canvas.setFont("Times-Roman", 9)
    canvas.drawString(70, A4[1] - 48, "ASHMOOR COUNTY COUNCIL  -  Highway Structures")
    canvas.drawRightString(A4[0] - 62, A4[1] - 48, "Report HS/22/117")
    canvas.line(70, A4[1] - 54, A4[0] - 62, A4[1] - 54)
    canvas.drawCentredString(A4[0] / 2, 40, f"Sheet {number} of {pages}")


def cover() -> Sheet:
    def draw(canvas: Any) -> None:
        canvas.saveState()
        canvas.translate(400, 250)
        canvas.rotate(9)
        canvas.setLineWidth(2)
        canvas.roundRect(0, 0, 130, 62, 5)
        canvas.setFont("Helvetica-Bold", 13)
        canvas.drawCentredString(65, 40, "RECEIVED")
        canvas.setFont("Helvetica", 11)
        canvas.drawCentredString(65, 24, "21 NOV 2022")
        canvas.drawCentredString(65, 9, "Bridges office")
        canvas.restoreState()
        scan.hand(canvas, 92, 190, "Copy for Mrs Adeyemi please", 19, 4)

    return Sheet([
        LOOK.gap(70), h1("PRINCIPAL INSPECTIONS 2022", 24),
        h2("Footbridges, culverts and small bridges, northern area", 15),
        LOOK.gap(30),
        table([["Report", "HS/22/117"], ["Client", "Ashmoor County Council, Highway Structures"],
               ["Inspections made", "3 to 13 October 2022"],
               ["Inspectors", "D. Hallam, R. Osei (Larch &amp; Brandt Inspection)"],
               ["Date of report", "16 November 2022"], ["Copies", "3"]], [1, 2.4], head=0, left=(0, 1),
               pad=7),
        LOOK.gap(20),
        p("This report is valid only as a whole. It must not be copied in part without consent."),
    ], draw=draw)  # fmt: skip


def summary() -> Sheet:
    rows = [["No.", "Structure", "Inspected", "Result"]]
    rows += [
        [s.code, s.name, s.day.replace(" October 2022", " Oct"), s.result.capitalize()] for s in STRUCTURES
    ]
    rows += [["AM-26", "Quarry Bridge", "-", "Not inspected"]]
    return Sheet([
        h1("1  Summary of results", 17),
        p("Nine structures were due. Eight were inspected. Quarry Bridge (AM-26) could not be inspected, "
          "because the river was "
          "in flood on both days that were set aside; a new date has not been agreed."),
        table(rows, [0.8, 2.6, 1.1, 2.2], left=(0, 1, 2, 3), size=11, pad=6),
        p("Three passed, two passed with conditions, three did not pass, one was not inspected."),
        h2("Costs of urgent repair, estimated"),
        table([["Structure", "Work", "Pounds"], ["Tannery Culvert", "Grouting and repointing", "38 500"],
               ["Priory Footbridge", "New superstructure", "112 000"],
               ["Cobb's Ford Bridge", "Assessment and props", "46 000"],
               ["In all", "", "196 500"]], [2, 2.4, 1], left=(0, 1), totals=[-1], size=11, pad=5),
        p("The estimate for Cobb's Ford Bridge covers neither new beams nor the diversion of buses."),
    ])  # fmt: skip


def structure(place: int, item: Structure) -> Sheet:
    def draw(canvas: Any) -> None:
        scan.signature(canvas, 100, 118, INSPECTORS[item.inspector])
        canvas.line(90, 114, 250, 114)
        canvas.setFont("Times-Roman", 9)
        canvas.drawString(90, 102, f"Inspector: {item.inspector}")
        if item.pen:
            scan.hand(canvas, 290, 124, item.pen, 14.5, place)

    flow: list[Flowable] = [
        h1(f"2.{place}  {item.code}  {item.name}", 17),
        table([["Construction", item.kind], ["Inspected on", item.day], ["Weather", "dry, 9 to 12 degrees"]],
              [1, 3], head=0,
              left=(0, 1), size=11, pad=5),
        h2("Measurements"),
        table([["Measurement", "Found", "Limit", "Verdict"], *item.readings], [2.7, 1.1, 1.3, 1], left=(0, 3),
              size=10.8, pad=6),
        h2("Remarks"), *LOOK.bullets(item.remarks, "-"), LOOK.gap(12),
        table([[f"RESULT:  {item.result}"]], [1], head=0, left=(0,), size=14, pad=10, share=0.8, totals=[0]),
    ]  # fmt: skip
    return Sheet(flow, draw=draw)


def cracks() -> Sheet:
    months = ["Oct 20", "Apr 21", "Oct 21", "Apr 22", "Oct 22"]
    return Sheet([
        h1("3  Cracks under observation", 17),
        p("Width in millimetres, read with a crack gauge at the same studs."),
        table([["Stud", "Structure", *months], ["C1", "Stone Mill, arch 2", "1.9", "2.1", "2.2", "2.6",
                                                "2.8"],
               ["C2", "Stone Mill, spandrel", "0.7", "0.7", "0.8", "0.8", "0.8"],
               ["C3", "Tannery, crown", "3.4", "3.9", "4.1", "4.8", "5.6"],
               ["C4", "Canal Street, wall", "0.3", "0.3", "0.3", "0.3", "0.3"]],
              [0.7, 2.3, 1, 1, 1, 1, 1], left=(0, 1), size=10.5, pad=6),
        LOOK.gap(8), h2("Studs C1 and C3"),
        charts.lines(months, {"C1 Stone Mill": [1.9, 2.1, 2.2, 2.6, 2.8],
                              "C3 Tannery": [3.4, 3.9, 4.1, 4.8, 5.6]}, LOOK.width, 210,
                     "mm", 1, colours=("#222222", "#777777")),
        p("C3 has grown by 2.2 mm in two years and twice as fast in the second year as in the first. C4 "
          "has not moved."),
    ])  # fmt: skip


def method() -> Sheet:
    def draw(canvas: Any) -> None:
        for i, (name, seed) in enumerate(INSPECTORS.items()):
            scan.signature(canvas, 90 + 230 * i, 150, seed)
            canvas.line(84 + 230 * i, 146, 254 + 230 * i, 146)
            canvas.setFont("Times-Roman", 9)
            canvas.drawString(84 + 230 * i, 134, f"{name}, inspector")
        scan.hand(canvas, 86, 108, "16 November 2022", 16, 2)

    return Sheet([
        h1("4  Method and instruments", 17),
        p("All parts within reach were examined from a distance of less than one metre, except for the "
          "soffit of Stone Mill Bridge, "
          "which was seen from a boat, and the Lower Heath Culvert, which was seen by camera."),
        table([["Instrument", "Serial no.", "Calibrated until"], ["Cover meter", "CM-40871", "02/2023"],
               ["Half-cell electrode", "HC-2216", "11/2022"], ["Resistance drill", "RD-0093", "06/2023"],
               ["Moisture meter", "MM-5514", "expired 08/2022"], ["Load cell 20 kN", "LC-7730", "01/2024"]],
              [2, 1.4, 1.6], left=(0, 1, 2), size=11, pad=6),
        p("The calibration of the moisture meter had expired. Its reading at Priory Footbridge was "
          "confirmed by oven drying of a core "
          "(33 %), and so the result stands."),
        h2("Who may reopen a structure"),
        p("A structure that did not pass may be reopened only by the County Bridge Engineer, in writing, "
          "after a new inspection by a "
          "person other than the one who closed it."),
        h2("Signed"),
    ], draw=draw)  # fmt: skip


def write(folder: Path) -> Path:
    path = folder / "ashmoor-bridge-inspection-scan.pdf"
    sheets = [cover(), summary(), *(structure(i, s) for i, s in enumerate(STRUCTURES, 1)), cracks(), method()]
    with tempfile.TemporaryDirectory() as work:
        printed = Path(work) / "printed.pdf"
        write_pdf(printed, sheets, PAPER, title="", author="", furniture=furniture)
        images = []
        for number, skew in enumerate(SKEW, 1):
            page = scan.render(printed, number - 1)
            if number == UPSIDE_DOWN:
                page = page.rotate(180)
            if number == SIDEWAYS:
                page = page.rotate(90, expand=True)
            images.append(scan.scan(page, seed=1000 + number, skew=skew))
    scan.write_scans(path, images, "Principal inspections 2022")
    return path
