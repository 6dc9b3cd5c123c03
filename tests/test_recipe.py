"""The recipe: what ships, what a file may say, and what is said of a bad one."""

import os
import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import tyro
from hypothesis import given
from hypothesis import strategies as st

from fastcifar.errors import InputError
from fastcifar.recipe import (
    Augmentation,
    Evaluation,
    Muon,
    OwnModel,
    Recipe,
    Resnet,
    Schedule,
    Selection,
    Sgd,
    Speednet,
    validated,
)
from fastcifar.recipe.changes import merged, passed_over
from fastcifar.recipe.documented import documented, markdown
from fastcifar.recipe.files import find_recipe, header, load_recipe, shipped_recipes, to_toml
from fastcifar.records.leaderboard import read_entry


def test_seed_is_the_design() -> None:
    seed = load_recipe("seed")
    assert seed.model == Resnet(width=64, layer2_residual=False, conv_bias=True)
    assert seed.augmentation == Augmentation(pad=4, pad_mode="zero", flip="random", cutout=8)
    assert (seed.epochs, seed.batch_size, seed.target, seed.label_smoothing) == (24, 512, 0.9, 0)
    assert seed.schedule.peak_epoch == 5
    assert seed.dataset == "cifar10"


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_says_what_it_was_measured_to_reach(name: str) -> None:
    summary, measured = header(find_recipe(name))
    assert summary.endswith(".")
    assert 50 < len(summary) < 140
    assert re.match(r"9\d\.\d\d % .*test accuracy .* on 2 CPU cores", measured)


@pytest.mark.parametrize("name", ["laptop", "sprint90", "sprint94"])
def test_that_is_what_its_record_says(name: str) -> None:
    records = Path(__file__).parents[1].glob(f"benchmarks/results/*-{name}-*Intel-Xeon-2-cores.record.json")
    (entry,) = (entry for entry in map(read_entry, records) if entry.recipe == name)
    summary, (_, measured) = entry.record.summary, header(find_recipe(name))
    assert summary.petaflops
    assert summary.p
    p = f"{summary.p:.1g}".replace("e-0", "e-")
    assert measured == (
        f"{100 * summary.final_accuracy.mean:.2f} % mean test accuracy (n = {summary.runs}, p = {p}) in "
        f"{summary.seconds.mean:.1f} s and {summary.petaflops.mean:.3g} petaFLOPs on 2 CPU cores."
    )


recipes = st.builds(
    Recipe,
    epochs=st.integers(5, 100),
    batch_size=st.integers(1, 5000),
    seed=st.integers(0, 2**63 - 1),
    target=st.floats(0.01, 1),
    label_smoothing=st.floats(0, 0.99),
    limit_train=st.none() | st.integers(1, 50_000),
    model=st.builds(Resnet, width=st.integers(1, 1024), layer2_residual=st.booleans(), conv_bias=st.booleans()),
    augmentation=st.builds(Augmentation, pad=st.integers(0, 8), cutout=st.integers(0, 32)),
    schedule=st.builds(
        Schedule,
        min_lr=st.floats(0, 0.01),
        max_lr=st.floats(0.01, 10),
        peak_epoch=st.floats(0, 5),
    ),
)


