"""A process that makes runs for `fastcifar.records.parallel`, wherever Ray has put it."""

import json
import os
from pathlib import Path
from typing import Any

from fastcifar.errors import InputError


class Worker:
    """Worker `number`, which makes runs of the recipe in `asked` (JSON, its files named by where they are).

    It is one of `sharing` on its GPU, or on its machine's cores, of which the part `share` is its own. `threads` are
    the torch threads that the user has asked for. Nothing of torch is imported before it knows its cores.
    """

    def __init__(
        self,
        number: int,
        asked: str,
        execution: dict[str, Any],
        data: Path | None,
        share: int,
        sharing: int,
        threads: str | None,
    ) -> None:
        self._number, self._asked, self._execution, self._data = number, asked, execution, data
        self._share, self._sharing, self._threads = share, sharing, threads
        self._here: dict[str, Any] = {}
        self._trained: tuple[str, Any] | None = None

    def about(self) -> dict[str, Any]:
        """Its environment; sets it up, which raises `InputError` where recipe and images are not to be had there."""
        if not self._here:
            self._set_up()
        return self._here

    def run(self, number: int) -> str:
        """Run `number`, as JSON of `Measured`."""
        self.about()
        from fastcifar.records.measure import Watcher

        return self._measurer.run(number, Watcher()).model_dump_json()

    def train(self, asked: str, seed: int) -> tuple[float, float]:
        """Train another recipe (JSON) on the same images: final accuracy, and seconds of training."""
        self.about()
        from fastcifar.own import sealed
        from fastcifar.recipe import validated
        from fastcifar.training.trainer import Trainer

        recipe, own = sealed(validated(json.loads(asked) | {"seed": seed}))
        if self._trained and self._trained[0] == asked:
            self._trained[1].restart(recipe)
        else:
            self._trained = asked, Trainer(recipe, self._dataset, self._made, own)
        result = self._trained[1].run()
        return result.final_accuracy, result.train_seconds

    def _set_up(self) -> None:
        if self._sharing > 1 and self._execution["device"] == "cpu":
            cores = sorted(os.sched_getaffinity(0))
            first, end = (len(cores) * share // self._sharing for share in (self._share, self._share + 1))
            if first == end:
                raise InputError(f"--workers: {self._sharing} on a machine of {len(cores)} cores")
            os.sched_setaffinity(0, cores[first:end])
        # Ray has set it to the CPUs that it counts; torch itself takes a thread a core.
        os.environ.pop("OMP_NUM_THREADS", None)
        if self._threads:
            os.environ["OMP_NUM_THREADS"] = self._threads

        from fastcifar.bench.environment import environment
        from fastcifar.data.load import load_dataset
        from fastcifar.execution import Execution
        from fastcifar.own import sealed
        from fastcifar.recipe import validated
        from fastcifar.records.measure import Measurer

        here = environment(self._execution["device"]) | {"sharing": self._sharing if self._sharing > 1 else None}
        recipe, own = sealed(validated(json.loads(self._asked)))
        self._dataset, self._made = load_dataset(recipe, self._data), Execution(**self._execution)
        self._measurer = Measurer(recipe, self._dataset, self._made, own, here, self._number)
        self._here = here
