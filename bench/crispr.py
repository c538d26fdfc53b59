"""The field's yardstick: CRISPR-tested pairs, trained on one table, judged once on held-out ones.

    python bench/crispr.py --training TABLE [--training TABLE2] --held-out TABLE [--held-out TABLE2] \\
        --genes genes/CollapsedGeneBounds.hg38.TSS500bp.bed.gz --out bench/results/crispr.json

Tables are those of ENCODE's benchmark (EngreitzLab/CRISPR_comparison), of any lines. Genes of held-out tables are in
the training table too, so every held-out pair is scored by models that were trained on other chromosomes: chromosomes
make five folds, a fold's pairs are scored by members that saw none of its chromosomes, and the table is judged whole.
A member is a seed whose epoch is chosen on another of the remaining folds; members are averaged as logits. Everything
that is chosen (settings of the model, of the regression and of the boosted trees, the threshold at 70% recall) is
chosen on the training table's own folds, before a held-out table is opened. Scores are weighted average precision: a
positive counts as much as its drop in expression is likely to be a direct effect.
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from crispr_rivals import RIVALS, Pairs
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_pipeline.errors import UserError, command_line
from data_pipeline.settings import load, validate
from data_pipeline.sources import StoreSettings, ingest
from data_pipeline.store import Store
from distributed.cluster import join_ray, needed_cpus, resolve_device
from distributed.crew import Crew
from distributed.fold_evaluation import open_run
from distributed.settings import RunSettings
from evaluation import (
    Scorer,
    average_precision,
    average_precision_draws,
    cluster_ids,
    draw_clusters,
    interval,
    precision_and_recall,
    threshold_at_recall,
)
from tune.search_space import economical, train_run

FOLDS = 5
RECALL = 0.7
PUBLISHED = {
    "distance": "0.363",
    "EPIraction": "0.383",
    "ABC": "0.465 [0.378, 0.541]",
    "ENCODE-rE2G": "0.556 [0.468, 0.631]",
}
"""Weighted AP over the pairs of five lines, as published; genome-wide predictors lose pairs none of their candidates
overlaps, while signals here are read at the tested element, so it is not the same contest."""
CANDIDATES: dict[str, list[str]] = {
    "plain": [],
    "linear": ["model.environment.local_depth=0", "model.environment.local_dropout=0", "model.energy.shift=linear"],
    "regularised": ["model.environment.local_dropout=0.4", "model.energy.dropout=0.3"],
}
"""Settings tried on the training table, over configs/train/crispr.yaml."""


def main(
    training: Annotated[list[Path], typer.Option(help="Table to train on and to choose by; may be given again.")],
    held_out: Annotated[list[Path], typer.Option(help="Table to judge on, once; may be given again.")],
    genes: Annotated[
        Path | None, typer.Option(help="Gene annotation of the tables' build; none: no columns of it.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of stores and runs; finished runs are not repeated.")] = Path(
        "runs/crispr"
    ),
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    members: Annotated[int, typer.Option(help="Seeds per fold.", min=1)] = 4,
    candidates: Annotated[str, typer.Option(help="Settings to choose among, by comma.")] = ",".join(CANDIDATES),
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key.sub=value.")] = None,
) -> None:
    """Train on the training tables and print weighted average precision on the held-out ones beside the rivals'."""
    unknown = [name for name in candidates.split(",") if name not in CANDIDATES]
    if unknown:
        raise UserError(f"--candidates knows no '{unknown[0]}'; choose among {', '.join(CANDIDATES)}")
    signals = shared_signals([*training, *held_out])
    store = store_of(training, signals, genes, work / "training")
    folds = chromosome_folds(store)
    trainer = Members(store, work / "runs", folds, members, overrides or [])
    table = pairs_of(store, folds)
    out_of_fold, chosen = {}, {}
    tried = {name: trainer.scores(name, store) for name in candidates.split(",")}
    weighted = {name: average_precision(table.labels, scores, table.counts) for name, scores in tried.items()}
    best = max(weighted, key=lambda name: weighted[name])
    out_of_fold["prism-epi"], chosen["prism-epi"] = tried[best], {"candidate": best, "tried": weighted}
    for name, rival in RIVALS.items():
        chosen[name] = rival.choose(table)
        out_of_fold[name] = rival.scores(table, table, chosen[name])
    thresholds = {
        name: threshold_at_recall(table.labels, scores, RECALL, table.counts) for name, scores in out_of_fold.items()
    }
    # Only now, when nothing is left to choose.
    judged = store_of(held_out, signals, genes, work / "held_out")
    asked = pairs_of(judged, folds)
    scores = {"prism-epi": trainer.scores(best, judged)}
    trainer.close()
    scores |= {name: rival.scores(table, asked, chosen[name]) for name, rival in RIVALS.items()}
    found = {
        "training": {"pairs": len(table.labels), "folds": folds, "signals": store.signal_names,
                     "weighted_ap": {name: average_precision(table.labels, own, table.counts)
                                     for name, own in out_of_fold.items()}},
        "chosen": chosen,
        "thresholds": thresholds,
        "held_out": {line: figures(asked, scores, thresholds, mask) for line, mask in asked.by_line().items()},
        "published_five_lines": PUBLISHED,
    }  # fmt: skip
    show(found)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def read(table: Path, rows: int | None = None) -> pd.DataFrame:
    """The first `rows` rows of a table of the benchmark, None: all; raises `UserError` where it is none."""
    try:
        found = pd.read_csv(table, sep="\t", nrows=rows)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{table} cannot be read as a table ({error}); check --training and --held-out") from error
    if "CellType" not in found:
        raise UserError(f"{table} has no column CellType; give a table of the benchmark, or one in its columns")
    return found


