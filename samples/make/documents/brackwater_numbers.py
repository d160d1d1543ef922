"""The numbers of Brackwater's annual report, in millions of pounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Line = tuple[str, float, float]  # name, 2023, 2022

SEGMENTS = ("Ferry Services", "Harbour Engineering", "Navigation Systems")
EARLIER = {2019: (187.5, 121.6, 39.8), 2020: (118.9, 133.0, 44.2), 2021: (161.7, 128.4, 47.3)}
REVENUE = {2022: (198.2, 139.5, 54.9), 2023: (214.6, 131.8, 68.4)}
ADJUSTED = {2022: (22.4, 13.1, 9.2, -6.1), 2023: (27.9, 9.4, 12.6, -6.7)}  # the last is central costs
ADJUSTING: tuple[Line, ...] = (
    ("Restructuring, Selsworth yard and ticket offices", -5.8, -1.2),
    ("Amortisation of acquired intangibles", -3.1, -2.9),
    ("Impairment of MV Curlew", -4.6, 0.0),
    ("Gain on sale of Pier House", 2.2, 0.0),
    ("Acquisition costs", 0.0, -1.7),
)
QUARTERS = {
    "Ferry Services": (35.2, 58.4, 76.3, 44.7),
    "Harbour Engineering": (31.0, 33.6, 34.1, 33.1),
    "Navigation Systems": (15.1, 16.9, 18.3, 18.1),
    "Adjusted operating profit": (2.1, 11.8, 21.6, 7.7),
}


def total(values: Iterable[float]) -> float:
    return round(sum(values), 1)


def amount(value: float) -> str:
    """As accountants write it: losses and outflows in brackets, nothing as a dash."""
    if round(value, 1) == 0:
        return "–"
    return f"({-value:,.1f})" if value < 0 else f"{value:,.1f}"


def totals(lines: Sequence[Line]) -> tuple[float, float]:
    """Of 2023 and of 2022."""
    return total(line[1] for line in lines), total(line[2] for line in lines)
