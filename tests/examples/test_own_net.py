"""Custom ideas, as a person would try them: the example's file and the README's contract."""

import json
import re
from pathlib import Path

import pytest
import torch
from toy import one_line

import fastcifar
from fastcifar.commands import main
from fastcifar.data.synthetic import synthetic
from fastcifar.errors import InputError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "own_net.py"
SMALL = ["--recipe", "laptop", "--dataset", "synthetic", "--limit-train", "300", "--limit-test", "100"]
SMALL += ["--batch-size", "100", "--device", "cpu", "--epochs", "2"]
OWN = ["--model", f"{EXAMPLE}:Net", "--model.width", "4", "--optimizer", f"{EXAMPLE}:make", "--optimizer.lr=0.02"]


def test_the_example_is_short() -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 40


def test_an_own_network_is_trained_reported_tested_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    augmented = ["--augmentation.own", f"{EXAMPLE}:brighter"]
    assert main(["train", *SMALL, *OWN, *augmented, "--out", str(run)]) == 0
    assert (run / "own_net.py").read_text() == EXAMPLE.read_text()
    kept = json.loads((run / "run.json").read_text())
    assert kept["recipe"]["model"]["name"] == "own_net.py:Net"
    assert kept["recipe"]["model"]["arguments"] == {"width": 4}
    assert str(ROOT) not in (run / "run.json").read_text()
    assert "own_net.py" in (run / "report" / "index.html").read_text()
    first = kept["result"]["final_accuracy"]

    capsys.readouterr()
    for command in (["eval"], ["report"], ["export", "--format", "torch-export", "--out", str(tmp_path / "net.pt2")]):
        assert main([command[0], str(run), *command[1:]]) == 2
        assert "its network is code that came with it, own_net.py; --trust-code (trust_code=True) runs it" in one_line(
            capsys
        )
        assert main([command[0], str(run), *command[1:], "--trust-code"]) == 0
        said = capsys.readouterr().out
        if command == ["eval"]:
            assert f"accuracy {first:.2%}" in said
    assert (tmp_path / "net.pt2").stat().st_size > 1000
    assert main(["compare", str(run), str(run), "--out", str(tmp_path / "compared")]) == 0  # runs no code

    # The run's own recipe and file are one to train again.
    again = tmp_path / "again"
    kept_recipe = ["--recipe", str(run / "laptop.toml"), "--device", "cpu", "--no-report"]
    assert main(["train", *kept_recipe, "--out", str(again)]) == 0
    same = json.loads((again / "run.json").read_text())
    assert (same["recipe"], same["result"]["final_accuracy"]) == (kept["recipe"], first)

    (run / "own_net.py").write_text(EXAMPLE.read_text() + "# other\n")
    assert main(["eval", str(run), "--trust-code"]) == 2
    assert "own_net.py: is not the file that was trained with" in one_line(capsys)


def test_an_own_network_is_measured_and_ranked_with_its_source(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.record.json"
    measured = ["bench", "accuracy", *SMALL, *OWN, "--target", "0.05", "--runs", "2", "--json", str(file)]
    assert main(measured) == 0
    assert main(["leaderboard", "check", str(file)]) == 0
    capsys.readouterr()
    assert main(["leaderboard", "show", str(file)]) == 0
    assert "laptop" in capsys.readouterr().out
    assert main(["leaderboard", "page", str(file), "--out", str(tmp_path / "page")]) == 0
    assert "class Net(nn.Module)" in (tmp_path / "page" / "index.html").read_text()


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    """The README's file."""
    (text,) = re.findall(r"^    # my_idea\.py\n((?:    .*\n)+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    path = tmp_path / "my_idea.py"
    path.write_text(re.sub("^    ", "", text, flags=re.MULTILINE))
    assert len(path.read_text().splitlines()) <= 12
    return path


def test_the_contract_in_the_readme_holds(contract: Path, tmp_path: Path) -> None:
    own = ["--model", f"{contract}:Net", "--optimizer", f"{contract}:make", "--augmentation.own", f"{contract}:dim"]
    assert main(["train", *SMALL, *own, "--no-report", "--out", str(tmp_path / "run")]) == 0
    network = fastcifar.load(tmp_path / "run", trust_code=True)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(InputError, match="--trust-code"):
        fastcifar.load(tmp_path / "run")


class Net(torch.nn.Module):
    """Of this file."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(images).relu().mean(dim=(2, 3)))


def test_from_python_a_part_of_the_recipe_is_what_makes_it(tmp_path: Path) -> None:
    images = synthetic(300, 100)
    arrays = images.train_images, images.train_labels, images.test_images, images.test_labels
    trained = fastcifar.train(
        "laptop",
        model=Net,
        optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=0.1),
        augmentation=lambda images, generator: images.flip(3),
        dataset=fastcifar.Dataset.from_arrays(*arrays, classes=tuple("abcdefghij")),
        execution=fastcifar.Execution(device="cpu", precision="float32"),
        epochs=3,
        out=tmp_path / "run",
    )
    assert (trained.epochs, trained.recipe.dataset, trained.recipe.schedule.peak_epoch) == (3, "arrays", 0.75)
    assert trained.recipe.schedule.max_lr == 1
    assert trained.log[-1].learning_rate == 0  # laptop's cycle ends there
    assert isinstance(trained.model, Net)
    again = fastcifar.load(tmp_path / "run", model=Net)
    batch = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(again(batch), trained.model(batch))
    assert (tmp_path / "run" / "test_own_net.py").read_text() == Path(__file__).read_text()
