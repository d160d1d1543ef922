"""A datasheet: electrical characteristics, pinout, timing diagram, derating curve, ordering codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from reportlab.graphics.shapes import Circle, Drawing, Line, PolyLine, Rect, String
from reportlab.lib.colors import HexColor, white
from reportlab.lib.pagesizes import A4

from samples.make import plots
from samples.make.look import Look
from samples.make.press import Flowable, Paper, Sheet, write_pdf

PAPER = Paper(margins=(54, 70, 54, 56))
LOOK = Look("#14213d", PAPER.width, size=10.6)
p, h1, h2, note, table = LOOK.p, LOOK.h1, LOOK.h2, LOOK.note, LOOK.table
LEFT = ("VM", "OUT1A", "OUT1B", "PGND", "OUT2A", "OUT2B", "VM", "nFAULT")
RIGHT = ("VCC", "IN1", "IN2", "IN3", "IN4", "nSLEEP", "ISET", "AGND")


def furniture(canvas: Any, number: int, _: int) -> None:
    canvas.setFillColor(HexColor("#14213d"))
    canvas.rect(0, A4[1] - 44, A4[0], 44, stroke=0, fill=1)
    canvas.setFillColor(white)
    canvas.setFont("Helvetica-Bold", 15)
    canvas.drawString(54, A4[1] - 29, "FX-2207")
    canvas.setFont("Helvetica", 9)
    canvas.drawString(130, A4[1] - 28, "Dual bridge driver, 3.2 A")
    canvas.drawRightString(A4[0] - 54, A4[1] - 28, "FENNIMORE SEMICONDUCTOR")
    canvas.setFillColor(HexColor("#555555"))
    canvas.setFont("Helvetica", 7.5)
    canvas.drawString(54, 34, "DS-2207 revision 4, February 2024")
    canvas.drawRightString(A4[0] - 54, 34, f"{number} / 6")


def pinout() -> Any:
    drawing = Drawing(LOOK.width, 230)
    x, wide = LOOK.width / 2 - 60, 120.0
    drawing.add(Rect(x, 8, wide, 214, fillColor=HexColor("#2b2f36"), strokeColor=None, rx=5, ry=5))
    drawing.add(Circle(x + 13, 209, 4, fillColor=HexColor("#9aa5b1"), strokeColor=None))
    drawing.add(String(x + wide / 2, 112, "FX-2207", fontSize=13, fontName="Helvetica-Bold", fillColor=white,
                       textAnchor="middle"))  # fmt: skip
    for i in range(8):
        y = 200 - 26 * i
        for left, name, pin in ((True, LEFT[i], i + 1), (False, RIGHT[i], 16 - i)):
            at = x - 18 if left else x + wide
            drawing.add(Rect(at, y - 5, 18, 10, fillColor=HexColor("#c9cfd6"), strokeColor=None))
            drawing.add(String(at + 9, y - 3, str(pin), fontSize=7.5, textAnchor="middle"))
            drawing.add(String(at - 8 if left else at + 26, y - 3, name, fontSize=9.5,
                               fontName="Helvetica-Bold",
                               textAnchor="end" if left else "start"))  # fmt: skip
    return drawing


def timing() -> Any:
    drawing = Drawing(LOOK.width, 205)
    traces = (
        ("nSLEEP", 165, ((70, 0), (110, 0), (112, 1), (480, 1))),
        ("IN1", 115, ((70, 0), (200, 0), (202, 1), (330, 1), (332, 0), (480, 0))),
        ("OUT1A", 65, ((70, 0), (232, 0), (242, 1), (352, 1), (362, 0), (480, 0))),
    )  # fmt: skip
    for name, y, points in traces:
        drawing.add(String(10, y + 8, name, fontSize=9.5, fontName="Helvetica-Bold"))
        drawing.add(PolyLine([c for px, level in points for c in (px, y + 28 * level)], strokeWidth=1.6,
                             strokeColor=HexColor("#14213d")))  # fmt: skip
    for x0, x1, y, label in (
        (111, 201, 36, "tWAKE = 1.1 ms"),
        (201, 237, 20, "tON = 190 ns"),
        (331, 357, 36, "tOFF = 145 ns"),
    ):
        for x in (x0, x1):
            drawing.add(
                Line(
                    x, y - 4, x, 195, strokeColor=HexColor("#9aa5b1"), strokeWidth=0.6, strokeDashArray=[2, 2]
                )
            )
        drawing.add(Line(x0, y, x1, y, strokeColor=HexColor("#b9382f"), strokeWidth=1.2))
        drawing.add(
            String(
                (x0 + x1) / 2, y - 12, label, fontSize=9, textAnchor="middle", fillColor=HexColor("#b9382f")
            )
        )
    return drawing


def derating() -> Flowable:
    drawn, axes = plots.figure(LOOK.width, 195)
    ambient = np.array([-40, 25, 50, 85, 105, 125])
    axes.plot(ambient, [3.2, 3.2, 2.9, 2.2, 1.6, 0.9], "o-", color="#14213d", label="4 layers, 2 oz copper")
    axes.plot(ambient, [2.6, 2.6, 2.2, 1.5, 1.0, 0.4], "s--", color="#d9822b", label="2 layers, 1 oz copper")
    for x, y in ((85, 2.2), (105, 1.6), (85, 1.5), (105, 1.0)):
        axes.annotate(f"{y} A", (x, y), xytext=(4, 5), textcoords="offset points", fontsize=8)
    axes.set_xlabel("ambient temperature, °C")
    axes.set_ylabel("continuous current per bridge, A")
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.set_ylim(0, 3.8)
    return plots.pixels(drawn)


def efficiency() -> Flowable:
    drawn, axes = plots.figure(LOOK.width, 190)
    current = np.array([0.2, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
    for volts, colour, curve in ((12, "#14213d", (88, 93, 94.5, 94, 93, 91.5, 90)),
                                 (24, "#2f7f79", (84, 92, 95.5, 96.2, 96, 95.4, 94.6)),
                                 (36, "#d9822b", (79, 89, 94, 95.5, 95.9, 95.8, 95.4))):  # fmt: skip
        axes.plot(current, curve, "o-", ms=3.5, color=colour, label=f"VM = {volts} V")
    axes.annotate(
        "96.2 %",
        (1.5, 96.2),
        xytext=(0, 6),
        textcoords="offset points",
        fontsize=8,
        ha="center",
        color="#2f7f79",
    )
    axes.set_xlabel("output current, A")
    axes.set_ylabel("efficiency, %")
    axes.set_ylim(76, 99)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return plots.pixels(drawn)


def write(folder: Path) -> Path:
    path = folder / "fx-2207-datasheet.pdf"
    overview = [
        h1("Dual H-bridge driver with current regulation"),
        h2("Features"),
        *LOOK.bullets([
            "Drives two brushed motors or one bipolar stepper motor",
            "Motor supply from 6.5 V to 40 V; logic at 3.3 V or 5 V",
            "3.2 A per bridge continuous, 5.0 A peak for 100 ms",
            "On-resistance of 165 mΩ (high and low side together) at 25 °C",
            "Sleep current below 2 µA",
            "Protected against overcurrent, overtemperature and undervoltage; <b>not</b> protected "
            "against reversed supply",
        ]),
        h2("Applications"),
        p("Label printers, valve drives, window blinds, laboratory pumps. Not released for use in life "
          "support or in vehicles; "
                              "for vehicles use the FX-2207Q."),
        h2("Description"),
        *LOOK.ps("The FX-2207 holds two full bridges. Each bridge is set by two inputs. Current is limited "
                 "by a resistor from ISET to AGND: "
                 "the limit in amperes is 48 divided by the resistance in kΩ, so that 15 kΩ gives 3.2 A. "
                 "When the junction exceeds "
                 "165 °C all outputs are switched off; they come back on their own below 140 °C, except in "
                 "the -C version, which stays "
                 "off until nSLEEP is pulled low.",
                 "After an overcurrent, the bridge concerned stays off for 3.8 ms and then tries again. "
                 "The other bridge keeps running."),
        h2("Device versions at a glance"),
        table([["Version", "Package", "After overtemperature", "Input pull-down"],
               ["FX-2207-A", "TSSOP-16 with pad", "restarts", "100 kΩ"],
               ["FX-2207-B", "QFN-16, 4 x 4 mm", "restarts", "100 kΩ"],
               ["FX-2207-C", "TSSOP-16 with pad", "latches off", "none"]],
              [1, 1.5, 1.5, 1.2], left=(0, 1, 2, 3)),
    ]  # fmt: skip
    pins = [
        h1("Pin configuration"),
        p("TSSOP-16, seen from above. The pad underneath is to be soldered to PGND."),
        pinout(),
        table([["Pin", "Name", "Function"], ["1, 7", "VM",
                                             "Motor supply. Both pins must be connected; 10 µF and 100 nF "
                                             "to PGND."],
               ["2, 3", "OUT1A, OUT1B", "Outputs of bridge 1"], ["4", "PGND", "Power ground"],
               ["5, 6", "OUT2A, OUT2B", "Outputs of bridge 2"],
               ["8", "nFAULT", "Open drain, low on a fault; 10 kΩ to VCC. Leave open if not used."],
               ["9", "AGND", "Ground of the logic; joined to PGND at one point"],
               ["10", "ISET", "Current limit. Must not be left open: the limit is then undefined."],
               ["11", "nSLEEP", "Low puts the device to sleep and clears a latched fault"],
               ["12 to 15", "IN4, IN3, IN2, IN1", "Inputs"], ["16", "VCC", "Logic supply, 3.0 V to 5.5 V"]],
              [0.8, 1.7, 5], left=(0, 1, 2)),
    ]  # fmt: skip
    electrical = [
        h1("Electrical characteristics"),
        h2("Absolute maximum ratings"),
        table([["Parameter", "Min", "Max", "Unit"], ["Motor supply VM", "-0.3", "45", "V"],
               ["Logic supply VCC", "-0.3", "6.0", "V"],
               ["Inputs", "-0.3", "VCC + 0.3", "V"], ["Peak output current, 100 ms", "", "5.0", "A"],
               ["Junction temperature", "-40", "150", "°C"],
               ["Electrostatic discharge, human body", "", "2 000", "V"]], [4, 1, 1.2, 0.8]),
        note("Stress beyond these values may destroy the device. They are not values at which it works."),
        h2("Characteristics at VM = 24 V, VCC = 3.3 V, 25 °C unless noted"),
        table([["Parameter", "Condition", "Min", "Typ", "Max", "Unit"],
               ["Operating range VM", "", "6.5", "24", "40", "V"],
               ["Supply current, awake", "outputs open", "", "4.1", "6.0", "mA"],
               ["Supply current, asleep", "nSLEEP low", "", "0.7", "2.0", "µA"],
               ["Undervoltage lockout VM", "falling", "5.6", "5.9", "6.2", "V"],
               ["Undervoltage lockout VM", "rising", "5.9", "6.2", "6.4", "V"],
               ["Input high", "", "2.0", "", "", "V"], ["Input low", "", "", "", "0.8", "V"],
               ["On-resistance, both sides", "2 A, 25 °C", "", "165", "190", "mΩ"],
               ["On-resistance, both sides", "2 A, 125 °C", "", "255", "300", "mΩ"],
               ["Current limit, RISET = 15 kΩ", "", "2.9", "3.2", "3.5", "A"],
               ["Overcurrent trip", "", "5.4", "6.5", "7.8", "A"],
               ["Thermal shutdown", "rising", "155", "165", "175", "°C"],
               ["Thermal hysteresis", "", "", "25", "", "°C"],
               ["PWM frequency", "", "", "", "100", "kHz"]], [2.7, 1.4, 0.7, 0.7, 0.7, 0.7], left=(0, 1)),
        note("The overcurrent trip is not affected by RISET."),
    ]  # fmt: skip
    times = [
        h1("Timing"), timing(),
        LOOK.caption("Figure 3. From sleep to a switched output; typical values at VM = 24 V, 10 Ω load."),
        table([["Symbol", "Meaning", "Typ", "Max", "Unit"],
               ["tWAKE", "nSLEEP high until inputs are obeyed", "1.1", "1.5", "ms"],
               ["tON", "Input to output, rising", "190", "260", "ns"],
               ["tOFF", "Input to output, falling", "145", "210", "ns"],
               ["tDEAD", "Dead time between high and low side", "120", "", "ns"],
               ["tRETRY", "Pause after overcurrent", "3.8", "4.6", "ms"],
               ["tBLANK", "Blanking of the current sense", "1.4", "1.9", "µs"]], [1, 3.6, 0.8, 0.8, 0.7],
               left=(0, 1)),
        h2("Truth table of one bridge"),
        table([["nSLEEP", "INx", "INy", "OUTxA", "OUTxB", "State"],
               ["0", "any", "any", "open", "open", "asleep"],
               ["1", "0", "0", "open", "open", "coast"], ["1", "0", "1", "low", "high", "reverse"],
               ["1", "1", "0", "high", "low", "forward"],
               ["1", "1", "1", "low", "low", "brake"]], [1, 1, 1, 1, 1, 1], left=(0, 1, 2, 3, 4, 5),
               share=0.8),
        p("Inputs that change during tWAKE are ignored. With both inputs high the motor is braked through "
          "the low side, not the high side."),
    ]  # fmt: skip
    curves = [
        h1("Typical curves"), h2("Figure 4. Current that a bridge may carry without pause"), derating(),
        LOOK.gap(6),
        h2("Figure 5. Efficiency with a motor of 2 mH, PWM 20 kHz"), efficiency(),
        LOOK.gap(4),
        p("Both figures are for one bridge in use. With both bridges in use, take 0.7 times the current of "
          "figure 4."),
    ]  # fmt: skip
    ordering = [
        h1("Ordering and packages"),
        table([["Order code", "Package", "Packing", "Pieces", "Temperature", "Marking"],
               ["FX-2207-A", "TSSOP-16", "tube", "96", "-40 to 85 °C", "2207A"],
               ["FX-2207-A-R", "TSSOP-16", "reel", "2 500", "-40 to 85 °C", "2207A"],
               ["FX-2207-B", "QFN-16", "reel", "3 000", "-40 to 125 °C", "07B"],
               ["FX-2207-B-T", "QFN-16", "tray", "490", "-40 to 125 °C", "07B"],
               ["FX-2207-C", "TSSOP-16", "tube", "96", "-40 to 105 °C", "2207C"],
               ["FX-2207-C-R", "TSSOP-16", "reel", "2 500", "-40 to 105 °C", "2207C"],
               ["FX-2207Q-A-R", "TSSOP-16", "reel", "2 500", "-40 to 125 °C", "2207Q"]],
              [1.5, 1.1, 0.8, 0.8, 1.4, 1], left=(0, 1, 2, 4, 5)),
        p("FX-2207-A in tubes is not recommended for new designs; last orders 30 November 2025. All other "
          "codes stay in production."),
        h2("Thermal resistance, junction to ambient"),
        table([["Package", "4 layers, 2 oz", "2 layers, 1 oz", "Unit"],
               ["TSSOP-16 with pad", "34", "58", "K/W"], ["QFN-16, 4 x 4 mm", "38", "71", "K/W"]],
              [2, 1.3, 1.3, 0.8]),
        h2("Soldering"),
        p("Reflow peak 260 °C for at most 30 s, at most three times. Moisture level 1 for TSSOP-16, level "
          "3 for QFN-16: QFN-16 must be used "
          "within 168 hours of opening the bag, or baked for 24 hours at 125 °C."),
        h2("Dimensions, mm"),
        table([["", "TSSOP-16", "QFN-16"], ["Length", "5.00", "4.00"], ["Width with leads", "6.40", "4.00"],
               ["Height, maximum", "1.20", "0.90"],
               ["Pitch", "0.65", "0.65"], ["Exposed pad", "3.0 x 2.6", "2.5 x 2.5"]], [2, 1.2, 1.2],
               share=0.7),
        h2("Revision history"),
        table([["Revision", "Date", "What changed"],
               ["4", "February 2024", "tRETRY was 3.2 ms typ.; order code FX-2207-B-T added"],
               ["3", "June 2023", "FX-2207-C added"],
               ["2", "October 2022", "Electrostatic discharge rating from 1 500 V to 2 000 V"]],
              [0.8, 1.2, 4], left=(0, 1, 2)),
    ]  # fmt: skip
    write_pdf(path, [Sheet(page) for page in (overview, pins, electrical, times, curves, ordering)], PAPER,
              title="FX-2207 dual bridge driver", author="Fennimore Semiconductor",
              furniture=furniture)  # fmt: skip
    return path
