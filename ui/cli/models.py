"""Runs `folioscope models`: lists the models that a profile needs, and fetches those that are missing."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

import configs.settings as configs
from configs.models import KNOWN
from retrieval.errors import ModelBroken, missing_extra
from ui.cli import terminal


@dataclass(frozen=True, slots=True)
class Needed:
    """A model that a profile needs."""

    role: str  # encoder, reranker or sparse
    model: str
    revision: str | None


def needed(settings: configs.Settings) -> Iterator[Needed]:
    """Yield the torch models of a profile, without the small models that ship with Folioscope."""
    reranker = settings.reranker
    members = reranker.members if isinstance(reranker, configs.Ensemble) else (reranker,)
    parts = [("encoder", settings.encoder), *(("reranker", member) for member in members)]
    for role, part in (*parts, ("sparse", settings.search.sparse)):
        if isinstance(part, configs.TorchModel):
            yield Needed(role, part.model, part.revision)


def describe(model: str) -> str:
    """Return the model's size and licence in words."""
    known = KNOWN.get(model)
    return (
        f"{known.gigabytes:g} GB, {known.licence}"
        if known
        else "Folioscope does not know its size and licence"
    )


def size_of(folder: Path) -> float:
    """Return the size of a folder in gigabytes. Links are followed, since the hub's snapshots consist of links."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def check_model(row: Needed) -> tuple[bool, str]:
    """Return whether the complete model is on this machine, and a message. Raises MissingExtra without torch."""
    checkpoints = _checkpoints()
    name = f"{row.role} {row.model}"
    folder = checkpoints.local_folder(row.model, row.revision)
    if folder is None:
        fetch = f"hf download {row.model}" + (f" --revision {row.revision}" if row.revision else "")
        return False, f"{name}: {describe(row.model)}; to fetch it: {fetch}"
    try:
        checkpoints.check_files(folder)
        base = checkpoints.base_of(folder) if checkpoints.is_adapter(folder) else ""
    except ModelBroken as error:
        return False, str(error)
    if base and checkpoints.local_folder(base, None) is None:
        return False, f"{name}: its base model {base} is missing; to fetch it: hf download {base}"
    return True, f"{name}@{checkpoints.revision_of(folder)}: {size_of(folder):.1f} GB in {folder}"


def list_all(settings: configs.Settings, profile: str, as_json: bool) -> None:
    """Print the models that the profile needs, and whether each is on this machine."""
    rows = list(needed(settings))
    if as_json:
        models = [
            {**asdict(row), "is_local": is_local, "message": message}
            for row in rows
            for is_local, message in [check_model(row)]
        ]
        terminal.print_json({"profile": profile, "models": models})
        return
    if not rows:
        terminal.console.print("This profile needs only models that ship with Folioscope.")
    for row in rows:
        is_local, message = check_model(row)
        terminal.console.print(f"  {'ok' if is_local else 'MISSING':8} {message}")


def pull(settings: configs.Settings, profile: str, as_json: bool) -> None:
    """Fetch the missing models, and the base models of adapters. Raises ModelMissing if that fails.

    With `as_json` progress is printed on standard error, and one object on standard output at the end.
    """
    console = terminal.errors if as_json else terminal.console
    rows = list(needed(settings))
    fetched = []
    if not rows:
        console.print(f"{profile} needs only models that ship with Folioscope.")
    for row in rows:
        checkpoints = _checkpoints()
        if checkpoints.local_folder(row.model, row.revision) is None:
            console.print(f"fetching {row.role} {row.model} ({describe(row.model)})")
        folder = checkpoints.fetch_checkpoint(row.model, row.revision)
        if checkpoints.is_adapter(folder):
            base = checkpoints.base_of(folder)
            console.print(f"  it is an adapter for {base}")
            checkpoints.check_files(checkpoints.fetch_checkpoint(base, None))
        checkpoints.check_files(folder)
        console.print(f"{row.model}: {size_of(folder):.1f} GB, complete")
        if folder.parent.name == "snapshots":
            console.print(
                f"  to pin this revision, add to {row.role} in the profile: revision: {folder.name}"
            )
        size = round(size_of(folder), 3)
        fetched.append({**asdict(row), "revision": folder.name, "folder": folder, "gigabytes": size})
    if as_json:
        terminal.print_json({"profile": profile, "models": fetched})


def _checkpoints() -> ModuleType:
    """Import the module that reads torch checkpoints. Raises MissingExtra on a machine without torch."""
    try:
        from retrieval.models import checkpoints
    except ImportError as error:
        raise missing_extra(error) from error
    return checkpoints
