"""Makes questions with conditions that a reader of words alone gets wrong, and passages that meet them or do not.

Of the contrast pairs that the first reader got wrong, half compare numbers, dates or times ("under 5 percent", "before
20 April"); the rest turn on who did what to whom, or on a negation. Such pairs can be made without end: the positive
meets the condition, each negative differs in what the condition says. All names are invented.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FIRST = "Alder Bren Calto Dorn Elva Fenn Garo Hald Iver Jorun Kest Lomar Mirel Nord Orla Pell Quist Ranu Selk".split()  # noqa: SIM905
SECOND = "berg field gate ford haven mere port stead vale wick".split()  # noqa: SIM905
MONTHS = "January February March April May June July August September October November December".split()  # noqa: SIM905


@dataclass(frozen=True, slots=True)
class Quantity:
    """What can be measured of some things: values are drawn from `low` to `high`."""

    things: str
    thing: str
    name: str
    unit: str
    other_unit: str
    low: float
    high: float
    digits: int = 0


QUANTITIES = (
    Quantity("pumps", "pump", "flow", "l/min", "l/h", 5, 400),
    Quantity("motors", "motor", "power", "kW", "W", 1, 90, 1),
    Quantity("cables", "cable", "length", "m", "mm", 5, 900),
    Quantity("tanks", "tank", "volume", "litres", "millilitres", 50, 9000),
    Quantity("sensors", "sensor", "response time", "s", "min", 1, 60),
    Quantity("bridges", "bridge", "load limit", "t", "kg", 3, 60),
    Quantity("loans", "loan", "interest rate", "%", "euros", 1, 12, 2),
    Quantity("funds", "fund", "annual return", "%", "points", 1, 20, 1),
    Quantity("shops", "shop", "rent per month", "euros", "square metres", 400, 9000),
    Quantity("orders", "order", "delivery time", "days", "weeks", 2, 60),
    Quantity("contracts", "contract", "notice period", "months", "days", 1, 24),
    Quantity("schools", "school", "pupils", "pupils", "teachers", 60, 1200),
    Quantity("surveys", "survey", "response rate", "%", "replies", 20, 90, 1),
    Quantity("wells", "well", "nitrate", "mg/l", "g/l", 2, 80, 1),
    Quantity("rooms", "room", "temperature", "°C", "%", 4, 40),
    Quantity("servers", "server", "memory", "GB", "MB", 8, 512),
    Quantity("trains", "train", "delay", "minutes", "hours", 1, 90),
    Quantity("alloys", "alloy", "copper content", "%", "ppm", 1, 95, 1),
    Quantity("lamps", "lamp", "power", "W", "kW", 3, 250),
    Quantity("projects", "project", "budget", "million euros", "thousand euros", 1, 90, 1),
    Quantity("branches", "branch", "sales", "thousand", "million", 20, 900),
    Quantity("medicines", "medicine", "dose", "mg", "g", 5, 800),
)
BELOW = ("under {x}", "below {x}", "of less than {x}", "lower than {x}", "not above {x}", "of at most {x}")
ABOVE = ("over {x}", "above {x}", "of more than {x}", "higher than {x}", "not below {x}", "of at least {x}")
VERBS = (
    ("acquired", "acquired"), ("sued", "sued"), ("audited", "audited"), ("hired", "hired"),
    ("informed", "informed"), ("paid", "paid"), ("replaced", "replaced"), ("financed", "financed"),
    ("inspected", "inspected"), ("supplied", "supplied"), ("defeated", "defeated"), ("warned", "warned"),
)  # fmt: skip
STATES = (
    ("damaged", "undamaged"), ("compliant", "not compliant"), ("approved", "not approved"),
    ("insured", "uninsured"), ("paid", "unpaid"), ("tested", "not yet tested"), ("open", "closed"),
    ("finished", "unfinished"), ("delivered", "not delivered"), ("heated", "unheated"),
)  # fmt: skip
Row = dict[str, Any]


def made(count: int, seed: int = 0) -> list[Row]:
    """Returns rows as in a file of contrasts: q, pos, negs, kind, answer and split."""
    rng = random.Random(seed)
    makers: list[Callable[[random.Random], Row]] = [
        _limit,
        _limit,
        _limit,
        _date,
        _between,
        _most,
        _role,
        _state,
    ]
    return [rng.choice(makers)(rng) | {"split": "train"} for _ in range(count)]


def _names(rng: random.Random, count: int) -> list[str]:
    made = {f"{rng.choice(FIRST)}{rng.choice(SECOND)}" for _ in range(4 * count)}
    names = rng.sample(sorted(made), count)
    if rng.random() < 0.4:
        letter = rng.choice("ABCDEFGHKLMPRSTW")
        names = [f"{letter}-{number}" for number in rng.sample(range(1, 99), count)]
    return names


def _value(rng: random.Random, of: Quantity, low: float, high: float) -> float:
    return round(rng.uniform(low, high), of.digits)


def _written(value: float, of: Quantity) -> str:
    return f"{value:.{of.digits}f}" if of.digits else f"{int(value):,}"


def _listed(rng: random.Random, heading: str, entries: list[str]) -> str:
    """Returns entries as a list, a row of a table, or lines of a log."""
    joint = rng.choice((", ", "; ", " | "))
    return f"{heading}{rng.choice((': ', ' | ', ' - '))}{joint.join(entries)}{rng.choice(('.', ''))}"


def _limit(rng: random.Random) -> Row:
    of = rng.choice(QUANTITIES)
    is_below = rng.random() < 0.5
    bound = _value(rng, of, of.low + 0.3 * (of.high - of.low), of.low + 0.7 * (of.high - of.low))
    step = 10**-of.digits
    inside = (of.low, bound - step) if is_below else (bound + step, of.high)
    outside = (bound + step, of.high) if is_below else (of.low, bound - step)
    count = rng.choice((1, 1, 2, 3, 4))
    names, at = _names(rng, count + 1), rng.randrange(count)
    values = [_value(rng, of, *outside) for _ in range(count)]
    good, bad = _value(rng, of, *inside), _value(rng, of, *outside)
    limit = rng.choice(BELOW if is_below else ABOVE).format(x=f"{_written(bound, of)} {of.unit}")
    extra = rng.choice(("", f", checked in {rng.randint(2009, 2024)}", f", {rng.choice(MONTHS)} list"))

    def text(value: float, unit: str, name: str) -> str:
        entries = [
            f"{names[i] if i != at else names[at]} {_written(v, of)} {unit}"
            for i, v in enumerate([*values[:at], value, *values[at + 1 :]])
        ]
        if count == 1:
            return f"{of.thing.capitalize()} {names[0]}: {name} {_written(value, of)} {unit}{extra}."
        return _listed(random.Random(style), f"{name.capitalize()} of {of.things}{extra}", entries)

    style = rng.random()
    asked = rng.choice(
        (
            f"Which {of.thing} has a {of.name} {limit}?",
            f"{of.things} with {of.name} {limit}",
            f"Which of the {of.things} have a {of.name} {limit}?",
            f"{of.thing} {of.name} {limit}",
        )
    )
    other = rng.choice([q for q in QUANTITIES if q.name != of.name])
    near = text(bad, of.unit, of.name)
    wrong = rng.choice((text(good, of.other_unit, of.name), text(good, other.unit, other.name)))
    answer = f"{names[at]} {_written(good, of)} {of.unit}" if count > 1 else f"{_written(good, of)} {of.unit}"
    return {
        "q": asked,
        "pos": text(good, of.unit, of.name),
        "negs": [near, wrong],
        "kind": "number",
        "answer": answer,
    }


def _between(rng: random.Random) -> Row:
    of = rng.choice(QUANTITIES)
    width = of.high - of.low
    low = _value(rng, of, of.low + 0.2 * width, of.low + 0.5 * width)
    high = _value(rng, of, low + 0.1 * width, low + 0.3 * width)
    names = _names(rng, 3)
    good = _value(rng, of, low, high)
    step = 10**-of.digits
    bad = [_value(rng, of, *rng.choice(((of.low, low - step), (high + step, of.high)))) for _ in range(3)]
    style = rng.random()

    def text(value: float, unit: str) -> str:
        entries = [
            f"{name} {_written(v, of)} {unit}" for name, v in zip(names, (bad[1], value, bad[2]), strict=True)
        ]
        return _listed(random.Random(style), f"{of.name.capitalize()} of {of.things}", entries)

    return {
        "q": f"{of.things} with a {of.name} between {_written(low, of)} and {_written(high, of)} {of.unit}",
        "pos": text(good, of.unit),
        "negs": [text(bad[0], of.unit), text(good, of.other_unit)],
        "kind": "number",
        "answer": f"{names[1]} {_written(good, of)} {of.unit}",
    }


def _date(rng: random.Random) -> Row:
    event = rng.choice(
        ("arrival", "inspection", "delivery", "sowing", "expiry", "payment", "opening", "repair")
    )
    is_before = rng.random() < 0.5
    kind = rng.choice(("day", "year", "time", "month"))
    bound = rng.randint(6, 22)
    inside = rng.randint(1, bound - 2) if is_before else rng.randint(bound + 1, 28)
    outside = [rng.randint(bound + 1, 28) if is_before else rng.randint(1, bound - 2) for _ in range(3)]
    month, year = rng.choice(MONTHS), rng.randint(1995, 2010)
    minutes = rng.choice(("00", "10", "20", "40", "45"))

    def written(value: int) -> str:
        match kind:
            case "day":
                return f"{value} {month}"
            case "year":
                return str(year + value)
            case "time":
                return f"{value * 23 // 28:02d}:{minutes}"
            case _:
                return f"{MONTHS[min(value * 12 // 29, 11)]} {year}"

    if written(bound) in map(written, (inside, *outside)):
        return _date(rng)  # Months and times are coarser than the numbers that they are made from.
    names = _names(rng, 3)
    style = rng.random()

    def text(value: int, heading: str) -> str:
        entries = [f"{n} {written(v)}" for n, v in zip(names, (outside[1], value, outside[2]), strict=True)]
        return _listed(random.Random(style), heading, entries)

    word = "before" if is_before else "after"
    other = rng.choice([e for e in ("cleaning", "sale", "training", "planning") if e != event])
    asked = rng.choice(
        (
            f"Which {event} was {word} {written(bound)}?",
            f"{event} {word} {written(bound)}",
            f"What had its {event} {word} {written(bound)}?",
        )
    )
    heading = f"Dates of {event}" if kind != "time" else f"Times of {event}"
    return {
        "q": asked,
        "pos": text(inside, heading),
        "negs": [text(outside[0], heading), text(inside, heading.replace(event, other))],
        "kind": "number",
        "answer": f"{names[1]} {written(inside)}",
    }


def _most(rng: random.Random) -> Row:
    of = rng.choice(QUANTITIES)
    names = _names(rng, 3)
    first = rng.randint(2001, 2020)
    grown = rng.randrange(3)
    pairs = []
    for i in range(3):
        low, high = sorted((_value(rng, of, of.low, of.high / 2), _value(rng, of, of.high / 2 + 1, of.high)))
        pairs.append((low, high) if i == grown else (high, low))
    is_rise = rng.random() < 0.5
    if not is_rise:
        pairs = [(b, a) for a, b in pairs]
    turned = [(b, a) if i == grown else (a, b) for i, (a, b) in enumerate(pairs)]
    style = rng.random()

    def text(values: list[tuple[float, float]], thing: str) -> str:
        entries = [
            f"{n} {_written(a, of)} / {_written(b, of)}" for n, (a, b) in zip(names, values, strict=True)
        ]
        heading = f"{of.name.capitalize()} of {thing}, {of.unit}, {first} / {first + 1}"
        return _listed(random.Random(style), heading, entries)

    other = rng.choice([q.things for q in QUANTITIES if q.things != of.things])
    a, b = pairs[grown]
    return {
        "q": f"Which {of.thing} had a {'higher' if is_rise else 'lower'} {of.name} in {first + 1} than in {first}?",
        "pos": text(pairs, of.things),
        "negs": [text(turned, of.things), text(pairs, other)],
        "kind": "comparison",
        "answer": f"{names[grown]} {_written(a, of)} / {_written(b, of)}",
    }


def _role(rng: random.Random) -> Row:
    a, b, c = _names(rng, 3)
    kind = rng.choice(("company", "city", "office", "club"))
    past, passive = rng.choice(VERBS)
    when = f"In {rng.choice(MONTHS)} {rng.randint(1998, 2024)}"
    more = rng.choice(("The terms were not disclosed.", "Both sides confirmed it.", f"{c} was not involved."))
    active = f"{when} the {kind} {a} {past} {b}. {more}"
    turned = f"{when} the {kind} {a} was {passive} by {b}. {more}"
    if rng.random() < 0.5:
        active, turned = (
            f"{when} {b} was {passive} by the {kind} {a}. {more}",
            f"{when} {b} {past} the {kind} {a}. {more}",
        )
    return {
        "q": rng.choice((f"Who {past} {b}?", f"Which {kind} {past} {b}?", f"By whom was {b} {passive}?")),
        "pos": active,
        "negs": [turned, active.replace(b, c) if c not in more else turned.replace(past, "met")],
        "kind": "role",
        "answer": a,
    }


def _state(rng: random.Random) -> Row:
    things, thing = rng.choice(
        (("houses", "house"), ("samples", "sample"), ("fields", "field"), ("items", "item"))
    )
    yes, no = rng.choice(STATES)
    is_negative = rng.random() < 0.6
    wanted, usual = (no, yes) if is_negative else (yes, no)
    names, at = _names(rng, 3), rng.randrange(3)
    style = rng.random()

    def text(state: str, of: str) -> str:
        entries = [f"{name} {state if i == at else usual}" for i, name in enumerate(names)]
        return _listed(random.Random(style), f"List of {of}", entries)

    asked = f"not {yes}" if is_negative else yes
    return {
        "q": rng.choice(
            (f"Which {thing} is {asked}?", f"Which of the {things} are {asked}?", f"{things} {asked}")
        ),
        "pos": text(wanted, things),
        "negs": [text(usual, things)],
        "kind": "negation",
        "answer": names[at],
    }
