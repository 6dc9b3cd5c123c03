"""What is printed, to the character where the README shows it; what comes from outside is text and no markup."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import made_records
import numpy as np
import pytest

from fastcifar.bench.throughput import Measurement
from fastcifar.peers.compare import Outcome
from fastcifar.recipe import Recipe
from fastcifar.records.leaderboard import Published, groups, read_entry
from fastcifar.records.record import Work, to_json
from fastcifar.report.bench_tables import print_tables
from fastcifar.report.console import Console
from fastcifar.report.tables import (
    predictions_json,
    print_accuracy,
    print_groups,
    print_lr,
    print_peers,
    print_predictions,
    print_published,
    print_result,
    print_scores,
)
from fastcifar.runs.predictions import Scores
from fastcifar.training.log import Result
from fastcifar.training.lr_finder import LrRange

MARKUP = "[red]a[/b] :smile:"  # an error, a colour and a face, where it is read as markup


def printed(show: Callable[..., None], *given: object, width: int = 80) -> list[str]:
    """The lines that `show` prints into a file, without the spaces at their ends."""
    console = Console(file=io.StringIO(), width=width)
    show(console, *given)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("seconds", "reached"), [(236.87, "87.0% reached after 236.9 s of training"), (None, "87.0% not reached")]
)
def test_the_result(seconds: float | None, reached: str) -> None:
    result = Result(
        final_accuracy=0.877,
        best_accuracy=0.8771,
        time_to_target=seconds,
        epochs=8,
        setup_seconds=3.21,
        train_seconds=1236.87,
        eval_seconds=22.23,
    )
    assert printed(print_result, result, 0.87) == [
        f"test accuracy 87.70% (best 87.71%) after epoch 8; {reached}",
        "1,236.9 s training, 22.2 s testing, 3.2 s setting up",
    ]


def test_the_range_test() -> None:
    found = LrRange(0.0002, 0.005, (1e-5, 1e-3, 1.0), (2.5, 1.5, 9.0), (2.5, 2.0, 5.0), MARKUP, 3, 12.34)
    assert printed(print_lr, found, width=40) == [
        "LRMIN 0.0002",
        "LRMAX 0.005",
        f"rule  {MARKUP}",
        "test  3 steps from 1e-05 to 1, seed 3, 12.3 s; loss 2.5 at first, 2 at the lowest",
    ]


def test_scores_by_class() -> None:
    answers = np.zeros((3, 3), np.int64)
    answers[0], answers[2] = (1500, 400, 100), (0, 0, 500)
    scores = Scores(loss=0.51234, answers=answers, seconds=0.5)
    assert printed(print_scores, scores, ["cat", "dog", MARKUP]) == [
        "class               images  right  accuracy  most often taken for",
        "cat                  2,000  1,500    75.00%  dog (400)",
        f"{MARKUP}     500    500   100.00%",
        "all                  2,500  2,000    80.00%",
        "accuracy 80.00%, loss 0.5123; 5,000 images/s",
    ]


def test_predictions() -> None:
    classes = [*"abcdef"]
    probabilities = np.array([[0.01, 0.02, 0.5, 0.3, 0.07, 0.1], [0.5, 0.5, 0, 0, 0, 0]], np.float32)
    files = [Path(MARKUP), Path("folder/" * 12, "b.png")]
    lines = printed(print_predictions, files, probabilities, classes)
    assert lines[1].split() == [*MARKUP.split(), "c", "50.00%"]
    assert [line.split() for line in lines[2:6]] == [["d", "30.00%"], ["f", "10.00%"], ["e", "7.00%"], ["b", "2.00%"]]
    assert "".join(line.split()[0] for line in lines[6:8]) == str(files[1])  # folded, whole
    assert lines[6].split()[1:] == ["a", "50.00%"]  # of equals the first
    assert printed(print_predictions, [], probabilities[:0], classes) == []
    first, second = json.loads(predictions_json(files, probabilities, classes))
    assert (first["file"], first["class"], second["class"]) == (MARKUP, "c", "a")
    assert list(first["probabilities"]) == classes
    assert first["probabilities"]["c"] == 0.5


def test_a_benchmark_says_what_else_there_is_beside_or_below() -> None:
    """The fastest first, after the limit; a rate that is no images/s has its unit."""
    limit = Measurement.of("step", "matmul", "flop/s", [4e11], other_cores=0.42)
    rows = [replace(Measurement.of("step", f"[b]{n}", "images/s", [n, n, n + 2]), limit=2e3) for n in (900, 1000)]
    rows[0] = replace(rows[0], ratio_to_plain=1, details={"tflops": 0.5, "peak_memory": 2**20}, other_cores=0.04)
    lines = printed(print_tables, [rows[0], limit, rows[1]], width=119)
    assert " ".join(lines[:2]) == "one training step: images/s, limit = matrix products at the same precision"
    assert lines[2:] == [
        "               median      quartiles  of limit  x plain",
        "matmul   0.40 Tflop/s    0.40 – 0.40",
        "[b]1000         1,000  1,000 – 1,001     50.0%",
        "[b]900            900      900 – 901     45.0%     1.00",
        "matmul: beside other work (0.4 cores)",
        "[b]900: 0.5 Tflop/s, 1 MiB",
        "",
    ]
    assert "[b]900            900      900 – 901     45.0%     1.00  0.5 Tflop/s, 1 MiB" in printed(
        print_tables, [rows[0], limit, rows[1]], width=120
    )


def test_an_accuracy_of_several_runs() -> None:
    assert printed(print_accuracy, made_records.record(seconds=1000.0)) == [
        "           s to 90.0%  final accuracy  images/s",
        "seed 0       2,000.00          91.00%        50",
        "seed 1       2,000.00          92.00%        50",
        "seed 2       2,000.00          91.23%        50",
        "mean of 3    2,000.00          91.41%        50",
        "90.00% reached in every run (first-crossing)",
    ]


def test_an_interval_is_of_five_runs_or_more() -> None:
    """That of two goes from below zero to twice the mean: there the runs say more."""

    def lines(runs: int) -> list[str]:
        accuracies = [(0.5, 0.91 + 0.001 * run) for run in range(runs)]
        return printed(print_accuracy, made_records.record(accuracies))[runs + 1 :]

    assert "±" not in "".join(lines(2) + lines(4))
    mean, verdict = lines(5)
    assert mean.split() == ["mean", "of", "5", "20.00", "±", "0.00", "91.20%", "±", "0.20%", "5,000", "±", "0"]
    assert verdict.endswith("(first-crossing; ± is the 95 % confidence interval)")


def test_the_work_of_several_runs() -> None:
    """Two epochs of 50,000 images at 1 and 2 GFLOP, 98 steps each; the optimizer's own stand beside."""
    recipe = replace(Recipe(), epochs=2, schedule=replace(Recipe().schedule, peak_epoch=1))
    work = Work(flops_per_image=[1e9, 2e9], optimizer_flops_per_step=1e12)
    found = made_records.record(recipe=recipe, work=work)
    assert printed(print_accuracy, found, width=120)[-1] == (
        "0.15 (0.15 to 0.15) petaFLOPs of training, forward and backward; the optimizer's own beside them: 0.196"
    )


