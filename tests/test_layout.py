"""The tree's layout: imports go one way, a module is read in one sitting, and nothing is named after no role."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastcifar

PACKAGE = Path(fastcifar.__file__).parent
# A folder, or a module at the package's root, imports from itself and from those before it.
ORDER = [
    *[
        "errors",
        "stopping",
        "files",
        "execution",
        "recipe",
        "source",
        "own",
        "models",
        "optim",
        "data",
        "training",
        "bench",
        "runs",
    ],
    *["records", "peers", "report", "commands", "documented", "__main__"],
]
LONGEST = 320  # lines of a module: past about 300 it is two


def modules() -> list[Path]:
    """Of the package, but for its root, which imports lazily and from everywhere."""
    return sorted(file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def imported(module: Path, source: str) -> Iterator[str]:
    """Dotted names of all that a module imports, wherever in it: of `from a import b`, a and a.b."""
    package = ["fastcifar", *module.parent.parts]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*start, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def wrong_way(module: Path, source: str) -> list[str]:
    """What a module imports that is to the right of its own place, or outside the package."""
    place = ORDER.index(module.parts[0].removesuffix(".py"))
    names = [name.split(".") for name in imported(module, source)]
    found = [name[0] for name in names if name[0] in ("benchmarks", "tests")]
    rooms = [name[1] for name in names if name[0] == "fastcifar" and len(name) > 1 and name[1] != "__version__"]
    return found + [room for room in rooms if room not in ORDER[: place + 1]]


@pytest.mark.parametrize("module", modules(), ids=str)
def test_imports_go_one_way(module: Path) -> None:
    assert wrong_way(module, (PACKAGE / module).read_text()) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import fastcifar.report.console", ["report"]),
        ("from fastcifar import runs", ["runs"]),
        ("def late():\n    from fastcifar.commands import main", ["commands", "commands"]),
        ("if TYPE_CHECKING:\n    from ..records.record import Record", ["records", "records"]),
        ("import benchmarks.gpu", ["benchmarks"]),
        ("from fastcifar.data import plan\nimport fastcifar\nfrom .clock import Clock\nimport torch", []),
    ],
)
def test_an_import_the_wrong_way_would_be_seen(source: str, found: list[str]) -> None:
    assert wrong_way(Path("training", "trainer.py"), source) == found


def test_every_room_has_its_place() -> None:
    assert {module.parts[0].removesuffix(".py") for module in modules()} == set(ORDER)


def test_modules_are_short_and_named_after_what_they_do() -> None:
    lines = {str(module): len((PACKAGE / module).read_text().splitlines()) for module in modules()}
    assert {name: count for name, count in lines.items() if count > LONGEST} == {}
    assert not {module.stem for module in modules()} & {"utils", "util", "helpers", "common", "misc"}
