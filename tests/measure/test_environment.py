"""The environment of a record: what is there, and nothing private."""

import json
import os
import platform
import time

import torch

from fastcifar.measure.environment import environment, wall_seconds


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


def test_the_process_is_older_than_the_test() -> None:
    first = wall_seconds()
    time.sleep(0.01)
    assert 0 < first < wall_seconds()
