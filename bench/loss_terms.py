"""What loss terms are for: each trained beside the default, in worlds that differ in what z_I tells of the line.

    python bench/loss_terms.py --worlds nuisance,usage,default --out bench/results/loss_terms

Every run trains the real module on sim1 to sim8 in one process without Ray and is judged on the held-out stretches of
three lines that no run trains on: with one number in --epochs after the preset's cosine, with several at each of them
under a constant rate, so that a run of 12 epochs is also one of 4. --input says what it reads of an element: its
sequence, through the tiny trunk, or the motifs that were planted in it, which takes away what learning them costs and
leaves what a term does to what is known. Beside average precision stand the classifier's worst smoothed loss, what a
fresh probe reads of the line off z_I, and the step at which the gates open. Differences are to the run of the same seed
without the term, line by line. Runs already in OUT are not repeated. Cost per epoch and core: a quarter of a minute
with sequences, a few seconds with motifs.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student_t
from torch import Tensor, nn
from tqdm import tqdm

from data_pipeline.episodes import EpisodeBatch, Fold, Plan, collate, gather, plan_steps, resolve_fold
from data_pipeline.errors import UserError, command_line
from data_pipeline.settings import load
from data_pipeline.simulator import SimulatorSettings, read_truth, simulate
from data_pipeline.store import ElementTable, Store
from distributed.assembly import build_module
from distributed.engine import learning_rate
from distributed.settings import RunSettings
from evaluation import Scorer, average_precision, line_information, view_lines
from model.balancing import acting_fields
from model.objective import TrainingModule
from model.parameters import parameter_groups
from tune.command_words import seeds_of

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
WORLDS = {
    "default": ("ablation",),
    "usage": ("usage",),
    "nuisance": ("nuisance",),
}
"""Presets of configs/simulate/ that make each world."""
TRAIN = [f"sim{number}" for number in range(1, 9)]
VALID, TESTS = "sim9", ("sim10", "sim11", "sim12")
TERMS: dict[str, list[str]] = {
    "none": [],
    **{name: [f"objective.terms.{name}.on=true"] for name in ("grl", "cdan", "club", "sparse")},
}
MODES = ("fixed_ramp", "gradnorm_ema")
SMOOTH = 20
"""Steps over which the classifier's loss is smoothed before its worst is taken."""
OPEN = 0.25
"""Spread of the gates from which on they count as open."""


@dataclass(frozen=True)
class Job:
    """One run."""

    world: str
    mode: str
    term: str
    seed: int
    input: str = "sequences"
    strength: float = math.nan
    """Of the term, in the field its balance mode reads; NaN: its default."""

    @property
    def name(self) -> str:
        """Its file."""
        strength = "" if math.isnan(self.strength) else f"-{self.strength:g}"
        return f"{self.world}-{self.input}-{self.mode}-{self.term}{strength}-{self.seed}"

    @property
    def words(self) -> list[str]:
        """The term's own settings."""
        if self.term == "none" or math.isnan(self.strength):
            return TERMS[self.term]
        (field,) = acting_fields(self.mode) & {"weight", "ratio"}
        return [*TERMS[self.term], f"objective.terms.{self.term}.{field}={self.strength}"]


def settings_of(job: Job, constant: bool) -> RunSettings:
    """The run's settings: the preset of `make train`, in which every term acts from the second epoch."""
    words = [
        f"fold.train_lines=[{','.join(TRAIN)}]", f"fold.valid_line={VALID}", f"fold.test_line={TESTS[0]}",
        f"objective.balance.mode={job.mode}", f"train.seed={job.seed}", *["optimiser.schedule=constant"] * constant,
        *job.words,
    ]  # fmt: skip
    return load(RunSettings, [CONFIGS / "train/simulated.yaml", CONFIGS / "train/short.yaml"], words)


