"""The command line, as a person meets it: in a process of its own where that matters."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from toy import TOY, files_up_to, one_line

from fastcifar.commands import info, main
from fastcifar.errors import InputError


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastcifar", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def test_train_on_synthetic_images(tmp_path: Path) -> None:
    done = run(*TOY, "--recipe", "seed", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert "NOT CIFAR-10" in done.stdout
    assert "\x1b" not in done.stdout
    rows = [line for line in done.stdout.splitlines() if re.match(r" +[12] ", line)]
    assert len(rows) == 2
    assert "test loss  test acc        lr    img/s\n" in done.stdout  # not wrapped
    assert f"kept in {tmp_path / 'run'}" in done.stdout
    result = json.loads((tmp_path / "run" / "run.json").read_text())
    assert result["status"] == "finished"
    assert result["dataset"]["name"] == "synthetic"
    assert result["recipe"]["schedule"]["peak_epoch"] == pytest.approx(5 * 2 / 24)
    assert result["result"]["wall_seconds"] > result["result"]["train_seconds"]
    assert len((tmp_path / "run" / "events.jsonl").read_text().splitlines()) == 2


def test_train_on_cifar10(cifar10: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [argument for argument in TOY if argument not in ("--dataset", "synthetic")]
    assert main([*arguments, "--recipe", "laptop", "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "cifar10, 300 training and 100 test images" in shown
    assert "NOT CIFAR-10" not in shown


def test_a_terminal_gets_a_live_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a pseudo-terminal of 80 columns, with colours unless NO_COLOR is set."""
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    longer = ["--limit-train", "2000", "--batch-size", "64"]  # than the half second between two pictures
    for no_color in (None, "1"):
        monkeypatch.delenv("NO_COLOR", raising=False)
        if no_color:
            monkeypatch.setenv("NO_COLOR", no_color)
        text = on_a_terminal([*TOY, *longer, "--recipe", "seed", "--out", str(tmp_path / f"run{no_color}")])
        assert bool(re.search(r"\x1b\[[0-9;]*3[0-9][;m]", text)) == (no_color is None)


def on_a_terminal(arguments: list[str]) -> str:
    """What a command writes to a pseudo-terminal, its whole output."""
    ours, theirs = pty.openpty()

    def read() -> bytes:
        shown = b""
        with contextlib.suppress(OSError):  # Linux's word for the end of a terminal's output
            while piece := os.read(ours, 65536):
                shown += piece
        return shown

    with ThreadPoolExecutor(1) as pool:
        shown = pool.submit(read)
        with os.fdopen(theirs, "w") as screen, contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            code = main(arguments)
        text = shown.result().decode()
    os.close(ours)
    assert code == 0, text
    assert "images/s" in text
    assert "…" not in text  # nothing is cut
    assert "\x1b[?25l" in text  # the cursor is hidden: a live display
    return text


def test_a_signal_keeps_the_finished_epochs(tmp_path: Path) -> None:
    """SIGTERM: see test_resume for Ctrl-C."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "fastcifar",
            *TOY,
            "--recipe",
            "seed",
            "--epochs",
            "9999",
            "--out",
            str(tmp_path / "run"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGTERM, signal.SIG_DFL),  # whatever the tests were begun with
    )
    events = tmp_path / "run" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not events.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.fullmatch(r"fastcifar: interrupted; finished epochs: \d+, kept in .*\n", error)
    assert len([json.loads(line) for line in events.read_text().splitlines()]) >= 1
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "interrupted"


def test_a_full_disk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The weights are the first file that has no room."""
    run = tmp_path / "run"
    with files_up_to(20_000):
        assert main([*TOY, "--loader", "dali", "--recipe", "seed", "--out", str(run)]) == 1
    said = f"File too large; finished epochs: 2, kept in {run}; --resume {run} continues it"
    assert one_line(capsys) == f"fastcifar: {run / 'model.safetensors'}: {said}"
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert len((tmp_path / "run" / "events.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--recipe", "seed", "--device", "cuda"]) == 2
    assert "torch finds no CUDA device" in one_line(capsys)


def test_an_existing_run_is_not_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    assert main([*TOY, "--out", str(tmp_path)]) == 2
    assert "exists and is not empty" in one_line(capsys)


