"""Custom code: found, read, kept by its sha256, refused in one line that names the file."""

import functools
import hashlib
import linecache
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import fastcifar
from fastcifar.commands import main
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.own import OwnCode, called, from_source, own_files, sealed, unnamed
from fastcifar.recipe import Augmentation, OwnModel, OwnOptimizer, Recipe
from fastcifar.recipe.changes import merged
from fastcifar.source import beyond

NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, classes, width=4):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, width, 3)
        self.head = torch.nn.Linear(width, classes)

    def forward(self, images):
        return self.head(self.conv(images).amax(dim=(2, 3)))

    class Inner(torch.nn.Module):
        pass

def make(network, lr=0.1):
    return torch.optim.SGD(network.parameters(), lr=lr)

def same(images, generator):
    return images

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def of(file: Path, **more: object) -> Recipe:
    return merged(Recipe(), {"model": {"name": f"{file}:Net", **more}})


def test_a_recipe_keeps_names_and_sha256_and_no_path(file: Path) -> None:
    changes = {
        "model": {"name": f"{file}:Net", "width": 7},
        "optimizer": {"name": f"{file}:make", "lr": 0.5},
        "augmentation": {"own": f"{file}:same"},
    }
    recipe, own = sealed(merged(Recipe(), changes))
    sha256 = hashlib.sha256(NET.encode()).hexdigest()
    assert recipe.model == OwnModel("net.py:Net", {"width": 7}, sha256)
    assert recipe.optimizer == OwnOptimizer("net.py:make", {"lr": 0.5}, sha256)
    assert recipe.augmentation == Augmentation(own="net.py:same", own_sha256=sha256)
    assert own_files(recipe) == {"net.py": sha256}
    assert own.sources == {"net.py": NET}
    assert str(file.parent) not in repr(recipe)
    assert own.model is not None
    assert own.optimizer is not None
    network = own.model(5)
    assert (network.head.out_features, network.conv.out_channels) == (5, 7)
    assert own.optimizer(network).param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize(
    ("part", "name", "steps"), [("model", "Net", True), ("optimizer", "make", True), ("augmentation", "same", False)]
)
def test_who_trains_with_it_says_whether_a_step_is_ones_own(
    file: Path, part: str, name: str, steps: bool, monkeypatch: pytest.MonkeyPatch, small: Dataset
) -> None:
    """Since a GPU then makes no graph of it, unless asked to."""
    asked: list[bool] = []

    def resolve(_: object, *, own: bool = False) -> None:
        asked.append(own)
        raise InputError("seen")

    monkeypatch.setattr("fastcifar.runs.api.resolve", resolve)
    monkeypatch.setattr("fastcifar.commands.command.resolve", resolve)
    for call in (fastcifar.train, fastcifar.find_lr):
        with pytest.raises(InputError, match="seen"):
            call("laptop", **{part: f"{file}:{name}"}, dataset=small)
    flag = "--augmentation.own" if part == "augmentation" else f"--{part}"
    assert main(["bench", "profile", "--recipe", "laptop", flag, f"{file}:{name}", "--dataset", "synthetic"]) == 2
    assert asked == [steps] * 3


