"""A record says only what its log bears out: every way of tampering with one is refused by file and field."""

import copy
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import ENVIRONMENT, record

from fastcifar.bench.environment import environment
from fastcifar.errors import InputError
from fastcifar.recipe import Recipe
from fastcifar.records.check import read_record, require_reached
from fastcifar.records.record import SCHEMA_VERSION, Environment, recipe_hash, schema, to_json

Values = dict[str, Any]


@pytest.fixture
def values() -> Values:
    """A good record's JSON."""
    return json.loads(to_json(record()))


def write(folder: Path, values: object) -> Path:
    file = folder / "one.record.json"
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return file


def test_a_good_record_is_read_back(tmp_path: Path, values: Values) -> None:
    file = write(tmp_path, values)
    found = read_record(file)
    require_reached(found, file)
    assert found == record()
    assert found.summary.seconds is not None
    assert found.summary.seconds.mean == 20.0  # two epochs of 10 s, evaluation not counted
    assert found.summary.final_accuracy.mean == pytest.approx((0.91 + 0.92 + 0.9123) / 3)
    assert found.summary.images_per_second.mean == pytest.approx(5000)


def test_fixed_budget_counts_the_whole_recipe_and_its_last_evaluation() -> None:
    found = record(((0.9, 0.911), (0.9, 0.912), (0.9, 0.913)), protocol="fixed-budget")
    assert found.summary.seconds is not None
    assert found.summary.seconds.mean == 21.0
    assert found.summary.p is not None
    assert found.summary.p < 0.01
    assert found.summary.reached


def test_the_schema_is_of_a_record(values: Values) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(values, schema())
    for tamper in (put("note", "trust me"), put("summary.runs", "3"), put("execution.device", "auto"), drop("runs")):
        tampered = copy.deepcopy(values)
        tamper(tampered)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tampered, schema())


def test_the_environment_here_fits_a_record() -> None:
    found = Environment.model_validate(environment())
    assert set(Environment.model_fields) == set(ENVIRONMENT) == found.model_fields_set
    assert found.cores is not None
    assert found.cores >= 1


def test_any_field_of_the_environment_may_be_missing(tmp_path: Path, values: Values) -> None:
    for field in ENVIRONMENT:
        one = copy.deepcopy(values)
        drop(f"environment.{field}")(one)
        assert getattr(read_record(write(tmp_path, one)).environment, field) is None
    assert read_record(write(tmp_path, {**values, "environment": {}})).environment == Environment()


def test_a_loader_that_is_no_more_is_still_named(tmp_path: Path, values: Values) -> None:
    put("execution.loader", "torchvision")(values)
    found = read_record(write(tmp_path, values))
    assert found.execution is not None
    assert found.execution.loader == "torchvision"


def test_a_field_left_out_of_the_recipe_is_refused_though_its_hash_is_right(tmp_path: Path, values: Values) -> None:
    """Of every version, and never filled with today's default."""
    for version in range(1, SCHEMA_VERSION + 1):
        for field, complaint in {
            "label_smoothing": "label_smoothing",
            "schedule.shape": "schedule.shape",
            "model": "model.name",
        }.items():
            one = copy.deepcopy({**values, "schema_version": version})
            drop(f"recipe.{field}")(one)
            one["recipe_hash"] = recipe_hash(one["recipe"])
            with pytest.raises(InputError, match=rf": recipe\.{re.escape(complaint)}: is missing"):
                read_record(write(tmp_path, one))


def put(path: str, value: Any) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        *folders, last = path.split(".")
        place: Any = values
        for part in folders:
            place = place[int(part) if isinstance(place, list) else part]
        place[int(last) if isinstance(place, list) else last] = value

    return change


def drop(path: str) -> Callable[[Values], None]:
    def change(values: Values) -> None:
        *folders, last = path.split(".")
        place: Any = values
        for part in folders:
            place = place[int(part) if isinstance(place, list) else part]
        del place[int(last) if isinstance(place, list) else last]

    return change


