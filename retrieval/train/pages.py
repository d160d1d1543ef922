"""Training groups of page images: a question, a page that answers it, and pages that only seem to."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from configs.cores import available_cores
from retrieval.errors import first_line
from retrieval.train.curriculum import Options, TrainingRefused, digest
from retrieval.types import PageContent


@dataclass(frozen=True, slots=True)
class PageGroup:
    """A question, a page that answers it, and negatives."""

    source: str
    question: str
    positive: PageContent
    negatives: tuple[PageContent, ...]
    scores: tuple[float, ...] = ()
    """The teacher's scores of (positive, *negatives), as logits: their softmax is the teacher's distribution.

    Empty without a teacher."""

    @property
    def name(self) -> str:
        """Identifies the positive: two groups with the same name are never in one batch."""
        return self.positive.page.page_id


@dataclass(frozen=True, slots=True)
class LoraOptions(Options):
    """Options of training a vision model by low-rank adaptation (Hu et al., 2021, LoRA)."""

    rank: int = 16
    alpha: int = 32
    """LoRA's products are multiplied by alpha / rank."""
    dropout: float = 0.05
    """Dropout on the input of LoRA's products."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: a third slower, with a fraction of the memory."""

    def faults(self) -> list[str]:
        """Returns a message for each option that is out of range."""
        faults = Options.faults(self)
        if not 0 <= self.dropout < 1:
            faults.append(f"dropout is {self.dropout}: it must be from 0 to below 1")
        return faults


def readable_groups(groups: Sequence[PageGroup], on_note: Callable[[str], None]) -> list[PageGroup]:
    """Returns the groups whose page images can all be read, and reports each of the others to `on_note`.

    Raises TrainingRefused if no group is left.
    """
    pages = {id(page): page for group in groups for page in (group.positive, *group.negatives)}
    with ThreadPoolExecutor(available_cores(), thread_name_prefix="pages") as threads:
        faults = dict(zip(pages, threads.map(_fault, pages.values()), strict=True))
    readable = []
    for group in groups:
        broken = [page for page in (group.positive, *group.negatives) if faults[id(page)]]
        if broken:
            why = faults[id(broken[0])]
            on_note(
                f"skipped the question {group.question!r}: the image of {broken[0].page.name} cannot be read ({why})"
            )
        else:
            readable.append(group)
    if not readable:
        first = next(page for page in pages.values() if faults[id(page)])
        raise TrainingRefused(
            f"none of the {len(groups)} groups can be trained on: each has a page whose image cannot be read; the "
            f"first is {first.page.name} ({faults[id(first)]})"
        )
    return readable


def _fault(page: PageContent) -> str:
    """Returns why the page's image cannot be read, or ""."""
    try:
        page.image().close()
    except (
        Exception
    ) as error:  # from a store, a file or a decoder: in each case there is no image to train on
        return first_line(error)
    return ""


def digest_of(groups: Sequence[PageGroup]) -> str:
    """Returns 16 hex digits that identify the groups, by their `page_id`s, which contain the documents' hashes."""
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
