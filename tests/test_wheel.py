"""What an installed wheel does needs no checkout: one is built, installed into an environment of its own, and used."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

CHECKOUT = Path(__file__).parents[1]
RECORD = CHECKOUT / "benchmarks" / "results" / "2026-11-22-laptop-AMD-EPYC-2-cores.record.json"
TOY = ["--dataset", "synthetic", "--limit-train", "256", "--limit-test", "100", "--width", "4", "--batch-size", "64"]
TOY += ["--epochs", "1", "--recipe", "laptop", "--device", "cpu"]


def checked(command: list[str | Path], **options: object) -> str:
    """What `command` prints; fails the test with all that it said where its exit code is not 0."""
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built of a copy of what it is made of, so that nothing is left in the checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    shutil.copytree(CHECKOUT / "fastcifar", source / "fastcifar", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    checked([*pip, "--wheel-dir", out, source])
    return next(out.glob("*.whl"))


class Installed:
    """The wheel in a new environment, and an empty folder outside the checkout to use it in."""

    def __init__(self, wheel: Path, environment: Path, folder: Path) -> None:
        self.folder, self._scripts = folder, environment / "bin"
        self._variables = {
            name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FASTCIFAR_DATA")
        }
        venv.create(environment, symlinks=True)
        python = self._scripts / "python"
        pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
        checked([*pip, wheel])
        self.site_packages = Path(self.python("import sysconfig; print(sysconfig.get_path('purelib'))"))
        # torch and the others are those that the tests run with. In a folder that a .pth adds, no .pth is read: the
        # editable install there finds nothing.
        shared = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (self.site_packages / "shared.pth").write_text("\n".join(shared))

    def python(self, script: str) -> str:
        """What a line of Python prints."""
        return checked([self._scripts / "python", "-c", script], cwd=self.folder, env=self._variables).strip()

    def __call__(self, *arguments: str | Path) -> str:
        """What the command `fastcifar` prints."""
        return checked([self._scripts / "fastcifar", *arguments], cwd=self.folder, env=self._variables)


@pytest.fixture(scope="module")
def fastcifar(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    installed = Installed(wheel, tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("work"))
    shutil.copy(RECORD, installed.folder / "laptop.record.json")
    return installed


def test_the_wheel_has_all_that_is_not_python_too(wheel: Path) -> None:
    package = CHECKOUT / "fastcifar"
    there = {str(file.relative_to(CHECKOUT)) for file in package.rglob("*") if file.is_file()}
    with ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    assert {name for name in there if "__pycache__" not in name} == {
        name for name in packed if ".dist-info/" not in name
    }


def test_the_checkout_is_out_of_reach(fastcifar: Installed) -> None:
    assert fastcifar.python("import fastcifar; print(fastcifar.__file__)") == str(
        fastcifar.site_packages / "fastcifar" / "__init__.py"
    )
    probe = "import importlib.util as u, sys; print(u.find_spec('benchmarks'), sys.path)"
    assert fastcifar.python(probe).startswith("None ")
    assert str(CHECKOUT / "fastcifar") not in fastcifar.python(probe)


def test_train_and_report(fastcifar: Installed) -> None:
    printed = fastcifar("train", *TOY, "--out", "run")
    assert "kept in run" in printed
    result = json.loads((fastcifar.folder / "run" / "run.json").read_text())["result"]
    assert (result["epochs"], result["final_accuracy"] >= 0) == (1, True)
    page = (fastcifar.folder / "run" / "report" / "index.html").read_text()
    assert "</html>" in page


def test_the_leaderboard(fastcifar: Installed) -> None:
    record = "laptop.record.json"
    assert fastcifar("leaderboard", "check", record).startswith(f"{record}: holds: laptop, ")
    shown = fastcifar("leaderboard", "show", record)
    assert "laptop" in shown
    assert "airbench" in shown  # of the published figures
    assert "written: page/index.html" in fastcifar("leaderboard", "page", record, "--out", "page", "--markdown", "p.md")
    assert "airbench" in (fastcifar.folder / "page" / "index.html").read_text()
    assert "laptop" in (fastcifar.folder / "p.md").read_text()
    submitted = ["--author", "A", "--author-email", "a@example.org", "--code-url", "https://example.org"]
    fastcifar("leaderboard", "export", record, "--dawnbench", "pairs", *submitted)
    assert {file.suffix for file in (fastcifar.folder / "pairs").iterdir()} == {".json", ".tsv"}
    assert json.loads(fastcifar("leaderboard", "schema"))["type"] == "object"


def test_rivals(fastcifar: Installed) -> None:
    plain = ["--image-sizes", "--evaluation.tta", "none"]  # which is all that plain PyTorch does
    fastcifar("bench", "peers", *TOY, *plain, "--target", "0.01", "--out", "peers")
    for name in ("fastcifar", "plain_pytorch"):
        record = json.loads((fastcifar.folder / "peers" / f"{name}.record.json").read_text())
        assert len(record["runs"]) == 1


def test_what_is_here(fastcifar: Installed) -> None:
    assert {"laptop", "seed"} <= {line.split()[0] for line in fastcifar("recipes").splitlines() if line.strip()}
    said = dict(line.split(maxsplit=1) for line in fastcifar("env").splitlines())
    assert said["commit"] == "none"  # of no checkout
    assert "torch" in said