def shared_signals(tables: list[Path]) -> list[str]:
    """The default signals of the format that every table has, in order."""
    headers = [set(read(table, rows=0).columns) for table in tables]
    known = StoreSettings.model_validate(description([str(tables[0])], ["any"], None, None)).pairs[0]
    shared = [name for name in known.signals if all(name in header for header in headers)]  # type: ignore[union-attr]
    if not shared:
        raise UserError(f"the tables share none of the signals {', '.join(known.signals)}")  # type: ignore[union-attr]
    return shared


def description(files: list[str], lines: list[str], signals: list[str] | None, genes: Path | None) -> dict[str, Any]:
    """A store of tables of CRISPR-tested pairs."""
    told: dict[str, Any] = {"format": "crispr"} | ({} if signals is None else {"signals": signals})
    told |= {} if genes is None else {"genes": str(genes.resolve())}
    sources = [told | {"file": file} for file in files]
    return {"lines": lines, "windows": {"enhancer": 0, "promoter": 0}, "pairs": sources}


def store_of(tables: list[Path], signals: list[str], genes: Path | None, out: Path) -> Store:
    """The store of `tables` at `out`, made anew (tables may have changed) unless it would be the same."""
    lines = sorted({line for table in tables for line in read(table)["CellType"]})
    settings = validate(
        StoreSettings, description([str(table.resolve()) for table in tables], lines, signals, genes), "tables"
    )
    fresh = out.with_name(f"{out.name}.new")
    for folder in (fresh, fresh.with_name(f"{fresh.name}.quarantine")):
        remove(folder)
    made = ingest(settings, fresh, root="/")
    if out.exists() and Store.open(out).checksum == made.checksum:
        remove(fresh)
    else:
        remove(out)
        fresh.rename(out)
    return Store.open(out)


def chromosome_folds(store: Store) -> list[list[str]]:
    """Chromosomes of each fold, with about as many positive pairs in each; of the training store alone."""
    chrom = store.promoters.chrom[store.pairs.promoter]
    count = len(store.manifest.chroms)
    positives = np.bincount(chrom, weights=store.pairs.label == 1, minlength=count)
    pairs = np.bincount(chrom, minlength=count)
    load_of, folds = np.zeros(FOLDS), [[] for _ in range(FOLDS)]  # type: tuple[NDArray[np.float64], list[list[str]]]
    for code in np.lexsort((-pairs, -positives)):
        emptiest = int(load_of.argmin())
        load_of[emptiest] += positives[code] + 1e-3 * pairs[code]
        folds[emptiest].append(store.manifest.chroms[code])
    return folds


def pairs_of(store: Store, folds: list[list[str]]) -> Pairs:
    """All pairs of a store as rivals and metrics see them; chromosomes that no fold names are in the first."""
    pairs = store.pairs
    of_chrom = {chrom: fold for fold, own in enumerate(folds) for chrom in own}
    fold = np.array([of_chrom.get(name, 0) for name in store.manifest.chroms])
    chrom = store.promoters.chrom[pairs.promoter]
    names = [name.partition(":")[2] for name in store.signal_names]
    return Pairs(
        labels=pairs.label,
        counts=np.where(pairs.label == 1, pairs.weight, 1.0),
        distance=pairs.distance.astype(np.float64),
        columns=pd.DataFrame(store.signals(np.arange(len(pairs))).astype(np.float64), columns=names),
        fold=fold[chrom],
        cluster=cluster_ids(chrom, pairs.promoter),
        line=np.array(store.lines)[pairs.line],
    )


