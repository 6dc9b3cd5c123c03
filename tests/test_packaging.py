"""What is installed for what: training needs no test tool, and all that the package imports is declared."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
# What is in .venv: nothing, or what `make train` and `make test` leave there.
STAMPS = {"nothing": [], "train": [".installed"], "test": [".installed", ".installed-dev"]}


def names(requirements: list[str]) -> set[str]:
    """The distributions of `requirements`, in the form that compares: lower case, and dashes."""
    return {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in requirements}  # type: ignore[index]


def imported(file: Path) -> set[str]:
    """Top-level names of all that a module imports, wherever in it."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.split(".")[0] for name in plain | parts}


def test_all_that_the_package_imports_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = names([*PROJECT["dependencies"], *extras["export"], *extras["tensorboard"], *extras["ray"]])
    distributions = metadata.packages_distributions()
    for file in (CHECKOUT / "fastcifar").rglob("*.py"):
        for name in imported(file) - set(sys.stdlib_module_names) - {"fastcifar"}:
            assert names(distributions.get(name, [name])) & declared, f"{file.name} imports {name}"


def test_training_installs_no_test_tool() -> None:
    tools = names(PROJECT["optional-dependencies"]["dev"]) - {"fastcifar"}
    assert {"pytest", "mypy", "playwright"} <= tools
    assert not tools & names(PROJECT["dependencies"])


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize(
    ("there", "target", "installs"),
    [
        ("nothing", "train", ["."]),
        ("nothing", "test", [".", "'.[dev]'"]),
        ("nothing", "gpu", [".", "'.[dev]'"]),
        ("train", "train", []),
        ("train", "test", ["'.[dev]'"]),
        ("test", "train", []),
        ("test", "test", []),
    ],
)
def test_make_installs_what_is_needed_in_either_order(
    there: str, target: str, installs: list[str], tmp_path: Path
) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    for stamp in STAMPS[there]:
        (tmp_path / ".venv" / stamp).touch()
    make = ["make", "--dry-run", "--no-print-directory", target, "VENV=.venv"]
    planned = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"--editable (\S+)", planned) == installs
