"""Runs made at once on Ray: a cluster that `ray start` made, or this machine alone.

A worker is a process that has a GPU, or a machine's cores, to itself, and makes one run after another there. Whoever
shares a GPU or the cores of a machine with another is slower by it, so that this is only done where it is asked for,
and the record says so. A run whose worker is lost is made again.
"""

import contextlib
import json
import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.files import expanded
from fastcifar.own import OwnCode, located
from fastcifar.recipe import DATASETS, Recipe
from fastcifar.records.measured import Measured, differing
from fastcifar.records.record import Environment
from fastcifar.records.worker import Worker

ATTEMPTS = 3  # at a run whose workers are lost
LOOK_SECONDS = 0.5  # between two looks for signals
SLOW_SECONDS = 30.0  # after which a worker that has not begun is told of


@dataclass(frozen=True)
class Place:
    """Where a worker is: a node of the cluster, and which of the `sharing` on its GPU or its machine's cores it is.

    `cpus` and `gpus` are what it takes of the node, as Ray counts.
    """

    node: str
    cpus: float
    gpus: float
    share: int
    sharing: int


def places(nodes: Sequence[dict[str, Any]], device: str, workers: int | None, *, allow_shared: bool) -> list[Place]:
    """So many places, by default one for each GPU, or for each machine where `device` is the CPU; `nodes` as Ray lists
    them. Raises `InputError` where there is no device, or where workers would have to share one and may not."""
    alive = [node for node in nodes if node["Alive"]]
    if device == "cuda":
        what = "GPU"
        devices = [[node] for node in alive for _ in range(int(node["Resources"].get("GPU", 0)))]
    else:
        what = "machine"
        by_host: dict[str, list[dict[str, Any]]] = {}
        for node in alive:
            if node["Resources"].get("CPU", 0) >= 1:
                by_host.setdefault(node["NodeManagerHostname"], []).append(node)
        devices = list(by_host.values())
    if not devices:
        raise InputError(f"--parallel: the Ray cluster has no {'GPU' if device == 'cuda' else 'CPU'} to train on")
    count = len(devices) if workers is None else workers
    if count < 1:
        raise InputError(f"--workers {count}: at least one is needed")
    if count > len(devices) and not allow_shared:
        there = f"there {'is' if len(devices) == 1 else 'are'} {len(devices)} {what}{'' if len(devices) == 1 else 's'}"
        raise InputError(
            f"--workers {count}: {there}, and the seconds of runs that share one compare with no others; "
            "--allow-shared makes such runs"
        )
    if count > len(devices) and count % len(devices):
        raise InputError(f"--workers {count}: {len(devices)} {what}s cannot be shared out evenly among them")
    found = []
    for number, device_nodes in enumerate(devices):
        sharing = len(range(number, count, len(devices)))
        for share in range(sharing):
            node = device_nodes[share % len(device_nodes)]
            on_node = len(range(share % len(device_nodes), sharing, len(device_nodes)))
            cpus = node["Resources"].get("CPU", 0) / on_node
            found.append(
                Place(
                    node["NodeID"],
                    cpus=0 if device == "cuda" else float(int(cpus)) or cpus,
                    gpus=1 / sharing if device == "cuda" else 0,
                    share=share,
                    sharing=sharing,
                )
            )
    return found


