"""Loads complete torch checkpoints from a folder or the hub's cache.

Every weight of the architecture must be in the files, and the architecture must have a place for every weight in the
files: otherwise a renamed layer would silently stay random. Offline (`HF_HUB_OFFLINE=1`) nothing is fetched. Code that
comes with a checkpoint runs only if the profile allows it. Device, dtype and attention are those of the profile; if one
is not available, loading fails.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers.utils import logging as transformers_logging

from configs.models import KNOWN
from retrieval.errors import DeviceMissing, MissingExtra, ModelBroken, ModelMissing, first_line

SAMPLES = 16
"""Number of places in a weight file that its hash samples: reading all of 9 GB would take longer than loading it."""
SAMPLE_BYTES = 1 << 16
CODE_FILES = ("*.py",)
MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
HUB_ID = r"[\w.-]+/[\w.-]+"
ADAPTER_CONFIG = "adapter_config.json"
OTHER_KIND = "choose the family or kind that fits this model, or fetch the model again"


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs."""

    device: torch.device
    dtype: torch.dtype
    attention: str  # sdpa, eager or flash_attention_2

    @property
    def precision(self) -> str:
        """The name of the dtype: bfloat16, float16 or float32."""
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return f"{self.precision}, {self.attention} attention, on {name}"


def choose_placement(device: str, dtype: str, attention: str) -> Placement:
    """Returns where and how to run a model.

    `device` "auto" is the first GPU, or the CPU if there is none. `attention` "auto" is flash_attention_2 if it is
    installed and can run (on a GPU, with a two-byte dtype), otherwise sdpa. Raises DeviceMissing if this machine does
    not have the device, MissingExtra for flash attention without its package.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing(
            f"the profile asks for {device}, but torch {torch.__version__} finds no CUDA GPU on this machine",
            remedy="check nvidia-smi and the driver, or choose a profile for the CPU (cpu, cpu-visual)",
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceMissing(
            f"the profile asks for {device}, counted from 0, but this machine has {torch.cuda.device_count()} GPUs",
            remedy="set device: cuda:0, or device: auto",
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceMissing(
            "the profile asks for mps, but this machine has no Apple GPU that torch can use",
            remedy="set device: cpu",
        )
    torch_dtype: torch.dtype = getattr(torch, dtype)
    installed = importlib.util.find_spec("flash_attn") is not None
    if attention == "auto":
        flash = installed and chosen.type == "cuda" and torch_dtype in (torch.bfloat16, torch.float16)
        attention = "flash_attention_2" if flash else "sdpa"
    if attention == "flash_attention_2" and not installed:
        raise MissingExtra(
            "the profile asks for flash_attention_2, but the package flash-attn is not installed",
            remedy="install flash-attn (it needs a CUDA compiler), or set attn: sdpa",
        )
    return Placement(chosen, torch_dtype, attention)


def offline() -> bool:
    """Whether the environment forbids fetching: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set."""
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in {"1", "TRUE", "YES", "ON"} for name in switches)


def local_folder(model: str, revision: str | None, code: bool = False) -> Path | None:
    """Returns the folder of a model on this machine, which is the path itself or in the hub's cache; None if absent.

    With `code`, the Python files that come with the model are looked up too.
    """
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                local_files_only=True,
                allow_patterns=_patterns(code),
            )
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def fetch_checkpoint(model: str, revision: str | None, code: bool = False) -> Path:
    """Returns the model's folder as `local` does, but fetches from the hub what is missing.

    Raises ModelMissing if the model is not on this machine and cannot be fetched.
    """
    folder = local_folder(model, revision, code)
    if folder is not None and (Path(model).is_dir() or _has_weights(folder)):
        return folder
    if offline() or not re.fullmatch(HUB_ID, model):
        raise _model_missing(model, revision)
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=_patterns(code)))
    except (
        Exception
    ) as error:  # from the hub, the network, a proxy or the disk: in each case the model is not here
        raise _model_missing(model, revision, first_line(error)) from error


def _patterns(code: bool) -> list[str]:
    return [*MODEL_FILES, *(CODE_FILES if code else ())]


def _model_missing(model: str, revision: str | None, answer: str = "") -> ModelMissing:
    """answer: the hub's answer, if it was asked."""
    if not re.fullmatch(HUB_ID, model):
        return ModelMissing(
            f"there is no folder {model}, and {model} is not the id of a model on the hub (owner/name)",
            remedy="check 'model' in the profile",
        )
    known = KNOWN.get(model)
    size = f", {known.gigabytes:g} GB" if known else ""
    pinned = f" --revision {revision}" if revision else ""
    why = "this machine is offline (HF_HUB_OFFLINE)" if offline() else f"it could not be fetched ({answer})"
    return ModelMissing(
        f"the model {model}{size} is not on this machine, and {why}",
        remedy=f"fetch it with 'folioscope models pull PROFILE' or 'hf download {model}{pinned}' where there is a "
        "network, or give the path of its folder as 'model' in the profile",
    )


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def revision_of(folder: Path) -> str:
    """Returns a name of twelve hex digits for the exact weights in a folder.

    It begins the hub's commit or, for a folder that is not from the hub, a hash of its settings and of samples of its
    weights. For an adapter, a plus sign and the twelve digits of its base model follow.
    """
    revision = _revision_of(folder)
    if not is_adapter(folder):
        return revision
    base = local_folder(base_of(folder), None)
    return f"{revision}+{_revision_of(base)}" if base else revision


