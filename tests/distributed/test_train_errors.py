"""What a user can get wrong when training: status 2, one sentence, and nothing made or lost.

The command runs in this process, on a Ray of three CPUs that believes in one GPU; one test starts it as a user does.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ray
import torch
from tiny_training import TINY_RUN, tiny_fold, tiny_plan, tiny_settings, tiny_store

from data_pipeline.errors import UserError, command_line
from data_pipeline.store.store import Store
from distributed import local_ray
from distributed.assembly import build_module
from distributed.run_folder.checkpoint import (
    Identity,
    TrainingState,
    checkpoints,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from distributed.run_folder.runs import claim
from distributed.train import app

# Ray Data warns of options of its own when it copies its settings to a worker.
pytestmark = pytest.mark.filterwarnings(r"ignore:`\w+` is deprecated")
TRAIN = Path(__file__).resolve().parents[2] / "distributed/train.py"
Refused = Callable[..., str]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return tiny_store(tmp_path_factory.mktemp("errors") / "store")


@pytest.fixture(scope="module")
def small_ray() -> Iterator[Path]:
    """Its folder of logs; whatever this machine has, no GPU has the number 99."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setenv("CUDA_VISIBLE_DEVICES", "99")
        local_ray.start(cpus=3, gpus=1)
        yield local_ray.ray_folder() / "session_latest/logs"
        ray.shutdown()


