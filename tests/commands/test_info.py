"""The network's summary is that of the recipe's data set."""

from pathlib import Path

import pytest

from fastcifar.commands import main
from fastcifar.recipe import DATASETS


def summary(folder: Path, dataset: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines below the table; the table is held to have a last layer of as many answers."""
    recipe = folder / "mine.toml"
    recipe.write_text(f'dataset = "{dataset}"\n')
    assert main(["summary", "--recipe", str(recipe), "--width", "4"]) == 0
    table, _, below = capsys.readouterr().out.rpartition("=\n")
    classes = DATASETS.get(dataset, 10)
    assert f"[1, {classes}]" in table
    assert f" {32 * classes + classes:,}\n" in table.replace("│", " ")  # the last layer's weights and bias
    return below.splitlines()


def test_the_last_layer_has_the_classes_of_the_recipes_data_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def parameters(line: str) -> list[int]:
        return [int(word.replace(",", "")) for word in line.split() if word[0].isdigit() and word != "2"]

    ten, hundred = (summary(tmp_path, name, capsys) for name in ("cifar10", "cifar100"))
    assert len(ten) == len(hundred) == 1
    # Of the network, and of that of the other form.
    pairs = list(zip(parameters(ten[0]), parameters(hundred[0]), strict=True))
    assert [many - few for few, many in pairs] == [90 * 33] * 2


def test_of_a_folder_it_says_what_it_assumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *_, last = summary(tmp_path, "photos", capsys)
    assert last == f"10 classes are assumed: the images of {tmp_path / 'photos'} are not opened"


def test_data_finds_cifar100_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cifar-100-python").mkdir()
    assert main(["data", "--dataset", "cifar100", "--data", str(tmp_path)]) == 2
    assert "cifar-100-python/train: missing; unpack https://" in capsys.readouterr().err