TAMPERINGS: list[tuple[Callable[[Values], None], str]] = [
    (put("summary.seconds.mean", 9.0), "summary.seconds.mean: 9.0, but from the log follows 20.0"),
    (put("summary.seconds", None), "summary.seconds: None, but from the log follows"),
    (put("summary.seconds.low", 0.0), "summary.seconds.low: 0.0"),
    (put("summary.final_accuracy.mean", 0.99), "summary.final_accuracy.mean: 0.99"),
    (put("summary.images_per_second.mean", 9e9), "summary.images_per_second.mean"),
    (put("summary.runs", 30), "summary.runs: 30, but from the log follows 3"),
    (put("summary.p", 0.001), "summary.p: 0.001"),
    (put("summary.reached", False), "summary.reached: False, but from the log follows True"),
    (put("runs.1.epochs.0.train_seconds", 5.0), "runs.1.epochs.0.images_per_second: 5000; by its seconds it is 10000"),
    (put("runs.1.epochs.0.train_seconds", -10.0), "runs.1.epochs.0.train_seconds: input should be greater than 0"),
    (put("runs.1.epochs.0.eval_seconds", -1.0), "runs.1.epochs.0.eval_seconds: input should be greater"),
    (put("runs.0.wall_seconds", 3.0), "runs.0.wall_seconds: 3 s, but its epochs took 22 s"),
    (put("runs.0.lost_seconds", 0.5), "runs.0.lost_seconds: 0.5 s, but the run was not interrupted"),
    (put("runs.0.lost_seconds", -1.0), "runs.0.lost_seconds: input should be greater than or equal to 0"),
    (put("runs.0.interruptions", -1), "runs.0.interruptions: input should be greater than or equal to 0"),
    (put("runs.2.started", "2026-11-21T00:00:00+00:00"), "runs.2.started: 2026-11-21T00:00:00+00:00 is before"),
    (put("runs.2.started", "2026-13-99T00:00:00+00:00"), "runs.2.started"),
    (put("runs.2.started", "yesterday"), "runs.2.started: string should match"),
    (
        put("runs.0.epochs.1.test_accuracy", 1.5),
        "runs.0.epochs.1.test_accuracy: input should be less than or equal to 1",
    ),
    (put("runs.0.epochs.1.test_accuracy", -0.1), "runs.0.epochs.1.test_accuracy: input should be greater"),
    (put("runs.0.epochs.1.test_accuracy", 0.91234567), "runs.0.epochs.1.test_accuracy: 0.91234567 of 10,000 images"),
    (put("runs.0.epochs.1.test_accuracy", 0.93), "summary.final_accuracy.mean"),
    (put("runs.0.epochs.1.epoch", 7), "runs.0.epochs.1.epoch: 7 stands where 2 belongs"),
    (drop("runs.0.epochs.0"), "runs.0.epochs: 1 epochs; the recipe has 2"),
    (drop("runs.1"), "runs.1.seed: 2; the seeds count up from the recipe's 0"),
    (put("runs.1.seed", 0), "runs.1.seed: 0; the seeds count up"),
    (put("runs", []), "runs: list should have at least 1 item"),
    (put("target", 0.5), "target: 0.5 is not the recipe's 0.9"),
    (put("recipe.schedule.max_lr", 0.1), "recipe_hash: is not that of the recipe, which is sha256:"),
    (put("recipe.momentum", 0.9), "recipe.momentum"),
    (put("recipe_hash", "sha256:0"), "recipe_hash: is not that of the recipe"),
    (put("recipe", None), "recipe_hash: there is no recipe"),
    (put("images.train", 1_000_000), "images.train: 1,000,000 images; by the recipe it is 50,000"),
    (put("images.test", 100), "images.test: 100 images; by the recipe it is 10,000"),
    (
        put("schema_version", SCHEMA_VERSION + 1),
        f"schema_version: {SCHEMA_VERSION + 1} is unknown; this fastcifar reads 1",
    ),
    (put("schema_version", 0), "schema_version: 0 is unknown"),
    (put("schema_version", 1.0), "schema_version: 1.0 is unknown"),
    (put("schema_version", True), "schema_version: True is unknown"),
    (drop("schema_version"), "schema_version: None is unknown"),
    (put("protocol", "best-of-many"), "protocol: input should be 'first-crossing' or 'fixed-budget'"),
    (put("note", "trust me"), "note: extra inputs are not permitted"),
    (put("environment.host", "mine"), "environment.host: extra inputs are not permitted"),
    (put("environment.gpus", -1), "environment.gpus: input should be greater than or equal to 0"),
    (put("environment.gpus", 1), "environment.gpus: 1 used, but the runs were on cpu"),
    (put("execution.device", "cuda"), "environment.gpus: 0 used, but the runs were on cuda"),
    (drop("environment"), "environment: field required"),
    (put("execution.device", "auto"), "execution.device: input should be 'cuda' or 'cpu'"),
    (put("execution.loader", "a\x1b[2Jb"), "execution.loader: string should match pattern"),
    (put("execution.workers", 2), "execution.workers: extra inputs are not permitted"),
    (drop("execution.loader"), "execution.loader: field required"),
    (put("environment.cpu", "a\x1b[2Jb"), "environment.cpu: string should match pattern"),
    *(
        (put("environment.cpu", f"a{unseen}b"), "environment.cpu: string should match pattern")
        for unseen in "\u202e\u200b\u200e\u200f\u061c\ufeff\U000e0041\U000e007f"
    ),
    (put("name", "x" * 100_000), "name: string should have at most"),
    (put("environment.memory_gib", "24"), "environment.memory_gib: input should be a valid number"),
]


