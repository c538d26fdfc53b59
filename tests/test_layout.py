"""The rules of the project's layout: who may import whom, how long a file is, what presets and pages agree with."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from data_pipeline.settings import Settings, load
from data_pipeline.simulator.settings import SimulatorSettings
from data_pipeline.sources.settings import StoreSettings
from distributed.settings import RunSettings
from evaluation.rivals.boosting import BoostingSettings
from tune.ablation.variants import AblationSettings
from tune.search_space.space import SearchSettings

PROJECT = Path(__file__).resolve().parents[1]
FLOORS = ("data_pipeline", "model", "evaluation", "distributed", "tune")
"""In import order: a folder imports from itself and from folders before it."""
ARROWS = {
    "data_pipeline": (
        "dna errors",
        "durable settings_text store_folder",
        "settings",
        "store",
        "context episodes simulator",
        "sources",
        "ingest inspect_store simulate",
    ),
    "model": (
        "scores step layers features curriculum",
        "lines",
        "sequence environment erasure",
        "energy",
        "episode_model",
        "terms",
        "balancing parameters",
        "objective",
    ),
    "evaluation": (
        "settings metrics intervals prevalence smoothing geometry alarms page",
        "candidates calibration scoring rivals leakage",
        "quadrants line_transfer line_views falsifiable",
        "findings figures epoch_end",
        "report",
        "report_text",
        "report_page line_page",
    ),
    "distributed": (
        "desk exchange formats hangs local_ray process_group monitoring",
        "failures settings",
        "assembly cluster engine",
        "run_folder",
        "prediction verification",
        "command_checks loop",
        "fit",
        "crew fold_training fold_evaluation",
        "train evaluate predict export submit",
    ),
    "tune": (
        "command_words region",
        "search_page search_space",
        "identity scheduling",
        "ablation findings",
        "search_report",
        "progress handing_out",
        "searching",
        "dry_run",
        "search ablate ablation_report report",
    ),
}
"""Rooms and the modules beside them, in import order: each imports from itself and from lines before its own."""
ROOMS = sorted(
    ".".join(folder.relative_to(PROJECT).parts)
    for floor in FLOORS
    for folder in (PROJECT / floor, *(PROJECT / floor).iterdir())
    if (folder / "__init__.pyi").is_file()
)
"""Rooms: what is imported from outside goes through their `__init__`."""
SOURCES = sorted(file for folder in (*FLOORS, "bench", "docs", "tests") for file in (PROJECT / folder).rglob("*.py"))
SCRIPTS = [file for file in SOURCES if '\nif __name__ == "__main__":' in file.read_text()]
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])
PRESETS: dict[str, type[Settings]] = {
    "simulate": SimulatorSettings,
    "train": RunSettings,
    "stores": StoreSettings,
    "search": SearchSettings,
    "ablation": AblationSettings,
    "rivals": BoostingSettings,
}
"""The settings class of each folder of configs."""
NO_MODEL_IMPORTS = {"ray", "deepspeed", "io", "os", "pathlib", "pyarrow", "shutil", "tempfile", "typer"}
"""Ray, DeepSpeed and the ways to files, which the model knows nothing of."""


def imports(file: Path) -> Iterator[str]:
    """Dotted names of the modules that `file` imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        yield from imports_of(node)


def imports_of(node: ast.AST) -> Iterator[str]:
    """Dotted names of the modules that one statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"imports are absolute, line {node.lineno} is not"
        yield node.module or ""


def names_from(file: Path, module: str) -> Iterator[str]:
    """What `file` imports from `module`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == module:
            yield from (alias.name for alias in node.names)


def room_files(room: str) -> list[Path]:
    return [file for file in SOURCES if file.is_relative_to(PROJECT / room)]


def names(files: list[Path]) -> list[str]:
    return [str(file.relative_to(PROJECT)) for file in files]


@pytest.mark.parametrize("floor", FLOORS)
def test_folders_import_one_way(floor: str) -> None:
    later = FLOORS[FLOORS.index(floor) + 1 :]
    wrong = [(file.name, name) for file in room_files(floor) for name in imports(file) if name.split(".")[0] in later]
    assert wrong == []


