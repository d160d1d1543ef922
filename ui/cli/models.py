"""`folioscope models`: which models a profile needs, which of them are here, and fetching the rest."""

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
    role: str  # encoder or reranker
    model: str
    revision: str | None


def needed(settings: configs.Settings) -> Iterator[Needed]:
    """The torch models of a profile; the small ones that ship are not among them."""
    reranker = settings.reranker
    members = reranker.members if isinstance(reranker, configs.Ensemble) else (reranker,)
    for role, part in (("encoder", settings.encoder), *(("reranker", member) for member in members)):
        if isinstance(part, configs.TorchModel):
            yield Needed(role, part.model, part.revision)


def describe(model: str) -> str:
    """What is known of it, for a table: size and licence."""
    known = KNOWN.get(model)
    return f"{known.gigabytes:g} GB, {known.licence}" if known else "size and licence unknown to Folioscope"


def size_of(folder: Path) -> float:
    """Gigabytes on disk; a hub's snapshot holds links to its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9


def look(row: Needed) -> tuple[bool, str]:
    """Whether the model is here and whole, and what to say of it. Raises MissingExtra on a machine without torch."""
    checkpoints = _checkpoints()
    named = f"{row.role} {row.model}"
    folder = checkpoints.local(row.model, row.revision)
    if folder is None:
        fetch = f"hf download {row.model}" + (f" --revision {row.revision}" if row.revision else "")
        return False, f"{named}: {describe(row.model)}; to have it: {fetch}"
    try:
        checkpoints.check_files(folder)
        base = checkpoints.base_of(folder) if checkpoints.is_adapter(folder) else ""
    except ModelBroken as error:
        return False, str(error)
    if base and checkpoints.local(base, None) is None:
        return False, f"{named}: its base {base}; to have it: hf download {base}"
    return True, f"{named}@{checkpoints.revision_of(folder)}: {size_of(folder):.1f} GB in {folder}"


def list_all(settings: configs.Settings, profile: str, as_json: bool) -> None:
    """Print the models that the profile needs, and whether each is here."""
    rows = list(needed(settings))
    if as_json:
        models = [
            {**asdict(row), "here": here, "message": said} for row in rows for here, said in [look(row)]
        ]
        terminal.print_json({"profile": profile, "models": models})
        return
    if not rows:
        terminal.console.print("This profile needs no models but those that ship with Folioscope.")
    for row in rows:
        found, said = look(row)
        terminal.console.print(f"  {'here' if found else 'MISSING':8} {said}")


def pull(settings: configs.Settings, profile: str, as_json: bool) -> None:
    """Fetch the models that are missing, with the base models of adapters. Raises ModelMissing if that fails.

    With `as_json` what happens is printed on standard error, and one object on standard output at the end.
    """
    console = terminal.errors if as_json else terminal.console
    rows = list(needed(settings))
    fetched = []
    if not rows:
        console.print(f"{profile} needs no models but those that ship with Folioscope.")
    for row in rows:
        checkpoints = _checkpoints()
        if checkpoints.local(row.model, row.revision) is None:
            console.print(f"fetching {row.role} {row.model} ({describe(row.model)})")
        folder = checkpoints.fetch(row.model, row.revision)
        if checkpoints.is_adapter(folder):
            base = checkpoints.base_of(folder)
            console.print(f"  it is an adapter for {base}")
            checkpoints.check_files(checkpoints.fetch(base, None))
        checkpoints.check_files(folder)
        console.print(f"{row.model}: {size_of(folder):.1f} GB, whole")
        if folder.parent.name == "snapshots":
            console.print(f"  to pin it, write in the profile under {row.role}: revision: {folder.name}")
        size = round(size_of(folder), 3)
        fetched.append({**asdict(row), "revision": folder.name, "folder": folder, "gigabytes": size})
    if as_json:
        terminal.print_json({"profile": profile, "models": fetched})


def _checkpoints() -> ModuleType:
    """Raises MissingExtra on a machine without torch."""
    try:
        from retrieval.models import checkpoints
    except ImportError as error:
        raise missing_extra(error) from error
    return checkpoints