def test_what_becomes_of_the_claim() -> None:
    def verdict(*accuracies: float, protocol: str) -> str:
        runs = [(0.5, accuracy) for accuracy in accuracies]
        return printed(print_accuracy, made_records.record(runs, protocol=protocol))[-1]  # type: ignore[arg-type]

    assert verdict(0.95, 0.8, protocol="first-crossing") == "90.00% not reached in 1 of 2 runs: no claim"
    assert verdict(0.95, protocol="fixed-budget").startswith("fixed-budget needs two runs or more to test")
    equal = verdict(0.95, 0.95, protocol="fixed-budget")
    assert equal == "all runs have one final accuracy, so no p that the mean is above 90.00% can be computed: no claim"
    above = "mean final accuracy above 90.00%: p = "
    assert verdict(0.95, 0.951, 0.952, protocol="fixed-budget").endswith("0.01 needed): the claim holds")
    unsettled = verdict(0.9, 0.905, 0.91, protocol="fixed-budget")
    assert unsettled.startswith(above)
    assert unsettled.endswith("not settled; a new record of 9 runs like these, with other seeds, would settle it")
    assert verdict(0.8, 0.81, protocol="fixed-budget").endswith("no number of runs like these would settle it")


def test_rivals() -> None:
    ours = made_records.record()
    rival = made_records.record(((0.5, 0.8), (0.5, 0.92)), seconds=20.0).model_copy(
        update={"recipe": None, "program": MARKUP, "name": "script.py"}
    )
    outcomes = [Outcome("fastcifar", ours), Outcome("rival", rival), Outcome("[b]absent", reason=MARKUP)]
    assert printed(print_peers, outcomes, 0.9, width=120) == [
        "program                        runs   s to 90.0%  x ours  final accuracy  images/s  x ours",
        "fastcifar                         3        20.00       1          91.41%     5,000       1",
        "                                                           91.00%–92.00%",
        f"{MARKUP}, script.py     2  not reached                  86.00%     2,500     0.5",
        "                                                           80.00%–92.00%",
        f"[b]absent did not run: {MARKUP}",
    ]


