"""Variants, folds and identity of an ablation: what is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_ablation import record, variant
from tiny_sources import build
from tiny_training import TINY_RUN, tiny_settings, tiny_store

from data_pipeline.errors import UserError
from data_pipeline.settings import load
from data_pipeline.store.store import Store
from distributed.settings import RunSettings
from model.objective import TrainingModule
from model.terms.registry import TERMS
from tune.ablation.folds import choose_folds
from tune.ablation.identity import AblationRecord, check_ablation, claim_ablation, read_ablation
from tune.ablation.run import Cell, CellTask, run_cell
from tune.ablation.runner import cell_settings, check_variants, describe
from tune.ablation.variants import DEFAULT, Variant, load_variants, resolve, unmet

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SIMULATED = CONFIGS / "train/simulated.yaml"
BASES = (CONFIGS / "train/default.yaml", SIMULATED)
SPECS = sorted((CONFIGS / "ablation").glob("*.yaml"))
SHIPPED = [pytest.param(own, id=f"{spec.stem}-{own.name}") for spec in SPECS for own in load_variants(spec)]
MONITORS = {"dependence"}
"""Terms that are no losses."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("stores") / "tiny")


def spec(folder: Path, text: str) -> Path:
    file = folder / "spec.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("own", SHIPPED)
def test_every_shipped_variant_can_be_built_and_is_not_what_both_bases_are(own: Variant) -> None:
    differs = []
    for base in BASES:
        settings, other = resolve(None, [base], []), resolve(own, [base], [])
        differs.append((settings.model, settings.objective) != (other.model, other.objective))
    assert any(differs) or own.name.removeprefix("no-") in TERMS
    TrainingModule(other.model, other.objective, signals=3, line_features=2, lines=4, tracks=9)


def test_every_loss_term_has_its_row() -> None:
    rows = load_variants(CONFIGS / "ablation/components.yaml")
    on = {key for own in rows for key in own.overrides if key.startswith("objective.terms.")}
    assert {f"objective.terms.{name}.on=true" for name in TERMS.keys() - MONITORS} <= on


def test_only_the_named_variants_are_run_with_what_they_are_against(tmp_path: Path) -> None:
    file = spec(tmp_path, "variants: [{name: a}, {name: b}, {name: c, against: a}]")
    assert [own.name for own in load_variants(file, ["c"])] == ["a", "c"]
    assert [own.name for own in load_variants(file)] == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"has no variant 'd'; it has a, b, c"):
        load_variants(file, ["d"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("variants: []", "variants"),
        ("variants: [{name: a}, {name: a}]", "two variants are called 'a'"),
        ("variants: [{name: a, against: b}]", "variant 'a' is against 'b', which is no other variant"),
        ("variants: [{name: default}]", "is not 'default'"),
        ("variants: [{name: a/b}]", "letters, digits"),
        ("variants: [{name: a, needs: [luck]}]", "needs"),
    ],
)
def test_a_wrong_file_of_variants_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load_variants(spec(tmp_path, text))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"there is no ablation nowhere\.yaml"):
        load_variants(Path("nowhere.yaml"))


def test_an_unknown_setting_names_the_variant() -> None:
    with pytest.raises(UserError, match=r"variant 'a': .*model\.enregy"):
        resolve(Variant(name="a", overrides=["model.enregy.channels=1"]), [], [])


@pytest.mark.parametrize(
    "override",
    ["fold.seed=1", "train.seed=3", "scoring.support_draws=1", "workers.count=4", "engine.zero_stage=0"],
)
def test_what_runs_must_share_cannot_be_a_variant(override: str) -> None:
    key = override.split("=")[0]
    with pytest.raises(UserError, match=f"variant 'a' changes {key}, which all runs of an ablation share"):
        resolve(Variant(name="a", overrides=[override]), [], [])


def test_a_variant_lies_over_presets_and_overrides_of_the_base(tmp_path: Path) -> None:
    preset = tmp_path / "own.yaml"
    preset.write_text("model: {energy: {channels: 2, bias: -1.0}}")
    own = Variant(name="a", presets=[str(preset)], overrides=["model.energy.bias=-2.0"])
    energy = resolve(own, [SIMULATED], ["model.energy.channels=8"]).model.energy
    assert (energy.channels, energy.bias) == (8, -2.0)


