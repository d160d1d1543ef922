"""Draws highlights into a page's image, for files, reports and programs without a browser."""

from io import BytesIO

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from retrieval.types import Highlight, Region, RegionKind

Colour = tuple[int, int, int]
FILL: dict[RegionKind, Colour] = {
    "answer": (255, 205, 0),
    "passage": (255, 205, 0),
    "word": (165, 210, 255),
    "near": (215, 215, 250),
}
"""Multiplied with the page like a text marker on paper, so that ink stays black. A head has an outline only."""
OUTLINE: dict[RegionKind, Colour] = {"answer": (180, 83, 9), "head": (180, 83, 9), "word": (30, 100, 190)}
HALO = (
    252,
    211,
    77,
)  # around the outlines of the answer and its heads, to be seen on a dark table head as well
DRAWN = 40  # the most regions besides those of the answer, strongest first
OUTLINED = 3  # the most words of the question that get an outline, on a page without an answer


def highlighted_page(image: Image.Image, highlight: Highlight) -> Image.Image:
    """Return `image` with the regions of `highlight` marked.

    The words that answer are yellow with an outline; the sentence or row around them is pale yellow, and the heads of
    their column and row have a thin outline. Words of the question are blue, passages close in meaning pale violet.
    """
    ours = [region for region in highlight.regions if region.kind in ("answer", "passage", "head")]
    others = [region for region in highlight.regions if region.kind in ("word", "near")][:DRAWN]
    outlined = [region for region in ours if region.kind in ("head", "answer")]
    glow = Image.new("RGB", image.size, "white")
    draw = ImageDraw.Draw(glow)
    for region in sorted([*ours, *others], key=_layer):
        if region.kind in FILL:
            draw.rounded_rectangle(_pixels(region, image), radius=image.width // 250, fill=_colour(region))
    lit = ImageChops.multiply(image.convert("RGB"), glow.filter(ImageFilter.GaussianBlur(image.width / 900)))
    draw = ImageDraw.Draw(lit)
    words = [region for region in others if region.kind == "word"]
    for region in outlined or words[:OUTLINED]:
        width = max(3, image.width // 350) if region.kind == "answer" else max(1, image.width // 800)
        x0, y0, x1, y1 = _pixels(region, image)
        if region.kind != "word":
            halo = (x0 - width, y0 - width, x1 + width, y1 + width)
            draw.rounded_rectangle(halo, radius=image.width // 200, outline=HALO, width=width)
        draw.rounded_rectangle(
            (x0, y0, x1, y1), radius=image.width // 250, outline=OUTLINE[region.kind], width=width
        )
    return lit


def highlighted_jpeg(image: Image.Image, highlight: Highlight | None) -> bytes:
    """Return the page as a JPEG, which is smaller than PNG, with its highlights if there are any."""
    buffer = BytesIO()
    (highlighted_page(image, highlight) if highlight else image).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _layer(region: Region) -> tuple[int, float]:
    """Return the place in the order of drawing: the sentence or row lies below the words, the answer above them."""
    return {"passage": 0, "answer": 2}.get(region.kind, 1), region.strength


def _colour(region: Region) -> Colour:
    """Return a colour between 65% white for strength 0 and the kind's own for strength 1."""
    strength = 0.6 * region.strength**2 if region.kind == "passage" else 0.35 + 0.65 * region.strength
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
