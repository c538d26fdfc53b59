"""The tree of settings of one run; each branch is declared next to its owner.

The resolved tree is stored with the run, with every checkpoint and with every report.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from data_pipeline.episodes import EpisodeSettings, FoldSettings, StreamSettings, SupportSize
from data_pipeline.settings import Settings, searched
from distributed.monitoring import ResponseSettings
from evaluation import ScoringSettings
from model.episode_model import ModelSettings
from model.objective import ObjectiveSettings


class OptimiserSettings(Settings):
    """AdamW and its learning-rate schedule."""

    lr: float = Field(1e-3, gt=0, le=1, json_schema_extra=searched(3e-4, 1e-2, log=True))
    """Peak learning rate."""
    adversary_rate: float = Field(5.0, ge=0.1, le=100, json_schema_extra=searched(1.0, 20.0, log=True))
    """Learning rate of adversaries (the line classifiers of grl, cdan and club, the critic of dependence) over that of
    the rest: they must keep up with the encoder they follow."""
    weight_decay: float = Field(1e-3, ge=0, le=1, json_schema_extra=searched(1e-5, 1e-1, log=True))
    """Decoupled weight decay; never applied to biases, norms and the scalars t, w, lambda, b."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the gradient average."""
    beta2: float = Field(0.999, ge=0, lt=1, json_schema_extra=searched(0.95, 0.999))
    """Decay of the squared-gradient average."""
    clip: float = Field(1.0, ge=0, le=1e6)
    """Largest global gradient norm; 0: no clipping."""
    warmup_steps: int = Field(50, ge=0, json_schema_extra=searched(1, 200, log=True, integer=True))
    """Steps of linear warm-up from 0."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Shape after warm-up; cosine falls to `final_share` at the last step."""
    final_share: float = Field(0.05, ge=0, le=1)
    """Share of `lr` left at the end of the cosine."""


class EngineSettings(Settings):
    """DeepSpeed and the device."""

    zero_stage: Literal[0, 1, 2, 3] = 2
    """What the workers share out: 0 nothing, 1 optimiser state, 2 and gradients, 3 and parameters."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes a GPU per worker where the cluster has any, and then fewer GPUs than workers are an error."""
    offload_optimiser: bool = False
    """Keep optimiser state in host memory (ZeRO 1-3); PyTorch's AdamW then steps on the CPU, which is slower."""
    offload_parameters: bool = False
    """Keep idle parameters in host memory (ZeRO 3)."""
    compile: bool = False
    """Compile the module with torch.compile."""
    threads: int = Field(0, ge=0, le=256)
    """CPU threads per worker; 0: the worker's share of its host's cores."""

    @model_validator(mode="after")
    def _offload_acts(self) -> EngineSettings:
        if self.offload_optimiser and self.zero_stage == 0:
            raise ValueError("offload_optimiser=true does nothing at zero_stage=0; set zero_stage to 1, 2 or 3")
        if self.offload_parameters and self.zero_stage != 3:
            raise ValueError(f"offload_parameters=true does nothing at zero_stage={self.zero_stage}; set zero_stage=3")
        return self


class TrainSettings(Settings):
    """How long to train, what to keep, when to stop."""

    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Seeds the plan, the initial weights and dropout."""
    epochs: int = Field(20, ge=1, le=100_000)
    """Most epochs to train."""
    max_steps: int = Field(0, ge=0)
    """Stop after this many steps; 0: no limit."""
    validate_every: int = Field(0, ge=0)
    """Steps between validations, beside the one at each epoch's end; 0: none. Signals of real pairs are overfitted
    within an epoch or two, so the best state may lie within one."""
    patience: int = Field(3, ge=0)
    """Validations without a better score before stopping; 0: never stop early."""
    choose_from: int = Field(1, ge=1, le=100_000)
    """First epoch, from 1, that may be chosen as the best and with which patience begins; the last may always be.

    More than 1 where what is judged has to be what was asked for: an epoch in which the environment or a loss term does
    not act yet may be the better one by chance.
    """
    checkpoint_every: int = Field(100, ge=0)
    """Steps between checkpoints, beside the one at each epoch's end; 0: only at epoch ends."""
    keep_best: int = Field(2, ge=1, le=100)
    """Checkpoints to keep, best validation macro average precision first; the latest is kept too."""
    log_every: int = Field(10, ge=1)
    """Steps between records of the per-step metrics."""
    bad_steps: int = Field(10, ge=1, le=100_000)
    """Steps in a row with a loss or gradient that is not finite after which a run stops; each of them is skipped."""
    max_failures: int = Field(2, ge=-1)
    """Times a run recovers from a lost worker or host by itself, from its latest checkpoint; -1: without limit."""
    responses: ResponseSettings = ResponseSettings()
    """What a run does about declared failures (R100-R107)."""


class WorkerSettings(Settings):
    """What the run asks of the Ray cluster."""

    count: int = Field(1, ge=1, le=4096)
    """Training workers."""
    cpus: float = Field(1, gt=0, le=256)
    """CPUs reserved per worker."""
    placement: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """Ray placement strategy of the workers."""
    timeout: float = Field(600, ge=10, le=86_400)
    """Seconds that workers wait for each other before they give up; then the run goes on from its latest checkpoint."""


class RunSettings(Settings):
    """Everything that decides a run's result, and how it is run."""

    fold: FoldSettings = FoldSettings()
    """Lines and chromosomes left out."""
    episodes: EpisodeSettings = EpisodeSettings()
    """Episode and step size."""
    model: ModelSettings = ModelSettings()
    """The episodic energy model."""
    objective: ObjectiveSettings = ObjectiveSettings()
    """Loss terms, balancing, curriculum."""
    optimiser: OptimiserSettings = OptimiserSettings()
    """AdamW."""
    train: TrainSettings = TrainSettings()
    """Length, checkpoints, stopping."""
    scoring: ScoringSettings = ScoringSettings()
    """Validation and evaluation."""
    stream: StreamSettings = StreamSettings()
    """Reading ahead."""
    engine: EngineSettings = EngineSettings()
    """DeepSpeed, device, precision."""
    workers: WorkerSettings = WorkerSettings()
    """Ray resources."""

    @property
    def support_in_use(self) -> SupportSize:
        """Size of supports outside training: validation, search, evaluation, prediction."""
        trained, environment = self.episodes.support_sizes, self.model.environment
        if environment.labelled_support:
            return SupportSize.exactly(trained[-1])
        if environment.encoder in ("none", "features"):
            return SupportSize.exactly(trained[0])  # nobody looks at it
        return SupportSize(min(trained[0], self.scoring.support), self.scoring.support)