@pytest.fixture
def refused(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run the command with more words and return the sentence it ends in."""

    def run(*words: str, store_path: Path = store.path) -> str:
        options = ["--store", str(store_path), "--runs", str(tmp_path / "runs"), "--name", "first"]
        with pytest.raises(SystemExit) as stopped:
            command_line(lambda: app([*options, *TINY_RUN, *words], standalone_mode=False))
        assert stopped.value.code == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        *progress, sentence = shown.err.splitlines()
        assert all(line.startswith(("first: ", "step ")) for line in progress)
        assert sentence.startswith("error: ")
        return sentence.removeprefix("error: ")

    return run


@pytest.fixture
def first(store: Store, tmp_path: Path) -> Path:
    """A run named `first` that stands at step 3."""
    settings = tiny_settings()
    run = claim(tmp_path / "runs", "first", False, store.path, store.checksum, settings)
    identity = Identity(store=store.checksum, fold=tiny_fold(store).identity, plan=tiny_plan(store).identity)
    state = TrainingState(
        step=3, identity=identity, inputs={}, train_lines=[], signal_names=[], settings=settings.model_dump(mode="json")
    )
    save_checkpoint(run, {"weight": torch.ones(2)}, {"step": torch.zeros(())}, state)
    return run


def damaged(store: Store, folder: Path, change: Callable[[bytes], bytes]) -> Path:
    """A copy of the store in which one shard of pairs is changed."""
    copy = shutil.copytree(store.path, folder / "store")
    shard = sorted(copy.glob("pairs*"))[0]
    shard = shard if shard.is_file() else sorted(shard.iterdir())[0]
    shard.write_bytes(change(shard.read_bytes()))
    return copy


def workers_started(logs: Path) -> int:
    return len(list(logs.glob("train/ray-train-app-worker-*.log")))


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_missing_store(refused: Refused, tmp_path: Path) -> None:
    wanted = f"store {tmp_path}/none does not exist; make one with data_pipeline/ingest.py or data_pipeline/simulate.py"
    assert refused(store_path=tmp_path / "none") == wanted
    assert not (tmp_path / "runs").exists()


def test_truncated_shard(refused: Refused, store: Store, tmp_path: Path) -> None:
    sentence = refused(store_path=damaged(store, tmp_path, lambda content: content[:-8]))
    assert "(truncated or overwritten); ingest the store again or restore the file" in sentence
    assert not (tmp_path / "runs").exists()


def test_flipped_bit_in_a_shard(refused: Refused, store: Store, tmp_path: Path) -> None:
    sentence = refused(store_path=damaged(store, tmp_path, flip))
    assert sentence.endswith("does not match its sha256; ingest the store again or restore the file")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("optimiser.learning_rate=1", "settings: unknown key 'optimiser.learning_rate'"),
        ("optimiser.lrr=1", "settings: unknown key 'optimiser.lrr', did you mean 'optimiser.lr'?"),
        ("optimiser.lr=-1", "settings: key 'optimiser.lr' has value -1: input should be greater than 0"),
        ("episodes.query=1", "settings: key 'episodes.query' has value 1: input should be greater than or equal to 2"),
        ("engine.zero_stage=4", "settings: key 'engine.zero_stage' has value 4: input should be 0, 1, 2 or 3"),
        ("train.epochs=many", "settings: key 'train.epochs' has value 'many': input should be a valid integer"),
        ("optimiser.lr", "override 'optimiser.lr' is not of the form key=value, for example optimiser.lr=1e-3"),
    ],
)
def test_settings_that_are_wrong_are_named_by_their_key(refused: Refused, word: str, sentence: str) -> None:
    assert refused(word).startswith(sentence)


def test_missing_preset(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    assert refused("--config", str(file)) == f"settings file {file} does not exist"


def test_unknown_line(refused: Refused, store: Store) -> None:
    sentence = f"store {store.path} has no cell line 'K562'; it has sim1, sim2, sim3, sim4"
    assert refused("--test-line", "K562", "fold.test_line=K562") == sentence


def test_line_with_too_few_pairs_for_an_episode(refused: Refused) -> None:
    assert refused("episodes.support=200") == (
        "line 'sim1' has too few pairs for an episode: its 125 training pairs do not hold a support of 200 and a query "
        "of 16 that share no element; lower episodes.support or episodes.query, hold out less, or leave the line out "
        "with fold.train_lines"
    )


def test_workers_that_do_not_divide_a_step(refused: Refused) -> None:
    assert refused("--workers", "3") == (
        "2 episodes per step cannot be shared equally by 3 workers; "
        "set episodes.per_step to a multiple of the number of workers"
    )


def test_existing_name_without_resume(refused: Refused, first: Path) -> None:
    assert refused() == f"run {first} exists already; add --resume to continue it, or choose another --name"


def test_resume_of_nothing(refused: Refused, tmp_path: Path) -> None:
    run = tmp_path / "runs/first"
    assert refused("--resume") == f"there is no run at {run}: {run}/run.json does not exist; check --name and --runs"


def test_resume_with_another_store(refused: Refused, store: Store, first: Path, tmp_path: Path) -> None:
    other = tiny_store(tmp_path / "other", "seed=2")
    assert refused("--resume", store_path=other.path) == (
        f"run {first} was trained on another store ({store.path}, checksum {store.checksum[:12]}), not on {other.path} "
        f"({other.checksum[:12]}); resume it with its own store or choose another --name"
    )


def test_resume_with_other_settings(refused: Refused, first: Path) -> None:
    assert refused("--resume", "optimiser.lr=0.5") == (
        f"run {first} cannot be resumed with other settings: optimiser.lr (was 0.001, is 0.5); give the earlier values "
        "(they are in its run.json) or choose another --name"
    )


def test_folder_of_runs_that_cannot_be_written(refused: Refused, tmp_path: Path, small_ray: Path) -> None:
    (tmp_path / "runs").write_text("")
    sentence = f"cannot create {tmp_path}/runs/first: Not a directory; choose a writable --runs"
    assert refused() == sentence


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_fewer_gpus_than_workers(refused: Refused, tmp_path: Path, small_ray: Path, device: str) -> None:
    assert refused(f"engine.device={device}", "--workers", "2") == (
        f"engine.device={device} asks for 2 GPUs, one per worker, and this cluster has 1; use engine.device=cpu, fewer "
        "workers, or a cluster with GPUs"
    )
    assert not (tmp_path / "runs").exists()


def test_a_gpu_that_torch_cannot_use_does_not_become_a_cpu(refused: Refused, small_ray: Path) -> None:
    sentence = refused("workers.cpus=0.5")
    assert sentence.startswith(
        f"a worker was given a GPU on {platform.node()}, and torch {torch.__version__} cannot use"
    )
    assert sentence.endswith("install a build of torch for its CUDA driver, or train with engine.device=cpu")


def test_too_few_cpus(refused: Refused, tmp_path: Path, small_ray: Path) -> None:
    assert refused("workers.cpus=50") == (
        "the run needs 51.25 CPUs (1 workers of 50, their read tasks and 1 spare) and this cluster has 3; lower "
        "workers.count or workers.cpus"
    )
    assert not (tmp_path / "runs").exists()


def test_run_of_another_version(refused: Refused, first: Path, small_ray: Path) -> None:
    state = first / "checkpoint_000000003/state.json"
    state.write_text(state.read_text().replace('"plan": "', '"plan": "0'))
    assert refused("--resume", "engine.device=cpu").startswith(
        f"run {first} was planned by another version of the program (its folds or"
    )


def test_what_fails_in_a_worker_ends_in_the_same_sentence_once_and_loses_no_checkpoint(
    refused: Refused, first: Path, small_ray: Path
) -> None:
    before = workers_started(small_ray)
    (first / "checkpoint_000000003").rename(first / "kept")
    (first / "metrics").write_text("a file where a folder should be")
    assert refused("--resume", "train.max_failures=2", "workers.cpus=0.5", "engine.device=cpu") == (
        f"run {first} cannot be written: File exists ({first}/metrics); its checkpoints are whole: make room or mend "
        "the folder, then continue with --resume"
    )
    assert load_checkpoint(first / "kept")[2].step == 3
    assert workers_started(small_ray) == before + 1


def exploded(store: Store, run: Path) -> None:
    """Make the checkpoint of `run` that of a model whose weights are finite and far too large."""
    settings = tiny_settings()
    module = build_module(store, tiny_fold(store), settings)
    tensors = {name: value * 1e30 if "invariant." in name else value for name, value in module.state_dict().items()}
    state = read_state(run / "checkpoint_000000003")
    save_checkpoint(run, tensors, {"step": torch.zeros(())}, state)


def test_a_run_that_no_longer_learns_ends_with_step_and_term(
    refused: Refused, store: Store, first: Path, small_ray: Path
) -> None:
    exploded(store, first)
    sentence = refused("--resume", "train.bad_steps=2", "workers.cpus=0.5", "engine.device=cpu")
    assert sentence.startswith(f"run {first} stops because 2 steps in a row, 3 to 4, taught nothing: the loss of ")
    assert "task" in sentence
    assert "(the logits of lines sim1, sim2 are not finite)" in sentence
    assert [folder.name for folder, _ in checkpoints(first)] == ["checkpoint_000000003"]


def test_the_command_itself_prints_one_line_and_no_traceback(tmp_path: Path) -> None:
    words = [sys.executable, TRAIN, "--store", "nowhere"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: store nowhere does not exist; make one with")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "line", ["K562 #2", "5637", "yes", "[a", "a: b", "null", "${x}", "'s", 'a "b"', "sim4 ", "=", ""]
)
def test_the_line_of_an_option_is_the_users_text(store: Store, tmp_path: Path, line: str) -> None:
    words = ["--store", str(store.path), "--runs", str(tmp_path / "runs"), "--test-line", line, "--valid-line", "sim3"]
    with pytest.raises(UserError) as caught:
        app(words, standalone_mode=False)
    unknown = f"store {store.path} has no cell line '{line}'; it has" if line else "fold.test_line is not set"
    assert str(caught.value).startswith(unknown)
