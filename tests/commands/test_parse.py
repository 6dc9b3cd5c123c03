"""Flags and what is wrong with them; and that neither --help nor a wrong flag waits for torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from toy import TOY, one_line

from fastcifar.commands import main, parse
from fastcifar.commands.command import COMMANDS, GROUPS, OfRecipe
from fastcifar.commands.rates import All, Loaders, Step
from fastcifar.commands.train import Train
from fastcifar.errors import InputError
from fastcifar.recipe import Muon, OwnModel, Recipe, Resnet, Schedule, Speednet
from fastcifar.recipe.files import load_recipe, to_toml


def recipe_of(*arguments: str) -> Recipe:
    """The recipe of `fastcifar train` with these flags."""
    command = parse(["train", *arguments])
    assert isinstance(command, Train)
    return command.recipe


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "--recipe", "sed"], "--recipe sed: neither a TOML file nor one of"),
        (["train", "--recipe", "seed", "--width", "0"], "--model.width: input should be greater than"),
        (["train", "--recipe", "seed", "--width", "x"], "Error parsing --width/--model.width: invalid literal"),
        (["train", "--recipe", "seed", "--wdth", "8"], "Unrecognized options: --wdth, 8 (perhaps you meant --width"),
        (
            ["train", "--recipe", "seed", "--loader", "x"],
            "invalid choice 'x' for argument '--loader': one of auto, dali, fused",
        ),
        (["train", "--recipe", "seed", "--width"], "Missing value for argument '--width/--model.width'"),
        (["train", "--recipe", "seed", "--batch-size", "0"], "--batch-size: input should be greater"),
        (["train", "--recipe", "sprint94", "--epochs", "0"], "--epochs: input should be greater"),
        (["train", "--recipe", "sprint94", "--epochs", f"1{23 * '0'}"], "--epochs: input should be less than"),
        (["train", "--recipe", "seed", "--schedule.peak-epoch", "30"], "--schedule.peak-epoch: 30 is past"),
        (["train", "--recipe", "seed", "--schedule.max-lr", "-1"], "--schedule.max-lr: input should be"),
        (["train", "--recipe"], "Missing value for argument '--recipe'"),
        (
            ["train", "--recipe", "seed", "--max-lr=1"],
            "Unrecognized options: --max-lr=1 (perhaps you meant --schedule.m",
        ),
        (["report"], "Missing: RUN"),
        (["trian"], "trian: no such command (perhaps you meant train); fastcifar has train, find-lr, report, compare"),
        (["bench", "trian"], "trian: no such command (perhaps you meant train); fastcifar bench has all, loaders"),
        (["--recipe", "seed", "train"], "--recipe: no such command (perhaps you meant recipe); fastcifar has train"),
        (["env", "--recipe", "seed"], "Unrecognized options: --recipe, seed"),
        (["env", "--debug=1"], "argument --debug: ignored explicit argument '1'"),
        (["train", "--limit-train", "x"], "Error parsing --limit-train: no type matching {None}|INT could be"),
        (["data", "--data", "nowhere"], "--data nowhere: No such file or directory"),
        ([*TOY, "--limit-train", "60000"], "limit_train: 60,000 images asked for, synthetic has 50,000"),
        ([*TOY, "--batch-size", "301"], "batch_size: 301 is more than the 300 training images"),
        ([*TOY, "--out", "/dev/null/run"], "--out /dev/null/run: Not a directory"),
        (["bench", "loaders", "--json", "/"], "/: is a folder; name a file"),
        (["leaderboard", "page", "--out", "page", "--markdown", "/"], "/: is a folder; name a file"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    arguments: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert one_line(capsys).startswith(f"fastcifar: {complaint}")
    assert not list(tmp_path.glob("runs/*"))


def test_a_bad_recipe_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[schedule]\nmax_lr = 'high'\n")
    assert main(["train", "--recipe", str(tmp_path / "mine.toml")]) == 2
    assert f"{tmp_path / 'mine.toml'}: schedule.max_lr: input should be a valid number" in one_line(capsys)


def test_a_recipe_read_back_is_the_recipe(tmp_path: Path) -> None:
    for epochs in range(5, 60):
        recipe = recipe_of("--recipe", "seed", "--epochs", str(epochs))
        (tmp_path / "mine.toml").write_text(to_toml(recipe))
        assert recipe_of("--recipe", str(tmp_path / "mine.toml")) == recipe


def test_the_last_recipe_counts() -> None:
    command = parse(["train", "--recipe", "laptop", "--recipe=seed"])
    assert isinstance(command, Train)
    assert (command.name, command.recipe) == ("seed", load_recipe("seed"))


def test_every_field_has_a_flag() -> None:
    arguments = ["--model.width", "8", "--model.layer2-residual", "--augmentation.pad-mode", "reflect"]
    arguments += ["--optimizer.beta2", "0.99", "--schedule.shape", "cosine", "--label-smoothing", "0.2"]
    arguments += ["--schedule.peak-epoch", "5", "--epochs", "12", "--stop-at-target", "--target", "0.5"]
    recipe = recipe_of("--recipe=seed", *arguments)
    assert (recipe.model.width, recipe.model.layer2_residual) == (8, True)
    assert recipe.augmentation.pad_mode == "reflect"
    assert recipe.optimizer.beta2 == 0.99
    assert (recipe.schedule.shape, recipe.schedule.peak_epoch, recipe.epochs) == ("cosine", 5, 12)
    assert (recipe.label_smoothing, recipe.stop_at_target, recipe.target) == (0.2, True, 0.5)


def test_the_peak_moves_with_the_epochs_unless_it_is_given() -> None:
    assert recipe_of("--recipe=seed", "--epochs", "12").schedule.peak_epoch == 2.5
    for flag in ("--schedule.peak-epoch", "--schedule.peak_epoch"):
        for given in ([flag, "5"], [f"{flag}=5"]):
            assert recipe_of("--recipe=seed", "--epochs", "12", *given).schedule.peak_epoch == 5
    held = ["--recipe=seed", "--schedule.hold-epochs", "3"]
    assert recipe_of(*held, "--epochs", "12").schedule == Schedule(peak_epoch=2.5, hold_epochs=3)


def test_other_epochs_scale_the_sizes_of_images_unless_they_are_given() -> None:
    assert of_laptop("--epochs", "3").image_sizes == (24, 28, 32)
    assert of_laptop("--epochs", "3", "--image-sizes").image_sizes == ()
    for given in (["--image-sizes", "28", "32"], ["--image_sizes=28", "32"]):
        assert of_laptop("--epochs", "3", *given).image_sizes == (28, 32)


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--model", "speednet", "--width", "8"], "--model.widths"),
        (["--model", "speednet", "--model.width", "8"], "--model.widths"),
        (["--model", "resnet", "--model.widths", "8"], "--width"),
        (["--optimizer", "muon", "--optimizer.momentun", "1"], "--optimizer.momentum"),
        (["--lr", "0.1"], "--schedule.min-lr or --schedule.max-lr"),
        (["--optimizer", "sgd", "--weight-decay", "0"], "--optimizer.weight-decay"),
    ],
)
def test_what_is_perhaps_meant_is_a_flag_that_there_is(flags: list[str], hint: str) -> None:
    with pytest.raises(InputError, match=rf"^Unrecognized options: .*\(perhaps you meant {hint}\)$"):
        of_laptop(*flags)


def test_a_flag_of_another_network_or_optimizer_says_whose_it_is() -> None:
    with pytest.raises(InputError, match=r"^Unrecognized options: --model.depth, 3 \(a flag of --model speednet\)$"):
        of_laptop("--model.depth", "3")
    with pytest.raises(InputError, match=r"\(a flag of --optimizer sgd or muon\)$"):
        of_laptop("--optimizer.momentum", "0.5")
    with pytest.raises(InputError, match=r"\(a flag of --optimizer muon\)$"):
        of_laptop("--optimizer.lr", "0.5")


def test_the_name_of_a_recipe_without_its_flag() -> None:
    with pytest.raises(InputError, match=r"^Unrecognized options: sprint90 \(perhaps you meant --recipe sprint90\)$"):
        parse(["train", "sprint90"])


def test_the_recipe_that_auto_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpu, name in ((True, "seed"), (False, "laptop")):
        monkeypatch.setattr("fastcifar.commands.command.has_gpu", lambda gpu=gpu: gpu)
        assert recipe_of() == load_recipe(name)


def test_bench_alone_is_bench_all(capsys: pytest.CaptureFixture[str]) -> None:
    on_cpu = Resnet(width=16)
    assert parse(["bench", "--device", "cpu"]) == parse(["bench", "all", "--device", "cpu"])
    assert parse(["bench", "--device", "cpu"]) == All(device="cpu", model=on_cpu)
    assert parse(["bench", "--device", "cuda"]) == All(device="cuda", model=Resnet(width=64))
    loaders = Loaders(short=True, device="cpu", model=on_cpu)
    assert parse(["bench", "loaders", "--short", "--device", "cpu"]) == loaders
    assert main(["bench", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in ("all", "loaders", "step", "train", "accuracy", "peers", "profile"))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name.partition(' ')[0]} " in shown for name in COMMANDS)
    assert shown.count("\n  bench ") == 1


def test_a_complaint_that_tyro_no_longer_tells_of_is_its_own_box(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hook is not part of tyro's public interface."""
    monkeypatch.delattr("tyro._errors")
    assert main(["env", "--wrong"]) == 2
    assert "Unrecognized options: --wrong" in capsys.readouterr().err


