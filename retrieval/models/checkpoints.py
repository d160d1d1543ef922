"""Loading torch checkpoints, from a folder or the hub's cache: whole, or not at all.

Every weight that the architecture has must be in the files, and every weight in the files must have found its
place: a renamed layer would otherwise be random without a word. Nothing is fetched here while the machine is
offline (`HF_HUB_OFFLINE=1`), no code from a checkpoint is run unless the profile allows it, and the device,
dtype and attention are those asked for, or an error.
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
"""Places in a weight file that its identity is taken from: reading all of 9 GB would take longer than loading."""
SAMPLE_BYTES = 1 << 16
CODE = ("*.py",)
NEEDED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")


@dataclass(frozen=True, slots=True)
class Placement:
    """Where and how a model runs."""

    device: torch.device
    dtype: torch.dtype
    attention: str  # sdpa, eager or flash_attention_2

    @property
    def precision(self) -> str:
        """bfloat16, float16 or float32."""
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else str(self.device)
        return f"{self.precision}, {self.attention} attention, on {name}"


def place(device: str, dtype: str, attention: str) -> Placement:
    """Raises DeviceMissing for a device that is not here, MissingExtra for flash attention without its package.

    `device` "auto" is the first GPU, or else the processor; `attention` "auto" is flash_attention_2 where it is
    installed and can run (a GPU, two-byte dtype), or else sdpa.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = torch.device(device)
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise DeviceMissing(
            f"the profile asks for {device}, and torch {torch.__version__} sees no CUDA GPU here: check "
            "nvidia-smi and the driver, or choose a profile for the processor (cpu, cpu-visual)"
        )
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceMissing(f"the profile asks for {device}, and there are {torch.cuda.device_count()} GPUs")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceMissing("the profile asks for mps, and this machine has no Apple GPU that torch can use")
    kind: torch.dtype = getattr(torch, dtype)
    installed = importlib.util.find_spec("flash_attn") is not None
    if attention == "auto":
        flash = installed and chosen.type == "cuda" and kind in (torch.bfloat16, torch.float16)
        attention = "flash_attention_2" if flash else "sdpa"
    if attention == "flash_attention_2" and not installed:
        raise MissingExtra(
            "the profile asks for flash_attention_2, and the package flash-attn is not installed: install it "
            "(it needs a CUDA compiler), or set attn: sdpa"
        )
    return Placement(chosen, kind, attention)


def offline() -> bool:
    return any(os.environ.get(name, "").upper() in {"1", "TRUE", "YES", "ON"}
               for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))  # fmt: skip


def local(model: str, revision: str | None, code: bool = False) -> Path | None:
    """The folder of a model that is on this machine: a path as it is, or a hub id in the cache; None if absent."""
    if Path(model).is_dir():
        return Path(model)
    try:
        return Path(
            snapshot_download(
                model,
                revision=revision,
                local_files_only=True,
                allow_patterns=[*NEEDED, *(CODE if code else ())],
            )
        )
    except (LocalEntryNotFoundError, OSError, ValueError):
        return None


def fetch(model: str, revision: str | None, code: bool = False) -> Path:
    """As `local`, but what is missing comes from the hub. Raises ModelMissing where it cannot.

    With `code`, the Python files that come with the model are taken along.
    """
    found = local(model, revision, code)
    if found is not None and (Path(model).is_dir() or not _incomplete(found)):
        return found
    if offline() or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        raise ModelMissing(_absent(model, revision))
    try:
        return Path(
            snapshot_download(model, revision=revision, allow_patterns=[*NEEDED, *(CODE if code else ())])
        )
    except Exception as error:  # of the hub, the network, a proxy, the disk: all mean that it is not here
        first = first_line(error)
        raise ModelMissing(f"{_absent(model, revision)} (the hub said: {first})") from error


def _absent(model: str, revision: str | None) -> str:
    known = KNOWN.get(model)
    size = f", {known.gigabytes:g} GB" if known else ""
    pinned = f" --revision {revision}" if revision else ""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return f"there is no folder {model}, and it is not the id of a model on the hub (owner/name): check the profile"
    why = "this machine is offline (HF_HUB_OFFLINE)" if offline() else "it could not be fetched"
    return (
        f"the model {model}{size} is not on this machine, and {why}: fetch it with 'folioscope models pull "
        f"PROFILE' or 'hf download {model}{pinned}' where there is a network, or give the path of its folder as model"
    )


def _incomplete(folder: Path) -> bool:
    return not any(folder.glob("*.safetensors"))


def revision_of(folder: Path) -> str:
    """Names the weights: the hub's commit, or for a plain folder a hash of its settings and samples of its weights.

    Twelve hex digits; for an adapter as many more, after a plus sign, for its base model.
    """
    own = _revision_of(folder)
    if not is_adapter(folder):
        return own
    base = local(base_of(folder), None)
    return f"{own}+{_revision_of(base)}" if base else own


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


