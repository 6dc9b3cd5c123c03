"""The page of a run: all there, true to the run, and quiet in a real browser where there is one."""

import base64
import hashlib
import html
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy_loader import numpy_images
from PIL import Image
from safetensors.torch import load_file

import fastcifar
from fastcifar.commands import main
from fastcifar.data.dataset import MEAN, STD, Dataset
from fastcifar.data.folder import load_folder
from fastcifar.data.plan import draw_plan
from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.recipe import Augmentation, Recipe, Resnet, Schedule, Selection
from fastcifar.report import class_figures, figures, run_page
from fastcifar.report.drawing import WIDTH
from fastcifar.report.run_figures import IMAGES, PLANS, answers, transformed, transforms
from fastcifar.report.run_page import write_report
from fastcifar.report.text import certainty, percent
from fastcifar.runs import predictions
from fastcifar.runs.saved import open_run, read_log
from fastcifar.training.log import EpochLog

PICTURES = (
    "loss",
    "accuracy",
    "learning-rate",
    "throughput",
    "time",
    "confusion",
    "classes",
    "calibration",
    "mistakes",
    "transforms",
)
TABLES = ("log", "by-class", "bins", "wrong", "plans", "network")
VALUES = ("recipe-values", "seconds", "execution-values", "environment-values")
PLACEHOLDERS = "$policy {{ policy }} {% if %}"
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', PLACEHOLDERS, "</title><b>")
DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def page_file(run: Path, small: Dataset) -> Path:
    return write_report(run, dataset=small)


