"""A run that is tested after some epochs only, through every command that reads one."""

import json
from pathlib import Path

import pytest

from fastcifar.commands import main
from fastcifar.errors import InputError
from fastcifar.records.check import read_record

TOY = ["--recipe", "laptop", "--model.width", "4", "--epochs", "3", "--dataset", "synthetic", "--batch-size", "64"]
SMALL = ["--limit-train", "256", "--limit-test", "100", "--loader", "fused", "--precision", "float32"]
TESTED = ["--evaluation.epochs", "2", "--target", "0.01"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the run, and its record."""
    folder = tmp_path_factory.mktemp("tested-epochs")
    run, file = folder / "run", folder / "one.record.json"
    assert main(["train", *TOY, *SMALL, *TESTED, "--tensorboard", "--out", str(run)]) == 0
    assert main(["leaderboard", "record", str(run), "--json", str(file)]) == 0
    return run, file


def test_every_command_reads_it(kept: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, record = kept
    assert main(["train", *TOY, *SMALL, *TESTED, "--no-report", "--out", str(tmp_path / "other")]) == 0
    printed = capsys.readouterr().out
    (first,) = (line for line in printed.splitlines() if line.split()[:1] == ["1"] and len(line.split()) == 9)
    assert first.split()[5:7] == ["–", "–"]
    assert main(["compare", str(run), str(tmp_path / "other"), "--out", str(tmp_path / "compared")]) == 0
    assert main(["leaderboard", "check", str(record)]) == 0
    assert main(["leaderboard", "show", str(record)]) == 0
    assert main(["leaderboard", "page", str(record), "--out", str(tmp_path / "page")]) == 0
    exported = ["--author", "A", "--author-email", "a@b", "--code-url", "https://c"]
    assert main(["leaderboard", "export", str(record), "--dawnbench", str(tmp_path / "dawn"), *exported]) == 0
    (lines,) = ((file.read_text().splitlines()) for file in (tmp_path / "dawn").glob("*.tsv"))
    assert [line.split("\t")[0] for line in lines] == ["epoch", "2", "3"]
    found = read_record(record)
    assert [epoch.test_accuracy is None for epoch in found.runs[0].epochs] == [True, False, False]
    assert found.summary.seconds is not None
    assert found.summary.seconds.mean == sum(epoch.train_seconds for epoch in found.runs[0].epochs[:2])


@pytest.mark.parametrize(("epoch", "accuracy", "said"), [(0, 0.5, "not tested then"), (1, None, "None; it is tested")])
def test_a_record_of_other_tests_than_its_recipes_is_refused(
    kept: tuple[Path, Path], tmp_path: Path, epoch: int, accuracy: float | None, said: str
) -> None:
    values = json.loads(kept[1].read_text())
    values["runs"][0]["epochs"][epoch]["test_accuracy"] = accuracy
    forged = tmp_path / "forged.record.json"
    forged.write_text(json.dumps(values))
    with pytest.raises(InputError, match=f"runs.0.epochs.{epoch}.test_accuracy: .*{said}"):
        read_record(forged)