def test_functions_typed_into_a_notebook_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a function has source, but no file."""
    notebook = ModuleType("notebook")
    monkeypatch.setitem(sys.modules, "notebook", notebook)
    texts = ["def make(network):\n    return None\n", "def dim(images, generator):\n    return images\n"]
    for number, text in enumerate(texts):
        monkeypatch.setitem(linecache.cache, f"<cell {number}>", (len(text), None, text.splitlines(True), "cell"))
        exec(compile(text, f"<cell {number}>", "exec"), notebook.__dict__)
    recipe, own = sealed(Recipe(), {"optimizer": notebook.make, "augmentation": notebook.dim})
    assert set(own.sources) == {"notebook_optimizer.py", "notebook_augmentation.py"} == set(own_files(recipe))
    assert own.unknown == ()
    assert unnamed(recipe) == []


def test_a_file_that_trains_where_it_is_imported_is_refused(tmp_path: Path) -> None:
    """It is imported again to go on with its run, and would begin another one."""
    (path := tmp_path / "net.py").write_text(f"{NET}\nimport fastcifar\nfastcifar.train('laptop', model=Net)\n")
    with pytest.raises(InputError, match=r"net.py: cannot be imported: InputError: it trains .* below if __name__"):
        sealed(of(path))
    path.write_text(f"{NET}\nimport fastcifar\nfastcifar.find_lr('laptop', model=Net)\n")
    with pytest.raises(InputError, match="it trains where"):
        sealed(of(path))
    path.write_text(NET)
    assert sealed(of(path))


def test_what_has_no_name_is_said(small: Dataset) -> None:
    """And makes no record, since what stands around it may say what it is."""
    recipe, own = sealed(
        Recipe(), {"optimizer": lambda network: None, "augmentation": lambda images, generator: images}
    )
    assert unnamed(recipe) == ["optimizer", "augmentation"]
    with pytest.raises(InputError, match=r"^optimizer .*<lambda>: a lambda or nested function"):
        own.require_sources()


def test_what_imports_a_file_beside_it_makes_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that there is no telling what was trained."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "beside.py").write_text("x = 1\n")
    for number, line in enumerate(("import beside", "from beside import x", "import os, beside as b")):
        path = tmp_path / f"net{number}.py"
        path.write_text(f"{line}\nimport torch, numpy.random\n{NET}")
        _, own = sealed(of(path))
        with pytest.raises(InputError, match="its file imports beside, which is not installed; put"):
            own.require_sources()
    tried = "try:\n    import nowhere\nexcept ImportError:\n    pass\n"
    types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import beside\n"
    path.write_text(f"import torch, json.decoder\n{tried}{types}{NET}")
    assert sealed(of(path))[1].unknown == ()
    assert beyond("net.py:Net", f"\ufeff{NET}") is None
    for text, said in (
        (f"from .beside import x\n{NET}", "its file imports from its own package"),
        (f"def f():\n    import nowhere\n{NET}", "its file imports nowhere"),
        (
            f"globals()['Net'] = type('Net', (), {{}})\n{NET.replace('class Net', 'class Other')}",
            "its file does not define that name",
        ),
        ("a b", "its file does not define that name"),
    ):
        assert said in str(beyond("net.py:Net", text))


def test_a_recipe_without_code_of_ones_own_stays_as_it_is() -> None:
    assert sealed(Recipe()) == (Recipe(), OwnCode())


def test_the_file_of_a_recipe_with_a_sha256_has_it(file: Path) -> None:
    recipe, _ = sealed(of(file))
    again = merged(recipe, {"model": {"name": f"{file}:Net"}})
    assert again.model.sha256 is None  # another name, another file
    named = merged(Recipe(), {"model": {"name": f"{file}:Net", "sha256": recipe.model.sha256}})
    assert sealed(named)[0] == recipe
    file.write_text(NET + "# changed\n")
    with pytest.raises(InputError, match=r"net\.py: is not the file of the recipe: its sha256 is \w{64}, not \w{64}"):
        sealed(named)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("Net", None, "net.py: cannot be read: No such file or directory"),
        ("Net", "import no_such_package", "net.py: cannot be imported: ModuleNotFoundError: No module named"),
        ("Net", "x = 1\n1 / 0", "net.py: cannot be imported: ZeroDivisionError: division by zero (line 2)"),
        ("Net", "class Net(:", "net.py: cannot be imported: SyntaxError: "),
        ("Net", "raise SystemExit(3)", "net.py: cannot be imported: SystemExit: 3 (line 1)"),
        ("Nett", NET, "net.py: there is no Nett in it (perhaps you meant Net)"),
        ("Net.Innner", NET, "net.py: there is no Net.Innner in it (perhaps you meant Inner)"),
        ("number", NET, "net.py: number: a class or a function is needed, not int"),
        (
            "Net",
            "import torch\nNet = torch.nn.Linear(3, 3)",
            "net.py: Net: give a class or function that makes a Linear",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, name: str, text: str | None, complaint: str) -> None:
    path = tmp_path / "net.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError) as caught:
        sealed(merged(Recipe(), {"model": {"name": f"{path}:{name}"}}))
    assert str(caught.value).startswith(f"{path.parent}/{complaint}")
    assert "\n" not in str(caught.value)


def test_a_file_that_failed_leaves_no_module(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(InputError):
        from_source("1 / 0", tmp_path / "net.py", "Net")
    assert set(sys.modules) == before


def test_two_files_of_one_name(file: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "net.py"
    other.write_text(NET + "# another\n")
    recipe = merged(of(file), {"optimizer": {"name": f"{other}:make"}})
    with pytest.raises(InputError, match=r"net\.py: two different files of this name; rename one"):
        sealed(recipe)


def test_only_python_files_are_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights\.bin:Net: not FILE\.py:NAME"):
        sealed(merged(Recipe(), {"model": {"name": "weights.bin:Net"}}))


class Mine(torch.nn.Module):
    """A network of this file."""

    def __init__(self, classes: int, width: int = 3) -> None:
        super().__init__()
        self.head = torch.nn.Linear(width, classes)


def test_a_callable_stands_for_its_file() -> None:
    recipe, own = sealed(Recipe(), {"model": Mine, "optimizer": None})
    assert recipe.model.name == "test_own.py:Mine"
    assert own.sources == {"test_own.py": Path(__file__).read_text()}
    assert own.unknown == ()
    own.require_sources()


def test_arguments_of_a_partial_are_the_recipes() -> None:
    recipe, own = sealed(Recipe(), {"model": functools.partial(Mine, width=5)})
    assert recipe.model.arguments == {"width": 5}
    assert own.model is not None
    assert own.model(2).head.in_features == 5


def test_a_callable_without_source_trains_but_makes_no_record() -> None:
    space: dict[str, object] = {}
    exec("def make(network): return None", space)
    recipe, own = sealed(Recipe(), {"optimizer": space["make"]})
    assert recipe.optimizer.sha256 is None
    assert own.unknown == (f"optimizer {recipe.optimizer.name}: its source is not available; put it into a file",)
    with pytest.raises(InputError, match="its source is not available; put it into a file; so there is no record"):
        own.require_sources()


def test_a_network_is_no_factory() -> None:
    with pytest.raises(InputError, match="model: give a class or function that makes a Mine, not one"):
        sealed(Recipe(), {"model": Mine(10)})


def test_an_optimizer_that_brings_its_rates_makes_the_schedule_a_factor() -> None:
    recipe, _ = sealed(Recipe(), {"optimizer": lambda network: None})
    assert (recipe.schedule.max_lr, recipe.schedule.min_lr) == (1.0, pytest.approx(0.02))


def test_an_error_in_code_of_ones_own_names_it_and_its_line(file: Path) -> None:
    _, own = sealed(of(file, width="wide"))
    assert own.model is not None
    with pytest.raises(InputError, match=r"^net\.py:Net: TypeError: .*\(line 7\)$"):
        called("net.py:Net", lambda: own.model(10))
