"""Trains teacher, student and encoder within a budget of seconds, and writes each result as soon as there is one.

The folder that comes back has at most eight files: train.json (figures), log.txt, teacher_scores.npz, and the weights
of reader and encoder without the word table, in float16 and in two parts each. The teacher does not come back.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig

from benchmarks.gpu_train import held
from benchmarks.gpu_train.carry import TABLE, read_minilm, read_mpnet
from benchmarks.gpu_train.clock import Average, Clock, Phase
from benchmarks.gpu_train.encoding import (
    EncoderOptions,
    mine,
    score_held_cosine,
    score_held_words,
    start_from_principal_axes,
    train_encoder,
)
from benchmarks.gpu_train.reading import (
    Course,
    ReaderOptions,
    TeacherScores,
    drop_likely_answers,
    held_of,
    read_scores,
    score_held,
    score_items,
    train_reader,
    write_scores,
)
from benchmarks.gpu_train.resident import Resident
from rerankers.train.reader import Reader
from rerankers.train.rounding import train_rounded
from retrieval.train.minilm import load_bert
from retrieval.train.mpnet import MPNet, MPNetConfig
from retrieval.train.packed import SETS, read_packed
from retrieval.train.small import WEIGHTS
from retrieval.train.words_model import BiEncoder

TEACHER, SCORING, STUDENT = 0.30, 0.085, 0.26
"""Shares of the budget. The encoder gets what is left after loading, mining and measuring."""
RESERVE = 10.0
"""Seconds at the end that no phase uses."""
LIKELY = 0.95
CHECKPOINT = 60.0
"""Seconds between writes of the weights in training."""
SHARES = {
    "questions": 1.0,
    "contrast": 5.0,
    "variants": 0.8,
    "squad": 0.04,
    "tatqa": 0.15,
    "covid": 0.15,
    "policyqa": 0.15,
    "answers": 0.15,
    "new_wiki answers": 1.0,
    "tatqa answers": 1.5,
    "covid answers": 0.3,
    "policyqa answers": 0.2,
    "wikitables": 1.0,
    "spans": 1.0,
    "written": 2.0,
}
"""Of each source's groups, the share that takes part in each pass; above 1 some take part more than once."""
LINES = frozenset({"spans", "written"})
"""Sources whose windows are lines of pages, which are there as words as well."""
PHASES = ("teacher", "reader", "encoder")
OTHER_SHARE = 0.6
PASSES = 40
SMOKE_STEPS = 3
TINY_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY_MPNET = {"width": 48, "layers": 2, "heads": 2, "inner": 96}


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What `fit` was asked for."""

    budget_s: float = 300.0
    device: str = "cuda"
    smoke: bool = False
    """Three steps of each phase, and a fiftieth of the held-out part."""
    tiny: bool = False
    """Small random models of the same architectures."""
    teacher: ReaderOptions = field(default_factory=lambda: ReaderOptions(4e-5, 48))
    student: ReaderOptions = field(default_factory=lambda: ReaderOptions(1.5e-4, 64))
    encoder: EncoderOptions = field(default_factory=EncoderOptions)
    began: float = field(default_factory=time.monotonic)
    """When the budget's seconds began to count, by `time.monotonic`."""
    scored_pieces: int = 200_000
    """Pieces of a batch when scoring."""
    phases: tuple[str, ...] = PHASES
    rounded: bool = False
    """Whether the reader trains with its weights rounded as the export rounds them."""
    frozen: int = 0
    """The lowest layers of MiniLM that are not trained."""
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    measured: float = 1.0
    """The part of the held-out questions that is measured; contrasts always are."""


