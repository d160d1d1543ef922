"""Trains a vision-language model by low-rank adaptation (Hu et al., 2021, LoRA), and can be stopped and resumed.

Each attention and MLP projection of the language model gets a trained product of two thin matrices, and so does
ColQwen's projection to its vectors. All other weights are frozen, in particular the vision tower's.

In the folder of the training (`retrieval.train.training_run`), `adapter/` holds the adapter in peft's format, and
`merged/` the adapter merged into its base model, ready to load.
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
from retrieval.train import training_run
from retrieval.train.curriculum import OnProgress, TrainingRefused, batch_at, curriculum
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
"""in_proj_* and out_proj belong to the linear attention of Qwen3.5."""
WRITTEN_WITH_WEIGHTS = ("config.json", "generation_config.json")
"""Files of a checkpoint that `save_pretrained` writes; the others are copied."""

Loss = Callable[[Sequence[PageGroup]], Iterator[Tensor]]
"""Yields parts of a batch's loss, which is their sum: each part's graph is freed before the next is computed."""


@dataclass(frozen=True, slots=True)
class Base:
    """The model that LoRA is put on."""

    model: Any
    placement: Placement
    folder: Path
    settings: Any  # a pydantic model with `model` and `revision`


def train_adapter(
    base: Base,
    loss: Loss,
    groups: Sequence[PageGroup],
    out: Path,
    *,
    options: LoraOptions,
    on_progress: OnProgress,
) -> None:
    """Train until `options.steps` are done, and write `out/adapter/`. A training that was stopped is resumed.

    Raises TrainingRefused as `training_run.start_or_resume` and `training_run.run_steps` do.
    """
    record = {
        "settings": base.settings.model_dump(mode="json"),
        "revision": checkpoints.revision_of(base.folder),
        "options": asdict(options),
        "groups": f"{len(groups)} groups ({digest_of(groups)})",
    }
    training_run.start_or_resume(out, record, [group.question for group in groups])
    device = base.placement.device
    with training_run.seeded(options.seed, device):
        model = adapted(base.model, base.settings.model, base.settings.revision, options)
        weights = training_run.trained_weights(model).values()
        optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=0.0)
        course = curriculum(groups)

        def parts(step: int) -> Iterator[Tensor]:
            return loss(batch_at(course, step, options))

        training_run.run_steps(
            model, optimizer, parts, out, options=options, on_progress=on_progress, device=device
        )
    _write_adapter(model, out)


def merge_adapter(out: Path, load_base: Callable[[Mapping[str, Any]], Base]) -> Path:
    """Merge `out/adapter/` into its base model, and return the folder `out/merged/`, a complete checkpoint.

    load_base: returns the base model for the settings that the training started with. Raises TrainingRefused if the
    training is not done, or the base model has other weights than at its start.
    """
    adapter = out / "adapter"
    if not (adapter / "adapter_config.json").is_file():
        raise TrainingRefused(
            f"{adapter} does not exist: the training in {out} is not done",
            remedy="run 'folioscope train fit' again with the same options, which resumes it",
        )
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    base = load_base(record["settings"])
    revision = checkpoints.revision_of(base.folder)
    if revision != record["revision"]:
        raise TrainingRefused(
            f"{base.folder} holds the weights {revision}, but the training in {out} started from {record['revision']}",
            remedy=f"restore the weights {record['revision']}",
        )
    merged = PeftModel.from_pretrained(_without_adapter(base.model), adapter).merge_and_unload(
        safe_merge=True
    )
    with training_run.new_folder(out / "merged") as folder:
        merged.save_pretrained(
            folder, save_original_format=False
        )  # True would write an adapter's base's names
        _copy_processor(checkpoints.processor_folder(base.folder), folder)
    return out / "merged"


@contextmanager
def autocast(placement: Placement) -> Iterator[None]:
    """Compute matrix products in bfloat16 on a GPU, and in the weights' dtype elsewhere."""
    with torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.device.type == "cuda"):
        yield


def with_distillation(loss: Tensor, logits: Tensor, scores: Sequence[float], options: LoraOptions) -> Tensor:
    """Returns the loss () of one group, with the teacher's share if there are scores.

    logits (n,) and scores (n,) or () are of the same pages.
    """
    teacher = torch.tensor([scores or [float("-inf")] * len(logits)], device=logits.device)
    scored = torch.tensor([bool(scores)], device=logits.device)
    return training_run.with_distillation(
        loss[None], logits[None], scores=teacher, scored=scored, options=options
    )


def adapted(model: Any, name: str, revision: str | None, options: LoraOptions) -> Any:
    """Returns the model with an adapter to train, in training mode. name, revision: of its weights, for the record."""
    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=TARGETS
    )
    made = get_peft_model(_without_adapter(model), config)
    config.base_model_name_or_path, config.revision = name, revision
    if options.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return made.train()


def _without_adapter(model: Any) -> Any:
    """Returns the model without the wrappers of an adapter that was merged into its weights when it was loaded."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, layer.get_base_layer())
    if getattr(model, "_hf_peft_config_loaded", False):
        model._hf_peft_config_loaded = False
        del model.peft_config
    return model


def _write_adapter(model: Any, out: Path) -> None:
    with training_run.new_folder(out / "adapter") as folder:
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty form for a model card


def _copy_processor(source: Path, folder: Path) -> None:
    """Copy the files of tokenizer, image processor and templates."""
    for path in sorted(source.iterdir()):
        of_processor = (
            path.suffix in {".json", ".txt", ".model", ".jinja"}
            and path.name not in WRITTEN_WITH_WEIGHTS
            and not re.match(r"adapter_|.*\.index\.json$", path.name)
        )
        if path.is_file() and of_processor:
            shutil.copyfile(path, folder / path.name)
    for templates in source.glob("additional_chat_templates"):
        shutil.copytree(templates, folder / templates.name)
