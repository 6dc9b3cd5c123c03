"""leaderboard schema, and which records are shown where none is named."""

import json
from pathlib import Path

import pytest
from made_records import record

from fastcifar.commands import main
from fastcifar.records.record import schema, to_json


def test_schema_is_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


def test_without_files_the_records_of_this_folder_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    assert main(["leaderboard", "show"]) == 0
    shown = capsys.readouterr().out
    assert "no records to show" in shown
    assert "airbench94, Muon" in shown  # what others published needs no file
    for folder, name in (("runs", "mine"), ("benchmarks/results/2026", "ours")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "one.record.json").write_bytes(to_json(record(name=name)))
    assert main(["leaderboard", "show"]) == 0
    shown = capsys.readouterr().out
    assert " mine " in shown
    assert " ours " in shown
    assert main(["leaderboard", "page", "--out", "page"]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "mine" in page
    assert "ours" in page


@pytest.mark.parametrize("command", [["leaderboard", "check"], ["leaderboard", "show"]])
def test_a_name_that_no_file_can_have_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """And the records beside it are looked at all the same."""
    good = tmp_path / "good.record.json"
    good.write_bytes(to_json(record()))
    code = main([*command, "x" * 100_000, str(good)])
    said = capsys.readouterr()
    assert code == (0 if command[1] == "show" else 2)
    assert "File name too long" in said.err
    assert ("1 of 2 records refused" in said.err) == (command[1] == "check")
    assert main(["bench", "accuracy", "--json", "x" * 300]) == 2
    assert main(["train", "--out", "x" * 300]) == 2


def test_one_record_found_twice_is_one_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a folder and by its name, or in both places that are looked at where none is named."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    mine, other = to_json(record(name="mine")), to_json(record(name="mine", seconds=20))
    for place, content in (("runs/a", mine), ("benchmarks/results/b", mine), ("runs/c", other)):
        file = tmp_path / f"{place}.record.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def rows(*places: str) -> int:
        assert main(["leaderboard", "show", *places]) == 0
        return capsys.readouterr().out.count(" mine ")

    assert rows("runs") == rows() == rows("runs", "runs/a.record.json", "benchmarks") == 2
    assert rows("runs/a.record.json", "./runs/a.record.json") == 1
    assert main(["leaderboard", "check", "runs", "benchmarks"]) == 0
    assert capsys.readouterr().out.count("holds") == 3  # each file that is named is looked at


@pytest.mark.parametrize("target", ["94", "0", "-1", "nan", "1.01"])
def test_a_target_that_is_no_accuracy_is_refused(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["leaderboard", "show", "--target", target]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (f"fastcifar: --target {target}: an accuracy above 0 and at most 1 is needed, such as 0.94\n")
