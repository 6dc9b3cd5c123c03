"""steps.csv, read back: where each step ended, its rate and its loss, or one line where they cannot be."""

from pathlib import Path

import pytest

from fastcifar.errors import InputError
from fastcifar.runs.steps import read_steps, steps_of_epochs

FIRST = "epoch,step,learning_rate,loss\n"
ROWS = ["1,1,0.1,2.3\n", "1,2,0.2,2.1\n", "2,1,0.1,2\n", "2,2,0.05,1.9\n", "2,3,0,1.8\n"]


def written(run: Path, *rows: str, first: str = FIRST) -> Path:
    (run / "steps.csv").write_text(first + "".join(rows))
    return run


def test_they_are_placed_in_their_epochs(tmp_path: Path) -> None:
    found = read_steps(written(tmp_path, *ROWS), 2)
    assert found is not None
    assert found.ends.tolist() == pytest.approx([0.5, 1, 1 + 1 / 3, 1 + 2 / 3, 2])
    assert found.learning_rates.tolist() == [0.1, 0.2, 0.1, 0.05, 0]
    assert found.losses.tolist() == [2.3, 2.1, 2, 1.9, 1.8]


def test_a_run_of_before_kept_none(tmp_path: Path) -> None:
    assert read_steps(tmp_path, 2) is None
    assert steps_of_epochs(tmp_path, 2) == FIRST.encode()
    assert read_steps(written(tmp_path), 2) is None  # it went on when only its end was left


def test_one_that_went_on_from_before_has_its_later_epochs(tmp_path: Path) -> None:
    found = read_steps(written(tmp_path, *ROWS[2:]), 2)
    assert found is not None
    assert found.ends.tolist() == pytest.approx([1 + 1 / 3, 1 + 2 / 3, 2])


def test_what_goes_on_keeps_whole_epochs_alone(tmp_path: Path) -> None:
    run = written(tmp_path, *ROWS, "3,1,0.1,1", "\0\n", "12,1,0.1,1\n")
    assert steps_of_epochs(run, 1).decode() == FIRST + "".join(ROWS[:2])
    assert steps_of_epochs(run, 0).decode() == FIRST


@pytest.mark.parametrize(
    "text",
    [
        "",
        FIRST + "\n",
        FIRST + "# \n",
        FIRST + "1,1\n",
        "".join(ROWS),
        FIRST + "".join(ROWS[:2]),  # an epoch is missing
        FIRST + "".join([*ROWS, "3,1,0.1,1\n"]),
        FIRST + "".join(ROWS[1:]),
        FIRST + "".join([ROWS[0], *ROWS[2:4], ROWS[1], ROWS[4]]),
        FIRST + "".join([*ROWS[:3], ROWS[4]]),
        FIRST + "".join(["0,1,0.1,1\n", *ROWS]),
        FIRST + "".join([*ROWS[:4], "2,3,-0.1,1\n"]),
        FIRST + "".join([*ROWS[:4], "2,3,0.1,nan\n"]),
        FIRST + "".join([*ROWS[:4], "2,3,0.1,1e999\n"]),
        FIRST + "".join([*ROWS[:4], "2,3,0.1,1,1\n"]),
        FIRST + "".join([*ROWS[:4], "2,3,0.1,good\n"]),
        FIRST + "1.5,1,0.1,1\n",
        FIRST + "1" * 5000 + ",1,0.1,1\n",
    ],
)
@pytest.mark.filterwarnings("error")
def test_steps_that_cannot_be(tmp_path: Path, text: str) -> None:
    (tmp_path / "steps.csv").write_text(text)
    with pytest.raises(InputError, match=r"steps.csv: not the steps of this run as a run writes them"):
        read_steps(tmp_path, 2)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_bytes(FIRST.encode() + b"\xff\xfe,1\n")
    with pytest.raises(InputError, match="not the steps"):
        read_steps(tmp_path, 2)