@pytest.mark.parametrize(("tamper", "complaint"), TAMPERINGS, ids=[complaint[:50] for _, complaint in TAMPERINGS])
def test_tampering_is_refused_by_name(
    tmp_path: Path, values: Values, tamper: Callable[[Values], None], complaint: str
) -> None:
    tamper(values)
    file = write(tmp_path, values)
    with pytest.raises(InputError) as refusal:
        read_record(file)
    assert str(refusal.value).startswith(f"{file}: {complaint}")
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("lost", [0.9, 2.0])
def test_what_was_done_again_is_in_the_wall_seconds(tmp_path: Path, values: Values, lost: float) -> None:
    """Of 23 s its epochs took 22: there is room for what was lost, or there is not."""
    values["runs"][0] |= {"interruptions": 2, "lost_seconds": lost}
    if lost < 1:
        assert read_record(write(tmp_path, values)).runs[0].lost_seconds == lost
        return
    said = r"runs\.0\.wall_seconds: 23 s, but its epochs took 22 s, and 2 s were done again"
    with pytest.raises(InputError, match=said):
        read_record(write(tmp_path, values))


def test_a_recipe_out_of_range_is_refused_though_its_hash_is_right(tmp_path: Path, values: Values) -> None:
    values["recipe"]["schedule"]["peak_epoch"] = 90.0
    values["recipe_hash"] = recipe_hash(values["recipe"])
    with pytest.raises(InputError, match=r"recipe\.schedule\.peak_epoch: 90 is past the end of 2 epochs"):
        read_record(write(tmp_path, values))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a JSON file"),
        ("{", "not a JSON file"),
        ("[" * 100_000, "not a JSON file: nested too deeply"),
        ("[]", "not a record: a JSON object is needed"),
        ('{"schema_version": 1, "schema_version": 1}', "not a JSON file: a name stands twice in one object"),
        ('{"schema_version": NaN}', "not a JSON file: NaN is no JSON number"),
    ],
)
def test_what_is_no_record_is_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError) as refusal:
        read_record(write(tmp_path, text))
    assert complaint in str(refusal.value)


def test_a_number_past_every_float_is_refused(tmp_path: Path, values: Values) -> None:
    text = json.dumps(values).replace('"setup_seconds": 1.0', '"setup_seconds": 1e999', 1)
    with pytest.raises(InputError, match=r"runs\.0\.setup_seconds"):
        read_record(write(tmp_path, text))


