"""The DeepSpeed engine around the training module: configuration, learning rate, full state in and out.

The state that leaves the engine is whole: fp32 parameters, buffers and AdamW moments by name, independent of the ZeRO
stage and of the number of workers, so that a run can resume under another one of either. DeepSpeed's own checkpoints
refuse that. Gathering is collective and costs one all-reduce per tensor.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_get_local_optimizer_state,
    safe_set_full_optimizer_state,
    safe_set_local_optimizer_state,
)
from torch import Tensor

from distributed.local_ray import forget_launchers
from distributed.settings import EngineSettings, OptimiserSettings
from model.objective import TrainingModule
from model.parameters import parameter_groups

MOMENTS = ("exp_avg", "exp_avg_sq")


def start_process_group(cuda: bool, timeout: float) -> None:
    """Let the workers talk, NCCL between GPUs, gloo between CPUs; a collective ends in an error after `timeout` s."""
    forget_launchers(ranks=False)
    # DeepSpeed's shared-memory all-reduce serves inference only, and at its first use costs a compiler and a minute.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(
        dist_backend="nccl" if cuda else "gloo", auto_mpi_discovery=False, timeout=datetime.timedelta(seconds=timeout)
    )


def start_engine(
    module: TrainingModule, optimiser: OptimiserSettings, settings: EngineSettings, episodes: int, timeout: float
) -> Any:
    """Wrap `module` in a DeepSpeed engine, with the buffers of worker 0 everywhere.

    `episodes` is the number per step on this worker; its collectives end in an error after `timeout` seconds.
    """
    groups = parameter_groups(module, optimiser.weight_decay, optimiser.adversary_rate)
    adamw = torch.optim.AdamW(groups, lr=optimiser.lr, betas=(optimiser.beta1, optimiser.beta2))
    zero: dict[str, Any] = {"stage": settings.zero_stage}
    if settings.offload_optimiser:
        zero["offload_optimizer"] = {"device": "cpu"}
    if settings.offload_parameters:
        zero["offload_param"] = {"device": "cpu"}
    config = {
        "train_micro_batch_size_per_gpu": episodes,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optimiser.clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 2**31,
        "wall_clock_breakdown": False,
    }
    engine, *_ = deepspeed.initialize(model=module, optimizer=adamw, config=config)
    if settings.zero_stage == 3:
        # ZeRO-3 brings a sharded parameter back for one backward only, and per-term gradients pass the heads several
        # times; marked external, the heads stay whole from their first use on.
        for parameter in module.head_parameters():
            parameter.is_external_param = True  # type: ignore[attr-defined]
    if settings.compile:
        engine.compile()
    # DeepSpeed's groups are its own, with torch's limit of half an hour.
    for group in {engine.data_parallel_group, engine.seq_data_parallel_group}:
        group.set_timeout(datetime.timedelta(seconds=timeout))
    level_buffers(engine)
    return engine


def level_buffers(engine: Any) -> None:
    """Give every worker the buffers of worker 0, which checkpoints hold; collective.

    DeepSpeed sends parameters round at the start and buffers never. They follow from what all workers see, so they
    differ by rounding at most; a resumed run begins with equal ones, and so goes on as if it had not stopped.
    """
    if dist.get_world_size() > 1:
        for buffer in engine.module.buffers():
            dist.broadcast(buffer, src=0)


def learning_rate(step: int, steps: int, settings: OptimiserSettings) -> float:
    """Learning rate of global step `step` (0-based) of `steps`: linear warm-up, then constant or cosine."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return settings.lr
    progress = min((step - settings.warmup_steps) / max(steps - settings.warmup_steps, 1), 1.0)
    share = settings.final_share + (1 - settings.final_share) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.lr * share


