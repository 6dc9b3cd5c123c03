"""`python -m benchmarks`: nothing is measured that nobody could measure again, unless that is asked for."""

from pathlib import Path

import pytest

from benchmarks import __main__ as suite
from fastcifar.bench.environment import environment


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that the suite would have run, the results in a folder of their own."""
    called: list[list[str]] = []
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    monkeypatch.setattr(suite, "main", lambda command: called.append(command) or 0)
    return called


def here(monkeypatch: pytest.MonkeyPatch, *, dirty: bool | None) -> None:
    found = {**environment(), "dirty": dirty}
    for module in ("benchmarks.__main__", "benchmarks.gpu"):
        monkeypatch.setattr(f"{module}.environment", lambda: found)


SAID = "benchmarks: the checkout has changes that are not committed; commit them, or give --allow-dirty\n"


def test_help_measures_nothing(commands: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert suite.run(["--help"]) == 0
    assert capsys.readouterr().out == f"{suite.__doc__}\n"
    assert commands == []


def test_a_dirty_checkout_is_not_measured(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, dirty=True)
    assert suite.run(["--dataset", "synthetic"]) == 2
    assert capsys.readouterr().err == SAID
    assert commands == []
    assert suite.run(["--dataset", "synthetic", "--allow-dirty"]) == 0
    assert len(commands) == 6
    assert all(command[0] == "bench" and "synthetic" in command for command in commands)
    assert not any("--allow-dirty" in command for command in commands)


@pytest.mark.parametrize("dirty", [False, None])
def test_a_clean_one_is_and_one_that_nobody_knows_says_so(
    commands: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dirty: bool | None
) -> None:
    here(monkeypatch, dirty=dirty)
    assert suite.run([]) == 0
    assert len(commands) == 6
    assert ("no git here" in capsys.readouterr().err) == (dirty is None)


def test_nor_is_it_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here(monkeypatch, dirty=True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("benchmarks.gpu.find_cifar10", lambda data: tmp_path)
    monkeypatch.setattr("benchmarks.gpu.parts", lambda *_, **__: [])
    out = tmp_path / "out"
    assert suite.run(["gpu", "--out", str(out)]) == 2
    assert capsys.readouterr().err == SAID
    assert not out.exists()
    assert suite.run(["gpu", "--out", str(out), "--allow-dirty"]) == 0
    assert suite.run(["gpu", "--out", str(tmp_path / "dry"), "--dry-run"]) == 0