@pytest.mark.parametrize("floor", ARROWS)
def test_rooms_import_one_way(floor: str) -> None:
    level = {part: at for at, parts in enumerate(ARROWS[floor]) for part in parts.split()}
    wrong = []
    for file in room_files(floor):
        own = file.relative_to(PROJECT / floor).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        taken = {name.split(".")[1] for name in imports(file) if name.split(".")[0] == floor} - {own}
        wrong += [(own, part) for part in taken if level[part] >= level[own]]
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_in_one_sentence_what_it_promises(room: str) -> None:
    said = ast.get_docstring(ast.parse((PROJECT.joinpath(*room.split(".")) / "__init__.py").read_text()))
    assert said is not None
    assert said.count(". ") == 0
    assert said.endswith(".")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_entered_by_its_door_which_shows_what_others_use_and_no_more(room: str) -> None:
    folder = PROJECT.joinpath(*room.split("."))
    used: set[str] = set()
    past = []
    for file in SOURCES:
        if file.is_relative_to(folder) or file.is_relative_to(PROJECT / "tests"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == room:
                used |= {alias.name for alias in node.names}
            past += [file for name in imports_of(node) if name.startswith(f"{room}.") and name not in ROOMS]
    stub = ast.parse((folder / "__init__.pyi").read_text())
    shown = {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names(past) == []
    assert shown == used


def test_model_takes_only_the_batch_the_dna_code_errors_and_settings_from_the_data_pipeline() -> None:
    allowed = {f"data_pipeline.{name}" for name in ("dna", "errors", "settings")}
    taken = {name for file in room_files("model") for name in imports(file) if name.split(".")[0] == "data_pipeline"}
    assert taken - allowed == {"data_pipeline.episodes"}
    batch = {name for file in room_files("model") for name in names_from(file, "data_pipeline.episodes")}
    assert batch == {"EpisodeBatch"}


@pytest.mark.parametrize("floor", ["model", "evaluation"])
def test_model_and_evaluation_know_nothing_of_ray_and_deepspeed(floor: str) -> None:
    taken = {name.split(".")[0] for file in room_files(floor) for name in imports(file)}
    assert not taken & {"ray", "deepspeed"}


def test_model_knows_nothing_of_ray_deepspeed_and_files() -> None:
    for file in room_files("model"):
        assert not {name.split(".")[0] for name in imports(file)} & NO_MODEL_IMPORTS, file
        assert not re.search(r"(?<![\w.])open\(|torch\.(load|save)\(", file.read_text()), file


def test_no_file_is_longer_than_400_lines() -> None:
    assert names([file for file in SOURCES if len(file.read_text().splitlines()) > 400]) == []


def test_no_module_hides_one_of_the_standard_library_or_has_a_name_that_says_nothing() -> None:
    # Running a script puts its folder first on the path, where random.py would replace the real one.
    banned = sys.stdlib_module_names | {"utils", "util", "helpers", "helper", "common", "misc"}
    assert names([file for file in SOURCES if file.stem in banned]) == []


def test_text_files_are_read_and_written_as_utf_8() -> None:
    # The linter sees this only where it can tell that something is a path.
    unsaid = [
        f"{file.relative_to(PROJECT)}:{node.lineno}"
        for file in SOURCES
        if not file.is_relative_to(PROJECT / "tests")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text")
        if "encoding" not in [word.arg for word in node.keywords]
    ]
    assert unsaid == []


@pytest.mark.parametrize("preset", sorted((PROJECT / "configs").rglob("*.yaml")), ids=lambda file: file.stem)
def test_preset_loads_as_the_settings_of_its_folder(preset: Path) -> None:
    load(PRESETS[preset.relative_to(PROJECT / "configs").parts[0]], [preset])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_of_a_page_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_and_presets_named_on_a_page_exist(page: Path) -> None:
    folders = "|".join((*FLOORS, "bench", "configs"))
    named = re.findall(rf"(?<![\w./-])(?:{folders})/[\w/.-]*\.(?:py|yaml)\b", page.read_text(encoding="utf-8"))
    assert sorted({path for path in named if not (PROJECT / path).is_file()}) == []


@pytest.fixture(scope="module")
def help_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], subprocess.CompletedProcess[str]]]:
    """What a script says when it is asked by its path, from a folder elsewhere; all are asked, on all cores."""
    folder = tmp_path_factory.mktemp("elsewhere")

    def ask(script: Path) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-X", "importtime", script, "--help"]
        return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        asked: dict[Path, Future[subprocess.CompletedProcess[str]]] = {own: pool.submit(ask, own) for own in SCRIPTS}
        yield lambda script: asked[script].result()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.stem)
def test_script_run_by_its_path_explains_itself(
    help_of: Callable[[Path], subprocess.CompletedProcess[str]], script: Path
) -> None:
    done = help_of(script)
    assert "Usage" in done.stdout
    imported = re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE)
    assert [line for line in done.stderr.splitlines() if not line.startswith("import time:")] == []
    if script.parent.name in FLOORS:
        assert not {"ray", "deepspeed", "torch", "pandas"} & set(imported)


def test_settings_page_is_what_the_settings_say(tmp_path: Path) -> None:
    page, keys = tmp_path / "settings.md", tmp_path / "keys.txt"
    subprocess.run([sys.executable, PROJECT / "docs/settings_page.py", "--out", page, "--keys", keys], check=True)
    for made, committed in ((page, "docs/settings.md"), (keys, "configs/known_keys.txt")):
        says = f"run `python docs/settings_page.py` and commit {committed}"
        assert made.read_text() == (PROJECT / committed).read_text(), says


def test_every_setting_says_what_it_means() -> None:
    rows = [line for line in (PROJECT / "docs/settings.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if not row.rstrip(" |").endswith((".", ")", "`"))] == []


def test_commit_hooks_are_the_checks_of_the_makefile_and_download_nothing() -> None:
    hooks = yaml.safe_load((PROJECT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in hooks["repos"]] == ["local"]
    entries = {hook["entry"].split(" --force")[0]: hook["language"] for hook in hooks["repos"][0]["hooks"]}
    assert entries == {"ruff check": "system", "ruff format --check": "system", "mypy": "system"}
    makefile = (PROJECT / "Makefile").read_text()
    assert all(f"$(BIN)/{entry}" in makefile for entry in entries)


def test_there_is_one_version() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    latest = re.findall(r"^## (\S+) \((\S+)\)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert latest == (version, str(citation["date-released"]))
    assert citation["version"] == version


def test_every_dependency_is_bounded_on_both_sides_and_locked_within() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    locked = dict(line.split("==") for line in (PROJECT / "requirements.lock").read_text().split() if "==" in line)
    locked = {canonicalize_name(name): version for name, version in locked.items()}
    for requirement in map(Requirement, project["dependencies"]):
        assert {bound.operator for bound in requirement.specifier} == {">=", "<"}, requirement
        assert locked[canonicalize_name(requirement.name)] in requirement.specifier, requirement
