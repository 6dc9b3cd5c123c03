"""The notebook in examples/ runs from top to bottom, and what is committed is what it gave.

After a change to it, with CIFAR-10 in the user's cache or an absolute $FASTCIFAR_DATA:

    jupyter execute --inplace examples/cifar10.ipynb
"""

import base64
import io
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image, PngImagePlugin

import fastcifar
from fastcifar.data.cifar import ENVIRONMENT_VARIABLE, locate_cifar10

NOTEBOOK = Path(__file__).parents[2] / "examples" / "cifar10.ipynb"
PICTURES = (2, 3, 6, 8, 9, 10)  # the cells, by execution count, that draw one
LARGEST = 600_000  # bytes

# Where CIFAR-10 is absent, the cells work on made-up images: nothing is downloaded.
MADE_UP = """
import fastcifar.data.load
from fastcifar.data.synthetic import synthetic

made_up = synthetic(6_000, 2_000)
fastcifar.load_cifar10 = fastcifar.data.load.load_cifar10 = lambda folder=None: made_up
"""

# What the cells leave behind, as one line of JSON.
PROBE = """
import json

found = {
    "own loss": torch.stack(losses).mean().item(),
    "accuracy": [log.test_accuracy for log in result.log],
    "loaded accuracy": right.mean().item(),
    "probabilities": [*probabilities.shape, float(np.abs(probabilities.sum(axis=1) - 1).max())],
    "run is there": run.exists() or Path(folder.name).exists(),
    "package": fastcifar.__file__,
}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def committed() -> NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(committed: NotebookNode, tmp_path_factory: pytest.TempPathFactory) -> tuple[NotebookNode, dict[str, Any]]:
    """The notebook after a run in a fresh kernel and an empty folder, and what `PROBE` says of it."""
    notebook = deepcopy(committed)
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    data, package = locate_cifar10(), Path(fastcifar.__file__).parents[1]
    empty = tmp_path_factory.mktemp("empty")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(package))
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))  # no settings or history of the user's
        patch.setenv("OMP_WAIT_POLICY", "passive")  # spinning threads are many times slower on a machine that is busy
        patch.delenv("MPLBACKEND", raising=False)
        if data:
            patch.setenv(ENVIRONMENT_VARIABLE, str(data.resolve()))
        else:
            notebook.cells.insert(0, nbformat.v4.new_code_cell(MADE_UP))
        notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
        place = {"metadata": {"path": str(empty)}}
        NotebookClient(notebook, kernel_name="python3", timeout=200, resources=place).execute()  # raises a cell's error
    assert not list(empty.iterdir())
    probe = notebook.cells.pop()
    if not data:
        notebook.cells.pop(0)
    return notebook, json.loads(text(probe))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell: NotebookNode) -> str:
    """All that a cell printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def pictures(cell: NotebookNode) -> list[str]:
    """The pictures a cell drew, base64 PNGs."""
    return [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]


def without_figures(printed: str) -> str:
    """The text with every number, and the spaces that align it, replaced."""
    return re.sub(r"\s*\d[\d.,]*(e[-+]\d+)?", "#", printed)


def test_every_cell_runs(committed: NotebookNode, executed: tuple[NotebookNode, dict[str, Any]]) -> None:
    notebook, found = executed
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in committed.cells]
    assert not [output for cell in code_cells(notebook) for output in cell.outputs if output.output_type == "error"]
    assert Path(found["package"]).parent == NOTEBOOK.parents[1] / "fastcifar"
    assert not found["run is there"]


def test_what_it_trains_learns(executed: tuple[NotebookNode, dict[str, Any]]) -> None:
    """Ten classes: by chance an accuracy of 0.1 and a loss of 2.3."""
    _, found = executed
    assert len(found["accuracy"]) > 1
    assert found["accuracy"][-1] > 0.3
    assert found["loaded accuracy"] == pytest.approx(found["accuracy"][-1], abs=0.02)
    assert found["own loss"] < 2.1
    images, classes, error = found["probabilities"]
    assert (images, classes) == (2000, 10)
    assert error < 1e-5


@pytest.mark.parametrize("which", ["committed", "executed"])
def test_the_pictures(which: str, request: pytest.FixtureRequest) -> None:
    notebook = request.getfixturevalue(which)
    cells = code_cells(notebook if which == "committed" else notebook[0])
    assert tuple(number for number, cell in enumerate(cells, 1) if pictures(cell)) == PICTURES
    for number in PICTURES:
        (picture,) = pictures(cells[number - 1])
        with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
            assert image.width > 500
            assert image.convert("RGB").getcolors(maxcolors=50) is None, "hardly anything is drawn"


def test_the_committed_outputs_are_a_whole_run(committed: NotebookNode) -> None:
    """Of every cell, in order, from a new kernel, without an error or a warning."""
    nbformat.validate(committed)
    cells = code_cells(committed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell.outputs for cell in cells)
    assert {output.output_type for cell in cells for output in cell.outputs} <= {"stream", "display_data"}
    assert {output.name for cell in cells for output in cell.outputs if output.output_type == "stream"} == {"stdout"}
    assert "50,000 training images" in text(cells[0])


def test_the_committed_outputs_are_these_cells(
    committed: NotebookNode, executed: tuple[NotebookNode, dict[str, Any]]
) -> None:
    """A cell changed and not run again shows in what it prints and draws, but for the figures."""
    for now, then in zip(code_cells(executed[0]), code_cells(committed), strict=True):
        assert without_figures(text(now)) == without_figures(text(then))
        assert len(pictures(now)) == len(pictures(then))


def test_the_file_says_nothing_of_the_machine(committed: NotebookNode) -> None:
    assert NOTEBOOK.stat().st_size < LARGEST
    assert committed.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    bare = deepcopy(committed)
    for cell in code_cells(bare):
        for output in cell.outputs:
            output.get("data", {}).pop("image/png", None)
    words = json.dumps(bare, ensure_ascii=False)
    assert not re.findall(r"(?<![\w.:/])/[\w.-]+/|\b[A-Za-z]:\\\\|file:", words), "an absolute path"
    with_metadata = [
        PngImagePlugin.PngImageFile(io.BytesIO(base64.b64decode(picture))).text
        for cell in code_cells(committed)
        for picture in pictures(cell)
    ]
    assert all(set(written) <= {"Software"} for written in with_metadata)


def test_its_links_lead_somewhere(committed: NotebookNode) -> None:
    links = [
        link
        for cell in committed.cells
        if cell.cell_type == "markdown"
        for link in re.findall(r"\]\((.*?)\)", cell.source)
    ]
    assert links
    assert all((NOTEBOOK.parent / link).is_file() for link in links)
