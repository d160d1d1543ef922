"""`folioscope doctor`: what this profile needs, what of it is here, and how to get the rest."""

import shutil
from importlib.metadata import PackageNotFoundError, version

import configs.settings as configs
from retrieval.errors import FolioscopeError
from ui import models, show

TORCH = ("torch", "torchvision", "transformers", "colpali-engine", "peft", "sentence-transformers")
FASTER = {  # found where they are installed; results are the same without
    "flash-attn": "faster attention",
    "flash-linear-attention": "faster Qwen3.5 (ColQwen3.5)",
    "causal-conv1d": "faster Qwen3.5 (ColQwen3.5)",
    "late-interaction-kernels": "all pages scanned on the GPU (search.device)",
}
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
    wanted = list(models.needed(settings))
    if wanted and _torch():
        for row in wanted:
            show.console.print(
                f"  unknown  {row.role} {row.model}: {models.describe(row.model)}; first: make gpu"
            )
        return 3
    for row in wanted:
        found, said = models.look(row)
        lacking |= not found
        show.console.print(f"  {'ok' if found else 'MISSING':8} {said}")
    if lacking and wanted:
        return 3
    try:
        import rerankers
        import retrieval.encoders
        from retrieval.recall import on_gpu

        encoder = retrieval.encoders.load(settings.encoder)
        show.console.print(f"  ok       encoder {encoder.fingerprint}")
        reranker = rerankers.load(settings.reranker)
        show.console.print(f"  ok       reranker {reranker.name if reranker else 'none'}")
        for note in (*encoder.notes, *(reranker.notes if reranker else ())):
            show.console.print(f"           {note}")
        gpu, _, why = on_gpu(settings.search.device)
        most = f"{settings.search.gpu_mb:,} MiB"
        where = f"vectors are scanned on {gpu}, up to {most}" if gpu else "no GPU for vectors"
        where += f": {why}" if why else ""
        show.console.print(f"  ok       search.device {settings.search.device}: {where}")
    except FolioscopeError as error:
        lacking = True
        show.console.print(f"  MISSING  {error}")
    return 3 if lacking else 0


def _torch() -> bool:
    """Whether something of torch and its friends is missing."""
    lacking = False
    for name in TORCH:
        try:
            show.console.print(f"  ok       {name} {version(name)}")
        except PackageNotFoundError:
            lacking = True
            show.console.print(f"  MISSING  {name}; to have it: make gpu")
    for name, purpose in FASTER.items():
        try:
            show.console.print(f"  ok       {name} {version(name)}: {purpose}")
        except PackageNotFoundError:
            show.console.print(f"  optional {name}: {purpose}; to have it: pip install {name}")
    if not lacking:
        import torch

        for k in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(k)
            show.console.print(f"  ok       cuda:{k} {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
        if not torch.cuda.is_available():
            show.console.print("  none     CUDA GPU")
    return lacking
