"""The suite for a GPU's machine: every part at toy size on the CPU, and that it keeps, goes on and ends as it says."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # reads TORCHDYNAMO_DISABLE once, which a test here sets for other processes

from benchmarks import gpu
from benchmarks.__main__ import run as command
from benchmarks.gpu import Done, Part
from fastcifar.bench.environment import environment
from fastcifar.commands import main as fastcifar
from fastcifar.commands.bench import checkpoints_of
from fastcifar.errors import Stopped
from fastcifar.peers.program import Output, ProgramError, run_program
from fastcifar.recipe import Recipe
from fastcifar.recipe.files import shipped_recipes
from fastcifar.records.check import read_record

ROOT = Path(__file__).parents[2]
FIRST = ("tests", "compile", "loaders", "step", "train")


def of_this_process(command: list[str], folder: Path, **options: Any) -> Output:
    """`run_program`, but for most of what fastcifar does: a process of its own would only import torch once more."""
    _, _, module, *arguments = command
    if module != "fastcifar" or "loaders" in arguments:
        return run_program(command, folder, **options)
    if fastcifar(arguments):
        raise ProgramError("failed", "")
    return Output([], "", cut=False)


def test_every_part_at_toy_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As on the day, but on the CPU; torch.compile is left out for its time."""
    for name, value in {"PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1", "COLUMNS": "150"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpu, "run_program", of_this_process)
    with torch.compiler.set_stance("force_eager"):
        code = command(["gpu", "--dry-run", "--out", str(tmp_path)])
    shown = capfd.readouterr()
    assert code == 0, shown.out + shown.err
    names = [
        "tests",
        "compile",
        "loaders",
        "step",
        "train",
        "seed",
        "airbench94",
        "sprint90",
        "sprint94",
        "peers",
        "profile",
    ]
    ended = json.loads((tmp_path / "suite.json").read_text())["parts"]
    assert {name: one["outcome"] for name, one in ended.items()} == dict.fromkeys(names, "done")
    rows = shown.out.splitlines()[-13:]
    for name, came_to in {
        "tests": "0 passed, 0 failed, ",
        "compile": "1 set up at once, the last after ",
        "loaders": "dali-cpu ",
        "step": "eager-",
        "train": "stall ",
        "seed": "5.0% after ",
        "airbench94": "n = 2, final ",
        "sprint90": "n = 2, final ",
        "sprint94": "n = 2, final ",
        "peers": "fastcifar ",
        "profile": "of the matrix product rate end to end",
    }.items():
        assert any(row.startswith(name) and came_to in row for row in rows), name
    assert all(
        one["outcome"] == "skipped" for one in json.loads((tmp_path / "tests.json").read_text())["tests"].values()
    )
    assert read_record(tmp_path / "seed.record.json").summary.runs == 2
    assert {file.name for file in (tmp_path / "peers").iterdir()} == {
        "fastcifar.record.json",
        "plain_pytorch.record.json",
    }
    assert not list(tmp_path.rglob("*.log"))
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < 2**20
    for file in tmp_path.rglob("*.json"):
        assert str(ROOT) not in file.read_text(), file
        assert os.uname().nodename not in json.dumps(list(json.loads(file.read_text()).values())[-1])


def python(name: str, script: str, leaves: Path, seconds: float = 60.0) -> Part:
    return Part(name, [sys.executable, "-c", script], leaves, seconds, lambda file: f"{len(file.read_text())} bytes")


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """A part that counts its measurements in `times`, one that fails while `broken` exists, one that is slow."""
    good, bad, slow = (tmp_path / "out" / f"{name}.txt" for name in ("good", "bad", "slow"))
    broken = tmp_path / "broken"
    broken.touch()
    planned = [
        python("good", f"open({str(good)!r}, 'w').write('x'); open({str(tmp_path / 'times')!r}, 'a').write('x')", good),
        python(
            "bad",
            f"import os, sys; os.path.exists({str(broken)!r}) and sys.exit('oh\\nno'); open({str(bad)!r}, 'w')",
            bad,
        ),
        python("slow", f"import time; open({str(slow)!r}, 'w').write('half'); time.sleep(60)", slow, seconds=1.0),
    ]
    monkeypatch.setattr(gpu, "parts", lambda *_, **__: planned)
    return planned