@pytest.fixture(scope="module")
def hostile_file(run: Path, small: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the same run, with markup wherever run.json has text of its own."""
    copied = tmp_path_factory.mktemp("hostile") / "run"
    shutil.copytree(run, copied, ignore=shutil.ignore_patterns("report"))
    said = json.loads((copied / "run.json").read_text())
    said["recipe_name"], said["started"] = HOSTILE[0], HOSTILE[1]
    said["environment"] = {text: text for text in HOSTILE} | {"cpu": HOSTILE[1]}
    said["execution"]["loader"] = HOSTILE[2]
    (copied / "run.json").write_text(json.dumps(said))
    return write_report(copied, copied.parent / "page", dataset=small)


def svgs(text: str) -> dict[str, ElementTree.Element]:
    """The figures of a page by the names of their files, in its order."""
    found = re.findall(r'<div class="card">(<svg.*?</svg>)</div>', text, re.DOTALL)
    return dict(zip(PICTURES, map(ElementTree.fromstring, found), strict=True))


def test_every_picture_is_a_file_and_in_the_page(page_file: Path) -> None:
    assert page_file.name == "index.html"
    assert {path.name for path in page_file.parent.iterdir()} == {"index.html", *(f"{name}.png" for name in PICTURES)}
    for name, svg in svgs(page_file.read_text()).items():
        file = Image.open(page_file.parent / f"{name}.png")
        file.load()
        assert file.format == "PNG"
        assert file.width == WIDTH * 300
        assert file.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert svg.get("role") == "img"
        assert len(svg.get("aria-label", "")) > 40
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        assert file.width / file.height == pytest.approx(width / height, rel=0.01)
        images = [image.attrib["href"] for image in svg.iter("image")]
        assert len(images) == {"mistakes": 25, "transforms": IMAGES * (1 + 2)}.get(name, 0)
        for image in images:
            kind, _, data = image.partition(",")
            assert kind == "data:image/png;base64"
            Image.open(io.BytesIO(base64.b64decode(data))).load()


def test_the_colours_of_the_figures_are_the_pages(page_file: Path) -> None:
    text = page_file.read_text()
    properties = set(re.findall(r"(--[a-z0-9-]+):", text))
    for name, svg in svgs(text).items():
        painted = {one.get(of) for one in svg.iter() for of in ("fill", "stroke")} - {None, "none"}
        assert {"var(--text)"} < painted or name in ("mistakes", "transforms")
        for colour in painted:
            assert str(colour).startswith("url(#") or str(colour)[4:-1] in properties
        named = [one.get("id") for one in svg.iter() if one.get("id")]
        used = [one.attrib["href"] for one in svg.iter("use")]
        used += [
            str(one.get(of))[4:-1] for one in svg.iter() for of in ("clip-path", "fill") if "url(" in one.get(of, "")
        ]
        assert {f"#{one}" for one in named} >= set(used)
        assert all(str(one).startswith(f"{name}-") for one in named)


def test_the_same_run_gives_the_same_bytes(page_file: Path, run: Path, small: Dataset, tmp_path: Path) -> None:
    again = write_report(run, tmp_path / "again", dataset=small)
    for file in page_file.parent.iterdir():
        assert (again.parent / file.name).read_bytes() == file.read_bytes()


def test_every_part_is_there(page_file: Path, run: Path) -> None:
    text = page_file.read_text()
    for part in ("training", "classes", "calibration", "mistakes", "transforms", "layers", "setting"):
        assert f'<section id="{part}"' in text
        assert f'href="#{part}"' in text
    for name in (*TABLES, *VALUES):
        assert re.search(rf'<table id="{name}"><caption id="{name}-caption">[^<]+</caption>', text)
    assert "tiny, seed 0" in text
    assert len(rows(text, "by-class")) == 10 + 1
    assert len(rows(text, "wrong")) == 25
    assert [row[1] for row in rows(text, "plans")] == ["1", "2"] * IMAGES  # no epoch that never was
    assert len(rows(text, "log")) == 2
    said = json.loads((run / "run.json").read_text())
    assert percent(said["result"]["final_accuracy"]) in text
    assert "a processor" in text
    assert dict(rows(text, "recipe-values"))["schedule.max_lr"] == "0.01"
    assert dict(rows(text, "environment-values"))["gpu"] == "none"
    assert "1706.04599" in text
    assert len(set(re.findall(r' id="([^"]+)"', text))) == len(re.findall(r' id="([^"]+)"', text))


def rows(text: str, name: str) -> list[tuple[str, ...]]:
    """The cells of each row of a table, without those of its head."""
    body = re.search(rf'<table id="{name}">.*?<tbody>(.*?)</table>', text, re.DOTALL)
    assert body is not None
    return [
        tuple(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row))
        for row in re.findall(r"<tr>(.*?)</tr>", body[1], re.DOTALL)
    ]


def test_the_figures_by_class_are_those_of_the_log(page_file: Path, run: Path, small: Dataset) -> None:
    text = page_file.read_text()
    accuracy = read_log(open_run(run))[-1].test_accuracy
    assert rows(text, "by-class")[-1][1:3] == ("200", percent(accuracy, 1))
    assert "Tested again" not in text
    right = [float(share[:-2]) * int(images) / 100 for _, images, share, *_ in rows(text, "by-class")[:-1]]
    assert sum(right) == pytest.approx(200 * accuracy, abs=0.1)
    for index, true, predicted, _ in rows(text, "wrong"):
        assert true == small.classes[small.test_labels[int(index)]]
        assert predicted != true
    assert sum(int(images) for _, images, *_ in rows(text, "bins")) == 200


def test_the_layers_add_up(page_file: Path, run: Path) -> None:
    found = rows(page_file.read_text(), "network")
    count = sum(parameter.numel() for parameter in open_run(run).model.parameters())
    number = [[int(cell.replace(",", "") or 0) for cell in row[3:]] for row in found]
    assert number[-1] == [sum(column) for column in zip(*number[:-1], strict=True)]
    assert number[-1][0] == count
    assert found[0] == ("prep.conv", "Conv2d 3 × 3", "4 × 32 × 32", "112", f"{112 * 1024:,}")
    assert found[-2] == ("head", "Linear", "10", "330", "330")


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(), Augmentation(pad=4, pad_mode="reflect", flip="alternating", cutout=0), Augmentation(0, cutout=0)],
)
def test_the_transforms_are_those_of_training(small: Dataset, augmentation: Augmentation) -> None:
    recipe = Recipe(seed=3, augmentation=augmentation)
    seen = transformed(recipe, small, 24)
    first = draw_plan(300, augmentation, seed=3, epoch=0).indices[:IMAGES]
    assert seen.images_nhwc.shape == (IMAGES, 1 + PLANS, 32, 32, 3)
    assert (seen.images_nhwc[:, 0] == small.train_images[first]).all()
    assert seen.names == [small.classes[label] for label in small.train_labels[first]]
    for epoch in range(PLANS):
        plan = draw_plan(300, augmentation, seed=3, epoch=epoch)
        for k, index in enumerate(first):
            place = int(np.flatnonzero(plan.indices == index)[0])
            (image,) = numpy_images(small.train_images, plan[place : place + 1], augmentation)
            pixels = image.transpose(1, 2, 0) * STD + MEAN
            assert np.abs(pixels - seen.images_nhwc[k, 1 + epoch]).max() <= 0.51


def caption(recipe: Recipe, dataset: Dataset, epochs: int) -> str:
    return transforms(recipe, transformed(recipe, dataset, epochs)).caption


def test_the_transforms_are_of_no_epoch_that_never_was(page_file: Path, small: Dataset) -> None:
    """Be it that the recipe has fewer, or that the run stopped early."""
    assert transformed(Recipe(), small, 2).images_nhwc.shape == (IMAGES, 1 + 2, 32, 32, 3)
    text = page_file.read_text()
    drawn = svgs(text)["transforms"]
    said = {one.text for one in drawn.iter("text")}
    assert {"epoch 1", "epoch 2"} <= said
    assert "epoch 3" not in said
    assert "what the plans of 2 epochs make of it" in drawn.attrib["aria-label"]


def test_what_the_transforms_do_not_show_is_said(small: Dataset) -> None:
    plain = caption(Recipe(), small, 6)
    assert plain == "The first 3 images of the run as they are, and as the plans of its epochs transform them."
    assert caption(Recipe(image_sizes=(32,), batch_size=100, drop_last=True), small, 6) == plain
    assert caption(Recipe(image_sizes=(16, 24, 32)), small, 4).removeprefix(plain) == (
        " In the run they were then resized to the epoch's size: 16, 24, 32, 32 pixels a side."
    )
    own = replace(Recipe(), augmentation=Augmentation(own="mine.py:blur"))
    assert caption(own, small, 6).removeprefix(plain) == " What mine.py:blur then made of them is not shown."
    left_out = " In later epochs the run left some images out, which may be among these."
    selective = Recipe(batch_size=50, selection=Selection(leave_out=0.5, after_epoch=5))
    for recipe in (selective, Recipe(batch_size=128, drop_last=True)):
        assert caption(recipe, small, 6).removeprefix(plain) == left_out
    assert caption(selective, small, 5) == plain


def again(page: Path) -> list[str]:
    """The words of the command that trains the same again, none where the page has none."""
    found = re.search(r"The same again, .*?<code>(.*?)</code>", page.read_text())
    return shlex.split(html.unescape(found[1])) if found else []


def trained(run: Path, dataset: Dataset) -> Path:
    """A run of one epoch on a handful of images."""
    recipe = Recipe(epochs=1, batch_size=2, model=Resnet(width=2), schedule=Schedule(peak_epoch=1))
    fastcifar.train(recipe, dataset=dataset, execution=Execution("cpu", "fused", "float32", "off"), out=run)
    return run


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, small: Dataset) -> Path:
    """A folder of images of two classes, four to train on and two to test on."""
    folder = tmp_path_factory.mktemp("folders") / "photos"
    for number in range(6):
        place = folder / ("train" if number < 4 else "test") / ("cat", "dog")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small.train_images[number]).save(place / f"{number}.png")
    return folder


def test_the_same_again_is_a_command_that_does_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder of images too, wherever that is then."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = load_folder(photos)
    run = trained(tmp_path / "run", dataset)
    words = again(write_report(run, tmp_path / "page", dataset=dataset))
    assert words[-2:] == ["--data", "DIR"]
    monkeypatch.chdir(run)
    assert main([*words[1:-1], str(photos), "--out", str(tmp_path / "again"), "--no-report"]) == 0
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == load_file("model.safetensors").keys()
    for name, weights in load_file("model.safetensors").items():
        assert weights.equal(load_file(tmp_path / "again" / "model.safetensors")[name])


def test_the_same_again_has_the_flags_that_change_it(
    page_file: Path, run: Path, small: Dataset, tmp_path: Path
) -> None:
    assert "--data" not in again(page_file)  # which ships
    assert "--sync-batchnorm" not in again(page_file)
    copied = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    said = json.loads((copied / "run.json").read_text())
    said["execution"]["sync_batchnorm"] = True
    (copied / "run.json").write_text(json.dumps(said))
    assert again(write_report(copied, dataset=small)) == [*again(page_file), "--sync-batchnorm"]


def test_nothing_is_said_of_again_where_no_command_does_it(small: Dataset, tmp_path: Path) -> None:
    """Of arrays in memory, which are nowhere else."""
    images, labels = small.train_images[:4], np.array([0, 1, 0, 1])
    arrays = Dataset.from_arrays(images, labels, images, labels)
    page = write_report(trained(tmp_path / "run", arrays), dataset=arrays)
    assert again(page) == []
    assert "The same again" not in page.read_text()


def test_a_page_of_many_classes_is_without_the_matrix_and_folds_the_table(
    run: Path, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_figures, "MOST", 9)
    monkeypatch.setattr(run_page, "FEW", 9)
    page = write_report(run, tmp_path / "page", dataset=small)
    assert not (page.parent / "confusion.png").exists()
    text = page.read_text()
    assert "onfusion matrix" not in text
    assert re.search(r"<details><summary>Every class in numbers</summary>\s*<div[^>]*>\s*<table id=\"by-class\"", text)
    assert len(rows(text, "by-class")) == 10 + 1


def test_one_file_that_loads_nothing(page_file: Path) -> None:
    text = page_file.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy[1]
    assert "script-src" not in policy[1]
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'" in policy[1]
    assert "<script" not in text
    assert " style=" not in text
    assert re.findall(r'(?:src|href)="(?!data:|#)', text) == []
    assert str(page_file.parent.parent) not in text


def test_text_from_a_run_is_no_markup(hostile_file: Path) -> None:
    text = hostile_file.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, seed 0" in text
    assert PLACEHOLDERS in text
    assert "<script" not in text
    assert "<img src=x" not in text
    assert text.count("<title>") == text.count("</title>") == 1
    assert "<b>" not in text


def test_a_mistake_short_of_certainty_is_not_called_certain() -> None:
    assert [certainty(p) for p in (1.0, 0.99996, 0.9999, 0.5)] == [
        "> 99.99 %",
        "> 99.99 %",
        "99.99 %",
        "50.00 %",
    ]


def test_few_epochs_few_mistakes_and_empty_bins_can_be_drawn(small: Dataset) -> None:
    log = [EpochLog(1, 2.0, 0.5, 1.5, 0.4, 1.4, 0.5, 0.01, 150.0)]
    names = tuple(f"class {k}" for k in range(10))
    calibration = predictions.calibrate(np.eye(10, dtype=np.float32)[:2], np.array([0, 1]))
    none = predictions.Tested(
        "float32", names, np.diag([3, 0, 2, *[0] * 7]), calibration, np.zeros(0, np.int64), (), (), ()
    )
    seven = replace(none, wrong=np.arange(7), true=names[:7], predicted=names[1:8], confidence=(0.9,) * 7)
    for picture in (
        figures.loss(Recipe(), log),
        figures.accuracy(Recipe(), [replace(log[0], epoch=k) for k in range(1, 60)]),
        *answers(none, small).values(),
        *answers(seven, small).values(),
    ):
        Image.open(io.BytesIO(picture.png())).load()
        ElementTree.fromstring(picture.svg())


def test_what_has_no_report_is_one_line(run: Path, small: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run\.json: dataset: .*, 300 training and .*; here is another: .*, 299 "):
        write_report(run, tmp_path / "out", dataset=small.limited(299, 200))
    with pytest.raises(InputError, match="no such folder"):
        write_report(tmp_path / "nowhere", dataset=small)
    with pytest.raises(InputError, match=r"there is no folder .*not$"):
        write_report(run, tmp_path / "not" / "there", dataset=small)
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report"))
    events = tmp_path / "run" / "events.jsonl"
    for broken, said in (
        ('{"epoch": 1}\n', "line 1 is not an epoch"),
        ("[]", "line 1 is not an epoch"),
        ("", "no epoch in it"),
        (events.read_text().replace('"epoch": 2', '"epoch": NaN'), "line 2 is not an epoch"),
    ):
        events.write_text(broken)
        with pytest.raises(InputError, match=said):
            write_report(tmp_path / "run", dataset=small)
    assert not (tmp_path / "out").exists()


def test_a_run_that_kept_no_steps_is_drawn_by_epoch(page_file: Path, run: Path, small: Dataset, tmp_path: Path) -> None:
    assert "Learning rate, step by step." in page_file.read_text()
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report", "steps.csv"))
    page = write_report(tmp_path / "run", dataset=small).read_text()
    assert "Learning rate of the last step of each epoch." in page
    assert "of each step" not in page


def test_every_picture_is_as_the_scheme_asks(page_file: Path, visit: Callable[..., Any]) -> None:
    page = visit(page_file)
    seen = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        painted = page.evaluate(
            """() => [...document.querySelectorAll(".card svg")].map((svg) => {
                const of = (selector, property) => {
                    const found = svg.querySelector(selector);
                    return found && getComputedStyle(found)[property];
                };
                return [getComputedStyle(svg.parentElement).backgroundColor, of("text", "fill"),
                    of("[stroke='var(--c0)'],[fill='var(--c0)']", "stroke"), of("[fill='var(--c0)']", "fill")];
            })"""
        )
        assert len(painted) == len(PICTURES)
        assert all(text != ground and text.startswith("rgb") for ground, text, *_ in painted)
        seen.append(painted)
    for light, dark in zip(*seen, strict=True):
        assert light[0] != dark[0]
        assert light[1] != dark[1]
    assert seen[0][0][2] == "rgb(0, 105, 180)"
    assert seen[1][0][2] == "rgb(95, 178, 242)"


def test_hostile_text_is_shown_as_text(hostile_file: Path, visit: Callable[..., Any]) -> None:
    page = visit(hostile_file)
    assert page.locator("h1").inner_text() == f"{HOSTILE[0]}, seed 0"
    assert page.locator("img").count() == 0
    for text in HOSTILE:
        assert page.locator("#environment-values").get_by_text(text, exact=True).count() == 2 or text == HOSTILE[1]


def unfold(page: Any) -> None:
    for one in page.locator("summary").all():
        one.click()


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_in_light_and_dark(
    page_file: Path, visit: Callable[..., Any], accessible: Callable[[Any], None], viewport: dict[str, int]
) -> None:
    page = visit(page_file, viewport=viewport, color_scheme="light", reduced_motion="reduce")
    unfold(page)
    accessible(page)


def test_a_phone_does_not_scroll_sideways(page_file: Path, hostile_file: Path, visit: Callable[..., Any]) -> None:
    for file in (page_file, hostile_file):
        page = visit(file, viewport=PHONE)
        unfold(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.locator(".card svg").first.bounding_box()["width"] > 280


def test_on_paper_the_log_is_shown_and_the_sums_once(page_file: Path, visit: Callable[..., Any]) -> None:
    page = visit(page_file)
    log = "document.querySelector('details table').checkVisibility()"
    assert not page.evaluate(log)
    page.emulate_media(media="print")
    page.wait_for_function(log)
    assert page.evaluate("getComputedStyle(document.querySelector('tfoot')).display") == "table-row-group"
