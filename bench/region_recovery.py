"""How often the region of a search holds the truth: planted responses, realistic noise, many repeats.

    python bench/region_recovery.py --out bench/results/region_recovery.json      # twenty minutes on one core

A repeat is a search of 64 Sobol points over five log axes, five lines with large offsets and answers of their own
(random slopes), two seeds with noise .01. Three responses that an unseen line can expect:

    plateau   flat inside a box, falling with the squared distance from its walls; two axes multiply, two are inert
    dome      the same walls from a single point
    flat      nothing but noise

Known in closed form: the bounds of {f >= max f - tolerance} per axis at the tolerance that the report names, S1 and ST;
the volume on 65,536 points. What is finished is not repeated. Counted: bounds one by one and all ten of a repeat at a time, volume, S1, ST (to .005, for
an index of 0 has a lower end just above it). Beside it the volumes of the two rules of algorithms.md 11.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from data_pipeline.errors import UserError, command_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tune.region import Landscape

    Floats = NDArray[np.float64]

BOX, TOP = (0.01, 4.0), 0.7
POINTS, LINES, SEEDS, NOISE, OFFSET, SLOPE = 64, 5, 2, 0.01, 0.08, 0.012
WALLS = ((0.3, 0.8), (0.0, 0.6), (0.4, 1.0), (0.0, 1.0), (0.0, 1.0))
PEAK = (0.55, 0.3, 0.7, 0.5, 0.5)
STEEP, JOINT = (0.5, 0.4, 0.35, 0.0, 0.0), 3.0
"""Fall per squared distance from a wall, and per product of the first and the third."""
NEAR = 0.005


def walls_of(shape: str) -> tuple[tuple[float, float], ...]:
    """Lower and upper wall per axis."""
    return tuple((at, at) for at in PEAK) if shape == "dome" else WALLS


def squared(at: Floats, wall: tuple[float, float]) -> Floats:
    """Squared distance of positions from the stretch between two walls."""
    import numpy as np

    return np.maximum(np.maximum(wall[0] - at, at - wall[1]), 0.0) ** 2


def response(shape: str, at: Floats) -> Floats:
    """(M,) score that an unseen line can expect at positions (M, 5)."""
    import numpy as np

    if shape == "flat":
        return np.full(len(at), TOP)
    fall = [squared(at[:, axis], wall) for axis, wall in enumerate(walls_of(shape))]
    alone = sum(steep * own for steep, own in zip(STEEP, fall, strict=True))
    return np.asarray(TOP - alone - JOINT * fall[0] * fall[2], dtype=np.float64)


def indices(shape: str) -> tuple[list[float], list[float]]:
    """S1 and ST per axis in closed form (one-dimensional moments of the walls)."""
    import numpy as np

    grid = (np.arange(200_000) + 0.5) / 200_000
    fall = [squared(grid, wall) for wall in walls_of(shape)]
    mean, variance = [float(own.mean()) for own in fall], [float(own.var()) for own in fall]
    steep = list(STEEP)
    steep[0], steep[2] = STEEP[0] + JOINT * mean[2], STEEP[2] + JOINT * mean[0]
    alone = [a**2 * v for a, v in zip(steep, variance, strict=True)]
    both = JOINT**2 * variance[0] * variance[2]
    whole = sum(alone) + both
    return [v / whole for v in alone], [(v + both * (axis in (0, 2))) / whole for axis, v in enumerate(alone)]


def bounds(shape: str, tolerance: float) -> list[tuple[float, float]]:
    """Lowest and highest position per axis at which the response, with the best others, is within the tolerance."""
    found = []
    for (low, high), steep in zip(walls_of(shape), STEEP, strict=True):
        reach = (tolerance / steep) ** 0.5 if steep and shape != "flat" else 1.0
        found.append((max(0.0, low - reach), min(1.0, high + reach)))
    return found


def search(shape: str, repeat: int) -> tuple[Any, dict[str, Any], list[str]]:
    """The table of one search, its space and its lines."""
    import numpy as np
    import pandas as pd
    from optuna.distributions import FloatDistribution
    from scipy.stats import qmc

    rng = np.random.default_rng(repeat)
    at = qmc.Sobol(len(WALLS), scramble=True, rng=repeat).random(POINTS)
    keys = [f"t{axis}" for axis in range(len(WALLS))]
    lines = [f"line{line}" for line in range(LINES)]
    table = pd.DataFrame(BOX[0] * (BOX[1] / BOX[0]) ** at, columns=keys)
    table.insert(0, "number", range(POINTS))
    table.insert(1, "state", "complete")
    for line in lines:
        own = response(shape, at) + rng.normal(0, OFFSET)
        if shape != "flat":
            own = own + (at - 0.5) @ rng.normal(0, SLOPE, len(WALLS))
        for seed in range(SEEDS):
            table[f"score/{line}@{seed}"] = own + rng.normal(0, NOISE) + rng.normal(0, NOISE, POINTS)
    return table, {key: FloatDistribution(*BOX, log=True) for key in keys}, lines


def judge(shape: str, land: Landscape) -> dict[str, Any]:
    """What of one repeat held the truth."""
    import numpy as np
    from scipy.stats import qmc

    region = land.region
    at = qmc.Sobol(len(WALLS), scramble=True, rng=0).random(65_536)
    volume = float((response(shape, at) >= TOP - region.tolerance).mean())
    hits = []
    for own, truth in zip(region.axes, bounds(shape, region.tolerance), strict=True):
        for end, where in ((own.projection.low, truth[0]), (own.projection.high, truth[1])):
            low, high = (np.log(value / BOX[0]) / np.log(BOX[1] / BOX[0]) for value in (end.low, end.high))
            hits.append(bool(low - 1e-6 <= where <= high + 1e-6))
    found: dict[str, Any] = {
        "tolerance": region.tolerance,
        "bounds": hits,
        "volume": volume,
        "reported": region.volume.value,
        "volume_held": bool(volume in region.volume),
        "width": region.volume.high - region.volume.low,
        "raw_share": region.raw_share.value,
        "half_volume": region.half_volume,
        "strict_volume": region.strict_volume,
        "regret": float(TOP - response(shape, _unit(region.best))[0]),
        "r2": land.quality.r2,
    }
    if shape != "flat":
        rows = {row.key: row for row in land.sensitivity.axes}
        own_rows = [rows[f"t{axis}"] for axis in range(len(WALLS))]
        for name, truths in zip(("first", "total"), indices(shape), strict=True):
            pairs = zip((getattr(row, name) for row in own_rows), truths, strict=True)
            found[name] = [bool(one.low - NEAR <= truth <= one.high + NEAR) for one, truth in pairs]
    return found


def _unit(best: dict[str, float]) -> Floats:
    import numpy as np

    return np.log(np.array([list(best.values())]) / BOX[0]) / np.log(BOX[1] / BOX[0])


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares of repeats, and means."""
    import numpy as np

    held = np.array([row["bounds"] for row in rows])
    found = {
        "repeats": len(rows),
        "bounds_held": float(held.mean()),
        "all_bounds_held": float(held.all(axis=1).mean()),
        "worst_bound_held": float(held.mean(axis=0).min()),
        "volume_held": float(np.mean([row["volume_held"] for row in rows])),
        "all_bounds_and_volume_held": float(np.mean([all(row["bounds"]) and row["volume_held"] for row in rows])),
    }
    for name in (
        "volume",
        "reported",
        "width",
        "raw_share",
        "half_volume",
        "strict_volume",
        "regret",
        "r2",
        "tolerance",
    ):
        found[f"mean_{name}"] = float(np.mean([row[name] for row in rows]))
    found["least_reported"] = float(min(row["reported"] for row in rows))
    for name in ("first", "total"):
        if name in rows[0]:
            found[f"{name}_held"] = float(np.mean([row[name] for row in rows]))
            found[f"worst_{name}_held"] = float(np.mean([row[name] for row in rows], axis=0).min())
    return found