def _revision_of(folder: Path) -> str:
    if folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name):
        return folder.name[:12]
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in {".json", ".safetensors"}):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()} {size} ".encode())
        with path.open("rb") as file:
            if path.suffix == ".json":
                digest.update(file.read())
                continue
            for k in range(SAMPLES + 1):
                file.seek(max(0, (size - SAMPLE_BYTES) * k // SAMPLES))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def without_special_tokens(text: str, tokenizer: Any) -> str:
    """Returns `text` without the tokenizer's special tokens, so that the model does not obey one that it quotes."""
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, " ")
    return " ".join(text.split())


def processor_folder(folder: Path) -> Path:
    """Returns the folder with the processor: for an adapter without one of its own, that of its base model."""
    files = ("preprocessor_config.json", "processor_config.json")
    return (
        folder
        if any((folder / name).is_file() for name in files)
        else fetch_checkpoint(base_of(folder), None)
    )


def load_processor(cls: Any, folder: Path) -> Any:
    """Returns the processor of class `cls` from `processor_folder`. Raises ModelBroken."""
    source = processor_folder(folder)
    try:
        return cls.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelBroken(
            f"the processor in {source} cannot be loaded as {cls.__name__} ({first_line(error)})",
            remedy=OTHER_KIND,
        ) from error


def check_template(processor: Any, model: str, *roles: str) -> None:
    """Raises ModelBroken if the checkpoint has no chat template, or its template does not handle these roles.

    The model would then get a prompt that it was never trained on, without any error.
    """
    template = getattr(processor, "chat_template", None) or getattr(
        getattr(processor, "tokenizer", None), "chat_template", None
    )
    if not template:
        raise ModelBroken(
            f"{model} has no chat template (chat_template.jinja)",
            remedy="fetch the model again, with all of its files",
        )
    text = template if isinstance(template, str) else json.dumps(template)
    missing = [role for role in roles if role not in text]
    if missing:
        raise ModelBroken(
            f"the chat template of {model} does not mention {' and '.join(missing)}: it is not a reranker's template, "
            "and the scores would mean nothing",
            remedy="choose the kind that was written for this model",
        )


def check_files(folder: Path) -> None:
    """Raises ModelBroken with the name of a weight file that is missing, truncated or something else."""
    again = "fetch the model again"
    if not (folder / "config.json").is_file() and not (folder / ADAPTER_CONFIG).is_file():
        raise ModelBroken(
            f"{folder} holds no model: it has neither config.json nor {ADAPTER_CONFIG}",
            remedy="give the folder of a model as 'model' in the profile, or fetch the model again",
        )
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(named):
            if not (folder / name).is_file():
                raise ModelBroken(f"{folder / name} is missing, and {index.name} lists it", remedy=again)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelBroken(f"{folder} holds no weights: it has no .safetensors file", remedy=again)
    for path in files:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelBroken(
                f"{path} is not a complete weight file ({error}; it has {path.stat().st_size:,} bytes)",
                remedy=again,
            ) from error


def load_checkpoint(
    cls: Any,
    folder: Path,
    placement: Placement,
    *,
    may_lack: Iterable[str] = (),
    may_have: Iterable[str] = (),
    prepare: Callable[[Any], None] = lambda _: None,
    **options: Any,
) -> Any:
    """Returns the model of class `cls` with the weights in `folder`, ready to run.

    If the folder holds a LoRA adapter, its base model is loaded and the adapter merged into it. `may_lack` and
    `may_have` are regular expressions for weights that the files may lack, and for weights in the files that the model
    does not use. `prepare` may change the model before it moves to its device. Raises ModelBroken with the names of the
    weights that are missing, left over or of another shape; ModelMissing for an adapter without its base model.
    """
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # our own errors name the weights that its report would list
    check_files(folder)
    if is_adapter(folder):
        check_files(fetch_checkpoint(base_of(folder), None))
    try:
        model, info = cls.from_pretrained(
            folder,
            dtype=placement.dtype,
            attn_implementation=placement.attention,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelBroken(
            f"{folder} cannot be loaded as {cls.__name__} ({first_line(error)})", remedy=OTHER_KIND
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    _check_loaded(folder, cls.__name__, info, tuple(may_lack), tuple(may_have))
    if is_adapter(folder):
        _merge(model)
    prepare(model)
    return model.to(placement.device).eval().requires_grad_(False)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds LoRA weights for a base model in another folder."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """Returns the base model of an adapter, as a folder or a hub id. Raises ModelBroken."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        return str(config["base_model_name_or_path"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelBroken(
            f"{folder / ADAPTER_CONFIG} names no base model ({error!r})", remedy="fetch the adapter again"
        ) from error


def _check_loaded(
    folder: Path, name: str, info: Any, may_lack: Sequence[str], may_have: Sequence[str]
) -> None:
    def unknown(keys: Iterable[Any], patterns: Sequence[str]) -> list[str]:
        return sorted(str(key) for key in keys if not any(re.search(p, str(key)) for p in patterns))

    missing = unknown(info["missing_keys"], may_lack)
    left_over = unknown(info["unexpected_keys"], may_have)
    misfits = sorted(str(key) for key in info["mismatched_keys"])
    faults = [
        f"{len(keys)} {what} ({', '.join(keys[:4])}{', ...' if len(keys) > 4 else ''})"
        for keys, what in ((missing, "missing"), (left_over, "left over"), (misfits, "of another shape"))
        if keys
    ]
    if faults:
        raise ModelBroken(
            f"the weights in {folder} are not those of {name}: {'; '.join(faults)}", remedy=OTHER_KIND
        )


def _merge(model: Any) -> None:
    """Merge LoRA's products into the weights: the same function with two matrix products fewer in each layer."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise ModelBroken(
            "the adapter fits no layer of its base model: its target_modules are those of another architecture",
            remedy="give the base model that the adapter was trained on",
        )
    for layer in layers:
        layer.merge(safe_merge=True)
