"""From a drawn world to a store and its truth (the work of data_pipeline/simulate.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from data_pipeline.errors import UserError
from data_pipeline.simulator.motif_grammar import pack_bases
from data_pipeline.simulator.settings import SimulatorSettings
from data_pipeline.simulator.truth import add_truth, line_truths
from data_pipeline.simulator.world import Elements, Environments, Pairs, draw_world
from data_pipeline.store import Kind, Manifest, StoreWriter


def simulate(settings: SimulatorSettings, out: str | Path) -> Manifest:
    """Write the store of `settings` to `out`; raises `UserError` where `out` exists or a line would be empty."""
    names = [f"sim{line + 1}" for line in range(settings.lines)]
    try:
        pwm, environments, enhancers, promoters, pairs = draw_world(settings)
    except ValueError as error:
        raise UserError(f"cannot simulate: {error}") from error
    element_signals = settings.signals in ("element", "both")
    pair_signals = settings.signals in ("pair", "both")
    with StoreWriter(
        out,
        lines=names,
        chroms=[f"chr{number + 1}" for number in range(settings.chromosomes)],
        windows={"enhancer": settings.enhancer_window, "promoter": settings.promoter_window},
        pair_signals=["match_activity"] if pair_signals else [],
        element_signals=[f"occupancy{factor + 1}" for factor in range(settings.active_factors)]
        if element_signals
        else [],
        line_features=environments.features,
        sources=[{"kind": "simulator", "settings": settings.described()}],
    ) as writer:
        _add_elements(writer, "enhancer", enhancers, settings.enhancer_window)
        _add_elements(writer, "promoter", promoters, settings.promoter_window)
        noise = np.random.default_rng([settings.seed, 1])
        if element_signals:
            for kind, elements in (("enhancer", enhancers), ("promoter", promoters)):
                writer.add_element_signals(kind, _occupancy(noise, settings, environments, elements))  # type: ignore[arg-type]
        signals = _match_activity(noise, settings, environments, pairs) if pair_signals else None
        writer.add_pairs(pairs.enhancer, pairs.promoter, pairs.line, pairs.label, pairs.distance, signals)
        add_truth(writer, pwm, environments, enhancers, promoters, pairs)
        return writer.commit(truth={"lines": line_truths(settings, names, environments, pairs)})


def _add_elements(writer: StoreWriter, kind: Kind, elements: Elements, window: int) -> None:
    start = elements.centre - window // 2
    writer.add_elements(
        kind,
        [f"{kind[0].upper()}{row}" for row in range(len(start))],
        elements.chrom,
        start,
        start + window,
        np.zeros(len(start)) if kind == "enhancer" else np.ones(len(start)),
        pack_bases(elements.bases),
    )


def _occupancy(
    rng: np.random.Generator, settings: SimulatorSettings, environments: Environments, elements: Elements
) -> NDArray[np.float32]:
    """(C, n, M) noisy activity of each factor where its motif is present, 0 plus noise elsewhere."""
    clean = environments.activity[:, None, :] * elements.present[:, : settings.active_factors]
    return (clean + settings.signal_noise * rng.normal(size=clean.shape)).astype(np.float32)


def _match_activity(
    rng: np.random.Generator, settings: SimulatorSettings, environments: Environments, pairs: Pairs
) -> NDArray[np.float32]:
    """(N, 1) noisy sum of the gains of the factors that both elements carry."""
    clean = (pairs.match * environments.gain[pairs.line]).sum(axis=1, keepdims=True)
    return (clean + settings.signal_noise * rng.normal(size=clean.shape)).astype(np.float32)


def print_lines(manifest: Manifest) -> None:
    """Print what can be reached on each line of a simulated store."""
    lines = manifest.truth["lines"]
    titles = {"prevalence": "prevalence", "bayes_average_precision": "Bayes AP"}
    titles |= {"environment_blind_average_precision": "environment-blind AP"}
    if any("without_marker_average_precision" in truth for truth in lines.values()):
        titles |= {"without_marker_average_precision": "AP without the marker"}
        titles |= {"trusting_marker_average_precision": "AP trusting the marker"}
    titles |= {"distance_average_precision": "distance AP", "bayes_auroc": "Bayes AUROC"}
    table = Table(title="simulated cell lines (AP: average precision)")
    for column in ("line", "pairs", *titles.values()):
        table.add_column(column, justify="left" if column == "line" else "right")
    for name, truth in lines.items():
        figures: list[Any] = [truth[key] for key in titles]
        table.add_row(name, str(truth["pairs"]), *["-" if value is None else f"{value:.3f}" for value in figures])
    Console().print(table)
