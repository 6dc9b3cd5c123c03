"""The benchmarks at toy size: everything that can run is measured, in turn, against its limit and its yardstick."""

import json
import statistics
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import psutil
import pytest
import torch

from fastcifar.bench.beside import _LOOPS
from fastcifar.bench.loaders import BYTES_PER_IMAGE
from fastcifar.bench.throughput import Candidate, Measurement, in_turn, repeated
from fastcifar.commands import main

CPU = torch.device("cpu")
FEW = ["--dataset", "synthetic", "--limit-train", "1024"]


def test_candidates_are_taken_in_turn_after_a_warm_up() -> None:
    calls: list[str] = []

    def work(name: str) -> float:
        calls.append(name)
        return 100.0

    candidates = [Candidate(name, lambda name=name: work(name), CPU) for name in "ab"]  # type: ignore[misc]
    rates = in_turn(candidates, 3, lambda line: None)
    assert calls == ["a", "b"] * 4
    assert [len(blocks.values) for blocks in rates.values()] == [3, 3]
    assert all(blocks.other_cores >= 0 for blocks in rates.values())


def test_busy_cores_are_other_programs_and_end_with_this_one() -> None:
    script = "from fastcifar.bench.beside import busy_cores\nwith busy_cores(2):\n    print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        ours = {one.pid for one in psutil.Process().children(recursive=True)}
        loops = [one for one in psutil.process_iter(["cmdline"]) if _LOOPS in (one.info["cmdline"] or ())]
        assert len(loops) == 2
        assert not ours & {one.pid for one in loops}
        assert all(one.is_running() for one in loops)
        process.kill()
    assert psutil.wait_procs(loops, timeout=60)[1] == []


def test_median_quartiles_and_ratio() -> None:
    one = Measurement.of("loaders", "one", "images/s", [10.0, 20.0, 30.0, 40.0, 50.0])
    plain = Measurement.of("loaders", "plain-2", "images/s", [1.0, 2.0, 3.0, 4.0, 50.0])
    assert (one.q1, one.median, one.q3) == (20, 30, 40)
    done = one.against(plain, 60.0, stall=0.1)
    assert done.ratio_to_plain == 10  # of the blocks' ratios, so that drift common to both falls out
    assert (done.limit, done.details) == (60.0, {"stall": 0.1})


def test_a_block_repeats_its_work_as_often_each_time() -> None:
    calls: list[int] = []

    def work() -> float:
        calls.append(1)
        return 2.0

    block = repeated(work, CPU, 0.001)
    first, second = block(), block()
    assert first == second >= 2
    assert len(calls) == 2 + first  # two to warm up and to time


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, dict[str, object]]]]:
    """`fastcifar bench`, all three, at toy size: its folder, and its measurements by benchmark and name."""
    folder = tmp_path_factory.mktemp("bench")
    arguments = ["bench", *FEW, "--width", "4", "--batch-size", "64", "--blocks", "2", "--short"]
    files = ["--json", str(folder / "bench.json"), "--figure", str(folder / "bench.png")]
    assert main([*arguments, *files, "--device", "cpu"]) == 0
    found: dict[str, dict[str, dict[str, object]]] = {}
    for one in json.loads((folder / "bench.json").read_text())["measurements"]:
        found.setdefault(one["bench"], {})[one["name"]] = one
    return folder, found


def test_the_file_follows_its_schema(measured: tuple[Path, object]) -> None:
    schema = json.loads((resources.files("fastcifar.bench") / "bench.schema.json").read_text())
    content = json.loads((measured[0] / "bench.json").read_text())
    jsonschema.validate(content, schema)
    assert content["dataset"] == "synthetic"
    assert (content["environment"]["gpu"], content["environment"]["gpus"]) == (None, 0)  # it was asked to use the CPU
    assert (measured[0] / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_every_loader_is_held_to_plain_and_to_the_copy(measured: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    loaders = measured[1]["loaders"]
    assert {"copy-cpu", "dali-cpu", "fused", "plain-2"} <= set(loaders)
    assert loaders["plain-2"]["ratio_to_plain"] == 1
    for one in loaders.values():
        assert one["median"] == statistics.median(one["values"])
        if one["unit"] == "images/s":
            assert one["limit"] == pytest.approx(loaders["copy-cpu"]["median"] / BYTES_PER_IMAGE)


def test_the_steps_say_what_auto_picks(measured: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    steps = measured[1]["step"]
    chosen = [name for name, one in steps.items() if one["details"].get("auto")]
    assert len(chosen) == 1
    assert steps["eager-float32-nchw"]["ratio_to_plain"] == 1
    assert steps["eager-float32-channels_last"]["details"]["peak_memory"] > 0
    assert steps["eager-float32-channels_last"]["limit"] > 0


def test_training_says_how_long_it_waits(measured: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    train = measured[1]["train"]
    assert set(train) == {"ready", "dali", "fused", "plain-2"}
    assert train["ready"]["details"]["stall"] == 0
    assert all(0 <= one["details"]["stall"] < 1 for one in train.values())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--figure", "x.pdf"], "--figure x.pdf: the name must end in .png or .svg"),
        (["--json", "nowhere/x.json"], "nowhere/x.json: there is no folder nowhere"),
        (["--width", "0"], "--model.width: input should be greater than or equal to 1"),
        (["--batch-size", "200"], "--batch-size 200: 8 batches are more than the synthetic images"),
        (["--blocks", "0"], "--blocks 0: at least one is needed"),
        (["loaders", "--beside", "-1"], "--beside -1: from 0 to 1024 processes"),
    ],
)
def test_bad_input(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["bench", *arguments, *FEW]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fastcifar: {complaint}")
    assert error.count("\n") == 1


def test_an_unknown_benchmark_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "disk"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fastcifar: disk: no such command; fastcifar bench has all, loaders, step, train, ")
    assert error.count("\n") == 1
