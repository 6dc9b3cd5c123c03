"""The environment of a record: what is there, and nothing private."""

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import fastcifar
from fastcifar.bench.environment import environment, process_start


def test_it_says_what_a_bug_report_needs() -> None:
    found = environment()
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["cores"] >= 1
    assert found["dali"]
    assert (found["gpu"] is not None) == torch.cuda.is_available()
    assert found["cpu"]


def test_it_is_json_and_names_no_one() -> None:
    text = json.dumps(environment())
    assert platform.node() not in text
    assert os.getcwd() not in text  # noqa: PTH109


def test_of_eight_gpus_a_run_uses_one_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0"))
    for device, used in ((None, ("A GPU", 8)), ("cuda", ("A GPU", 1)), ("cpu", (None, 0))):
        found = environment(device)
        assert (found["gpu"], found["gpus"]) == used
    assert environment("cpu")["gpu_power_limit_watts"] is None


def test_the_process_began_before_the_test() -> None:
    assert time.time() - 24 * 3600 < process_start() < time.time()
    assert process_start() == process_start()


def checkout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit of two files, from which fastcifar seems to come."""
    for name in ("fastcifar/__init__.py", "benchmarks/results/old.json"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("1")
    monkeypatch.setattr(fastcifar, "__file__", str(folder / "fastcifar" / "__init__.py"))
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org", "-C", str(folder)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"]):
        subprocess.run([*git, *command], check=True)
    return folder


def test_results_leave_a_checkout_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the suite, whose later parts would be of a dirty checkout otherwise."""
    place = checkout(tmp_path, monkeypatch)
    for name in ("old.json", "new.json"):
        (place / "benchmarks" / "results" / name).write_text("2")
    found = environment("cpu")
    assert (len(found["commit"]), found["dirty"]) == (40, False)


@pytest.mark.parametrize("name", ["fastcifar/__init__.py", "fastcifar/new.py", "benchmarks/new.py"])
def test_any_other_change_makes_it_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (checkout(tmp_path, monkeypatch) / name).write_text("2")
    assert environment("cpu")["dirty"] is True


def test_it_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = checkout(tmp_path, monkeypatch)
    before = environment("cpu")
    (place / "fastcifar" / "new.py").write_text("2")
    assert environment("cpu") == before


def test_without_git_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastcifar, "__file__", str(tmp_path / "fastcifar" / "__init__.py"))
    found = environment("cpu")
    assert (found["commit"], found["dirty"]) == (None, None)