def test_a_leaderboard(tmp_path: Path) -> None:
    path = tmp_path / "a.record.json"
    path.write_bytes(to_json(made_records.record(name=MARKUP, cpu=MARKUP)))
    lines = printed(print_groups, groups([read_entry(path)]), width=120)
    assert MARKUP in lines[0]
    assert lines[1].split() == [
        *("seconds", "petaFLOPs", "accuracy", "recipe"),
        *("evaluation", "loader", "date", "n", "p"),
    ]
    assert lines[2].startswith(f"1        20.00          –    91.41%  {MARKUP}  plain ")
    assert lines[2].split()[-4:-1] == ["dali", "2026-11-22", "3"]
    assert lines[3].split() == ["20.00–20.00"]
    assert printed(print_groups, []) == ["no records to show", ""]


def test_what_others_published() -> None:
    published = [
        Published(MARKUP, 2.59, 0.94, "A100", 2024, "https://example.org", 0.29, "flip"),
        Published("other", 1.0, 0.9, "GPU", 2020, "https://example.org"),
    ]
    lines = printed(print_published, published, None)
    assert lines[0] == "published by others, not measured here"
    assert lines[2].split() == ["94%", "2.59", "0.29", *MARKUP.split(), "flip", "A100", "2024"]
    assert lines[3].split() == ["90%", "1.00", "–", "other", "–", "GPU", "2020"]
    assert len(lines) == 4
    assert len(printed(print_published, published, 0.9)) == 3
    assert printed(print_published, published, 0.5) == []


def test_a_terminal_too_narrow_for_a_table(tmp_path: Path) -> None:
    """Every figure is there, and no dots in its place; the words of a title and of a cell are broken, not cut."""
    path = tmp_path / "one.record.json"
    path.write_bytes(to_json(made_records.record(name="of-a-very-long-name-indeed")))
    shown = groups([read_entry(path)])
    lines = printed(print_groups, shown, width=20)
    assert all(len(line) <= 20 for line in lines)
    assert "…" not in "".join(lines)
    assert {"accuracy 91.41%", "loader dali", "n 3"} <= set(lines)
    assert "of-a-very-long-name-indeed" in "".join(lines)
    assert "…" not in "".join(printed(print_groups, shown, width=80))
