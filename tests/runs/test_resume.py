"""A run directory is gone on with: from Python, under other circumstances, and refused where it is another run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from finished import CPU, RECIPE, dataset, finished_run

import fastcifar
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError
from fastcifar.execution import Execution, possible
from fastcifar.own import sealed
from fastcifar.recipe import OwnModel, Recipe
from fastcifar.runs.directory import RunDirectory
from fastcifar.runs.observer import RunObserver, Start
from fastcifar.runs.paused import read_paused
from fastcifar.training.log import Observer

OFTEN = replace(CPU, checkpoint_seconds=1e-9)
NET = """
import torch
class Net(torch.nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, width, 3), torch.nn.Linear(width, classes)
    def forward(self, images):
        return self.head(self.conv(images).amax(dim=(2, 3)))
"""


class KilledError(Exception):
    """The end of a process."""


class Kill(Observer):
    """Ends it after the second step of the second epoch, or at the first."""

    def __init__(self, epoch: int = 2) -> None:
        self._at = (epoch, 2)

    def step(self, epoch: int, step: int) -> None:
        if (epoch, step) == self._at:
            raise KilledError


class Noted(RunObserver):
    """Keeps the lines that a person is told."""

    def start(self, about: Start) -> None:
        self.notes = about.notes


def killed(path: Path, recipe: Recipe | str = RECIPE, **about: Any) -> None:
    with pytest.raises(KilledError):
        fastcifar.train(recipe, **{"execution": OFTEN, "out": path, "observers": [Kill()], **about})


def run_json(path: Path) -> dict[str, Any]:
    return json.loads((path / "run.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interrupted run, to be left as it is."""
    path = tmp_path_factory.mktemp("runs") / "run"
    killed(path)
    return path


@pytest.fixture
def run(tmp_path: Path, interrupted: Path, restored_rng: object) -> Path:
    """An interrupted run."""
    return shutil.copytree(interrupted, tmp_path / "run")


def test_it_ends_as_if_it_had_not_been_interrupted(run: Path) -> None:
    assert run_json(run)["status"] == "failed"
    with (run / "steps.csv").open("a") as file:
        file.write("2,1,0.5,9\n2,")  # of the epoch that is trained again, as a kill may leave them
    noted = Noted()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = fastcifar.resume(run, observers=[noted])
    assert torch.equal(torch.get_rng_state(), before)  # the caller's
    whole, trained = finished_run()
    assert (again.final_accuracy, again.path) == (trained.final_accuracy, run)
    for (name, one), other in zip(again.model.state_dict().items(), trained.model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert "continuing in epoch 2 after" in noted.notes[-1]
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    wanted = [json.loads(line) for line in (whole / "events.jsonl").read_text().splitlines()]
    times = ("train_seconds", "eval_seconds", "images_per_second", "other_cores")
    assert [{**line, **dict.fromkeys(times)} for line in lines] == [{**one, **dict.fromkeys(times)} for one in wanted]
    assert (run / "steps.csv").read_text() == (whole / "steps.csv").read_text()
    said = run_json(run)
    assert said["status"] == "finished"
    result = said["result"]
    assert result["interruptions"] == 1
    assert result["train_seconds"] == sum(line["train_seconds"] for line in lines)
    assert result["train_seconds"] + result["eval_seconds"] + result["lost_seconds"] < result["wall_seconds"]
    assert result["train_seconds"] + result["setup_seconds"] < result["wall_seconds"]
    assert [one["epochs"] for one in said["earlier_sessions"]] == [1]
    assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}
    assert fastcifar.load(run) is not None
    with pytest.raises(InputError, match="the run is finished"):
        fastcifar.resume(run)


def test_what_happened_before_the_first_checkpoint_begins_again(tmp_path: Path, restored_rng: object) -> None:
    killed(tmp_path / "run", execution=replace(CPU, checkpoint_seconds=1000), observers=[Kill(1)])
    noted = Noted()
    assert fastcifar.resume(tmp_path / "run", observers=[noted]).final_accuracy == finished_run()[1].final_accuracy
    assert "there is no checkpoint, so the run begins again" in noted.notes[-1]
    assert run_json(tmp_path / "run")["result"]["lost_seconds"] > 0


def test_a_process_that_ended_while_setting_up(tmp_path: Path, restored_rng: object) -> None:
    """There is no session yet: what was asked for is done, the range test too."""
    with RunDirectory(tmp_path / "run") as directory:
        asked = fastcifar.runs.paused.asked_of(RECIPE, sealed(RECIPE)[1], find_lr=True, data=None)
        directory.claim(recipe_name="mine", recipe=RECIPE, execution=CPU, asked=asked)
    assert run_json(tmp_path / "run")["status"] == "starting"
    noted = Noted()
    again = fastcifar.resume(tmp_path / "run", observers=[noted])
    assert again.found is not None
    assert again.recipe.schedule.max_lr == again.found.max_lr
    assert run_json(tmp_path / "run")["lr_range"]["max_lr"] == again.found.max_lr


