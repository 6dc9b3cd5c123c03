"""What a run leaves behind, whole at every instant."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import safetensors.torch
import torch

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.execution import Execution
from fastcifar.files import write_whole
from fastcifar.models.resnet import ResNet
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe, Resnet
from fastcifar.recipe.files import load_recipe
from fastcifar.runs.directory import RunDirectory, default_path
from fastcifar.runs.paused import Asked
from fastcifar.training.checkpoint import Spent
from fastcifar.training.log import EpochLog, Result

LOG = EpochLog(1, 2.0, 0.5, 1.5, 0.4, 1.4, 0.5, 0.01, 150.0)
SPENT = Spent("2026-11-22T00:00:00.000+00:00", wall_seconds=9.0, interruptions=2, lost_seconds=0.5)
RESULT = Result(0.5, 0.5, None, 1, 1.0, 2.0, 0.5)


def started(path: Path, dataset: Dataset, recipe: Recipe, own: OwnCode | None = None) -> RunDirectory:
    directory = RunDirectory(path)
    directory.start(
        recipe_name="mine",
        recipe=recipe,
        own=own or OwnCode(),
        execution=Execution(),
        dataset=dataset,
        environment={"gpu": None},
    )
    return directory


def run_json(path: Path) -> dict[str, object]:
    return json.loads((path / "run.json").read_text())  # type: ignore[no-any-return]


def test_a_whole_run(tmp_path: Path, small: Dataset) -> None:
    recipe, model = Recipe(epochs=5, model=Resnet(width=4)), ResNet(Resnet(width=4))
    with started(tmp_path / "run", small, recipe) as directory:
        assert run_json(directory.path)["status"] == "running"
        for epoch in (1, 2):
            directory.epoch_steps(epoch, [0.01, 0.0123456789], [2.5, 1 / 3])
            directory.epoch(LOG)
        directory.finish(RESULT, model, SPENT)
    run = run_json(tmp_path / "run")
    assert run["status"] == "finished"
    assert run["recipe"] == json.loads(json.dumps(asdict(recipe)))
    assert run["execution"] == asdict(Execution())
    assert run["environment"] == {"gpu": None}
    assert run["dataset"]["name"] == small.name  # type: ignore[index]
    assert run["result"] == {
        **asdict(RESULT),
        "wall_seconds": 9.0,
        "interruptions": 2,
        "lost_seconds": 0.5,
    }
    lines = (tmp_path / "run" / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [asdict(LOG)] * 2
    assert (tmp_path / "run" / "steps.csv").read_text().splitlines() == [
        "epoch,step,learning_rate,loss",
        "1,1,0.01,2.5",
        "1,2,0.0123456789,0.333333333",
        "2,1,0.01,2.5",
        "2,2,0.0123456789,0.333333333",
    ]
    assert load_recipe(str(tmp_path / "run" / "mine.toml")) == recipe
    weights = safetensors.torch.load_file(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json",
        "mine.toml",
        "events.jsonl",
        "steps.csv",
        "model.safetensors",
    }


def test_code_of_ones_own_lies_in_it_as_it_is(tmp_path: Path, small: Dataset) -> None:
    text = "# été\r\nx = 1\n"
    with started(tmp_path / "run", small, Recipe(), OwnCode(sources={"net.py": text})):
        assert (tmp_path / "run" / "net.py").read_bytes() == text.encode()


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    with pytest.raises(InputError, match="exists and is not empty; name another folder"):
        RunDirectory(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_folder_is_claimed_at_once(tmp_path: Path, small: Dataset) -> None:
    """A second process is refused before the first has anything to write."""
    with RunDirectory(tmp_path / "run") as first:
        with pytest.raises(InputError, match="another process is writing in it"):
            RunDirectory(tmp_path / "run")
        asked = Asked(find_lr=False, data=None, dataset="cifar10", files={})
        first.claim(recipe_name="a", recipe=Recipe(), execution=Execution(), asked=asked)
        assert run_json(tmp_path / "run")["status"] == "starting"
        first.start(
            recipe_name="a", recipe=Recipe(), own=OwnCode(), execution=Execution(), dataset=small, environment={}
        )
    assert run_json(tmp_path / "run")["status"] == "running"


def test_a_place_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out .*file/run: Not a directory"):
        RunDirectory(tmp_path / "file" / "run")


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), "interrupted"), (ValueError(), "failed")])
def test_a_run_cut_short_keeps_its_epochs(tmp_path: Path, small: Dataset, error: BaseException, status: str) -> None:
    def cut_short() -> None:
        with started(tmp_path / "run", small, Recipe()) as directory:
            directory.epoch(LOG)
            raise error

    with pytest.raises(type(error)) as caught:
        cut_short()
    if status == "interrupted":
        assert str(caught.value) == f"interrupted; finished epochs: 1, kept in {tmp_path / 'run'}"
    assert run_json(tmp_path / "run")["status"] == status
    assert json.loads((tmp_path / "run" / "events.jsonl").read_text()) == asdict(LOG)


@pytest.mark.parametrize("claimed", [False, True])
def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path, claimed: bool) -> None:
    def refused() -> None:
        with RunDirectory(tmp_path / "runs" / "run") as directory:
            if claimed:
                asked = Asked(find_lr=False, data=None, dataset="cifar10", files={})
                directory.claim(recipe_name="a", recipe=Recipe(), execution=Execution(), asked=asked)
            raise InputError("bad input")

    with pytest.raises(InputError):
        refused()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The limit on a file's size fails a write in its middle, as a full disk does."""
    (tmp_path / "file").write_bytes(b"old")
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from fastcifar.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_whole(Path(sys.argv[1]), bytes(5000))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file")], capture_output=True, text=True, check=False
    )
    assert f"OSError: [Errno 27] File too large: '{tmp_path / 'file'}'" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"x")
    (tmp_path / "other").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_default_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = default_path("laptop", Recipe())
    second = default_path("laptop", Recipe())
    assert second != first  # even within one second
    assert str(default_path("laptop", Recipe(seed=2))).startswith("runs/20")
    assert str(default_path("laptop", Recipe(seed=3))).endswith("Z-laptop-seed3")
    assert str(default_path("laptop", Recipe(dataset="synthetic"))).endswith("Z-laptop-synthetic-seed0")
    one = default_path("laptop", Recipe(), ".record.json")
    assert not one.exists()
    one.touch()
    assert {one.suffix, default_path("laptop", Recipe(), ".record.json").suffix} == {".json"}
    assert default_path("laptop", Recipe(), ".record.json") != one


def test_a_default_name_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").touch()
    for suffix in ("", ".record.json"):
        with pytest.raises(InputError, match=r"^runs"):
            default_path("laptop", Recipe(), suffix)