def test_a_part_that_fails_stops_no_other(three: list[Part], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    start = time.perf_counter()
    assert command(["gpu", "--dry-run", "--out", str(out)]) == 1
    assert time.perf_counter() - start < 30
    ended = json.loads((out / "suite.json").read_text())["parts"]
    assert [(name, one["outcome"], one["problem"]) for name, one in ended.items()] == [
        ("good", "done", None),
        ("bad", "failed", "no"),
        ("slow", "time is up", "ended after 1 s"),
    ]
    assert (out / "bad.log").read_text() == "oh\nno\n"
    printed = capfd.readouterr().out
    assert "good  done" in printed
    assert "4 bytes; ended after 1 s" in printed  # what it has left is shown all the same

    (tmp_path / "broken").unlink()
    assert command(["gpu", "--dry-run", "--out", str(out)]) == 1
    assert "[1/3] good: done before" in capfd.readouterr().out
    assert (tmp_path / "times").read_text() == "x"
    ended = json.loads((out / "suite.json").read_text())["parts"]
    assert [one["outcome"] for one in ended.values()] == ["done", "done", "time is up"]
    assert not (out / "bad.log").exists()

    assert command(["gpu", "--dry-run", "--out", str(out), "--only", "good"]) == 0
    assert (tmp_path / "times").read_text() == "xx"


def test_runs_are_gone_on_with_only_where_the_part_was_not_done(tmp_path: Path) -> None:
    record = tmp_path / "seed.record.json"
    part = python("seed", f"import sys; open({str(record)!r}, 'a').write(' '.join(sys.argv[1:]) + '.')", record)
    gpu.run(part)
    gpu.run(part, resume=True)
    assert record.read_text() == ".--resume."
    gpu.run(part, resume=False)
    assert record.read_text() == "."

    (folder := checkpoints_of(record)).mkdir()
    record.unlink()  # ended in its first run, whose state is kept
    gpu.run(part, resume=True)
    assert record.read_text() == "--resume."
    (folder / "0").touch()
    gpu.run(part, resume=False)
    assert record.read_text() == "."
    assert not folder.exists()


def test_a_record_that_cannot_be_read_is_measured_again(
    three: list[Part], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command(["gpu", "--dry-run", "--out", str(out), "--only", "good"])
    three[0].leaves.write_bytes(b"\xff")
    assert command(["gpu", "--dry-run", "--out", str(out)]) == 1
    assert three[0].leaves.read_text() == "x"
    assert "[1/3] good: done before" not in capfd.readouterr().out


def test_no_rivals_record_outlives_a_new_measurement(tmp_path: Path) -> None:
    """A ratio to a record of another day would be none."""
    out = tmp_path / "peers"
    out.mkdir()
    (out / "airbench.record.json").touch()
    part = Part("peers", [sys.executable, "-c", ""], out, 60.0, lambda folder: "", (out / "fastcifar.record.json",))
    ended = {"peers": gpu.run(part, resume=True)}
    assert ended["peers"].outcome == "done"
    assert not list(out.iterdir())
    assert not gpu._is_done(part, ended)  # what it should have left is not there


def test_a_part_that_was_ended_from_outside_is_not_done(
    three: list[Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    command(["gpu", "--dry-run", "--out", str(out), "--only", "good"])

    def interrupted(*_: object, **__: object) -> None:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(gpu, "run_program", interrupted)
    assert command(["gpu", "--dry-run", "--out", str(out), "--only", "good"]) == 128 + signal.SIGTERM
    assert json.loads((out / "suite.json").read_text())["parts"] == {}


def test_ended_from_outside_it_leaves_nothing_running(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "benchmarks", "gpu", "--dry-run", "--out", str(tmp_path), "--only", "train"]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert re.match(r"\[\d+/\d+\] train", process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        rest, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert said == "benchmarks: interrupted; run it again to continue with the parts that are not done\n"
    assert "stall" not in rest
    assert not [1 for line in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path) in _text(line)]


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process is gone
        return ""


def test_it_needs_no_package_of_an_extra() -> None:
    """A GPU's machine has what training needs; only `search` needs more, and says what."""
    absent = ("optuna", "ray", "onnx", "onnxscript", "onnxruntime", "tensorboard", "playwright", "nbclient")
    script = f"import sys; sys.modules.update(dict.fromkeys({absent})); from benchmarks.__main__ import run"
    # --help of `gpu` ends the process, and has first what `search` comes to.
    script += "; print(run(['search', '--help'])); run(['gpu', '--help'])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "benchmarks: search: no optuna here; pip install '.[search]'\n"
    assert re.match(r"2\nusage: python -m benchmarks gpu", done.stdout)


def test_a_rival_named_by_a_flag_of_its_own_is_not_forgotten() -> None:
    assert gpu._parse(["--peer", "a=x", "--peer", "b=y", "c=z"]).peer == ["a=x", "b=y", "c=z"]


def test_every_recipe_for_gpus_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names() -> list[str]:
        return [part.name for part in gpu.parts(tmp_path, toy=False, peers=["airbench=/a"], data=None)]

    recipes = sorted(set(shipped_recipes()) - {"laptop", "seed"})
    yardsticks = ["seed-reduce-overhead", "sprint94-reduce-overhead"]
    assert names() == [
        "tests",
        "compile",
        "loaders",
        "step",
        "train",
        "seed",
        *recipes,
        *yardsticks,
        "peers",
        "profile",
    ]
    monkeypatch.setattr(gpu, "load_recipe", lambda name: Recipe())
    monkeypatch.setattr(gpu, "shipped_recipes", lambda: {"laptop": Path(), "seed": Path(), "sprint": Path()})
    assert names() == [
        "tests",
        "compile",
        "loaders",
        "step",
        "train",
        "seed",
        "sprint",
        *yardsticks,
        "peers",
        "profile",
    ]
    sprint = gpu.parts(tmp_path, toy=False, peers=[], data=None)[6].command
    assert sprint[sprint.index("--runs") + 1] == "20"
    assert sprint[sprint.index("--device") + 1] == "cuda"
    seed = gpu.parts(tmp_path, toy=False, peers=[], data=None)[5].command
    assert seed[seed.index("--runs") + 1] == "3"
    assert "--minutes" not in seed  # three runs, or the part is not done
    ahead = gpu.parts(tmp_path, toy=False, peers=[], data=None)[1].command
    assert ahead[-4:] == ["seed:auto", "sprint:auto", "seed:reduce-overhead", "sprint94:reduce-overhead"]


def test_a_part_has_time_to_compile_every_shape_first(tmp_path: Path) -> None:
    parts = {part.name: part for part in gpu.parts(tmp_path, toy=False, peers=["airbench=/a"], data=None)}
    for recipe, shapes in (("airbench94", 1), ("sprint90", 5)):
        part = parts[recipe]
        minutes = float(part.command[part.command.index("--minutes") + 1])
        assert minutes * 60 == pytest.approx(120 + shapes * gpu.COMPILING)
        assert part.seconds == 120 + minutes * 60  # for the run that is begun last
    assert parts["step"].seconds > 4 * gpu.COMPILING
    assert parts["seed"].seconds == 240 + gpu.COMPILING
    # One rival on its own may have all its patience, and the others are still measured.
    assert parts["peers"].seconds > 60 * gpu.PEER_MINUTES * (2 + 2 * gpu.PATIENT)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "there is no CUDA device here; --dry-run goes through every part"),
        (["--dry-run", "--only", "speed"], "--only speed: no such part; there are tests, compile, loaders, "),
        (["--dry-run", "--peer", "nobody=."], "--peer nobody=.: no such rival"),
    ],
)
def test_bad_input(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert command(["gpu", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"benchmarks: {complaint}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_one_line(
    three: list[Part], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command(["gpu", "--dry-run", "--out", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"benchmarks: {tmp_path / 'file'}: File exists\n"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"dry_run": False}, "its results are of a real run"),
        ({"environment": {**environment(), "cpu": "Another"}}, "its cpu is Another, here it is "),
        ({"parts": {"good": {"outcome": "done"}}}, "suite.json: cannot be read"),
    ],
)
def test_results_of_something_else_are_left_alone(
    change: dict[str, object], complaint: str, three: list[Part], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"dry_run": True, "environment": environment(), "parts": {"good": asdict(Done("done", 1.0))}}
    (tmp_path / "suite.json").write_text(json.dumps({**good, **change}))
    assert command(["gpu", "--dry-run", "--out", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err
