"""Predictions and what follows from them, on cases worked out by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fastcifar.runs.predictions import (
    accuracy_by_class,
    calibrate,
    confident_mistakes,
    confusion_matrix,
    p_of_equals,
    precision_by_class,
    wilson,
)


def saying(*answers: tuple[int, float]) -> NDArray[np.float32]:
    """Probabilities (n, 10): each answer's class has its probability, the other classes share the rest."""
    rows = [[p if k == answer else (1 - p) / 9 for k in range(10)] for answer, p in answers]
    return np.array(rows, np.float32)


def test_confusion_matrix_has_the_true_class_in_rows() -> None:
    confusion = confusion_matrix(saying((0, 0.9), (0, 0.9), (1, 0.9), (9, 0.9)), np.array([0, 1, 1, 9]))
    assert confusion.shape == (10, 10)
    assert confusion.sum() == 4
    assert (confusion[0, 0], confusion[1, 0], confusion[1, 1], confusion[9, 9]) == (1, 1, 1, 1)
    accuracy, precision = accuracy_by_class(confusion), precision_by_class(confusion)
    assert (accuracy[0], accuracy[1], accuracy[9]) == (1, 0.5, 1)
    assert (precision[0], precision[1], precision[9]) == (0.5, 1, 1)
    assert np.isnan(accuracy[2:9]).all()  # no image is of these classes
    assert np.isnan(precision[2:9]).all()


def test_confident_mistakes_come_most_confident_first() -> None:
    probabilities = saying((1, 0.6), (0, 0.99), (2, 0.8), (3, 0.8), (4, 0.7))
    labels = np.array([0, 0, 0, 0, 0])
    assert confident_mistakes(probabilities, labels).tolist() == [2, 3, 4, 0]
    assert confident_mistakes(probabilities, labels, count=2).tolist() == [2, 3]
    assert confident_mistakes(probabilities, probabilities.argmax(axis=1)).tolist() == []


def test_calibration_by_hand() -> None:
    """Two answers at 0.75, of which one is right, and two at 1.0, both right: 2/4 * |0.5 - 0.75| + 2/4 * 0."""
    found = calibrate(saying((0, 0.75), (1, 0.75), (2, 1.0), (3, 1.0)), np.array([0, 0, 2, 3]), bins=4)
    assert found.count.tolist() == [0, 0, 2, 2]  # 0.75 closes its bin
    assert found.accuracy[2:].tolist() == [0.5, 1.0]
    assert found.confidence[2:].tolist() == [0.75, 1.0]
    assert np.isnan(found.accuracy[:2]).all()
    assert found.error == pytest.approx(0.125)


def test_a_bin_hides_what_cancels_in_it() -> None:
    """The error is of bins, not of images: over and under confidence in one bin meet."""
    probabilities, labels = saying((0, 0.5), (1, 0.5)), np.array([0, 0])
    assert calibrate(probabilities, labels).error == pytest.approx(0)
    assert calibrate(probabilities, labels).count.sum() == 2


def test_perfect_and_worst_calibration() -> None:
    sure = saying((0, 1.0), (1, 1.0))
    assert calibrate(sure, np.array([0, 1])).error == 0
    assert calibrate(sure, np.array([1, 0])).error == 1
    assert calibrate(sure, np.array([1, 0])).count.tolist() == [0] * 14 + [2]


def test_wilson_interval() -> None:
    """Against the figures of Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    low, high = wilson(np.array([81, 15, 0, 1, 0]), np.array([263, 148, 20, 29, 0]))
    assert low[:4] == pytest.approx([0.2553, 0.0624, 0.0, 0.0061], abs=5e-5)
    assert high[:4] == pytest.approx([0.3662, 0.1605, 0.1611, 0.1718], abs=5e-5)
    assert np.isnan([low[4], high[4]]).all()


def test_p_of_equals() -> None:
    """Of two: 1 of 10 images split one way, by hand 2 * (1 + 10) / 2**10. Of three: Cochran's Q of a table by hand."""
    two = np.array([[True] * 9 + [False, True, False], [False] * 9 + [True, True, False]])
    assert p_of_equals(two) == pytest.approx(22 / 1024)
    assert p_of_equals(two[:, 10:]) == 1  # both right, or both wrong: nothing tells them apart
    three = np.array([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]], np.bool_)
    # Four images split them: right of them 4, 1 and 1; of the images 2, 1, 1, 2. Q = 3 * 2 * 6 / (2 + 2 + 2 + 2).
    assert p_of_equals(three) == pytest.approx(np.exp(-36 / 8 / 2))  # chi-squared with two degrees of freedom