class MotifTable:
    """An element table whose elements are spelled by the motifs planted in them, one byte each."""

    def __init__(self, table: ElementTable, motifs: NDArray[np.uint8]) -> None:
        """`motifs` (n, K), 1 where an element carries one."""
        self._table, self._motifs = table, motifs

    def __getattr__(self, name: str) -> Any:
        """Everything but the bases is the table's own."""
        return getattr(self._table, name)

    def __len__(self) -> int:
        """Elements."""
        return len(self._table)

    def packed(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        """(..., K) uint8 of elements `rows`."""
        return self._motifs[rows]


class GivenMotifs(nn.Module):
    """In the trunk's place: learnt combinations of the motifs of both elements and of those they share."""

    def __init__(self, features: int, combined: int, motifs: int) -> None:
        """Widths of the trunk it replaces, and K."""
        super().__init__()
        self.features, self.combined = features, combined
        self.joint = nn.Linear(3 * motifs, combined)
        self.pooled = nn.Linear(2 * motifs, features - combined)

    def encode(self, kind: str, packed: Tensor) -> tuple[Tensor, Tensor]:
        """packed (U, K) uint8 -> the motifs (U, 1, K) float32, centred, and a mask (U, 1) bool."""
        return packed.float().unsqueeze(1) - 0.4, torch.ones(len(packed), 1, dtype=torch.bool)

    def pair_features(
        self, enhancers: tuple[Tensor, Tensor], promoters: tuple[Tensor, Tensor], enhancer: Tensor, promoter: Tensor
    ) -> Tensor:
        """Features (B, `features`) of B pairs, as `Trunk.pair_features`."""
        own = [tokens.squeeze(1)[rows] for (tokens, _), rows in ((enhancers, enhancer), (promoters, promoter))]
        both = torch.cat(own, dim=1)
        joint = torch.tanh(self.joint(torch.cat([both, own[0] * own[1]], dim=1)))
        return torch.cat([joint, self.pooled(both)], dim=1)


def with_motifs(store: Store) -> int:
    """Let the elements of a simulated `store` be read as their planted motifs; K."""
    for kind in ("enhancers", "promoters"):
        motifs = read_truth(store, kind).full("motifs").astype(np.uint8)
        vars(store)[kind] = MotifTable(getattr(store, kind), motifs)
    return motifs.shape[1]


def batches(store: Store, plan: Plan, steps: int) -> Iterator[EpisodeBatch]:
    """The plan's batches, one after the other."""
    widest = max(plan.supports)
    for step in range(steps):
        yield collate(gather(store, plan_steps(plan, step, step + 1, 0, 1), widest), plan.support_of(step))


def train(job: Job, store: Store, epochs: list[int]) -> dict[int, dict[str, Any]]:
    """Train to the last of `epochs`; {epoch: figures}."""
    settings = settings_of(job, constant=len(epochs) > 1)
    fold = resolve_fold(store, settings.fold)
    plan = Plan(store, fold, settings.episodes, settings.train.seed)
    torch.manual_seed(settings.train.seed)
    module = build_module(store, fold, settings)
    if job.input == "motifs" and module.model.trunk is not None:
        trunk = module.model.trunk
        module.model.trunk = GivenMotifs(trunk.features, trunk.combined, with_motifs(store))  # type: ignore[assignment]
    groups = parameter_groups(module, settings.optimiser.weight_decay, settings.optimiser.adversary_rate)
    optimiser = torch.optim.AdamW(groups, lr=settings.optimiser.lr)
    steps, seen, found = max(epochs) * plan.steps_per_epoch, [], {}
    for step, batch in enumerate(batches(store, plan, steps)):
        module.train()
        torch.manual_seed(job.seed * 1_000_003 + step)
        rate = learning_rate(step, steps, settings.optimiser)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["rate"]
        total, report = module(batch, step, step / plan.steps_per_epoch)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.optimiser.clip)
        optimiser.step()
        seen.append({key: float(report[key]) for key in (f"loss/{job.term}", "gate/sd") if key in report})
        epoch, rest = divmod(step + 1, plan.steps_per_epoch)
        if not rest and epoch in epochs:
            found[epoch] = judge(module, store, fold, settings) | trajectory(pd.DataFrame(seen), job, plan)
    return found


def trajectory(seen: pd.DataFrame, job: Job, plan: Plan) -> dict[str, float]:
    """The worst smoothed loss of the term once it acts, and the first step with open gates."""
    acts = seen.iloc[plan.steps_per_epoch :]
    name = f"loss/{job.term}"
    worst = float(acts[name].rolling(SMOOTH).mean().max()) if name in acts else math.nan
    opened = seen["gate/sd"].rolling(SMOOTH).mean() > OPEN
    return {"worst": worst, "opened": float(opened.idxmax()) if opened.any() else math.nan}


