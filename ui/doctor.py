"""`folioscope doctor`: what this profile needs, what of it is here, and how to get the rest."""

import shutil
from importlib.metadata import version

import configs.settings as configs
from retrieval.errors import FolioscopeError
from ui import show

PACKAGES = ("lancedb", "pymupdf", "pdf2image", "rapidocr", "onnxruntime", "gradio")
PROGRAMS = {
    "pdftoppm": ("the second renderer (poppler)", "apt install poppler-utils, or brew install poppler"),
    "tesseract": ("the second OCR engine", "apt install tesseract-ocr, or brew install tesseract"),
}


def run(settings: configs.Settings) -> int:
    """The exit code: 0, or 3 where the profile cannot work."""
    for name in PACKAGES:
        show.console.print(f"  ok       {name} {version(name)}")
    needed = {
        "pdftoppm": settings.ingest.renderer == "poppler",
        "tesseract": settings.ingest.ocr == "tesseract",
    }
    lacking = False
    for program, (purpose, remedy) in PROGRAMS.items():
        if shutil.which(program):
            show.console.print(f"  ok       {program}: {purpose}")
        else:
            lacking |= needed[program]
            state = "MISSING" if needed[program] else "optional"
            show.console.print(f"  {state:8} {program}: {purpose}; to have it: {remedy}")
    try:
        import rerankers
        import retrieval.encoders

        show.console.print(f"  ok       encoder {retrieval.encoders.load(settings.encoder).fingerprint}")
        reranker = rerankers.load(settings.reranker)
        show.console.print(f"  ok       reranker {reranker.name if reranker else 'none'}")
    except FolioscopeError as error:
        lacking = True
        show.console.print(f"  MISSING  {error}")
    return 3 if lacking else 0
