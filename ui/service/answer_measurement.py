"""Measures the answers of one profile on a data set with gold answers. Nothing in this file prints."""

from dataclasses import dataclass
from pathlib import Path

import configs.settings as configs
from retrieval.errors import NotFound
from retrieval.evaluation import answers, gold
from retrieval.evaluation.answer_tally import Refusal, Tally, refusal, tallies
from retrieval.evaluation.answers import JudgedAnswer, Signs
from ui import factory
from ui.service.measurement import OnProgress, open_ingested, own_index


@dataclass(frozen=True, slots=True)
class AnswerRun:
    """A data set's questions, and others that no page answers, searched for through one profile."""

    profile: str
    dataset: str  # name
    judged: tuple[JudgedAnswer, ...]  # for each question of the data set
    unanswered: tuple[Signs, ...]  # for each question that no page answers

    def tallies(self) -> list[Tally]:
        return tallies(self.judged)

    def refusal(self) -> Refusal | None:
        """Return None if there are no questions that no page answers."""
        return refusal([each.signs for each in self.judged], self.unanswered) if self.unanswered else None


def measure_answers(
    place: str,
    *,
    gold_file: Path | None,
    unanswered: Path | None,
    index: str,
    profile: str,
    within: bool,
    on_progress: OnProgress,
) -> AnswerRun:
    """Ingest the missing documents of the data set at `place`, search for every question, and judge what is shown.

    gold_file: None for the data set's answers.jsonl. unanswered: None for its unanswered.jsonl, which may be missing.
    index: the folder of the index; "" for that of `own_index`. within: search only the document of each question.
    Raises NotFound if a file is missing.
    """
    settings = configs.load_profile(profile)
    folder = Path(index) if index else own_index(place, profile)
    dataset, store, encoder = open_ingested(place, folder, settings, on_progress)
    gold_file = gold_file or dataset.folder / "answers.jsonl"
    for path in filter(None, (gold_file, unanswered)):
        if not path.is_file():
            raise NotFound(
                f"there is no file {path}: name the file of answers, or of questions without answers"
            )
    unanswered = unanswered or dataset.folder / "unanswered.jsonl"
    answered = gold.read_gold(gold_file, dataset)
    others = gold.read_unanswered(unanswered) if unanswered.is_file() else ()
    searcher = factory.build_searcher(store, encoder, settings)
    total = len(dataset.questions) + len(others)
    on_progress(f"searching for {total} questions")

    def report(done: int) -> None:
        on_progress(f"searched for {done} of {total} questions")

    judged = tuple(
        answers.judge_answers(dataset, answered, searcher, store, within=within, on_progress=report)
    )
    refused = tuple(
        answers.judge_refusals(
            others, searcher, within=within, on_progress=lambda done: report(len(judged) + done)
        )
    )
    return AnswerRun(profile, dataset.name, judged, refused)