class Members:
    """The models of every fold, trained where they are not yet."""

    def __init__(self, store: Store, runs: Path, folds: list[list[str]], seeds: int, overrides: list[str]) -> None:
        """`seeds` members per fold; nothing is started."""
        self._store, self._runs, self._folds, self._seeds, self._overrides = store, runs, folds, seeds, overrides
        self._crew = Crew(runs / "workers")

    def scores(self, candidate: str, asked: Store) -> NDArray[np.float64]:
        """(N,) mean logit of all pairs of `asked` by the members that saw none of their chromosomes."""
        fold = pairs_of(asked, self._folds).fold
        logits = np.zeros(len(asked.pairs))
        work = [(number, seed) for number in range(len(self._folds)) for seed in range(self._seeds)]
        for number, seed in tqdm(work, desc=f"{candidate} on {asked.path.name}", unit="member"):
            rows = np.flatnonzero(fold == number)
            if not len(rows):
                continue
            trained = open_run(self._run(candidate, number, seed))
            scorer = Scorer(trained.model, asked, trained.settings.support_in_use, trained.settings.scoring)
            for line in range(len(asked.lines)):
                own = rows[asked.pairs.line[rows] == line]
                if len(own):
                    pool = np.flatnonzero(asked.pairs.line == line)
                    logits[own] += scorer.score_line(own, pool, 1, seed=1).logits.mean(axis=1) / self._seeds
        return logits

    def close(self) -> None:
        """Let the workers go."""
        self._crew.close()

    def _run(self, candidate: str, number: int, seed: int) -> Path:
        """The run of a member: chromosomes of fold `number` are never seen, those of another fold choose its epoch."""
        chooses = (number + 1 + seed % (FOLDS - 1)) % FOLDS
        line = self._store.lines[0]
        options = {
            "fold.within_line": True,
            "fold.test_line": line,
            "fold.valid_line": line,
            "fold.test_regions": self._folds[number],
            "fold.valid_regions": self._folds[chooses],
            "train.seed": seed,
        }
        words = [*CANDIDATES[candidate], *self._overrides]
        settings = economical(load(RunSettings, [PRESET], words, options))
        name = f"{candidate.replace(' ', '-')}-fold{number + 1}-seed{seed}"
        join_ray(needed_cpus(settings))
        device = resolve_device(settings)
        store = self._store
        run, _ = train_run(
            self._runs.resolve(), name, store.path.resolve(), store.checksum, settings, device, self._crew.fit
        )
        return run


PRESET = Path(__file__).resolve().parents[1] / "configs/train/crispr.yaml"


def figures(
    asked: Pairs, scores: dict[str, NDArray[np.float64]], thresholds: dict[str, float], mask: NDArray[np.bool_]
) -> dict[str, Any]:
    """What every score is worth on the pairs of `mask` (N,): weighted AP, its interval, precision at the threshold."""
    labels, counts = asked.labels[mask], asked.counts[mask]
    draws = draw_clusters(asked.cluster[mask])
    result: dict[str, Any] = {"pairs": int(mask.sum()), "positives": int((labels == 1).sum())}
    drawn = {name: average_precision_draws(labels, own[mask], draws, counts) for name, own in scores.items()}
    for name, own in scores.items():
        precision, recall = precision_and_recall(labels, own[mask], thresholds[name], counts)
        result[name] = {
            "weighted_ap": average_precision(labels, own[mask], counts),
            "interval": interval(drawn[name], draws),
            "ap": average_precision(labels, own[mask]),
            "precision_at_frozen_threshold": precision,
            "recall_at_frozen_threshold": recall,
            "ours_minus_this": interval(drawn["prism-epi"] - drawn[name], draws),
        }
    return result


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(
        title="Weighted average precision on held-out pairs, models of other chromosomes", title_justify="left"
    )
    held_out = found["held_out"]
    for name in ("", "training folds", *held_out, "precision at 70% recall, frozen (all)", "ours minus this (all)"):
        table.add_column(name)
    for name, training in found["training"]["weighted_ap"].items():
        cells = []
        for own in held_out.values():
            low, high = own[name]["interval"]
            cells.append(f"{own[name]['weighted_ap']:.3f} [{low:.3f}, {high:.3f}]")
        whole = held_out["all"][name]
        low, high = whole["ours_minus_this"]
        frozen = f"{whole['precision_at_frozen_threshold']:.3f} (recall {whole['recall_at_frozen_threshold']:.3f})"
        table.add_row(
            name, f"{training:.3f}", *cells, frozen, "" if name == "prism-epi" else f"[{low:+.3f}, {high:+.3f}]"
        )
    console = Console(width=180)
    console.print(table)
    console.print(
        "published over five lines, not measured here: " + ", ".join(f"{k} {v}" for k, v in PUBLISHED.items())
    )


def remove(folder: Path) -> None:
    """Remove a folder that this script made, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
