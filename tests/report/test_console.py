"""What reaches a terminal: nothing that it would take for a command, and something whatever it is like."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.live import Live
from rich.text import Text

import fastcifar
from fastcifar.commands import main
from fastcifar.report.console import LONGEST, Console
from fastcifar.report.tables import table

HOSTILE = "\x1b[31m\x9b2J\u202e\u200b\U000e0041\x07"
SAID = "\\x1b[31m\\x9b2J\\u202e\\u200b\\U000e0041\\x07"


@pytest.mark.parametrize("how", ["say", "print", "out", "text", "table", "live"])
def test_what_a_terminal_would_take_for_a_command_is_escaped(how: str) -> None:
    console = Console(file=io.StringIO(), width=200, force_terminal=how == "live", no_color=True)
    match how:
        case "say":
            console.say(HOSTILE)
        case "print":
            console.print(HOSTILE)
        case "out":
            console.out(HOSTILE)
        case "text":
            console.print(Text(HOSTILE))
        case "table":
            console.print(table(("a",), [(HOSTILE,)], title=HOSTILE))
        case "live":
            with Live(Text(HOSTILE), console=console):
                pass
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert SAID.removesuffix("\\x07") in text  # rich leaves the bell out by itself
    assert not (set(HOSTILE) - set(SAID) - {"\x1b"}) & set(text)
    assert "\x1b[31m" not in text


def test_a_complaint_is_one_line_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    Console.complain(f"a\nb {HOSTILE}")
    assert capsys.readouterr().err == f"fastcifar: a b {SAID}\n"
    Console.complain(f"begin {'x' * 100_000} end")
    said = capsys.readouterr().err
    assert said.startswith("fastcifar: begin xxx")
    assert said.endswith("xxx end\n")
    assert len(said) < LONGEST + 30


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_names_of_files_and_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str], debug: list[str]) -> None:
    (tmp_path / f"{HOSTILE}.toml").write_text('"a\\u001b[2J\\u200b" = 1\n')
    assert main(["recipe", str(tmp_path / f"{HOSTILE}.toml"), *debug]) == 2
    assert main([HOSTILE, *debug]) == 2
    said = capsys.readouterr().err
    assert said.replace("\n", "").isprintable()
    assert f"{SAID}.toml: a\\x1b[2J\\u200b: no such field in a recipe" in said


def shown(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastcifar", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(fastcifar.__file__).parents[1]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_output_that_is_not_utf_8() -> None:
    """The dash of no petaFLOPs and the lines of the layers' tree are said in what there is."""
    done = shown("leaderboard", "show", "benchmarks/results", PYTHONIOENCODING="ascii", COLUMNS="160")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "published by others" in done.stdout  # the last table
    done = shown("summary", "--recipe", "laptop", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "`-Conv2d (conv)" in done.stdout


@pytest.mark.parametrize("size", ["0", "000", "²", "9" * 5000])
def test_a_terminal_of_no_size(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", size)
    console = Console(file=io.StringIO())
    console.print(Text("words"))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == "words\n"
