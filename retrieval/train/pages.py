"""Training groups of page images: one question, a page that answers it, pages that only look as if they did."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from retrieval.errors import first_line
from retrieval.train.course import Options, TrainingRefused, digest
from retrieval.types import PageContent


@dataclass(frozen=True, slots=True)
class PageGroup:
    source: str
    question: str
    positive: PageContent
    negatives: tuple[PageContent, ...]
    scores: tuple[float, ...] = ()
    """The teacher's, of (positive, *negatives), on the scale of logits: their softmax is what it believes.

    Empty where there is no teacher."""

    @property
    def name(self) -> str:
        return self.positive.page.page_id


@dataclass(frozen=True, slots=True)
class LoraOptions(Options):
    """How a vision model is fitted by low-rank adaptation (Hu et al., 2021, LoRA)."""

    rank: int = 16
    alpha: int = 32
    """The products of LoRA are multiplied by alpha / rank."""
    dropout: float = 0.05
    """Of what goes into LoRA's products."""
    gradient_checkpointing: bool = False
    """Activations are computed again on the way back: a third slower, in a fraction of the memory."""

    def faults(self) -> list[str]:
        found = Options.faults(self)
        if not 0 <= self.dropout < 1:
            found.append(f"dropout is {self.dropout}: it must be from 0 to below 1")
        return found


def readable(groups: Sequence[PageGroup], on_progress: Callable[[str], None]) -> list[PageGroup]:
    """The groups whose pages can all be shown; each of the others is told.

    Raises TrainingRefused where none is left.
    """
    pages = {id(page): page for group in groups for page in (group.positive, *group.negatives)}
    with ThreadPoolExecutor(thread_name_prefix="pages") as threads:
        faults = dict(zip(pages, threads.map(_fault, pages.values()), strict=True))
    found = []
    for group in groups:
        broken = [page for page in (group.positive, *group.negatives) if faults[id(page)]]
        if broken:
            why = faults[id(broken[0])]
            on_progress(
                f"left out: the question {group.question!r}, as {broken[0].page.name} cannot be shown ({why})"
            )
        else:
            found.append(group)
    if not found:
        raise TrainingRefused(
            f"none of the {len(groups)} groups is left: each has a page that cannot be shown; the first is "
            f"{next(page for page in pages.values() if faults[id(page)]).page.name}"
        )
    return found


def _fault(page: PageContent) -> str:
    try:
        page.image().close()
    except Exception as error:  # of a store, a file, a decoder: all mean that there is nothing to look at
        return first_line(error)
    return ""


def digest_of(groups: Sequence[PageGroup]) -> str:
    """Names the groups: 16 hex digits. Pages count by their `page_id`, which holds the hash of their document."""
    return digest(
        [
            [
                g.source,
                g.question,
                g.name,
                [page.page.page_id for page in g.negatives],
                [float(s) for s in g.scores],
            ]
            for g in groups
        ]
    )