SLOW = ("torch", "nvidia.dali", "matplotlib", "scipy", "numpy", "PIL", "jinja2")
WITHOUT_THE_SLOW = """
import json, sys
from fastcifar.commands import main
slow, code, lines = json.loads(sys.argv[1])
for arguments in lines:
    assert main(arguments) == code, arguments
    found = [name for name in slow if name in sys.modules]
    assert not found, (arguments, found)
"""


def without_the_slow(code: int, lines: list[list[str]]) -> str:
    """Give all these to one process, which must end each with `code` and import nothing slow; its stderr."""
    asked = json.dumps([SLOW, code, lines])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_SLOW, asked],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_help_waits_for_nothing_slow() -> None:
    helped = [["--help"], *([group, "--help"] for group in GROUPS), *([*name.split(), "--help"] for name in COMMANDS)]
    assert without_the_slow(0, [*helped, ["--version"]]) == ""


def test_wrong_arguments_wait_for_nothing_slow() -> None:
    about_a_recipe = [name.split() for name, kind in COMMANDS.items() if issubclass(kind, OfRecipe)]
    wrong = [
        *([*name, "--wrong"] for name in map(str.split, COMMANDS)),
        *([*name, "--recipe", "sed"] for name in about_a_recipe),
        *([*name, "--recipe", "seed", "--batch-size", "0"] for name in about_a_recipe),
        *([*name, "--epochs", "x"] for name in about_a_recipe),
        ["train", "--loader", "torchvision"],
        ["train", "--width"],
        ["wrong"],
        ["leaderboard", "wrong"],
        *([*command.split(), "nosuch"] for command in ("report", "eval", "predict --json", "compare --out x")),
        ["export", "--format", "onnx", "--out", "x", "nosuch"],
        *([*command.split(), "--data", "nosuch"] for command in ("data", "train", "find-lr", "bench accuracy")),
        ["data", "--data", __file__],
        *([*command.split(), "--device", "cuda"] for command in ("train", "find-lr", "bench step", "bench accuracy")),
    ]
    assert without_the_slow(2, wrong).count("\n") == len(wrong)


