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
