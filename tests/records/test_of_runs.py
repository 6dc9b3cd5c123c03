"""A record of runs that `fastcifar train` kept."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finished import CPU, RECIPE, dataset, finished_run

import fastcifar
from fastcifar.commands import main
from fastcifar.records.check import read_record, require_work


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run's recipe with the next seed."""
    finished_run()  # comes first in time too
    path = tmp_path_factory.mktemp("runs") / "second"
    fastcifar.train(replace(RECIPE, seed=1), name="recipe", execution=CPU, out=path)
    return path


def test_two_runs_make_a_record_that_holds(
    second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    first, trained = finished_run()
    file = tmp_path / "two.record.json"
    assert main(["leaderboard", "record", str(second), str(first), "--json", str(file)]) == 0
    record = read_record(file)
    assert [run.seed for run in record.runs] == [0, 1]
    assert [epoch.test_accuracy for epoch in record.runs[0].epochs] == [one.test_accuracy for one in trained.log]
    assert record.work is not None
    require_work(record, file)
    assert record.execution is not None
    assert record.execution.checkpoint_seconds == CPU.checkpoint_seconds
    assert main(["leaderboard", "check", str(file)]) == 2
    assert "two.record.json: runs.0: never reaches the target of 90.00%" in capsys.readouterr().err  # and no more
    assert main(["leaderboard", "record", str(first), "--json", str(file)]) == 2
    assert "exists; name another" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"recipe": {"seed": 5}}, "cannot be in one record with"),
        ({"execution": {"precision": "bfloat16"}}, "precision was bfloat16, and float32 too"),
        ({"environment": {"cpu": "Another"}}, "the runs are of several machines"),
        ({"result": {"wall_seconds": 0.0}}, "wall_seconds: "),
        (
            {"result": {"lost_seconds": 1.0, "wall_seconds": 1000.0}},
            "lost_seconds: 1 s, but the run was not interrupted",
        ),
        ({"status": "interrupted"}, "the run is not finished"),
    ],
)
def test_what_cannot_stand_in_one_record(
    change: dict[str, Any], complaint: str, second: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(second, tmp_path / "run")
    values = json.loads((run / "run.json").read_text())
    for key, one in change.items():
        values[key] = {**values[key], **one} if isinstance(one, dict) else one
    (run / "run.json").write_text(json.dumps(values))
    file = tmp_path / "two.record.json"
    assert main(["leaderboard", "record", str(finished_run()[0]), str(run), "--json", str(file)]) == 2
    assert complaint in capsys.readouterr().err
    assert not file.exists()


def test_runs_from_before_it_was_said_in_how_many_processes(second: Path, tmp_path: Path) -> None:
    """They may stand beside later ones; those of another number may not."""
    run = shutil.copytree(second, tmp_path / "run")
    values = json.loads((run / "run.json").read_text())
    for before, code in (({"processes": None, "machines": None}, 0), ({"processes": 2}, 2)):
        changed = values["environment"] | before
        (run / "run.json").write_text(json.dumps(values | {"environment": changed}))
        file = tmp_path / f"{code}.record.json"
        assert main(["leaderboard", "record", str(finished_run()[0]), str(run), "--json", str(file)]) == code


def test_runs_of_other_batch_statistics_do_not_stand_together(second: Path, tmp_path: Path) -> None:
    """Those of before there was a choice had each process's own."""
    run = shutil.copytree(second, tmp_path / "run")
    values = json.loads((run / "run.json").read_text())
    del values["execution"]["sync_batchnorm"]
    for said, code in (({}, 0), ({"sync_batchnorm": True}, 2)):
        (run / "run.json").write_text(json.dumps(values | {"execution": values["execution"] | said}))
        file = tmp_path / f"{code}.record.json"
        assert main(["leaderboard", "record", str(finished_run()[0]), str(run), "--json", str(file)]) == code


def test_what_differs_between_sessions_is_left_out(second: Path, tmp_path: Path) -> None:
    """The commit, say; that one of them had changes stays."""
    run = shutil.copytree(second, tmp_path / "run")
    values = json.loads((run / "run.json").read_text())
    before = {"started": "2026-11-01T00:00:00+00:00", "execution": values["execution"], "epochs": 1}
    before["environment"] = values["environment"] | {"commit": "0" * 40, "dirty": True}
    values["earlier_sessions"] = [before]
    (run / "run.json").write_text(json.dumps(values))
    file = tmp_path / "one.record.json"
    assert main(["leaderboard", "record", str(run), "--json", str(file)]) == 0
    record = read_record(file)
    assert (record.environment.commit, record.environment.dirty) == (None, True)
    assert record.environment.cpu == values["environment"]["cpu"]
    assert record.runs[0].started == before["started"]


def test_a_run_whose_code_is_not_all_in_it_makes_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_rng: object
) -> None:
    rate = 0.1
    with pytest.warns(UserWarning, match="till then it makes no record"):
        fastcifar.train(
            RECIPE,
            optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=rate),
            dataset=dataset(),
            execution=CPU,
            out=tmp_path / "run",
        )
    assert main(["leaderboard", "record", str(tmp_path / "run"), "--json", str(tmp_path / "one.record.json")]) == 2
    assert "define it at the top level of its file; so there is no record" in capsys.readouterr().err