def test_files_that_are_too_large_or_no_files(tmp_path: Path) -> None:
    large = tmp_path / "large.json"
    with large.open("wb") as file:
        file.truncate(2**30)  # a hole: a gigabyte that takes no place
    with pytest.raises(InputError, match="1,024 MiB; a record has at most 16"):
        read_record(large)
    with pytest.raises(InputError, match="is not a file"):
        read_record(tmp_path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_record(tmp_path / "none.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        read_record(tmp_path / "pipe")


def test_a_claim_below_its_target_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path, json.loads(to_json(record(((0.5, 0.91), (0.5, 0.89))))))
    with pytest.raises(InputError, match=r"runs\.1: never reaches the target of 90\.00%; its best is 89\.00%"):
        require_reached(read_record(file), file)


@pytest.mark.parametrize(
    ("accuracies", "complaint"),
    [
        (((0.9, 0.91),), r"summary\.p: no p, which takes two runs"),
        (((0.9, 0.91), (0.9, 0.88)), r"summary\.final_accuracy\.mean: 89\.500% is below the target"),
        (((0.9, 0.93), (0.9, 0.88)), r"summary\.p: p = 0\.\d+; fixed-budget needs p < 0\.01"),
    ],
)
def test_a_claim_above_its_p_is_refused(tmp_path: Path, accuracies: Any, complaint: str) -> None:
    file = write(tmp_path, json.loads(to_json(record(accuracies, protocol="fixed-budget"))))
    with pytest.raises(InputError, match=complaint):
        require_reached(read_record(file), file)


def test_a_run_may_stop_at_its_target_and_nowhere_else(tmp_path: Path) -> None:
    recipe = replace(Recipe(), epochs=4, stop_at_target=True, schedule=replace(Recipe().schedule, peak_epoch=1))
    read_record(write(tmp_path, json.loads(to_json(record(((0.5, 0.91), (0.5, 0.6, 0.92)), recipe=recipe)))))
    for accuracies in ((0.5, 0.8), (0.91, 0.92)):
        file = write(tmp_path, json.loads(to_json(record((accuracies,), recipe=recipe))))
        with pytest.raises(InputError, match=r"runs\.0\.epochs: 2 epochs; the recipe has 4"):
            read_record(file)


def numbers(values: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the figures are from which the record's claim follows, or that follow from it."""
    if isinstance(values, dict):
        return [found for key, one in values.items() for found in numbers(one, (*path, key))]
    if isinstance(values, list):
        return [found for key, one in enumerate(values) for found in numbers(one, (*path, key))]
    return [path] if isinstance(values, int | float) and not isinstance(values, bool) else []


# What no other figure of a record is bound to: changing it claims nothing. Nor does the accuracy of an epoch that is
# neither the last nor at the target. All versions say the same of a run on the CPU.
FREE = {
    "checkpoint_seconds",
    "schema_version",
    "setup_seconds",
    "train_loss",
    "train_accuracy",
    "test_loss",
    "learning_rate",
    "eval_seconds",
    "wall_seconds",
    "other_cores",
}
BOUND = [
    path
    for path in numbers(json.loads(to_json(record())))
    if path[0] != "environment" and not FREE & set(path) and path[2:] != ("epochs", 0, "test_accuracy")
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(BOUND),
    factor=st.floats(0.5, 2).filter(lambda factor: not math.isclose(factor, 1, rel_tol=1e-3)),
)
def test_no_bound_figure_can_be_changed(tmp_path: Path, path: tuple[Any, ...], factor: float) -> None:
    values = json.loads(to_json(record()))
    tampered = copy.deepcopy(values)
    place = tampered
    for part in path[:-1]:
        place = place[part]
    old = place[path[-1]]
    place[path[-1]] = round(old * factor) if isinstance(old, int) else old * factor
    if tampered == values:
        return
    with pytest.raises(InputError):
        read_record(write(tmp_path, tampered))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    junk=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_junk_is_refused_in_one_line(tmp_path: Path, junk: Any) -> None:
    good = json.loads(to_json(record()))
    for values in (
        junk,
        *({"schema_version": version, "runs": junk} for version in range(1, SCHEMA_VERSION + 1)),
        # None at all is what a rival's program has of the one, and an old one may have of the other.
        *({**good, "schema_version": 1, part: junk} for part in ("environment", "execution") if junk not in (None, {})),
        {**good, "runs": junk},
        {**good, "recipe": junk},
    ):
        if values == good or (isinstance(values, dict) and values.get("recipe", good["recipe"]) is None):
            continue
        with pytest.raises(InputError) as refusal:
            read_record(write(tmp_path, values))
        assert "\n" not in str(refusal.value)


RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
REAL = RESULTS / "2026-11-22-laptop-AMD-EPYC-2-cores.record.json"
REAL_TAMPERINGS = [
    ("summary.seconds.mean", 99.0),
    ("summary.seconds.low", 1.0),
    ("summary.final_accuracy.mean", 0.95),
    ("summary.final_accuracy.high", 0.99),
    ("summary.images_per_second.mean", 1e6),
    ("summary.runs", 100),
    ("summary.p", 0.0),
    ("summary.reached", False),
    ("target", 0.94),
    ("protocol", "fixed-budget"),
    ("recipe.epochs", 24),
    ("recipe.augmentation.cutout", 8),
    ("recipe_hash", "sha256:" + 64 * "0"),
    ("images.train", 25_000),
    ("runs.0.seed", 5),
    ("runs.0.epochs.7.test_accuracy", 0.95),
    ("runs.0.epochs.3.train_seconds", 1.0),
    ("runs.1.epochs.7.epoch", 9),
    ("runs.1.wall_seconds", 1.0),
    ("runs.2.started", "2020-01-01T00:00:00+00:00"),
    ("runs.2.epochs.0.images_per_second", 1e9),
    ("runs.2.epochs.0.test_accuracy", 7),
    ("schema_version", 0),
    ("environment.cores", -1),
]


def test_the_committed_record_holds() -> None:
    require_reached(read_record(REAL), REAL)


@pytest.mark.parametrize(("field", "value"), REAL_TAMPERINGS, ids=[field for field, _ in REAL_TAMPERINGS])
def test_tampering_with_the_committed_record_is_refused(tmp_path: Path, field: str, value: Any) -> None:
    values = json.loads(REAL.read_bytes())
    put(field, value)(values)
    file = write(tmp_path, values)
    with pytest.raises(InputError) as refusal:
        read_record(file)
    said = str(refusal.value).removeprefix(f"{file}: ")
    # The field itself, or the first figure that does not follow from it any more.
    follows = {
        "protocol": "summary.seconds.mean",
        "recipe.epochs": "recipe_hash",
        "recipe.augmentation.cutout": "recipe_hash",
        "runs.0.epochs.7.test_accuracy": "summary.final_accuracy.mean",
        "runs.0.epochs.3.train_seconds": "runs.0.epochs.3.images_per_second",
    }
    assert said.startswith(f"{follows.get(field, field)}: ")
