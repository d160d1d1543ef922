"""Draws highlights into a page's image, for files, reports and programs without a browser."""

from io import BytesIO

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from retrieval.types import Highlight, Region

MARKER = (255, 214, 10)  # multiplied with the page like a text marker on paper, so that ink stays black
NEAR = (120, 200, 255)
OUTLINE = (214, 90, 0)
DRAWN = 40  # the most regions, strongest first
OUTLINED = 3


def highlighted_page(image: Image.Image, highlight: Highlight) -> Image.Image:
    """Return `image` with the regions of `highlight` marked: yellow for the word itself, blue for a close meaning."""
    glow = Image.new("RGB", image.size, "white")
    draw = ImageDraw.Draw(glow)
    for region in reversed(highlight.regions[:DRAWN]):
        draw.rounded_rectangle(_pixels(region, image), radius=image.width // 250, fill=_colour(region))
    lit = ImageChops.multiply(image.convert("RGB"), glow.filter(ImageFilter.GaussianBlur(image.width / 900)))
    draw = ImageDraw.Draw(lit)
    for region in highlight.regions[:OUTLINED]:
        draw.rounded_rectangle(
            _pixels(region, image),
            radius=image.width // 250,
            outline=OUTLINE,
            width=max(2, image.width // 600),
        )
    return lit


def highlighted_jpeg(image: Image.Image, highlight: Highlight | None) -> bytes:
    """Return the page as a JPEG, which is smaller than PNG, with its highlights if there are any."""
    buffer = BytesIO()
    (highlighted_page(image, highlight) if highlight else image).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _colour(region: Region) -> tuple[int, int, int]:
    """Return a colour between 65% white for strength 0 and the marker's own for strength 1."""
    strength = 0.35 + 0.65 * region.strength
    red, green, blue = (
        round(255 - (255 - channel) * strength) for channel in (NEAR if region.kind == "near" else MARKER)
    )
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
