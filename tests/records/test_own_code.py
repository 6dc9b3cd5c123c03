"""The custom code and the work in a record: nothing missing, nothing else, and all figures follow."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_records import OWN, record, record_of_own

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.own import OwnCode
from fastcifar.recipe import Recipe
from fastcifar.records.check import CIFAR10_SHA256, read_record
from fastcifar.records.measure import sources_of
from fastcifar.records.record import Work, recipe_hash, to_json
from fastcifar.source import digest

Values = dict[str, Any]
WORK = Work(flops_per_image=[1e9, 3e9], optimizer_flops_per_step=0.0)


def write(folder: Path, values: Values) -> Path:
    file = folder / "one.record.json"
    values["recipe_hash"] = recipe_hash(values["recipe"])
    file.write_text(json.dumps(values))
    return file


def test_a_record_has_the_code_that_its_recipe_names(tmp_path: Path) -> None:
    found = record_of_own("x = 1\r\n\f\nNet = 'é'\n")
    assert read_record(write(tmp_path, json.loads(to_json(found)))) == found


def another(text: str) -> Values:
    return {"file": "net.py", "sha256": digest(text), "text": text}


def other_text(values: Values, text: str) -> None:
    values["sources"][0] = another(text)
    values["recipe"]["model"]["sha256"] = digest(text)


def named(values: Values, table: str, field: str, value: Any) -> None:
    values["recipe"][table][field] = value


TAMPERINGS: list[tuple[Callable[[Values], object], str]] = [
    (lambda values: values.update(sources=[]), r"sources: 'net\.py' is missing, which the recipe names"),
    (lambda values: values["sources"][0].update(text=OWN + " "), r"sources\.0\.sha256: is not that of the text"),
    (lambda values: values.update(sources=[another("x")]), r"sources\.0\.sha256: is not the one in the recipe"),
    (lambda values: values["sources"][0].update(file="a.py"), r"sources\.0\.file: 'a\.py' is no file"),
    (lambda values: values["sources"].append(another(OWN)), r"sources\.1\.file: 'net\.py' is no file .* or .* twice"),
    (lambda values: values["sources"].append({**another("x"), "file": "b.py"}), r"sources\.1\.file: 'b\.py' is no"),
    (lambda values: values.update(sources=[another("\x1b[2J")]), r"sources\.0\.text: string should match"),
    (lambda values: values.update(sources=[another("a\u200f")]), r"sources\.0\.text: string should match"),
    (lambda values: values.update(sources=[another("\u202e")]), r"sources\.0\.text: string should match"),
    (lambda values: values.update(sources=[another("x" * (2**20 + 1))]), r"sources\.0\.text: string should have"),
    (lambda values: named(values, "model", "sha256", "0" * 64), r"sources\.0\.sha256: is not the one in the recipe"),
    (lambda values: named(values, "model", "sha256", None), r"sources\.0\.sha256: is not the one in the recipe"),
    (lambda values: named(values, "augmentation", "own_sha256", "0" * 64), r"recipe: has a sha256 that no source has"),
    (lambda values: named(values, "augmentation", "own", "b.py:f"), r"sources: 'b\.py' is missing"),
    (lambda values: values["recipe"].update(dataset_sha256="0" * 64), r"recipe\.dataset_sha256: is not CIFAR-10's"),
    (lambda values: values.update(evaluation="flip"), r"evaluation: is said by the recipe"),
    (lambda values: values["work"]["flops_per_image"].pop(), r"work\.flops_per_image: 1 epochs; the recipe has 2"),
    (lambda values: values["work"]["flops_per_image"].append(1.0), r"work\.flops_per_image: 3 epochs"),
    (lambda values: values["work"].update(flops_per_image=[1e9, 2e9]), r"summary\.petaflops\.mean: 0\.2"),
    (lambda values: values["work"].update(flops_per_image=[-1e9, 5e9]), r"work\.flops_per_image\.0: input should be"),
    (lambda values: values["summary"]["petaflops"].update(mean=0.1), r"summary\.petaflops\.mean: 0\.1, but from the"),
    (lambda values: values["summary"].update(petaflops=None), r"summary\.petaflops"),
    (lambda values: values.update(work=None), r"summary\.petaflops"),
    (
        lambda values: other_text(values, "class Other: pass"),
        r"sources\.0\.text: has nothing of the name that",
    ),
    (lambda values: other_text(values, "def"), r"sources\.0\.text: has nothing of the name that"),
]


@pytest.mark.parametrize(("tamper", "complaint"), TAMPERINGS, ids=[complaint[:40] for _, complaint in TAMPERINGS])
def test_tampering_is_refused_by_name(tmp_path: Path, tamper: Callable[[Values], object], complaint: str) -> None:
    values = json.loads(to_json(record_of_own(work=WORK)))
    tamper(values)
    with pytest.raises(InputError, match=rf"one\.record\.json: {complaint}"):
        read_record(write(tmp_path, values))


def test_one_file_has_one_sha256(tmp_path: Path) -> None:
    """Where a recipe names it for two parts."""
    values = json.loads(to_json(record_of_own()))
    values["recipe"]["augmentation"] |= {"own": "net.py:Net", "own_sha256": values["sources"][0]["sha256"]}
    read_record(write(tmp_path, values))
    values["recipe"]["model"]["sha256"] = "0" * 64
    with pytest.raises(InputError, match="sha256"):
        read_record(write(tmp_path, values))


def test_the_work_of_first_crossing_ends_at_the_target() -> None:
    """50,000 images an epoch; the mean over the runs."""
    recipe = Recipe(epochs=3, schedule=replace(Recipe().schedule, peak_epoch=1))
    work = Work(flops_per_image=[1e9, 3e9, 5e9], optimizer_flops_per_step=0.0)
    accuracies = (0.91, 0.91, 0.95), (0.5, 0.92, 0.93)
    found = record(accuracies, recipe=recipe, work=work).summary.petaflops
    assert found is not None
    assert found.mean == pytest.approx((0.05 + 0.2) / 2)
    whole = record(accuracies, recipe=recipe, work=work, protocol="fixed-budget").summary.petaflops
    assert whole is not None
    assert (whole.mean, whole.low) == (pytest.approx(0.45), pytest.approx(0.45))
    assert record(((0.5, 0.6, 0.7),), recipe=recipe, work=work).summary.petaflops is None  # no time, no work
    assert record(accuracies, recipe=recipe).summary.petaflops is None


def test_a_rivals_record_has_no_work(tmp_path: Path) -> None:
    values = json.loads(to_json(record(work=WORK)))
    file = tmp_path / "one.record.json"
    file.write_text(json.dumps({**values, "program": "rival 1", "recipe": None, "recipe_hash": None}))
    with pytest.raises(InputError, match="work: there is no recipe"):
        read_record(file)


def test_the_images_of_cifar10_are_known(cifar10: Dataset) -> None:
    assert cifar10.sha256 == CIFAR10_SHA256


def test_what_no_record_can_hold_is_said_before_it_is_trained() -> None:
    (source,) = sources_of(OwnCode(sources={"net.py": OWN}))
    assert (source.file, source.sha256, source.text) == ("net.py", digest(OWN), OWN)
    with pytest.raises(InputError, match=r"^net\.py: cannot be part of a record: text: string should match"):
        sources_of(OwnCode(sources={"net.py": "x = '\x1b'"}))
    with pytest.raises(InputError, match="model Net: its source is not available; so there is no record"):
        sources_of(OwnCode(unknown=("model Net: its source is not available",)))


def test_nothing_of_a_record_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    read_record(write(tmp_path, json.loads(to_json(record_of_own(f"Net = open({str(trap)!r}, 'w')\n")))))
    assert not trap.exists()