def test_under_another_loader_and_precision_it_goes_on_and_says_so(run: Path) -> None:
    noted = Noted()
    fastcifar.resume(run, execution=replace(CPU, loader="fused", precision="bfloat16"), observers=[noted])
    assert "loader fused; it was dali before the interruption" in noted.notes
    assert "precision bfloat16; it was float32 before the interruption" in noted.notes
    assert run_json(run)["execution"]["loader"] == "fused"
    assert run_json(run)["earlier_sessions"][0]["execution"]["loader"] == "dali"


def test_what_this_machine_has_not_is_chosen_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcifar.execution.has_dali", lambda: False)
    if not torch.cuda.is_available():
        was = Execution("cuda", "dali", "float16", "reduce-overhead", checkpoint_seconds=7)
        assert possible(was) == Execution(checkpoint_seconds=7)
    assert possible(CPU) == replace(CPU, loader="auto")


def test_other_images_and_another_recipe_are_refused(run: Path) -> None:
    with pytest.raises(InputError, match="dataset: other images than the run's: their sha256 is"):
        fastcifar.resume(run, dataset=synthetic(300, 1100))
    with pytest.raises(InputError, match=r"a run of another recipe: batch_size is 64, not 128; a changed"):
        fastcifar.resume(run, recipe=replace(RECIPE, batch_size=64))
    assert run_json(run)["status"] == "failed"  # as it was killed
    (run / "run.json").write_text(json.dumps(run_json(run) | {"status": "interrupted"}))
    with pytest.raises(InputError, match="dataset: other images"):
        fastcifar.resume(run, dataset=synthetic(300, 1100))
    assert run_json(run)["status"] == "interrupted"  # nothing has happened to it
    fastcifar.resume(run, dataset=dataset(), recipe=RECIPE)


def test_a_second_process_is_refused(run: Path) -> None:
    paused = read_paused(run)
    with RunDirectory(run, paused), pytest.raises(InputError, match="another process is writing in it"):
        fastcifar.resume(run)
    fastcifar.resume(run)


def test_code_of_ones_own_is_the_file_it_was(tmp_path: Path, restored_rng: object) -> None:
    """Where that has changed or gone, the copy in the run, if it may be executed."""
    file, path = tmp_path / "net.py", tmp_path / "run"
    file.write_text(NET)
    recipe = replace(RECIPE, model=OwnModel(f"{file}:Net", {"width": 3}))
    whole = fastcifar.train(recipe, execution=CPU)
    killed(path, recipe)
    assert run_json(path)["asked"]["files"] == {"net.py": str(file)}
    file.write_text(NET + "# changed\n")
    refused = rf"{path}: {file} is not there as it was; --trust-code \(trust_code=True\) runs the copy in the run"
    with pytest.raises(InputError, match=refused):
        fastcifar.resume(path)
    with pytest.raises(InputError, match=r"a run of another recipe: model\.sha256 is"):
        fastcifar.resume(path, recipe=recipe, trust_code=True)
    file.unlink()
    with pytest.raises(InputError, match=refused):
        fastcifar.resume(path)
    (path / "net.py").write_text(NET + "# tampered\n")
    with pytest.raises(InputError, match=r"net\.py: is not the file of the recipe: its sha256 is"):
        fastcifar.resume(path, trust_code=True)
    (path / "net.py").write_text(NET)
    again = fastcifar.resume(path, trust_code=True)
    assert again.log[-1].test_loss == whole.log[-1].test_loss


class Typed(torch.nn.Module):
    """A network given from Python, whose file is this one."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.mean(dim=(2, 3)))


def test_a_class_given_from_python(tmp_path: Path, restored_rng: object) -> None:
    killed(tmp_path / "run", model=Typed)
    trained = fastcifar.resume(tmp_path / "run", model=Typed)
    assert isinstance(trained.model, Typed)


def test_what_has_no_source_cannot_be_gone_on_with(tmp_path: Path, restored_rng: object) -> None:
    space: dict[str, Any] = {}
    exec(NET, space)
    killed(tmp_path / "run", model=space["Net"])
    with pytest.raises(InputError, match="had no source when it was trained: it cannot be continued"):
        fastcifar.resume(tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"asked": None}, r"not a run that can be continued: input should be an object"),
        ({"asked": {"find_lr": False, "data": None, "dataset": "cifar10", "files": {}, "x": 1}}, "x: "),
        ({"execution": {"device": "tpu"}}, "device: input should be 'auto', 'cuda' or 'cpu', got 'tpu'"),
        ({"recipe": {"epochs": 0}}, r"recipe\.epochs: input should be greater than or equal to 1"),
        ({"recipe_name": "../x"}, "recipe_name: the name of a recipe is needed"),
        ({"recipe": 3}, "recipe_name: the name of a recipe is needed"),
    ],
)
def test_a_broken_run_json(run: Path, change: dict[str, Any], complaint: str) -> None:
    (run / "run.json").write_text(json.dumps(run_json(run) | change))
    with pytest.raises(InputError, match=complaint):
        fastcifar.resume(run)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder; name a run directory"):
        fastcifar.resume(tmp_path / "nowhere")
