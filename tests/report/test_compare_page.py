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
from safetensors.torch import load_file, save_file

from fastcifar.data.dataset import Dataset
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


def test_by_class(run: Path, other: Path, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcifar.report.compare_page.load_dataset", lambda recipe, data: small)
    folder = shutil.copytree(other, tmp_path / "third")
    weights = load_file(folder / "model.safetensors")
    last = list(weights)[-1]
    save_file(weights | {last: weights[last] * 0}, folder / "model.safetensors")
    said: list[str] = []
    page = write_comparison([run, folder], tmp_path / "page", by_class=True, progress=said.append)
    assert said == ["testing run 1/2", "testing run 2/2", "drawing"]
    assert (page.parent / "classes.png").exists()
    assert page.read_text().count("<figure>") == len(PICTURES) + 1
    table = re.search(r'<table id="by-class">.*?<tbody>(.*?)</table>', page.read_text(), re.DOTALL)
    assert table is not None
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table[1], re.DOTALL)]
    assert [row[0] for row in rows] == [*small.classes, "all"]
    assert sum(int(row[1]) for row in rows[:-1]) == len(small.test_labels) == int(rows[-1][1])
    result = json.loads((run / "run.json").read_text())["result"]
    assert rows[-1][2] == f"{100 * result['final_accuracy']:.1f} %"
    spread = [float(row[2].removesuffix(" %")) - float(row[3].removesuffix(" %")) for row in rows]
    assert [abs(one) for one in spread] == pytest.approx([float(row[4]) for row in rows], abs=0.11)
    assert all(0 <= float(row[5]) <= 1 for row in rows)

    run_json = json.loads((folder / "run.json").read_text())
    run_json["dataset"]["sha256"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(run_json))
    with pytest.raises(InputError, match=r"^--by-class: .*third was tested on other images than .*run$"):
        write_comparison([run, folder], tmp_path / "page", by_class=True)


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
