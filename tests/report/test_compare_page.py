"""Runs side by side."""

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastcifar.errors import InputError
from fastcifar.report.compare_page import write_comparison

PICTURES = {"test-accuracy", "test-accuracy-by-seconds", "test-loss", "train-loss", "learning-rate", "throughput"}
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def other(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on another machine, whose name is markup, and a second epoch that took longer."""
    copied = tmp_path_factory.mktemp("other") / "other"
    shutil.copytree(run, copied, ignore=shutil.ignore_patterns("report"))
    said = json.loads((copied / "run.json").read_text())
    said["environment"] |= {"cpu": HOSTILE, "cores": 64}
    (copied / "run.json").write_text(json.dumps(said))
    lines = [json.loads(line) for line in (copied / "events.jsonl").read_text().splitlines()]
    lines[1]["train_seconds"] += 100
    (copied / "events.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return copied


@pytest.fixture(scope="module")
def page_file(run: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison([run, other], tmp_path_factory.mktemp("compared") / "page")


def test_pictures_results_and_differences(page_file: Path) -> None:
    text = page_file.read_text()
    assert {path.name for path in page_file.parent.iterdir()} == {"index.html", *(f"{name}.png" for name in PICTURES)}
    for file in page_file.parent.glob("*.png"):
        Image.open(io.BytesIO(file.read_bytes())).load()
    assert len(re.findall(r'<figure><div class="card"><svg [^>]*role="img"', text)) == len(PICTURES)
    table = re.search(r'<table id="differences">.*?<tbody>(.*?)</table>', text, re.DOTALL)
    assert table is not None
    cells = [
        re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table[1], re.DOTALL)
    ]
    assert cells == [
        ["environment.cpu", "a processor", "&lt;script&gt;alert(1)&lt;/script&gt;"],
        ["environment.cores", "2", "64"],
    ]
    assert "<script" not in text
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []


def names(page: Path) -> list[str]:
    table = re.search(r'<table id="results">.*?<tbody>(.*?)</table>', page.read_text(), re.DOTALL)
    assert table is not None
    return re.findall(r'<th scope="row">(.*?)</th>', table[1])


def test_runs_have_names(run: Path, other: Path, page_file: Path, tmp_path: Path) -> None:
    assert names(page_file) == [run.name, other.name]  # one recipe, one seed
    third = shutil.copytree(run, tmp_path / "third", ignore=shutil.ignore_patterns("report", "model.safetensors"))
    said = json.loads((third / "run.json").read_text())
    said["recipe"]["seed"] = 7
    (third / "run.json").write_text(json.dumps(said))
    assert names(write_comparison([run, third, run], tmp_path / "page")) == [
        f"{run.name} (1)",
        "tiny, seed 7",
        f"{run.name} (2)",
    ]


def test_one_run_twice_differs_in_nothing(run: Path, tmp_path: Path) -> None:
    assert "are the same in all of them" in write_comparison([run, run], tmp_path / "page").read_text()


def test_what_cannot_be_compared_is_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="compare: 1 runs; between 2 and 26"):
        write_comparison([run], tmp_path / "page")
    with pytest.raises(InputError, match="no such folder"):
        write_comparison([run, tmp_path / "nowhere"], tmp_path / "page")
    with pytest.raises(InputError, match="there is no folder"):
        write_comparison([run, run], tmp_path / "not" / "there")


@pytest.mark.parametrize("width", [1280, 360])
def test_in_a_browser(
    page_file: Path, visit: Callable[..., Any], accessible: Callable[[Any], None], width: int
) -> None:
    page = visit(page_file, viewport={"width": width, "height": 740}, reduced_motion="reduce")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    accessible(page)