def test_a_variant_the_store_cannot_show_or_that_changes_nothing_is_left_out_with_the_reason(store: Store) -> None:
    variants = [
        Variant(name="no-signals", overrides=["model.environment.local=false"], needs=["signals"]),
        Variant(name="same", overrides=["model.energy.channels=4"]),
        Variant(name="one", overrides=["model.energy.channels=1"], needs=["sequences"]),
    ]
    settings = {DEFAULT: tiny_settings()} | {own.name: resolve(own, [], TINY_RUN) for own in variants}
    made = describe(variants, settings, store, [("sim4", "sim3")], [0], 100)
    assert {own.name: own.left_out for own in made.variants} == {
        DEFAULT: "",
        "no-signals": "the store has no signals",
        "same": "it is what default is already",
        "one": "",
    }
    assert [cell.run for cell in made.cells()] == ["default-sim4-sim3-0", "one-sim4-sim3-0"]
    assert made.variants[-1].changes == {"model.energy.channels": 1}
    assert unmet(variants[2], store) == ""


def test_a_variant_that_is_against_one_that_is_not_run_is_against_what_that_one_is(store: Store) -> None:
    variants = [
        Variant(name="four", overrides=["model.energy.channels=4"]),
        Variant(name="two", overrides=["model.energy.channels=2"], against="four"),
        Variant(name="two-again", overrides=["model.energy.channels=2"], against="two"),
    ]
    settings = {DEFAULT: tiny_settings()} | {own.name: resolve(own, [], TINY_RUN) for own in variants}
    found = {own.name: own for own in describe(variants, settings, store, [("sim4", "sim3")], [0], 100).variants}
    assert found["two"].against == DEFAULT
    assert found["two-again"].left_out == "it is what two is already"


def test_runs_that_can_be_compared_first_are_begun_first() -> None:
    order = [(cell.seed, cell.test_line, cell.variant) for cell in record(variant("a"), seeds=[0, 1]).cells()]
    assert order[:4] == [(0, "A", "default"), (0, "A", "a"), (0, "B", "default"), (0, "B", "a")]
    assert order[4][0] == 1


@pytest.mark.parametrize(
    ("folds", "tests", "overrides", "chosen"),
    [
        (["sim4:sim2", "sim1:sim2"], [], [], [("sim4", "sim2"), ("sim1", "sim2")]),
        ([], ["sim2", "sim3"], [], [("sim2", "sim3"), ("sim3", "sim4")]),
        ([], ["sim4"], ["fold.valid_line=''"], [("sim4", "sim1")]),
        ([], ["sim2"], ["fold.valid_line=''", "fold.train_lines=[sim3,sim4]"], [("sim2", "sim1")]),
        ([], [], [], [("sim4", "sim3")]),
    ],
)
def test_folds_are_those_asked_for(
    store: Store, folds: list[str], tests: list[str], overrides: list[str], chosen: list[tuple[str, str]]
) -> None:
    assert choose_folds(store, tiny_settings(*overrides), folds, tests) == chosen


ODD = ["a", "b", "a,b", "c: d", "e f", "HeLa, S3", "K562 #2"]


def odd_store(folder: Path) -> Store:
    """A store of distances whose lines are called `ODD`."""
    starts = [10_000 * k for k in range(4)] * len(ODD)
    chroms = {f"{kind}_chrom": "chr1" for kind in ("enhancer", "promoter")}
    table = pd.DataFrame({"line": [line for line in ODD for _ in range(4)], "label": [0, 1] * 2 * len(ODD), **chroms})
    for kind, offset in (("enhancer", 0), ("promoter", 5000)):
        table[f"{kind}_start"] = [start + offset for start in starts]
        table[f"{kind}_end"] = table[f"{kind}_start"] + 200
    table.to_csv(folder / "pairs.csv", index=False)
    source = {"format": "csv", "file": "pairs.csv", "columns": {"line": "line"}}
    content = {"lines": ODD, "root": str(folder), "pairs": [source], "windows": {"enhancer": 0, "promoter": 0}}
    return build(content, folder / "store")


def test_names_of_lines_may_hold_what_separates_them(tmp_path: Path) -> None:
    store, settings = odd_store(tmp_path), tiny_settings("fold.valid_line=K562 #2")
    assert choose_folds(store, settings, ["c: d:HeLa, S3, e f:a"], []) == [("c: d", "HeLa, S3"), ("e f", "a")]
    assert choose_folds(store, settings, [], ["HeLa, S3, c: d", "a,"]) == [
        ("HeLa, S3", "K562 #2"), ("c: d", "K562 #2"), ("a", "K562 #2")
    ]  # fmt: skip
    assert choose_folds(store, settings, ["e f:"], []) == [("e f", "K562 #2")]
    for option, words in (("--test-lines", ([], ["a,b"])), ("--folds", (["a:a,b"], []))):
        with pytest.raises(UserError, match=rf"{option} '.*a,b' can be read in two ways"):
            choose_folds(store, settings, *words)


