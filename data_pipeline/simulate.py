"""Write a store whose truth is known: `python data_pipeline/simulate.py --out stores/simulated [key=value ...]`.

The store is of the same kind as an ingested one, plus `truth` in its manifest (Bayes-optimal and environment-blind
average precision per line) and `truth/` tables (logits, latents, activities, gains, planted motifs), all under the
manifest's checksums. The same settings give the same checksum. The default takes a few seconds and megabytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_pipeline.errors import command_line


def main(
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, for example seed=2 lines=6")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the new store; must not exist.")] = Path("stores/simulated"),
    config: Annotated[list[Path] | None, typer.Option(help="YAML preset; may be repeated, later ones win.")] = None,
) -> None:
    """Simulate a store with known truth."""
    from data_pipeline.settings import load
    from data_pipeline.simulator import SimulatorSettings

    settings = load(SimulatorSettings, config or [], overrides or [])
    # This takes a second to import; --help and mistakes in the call are answered before.
    from data_pipeline.simulator import print_lines, simulate

    manifest = simulate(settings, out)
    print_lines(manifest)
    print(f"{out}: {manifest.counts['pairs']} pairs, checksum {manifest.checksum[:12]}")


if __name__ == "__main__":
    command_line(lambda: typer.run(main))