def set_learning_rate(engine: Any, lr: float) -> None:
    """Set the rate of every parameter group: `lr` times the group's own factor."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr * group["rate"]


def learn(engine: Any, total: Tensor) -> float:
    """Backward of the loss `total` () and the optimiser's step; the global gradient norm before clipping.

    A result that is not finite says that loss or gradient was not, and that nothing has changed on any worker.
    """
    if not _everywhere(bool(total.isfinite())):
        return math.nan
    engine.backward(total)
    if engine.zero_optimization_stage() > 0:
        # ZeRO looks at the norm itself, and leaves everything as it is where that is not finite.
        engine.step()
        return float(engine.get_global_grad_norm())
    gradients = [parameter.grad for parameter in engine.module.parameters() if parameter.grad is not None]
    norm = float(torch.nn.utils.get_total_norm(gradients))
    if _everywhere(math.isfinite(norm)):
        engine.step()
        return norm
    engine.zero_grad()
    return math.inf


def _everywhere(good: bool) -> bool:
    """Whether `good` holds on all workers: one that went on alone would wait for the others for ever."""
    if dist.get_world_size() == 1:
        return good
    flag = torch.tensor(float(good), device=deepspeed.get_accelerator().current_device_name())
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag)


def full_parameters(engine: Any) -> dict[str, Tensor]:
    """Whole fp32 parameters and buffers by name, on the CPU; collective."""
    stage = engine.zero_optimization_stage()
    parameters = dict(engine.module.named_parameters())
    saved = engine.module.state_dict()
    state = {name: value.detach().cpu().clone() for name, value in saved.items() if name not in parameters}
    for name, parameter in parameters.items():
        whole = parameter if stage == 0 else safe_get_full_fp32_param(parameter)
        state[name] = whole.detach().float().cpu().clone()
    return state


def full_moments(engine: Any) -> dict[str, Tensor]:
    """AdamW moments as `<parameter>/<moment>` and the step counter as `step`, on the CPU; collective."""
    stage = engine.zero_optimization_stage()
    state: dict[str, Tensor] = {"step": torch.tensor(float(_steps_done(engine)))}
    if state["step"] == 0:
        return state
    _link_moments(engine)
    adamw = engine.optimizer
    for name, parameter in engine.module.named_parameters():
        for moment in MOMENTS:
            whole = adamw.state[parameter][moment] if stage == 0 else safe_get_full_optimizer_state(parameter, moment)
            state[f"{name}/{moment}"] = whole.detach().float().cpu().clone()
    return state


def load_moments(engine: Any, state: dict[str, Tensor]) -> None:
    """Put moments from `full_moments` back, whatever stage or worker count they came from."""
    if state["step"] == 0:
        return
    stage = engine.zero_optimization_stage()
    adamw = engine.optimizer if stage == 0 else engine.optimizer.optimizer
    for flat in _optimised_tensors(engine):
        adamw.state[flat] = {
            "step": state["step"].clone(),
            **{moment: torch.zeros_like(flat, requires_grad=False) for moment in MOMENTS},
        }
    _link_moments(engine)
    for name, parameter in engine.module.named_parameters():
        for moment in MOMENTS:
            value = state[f"{name}/{moment}"]
            if stage == 0:
                adamw.state[parameter][moment].copy_(value)
            elif stage == 3:
                _set_partition(parameter, value, moment)
            else:
                safe_set_full_optimizer_state(parameter, value, moment)


def _set_partition(parameter: Tensor, value: Tensor, moment: str) -> None:
    """Set this worker's ZeRO-3 slice of a moment.

    DeepSpeed's `safe_set_full_optimizer_state` fails where the tensor's size is not a multiple of the worker count.
    """
    size = safe_get_local_optimizer_state(parameter, moment).numel()
    padded = torch.nn.functional.pad(value.flatten(), (0, size * dist.get_world_size() - value.numel()))
    mine = padded[size * dist.get_rank() :][:size].contiguous()
    safe_set_local_optimizer_state(parameter, mine, moment)


def _link_moments(engine: Any) -> None:
    """Tell each parameter of ZeRO 1 and 2 where its slice of the moments is.

    DeepSpeed 0.19 does this after the first parameter group's first step, when the other groups have no moments yet,
    and never again: parameters of later groups stay without.
    """
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _optimised_tensors(engine: Any) -> list[Tensor]:
    """The tensors AdamW steps: parameters at stage 0, flat partitions of them above."""
    stage = engine.zero_optimization_stage()
    if stage == 0:
        return [parameter for group in engine.optimizer.param_groups for parameter in group["params"]]
    if stage == 3:
        return list(engine.optimizer.fp32_partitioned_groups_flat)
    return list(engine.optimizer.single_partition_of_fp32_groups)


def _steps_done(engine: Any) -> float:
    stage = engine.zero_optimization_stage()
    adamw = engine.optimizer if stage == 0 else engine.optimizer.optimizer
    counters = [state["step"] for state in adamw.state.values() if "step" in state]
    return float(counters[0]) if counters else 0.0