def of_laptop(*words: str) -> Recipe:
    command = parse(["train", "--recipe", "laptop", *words])
    assert isinstance(command, Train)
    return command.recipe


def test_the_kind_of_a_table_decides_its_flags() -> None:
    words = "--model speednet --model.widths 8 16 --optimizer.name=muon --optimizer.lr 0.1"
    recipe = of_laptop(*words.split())
    assert recipe.model == Speednet(widths=(8, 16))
    assert recipe.optimizer == Muon(lr=0.1)
    assert recipe.schedule == Schedule(min_lr=0.0, max_lr=1.0, peak_epoch=3.0)
    with pytest.raises(InputError, match=r"^Unrecognized options: --width, 8"):
        of_laptop("--model", "speednet", "--width", "8")
    with pytest.raises(InputError, match=r"^--model: no such model; there are resnet, speednet and FILE\.py:NAME"):
        of_laptop("--model", "resnett")
    with pytest.raises(InputError, match=r"got 'adams' \(perhaps you meant adam\)$"):
        of_laptop("--optimizer", "adams")


def test_the_keys_of_ones_own_are_arguments() -> None:
    words = "--model nets/net.py:Net --model.width 8 --model.act=silu --model.deep-er --model.sizes [1,2] --epochs 4"
    recipe = of_laptop(*words.split())
    assert recipe.model == OwnModel("nets/net.py:Net", {"width": 8, "act": "silu", "deep_er": True, "sizes": [1, 2]})
    assert (recipe.epochs, recipe.schedule.peak_epoch) == (4, 1)


def test_a_network_for_the_rates_of_a_step() -> None:
    command = parse(["bench", "step", "--device", "cpu", "--model", "net.py:Net", "--model.width", "3"])
    assert command == Step(device="cpu", model=OwnModel("net.py:Net", {"width": 3}))


def test_a_recipe_to_start_from_is_that_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "airbench94"]) == 0
    (tmp_path / "mine.toml").write_text(capsys.readouterr().out)
    assert load_recipe(str(tmp_path / "mine.toml")) == load_recipe("airbench94")
    assert main(["recipe", "airbnch94"]) == 2
    assert "(perhaps you meant airbench94)" in one_line(capsys)
