"""Several processes that train one network together: whose rows of a batch are whose, and what they tell each other.

torchrun starts them (torch.distributed.run, which says to each by environment variables who it is); they speak by NCCL
of GPUs and by gloo of CPUs. Rank r of N takes the rows r, r + N, r + 2 N, ... of every batch of the one plan, so that
an epoch has each image once whatever N is, and the batch is the recipe's. Their gradients are averaged by
DistributedDataParallel. A process on its own is rank 0 of 1, for which nothing here changes a bit.
"""

import gc
import os
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fastcifar.data.plan import EpochPlan
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution, processes
from fastcifar.own import said
from fastcifar.training.sync_batchnorm import synchronise

PATIENCE = timedelta(minutes=10)
"""How long a rank waits for the others before it gives up; the first step's compilation has to fit into it."""


@dataclass(frozen=True)
class Ranks:
    """Which of the processes this one is, and how many there are."""

    rank: int = 0
    count: int = 1
    sync_batchnorm: bool = False

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and writes."""
        return self.rank == 0

    def device(self, name: str) -> torch.device:
        """Where this process trains: of several GPUs of a machine, the one of its number there."""
        if name == "cuda" and self.count > 1:
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device(name)

    def rows(self, batch: int) -> int:
        """How many of a batch's rows are this rank's; those of two ranks differ by one at the most."""
        return len(range(self.rank, batch, self.count))

    def weight(self, batch: int) -> float:
        """By which the mean over this rank's rows of a batch is multiplied, so that the ranks' mean is the batch's."""
        return self.rows(batch) * self.count / batch

    def part(self, plan: EpochPlan, batch: int) -> EpochPlan:
        """This rank's rows of every batch of `plan`, one batch after another."""
        if self.count == 1:
            return plan
        return plan[np.arange(len(plan)) % batch % self.count == self.rank]

    def together(self, network: nn.Module) -> nn.Module:
        """`network` as it is trained: its gradients are the ranks' mean, its batch statistics each rank's own, or, with
        `sync_batchnorm`, all ranks', which changes the layers in it. Raises `InputError` where it has none of them."""
        if self.count == 1:
            return network
        if self.sync_batchnorm:
            synchronise(network)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what torch 2.15 calls it instead, 2.14 does not know
            return DistributedDataParallel(network, broadcast_buffers=False)

    def of_batch(self, loss: Tensor, correct: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Of this rank's rows the mean loss () and the number of right answers (): those of the whole batch."""
        if self.count == 1:
            return loss, correct
        both = torch.stack((loss.float() * self.rows(batch), correct.float()))
        dist.all_reduce(both)
        return both[0] / batch, both[1].to(correct.dtype)

    def greatest(self, tensor: Tensor) -> Tensor:
        """The greatest of the ranks' values at each place."""
        if self.count > 1:
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    @torch.no_grad()
    def share_statistics(self, network: nn.Module) -> None:
        """Make the network's floating-point buffers, batch statistics that is, the ranks' means."""
        if self.count > 1:
            for buffer in network.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer.div_(self.count)  # in this order what is the same on all ranks stays it, to the bit

    def gathered(self, rows: Tensor, total: int) -> Tensor:
        """The ranks' rows (n, ...) of `total`, of which rank r has r, r + N, ..., in their places: (total, ...)."""
        if self.count == 1:
            return rows
        most = -(-total // self.count)
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        return torch.stack(parts, dim=1).flatten(0, 1)[:total]

    def require_same(self, facts: Mapping[str, str]) -> None:
        """Raises `InputError` on every rank where one of `facts` is not the same on all."""
        if self.count == 1:
            return
        of_all: list[dict[str, str]] = [{} for _ in range(self.count)]
        dist.all_gather_object(of_all, dict(facts))
        for name, value in of_all[0].items():
            for rank, of in enumerate(of_all):
                if of.get(name) != value:
                    raise InputError(f"rank {rank}: {name} is {of.get(name)}, and that of rank 0 {value}")

    def any_of(self, text: str) -> str:
        """The first rank's text that is not empty, on all of them."""
        if self.count == 1:
            return text
        of_all: list[str] = ["" for _ in range(self.count)]
        dist.all_gather_object(of_all, text)
        return next(filter(None, of_all), "")

    def meet(self) -> None:
        """Wait for the others. Raises `RunError`, which names them, where some do not come within `PATIENCE`."""
        if self.count > 1:
            gloo: Any = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
            try:
                gloo.monitored_barrier(PATIENCE, wait_all_ranks=True)
            except RuntimeError as error:
                raise RunError(f"rank {self.rank} of {self.count}: {said(error)[:300]}") from error


def present(execution: Execution) -> Ranks:
    """This process's, once `joined`."""
    if not dist.is_initialized():
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size(), execution.sync_batchnorm)


@contextmanager
def joined(execution: Execution) -> Iterator[Ranks]:
    """Be with the processes that torchrun started for as long as this lasts; `execution` is resolved.

    Where it started one alone, or somebody has joined before (with gloo for the CPU), nothing is done. Raises
    `InputError` where this machine has fewer GPUs than processes, `RunError` where the others are not to be had.
    """
    rank, count = processes()
    if count == 1 or dist.is_initialized():
        yield present(execution)
        return
    if execution.sync_batchnorm and execution.device == "cpu" and execution.compile != "off":
        raise InputError("--sync-batchnorm: on CPUs only with --compile off")
    if execution.device == "cuda":
        local = int(os.environ.get("LOCAL_RANK", rank))
        if local >= (gpus := torch.cuda.device_count()):
            raise InputError(f"process {local + 1} on a machine of {gpus} GPUs: one GPU for each is needed")
        torch.cuda.set_device(local)
    try:
        _begin("cpu:gloo,cuda:nccl" if execution.device == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise RunError(f"rank {rank} of {count}: {said(error)[:300]}") from error
    try:
        yield present(execution)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise RunError(f"rank {rank} of {count}: another process has gone: {said(error)[:300]}") from error
    finally:
        gc.collect()  # what of DistributedDataParallel is left would look for the group as the process ends
        dist.destroy_process_group()


def _begin(backend: str) -> None:
    store, rank, count = next(dist.rendezvous("env://", timeout=PATIENCE))
    # torchrun's store outlives the processes: those started again would find the addresses of those before them.
    store = dist.PrefixStore(_meeting(store, rank, count), store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)


def _meeting(store: dist.Store, rank: int, count: int) -> str:
    """A name for these processes and their keys in `store`, which no earlier ones had; how often torchrun has started
    them would be none, since its agents count that each for its machine.

    Rank 0 makes it; each of the others signs it, and takes it once its own signature is among those that rank 0 found.
    Raises `RuntimeError` where some do not come within `PATIENCE`.
    """
    mine = uuid.uuid4().hex
    end = time.monotonic() + PATIENCE.total_seconds()

    def until(so: Callable[[], bool], whose: int) -> None:
        while not so():
            if time.monotonic() > end:
                raise RuntimeError(f"rank {whose} did not come within {PATIENCE.total_seconds():.0f} s")
            time.sleep(0.02)

    def signed(name: str) -> bool:
        return store.check([f"{name}/all"]) and mine in store.get(f"{name}/all").decode().split()

    def answered(name: str) -> bool:
        return signed(name) or store.get("fastcifar").decode() != name

    if rank == 0:
        store.set("fastcifar", mine)
        signatures = [f"{mine}/{other}" for other in range(1, count)]
        for other, key in enumerate(signatures, 1):
            until(partial(store.check, [key]), other)
        store.set(f"{mine}/all", " ".join(store.get(key).decode() for key in signatures))
        return mine
    while True:
        until(partial(store.check, ["fastcifar"]), 0)
        name = store.get("fastcifar").decode()  # the last one of earlier processes, perhaps
        store.set(f"{name}/{rank}", mine)
        until(partial(answered, name), 0)
        if signed(name):
            return name
