"""`python -m benchmarks search`: a study that goes on, what it tries, and the table of it."""

from pathlib import Path

import numpy as np
import optuna
import pytest
from PIL import Image

from benchmarks.__main__ import run
from benchmarks.question import read_question, varied
from benchmarks.searching import worth
from fastcifar.errors import InputError
from fastcifar.recipe import Recipe, Speednet

TOY = """
recipe = "laptop"
validation = 100
seeds = [1000]
trials = 2
sampler = "grid"
[set]
dataset = "FOLDER"
epochs = 1
batch_size = 100
model.width = 4
[fields]
label_smoothing = [0.0, 0.2]
"""


NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = torch.nn.Linear(3, classes)
    def forward(self, images):
        return self.head(images.mean(dim=(2, 3)))
"""


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`TOY` about 300 images of a folder: to hold some of them out, all the 50,000 synthetic ones would be made."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 150), ("test", 1)):
        for label, middle in (("bright", 160), ("dark", 96)):
            (folder / split / label).mkdir(parents=True)
            for number, pixels in enumerate(rng.normal(middle, 60, (count, 32, 32, 3)).clip(0, 255).astype(np.uint8)):
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return TOY.replace("FOLDER", str(folder))


@pytest.fixture
def toy(question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # where the images are kept
    file = tmp_path / "toy.toml"
    file.write_text(question)
    return file


def test_a_study_is_asked_and_goes_on(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", str(toy), "--trials", "1"]) == 0
    assert "| label_smoothing | accuracy (by seed), % | petaFLOPs | train_seconds | worth |" in capsys.readouterr().out
    assert run(["search", str(toy)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 0.")]
    assert sorted(row.split(" | ")[0] for row in rows) == ["| 0.0", "| 0.2"]
    assert any("**" in row for row in rows)
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{toy.with_suffix('.db')}")
    assert [trial.number for trial in study.trials] == [0, 1]
    (accuracy,) = study.trials[0].user_attrs["accuracies"]
    assert accuracy in {number / 100 for number in range(101)}  # of the 100 images held out
    assert study.trials[0].value == pytest.approx(100 * accuracy)


def test_a_study_is_of_one_question(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its recipe too, and the code that this names, which lies beside the question."""
    net = toy.with_name("net.py")
    net.write_text(NET)
    toy.write_text(toy.read_text().replace("model.width = 4", 'model.name = "net.py:Net"\nimage_sizes = []'))
    assert run(["search", str(toy), "--trials", "1"]) == 0
    assert "net.py" not in capsys.readouterr().out.splitlines()[-1]
    net.write_text(f"{NET}# another\n")
    assert run(["search", str(toy)]) == 2
    assert "toy: its study has trials of another recipe; --study FILE.db begins one" in capsys.readouterr().err
    net.write_text(NET)
    toy.write_text(toy.read_text().replace("[0.0, 0.2]", "[0.0, 0.3]"))
    assert run(["search", str(toy)]) == 2
    assert "of another fields" in capsys.readouterr().err
    net.unlink()
    assert run(["search", str(toy)]) == 2
    assert "net.py: cannot be read" in capsys.readouterr().err


def test_trials_at_once_are_those_in_turn(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    question = toy.read_text().replace("seeds = [1000]", "seeds = [1000, 1001]")
    toy.write_text(question.replace("[0.0, 0.2]", "[0.0, 0.2, 0.4]"))

    def found(*flags: str) -> dict[str, list[float]]:
        study = toy.with_name(f"study{len(flags)}.db")
        assert run(["search", str(toy), "--trials", "3", "--study", str(study), *flags]) == 0
        trials = optuna.load_study(study_name="toy", storage=f"sqlite:///{study}").trials
        return {trial.params["label_smoothing"]: trial.user_attrs["accuracies"] for trial in trials}

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_ADDRESS", "local")  # and not another test's cluster
        at_once = found("--parallel", "--workers", "2", "--allow-shared")
    assert "2 trials at once" in capsys.readouterr().out
    assert at_once == found()
    assert sorted(at_once) == ["0.0", "0.2", "0.4"]


@pytest.mark.parametrize("flags", [["--workers", "2"], ["--allow-shared"]])
def test_flags_of_trials_at_once(toy: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", str(toy), *flags]) == 2
    assert f"{flags[0]}: of trials that are made at once, which --parallel asks for" in capsys.readouterr().err


def test_the_search_sees_no_test_image(toy: Path) -> None:
    _, recipe = read_question(toy)
    assert (recipe.validation, Path(recipe.dataset).name, recipe.epochs) == (100, "images0", 1)


def test_fields_by_dotted_names() -> None:
    found = varied(Recipe(), {"model.name": "speednet", "model.widths": [8, 16], "epochs": 3})
    assert isinstance(found.model, Speednet)
    assert (found.model.widths, found.epochs) == ((8, 16), 3)


def test_twice_the_work_has_to_bring_its_points() -> None:
    assert worth([0.9], 1.0, 2.0) == pytest.approx(90)
    assert worth([0.92], 2.0, 2.0) == pytest.approx(90)
    assert worth([0.9, 0.92], 2.0, 0.0) == pytest.approx(91)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("label_smoothing = [", '"model.depth" = ['), "toy.toml: fields.model.depth: no such field in a recipe"),
        (("epochs = 1", "epochs = 0"), "toy.toml: set.epochs: input should be greater"),
        (("[0.0, 0.2]", "{ low = 0.0, high = 0.2 }"), "sampler: a grid is of choices"),
        (("trials = 2", 'trials = "2"'), "toy.toml: trials: input should be a valid integer"),
        (('recipe = "laptop"', 'recipe = "laptob"'), "perhaps you meant laptop"),
        (("[set]", "[set"), "toy.toml: not a TOML file"),
        (("seeds = [1000]", "seeds = []"), "toy.toml: seeds: list should have at least 1 item"),
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(toy: Path, change: tuple[str, str], complaint: str) -> None:
    toy.write_text(toy.read_text().replace(*change))
    with pytest.raises(InputError, match=complaint) as error:
        read_question(toy)
    assert "\n" not in str(error.value)
    assert not toy.with_suffix(".db").exists()