@given(recipes)
def test_toml_out_and_in_again(recipe: Recipe) -> None:
    assert validated(tomllib.loads(to_toml(recipe))) == recipe
    assert validated(asdict(recipe)) == recipe


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epochs = ", "not a TOML file: Invalid value (at "),
        ("epochs = '3'", "epochs: input should be a valid integer, got '3'"),
        ("epochs = 3.5", "epochs: input should be a valid integer, got 3.5"),
        ("epochs = 0", "epochs: input should be greater than or equal to 1, got 0"),
        ("batch_size = 0", "batch_size: input should be greater than or equal to 1, got 0"),
        ("epoch = 3", "epoch: no such field in a recipe"),
        ("stop_at_target = 1", "stop_at_target: input should be a valid boolean, got 1"),
        ("target = 1.5", "target: input should be less than or equal to 1, got 1.5"),
        ("seed = -1", "seed: input should be greater than or equal to 0, got -1"),
        ("dataset = ''", "dataset: string should have at least 1 character, got ''"),
        (
            "[model]\nname = 'resnett'",
            "model: no such model; there are resnet, speednet and FILE.py:NAME, got 'resnett' (perhaps you meant re",
        ),
        ("[model]\nname = 'speednet'\nwidth = 8", "model.width: no such field in a recipe, got 8"),
        (
            "[model]\nname = ['resnet']",
            "model: no such model; there are resnet, speednet and FILE.py:NAME, got ['resnet']",
        ),
        ("[optimizer]\nname = {a = 1}", "optimizer: no such optimizer; there are adam, sgd, muon and FILE.py:NAME"),
        ("[model]\nname = 'a.py:N'\narguments = [1]\nwidth = 3", "model.arguments: input should be"),
        ("[optimizer]\nname = 'adamw'", "optimizer: no such optimizer; there are adam, sgd, muon and FILE.py:NAME"),
        ("[optimizer]\nname = 'muon'\nbeta1 = 0.5", "optimizer.beta1: no such field in a recipe, got 0.5"),
        ("image_sizes = [24, 33]", "image_sizes.1: input should be less than or equal to 32, got 33"),
        (
            "drop_last = true\nbatch_sizes = [8, 16]",
            "drop_last: with several batch_sizes the epochs",
        ),
        ("base = 3", "base: the name of a recipe or a TOML file is needed, got 3"),
        ("base = 'laptpo'", "base: laptpo: neither a TOML file nor one of"),
        ("base = 'mine.toml'", "base: leads back to this file"),
        ("epochs = -1\n[schedule]\nshape='cosine'", "epochs: input should be greater than or equal to 1, got -1"),
        ("schedule = 3\nepochs = 2", "schedule: input should be an object, got 3"),
        ("limit_train = 0", "limit_train: input should be greater than or equal to 1, got 0"),
        ("model = 3", "model: no such model; there are resnet, speednet and FILE.py:NAME, got 3"),
        ("[model]\nwidth = 0", "model.width: input should be greater than or equal to 1, got 0"),
        ("[model]\nwidht = 8", "model.widht: no such field in a recipe"),
        ("[augmentation]\npad = 9", "augmentation.pad: input should be less than or equal to 8, got 9"),
        ("[augmentation]\ncutout = 33", "augmentation.cutout: input should be less than or equal to 32, got 33"),
        ("[augmentation]\nflip = 'often'", "augmentation.flip: input should be 'none', 'random' or 'alternating'"),
        ("[schedule]\nmax_lr = -0.1", "schedule.max_lr: input should be greater than 0, got -0.1"),
        ("[schedule]\nmin_lr = -0.1", "schedule.min_lr: input should be greater than or equal to 0, got -0.1"),
        ("[schedule]\nmax_lr = nan", "schedule.max_lr: input should be a finite number, got nan"),
        ("[schedule]\nmax_lr = inf", "schedule.max_lr: input should be a finite number, got inf"),
        ("[schedule]\nmin_lr = 0.1", "schedule.min_lr: 0.1 is above max_lr 0.005"),
        ("[schedule]\nmax_lr = 'high'", "schedule.max_lr: input should be a valid number, got 'high'"),
        ("[schedule]\nmin_lr = true", "schedule.min_lr: input should be a valid number, got True"),
        ("[schedule]\npeak_epoch = 'find'", "schedule.peak_epoch: input should be a valid number, got 'find'"),
        ("[schedule]\npeak_epoch = 25", "schedule.peak_epoch: 25 is past the end of 24 epochs"),
        (
            "[schedule]\nhold_epochs = 20",
            "schedule.hold_epochs: the peak, reached at 5 and held for 20, ends after epoch 24",
        ),
        ("epochs = 2021-01-01", "epochs: input should be a valid integer, got '2021-01-01'"),
    ],
)
def test_a_bad_file_is_one_line_with_file_and_field(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(caught.value)


def test_arguments_of_ones_own_that_are_lists_in_lists() -> None:
    """Deeper than Python can write them, or pydantic read."""
    for depth in (300, 50_000):
        deep: object = []
        for _ in range(depth):
            deep = [deep]
        with pytest.raises(InputError, match="mine: nested too deeply"):
            validated({"model": {"name": "a.py:Net", "width": deep}}, prefix="mine: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing.toml: cannot be read: No such file"):
        load_recipe(str(tmp_path / "missing.toml"))
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_recipe(str(tmp_path))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a TOML file"):
        load_recipe(str(tmp_path / "binary.toml"))
    with pytest.raises(InputError, match=r"--recipe sed: neither a TOML file nor one of .*laptop.*seed"):
        load_recipe("sed")


def test_missing_fields_are_seeds(tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text("epochs = 6\n[model]\nwidth = 8\n")
    recipe = load_recipe(str(tmp_path / "short.toml"))
    schedule = replace(Schedule(), peak_epoch=1.25)  # which moves with the epochs, as that of --epochs
    assert recipe == replace(load_recipe("seed"), epochs=6, model=Resnet(width=8), schedule=schedule)


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text("\ufeffepochs = 6", encoding="utf-8")
    assert load_recipe(str(tmp_path / "odd.toml")).epochs == 6


@pytest.mark.parametrize(
    ("text", "said"), [('"a\\nb" = 1', r"a\\nb: no such field"), (f"{'x' * 5000} = 1", "xxx.*no such field")]
)
def test_odd_names_of_fields(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "odd.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said) as caught:
        load_recipe(str(tmp_path / "odd.toml"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_other_epochs_move_the_peak_in_proportion() -> None:
    recipe = load_recipe("seed").with_epochs(12)
    assert (recipe.epochs, recipe.schedule.peak_epoch) == (12, 2.5)
    held = merged(Recipe(), {"schedule": {"peak_epoch": 5.1, "hold_epochs": 18.9}})
    for epochs in range(1, 100):  # to the end, by whatever they are rounded
        schedule = merged(held, {"epochs": epochs}).schedule
        assert schedule.hold_epochs == pytest.approx(18.9 * epochs / 24)
    assert merged(held, {"epochs": 48, "schedule": {"hold_epochs": 2}}).schedule.peak_epoch == pytest.approx(10.2)


def test_other_epochs_scale_what_is_counted_in_them() -> None:
    recipe = load_recipe("sprint94")
    short = recipe.with_epochs(5)
    assert short.image_sizes == (20, 20, 24, 28, 32)
    assert (short.schedule.hold_epochs, short.evaluation.epochs) == (pytest.approx(5 / 3), (3, 4, 5))
    assert (short.selection.after_epoch, short.selection.last_epochs) == (1, 1)
    twice = recipe.with_epochs(30)
    assert [twice.image_size_of(epoch) for epoch in range(30)] == [
        recipe.image_size_of(epoch // 2) for epoch in range(30)
    ]
    assert (twice.selection.after_epoch, twice.selection.last_epochs) == (6, 2)
    for epochs in range(1, 40):  # the last are of the images that the test is of
        assert recipe.with_epochs(epochs).image_size_of(epochs - 1) == 32
    laptop = load_recipe("laptop")
    assert laptop.with_epochs(24).image_sizes == (24,) * 8 + (28,) * 8 + (32,)
    assert laptop.with_epochs(24).selection == laptop.selection  # which leaves out nothing
    assert laptop.with_epochs(100_000).image_size_of(33_333) == 28
    assert replace(laptop, batch_sizes=(128, 256)).with_epochs(24).batch_sizes == (128, 128, 256)
    for epochs in (0, 10**23):
        with pytest.raises(InputError, match=r"^epochs: input should be"):
            recipe.with_epochs(epochs)
    given = merged(recipe, {"epochs": 5, "image_sizes": [24, 32], "selection": {"after_epoch": 2}})
    assert given == replace(short, image_sizes=(24, 32), selection=replace(short.selection, after_epoch=2))


def test_other_rates() -> None:
    recipe = load_recipe("laptop")
    found = recipe.with_rates(min_lr=0.002, max_lr=0.004)
    assert found == replace(recipe, schedule=replace(recipe.schedule, min_lr=0.002, max_lr=0.004))


def test_a_flag_that_is_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(Recipe, args=["--schedule.max-lr", "x"])
    assert "Error parsing --schedule.max-lr: could not convert string to float: 'x'" in capsys.readouterr().err


def test_a_file_with_a_base_says_what_differs(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text("base = 'laptop'\nepochs = 4\n[augmentation]\npad = 2\n")
    (tmp_path / "two.toml").write_text("base = 'one.toml'\n[schedule]\npeak_epoch = 3\n")
    laptop = load_recipe("laptop")
    one = replace(laptop.with_epochs(4), augmentation=replace(laptop.augmentation, pad=2))
    assert load_recipe(str(tmp_path / "one.toml")) == one
    assert one.schedule.peak_epoch == 1
    assert load_recipe(str(tmp_path / "two.toml")).schedule.peak_epoch == 3


def test_another_kind_begins_with_its_own_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("base = 'laptop'\n[model]\nname = 'speednet'\n[optimizer]\nname = 'muon'\n")
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe.model, recipe.optimizer) == (Speednet(), Muon())
    assert recipe.schedule == Schedule(min_lr=0.0, max_lr=1.0, peak_epoch=3.0)
    back = merged(recipe, {"optimizer": {"name": "sgd"}})
    assert (back.optimizer, back.schedule.max_lr) == (Sgd(), Schedule().max_lr)
    given = merged(recipe, {"optimizer": {"name": "sgd"}, "schedule": {"max_lr": 0.3}})
    assert given.schedule.max_lr == 0.3


def test_code_of_ones_own_lies_beside_the_file(tmp_path: Path) -> None:
    text = "[model]\nname = 'nets/net.py:Net'\nwidth = 8\n[augmentation]\nown = '/a/b.py:f'\n"
    (tmp_path / "mine.toml").write_text(text)
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert recipe.model == OwnModel(f"{tmp_path}/nets/net.py:Net", {"width": 8})
    assert recipe.augmentation.own == "/a/b.py:f"
    assert merged(Recipe(), tomllib.loads(to_toml(recipe))) == recipe


def test_a_name_that_is_nearly_one() -> None:
    with pytest.raises(InputError, match=r"--recipe lptop: .*\(perhaps you meant laptop\)"):
        load_recipe("lptop")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epohs": 3}, "epohs: no such field in a recipe, got 3 (perhaps you meant epochs)"),
        ({"max_lr": 3}, "max_lr: no such field in a recipe, got 3 (perhaps you meant schedule.max_lr)"),
        (
            {"schedule": {"maxlr": 3}},
            "schedule.maxlr: no such field in a recipe, got 3 (perhaps you meant schedule.max_lr)",
        ),
        ({"model": {"depth": 3}}, "model.depth: no such field in a recipe, got 3 (a field of model speednet)"),
        ({"optimizer": {"momentum": 1}}, "(a field of optimizer sgd or muon)"),
        ({"zzzz": 3}, "zzzz: no such field in a recipe, got 3"),
    ],
)
def test_a_field_that_there_is_not(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        merged(Recipe(), values)
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("recipe", "lines"),
    [
        (
            Recipe(epochs=6, evaluation=Evaluation(epochs=(2, 9, 12))),
            ["evaluation.epochs: there is no epoch 9: epochs is 6"],
        ),
        (
            Recipe(epochs=6, selection=Selection(leave_out=0.5, after_epoch=3, last_epochs=3)),
            ["selection: no epoch leaves out images, by after_epoch and last_epochs"],
        ),
        (Recipe(epochs=6, image_sizes=(24,) * 6 + (32,)), ["image_sizes: only the first 6 of 7 values are used"]),
        (Recipe(epochs=6, image_sizes=(24,) * 8, selection=Selection(leave_out=0.5)), []),
    ],
)
def test_what_is_said_of_epochs_that_there_are_not(recipe: Recipe, lines: list[str]) -> None:
    assert passed_over(recipe) == lines


def test_sizes_by_epoch_hold_on() -> None:
    recipe = Recipe(batch_sizes=(8, 16), image_sizes=(24,))
    assert [recipe.batch_size_of(epoch) for epoch in range(3)] == [8, 16, 16]
    assert [recipe.image_size_of(epoch) for epoch in range(3)] == [24, 24, 24]
    assert (Recipe().batch_size_of(5), Recipe().image_size_of(5)) == (512, 32)


def test_the_documentation_is_that_of_the_fields() -> None:
    assert (Path(__file__).parents[1] / "docs" / "reference" / "recipe.md").read_text() == markdown()
    assert all(said for _, _, said in documented())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"epochs = {'9' * 5000}\n", "not a TOML file: Exceeds the limit"),
        (f"epochs = {'9' * 4000}\n", "epochs: "),
        (f"a = {'[' * 500}{']' * 500}\n", "nested too deeply"),  # by the reader or after it
        (f'[model]\nname = "a.py:A"\na = {"[" * 240}{"]" * 240}\n', "nested too deeply, or a number too large"),
        (f"{'a' * 100_000} = 1\n", "aaaa"),
        (f"base = [{'1,' * 50_000}]\n", "base: the name of a recipe or a TOML file is needed, got [1, 1,"),
        ("".join(f"k{number} = 1\n" for number in range(300_000)), "cannot be read: it is larger than 0.25 MiB"),
        ('dataset = "a\\u200eb"\n', "dataset: string should match pattern"),
    ],
)
def test_files_that_are_large_or_deep(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_recipe(str(file))
    assert str(caught.value).startswith(f"{file}: ")
    assert said in str(caught.value)
    assert len(str(caught.value)) < len(str(file)) + 500


def test_a_pipe_and_a_device_are_no_recipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for place in (str(tmp_path / "pipe.toml"), "/dev/zero"):
        with pytest.raises(InputError, match="cannot be read: it is not a regular file"):
            load_recipe(place)
    with pytest.raises(InputError, match="neither a TOML file nor one of"):
        load_recipe("a" * 100_000)
