"""A run on the terminal: plain lines as the README shows them, now and then; or a live display, ended in any case."""

import io
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import made_records
import pytest

from fastcifar.data.dataset import Dataset
from fastcifar.execution import Execution
from fastcifar.models import build
from fastcifar.recipe import Recipe, Resnet
from fastcifar.report import progress
from fastcifar.report.console import Console
from fastcifar.report.progress import AccuracyConsole, TrainingConsole
from fastcifar.runs.observer import Start
from fastcifar.training.log import EpochLog
from fastcifar.training.lr_finder import LrRange

HEADING = "epoch  train s  test s    loss     acc  test loss  test acc        lr    img/s"
LOG = EpochLog(1, 30.92, 2.83, 1.6729, 0.4752, 1.2122, 0.5883, 0.00499, 1617.0)
ROW = "    1    30.92    2.83  1.6729  47.52%     1.2122    58.83%   0.00499    1,617"
TRAINER = SimpleNamespace(
    recipe=Recipe(epochs=3, batch_size=100, target=0.87, model=Resnet(width=4)),
    steps=[10] * 3,
    model=build(Resnet(width=4), 10),
    setup_seconds=1.25,
    state=SimpleNamespace(epoch=0, step=0, log=[]),
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`clock.now` is the time in seconds."""
    found = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: found.now)
    return found


def console(**options: object) -> Console:
    return Console(file=io.StringIO(), **options)  # type: ignore[arg-type]


def said(of: Console) -> str:
    assert isinstance(of.file, io.StringIO)
    return of.file.getvalue()


CPU = Execution(device="cpu", loader="fused", precision="bfloat16", compile="off")


def about(dataset: Dataset, execution: Execution = CPU, **change: object) -> Start:
    trainer = SimpleNamespace(**vars(TRAINER), dataset=dataset, execution=execution)
    start = Start("laptop", trainer, {"gpu": None, "threads": 2}, None, ["[a] note"])  # type: ignore[arg-type]
    return replace(start, **change)  # type: ignore[arg-type]


def test_a_gpus_rate_is_that_of_the_last_epoch(small: Dataset, clock: SimpleNamespace) -> None:
    """How fast the host asks for steps says nothing of how fast they are."""
    out = console(width=40)
    with TrainingConsole(out) as table:
        table.start(about(small, replace(CPU, device="cuda"), environment={"gpu": "A GPU", "threads": 2}))
        clock.now = 1030
        table.step(1, 5)
        table.epoch(LOG)
        clock.now = 1070
        table.step(2, 5)
    first, *_, last = said(out).splitlines()[6:]
    assert first == "epoch 1/3, step 5/10, 2 min 30 s left"
    assert last.startswith(f"epoch 2/3, step 5/10, {LOG.images_per_second:,.0f} images/s, ")


def test_the_lines_of_a_run(small: Dataset, clock: SimpleNamespace) -> None:
    """Where no terminal is: a line at most every half a minute, a row an epoch."""
    out = console(width=40)  # nothing is wrapped
    with TrainingConsole(out) as table:
        table.start(about(small))
        for step, seconds in ((1, 2), (9, 18), (15, 30)):
            clock.now = 1000 + seconds
            table.step(1 + (step - 1) // 10, 1 + (step - 1) % 10)
            if step == 9:
                table.epoch(LOG)
        clock.now = 1018 + 30
        table.step(2, 10)
    lines = said(out).splitlines()
    assert lines[:4] == [
        "[a] note",
        "recipe   laptop, seed 0: epochs 3, batch 100, target 87.0%",
        f"data     {small.describe()}",
        f"network  resnet, 4 wide, {sum(one.numel() for one in TRAINER.model.parameters()):,} trained parameters",
    ]
    assert lines[4] == "runs on  cpu, 2 threads, bfloat16, eager, loader fused; set up in 1.2 s"
    assert lines[5:] == [HEADING, ROW, "epoch 2/3, step 10/10, 33 images/s, 24 s left"]


def test_what_a_range_test_found_and_the_gpu_are_said(small: Dataset) -> None:
    found = LrRange(0.0002, 0.005, (1e-5, 1.0), (2.5, 1.5), (2.5, 2.0), "a rule", 0, 1.0)
    execution = Execution(device="cuda", loader="dali", precision="float16", compile="default")
    out = console()
    with TrainingConsole(out) as table:
        table.start(about(small, found=found, execution=execution, environment={"gpu": "H200", "threads": 2}))
    assert said(out).startswith("[a] note\nLRMIN 0.0002\nLRMAX 0.005\n")
    assert "runs on  H200, float16, compiled (default), loader dali; set up in" in said(out)


@pytest.mark.parametrize("fails", [False, True])
def test_a_terminal_keeps_all_epochs_and_its_cursor(
    small: Dataset, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few lines it has, and where the run fails too."""
    monkeypatch.setattr(TRAINER, "steps", [10] * 9)
    out = console(width=80, height=6, force_terminal=True, _environ={"TERM": "xterm"})
    with suppress(ZeroDivisionError), TrainingConsole(out) as table:
        table.start(about(small))
        assert "\x1b[?25l" in said(out)  # the cursor is hidden
        for epoch in range(1, 10):
            table.step(epoch, 1)
            table.epoch(replace(LOG, epoch=epoch))
        if fails:
            raise ZeroDivisionError
    last = said(out)[said(out).rindex("train s") :]
    assert [line.split()[0] for line in last.splitlines()[1:10]] == [*"123456789"]
    assert "images/s" not in last  # the bar is gone
    assert last.endswith("\x1b[?25h")


def test_a_run_that_goes_on_shows_its_earlier_epochs(small: Dataset, clock: SimpleNamespace) -> None:
    """And counts images and the time left from the step it goes on at."""
    out, begun = console(width=40), about(small)
    begun.trainer.state = SimpleNamespace(epoch=1, step=4, log=[LOG])  # type: ignore[assignment]
    with TrainingConsole(out) as table:
        table.start(begun)
        table.note("a disk was full")
        clock.now += 40
        table.step(2, 8)  # 4 steps of 100 images in 40 s; 12 are left
    assert said(out).splitlines()[-4:] == [
        HEADING,
        ROW,
        "a disk was full",
        "epoch 2/3, step 8/10, 10 images/s, 2 min 00 s left",
    ]


def test_the_bar_says_step_speed_and_time_left(small: Dataset, clock: SimpleNamespace) -> None:
    out = console(width=80, force_terminal=True, _environ={"TERM": "xterm"})
    with TrainingConsole(out) as table:
        table.start(about(small))
        clock.now += 3
        table.step(1, 3)
        shown = console(width=80)
        shown.print(table._picture())
    (bar,) = [line for line in said(shown).splitlines() if "step" in line]
    assert bar.startswith("epoch 1/3, step 3/10 ━")
    assert bar.endswith(" 10 % 100 images/s, 27 s left")


def test_a_terminal_that_is_too_narrow_gets_plain_lines(small: Dataset) -> None:
    out = console(width=77, force_terminal=True, _environ={"TERM": "xterm"})
    with TrainingConsole(out) as table:
        table.start(about(small))
        table.epoch(LOG)
    assert said(out).splitlines()[-2:] == [HEADING, ROW]


def test_runs_that_go_on_with_earlier_ones(clock: SimpleNamespace) -> None:
    """The time left is that of the runs made here; the two before them took another's."""
    out = console(width=40)
    with AccuracyConsole(out, runs=4, target=0.9) as watcher:
        clock.now += 500  # setting up
        watcher.begin(2, TRAINER)  # type: ignore[arg-type]
        clock.now += 29
        watcher.step(1, 1)
        clock.now += 1
        watcher.step(2, 5)
        watcher.end(2, made_records.run(7, (0.5, 0.91)))
        watcher.begin(3, TRAINER)  # type: ignore[arg-type]
        clock.now += 30
        watcher.step(1, 10)
        watcher.end(3, made_records.run(8, (0.5, 0.89)))
    assert said(out).splitlines() == [
        "run 3/4, epoch 2/3, 1 min 30 s left",
        "run 3/4, seed 7: 91.00% after epoch 2; 90.0% reached after 20.0 s of training",
        "run 4/4, epoch 1/3, 30 s left",
        "run 4/4, seed 8: 89.00% after epoch 2; 90.0% not reached",
    ]


def test_runs_on_a_terminal() -> None:
    out = console(width=80, force_terminal=True, _environ={"TERM": "xterm"})
    with AccuracyConsole(out, runs=1, target=0.9) as watcher:
        watcher.begin(0, TRAINER)  # type: ignore[arg-type]
        watcher.step(1, 1)
        watcher.end(0, made_records.run(0, (0.5, 0.91)))
    assert "run 1/1, seed 0: 91.00% after epoch 2" in said(out)
    assert said(out).count("\x1b[?25l") == said(out).count("\x1b[?25h") == 1