def judge(module: TrainingModule, store: Store, fold: Fold, settings: RunSettings) -> dict[str, Any]:
    """Average precision per test line with its environment and of U_I alone, and what probes read off z_I (nats)."""
    module.eval()
    scorer = Scorer(module.model, store, settings.support_in_use, settings.scoring)
    figures: dict[str, Any] = {"lines": {}}
    for line in TESTS:
        rows = fold.rows(store, line, "test")
        scores = scorer.score_line(rows, fold.rows(store, line), settings.scoring.support_draws, seed=1)
        labels = store.pairs.label[rows]
        figures["lines"][line] = {
            "model": average_precision(labels, scores.logits.mean(axis=1)),
            "intrinsic": average_precision(labels, scores.neutral),
        }
    rows = fold.rows(store, VALID, "valid")
    scores = scorer.score_line(rows, fold.rows(store, VALID), settings.scoring.support_draws, seed=1)
    figures["valid"] = average_precision(store.pairs.label[rows], scores.logits.mean(axis=1))
    views = [view for view in view_lines(module.model, store, fold, settings, pairs=300, draws=1) if view.trained]
    codes = np.concatenate([view.invariant for view in views])
    line_of = np.repeat(np.arange(len(views)), [len(view.rows) for view in views])
    promoter = store.pairs.promoter[np.concatenate([view.rows for view in views])]
    figures["leak"] = line_information(codes, line_of, promoter)[0]
    return figures


def run(work: tuple[Job, str, list[int], str]) -> str:
    """Do one job and write its figures; for a pool of processes."""
    job, store, epochs, out = work
    torch.set_num_threads(1)
    found = train(job, Store.open(Path(store)), epochs)
    folder = Path(out)
    draft = folder / f".{job.name}.{os.getpid()}"
    draft.write_text(json.dumps(found), encoding="utf-8")
    draft.rename(folder / f"{job.name}.json")
    return job.name


