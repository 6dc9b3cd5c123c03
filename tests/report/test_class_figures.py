"""The pictures by class: readable whatever the number of classes."""

import io
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from fastcifar.data.dataset import Dataset
from fastcifar.report import charts, class_figures
from fastcifar.report.class_figures import FEW, MOST, class_bars, confusion_matrix
from fastcifar.report.compare_page import _cut
from fastcifar.report.drawing import ROWS, Picture
from fastcifar.report.run_figures import answers
from fastcifar.report.tensorboard import TensorBoard
from fastcifar.report.text import brief
from fastcifar.runs import predictions


def made(classes: int, names: Sequence[str] | None = None) -> predictions.Tested:
    """A test of 100 images a class, of which 10 are taken for the next class, of the first 20."""
    images, wrong = 100, np.full(classes, 10)
    wrong[0] *= 2
    confusion = np.diag(images - wrong) + np.roll(np.diag(wrong), 1, axis=1)
    return predictions.Tested(
        "float32",
        tuple(names or (f"a class {k:04}" for k in range(classes))),
        confusion,
        predictions.calibrate(np.eye(2, dtype=np.float32), np.array([0, 1])),
        np.zeros(0, np.int64),
        (),
        (),
        (),
    )


def svg(picture: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(picture.svg())


def texts(picture: Picture) -> list[str]:
    return [one.text or "" for one in svg(picture).iter("text")]


def apart(labels: Sequence[Text], side: str) -> None:
    """Holds the labels of an axis, one after the other, not to overlap along it."""
    places = sorted(
        (getattr(box, f"{side}0"), getattr(box, f"{side}1")) for box in (o.get_window_extent() for o in labels)
    )
    assert all(end <= start for (_, end), (start, _) in pairwise(places))


@pytest.mark.parametrize("classes", [16, 20, FEW, FEW + 1, 100, MOST])
@pytest.mark.parametrize("long", [False, True])
def test_no_names_beside_a_matrix_overlap(classes: int, long: bool) -> None:
    names = [f"a class of a name that is rather long, {k}" for k in range(classes)] if long else None
    figure = confusion_matrix(made(classes, names=names)).figure
    figure.draw_without_rendering()
    (axis,) = figure.axes
    apart(axis.get_xticklabels(), "x")
    apart(axis.get_yticklabels(), "y")
    assert len(axis.get_yticklabels()) >= 15
    assert axis.get_window_extent().width > 0.4 * figure.bbox.width


def test_a_matrix_of_many_classes_is_an_image_without_numbers() -> None:
    few, many = confusion_matrix(made(20)), confusion_matrix(made(100))
    assert {"80", "90"} <= set(texts(few))
    assert len(list(svg(few).iter("image"))) == 0
    assert not {"80", "90"} & set(texts(many))
    assert len(list(svg(many).iter("image"))) == 1
    assert len(list(svg(many).iter("path"))) < 20
    assert many.caption.endswith(" One class in 4 is named.")
    assert "named" not in few.caption


def test_the_image_has_the_cells_where_they_belong() -> None:
    """The true class in the row, counted from the top."""
    found = made(40)
    (axis,) = confusion_matrix(found).figure.axes
    (image,) = axis.images
    shades = np.asarray(image.get_array())[..., 3] / 255
    assert np.allclose(shades, np.sqrt(found.confusion / 100), atol=0.003)
    assert tuple(image.get_extent()) == (-0.5, 39.5, 39.5, -0.5)
    assert axis.get_ylim() == (39.5, -0.5)


def test_of_too_many_classes_there_is_no_matrix(
    small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(answers(made(MOST + 1), small)) == {"classes", "calibration", "mistakes"}
    board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setattr(class_figures, "MOST", 9)
    TensorBoard(tmp_path / "board").pictures(made(10), small)
    assert board.EventAccumulator(str(tmp_path / "board")).Reload().Tags()["images"] == ["test/mistakes"]


def test_bars_have_room() -> None:
    heights = {}
    for classes in (10, 50, ROWS):
        figure = class_bars(made(classes)).figure
        figure.draw_without_rendering()
        (axis,) = figure.axes
        apart(axis.get_yticklabels(), "y")
        heights[classes] = figure.get_figheight()
    assert heights[10] == 3.45
    assert heights[10] < heights[50] < heights[ROWS]


@pytest.mark.parametrize("classes", [ROWS + 1, 1000])
def test_of_many_classes_the_best_and_the_worst_have_bars(classes: int) -> None:
    found, right = made(classes), np.arange(classes)
    confusion = np.diag(right) + np.roll(np.diag(classes - right), 1, axis=1)  # the better the later a class comes
    drawn = class_bars(replace(found, confusion=confusion))
    assert Image.open(io.BytesIO(drawn.png())).height < 6000
    (axis,) = drawn.figure.axes
    half = ROWS // 2
    shown = [one.get_text() for one in axis.get_yticklabels()]
    assert len(shown) == ROWS
    assert shown[-half:] == list(found.classes[-half:])
    assert drawn.caption.endswith(f"; the {half} best and the {half} worst of {classes:,} classes.")


def test_two_classes_of_one_name_are_two() -> None:
    """Such as two that differ only past what a picture has room for."""
    names = [f"{'x' * 30} {k}" for k in range(3)]
    assert brief(names[0]) == brief(names[1]) == f"{'x' * 19}…"
    assert brief("x" * 20) == "x" * 20
    assert texts(class_bars(made(3, names=names))).count(brief(names[0])) == 3
    figure = charts.by_class(["a run"], names, [[0.1, 0.2, 0.3]])
    assert [one.get_text() for one in figure.axes[0].get_yticklabels()] == [brief(names[0])] * 3
    assert list(figure.axes[0].lines[0].get_ydata()) == [0, 1, 2]


def test_a_long_value_is_cut_in_what_differs() -> None:
    names = str([f"class {k}" for k in range(1000)])
    assert _cut("cat, dog") == "cat, dog"
    assert len(_cut(names)) < 330
    assert _cut(names).endswith(f"({len(names):,} characters)")