def test_a_run_that_does_not_begin_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--recipe", "laptop", "--device", "cpu", "--dataset", "nowhere"]) == 2
    assert "dataset: 'nowhere': neither" in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_of_several_processes_the_first_alone_makes_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[list[Path]] = []

    def train(*_: object, **__: object) -> None:
        seen.append(list(tmp_path.glob("runs/*")))
        raise InputError("seen")

    monkeypatch.setattr("fastcifar.runs.api.train", train)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert main(["train", "--recipe", "laptop", "--device", "cpu", "--dataset", "synthetic"]) == 2
    assert [len(folders) for folders in seen] == [0, 1]


def test_a_diverging_run_fails_with_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rates = ["--schedule.min-lr", "1e38", "--schedule.max-lr", "1e38", "--recipe", "seed"]
    assert main([*TOY, *rates, "--out", str(tmp_path / "run")]) == 1
    assert re.search(r"the loss is (nan|inf) in epoch 1, step [23], at learning rate 1e\+38", one_line(capsys))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_a_bug_is_one_line_and_a_traceback_with_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(info.Recipes, "run", lambda command, console: 1 // 0)
    assert main(["recipes"]) == 1
    assert "ZeroDivisionError" in one_line(capsys)
    assert main(["recipes", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_without_a_recipe_it_says_which_and_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastcifar.commands.command.has_gpu", lambda: False)
    assert main([*TOY, "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert "recipe laptop (found no GPU" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe_name"] == "laptop"


def test_a_gpu_that_torch_cannot_use_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastcifar.commands.command.has_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*TOY, "--out", str(tmp_path / "run")]) == 2
    assert "--recipe auto: there is a GPU, but torch finds no CUDA device; name one" in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_reader_that_goes_away_is_one_line() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    done = subprocess.run(
        [sys.executable, "-m", "fastcifar", "recipes"], stdout=theirs, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(theirs)
    assert done.returncode == 1
    assert done.stderr == "fastcifar: stopped, since the reader of the output has gone\n"


def test_brackets_in_a_path_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "[red]x[" / "blue]"
    assert main([*TOY, "--recipe", "seed", "--epochs", "1", "--out", str(out)]) == 0
    assert f"kept in {out}" in capsys.readouterr().out


def test_the_short_commands(cifar10: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "--recipe", "seed", "--model.layer2-residual"]) == 0
    assert "7,756,554" in capsys.readouterr().out
    assert main(["recipes"]) == 0
    shown = capsys.readouterr().out
    assert "seed" in shown
    assert "petaFLOPs" in shown
    assert main(["env"]) == 0
    shown = capsys.readouterr().out
    for key in ("gpu", "driver", "torch", "dali", "cpu", "compiler", "data"):
        assert re.search(rf"^{key} ", shown, re.MULTILINE)
    assert main(["data"]) == 0
    shown = capsys.readouterr().out
    assert "c99cafc152244af753f735de768cd75f  data_batch_1" in shown
    assert "the MD5s of all 7 files hold" in shown
    assert main(["--version"]) == 0


def test_from_finding_the_learning_rate_to_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command on one run, as a person goes through them."""
    run_directory = tmp_path / "run"
    toy = [argument for argument in TOY if argument != "--no-report"]
    flags = ["--recipe", "laptop", "--limit-train", "1000", "--find-lr", "--out", str(run_directory)]
    assert main([*toy, *flags]) == 0
    assert "LRMAX" in capsys.readouterr().out
    content = json.loads((run_directory / "run.json").read_text())
    assert content["recipe"]["schedule"]["max_lr"] == content["lr_range"]["max_lr"]
    assert content["recipe"]["schedule"]["min_lr"] == content["lr_range"]["min_lr"]
    assert (run_directory / "lr_range.png").is_file()
    assert (run_directory / "report" / "index.html").is_file()
    picture = str(run_directory / "report" / "loss.png")
    for arguments in (
        ["eval", str(run_directory)],
        ["predict", str(run_directory), picture],
        ["export", str(run_directory), "--format", "torch-export", "--out", str(tmp_path / "model.pt2")],
        ["report", str(run_directory), "--out", str(tmp_path / "report")],
        ["compare", str(run_directory), str(run_directory), "--out", str(tmp_path / "compared")],
    ):
        assert main(arguments) == 0, arguments
    assert (tmp_path / "compared" / "index.html").is_file()
