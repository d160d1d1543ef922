"""`folioscope doctor`: what this profile needs, what of it is here, and how to get the rest."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import configs.settings as configs
from retrieval.errors import FolioscopeError
from ui.cli import models, terminal

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


@dataclass(frozen=True, slots=True)
class Check:
    state: str  # ok, optional, none, unknown, MISSING; "" for a remark on the line before
    message: str


def run_doctor(settings: configs.Settings, profile: str, as_json: bool) -> int:
    """Print what the profile needs and whether it is here. Returns the exit code: 0, or 3 if something is missing."""
    checks = []
    for check in _checks(settings):
        checks.append(check)
        if not as_json:
            terminal.console.print(f"  {check.state:8} {check.message}")
    complete = all(check.state not in ("MISSING", "unknown") for check in checks)
    if as_json:
        terminal.print_json(
            {"profile": profile, "ok": complete, "checks": [asdict(check) for check in checks]}
        )
    return 0 if complete else 3


def _checks(settings: configs.Settings) -> Iterator[Check]:
    for name in PACKAGES:
        yield Check("ok", f"{name} {version(name)}")
    needed = {
        "pdftoppm": settings.ingest.renderer == "poppler",
        "tesseract": settings.ingest.ocr == "tesseract",
    }
    for program, (purpose, remedy) in PROGRAMS.items():
        if shutil.which(program):
            yield Check("ok", f"{program}: {purpose}")
        else:
            state = "MISSING" if needed[program] else "optional"
            yield Check(state, f"{program}: {purpose}; to have it: {remedy}")
    wanted = list(models.needed(settings))
    if wanted:
        torch_checks = list(_torch_checks())
        yield from torch_checks
        if any(check.state == "MISSING" for check in torch_checks):
            for row in wanted:
                yield Check(
                    "unknown", f"{row.role} {row.model}: {models.describe(row.model)}; first: make gpu"
                )
            return
    here = True
    for row in wanted:
        found, said = models.look(row)
        here &= found
        yield Check("ok" if found else "MISSING", said)
    if here:
        yield from _model_checks(settings)


def _model_checks(settings: configs.Settings) -> Iterator[Check]:
    """Load the models, and find the device that vectors are scanned on."""
    try:
        import rerankers
        import retrieval.encoders
        from retrieval.recall.plan import gpu_scan_for

        encoder = retrieval.encoders.load_encoder(settings.encoder)
        yield Check("ok", f"encoder {encoder.fingerprint}")
        reranker = rerankers.load_reranker(settings.reranker)
        yield Check("ok", f"reranker {reranker.name if reranker else 'none'}")
        for note in (*encoder.notes, *(reranker.notes if reranker else ())):
            yield Check("", note)
        gpu, _, why = gpu_scan_for(settings.search.device)
        most = f"{settings.search.gpu_mb:,} MiB"
        where = f"vectors are scanned on {gpu}, up to {most}" if gpu else "no GPU for vectors"
        where += f": {why}" if why else ""
        yield Check("ok", f"search.device {settings.search.device}: {where}")
    except FolioscopeError as error:
        yield Check("MISSING", str(error))


def _torch_checks() -> Iterator[Check]:
    lacking = False
    for name in TORCH:
        try:
            yield Check("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            lacking = True
            yield Check("MISSING", f"{name}; to have it: make gpu")
    for name, purpose in FASTER.items():
        try:
            yield Check("ok", f"{name} {version(name)}: {purpose}")
        except PackageNotFoundError:
            yield Check("optional", f"{name}: {purpose}; to have it: pip install {name}")
    if lacking:
        return
    import torch

    for k in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(k)
        yield Check("ok", f"cuda:{k} {facts.name}, {facts.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        yield Check("none", "CUDA GPU")
