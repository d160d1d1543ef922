"""Draws highlights into a page's image, for files, reports and programs without a browser."""

from io import BytesIO

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from retrieval.types import Highlight, Region, RegionKind

Colour = tuple[int, int, int]
FILL: dict[RegionKind, Colour] = {"answer": (255, 205, 0), "word": (165, 210, 255), "near": (215, 215, 250)}
"""Multiplied with the page like a text marker on paper, so that ink stays black. A head has an outline only."""
OUTLINE: dict[RegionKind, Colour] = {"answer": (180, 83, 9), "head": (180, 83, 9), "word": (30, 100, 190)}
DRAWN = 40  # the most regions besides those of the answer, strongest first
OUTLINED = 3  # the most words of the question that get an outline, on a page without an answer


def highlighted_page(image: Image.Image, highlight: Highlight) -> Image.Image:
    """Return `image` with the regions of `highlight` marked.

    The words that answer are yellow with an outline, the heads of their column and row have a thin outline; words of
    the question are blue, passages close in meaning pale violet.
    """
    ours = [region for region in highlight.regions if region.kind in ("answer", "head")]
    others = [region for region in highlight.regions if region.kind in ("word", "near")][:DRAWN]
    glow = Image.new("RGB", image.size, "white")
    draw = ImageDraw.Draw(glow)
    for region in reversed([*ours, *others]):  # the answer last, above all others
        if region.kind in FILL:
            draw.rounded_rectangle(_pixels(region, image), radius=image.width // 250, fill=_colour(region))
    lit = ImageChops.multiply(image.convert("RGB"), glow.filter(ImageFilter.GaussianBlur(image.width / 900)))
    draw = ImageDraw.Draw(lit)
    words = [region for region in others if region.kind == "word"]
    for region in ours or words[:OUTLINED]:
        draw.rounded_rectangle(
            _pixels(region, image),
            radius=image.width // 250,
            outline=OUTLINE[region.kind],
            width=max(2, image.width // (400 if region.kind == "answer" else 900)),
        )
    return lit


def highlighted_jpeg(image: Image.Image, highlight: Highlight | None) -> bytes:
    """Return the page as a JPEG, which is smaller than PNG, with its highlights if there are any."""
    buffer = BytesIO()
    (highlighted_page(image, highlight) if highlight else image).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _colour(region: Region) -> Colour:
    """Return a colour between 65% white for strength 0 and the kind's own for strength 1 and for every answer."""
    strength = 1.0 if region.kind == "answer" else 0.35 + 0.65 * region.strength
    red, green, blue = (round(255 - (255 - channel) * strength) for channel in FILL[region.kind])
    return red, green, blue


def _pixels(region: Region, image: Image.Image) -> tuple[float, float, float, float]:
    margin = image.width / 400
    x0, y0, x1, y1 = region.box
    return (
        x0 * image.width - margin,
        y0 * image.height - margin,
        x1 * image.width + margin,
        y1 * image.height + margin,
    )
