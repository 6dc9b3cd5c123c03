"""A whole training step, with its optimizers, or a test, as one CUDA graph: captured once, then replayed."""

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from fastcifar.errors import RunError, memory_problem

Outputs = tuple[Tensor, ...]
FIRST = 2  # calls that run as they are; what compiles, chooses a kernel or allocates once has done so by then
# Graphs whose capture failed: torch's allocator keeps a pointer to each, and follows it at the next capture.
_FAILED: list[torch.cuda.CUDAGraph] = []


class CudaGraphs:
    """What the graphs of one network share: the stream they were captured on, and memory for what is made on the way.

    They are replayed one at a time, so that what one gives lasts until another is.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream, self._pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Inside, work is given to their stream, after what was given before; what is given later comes after it."""
        self._stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            torch.cuda.current_stream().wait_stream(self._stream)

    def capture(self, function: Callable[[], Outputs]) -> Callable[[], Outputs]:
        """What runs all that `function` gives the device to do, and returns the same tensors each time.

        `function` is called once, and nothing of it runs then. Raises `RunError` where it waits for the device.
        """
        graph, failed, before = torch.cuda.CUDAGraph(), None, torch.cuda.current_stream()
        # Of threads beside this one, such as a loader's, the device may meanwhile be asked for memory.
        about: Any = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
        try:
            with _nothing_collected(), torch.cuda.graph(graph, **about):
                try:
                    outputs = function()
                except RuntimeError as error:
                    failed = error
                    raise
        except RuntimeError as error:
            _FAILED.append(graph)
            failed = failed or error  # to end what has failed fails too, and says less
            torch.cuda.set_stream(before)  # which torch before 2.15 then leaves at the capture's
            if memory_problem(failed) is not None:
                raise failed from None
            said = str(failed).splitlines()[0]
            raise RunError(f"--compile cuda-graph: this step cannot be captured: {said}") from failed

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Inside, Python collects no garbage, such as a loader, whose end asks the device for what a capture forbids."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Graphed:
    """`function`, for each shape and dtype of the tensors it is given from the third call on as a graph of `graphs`.

    What it reads beside them lies at the same place in each call, the rates of optimizers too.
    """

    def __init__(self, function: Callable[..., Outputs], graphs: CudaGraphs) -> None:
        self._function, self._graphs = function, graphs
        self._called: dict[tuple[Any, ...], int] = {}
        self._places: dict[tuple[Any, ...], tuple[Tensor, ...]] = {}
        self._captured: dict[tuple[Any, ...], Callable[[], Outputs]] = {}

    def __call__(self, *given: Tensor, **fixed: Any) -> Outputs:
        """As `function`, whose results are to be read before the next call of any graph of `graphs`. There is a graph
        for each of the values, such as sizes, that are `fixed`."""
        kind = (*fixed.items(), *((one.shape, one.dtype) for one in given))
        called = self._called[kind] = self._called.get(kind, 0) + 1
        if called == 1:
            self._places[kind] = tuple(map(torch.empty_like, given))
        places = self._places[kind]
        for place, one in zip(places, given, strict=True):
            place.copy_(one)
        if called <= FIRST:  # of the places too, whose strides may be others: what is compiled is so before the capture
            with self._graphs.beside():
                return self._function(*places, **fixed)
        if kind not in self._captured:
            self._captured[kind] = self._graphs.capture(lambda: self._function(*places, **fixed))
        return self._captured[kind]()