class Run:
    """One run of `fit`: its data, its clock and its results so far."""

    def __init__(self, folder: Path, out: Path, options: FitOptions, teacher: Path | None) -> None:
        self.clock = Clock(options.budget_s, options.began)
        self.out, self.options = out, options
        out.mkdir(parents=True, exist_ok=True)
        (out / "log.txt").write_text("", encoding="utf-8")
        self.results: dict[str, Any] = {"options": asdict(options)}
        self.device = torch.device(options.device)
        torch.manual_seed(0)
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cuda.enable_cudnn_sdp(False)  # It compiles a plan for every new length.
            self.results["device"] = torch.cuda.get_device_name(self.device)
            self.results["bf16 TFLOP/s"] = round(matrix_rate(self.device) / 1e12, 1)
        self.minilm, facts = read_minilm(folder / "minilm.bin")
        self.bert_config = TINY_BERT if options.tiny else facts["config"]
        continues = torch.zeros(30522, dtype=torch.bool)
        continues[torch.tensor(facts["continues"], dtype=torch.long)] = True
        self.data = Resident(read_packed(folder / "data.xz"), continues, self.device)
        self.teacher_file = teacher or folder / "mpnet.bin"
        self.order = self._order()
        part = 0.02 if options.smoke else options.measured
        self.held, self.held_groups = held_of(self.data, part)
        self.log(f"{len(self.order)} groups in {PASSES} passes, {len(self.held_groups)} held out")

    def log(self, text: str) -> None:
        line = f"{self.clock.elapsed():7.1f} s  {text}"
        print(line, flush=True)
        with (self.out / "log.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def write(self, name: str, figures: dict[str, Any]) -> None:
        """Add a phase's figures to train.json."""
        self.results[name] = figures
        self.results["seconds"] = round(self.clock.elapsed(), 1)
        part = self.out / "train.json.part"
        part.write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        part.replace(self.out / "train.json")

    def phase(self, share: float) -> Phase:
        """Returns a phase of this share of the budget, or of what is left of it, or of three steps."""
        seconds = min(share * self.options.budget_s, self.clock.left() - RESERVE)
        return Phase(max(seconds, 0.0), SMOKE_STEPS if self.options.smoke else 0)

    def _order(self) -> Tensor:
        """Returns the groups of many passes, each shuffled: of each source the share that SHARES says."""
        packed, rng = self.data.packed, np.random.default_rng(0)
        fitted = np.flatnonzero(packed.group_set < SETS.index("held"))
        source = packed.question_source[packed.group_question[fitted]]
        unknown = self.options.shares.keys() - SHARES.keys() - set(packed.sources)
        if unknown:
            raise SystemExit(
                f"no source is named {', '.join(sorted(unknown))}: there are {', '.join(packed.sources)}"
            )
        share = np.array([self.options.shares.get(name, OTHER_SHARE) for name in packed.sources])[source]
        passes = []
        for _ in range(PASSES):
            chosen = fitted.repeat((share + rng.random(len(fitted))).astype(np.int64))
            rng.shuffle(chosen)
            passes.append(chosen)
        return torch.from_numpy(np.concatenate(passes)).to(self.device)

    def without_lines(self) -> Tensor:
        """Returns the groups of many passes without those whose windows are lines of pages.

        A page's windows of words would be negatives of its own lines in a batch of the encoder.
        """
        packed = self.data.packed
        lines = torch.tensor([name in LINES for name in packed.sources], device=self.device)
        source = torch.from_numpy(packed.question_source.astype(np.int64)).to(self.device)
        return self.order[~lines[source[self.data.group_question[self.order]]]]

    def load_minilm(self) -> nn.Module:
        """Returns MiniLM with all but its word table, and the lowest layers if so asked, to be trained."""
        with tempfile.TemporaryDirectory() as folder:
            self.write_minilm(Path(folder))
            bert = load_bert(Path(folder))
        if self.device.type == "cpu":
            bert.config._attn_implementation = "eager"  # Fused attention is slow backwards on a CPU.
        thawed(bert)
        if self.options.frozen:
            for frozen in (bert.embeddings, *bert.encoder.layer[: self.options.frozen]):
                frozen.requires_grad_(False)
        return bert

    def write_minilm(self, folder: Path) -> None:
        """Write MiniLM as a folder of transformers."""
        config = BertConfig(**self.bert_config)
        config.save_pretrained(folder)
        if self.options.tiny:
            from transformers import BertModel

            weights = {
                k: v.contiguous() for k, v in BertModel(config, add_pooling_layer=False).state_dict().items()
            }
        else:
            weights = {name: torch.from_numpy(value) for name, value in self.minilm.items()}
        save_file(weights, folder / "model.safetensors")

    def load_teacher(self) -> Reader:
        model = read_mpnet(self.teacher_file)
        if self.options.tiny:
            model = MPNet(MPNetConfig(**TINY_MPNET), model.rows)
        return Reader(model, model.config.width).to(self.device)

    def measure_reader(self, model: nn.Module, *, plainly: bool) -> dict[str, Any]:
        """Returns a reader's figures on the held-out part. plainly: also those of pairs without headings."""
        most = self.options.scored_pieces
        tables = {k: v.numpy() for k, v in score_held(model, self.data, self.held_groups, most=most).items()}
        figures = held.measured(self.held, tables["relevance"])
        if plainly:
            plain = score_held(model, self.data, self.held_groups, most=most, headings=False)["relevance"]
            figures["ranking without headings"] = held.ranking(self.held, plain.numpy())["all"]
        figures["spans"] = held.spans(self.held, tables["best_first"], tables["best_last"])
        figures["contrast spans"] = held.spans(
            self.held, tables["best_first"], tables["best_last"], "held contrast"
        )
        figures["evidence"] = held.evidence(self.held, tables["evidence"])
        figures["unanswerable AUC"] = held.unanswerable_auc(self.held, tables["answerable"])
        figures["unanswerable AUC by relevance"] = held.unanswerable_auc(self.held, tables["relevance"])
        return figures

    def course_figures(self, course: Course, phase: Phase, model: nn.Module) -> dict[str, Any]:
        seconds = phase.elapsed()
        figures: dict[str, Any] = {
            "seconds": round(seconds, 1),
            "steps": course.steps,
            "pairs": course.pairs,
            "pairs/s": round(course.pairs / max(seconds, 1e-9), 1),
            "stopped": course.stopped,
            "losses": course.losses,
        }
        if self.device.type == "cuda":
            inside = sum(w.numel() for n, w in model.named_parameters() if ".layer." in n)
            rate = 6 * inside * course.pieces / max(seconds, 1e-9)
            figures["TFLOP/s"] = round(rate / 1e12, 1)
            figures["share of the matrix rate"] = round(rate / 1e12 / self.results["bf16 TFLOP/s"], 3)
            figures["peak GiB"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
            torch.cuda.reset_peak_memory_stats()
        return figures


def matrix_rate(device: torch.device, size: int = 8192, repeats: int = 10) -> float:
    """Returns the bf16 operations per second of a large matrix product, to compare a training with."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    began = time.monotonic()
    for _ in range(repeats):
        a @ b
    torch.cuda.synchronize()
    return repeats * 2 * size**3 / (time.monotonic() - began)


def thawed(bert: nn.Module) -> nn.Module:
    """Returns the model with everything to be trained but the word table, which all models share."""
    bert.requires_grad_(True)
    table: Any = bert.get_submodule("embeddings.word_embeddings")
    table.requires_grad_(False)
    return bert


def save_parts(model: nn.Module, out: Path, name: str) -> None:
    """Write the weights without the word table to `name-1.safetensors` and `name-2.safetensors`, in float16."""
    weights = {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items() if k != TABLE}
    half = sum(v.numel() for v in weights.values()) / 2
    parts: list[dict[str, Tensor]] = [{}, {}]
    size = 0
    for key, value in weights.items():
        parts[int(size >= half)][key] = value
        size += value.numel()
    for number, part in enumerate(parts, start=1):
        path = out / f"{name}-{number}.safetensors"
        save_file(part, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)


def fit(
    folder: Path,
    out: Path,
    options: FitOptions,
    *,
    teacher: Path | None = None,
    start: Path | None = None,
    scores: Path | None = None,
) -> dict[str, Any]:
    """Train the models on the packed data in `folder`; returns the figures that train.json has.

    teacher: the file that the teacher starts from, by default mpnet.bin in `folder`. start: a folder with the weights
    that the reader starts from. scores: the teacher's scores of an earlier run with the same data.
    """
    run = Run(folder, out, options, teacher)
    known: TeacherScores | None
    if scores:
        known = read_scores(scores, run.data)
        run.log(f"{drop_likely_answers(run.data, known, LIKELY)} negatives dropped by earlier scores")
    else:
        _baselines(run)
        known = _teacher(run) if "teacher" in options.phases else None
    if "reader" in options.phases:
        _student(run, known, start)
    if "encoder" in options.phases:
        _encoder(run, known)
    run.log("done")
    return run.results


def _baselines(run: Run) -> None:
    """Measure BM25 and the untrained MiniLM, and mine negatives with it."""
    bert = run.load_minilm().to(run.device).eval()
    most = run.options.scored_pieces
    cosine = score_held_cosine(bert, run.data, run.held_groups, most).numpy()
    figures: dict[str, Any] = {
        "BM25": {"ranking": held.ranking(run.held, run.held.lexical())},
        "MiniLM, untrained": held.measured(run.held, cosine),
        "mined": 0 if run.options.smoke and run.device.type == "cpu" else mine(bert, run.data, most),
    }
    run.write("baselines", figures)
    run.log(f"MiniLM, untrained: {held.headline(figures['MiniLM, untrained'])}; mined {figures['mined']}")


def _trained(
    run: Run, name: str, steps: Any, phase: Phase, model: nn.Module, save: Callable[[], None]
) -> Average:
    """Run a training's steps, log them, and write the averaged weights from time to time; returns the average."""
    written = time.monotonic()
    for course, trainer in steps:
        if course.steps % 50 == 1 and course.losses:
            run.log(f"{name}: step {course.steps}, loss {course.losses[-1][1]}, {course.pairs} pairs")
        if time.monotonic() - written > CHECKPOINT:
            written = time.monotonic()
            with trainer.average.applied():
                save()
    run.write(name, run.course_figures(course, phase, model))
    average: Average = trainer.average
    return average


def _teacher(run: Run) -> TeacherScores:
    model = run.load_teacher()
    phase = run.phase(TEACHER)
    steps = train_reader(model, run.data, run.order, run.options.teacher, phase)
    with _trained(run, "teacher", steps, phase, model, lambda: None).applied():
        model.eval()
        figures = run.measure_reader(model, plainly=False)
        run.write("teacher", run.results["teacher"] | {"held": figures})
        run.log(
            f"teacher: {held.headline(figures)}, AUC {figures['unanswerable AUC']}, spans {figures['spans']}"
        )
        fitted = (run.data.group_set < SETS.index("held")).nonzero()[:, 0]
        asked = run.order.unique() if run.options.smoke else fitted
        phase = run.phase(SCORING)
        scores, done = score_items(model, run.data, asked, phase, most=run.options.scored_pieces)
    write_scores(run.out / "teacher_scores.npz", run.data, scores, asked)
    dropped = drop_likely_answers(run.data, scores, LIKELY)
    seconds = phase.elapsed()
    run.write(
        "scoring",
        {
            "pairs": done,
            "of": int(run.data.count[asked].sum()),
            "seconds": round(seconds, 1),
            "pairs/s": round(done / max(seconds, 1e-9), 1),
            "dropped negatives": dropped,
        },
    )
    run.log(f"the teacher scored {done} pairs and dropped {dropped} negatives")
    return scores


def _student(run: Run, teacher: TeacherScores | None, start: Path | None) -> None:
    bert = run.load_minilm()
    model = Reader(bert, run.bert_config["hidden_size"]).to(run.device)
    if start:
        model.load_state_dict(load_file(start / WEIGHTS))
    if run.options.rounded:
        train_rounded(bert)
    phase = run.phase(STUDENT if "teacher" in run.options.phases else 1.0)
    state = run.out / "reader.state" if start else None
    steps = train_reader(model, run.data, run.order, run.options.student, phase, teacher, state)

    def save() -> None:
        save_parts(model, run.out, "reader")

    with _trained(run, "reader", steps, phase, model, save).applied():
        model.eval()
        save()
        figures = run.measure_reader(model, plainly=True)
    run.write("reader", run.results["reader"] | {"held": figures})
    run.log(
        f"reader: {held.headline(figures)}, AUC {figures['unanswerable AUC']}, spans {figures['spans']}, "
        f"evidence {figures['evidence']}"
    )


def _encoder(run: Run, teacher: TeacherScores | None) -> None:
    options = run.options.encoder
    with tempfile.TemporaryDirectory() as folder:
        run.write_minilm(Path(folder))
        model = BiEncoder(Path(folder), dim=options.dim, frozen_layers=0, markers=True)
    thawed(model.bert)
    model.to(run.device)
    some = run.order[:400]
    start_from_principal_axes(model, run.data, run.data.window[some, 0])
    most = run.options.scored_pieces
    before = held.ranking(run.held, score_held_words(model, run.data, run.held_groups, most=most).numpy())[
        "all"
    ]
    phase = run.phase(1.0)
    steps = train_encoder(model, run.data, run.without_lines(), options, phase, teacher)

    def save() -> None:
        save_parts(model, run.out, "encoder")

    with _trained(run, "encoder", steps, phase, model, save).applied():
        model.eval()
        save()
        scores = score_held_words(model, run.data, run.held_groups, most=most).numpy()
        figures = held.measured(run.held, scores) | {"before": before}
    run.write("encoder", run.results["encoder"] | {"held": figures})
    run.log(f"encoder: {held.headline(figures)} (before: {before})")
