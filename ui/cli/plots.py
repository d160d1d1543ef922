"""Draws small plots as SVG, for reports that open from disk: lines, points and bars on labelled axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT, LEFT, BELOW = 460, 240, 46, 34
COLOURS = ("#1d4ed8", "#d97706", "#059669", "#9333ea")


@dataclass(frozen=True, slots=True)
class Line:
    """A series of points (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]
    joined: bool = True  # whether lines join the points
    labels: Sequence[str] = ()  # of the points, shown under the mouse pointer


def chart(
    title: str, x: str, y: str, lines: Sequence[Line], *, diagonal: bool = False, floor: float | None = None
) -> str:
    """Return a plot of lines or points on common axes.

    diagonal: draw the diagonal, on axes from 0 to 1. floor: the lowest y; None: that of the points.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        return ""
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x0, x1 = min(xs), max(xs)
    y0, y1 = min(ys) if floor is None else floor, max(ys)
    if diagonal:
        x0, x1, y0, y1 = 0.0, 1.0, 0.0, 1.0
    x1, y1 = (x1 if x1 > x0 else x0 + 1), (y1 if y1 > y0 else y0 + 1)

    def place(px: float, py: float) -> tuple[float, float]:
        return (
            LEFT + (px - x0) / (x1 - x0) * (WIDTH - LEFT - 12),
            HEIGHT - BELOW - (py - y0) / (y1 - y0) * (HEIGHT - BELOW - 14),
        )

    parts = [_axes(x, y, (x0, x1), (y0, y1))]
    if diagonal:
        (ax, ay), (bx, by) = place(0, 0), place(1, 1)
        parts.append(f"<line class=guide x1={ax:.1f} y1={ay:.1f} x2={bx:.1f} y2={by:.1f} />")
    for line, colour in zip(lines, COLOURS, strict=False):
        placed = [place(*point) for point in line.points]
        if line.joined:
            path = " ".join(f"{px:.1f},{py:.1f}" for px, py in placed)
            parts.append(f"<polyline fill=none stroke='{colour}' stroke-width=2 points='{path}' />")
        for at, (px, py) in enumerate(placed):
            label = (
                line.labels[at]
                if at < len(line.labels)
                else f"{line.points[at][0]:.4g}, {line.points[at][1]:.4g}"
            )
            parts.append(
                f"<circle cx={px:.1f} cy={py:.1f} r=3.4 fill='{colour}'><title>{escape(label)}</title></circle>"
            )
    return _figure(title, "".join(parts), [line.name for line in lines])


def histogram(title: str, x: str, groups: Sequence[tuple[str, Sequence[float]]], bins: int = 24) -> str:
    """Return overlaid histograms of the groups, as shares of each group, so that small groups remain visible."""
    values = [value for _, group in groups for value in group]
    if not values:
        return ""
    low, high = min(values), max(values)
    width = (high - low) / bins or 1.0
    shares = []
    for _, group in groups:
        counts = [0] * bins
        for value in group:
            counts[min(bins - 1, int((value - low) / width))] += 1
        shares.append([count / max(1, len(group)) for count in counts])
    top = max(max(share) for share in shares) or 1.0
    room, step = HEIGHT - BELOW - 14, (WIDTH - LEFT - 12) / bins
    bars = "".join(
        f"<rect x={LEFT + at * step + 1:.1f} y={HEIGHT - BELOW - share / top * room:.1f} width={step - 2:.1f} "
        f"height={share / top * room:.1f} fill='{colour}' fill-opacity=.55 />"
        for group, colour in zip(shares, COLOURS, strict=False)
        for at, share in enumerate(group)
        if share
    )
    return _figure(title, _axes(x, "share", (low, high), (0, top)) + bars, [name for name, _ in groups])


def _axes(x: str, y: str, xs: tuple[float, float], ys: tuple[float, float]) -> str:
    right, floor = WIDTH - 12, HEIGHT - BELOW
    return (
        f"<line class=axis x1={LEFT} y1={floor} x2={right} y2={floor} />"
        f"<line class=axis x1={LEFT} y1=14 x2={LEFT} y2={floor} />"
        f"<text x={LEFT} y={floor + 14}>{xs[0]:,.4g}</text>"
        f"<text x={right} y={floor + 14} text-anchor=end>{xs[1]:,.4g}</text>"
        f"<text x={(LEFT + right) / 2} y={HEIGHT - 4} text-anchor=middle>{escape(x)}</text>"
        f"<text x={LEFT - 5} y={floor} text-anchor=end>{ys[0]:,.4g}</text>"
        f"<text x={LEFT - 5} y=20 text-anchor=end>{ys[1]:,.4g}</text>"
        f"<text x=12 y={HEIGHT / 2} text-anchor=middle transform='rotate(-90 12 {HEIGHT / 2})'>{escape(y)}</text>"
    )


def _figure(title: str, inside: str, names: Sequence[str]) -> str:
    legend = "".join(
        f"<span><i style='background:{colour}'></i>{escape(name)}</span>"
        for name, colour in zip(names, COLOURS, strict=False)
        if name
    )
    return (
        f"<figure><figcaption><b>{escape(title)}</b>{legend}</figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{escape(title)}'>{inside}</svg></figure>"
    )
