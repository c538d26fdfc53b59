"""Settings of a search: the content of a file in configs/search/, read without the libraries that do the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from data_pipeline.errors import UserError
from data_pipeline.settings import Settings, load
from tune.command_words import CONFIGS, space_file


class ParameterSettings(Settings):
    """Range of one setting: `low` and `high`, or `choices`; none of them: what the setting's owner declares."""

    low: float | None = None
    """Smallest value, in the unit of the setting."""
    high: float | None = None
    """Largest value; above `low`."""
    log: bool = False
    """Draw evenly on a log scale; needs `low` above 0."""
    integer: bool = False
    """Draw whole numbers only."""
    choices: list[bool | int | float | str] = Field(default_factory=list)
    """Values to choose from, at least two."""
    shares: list[int] = Field(default_factory=list)
    """How many trials each of `choices` gets for one of the others' (even designs); empty: the same."""
    when: dict[str, list[bool | int | float | str]] = Field(default_factory=dict)
    """Other searched keys with choices, and the values of each under which this setting is searched at all."""

    @property
    def is_declared(self) -> bool:
        """Whether the range is the one beside the setting."""
        return self.low is None and self.high is None and not self.choices

    @model_validator(mode="after")
    def _one_kind(self) -> ParameterSettings:
        if self.shares and (len(self.shares) != len(self.choices) or min(self.shares) < 1):
            raise ValueError("shares must be a whole number of at least 1 per choice")
        if self.is_declared:
            if self.log or self.integer:
                raise ValueError("give low and high with log or integer, or nothing for the range the setting declares")
            return self
        if self.choices:
            if self.low is not None or self.high is not None or self.log or self.integer:
                raise ValueError("give either choices or low and high, not both")
            if len(set(map(str, self.choices))) < max(2, len(self.choices)):
                raise ValueError("choices must be at least two different values")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("give low and high with low below high, or choices")
        if self.log and self.low <= 0:
            raise ValueError("log: true needs low above 0")
        if self.integer and not (self.low.is_integer() and self.high.is_integer()):
            raise ValueError("integer: true needs whole low and high")
        return self


Sampler = Literal["sobol", "tpe", "gp", "cmaes", "nsga2", "random"]


class SearchSettings(Settings):
    """What is searched, how, and with how much work."""

    presets: list[str] = Field(default_factory=list)
    """Presets of the runs where neither `--store` nor `--config` is given: files in `configs/`, without .yaml."""
    simulate: str = ""
    """Preset of `configs/simulate/` whose store is taken, and made if it is missing, where no `--store` is given."""
    run: dict[str, Any] = Field(default_factory=dict)
    """Settings of the runs by dotted key, over the presets and under the command line: what the space needs to act."""
    terms: bool = False
    """Search the strength of every loss term that is on: `weight`, under balance.mode=gradnorm_ema the gradient
    `ratio`, in the range the setting declares."""
    parameters: dict[str, ParameterSettings] = Field(default_factory=dict)
    """Further settings by dotted key, as `optimiser.lr: {low: 1.0e-4, high: 1.0e-2, log: true}`; `{}` for the range
    that the setting declares."""
    sampler: Sampler = "sobol"
    """`sobol` fills the space evenly, which regions and importances need; `tpe`, `gp` and `cmaes` go where results are
    good; `nsga2` looks for what cannot be bettered in mean, worst line and calibration at once."""
    startup: int = Field(8, ge=1)
    """Random trials before `tpe` and `gp` begin to learn."""
    population: int = Field(16, ge=4, le=1000)
    """Trials per generation of `nsga2`."""
    seed: int = Field(0, ge=0, le=2**31 - 1)
    """Fixes the points; the runs have their own seeds, the same in all trials."""
    trials: int = Field(32, ge=1, le=100_000)
    """Trials in all, stopped and failed ones included; what `confirm` adds is not counted."""
    start: bool = True
    """Try the settings of the runs as they stand, beside the points of the design."""
    folds: int = Field(0, ge=0)
    """Most inner folds per trial; 0: every line but the test line is the validation line once."""
    seeds: int = Field(1, ge=1, le=100)
    """Training seeds per fold, from `train.seed` on, the same in all trials."""
    confirm: int = Field(0, ge=0, le=100)
    """Fresh training seeds with which the best trial, the recommended settings and those of the runs as they stand are
    trained again in the end; 0: not."""
    early_stop: bool = False
    """Stop trials that are behind after a fold (asynchronous successive halving)."""
    grace: int = Field(1, ge=1)
    """Folds before a trial may be stopped."""
    reduction: int = Field(2, ge=2, le=16)
    """One in this many trials goes on from a rung; rungs are at grace, grace * reduction, ... folds."""

    @model_validator(mode="after")
    def _acts(self) -> SearchSettings:
        if not self.terms and not self.parameters:
            raise ValueError("nothing to search: set terms: true or name parameters")
        if self.early_stop and self.sampler == "nsga2":
            raise ValueError("early_stop ranks trials by one figure, and nsga2 looks at several; set early_stop: false")
        for key, own in self.parameters.items():
            for other, values in own.when.items():
                chosen = self.parameters.get(other)
                if chosen is None or chosen.when:
                    raise ValueError(f"{key}.when names {other}, which is not searched, or not in every trial")
                if chosen.choices and not set(map(str, values)) <= set(map(str, chosen.choices)):
                    raise ValueError(f"{key}.when waits for {values}, and {other} is one of {chosen.choices}")
        return self


def load_space(space: str, overrides: list[str]) -> SearchSettings:
    """The settings of a space: the name of a preset in configs/search, or a YAML file; raises `UserError`."""
    return load(SearchSettings, [space_file(space)], overrides)


def run_words(search: SearchSettings) -> list[str]:
    """`run` as overrides of the command line."""
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in search.run.items()]


def presets_of(search: SearchSettings, space: str) -> list[Path]:
    """The presets of the runs that `space` brings with it; raises `UserError`."""
    files = [CONFIGS / f"{name}.yaml" for name in search.presets]
    for file in files:
        if not file.is_file():
            raise UserError(f"space '{space}': there is no preset {file}; give --config, or mend `presets`")
    return files


def simulated_store(search: SearchSettings, space: str) -> Path:
    """Where the simulated store of `space` lies or is made; raises `UserError` for a space that brings none."""
    if not search.simulate:
        raise UserError(f"space '{space}' brings no store with it: give --store")
    if not simulation_of(search).is_file():
        known = ", ".join(sorted(file.stem for file in (CONFIGS / "simulate").glob("*.yaml")))
        raise UserError(f"space '{space}': there is no simulated store '{search.simulate}'; there are {known}")
    return Path("stores") / f"simulated-{search.simulate}"


def simulation_of(search: SearchSettings) -> Path:
    """The file of `simulate`."""
    return CONFIGS / f"simulate/{search.simulate}.yaml"
