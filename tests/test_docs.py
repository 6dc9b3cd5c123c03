"""The pages under docs/: what is generated is current, they build without a warning, what they tell to type exists."""

import ast
import itertools
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fastcifar import documented as api
from fastcifar.commands import documented
from fastcifar.commands.command import COMMANDS
from fastcifar.commands.parse import parse
from fastcifar.errors import InputError

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.joinpath("docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])


def test_the_page_of_commands_is_current() -> None:
    page = documented.markdown()
    assert (ROOT / "docs/reference/commands.md").read_text() == page
    for name in COMMANDS:
        assert f"fastcifar {name}`" in page


def test_the_page_of_the_python_api_is_current() -> None:
    assert (ROOT / "docs/reference/python.md").read_text() == api.markdown()


@pytest.mark.parametrize("module", ["execution.py", "recipe/__init__.py", "recipe/tables.py", "commands"])
def test_the_help_of_a_flag_is_one_line(module: str) -> None:
    """tyro ends a line of --help where a docstring does."""
    place = ROOT / "fastcifar" / module
    for file in [place] if place.is_file() else place.glob("*.py"):
        classes = (one for one in ast.walk(ast.parse(file.read_text())) if isinstance(one, ast.ClassDef))
        for field, said in (pair for one in classes for pair in itertools.pairwise(one.body)):
            if isinstance(field, ast.AnnAssign) and isinstance(said, ast.Expr):
                assert "\n" not in ast.literal_eval(said.value), ast.unparse(field)


def test_they_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "fastcifar.load" in (tmp_path / "site" / "reference" / "python" / "index.html").read_text()


def test_the_program_of_ones_own_is_the_readmes() -> None:
    """Which a test trains with."""
    page, readme = (ROOT / "docs/how-to/own-code.md").read_text(), (ROOT / "README.md").read_text()
    (page,) = re.findall(r"^```python\n(# my_idea\.py\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    (readme,) = re.findall(r"^(    # my_idea\.py\n(?:    .*\n)+)", readme, re.MULTILINE)
    assert ast.dump(ast.parse(page)) == ast.dump(ast.parse(textwrap.dedent(readme)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_they_tell_to_type_is_understood(page: Path) -> None:
    """Names of subcommands and flags only: files and runs are the reader's."""
    blocks = re.findall(r"^```\n(.*?)^```|^((?:    .*\n)+)", page.read_text(), re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^ *fastcifar ([^#\n]+)", "\n".join(map("".join, blocks)), re.MULTILINE):
        words = re.sub(r"<your run>", "x", re.sub(r" > .*|\[FLAGS\]|\.\.\.|\|\S+", "", line)).split()
        try:
            parse(words)
            complaint = ""
        except (InputError, SystemExit) as error:
            complaint = str(error)
        assert not re.search("Unrecognized|no such command|invalid choice|no such field", complaint), line