class RayWorkers:
    """The workers of a recipe, for `bench_accuracy` and searches. As a context manager it starts and ends them.

    `recipe` and `own` are as `fastcifar.own.sealed` gives them; the data set and custom files have to lie at
    the same places on all machines. `tell` is told in lines what happens, `progress` how many runs of how many are
    done, and how many are being made. Raises `InputError` where Ray is not installed or `places` refuses.
    """

    def __init__(
        self,
        recipe: Recipe,
        own: OwnCode,
        execution: Execution,
        *,
        data: Path | None,
        workers: int | None,
        allow_shared: bool,
        tell: Callable[[str], None] = lambda line: None,
        progress: Callable[[int, int, int], None] = lambda done, runs, making: None,
    ) -> None:
        if data is None and recipe.dataset in DATASETS:
            data = Path(found) if (found := os.environ.get("FASTCIFAR_DATA")) else None
        elif data is None:
            recipe = replace(recipe, dataset=str(expanded(recipe.dataset).absolute()))
        data = None if data is None else expanded(data).absolute()
        self._about = (json.dumps(asdict(located(recipe, own.places))), asdict(execution), data)
        self._execution, self._workers, self._allow_shared = execution, workers, allow_shared
        self._tell, self._progress = tell, progress
        self._stack = contextlib.ExitStack()
        self._actors: dict[int, tuple[Place, Any]] = {}
        self._ending = False

    def __enter__(self) -> "RayWorkers":
        with contextlib.ExitStack() as stack:
            stack.enter_context(_cluster())
            import ray

            found = places(ray.nodes(), self._execution.device, self._workers, allow_shared=self._allow_shared)
            stack.callback(self._end)
            for number, place in enumerate(found, start=1):
                self._actors[number] = place, self._started(number, place)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def environment(self) -> dict[str, Any]:
        """That of each worker; what is another checkout's state is said if it is any one's."""
        waiting = {actor.about.remote(): number for number, (_, actor) in self._actors.items()}
        of_all: dict[int, Environment] = {}
        for about, number in self._as_they_end(waiting, self._tell_of_missing):
            try:
                of_all[number] = Environment(**_value(about))
            except LookupError as error:
                raise RunError(f"worker {number} is lost: {error}") from error
        first = of_all[min(of_all)]
        for number, other in sorted(of_all.items()):
            for field in differing(first, other):
                raise InputError(
                    f"--parallel: worker {number}'s {field} is {getattr(other, field)}, worker {min(of_all)}'s "
                    f"{getattr(first, field)}: runs of different machines are no one record"
                )
        return first.model_dump() | {"dirty": any(one.dirty for one in of_all.values()) if first.commit else None}

    def runs(self, numbers: Sequence[int], over: Callable[[], bool]) -> Generator[tuple[int, Measured]]:
        """The runs of these numbers, as they end; none begins any more once `over`, but the first ones.

        Raises `RunError` where no worker is left, or one run has lost `ATTEMPTS` of them, and what a run raises.
        """
        left, again, lost = list(numbers), list[int](), dict[int, int]()
        making: dict[Any, tuple[int, int]] = {}  # by what Ray calls the result: worker and run
        idle = sorted(self._actors)

        def begin() -> None:
            while idle and (again or (left and not (begun and over()))):
                worker, number = idle.pop(0), (again or left).pop(0)
                making[self._actors[worker][1].run.remote(number)] = worker, number

        begun = False
        begin()
        begun, done = True, 0
        self._progress(0, len(numbers), len(making))
        while making:
            result, (worker, number) = next(self._as_they_end(making))
            del making[result]
            try:
                found = Measured.model_validate_json(_value(result))
            except LookupError as error:
                lost[number] = lost.get(number, 0) + 1
                if lost[number] == ATTEMPTS:
                    raise RunError(f"run {number + 1} has lost {ATTEMPTS} workers, the last by: {error}") from error
                self._tell(f"worker {worker} is lost, and run {number + 1} made again: {error}")
                again.append(number)
                if self._restarted(worker):
                    idle.append(worker)
            else:
                idle.append(worker)
                done += 1
                yield number, found
            begin()
            self._progress(done, len(numbers), len(making))
        if (missing := len(again) + len(left)) and not self._actors:
            raise RunError(f"no worker is left, of {missing} runs that are to be made")

    @property
    def numbers(self) -> list[int]:
        """Of the workers."""
        return sorted(self._actors)

    def train(self, worker: int, recipe: Recipe, own: OwnCode, seed: int) -> tuple[float, float]:
        """Have one of the workers train another recipe on the same images: final accuracy, seconds of training.

        A worker that is lost is started again, and so is what it did. Raises what training raises, and `LookupError`
        where the worker is lost for good. Each worker may have a thread of its own that calls this.
        """
        asked, lost = json.dumps(asdict(located(recipe, own.places))), ""
        for _ in range(ATTEMPTS):
            if worker not in self._actors:
                break
            try:
                found: tuple[float, float] = _value(self._actors[worker][1].train.remote(asked, seed))
                return found
            except LookupError as error:
                lost = f": {error}"
                if not self._ending:
                    self._tell(f"worker {worker} is lost, and its trial begun again{lost}")
                    self._restarted(worker)
        raise LookupError(f"worker {worker} is lost{lost}")

    def _as_they_end(
        self, waiting: dict[Any, Any], slow: Callable[[int], None] | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """The results and what `waiting` has of them; `slow` is told once how many are missing, if that takes long."""
        import ray

        refs, begun = list(waiting), monotonic()
        while refs:
            # With a limit, since a signal is looked at between two calls.
            done, refs = ray.wait(refs, timeout=LOOK_SECONDS)
            for one in done:
                yield one, waiting[one]
            if slow and refs and monotonic() - begun > SLOW_SECONDS:
                slow(len(refs))
                slow = None

    def _tell_of_missing(self, missing: int) -> None:
        count = len(self._actors)
        self._tell(f"{missing} of {count} workers have not begun yet: `ray status` says whether there is room for them")

    def _started(self, number: int, place: Place) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor = ray.remote(Worker).options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
        )
        return actor.remote(number, *self._about, place.share, place.sharing, os.environ.get("OMP_NUM_THREADS"))

    def _restarted(self, number: int) -> bool:
        """The worker is there again, unless its node is gone too."""
        import ray

        place, _ = self._actors.pop(number)
        if not any(node["Alive"] and node["NodeID"] == place.node for node in ray.nodes()):
            return False
        self._actors[number] = place, self._started(number, place)
        return True

    def _end(self) -> None:
        import ray

        self._ending = True
        for _, actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()


def _value(result: Any) -> Any:
    """What a worker gave. Raises what it raised, and `LookupError` where it is lost."""
    import ray

    try:
        return ray.get(result)
    except (ray.exceptions.RayActorError, ray.exceptions.ActorUnschedulableError) as error:
        raise LookupError(str(error).strip().partition("\n")[0][:200]) from error
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error


@contextlib.contextmanager
def _cluster() -> Iterator[None]:
    """Be with the cluster that there is, as Ray finds it ($RAY_ADDRESS, or what `ray start` began here), or with one of
    this machine that ends with this. Raises `InputError` where Ray is not installed, or does not answer."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it tells its makers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or it warns that this will be its default
    try:
        import ray
    except ImportError as error:
        raise InputError("--parallel: needs Ray: pip install '.[ray]'") from error
    if ray.is_initialized():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise InputError(f"--parallel: Ray does not start: {str(error).partition(chr(10))[0][:200]}") from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()
