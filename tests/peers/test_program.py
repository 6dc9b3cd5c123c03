"""Programs in processes of their own: how they end, and that nothing of them stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fastcifar
from fastcifar.errors import RunError
from fastcifar.peers import program
from fastcifar.peers.program import ProgramError, run_own, run_program


def test_what_a_program_last_said_is_why_it_failed(tmp_path: Path) -> None:
    script = "import sys; print('no', file=sys.stderr); print('\\x1b[31mno GPU\\n\\n', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ProgramError, match=r"^\\x1b\[31mno GPU$") as caught:
        run_program([sys.executable, "-c", script], tmp_path)
    assert caught.value.code == 3
    with pytest.raises(RunError, match="ended by signal 9"):
        run_program([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], tmp_path)


def test_a_program_dies_with_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a program prints ends it and the process that it has started."""

    class Interrupted:
        def time(self) -> float:
            raise KeyboardInterrupt

    monkeypatch.setattr(program, "time", Interrupted())
    script = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1); open(\"alive\", \"w\")'])\n"
        "print('begun', flush=True)\n"
        "time.sleep(60)\n"
    )
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        run_program([sys.executable, "-c", script], tmp_path)
    assert time.perf_counter() - start < program.PATIENCE
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


def test_a_program_that_is_just_beginning_dies_with_us(tmp_path: Path) -> None:
    """A signal between the start of a process and the moment from which we know it."""
    script = (
        "import os, signal, subprocess, sys\n"
        "from pathlib import Path\n"
        "from fastcifar.peers.program import run_program\n"
        "from fastcifar.stopping import end_on_signals\n"
        "class Popen(subprocess.Popen):\n"
        "    def __init__(self, *given, **named):\n"
        "        super().__init__(*given, **named)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "subprocess.Popen = Popen\n"
        "end_on_signals()\n"
        "print('ready', flush=True)\n"
        "run_program([sys.executable, '-c', 'import time; time.sleep(1); open(\"alive\", \"w\")'], Path.cwd())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(fastcifar.__file__).parents[1])}
    ours = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ours.stdout == "ready\n"
    assert "Stopped" in ours.stderr.splitlines()[-1]
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


def test_a_program_is_ended_when_its_time_is_up(tmp_path: Path) -> None:
    """With the process that it has started; what it printed before counts."""
    script = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2); open(\"alive\", \"w\")'])\n"
        "print('begun', flush=True)\n"
        "time.sleep(60)\n"
    )
    start = time.perf_counter()
    output = run_program([sys.executable, "-c", script], tmp_path, seconds=1.0)
    assert time.perf_counter() - start < 1.0 + program.PATIENCE
    assert output.cut
    assert [line.text for line in output.lines] == ["begun"]
    time.sleep(1.5)
    assert not (tmp_path / "alive").exists()


@pytest.mark.parametrize(("wanted", "seen"), [("a run", ["begun", "a run"]), ("another", ["begun", "a run"])])
def test_a_program_that_has_not_done_enough_has_more_time_but_not_for_ever(
    wanted: str, seen: list[str], tmp_path: Path
) -> None:
    """What is compiled first may take as long as what was to be measured."""
    script = "import time; print('begun', flush=True); time.sleep(2); print('a run', flush=True); time.sleep(60)"
    start = time.perf_counter()
    output = run_program(
        [sys.executable, "-c", script],
        tmp_path,
        seconds=1.0,
        enough=lambda lines: wanted in [one.text for one in lines],
    )
    assert [line.text for line in output.lines] == seen
    assert output.cut
    assert (time.perf_counter() - start >= program.PATIENT) == (wanted == "another")


def test_a_program_within_its_time_is_not_cut(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = run_program([sys.executable, "-c", "print('seen')"], tmp_path, seconds=60, show=True)
    assert (output.lines, output.cut) == ([], False)
    assert capfd.readouterr().out == "seen\n"


@pytest.mark.parametrize("before", [None, "/elsewhere"])
def test_our_own_programs_are_of_this_fastcifar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """In any folder, whatever else is installed, and with what a person's PYTHONPATH has."""
    if before:
        monkeypatch.setenv("PYTHONPATH", before)
    else:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "shown.py").write_text("import fastcifar, sys\nprint(fastcifar.__file__, *sys.path, sep='\\n')\n")
    first, *places = [line.text for line in run_own("shown", [], tmp_path).lines]
    assert first == fastcifar.__file__
    expected = [str(Path(first).parents[1]), *([before] if before else [])]
    assert places[1 : len(expected) + 1] == expected