def outcomes(jobs: list[Job], out: Path) -> pd.DataFrame:
    """A row per run, epoch and test line."""
    rows = []
    for job in jobs:
        for epoch, figures in json.loads((out / f"{job.name}.json").read_text(encoding="utf-8")).items():
            for line, own in figures["lines"].items():
                shared = {key: figures.get(key, math.nan) for key in ("leak", "worst", "opened", "valid")}
                rows.append({**vars(job), "epoch": int(epoch), "line": line, **own, **shared})
    return pd.DataFrame(rows)


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """Per world, epoch, mode and term: figures, and paired differences with t-intervals.

    To no term under the same balance, and to no term under the preset's (`to_default`; over seeds alone as well).
    """
    key = ["world", "epoch", "mode", "seed", "line"]
    base = frame[frame["term"] == "none"].set_index(key)
    # The default of the preset, whatever the mode of a row.
    default = base.xs(MODES[0], level="mode") if MODES[0] in set(frame["mode"]) else base.droplevel("mode")
    rows = []
    by = ["world", "epoch", "mode", "term", "strength"]
    for (world, epoch, mode, term, strength), part in frame.groupby(by, sort=False, dropna=False):
        own = part.set_index(key)
        beside = base.loc[own.index]
        mean, low, high = interval(own["model"] - beside["model"])
        lead = own["model"].droplevel("mode") - default["model"].reindex(own.index.droplevel("mode"))
        gain, least, most = interval(lead)
        by_seed = interval(lead.groupby("seed").mean())
        rows.append(
            {
                "world": world, "epoch": epoch, "mode": mode, "term": term, "strength": strength,
                "runs": own.index.nunique(), "valid": own["valid"].groupby("seed").first().mean(),
                "ap": own["model"].mean(), "sd_seeds": own.groupby("seed")["model"].mean().std(),
                "difference": mean, "low": low, "high": high,
                "to_default": gain, "to_default_low": least, "to_default_high": most,
                "to_default_seeds_low": by_seed[1], "to_default_seeds_high": by_seed[2],
                "intrinsic": own["intrinsic"].mean(),
                "worst_loss": own["worst"].max(), "chance": math.log(len(TRAIN)), "leak": own["leak"].mean(),
                "leak_without": beside["leak"].mean(), "opened": own["opened"].mean(),
                "never_opened": int(own["opened"].isna().groupby("seed").first().sum()),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def interval(differences: pd.Series) -> tuple[float, float, float]:
    """Mean and 95% t-interval over seeds and lines; the lines of a seed share a training."""
    mean, count = float(differences.mean()), len(differences)
    half = float(student_t.ppf(0.975, count - 1) * differences.std() / math.sqrt(count)) if count > 1 else math.nan
    return mean, mean - half, mean + half


def show(table: pd.DataFrame, console: Console) -> None:
    """Print the comparison."""
    shown = Table(
        *("world", "epochs", "balance", "term", "valid", "AP (sd of seeds)", "to none, t[95%]", "to default, t[95%]"),
        *("U_I", "worst loss", "leak", "gates open at"),
    )
    for own in table.itertuples():
        shown.add_row(
            own.world, str(own.epoch), own.mode, f"{own.term} {own.strength:g}".removesuffix(" nan"),
            f"{own.valid:.3f}",
            f"{own.ap:.3f} ({own.sd_seeds:.3f})",
            f"{own.difference:+.3f} [{own.low:+.3f}, {own.high:+.3f}]" if own.term != "none" else "",
            f"{own.to_default:+.3f} [{own.to_default_low:+.3f}, {own.to_default_high:+.3f}]",
            f"{own.intrinsic:.3f}", f"{own.worst_loss:.2f}" if own.worst_loss == own.worst_loss else "",
            f"{own.leak:.3f}", f"{own.opened:.0f}" + (f" ({own.never_opened} never)" if own.never_opened else ""),
        )  # fmt: skip
    console.print(shown)
    console.print(f"worst loss: smoothed over {SMOOTH} steps; chance is {math.log(len(TRAIN)):.3f}; leak in nats")


def world_store(world: str, folder: Path) -> Path:
    """The world's store, made if it is missing."""
    path = folder / world
    if not path.exists():
        presets = [CONFIGS / f"simulate/{name}.yaml" for name in WORLDS[world]]
        simulate(load(SimulatorSettings, presets, []), path)
    return path


def strengths_of(text: str) -> list[float]:
    """The strengths that `text` names by comma, nan for a term's own; raises `UserError`."""
    try:
        return [float(item) for item in text.split(",")]
    except ValueError as error:
        raise UserError(f"--strengths {text} is not a list of numbers, for example 0.1,0.2") from error


def main(
    out: Annotated[Path, typer.Option(help="Folder for the figures of each run and the table.")],
    worlds: Annotated[str, typer.Option(help="Worlds by comma.")] = ",".join(WORLDS),
    terms: Annotated[str, typer.Option(help="Terms by comma, beside none.")] = "grl,cdan,club,sparse",
    modes: Annotated[str, typer.Option(help="Ways to balance by comma.")] = ",".join(MODES),
    seeds: Annotated[str, typer.Option(help="Seeds by comma.")] = "0,1,2",
    read: Annotated[str, typer.Option("--input", help="Sequences or motifs: what is read of elements.")] = "sequences",
    epochs: Annotated[str, typer.Option(help="Epochs at which a run is judged, by comma.")] = "4,12",
    strengths: Annotated[str, typer.Option(help="Weights (ratios) of the terms by comma; default: their own.")] = "nan",
    stores: Annotated[Path, typer.Option(help="Where the worlds' stores are or are made.")] = Path("stores/loss_terms"),
    jobs: Annotated[int, typer.Option(help="Runs at a time, one core each.", min=1)] = 2,
) -> None:
    """Train every combination that is not in OUT yet; print and write the comparison."""
    for name in worlds.split(","):
        if name not in WORLDS:
            raise UserError(f"there is no world '{name}'; there are {', '.join(WORLDS)}")
    if read not in ("sequences", "motifs"):
        raise UserError(f"--input {read} is neither sequences nor motifs")
    strong = strengths_of(strengths)
    wanted = [
        Job(world, mode, term, seed, read, strength)
        for world in worlds.split(",")
        for seed in seeds_of(seeds)
        for term in ["none", *terms.split(",")]
        for strength in ([math.nan] if term == "none" else strong)
        for mode in modes.split(",")
    ]
    out.mkdir(parents=True, exist_ok=True)
    judged = [int(epoch) for epoch in epochs.split(",")]
    missing = [job for job in wanted if not (out / f"{job.name}.json").exists()]
    work = [(job, str(world_store(job.world, stores)), judged, str(out)) for job in missing]
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for _ in tqdm(pool.imap_unordered(run, work), total=len(work), desc="runs"):
            pass
    table = compared(outcomes(wanted, out))
    table.to_json(out / f"table-{read}.json", orient="records", indent=1)
    show(table, Console(width=160))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