def plain(text: str, tokenizer: Any) -> str:
    """`text` without the tokenizer's special tokens: a question that quotes one must not act as one."""
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, " ")
    return " ".join(text.split())


def processor_folder(folder: Path) -> Path:
    """Where the processor is: an adapter may come without one, and uses its base model's."""
    own = any((folder / name).is_file() for name in ("preprocessor_config.json", "processor_config.json"))
    return folder if own else fetch(base_of(folder), None)


def load_processor(cls: Any, folder: Path) -> Any:
    """The processor of class `cls`, an adapter's perhaps from its base model. Raises ModelBroken."""
    where = processor_folder(folder)
    try:
        return cls.from_pretrained(where, local_files_only=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        first = first_line(error)
        raise ModelBroken(f"the processor in {where} cannot be loaded as {cls.__name__}: {first}") from error


def check_template(processor: Any, model: str, *roles: str) -> None:
    """Raises ModelBroken for a checkpoint without a chat template, or whose template knows nothing of these roles.

    Without it, the model would be shown a prompt that it was never trained on, and nothing would tell.
    """
    template = getattr(processor, "chat_template", None) or getattr(
        getattr(processor, "tokenizer", None), "chat_template", None
    )
    if not template:
        raise ModelBroken(
            f"{model} has no chat template (chat_template.jinja): fetch it again, with all of its files"
        )
    text = template if isinstance(template, str) else json.dumps(template)
    lacking = [role for role in roles if role not in text]
    if lacking:
        raise ModelBroken(
            f"the chat template of {model} does not mention {' and '.join(lacking)}: it is not that of a reranker, "
            "and its scores would mean nothing; choose the kind that was written for this model"
        )


def check_files(folder: Path) -> None:
    """Raises ModelBroken, by name, for a weight file that is missing, cut short, or not one."""
    if not (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file():
        raise ModelBroken(f"{folder} holds no model: it has neither config.json nor adapter_config.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        for name in sorted(named):
            if not (folder / name).is_file():
                raise ModelBroken(
                    f"{folder / name} is missing, and {index.name} names it: fetch the model again"
                )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelBroken(f"{folder} holds no weights: no .safetensors file is in it; fetch the model again")
    for path in files:
        try:
            with safe_open(path, "pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelBroken(
                f"{path} is no whole weight file ({error}; it has {path.stat().st_size:,} bytes): fetch it again"
            ) from error


def load_checkpoint(
    cls: Any, folder: Path, placement: Placement, *, may_lack: Iterable[str] = (), may_have: Iterable[str] = (),
    prepare: Callable[[Any], None] = lambda _: None, **options: Any,
) -> Any:  # fmt: skip
    """The model of class `cls` with the weights in `folder`, ready to run.

    A folder with an adapter (LoRA) is put on its base model and merged. `may_lack` and `may_have` are patterns of
    weights that the files need not have, or that the model has no use for. Raises ModelBroken, which names the
    weights that are missing, left over, or of another shape; ModelMissing for an adapter without its base.
    `prepare` may change the model before it goes to its device.
    """
    transformers_logging.disable_progress_bar()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # what its report says is in our error, or of no concern
    check_files(folder)
    if is_adapter(folder):
        check_files(fetch(base_of(folder), None))
    try:
        model, info = cls.from_pretrained(
            folder, dtype=placement.dtype, attn_implementation=placement.attention, local_files_only=True,
            output_loading_info=True, ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        first = first_line(error)
        raise ModelBroken(f"{folder} cannot be loaded as {cls.__name__}: {first}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    _check_loaded(folder, cls.__name__, info, tuple(may_lack), tuple(may_have))
    if is_adapter(folder):
        _merge(model)
    prepare(model)
    return model.to(placement.device).eval().requires_grad_(False)


def is_adapter(folder: Path) -> bool:
    """Whether the folder holds LoRA weights for a base model that is elsewhere."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """The model that an adapter is for: a folder or an id."""
    try:
        named = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return str(named["base_model_name_or_path"])
    except (OSError, ValueError, KeyError) as error:
        raise ModelBroken(
            f"{folder} names no base model in adapter_config.json ({error}): fetch it again"
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
        for keys, what in (
            (missing, "missing"), (left_over, "left over"), (misfits, "of another shape")
        ) if keys
    ]  # fmt: skip
    if faults:
        raise ModelBroken(
            f"the weights in {folder} are not those of {name}: {'; '.join(faults)}. Choose the family or kind that "
            "fits this model, or fetch it again"
        )


def _merge(model: Any) -> None:
    """Fold LoRA's products into the weights: the same function, without the two extra products a layer."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if not layers:
        raise ModelBroken(
            "an adapter was to be loaded, and none of its layers took hold: its target_modules do not fit"
        )
    for layer in layers:
        layer.merge(safe_merge=True)
