"""eval, predict and export as the command line calls them."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from finished import RECIPE, dataset, finished_run
from PIL import Image

from fastcifar.commands.runs import Eval, Export, Predict
from fastcifar.errors import InputError
from fastcifar.report.console import Console
from fastcifar.runs.predictions import probabilities, score
from fastcifar.runs.saved import open_run
from fastcifar.training.evaluate import OnBytes


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run, whose images are not read from disk every time."""
    monkeypatch.setattr("fastcifar.data.load.load_dataset", lambda recipe, folder: dataset())
    return finished_run()[0]


def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def shown(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_eval(run: Path) -> None:
    said = console()
    Eval(run, device="cpu").run(said)
    accuracy = f"{open_run(run).final_accuracy:.2%}"
    assert re.search(rf"accuracy {accuracy}, loss \d\.\d{{4}}; [\d,]+ images/s\n", shown(said))
    assert f"the run's own last test: {accuracy} (float32)" in shown(said)
    assert f"{RECIPE.limit_test:,} test images of {RECIPE.dataset}" in shown(said)
    rows = re.findall(r"^(\S+) +([\d,]+) +([\d,]+) +([\d.]+)%", shown(said), re.MULTILINE)
    assert [row[0] for row in rows] == [*open_run(run).classes, "all"]
    images = [int(row[1].replace(",", "")) for row in rows]
    assert sum(images[:-1]) == images[-1] == 1100
    assert "…" not in shown(said)


def test_eval_on_a_folder(run: Path, tmp_path: Path) -> None:
    """Test images as files: the same figures as in memory."""
    images, labels = dataset().test_images[:50], dataset().test_labels[:50]
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        file = tmp_path / dataset().classes[label] / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(file)
    said = console()
    Eval(run, device="cpu", images=tmp_path, tta="flip+shift").run(said)
    wanted = score(OnBytes(open_run(run).model, tta="flip+shift"), images, labels)
    assert f"accuracy {wanted.accuracy:.2%}, loss {wanted.loss:.4f}; " in shown(said)
    assert "own last test" not in shown(said)


def test_predict(run: Path, tmp_path: Path) -> None:
    image = dataset().test_images[0]
    file = tmp_path / "a [red] :dog:.png"
    Image.fromarray(image).save(file)
    said = console()
    Predict(run, (file, file), json=True).run(said)
    first, second = json.loads(shown(said))
    assert first == second
    assert first["file"] == str(file)
    saved = open_run(run)
    wanted = probabilities(saved.on_bytes(), np.stack([image, image]))[0]
    assert first["probabilities"] == dict(zip(saved.classes, wanted.tolist(), strict=True))
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert first["class"] == saved.classes[wanted.argmax()]

    table = Console(file=io.StringIO(), width=400)
    Predict(run, (file,)).run(table)
    assert str(file) in shown(table)
    rows = re.findall(r"(\S+) +([\d.]+)%", shown(table))
    assert [row[0] for row in rows] == [saved.classes[label] for label in (-wanted).argsort()[:5]]
    assert [float(row[1]) for row in rows] == pytest.approx(100 * np.sort(wanted)[::-1][:5], abs=0.006)


def test_predict_goes_on_past_what_is_no_image(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (100, 50), "red").save(good)
    bad.write_text("no image")
    said = console()
    with pytest.raises(InputError, match="2 of 3 files refused"):
        Predict(run, (bad, tmp_path / "nowhere", good), json=True).run(said)
    assert [one["file"] for one in json.loads(shown(said))] == [str(good)]
    assert capsys.readouterr().err == (
        f"fastcifar: {bad}: not an image that PIL can read\nfastcifar: {tmp_path / 'nowhere'}: no such file\n"
    )
    said = console()
    with pytest.raises(InputError, match="1 of 1 files refused"):
        Predict(run, (bad,)).run(said)
    assert shown(said) == ""


def test_export(run: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "a.pt2", console()
    Export(run, "torch-export", out).run(said)
    assert f"agrees with the network on 1,000 test images of {RECIPE.dataset} (logits differ by at most " in shown(said)
    assert shown(said).endswith(f"written: {out}\n")
    assert out.exists()
    with pytest.raises(InputError, match="is a folder; name a file"):
        Export(run, "torch-export", tmp_path).run(said)
    with pytest.raises(InputError, match="there is no folder"):
        Export(run, "torch-export", tmp_path / "no" / "a.pt2").run(said)
