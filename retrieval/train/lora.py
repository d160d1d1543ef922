"""Low-rank adaptation (Hu et al., 2021, LoRA) of a vision-language model, so that it can be stopped and gone on with.

The language model's attention and MLP projections each get a product of two thin matrices that is trained, and so
does ColQwen's projection to its vectors; all else, the vision tower above all, stays as it is.

In the folder of the training (`retrieval.train.run`), `adapter/` is the result, in peft's format, and `merged/` the
result folded into its base, ready to be loaded.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from retrieval.errors import missing_extra
from retrieval.models import checkpoints
from retrieval.models.checkpoints import Placement
from retrieval.train import run
from retrieval.train.course import OnProgress, TrainingRefused, batch_at, curriculum
from retrieval.train.pages import LoraOptions, PageGroup, digest_of

try:
    from peft import LoraConfig, PeftModel, get_peft_model
    from peft.tuners.tuners_utils import BaseTunerLayer
except ImportError as error:
    raise missing_extra(error) from error

TARGETS = (
    r"(.*\.)?language_model\..*\.(q_proj|k_proj|v_proj|o_proj|in_proj_qkv|in_proj_z|out_proj"
    r"|gate_proj|up_proj|down_proj)|(.*\.)?custom_text_proj"
)
"""in_proj_* and out_proj: the linear attention of Qwen3.5."""
REPLACED = ("config.json", "generation_config.json")
"""Files of a checkpoint that are written anew with its weights; the others are copied."""

Loss = Callable[[Sequence[PageGroup]], Iterator[Tensor]]
"""The loss of a batch, in parts whose sum it is: each part's graph is freed before the next is made."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model that LoRA is put on."""

    model: Any
    placement: Placement
    folder: Path
    settings: Any  # a pydantic model with `model` and `revision`


def fit(
    base: Base,
    loss: Loss,
    groups: Sequence[PageGroup],
    out: Path,
    options: LoraOptions,
    on_progress: OnProgress,
) -> None:
    """Train until `options.steps` are done, and write `out/adapter/`. What was done before is not done again.

    Raises TrainingRefused as `run.remember` and `run.train` do.
    """
    record = {
        "settings": base.settings.model_dump(mode="json"),
        "revision": checkpoints.revision_of(base.folder),
        "options": asdict(options),
        "groups": f"{len(groups)} groups ({digest_of(groups)})",
    }
    run.remember(out, record, [group.question for group in groups])
    device = base.placement.device
    with run.seeded(options.seed, device):
        model = _adapted(base, options)
        weights = run.trained(model).values()
        optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=0.0)
        course = curriculum(groups)

        def parts(step: int) -> Iterator[Tensor]:
            return loss(batch_at(course, step, options))

        run.train(model, optimizer, parts, out, options, on_progress, device)
    _write_adapter(model, out)


def merge(out: Path, load: Callable[[Mapping[str, Any]], Base]) -> Path:
    """Fold `out/adapter/` into its base: the folder `out/merged/`, a whole checkpoint of the base's own kind.

    `load` gives the base of the settings that the training was begun with. Raises TrainingRefused where the
    training has not come to its end, or the base is not what it was.
    """
    adapter = out / "adapter"
    if not (adapter / "adapter_config.json").is_file():
        raise TrainingRefused(
            f"{adapter} is not there: the training has not come to its end; call fit until it has"
        )
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    base = load(record["settings"])
    revision = checkpoints.revision_of(base.folder)
    if revision != record["revision"]:
        raise TrainingRefused(
            f"{base.folder} holds {revision}, and the training in {out} was of {record['revision']}: "
            "give back the weights that it began with"
        )
    merged = PeftModel.from_pretrained(_bare(base.model), adapter).merge_and_unload(safe_merge=True)
    with run.new_folder(out / "merged") as folder:
        merged.save_pretrained(folder, save_original_format=False)  # else with names for an adapter's base
        _copy_processor(checkpoints.processor_folder(base.folder), folder)
    return out / "merged"


@contextmanager
def autocast(placement: Placement) -> Iterator[None]:
    """bfloat16 products on a GPU; elsewhere the weights' own."""
    with torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.device.type == "cuda"):
        yield


def distilled(loss: Tensor, logits: Tensor, scores: Sequence[float], options: LoraOptions) -> Tensor:
    """`loss` of one group with its teacher's share; logits (n,) and scores (n,) or () are of the same pages."""
    teacher = torch.tensor([scores or [float("-inf")] * len(logits)], device=logits.device)
    known = torch.tensor([bool(scores)], device=logits.device)
    return run.distilled(loss[None], logits[None], teacher, known, options)


def _adapted(base: Base, options: LoraOptions) -> Any:
    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=TARGETS
    )
    model = get_peft_model(_bare(base.model), config)
    config.base_model_name_or_path, config.revision = base.settings.model, base.settings.revision
    if options.gradient_checkpointing:
        base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model.train()


def _bare(model: Any) -> Any:
    """The model without the wrappers of an adapter that was folded into its weights when it was loaded."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if getattr(model, "_hf_peft_config_loaded", False):
        model._hf_peft_config_loaded = False
        del model.peft_config
    return model


def _write_adapter(model: Any, out: Path) -> None:
    with run.new_folder(out / "adapter") as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's form for a model card, not filled in


def _copy_processor(source: Path, folder: Path) -> None:
    """Tokenizer, image processor and templates, byte for byte."""
    for path in sorted(source.iterdir()):
        wanted = path.suffix in {".json", ".txt", ".model", ".jinja"} and path.name not in REPLACED
        if path.is_file() and wanted and not re.match(r"adapter_|.*\.index\.json$", path.name):
            shutil.copyfile(path, folder / path.name)
    for templates in source.glob("additional_chat_templates"):
        shutil.copytree(templates, folder / templates.name)
