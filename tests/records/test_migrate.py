"""A record of any version from 1 on is read by this program, as it stands in its file."""

import copy
import hashlib
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from made_records import record

from fastcifar.errors import InputError
from fastcifar.recipe import (
    Adam,
    Augmentation,
    Average,
    Evaluation,
    Muon,
    Recipe,
    Resnet,
    Schedule,
    Selection,
    Speednet,
)
from fastcifar.recipe.migrate import with_ends, with_even_rows, with_kinds
from fastcifar.records.check import read_record, require_reached
from fastcifar.records.migrate import MIGRATIONS, migrated
from fastcifar.records.protocol import ProtocolName
from fastcifar.records.record import SCHEMA_VERSION, Record, recipe_hash, to_json

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
# Records of earlier versions, none of which is ever edited: sha256 of their bytes, version. Those that are no results
# any more, since their checkout had been changed, lie beside this file.
KEPT = {
    "laptop": ("caa92d4db68585ad2acb7cbfc97da3a9b86bb5d88db15b6eaa1d1cc2b570ffda", 1),
    "peers-fastcifar": ("2819b7cc4cc21d8c2735e306baa5d085f35b3c42c654d67a23fee45f2e2ca206", 1),
    "peers-plain_pytorch": ("7e5735c3704250c3fa5456f40a36358dca48bc7970938d4f728674fec1ed88de", 1),
}


def first_version(**changes: Any) -> dict[str, Any]:
    """The made-up record as version 1 had it; `changes` are of its environment."""
    values = json.loads(to_json(record()))
    values["environment"] |= changes
    return {**values, "schema_version": 1}


def read(folder: Path, values: dict[str, Any]) -> Record:
    file = folder / "one.record.json"
    file.write_text(json.dumps(values))
    return read_record(file)


def test_every_version_leads_to_the_present_one() -> None:
    assert set(MIGRATIONS) == set(range(1, SCHEMA_VERSION))


@pytest.mark.parametrize("name", KEPT)
def test_the_records_kept_are_read_through_every_migration(name: str) -> None:
    folder, (digest, version) = RESULTS if name == "laptop" else Path(__file__).with_name("kept"), KEPT[name]
    file = folder / f"2026-11-22-{name}-AMD-EPYC-2-cores.record.json"
    assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
    values = json.loads(file.read_bytes())
    assert values["schema_version"] == version
    for number in range(version, SCHEMA_VERSION):
        before = copy.deepcopy(values)
        after = MIGRATIONS[number](values)
        assert values == before  # nothing is changed in place
        values = {**after, "schema_version": number + 1}
    assert values == migrated(json.loads(file.read_bytes()))
    found = read_record(file)
    require_reached(found, file)
    assert found == Record.model_validate_json(json.dumps(values))
    assert found.recipe_hash == recipe_hash(json.loads(file.read_bytes())["recipe"])
    assert [run.model_dump() for run in found.runs] == values["runs"]


@pytest.mark.parametrize(
    ("environment", "execution", "used"),
    [
        ({"gpu": "A GPU", "gpus": 8}, {"device": "cuda"}, ("A GPU", 1, 700.0)),
        ({"gpu": "A GPU", "gpus": 8}, {"device": "cpu"}, (None, 0, None)),
        ({"gpu": "A GPU", "gpus": 8}, None, ("A GPU", 1, 700.0)),  # a rival's program
        ({"gpu": None, "gpus": 0, "gpu_power_limit_watts": None}, None, (None, 0, None)),
    ],
)
def test_of_the_machines_gpus_those_that_were_used_count(
    tmp_path: Path, environment: dict[str, Any], execution: dict[str, Any] | None, used: tuple[object, ...]
) -> None:
    values = first_version(gpu_power_limit_watts=700.0, **environment) if environment["gpus"] else first_version()
    values["execution"] = execution and {**values["execution"], **execution}
    values["program"] = values["program"] if execution else "rival 1"
    found = read(tmp_path, values).environment
    assert (found.gpu, found.gpus, found.gpu_power_limit_watts) == used


# What came with version 3, as it was before: written out, and never to be made from today's defaults.
BEFORE_3: dict[str, Any] = {
    "batch_sizes": [],
    "image_sizes": [],
    "dataset_sha256": None,
    "average": {"name": "none", "decay": 0.95, "every": 5, "ramp": 3.0},
    "evaluation": {"tta": "none", "weights": "average"},
}


def second_version() -> dict[str, Any]:
    """The made-up record as version 2 had it, without what has come since."""
    values = json.loads(to_json(record()))
    recipe = {key: one for key, one in values["recipe"].items() if key not in BEFORE_3}
    for table, new in {"model": ["name"], "optimizer": ["name"], "augmentation": AUGMENTATION}.items():
        recipe[table] = {key: one for key, one in recipe[table].items() if key not in new}
    summary = {key: one for key, one in values["summary"].items() if key != "petaflops"}
    old = {key: one for key, one in values.items() if key not in ("sources", "work", "evaluation")}
    return {**old, "schema_version": 2, "recipe": recipe, "recipe_hash": recipe_hash(recipe), "summary": summary}


