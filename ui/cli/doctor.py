"""Runs `folioscope doctor`: checks whether a profile's packages, programs, models and servers are there."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import configs.settings as configs
from retrieval.errors import FolioscopeError
from ui.cli import models, terminal

TORCH = ("torch", "torchvision", "transformers", "colpali-engine", "peft", "sentence-transformers")
FASTER = {  # used if they are installed; results are the same without them
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
    """The result of one check."""

    state: str  # ok, optional, none, unknown or missing; "" for a note on the check before
    message: str


def run_doctor(settings: configs.Settings, profile: str, as_json: bool) -> int:
    """Print every check of the profile. Returns the exit code: 0, or 3 if something is missing."""
    checks = []
    for check in _checks(settings):
        checks.append(check)
        if not as_json:
            state = check.state.upper() if check.state == "missing" else check.state
            terminal.console.print(f"  {state:8} {check.message}")
    complete = all(check.state not in ("missing", "unknown") for check in checks)
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
            state = "missing" if needed[program] else "optional"
            yield Check(state, f"{program}: {purpose}; to install it: {remedy}")
    if settings.answer:
        yield _answer_check(settings.answer)
    needed_models = list(models.needed(settings))
    if needed_models:
        torch_checks = list(_torch_checks())
        yield from torch_checks
        if any(check.state == "missing" for check in torch_checks):
            for row in needed_models:
                yield Check(
                    "unknown",
                    f"{row.role} {row.model}: {models.describe(row.model)}; to check it, run 'make gpu' first",
                )
            return
    is_complete = True
    for row in needed_models:
        is_local, message = models.check_model(row)
        is_complete &= is_local
        yield Check("ok" if is_local else "missing", message)
    if is_complete:
        yield from _model_checks(settings)


def _answer_check(settings: configs.Answer) -> Check:
    """Ask the model that writes answers to read a word in a picture."""
    from retrieval.answering.client import ChatClient

    model = f"answer {settings.model} at {settings.url}"
    try:
        sees = ChatClient(settings).sees_pictures()
    except FolioscopeError as error:
        return Check("missing", str(error))
    if sees:
        return Check("ok", f"{model}: it reads a word in a picture")
    if not settings.images:
        return Check("ok", f"{model}: it does not see pictures, and is sent text only")
    return Check(
        "missing",
        f"{model}: it does not see pictures; set answer.images to false, or serve a vision-language model",
    )


def _model_checks(settings: configs.Settings) -> Iterator[Check]:
    """Load the models, and choose the device that scans vectors."""
    try:
        import rerankers
        import retrieval.encoders
        from retrieval.recall.planner import gpu_scan_for

        encoder = retrieval.encoders.load_encoder(settings.encoder)
        yield Check("ok", f"encoder {encoder.fingerprint}")
        reranker = rerankers.load_reranker(settings.reranker)
        yield Check("ok", f"reranker {reranker.name if reranker else 'none'}")
        for note in (*encoder.notes, *(reranker.notes if reranker else ())):
            yield Check("", note)
        gpu, _, why = gpu_scan_for(settings.search.device)
        limit = f"{settings.search.gpu_mb:,} MiB"
        message = f"vectors are scanned on {gpu}, up to {limit}" if gpu else "no GPU for vectors"
        message += f": {why}" if why else ""
        yield Check("ok", f"search.device {settings.search.device}: {message}")
    except FolioscopeError as error:
        yield Check("missing", str(error))


def _torch_checks() -> Iterator[Check]:
    is_complete = True
    for name in TORCH:
        try:
            yield Check("ok", f"{name} {version(name)}")
        except PackageNotFoundError:
            is_complete = False
            yield Check("missing", f"{name}; to install it: make gpu")
    for name, purpose in FASTER.items():
        try:
            yield Check("ok", f"{name} {version(name)}: {purpose}")
        except PackageNotFoundError:
            yield Check("optional", f"{name}: {purpose}; to install it: pip install {name}")
    if not is_complete:
        return
    import torch

    for number in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(number)
        yield Check("ok", f"cuda:{number} {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB")
    if not torch.cuda.is_available():
        yield Check("none", "CUDA GPU")