def test_unknown_lines_and_folds_named_twice_are_refused(store: Store) -> None:
    with pytest.raises(UserError, match=r"no line 'sim9'; --folds and --test-lines take sim1, sim2, sim3, sim4"):
        choose_folds(store, tiny_settings(), ["sim9:sim1"], [])
    with pytest.raises(UserError, match="named twice"):
        choose_folds(store, tiny_settings(), [], ["sim1", "sim1"])


def test_a_cell_trains_on_none_of_the_lines_it_leaves_out() -> None:
    cell = Cell(variant="a", test_line="sim1", valid_line="sim2", seed=7)
    settings = cell_settings(tiny_settings("fold.train_lines=[sim1,sim3]"), cell)
    assert settings.fold.train_lines == ["sim3"]
    assert (settings.fold.test_line, settings.fold.valid_line, settings.train.seed) == ("sim1", "sim2", 7)


def test_what_would_fail_in_every_run_is_found_first_and_names_the_variant(store: Store) -> None:
    settings = {"a": tiny_settings("objective.terms.bottleneck.on=true")}
    cells = [Cell(variant="a", test_line="sim4", valid_line="sim3", seed=0)]
    with pytest.raises(UserError, match=r"variant 'a': .*set model\.invariant_noise"):
        check_variants(store, cells, settings)


def test_a_run_that_fails_is_an_outcome_with_its_reason(tmp_path: Path) -> None:
    cell = Cell(variant="a", test_line="sim4", valid_line="sim3", seed=0)
    task = CellTask(cell=cell, settings=RunSettings().model_dump(mode="json"), store=str(tmp_path / "none"), pairs=50,
                    checksum="abc", runs=str(tmp_path / "a\0b"), predictions=str(tmp_path), device="cpu")  # fmt: skip
    outcome = run_cell(task.model_dump(mode="json"))
    assert outcome["state"] == "failed"
    assert outcome["cell"] == cell.model_dump()
    assert outcome["reason"].startswith("ValueError: ")


def changed(made: AblationRecord, **changes: object) -> AblationRecord:
    return made.model_copy(update=changes)


def test_an_existing_name_needs_resume_and_a_missing_one_cannot_be_resumed(tmp_path: Path) -> None:
    claim_ablation(tmp_path / "one", False, record())
    with pytest.raises(UserError, match="exists already; add --resume to continue it, or choose another --name"):
        claim_ablation(tmp_path / "one", False, record())
    with pytest.raises(UserError, match="there is no ablation at"):
        claim_ablation(tmp_path / "two", True, record())


def test_variants_folds_and_seeds_may_come_and_go(tmp_path: Path) -> None:
    claim_ablation(tmp_path / "one", False, record(variant("a"), variant("b")))
    wider = record(variant("b"), variant("c"), folds=["B:C"], seeds=[5])
    claim_ablation(tmp_path / "one", True, wider)
    assert read_ablation(tmp_path / "one").cells() == wider.cells()


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (changed(record(variant("a")), store_checksum="abd"), "was begun on another store"),
        (changed(record(variant("a")), base={"train": {"epochs": 2}}), r"train\.epochs \(was 1, is 2\)"),
        (changed(record(variant("a")), pairs=7), r"--pairs \(was 400, is 7\)"),
        (record(variant("a").model_copy(update={"changes": {"model.energy.form": "b"}})),
         r"variant 'a' model\.energy\.form \(was 'a', is 'b'\)"),
    ],
)  # fmt: skip
def test_what_decides_an_outcome_may_not_change(tmp_path: Path, now: AblationRecord, says: str) -> None:
    claim_ablation(tmp_path / "one", False, record(variant("a")))
    with pytest.raises(UserError, match=says):
        check_ablation(tmp_path / "one", True, now)


def test_in_short_runs_every_loss_term_acts_from_the_second_epoch() -> None:
    fold = ["fold.test_line=a", "fold.valid_line=b"]
    settings = load(RunSettings, [CONFIGS / "train/short.yaml"], fold)
    objective = settings.objective
    assert {name for name in TERMS.keys() - MONITORS if objective.policies()[name].begins != 1} == set()
    assert (objective.curriculum.warm_epochs, objective.curriculum.ramp_epochs) == (1, 0.5)
    assert {own.begins for own in objective.walled().values()} == {1}
    assert settings.train.choose_from == 3