AUGMENTATION = {"brightness": 0.0, "contrast": 0.0, "own": None, "own_sha256": None}


@pytest.mark.parametrize("version", [1, 2])
def test_what_came_with_the_third_version_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Whatever today's defaults are: here they are made to be others."""
    old = {**second_version(), "schema_version": version}
    for table in (Resnet, Adam, Augmentation, Average, Evaluation):
        made = table()
        others = tuple("changed" for _ in fields(made))
        monkeypatch.setattr(table.__init__, "__defaults__", others)
        assert asdict(table()) != asdict(made)
    before = copy.deepcopy(old)
    new = migrated(old)
    assert old == before
    assert new["recipe"] == {
        **old["recipe"],
        **BEFORE_3,
        "evaluation": {**BEFORE_3["evaluation"], "epochs": []},
        "model": {"name": "resnet", **old["recipe"]["model"]},
        "optimizer": {"name": "adam", **old["recipe"]["optimizer"]},
        "augmentation": {**AUGMENTATION, **old["recipe"]["augmentation"]},
    }
    assert (new["sources"], new["work"], new["evaluation"], new["summary"]["petaflops"]) == ([], None, None, None)
    new["recipe"]["average"]["decay"] = 0.5
    assert migrated(old)["recipe"]["average"]["decay"] == 0.95  # nothing is shared
    monkeypatch.undo()
    found = read(tmp_path, old)
    assert found.recipe == record().recipe
    assert found.recipe_hash == old["recipe_hash"] != record().recipe_hash


@pytest.mark.parametrize("version", [1, 2])
def test_a_recipe_of_before_with_another_hash_is_refused(tmp_path: Path, version: int) -> None:
    """Even one that is right for the recipe as the migration fills it."""
    old = {**second_version(), "schema_version": version}
    for wrong in ("sha256:" + 64 * "0", recipe_hash(migrated(old)["recipe"])):
        with pytest.raises(InputError, match="recipe_hash: is not that of the recipe, which is sha256:"):
            read(tmp_path, {**old, "recipe_hash": wrong})
    old["recipe"]["label_smoothing"] = 0.3
    with pytest.raises(InputError, match="recipe_hash: is not that of the recipe"):
        read(tmp_path, old)


@pytest.mark.parametrize("junk", [None, [], "x", {}, {"model": 3}, {"model": None, "optimizer": [], "augmentation": 1}])
def test_a_recipe_that_is_none_is_passed_on(junk: Any) -> None:
    filled = with_kinds(junk)
    assert filled == ({**BEFORE_3, **junk} if isinstance(junk, dict) else junk)


def test_before_the_sixth_version_every_epoch_was_of_all_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {**json.loads(to_json(record())), "schema_version": 5}
    selection = values["recipe"].pop("selection")
    values["recipe_hash"] = recipe_hash(values["recipe"])
    monkeypatch.setattr(Selection.__init__, "__defaults__", (0.5, 2, 1))
    assert (
        migrated(values)["recipe"]["selection"] == selection == {"leave_out": 0.0, "after_epoch": 1, "last_epochs": 0}
    )
    monkeypatch.undo()
    assert read(tmp_path, values).recipe == record().recipe


def test_before_the_seventh_version_no_row_was_evened_and_no_batch_parted(tmp_path: Path) -> None:
    recipe = Recipe(epochs=2, schedule=Schedule(peak_epoch=1), model=Speednet(), optimizer=Muon())
    present = record(recipe=recipe)
    values = {**json.loads(to_json(present)), "schema_version": 6}
    assert values["recipe"]["optimizer"].pop("second_momentum") == 0
    assert values["recipe"]["model"].pop("norm_images", "") is None
    values["recipe_hash"] = recipe_hash(values["recipe"])
    assert read(tmp_path, values).recipe == present.recipe
    for junk in (None, [], {"model": 3, "optimizer": {"name": "adam"}}):
        assert with_even_rows(junk) == junk


@pytest.mark.parametrize("protocol", ["fixed-budget", "first-crossing"])
def test_before_the_seventh_version_equal_accuracies_had_a_p(tmp_path: Path, protocol: ProtocolName) -> None:
    present = record(((0.5, 0.95), (0.6, 0.95)), protocol=protocol)
    values = {**json.loads(to_json(present)), "schema_version": 6}
    values["summary"] |= {"p": 0.0, "reached": True}
    found = read(tmp_path, values)
    assert found == present
    assert (found.summary.p, found.summary.reached) == (None, protocol == "first-crossing")


