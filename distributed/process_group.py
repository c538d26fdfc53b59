"""How the workers' process group comes to be: as Ray Train makes it, or on loopback alone where they share a machine.

torch's rendezvous listens on every interface of rank 0's host. On one machine the socket is made here, on 127.0.0.1,
and handed to torch; gloo and NCCL follow the interface that local_ray.py names.
"""

from __future__ import annotations

import datetime
import platform
import socket
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _TorchBackend

from data_pipeline.errors import UserError

_listening: list[socket.socket] = []


def torch_config(cuda: bool, seconds: float, loopback: bool) -> TorchConfig:
    """The group of a run's workers; a collective that takes longer than `seconds` is an error in all of them."""
    kind = LoopbackConfig if loopback else TorchConfig
    return kind(backend="nccl" if cuda else "gloo", timeout_s=int(seconds))


class LoopbackConfig(TorchConfig):
    """A process group whose meeting place only this machine reaches."""

    @property
    def backend_cls(self) -> type[LoopbackBackend]:
        """What Ray Train starts it with."""
        return LoopbackBackend


class LoopbackBackend(_TorchBackend):
    """Ray Train's way to set up torch, but for the address of the meeting place."""

    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        """Let worker 0 listen, then all of them meet there."""
        port = worker_group.execute_single(0, _listen)
        worker_group.execute(_set_torch_distributed_env_vars)
        world, kind, seconds = len(worker_group), backend_config.backend, backend_config.timeout_s
        ray.get(
            [worker_group.execute_single_async(rank, _meet, port, rank, world, kind, seconds) for rank in range(world)]
        )


def require_gpu() -> None:
    """Raise `UserError` where torch cannot use the GPU that this worker was given."""
    if not (torch.cuda.is_available() and dist.is_nccl_available()):
        raise UserError(
            f"a worker was given a GPU on {platform.node()}, and torch {torch.__version__} cannot use it there: "
            "install a build of torch for its CUDA driver, or train with engine.device=cpu"
        )


def _listen() -> int:
    _listening[:] = [socket.create_server(("127.0.0.1", 0))]
    return int(_listening[0].getsockname()[1])


def _meet(port: int, rank: int, world: int, backend: str, seconds: int) -> None:
    if backend == "nccl":
        require_gpu()
    limit = datetime.timedelta(seconds=seconds)
    own = _listening.pop().detach() if rank == 0 else None
    store = dist.TCPStore("127.0.0.1", port, world, is_master=rank == 0, timeout=limit, master_listen_fd=own)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=limit)