def main(
    out: Annotated[Path, typer.Option(help="JSON file for the figures.")],
    repeats: Annotated[int, typer.Option(help="Searches per response.", min=1)] = 50,
    shapes: Annotated[str, typer.Option(help="Responses by comma.")] = "plateau,flat,dome",
) -> None:
    """Plant, analyse, count; print and write how often intervals held the truth."""
    from tune.region import analyse

    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it, or choose another")
    if unknown := set(shapes.split(",")) - {"plateau", "dome", "flat"}:
        raise UserError(f"--shapes {sorted(unknown)[0]} is not one of plateau, dome, flat")
    chosen = shapes.split(",")
    found = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
    rows = {shape: found.get(shape, {}).get("rows", []) for shape in chosen}
    for repeat, shape in product(range(repeats), chosen):
        if repeat < len(rows[shape]):
            continue
        table, space, lines = search(shape, repeat)
        land = analyse(table, space, lines, range(SEEDS), {}, seed=repeat).parts[0].landscape
        assert land is not None
        rows[shape].append(judge(shape, land))
        # A repeat takes seconds: what is finished must outlive a kill.
        found[shape] = summary(rows[shape]) | {"rows": rows[shape]}
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    shown = Table("figure", *found)
    for name in dict.fromkeys(key for own in found.values() for key in own if key != "rows"):
        shown.add_row(name, *(f"{own[name]:.3f}" if name in own else "" for own in found.values()))
    Console(width=120).print(shown)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    command_line(app)