def test_before_the_eighth_version_no_rate_stayed_at_its_peak(tmp_path: Path) -> None:
    present = record()
    values = {**json.loads(to_json(present)), "schema_version": 7}
    assert values["recipe"]["schedule"].pop("hold_epochs") == 0
    assert values["recipe"]["selection"].pop("last_epochs") == 0
    values["recipe_hash"] = recipe_hash(values["recipe"])
    assert read(tmp_path, values).recipe == present.recipe
    for junk in (None, [], {"schedule": 3}):
        assert with_ends(junk) == junk


def test_before_the_ninth_version_batch_statistics_were_each_processs_own(tmp_path: Path) -> None:
    present = record()
    values = {**json.loads(to_json(present)), "schema_version": 8}
    assert values["execution"].pop("sync_batchnorm") is False
    assert read(tmp_path, values) == present
    assert MIGRATIONS[8]({**values, "execution": None})["execution"] is None  # a rival's


def test_what_the_second_version_says_was_used_stands(tmp_path: Path) -> None:
    values = first_version(gpu="A GPU", gpus=8)
    values["execution"]["device"] = "cuda"
    assert read(tmp_path, {**values, "schema_version": 2}).environment.gpus == 8


def test_the_hash_is_that_of_the_recipe_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration may fill fields that came later: the hash is checked before it, and kept."""
    values = first_version()
    del values["recipe"]["label_smoothing"]  # as if this field had come with version 2
    values["recipe_hash"] = recipe_hash(values["recipe"])
    with pytest.raises(InputError, match=r"recipe\.label_smoothing: is missing"):
        read(tmp_path, values)
    fill = MIGRATIONS[1]
    monkeypatch.setitem(MIGRATIONS, 1, lambda old: {**fill(old), "recipe": {**old["recipe"], "label_smoothing": 0.125}})
    found = read(tmp_path, values)
    assert found.recipe is not None
    assert found.recipe.label_smoothing == 0.125
    assert found.recipe_hash == values["recipe_hash"]
    with pytest.raises(InputError, match="recipe_hash: is not that of the recipe"):
        read(tmp_path, {**values, "recipe_hash": recipe_hash({**values["recipe"], "label_smoothing": 0.125})})


@pytest.mark.parametrize(
    ("field", "value"), [("gpus", -1), ("gpus", "8"), ("gpus", True), ("gpus", 1.5), ("gpu", 8), ("gpu", "\x1b[2J")]
)
def test_what_is_no_first_version_is_refused_by_name(tmp_path: Path, field: str, value: object) -> None:
    values = first_version(**{"gpu": "A GPU", "gpus": 8, field: value})
    values["execution"] = None
    with pytest.raises(InputError, match=rf"environment\.{field}: "):
        read(tmp_path, values)


def third_version() -> dict[str, Any]:
    """The made-up record as version 3 had it."""
    values = json.loads(to_json(record()))
    for run in values["runs"]:
        del run["interruptions"], run["lost_seconds"]
    del values["execution"]["checkpoint_seconds"]
    return {**values, "schema_version": 3}


def test_before_the_fourth_version_no_run_was_interrupted(tmp_path: Path) -> None:
    old = third_version()
    before = copy.deepcopy(old)
    new = migrated(old)
    assert old == before
    assert [(run["interruptions"], run["lost_seconds"]) for run in new["runs"]] == [(0, 0.0)] * len(old["runs"])
    assert new["execution"]["checkpoint_seconds"] is None  # there were none
    found = read(tmp_path, old)
    assert found.summary == record().summary
    for junk in ([3], {}, 3):
        migrated({**old, "runs": junk, "execution": junk})  # refused later, by name


def fourth_version() -> dict[str, Any]:
    """The made-up record as version 4 had it."""
    values = json.loads(to_json(record()))
    for run in values["runs"]:
        for epoch in run["epochs"]:
            del epoch["other_cores"]
    recipe = {key: one for key, one in values["recipe"].items() if key != "validation"}
    recipe["evaluation"] = {key: one for key, one in recipe["evaluation"].items() if key != "epochs"}
    return {**values, "schema_version": 4, "recipe": recipe, "recipe_hash": recipe_hash(recipe)}


def test_before_the_fifth_version_test_images_were_tested_on_and_nobody_looked_beside(tmp_path: Path) -> None:
    old = fourth_version()
    before = copy.deepcopy(old)
    new = migrated(old)
    assert old == before
    assert (new["recipe"]["validation"], new["recipe"]["evaluation"]["epochs"]) == (None, [])
    assert all(epoch["other_cores"] is None for run in new["runs"] for epoch in run["epochs"])
    found = read(tmp_path, old)
    assert (found.recipe, found.summary) == (record().recipe, record().summary)
    for junk in ([3], {}, 3, [{"epochs": 3}], [{"epochs": [3]}]):
        migrated({**old, "runs": junk, "recipe": junk})  # refused later, by name
