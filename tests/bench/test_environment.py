"""The environment of a record: what is there, and nothing private."""

import json
import os
import platform
import time
from types import SimpleNamespace

import pytest
import torch

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
