"""A run's length on resume: it may become another where the steps already taken would have been the same.

They would under a constant learning rate; the cosine is stretched over the whole run. A run that ended may go on if its
end was one that a longer run would have had too: the end of an epoch, chosen by the same rule as every other.
"""

from __future__ import annotations

from pathlib import Path

from data_pipeline.episodes import Plan
from data_pipeline.errors import UserError
from distributed.assembly import total_steps
from distributed.run_folder.checkpoint import TrainingState
from distributed.settings import RunSettings


def continued(state: TrainingState, run: Path, plan: Plan, settings: RunSettings) -> TrainingState:
    """`state`, the latest of `run`, as training goes on from it under `settings`: unfinished if only length ended it.

    Raises `UserError` where a run of the asked length would not have come to this state.
    """
    steps, length = total_steps(plan, settings), "train.epochs and train.max_steps"
    if state.step > steps:
        raise UserError(
            f"run {run} has taken {state.step} steps already, and {length} now ask for {steps}; give more, or choose "
            "another --name"
        )
    patience = state.watch.adjustments.patience or settings.train.patience
    impatient = patience > 0 and state.epochs_without_gain >= patience
    if not state.finished or state.step == steps or impatient:
        return state
    epochs, inside = divmod(state.step, plan.steps_per_epoch)
    if inside or epochs < settings.train.choose_from:
        why = "inside an epoch" if inside else "before the epoch train.choose_from, and its last one could be the best"
        raise UserError(
            f"run {run} cannot be made longer: it ended {why}, as a longer run would not have; give the earlier "
            f"{length}, or choose another --name"
        )
    return state.model_copy(update={"finished": False})
