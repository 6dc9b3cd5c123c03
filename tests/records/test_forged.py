"""A record that is forged carelessly is refused: one run given twice, what our trainer does not train, what no machine
measures."""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_records import record

from fastcifar.errors import InputError
from fastcifar.recipe import Recipe, Schedule
from fastcifar.records.check import read_record, require_reached
from fastcifar.records.record import Images, Record, Run, to_json
from fastcifar.records.summary import make_record

Values = dict[str, Any]
TWO = Recipe(epochs=2, schedule=Schedule(peak_epoch=1))


def made(recipe: Recipe = TWO, *, train: int = 50_000, test: int = 10_000, **changes: Any) -> Record:
    """A record whose every figure follows from its log, of so many images; `changes` are those of `make_record`."""
    about = record(((0.5, 0.91), (0.6, 0.92)))
    runs = [
        run.model_copy(
            update={
                "seed": recipe.seed + number,
                "epochs": [
                    one.model_copy(
                        update={
                            "test_accuracy": round((one.test_accuracy or 0) * test) / test,
                            "images_per_second": train / one.train_seconds,
                        }
                    )
                    for one in run.epochs
                ],
            }
        )
        for number, run in enumerate(about.runs)
    ]
    given: dict[str, Any] = {
        "program": about.program,
        "name": "laptop",
        "protocol": "first-crossing",
        "target": recipe.target,
        "recipe": recipe,
        "execution": None,
        "images": Images(train=train, test=test),
        "environment": about.environment.model_dump(),
        "runs": runs,
    }
    return make_record(**{**given, **changes}).model_copy(
        update={} if "execution" in changes else {"execution": about.execution}
    )


def refusal(folder: Path, found: Record | Values) -> str:
    """What is said of the record, without its file's name; empty if it holds."""
    file = folder / "one.record.json"
    file.write_bytes(to_json(found) if isinstance(found, Record) else json.dumps(found).encode())
    try:
        require_reached(read_record(file), file)
    except InputError as error:
        return str(error).removeprefix(f"{file}: ")
    return ""


def with_runs(change: Callable[[int, Run], Run], number: int = 2, **changes: Any) -> Record:
    """The made-up record with `number` runs of which each was changed."""
    runs = record(tuple((0.5, 0.91 + run / 1000) for run in range(number))).runs
    return made(runs=[change(*one) for one in enumerate(runs)], **changes)


def test_what_is_made_here_holds(tmp_path: Path) -> None:
    assert refusal(tmp_path, made()) == ""
    assert refusal(tmp_path, with_runs(lambda _, run: run, 5)) == ""


def test_one_run_given_twice_is_no_two_runs(tmp_path: Path) -> None:
    """A run and its copies, a digit changed, would settle whatever they claim."""
    first, *_, last = record(((0.5, 0.91), (0.6, 0.92), (0.7, 0.91))).runs
    again = [first, first.model_copy(update={"seed": 1, "started": "2026-11-22T01:00:00.000+00:00"})]
    forged = made(runs=again, protocol="fixed-budget")
    assert forged.summary.p is None
    said = "runs.1.epochs: are those of runs.0 to the last digit: one run, given twice"
    assert refusal(tmp_path, forged) == said
    rival = {"program": "rival 1", "recipe": None, "recipe_hash": None, "execution": None}
    unseeded = [run.model_copy(update={"seed": None}) for run in (first, last)]
    assert refusal(tmp_path, made(runs=unseeded).model_copy(update=rival)) == ""
    unseeded += [unseeded[1].model_copy(update={"started": "2026-11-23T00:00:00.000+00:00"})]
    assert refusal(tmp_path, made(runs=unseeded).model_copy(update=rival)).startswith("runs.2.epochs: are those of")


@pytest.mark.parametrize("program", ["fastcifar 0.1.0", "fastcifar", "FastCIFAR-9", " fast_cifar  1", "fastcifar-ng"])
def test_fastcifar_says_what_it_trained_and_how(tmp_path: Path, program: str) -> None:
    """Without a recipe neither target nor seeds nor epochs could be checked."""
    said = "there is none, which only a rival's program may leave out"
    assert refusal(tmp_path, made(recipe=TWO, program=program, execution=None)).startswith(f"execution: {said}")
    none = record(((0.5, 0.91),)).model_copy(update={"program": program, "recipe": None, "recipe_hash": None})
    assert refusal(tmp_path, none).startswith(f"recipe: {said}")
    assert refusal(tmp_path, none.model_copy(update={"program": "airbench", "execution": None})) == ""


@pytest.mark.parametrize(
    ("recipe", "images", "said"),
    [
        (
            {"limit_train": 10**9},
            (10**9, 10_000),
            "recipe.limit_train: 1,000,000,000 images, of which there are 50,000",
        ),
        ({"limit_test": 10_001}, (50_000, 10_001), "recipe.limit_test: 10,001 images, of which there are 10,000"),
        ({"dataset": "synthetic"}, (7, 10_000), "images.train: 7 images; by the recipe it is 50,000"),
        ({"dataset": "synthetic"}, (50_000, 100), "images.test: 100 images; by the recipe it is 10,000"),
        ({"dataset": "synthetic", "limit_train": 60_000}, (60_000, 10_000), "recipe.limit_train: 60,000 images, of"),
        ({"dataset": "synthetic", "limit_train": 7}, (7, 10_000), "recipe.batch_size: 512 is more than the 7 training"),
        ({"batch_sizes": (512, 60_000)}, (50_000, 10_000), "recipe.batch_size: 60,000 is more than the 50,000"),
        ({"dataset": "mine", "limit_train": 600}, (700, 10_000), "images.train: 700 images; by the recipe it is 600"),
        ({"validation": 50_000}, (50_000, 10_000), "recipe.validation: 50,000 of the 50,000 training images"),
        ({"validation": 5_000, "limit_train": 46_000}, (46_000, 5_000), "recipe.limit_train: 46,000 images, of which"),
        ({"dataset": "synthetic", "limit_train": 512}, (512, 10_000), ""),
        ({"dataset": "mine"}, (600, 300), ""),
        ({"dataset": "mine", "validation": 200, "limit_test": 100}, (600, 100), ""),
    ],
)
def test_no_more_images_than_there_are(tmp_path: Path, recipe: Values, images: tuple[int, int], said: str) -> None:
    found = refusal(tmp_path, made(replace(TWO, **recipe), train=images[0], test=images[1]))
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_no_epoch_after_the_target_where_the_recipe_stops(tmp_path: Path) -> None:
    recipe = replace(TWO, epochs=3, stop_at_target=True)

    def said(*accuracies: float, protocol: Any = "first-crossing") -> str:
        return refusal(tmp_path, record((accuracies,), recipe=recipe, protocol=protocol))

    assert said(0.5, 0.91) == said(0.5, 0.6, 0.91) == ""
    assert said(0.5, 0.91, 0.92) == "runs.0.epochs.2: stands after the target was reached, where the recipe stops"
    assert said(0.5, 0.91, protocol="fixed-budget") == "recipe.stop_at_target: fixed-budget times the whole recipe"


@pytest.mark.parametrize(
    ("execution", "environment", "said"),
    [
        ({}, {"gpus": 1, "gpu": "A GPU"}, "environment.gpus: 1 used, but the runs were on cpu"),
        ({}, {"gpu": "A GPU"}, "environment.gpu: one is named, but the runs were on cpu"),
        ({}, {"gpu": "A GPU", "gpus": None}, "environment.gpu: one is named, but the runs were on cpu"),
        ({"device": "cuda"}, {"gpus": None}, "environment.gpu: none is named, but the runs were on cuda"),
        ({"device": "cuda"}, {"gpus": 1}, "environment.gpu: none is named, but the runs were on cuda"),
        (None, {"gpu": "A GPU"}, "environment.gpus: 0 used, but one is named"),
        (None, {"gpus": 2}, "environment.gpus: 2 used, but none is named"),
        ({}, {"gpus": 10**50}, "environment.gpus: input should be less than or equal to 100000, got 1000000000"),
        ({}, {"cudnn": int("9" * 4000)}, "environment.cudnn: input should be less than or equal to 1000000000, got 99"),
        ({}, {"cores": 10**50}, "environment.cores: input should be less"),
        ({}, {"memory_gib": 1e300}, "environment.memory_gib: input should be less"),
        ({"loader": "auto"}, {}, "execution.loader: 'auto' is not what was executed"),
        ({"precision": "Auto "}, {}, "execution.precision: 'Auto ' is not what was executed"),
        ({"compile": ""}, {}, "execution.compile: '' is not what was executed"),
        ({"precision": "float16"}, {}, "execution.precision: float16 does not train on a CPU"),
        ({"device": "cuda", "precision": "float16"}, {"gpu": "A GPU", "gpus": 1}, ""),
        ({"device": "cuda"}, {"gpu": "A GPU", "gpus": None}, ""),
        (None, {"gpu": "A GPU", "gpus": 1}, ""),
    ],
)
def test_what_it_was_executed_on_fits_how(
    tmp_path: Path, execution: Values | None, environment: Values, said: str
) -> None:
    values = json.loads(to_json(record()))
    values["environment"] |= environment
    values["execution"] = None if execution is None else values["execution"] | execution
    values["program"] = "rival 1" if execution is None else values["program"]
    found = refusal(tmp_path, values)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def at(*starts: str) -> Callable[[int, Run], Run]:
    return lambda number, run: run.model_copy(update={"started": starts[number]})


@pytest.mark.parametrize(
    ("started", "said"),
    [
        ("0001-01-01T00:00:00+00:00", "runs.0.started: 0001-01-01T00:00:00+00:00 is before there was CIFAR-10"),
        ("2999-01-01T00:00:00+00:00", "runs.0.started: 2999-01-01T00:00:00+00:00 is yet to come"),
        ("9999-12-31T23:59:59+00:00", "runs.0.started: 9999-12-31T23:59:59+00:00 with 23 s after it is no time"),
        ((datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="milliseconds"), ""),
    ],
    ids=["long ago", "in the far future", "at the end of time", "a clock that is fast"],
)
def test_runs_are_of_a_time_that_can_be(tmp_path: Path, started: str, said: str) -> None:
    assert refusal(tmp_path, with_runs(at(started), 1)) == said


def test_one_machine_does_one_run_at_a_time(tmp_path: Path) -> None:
    """However short they are: what a clock may step, it steps once."""

    def quick(number: int, run: Run) -> Run:
        epochs = [
            epoch.model_copy(update={"train_seconds": 0.4, "eval_seconds": 0.1, "images_per_second": 50_000 / 0.4})
            for epoch in run.epochs
        ]
        began = starts[number] if number < len(starts) else starts[-1]
        return run.model_copy(update={"epochs": epochs, "wall_seconds": 1.0, "started": f"2026-11-22T{began}+00:00"})

    starts = ["10:00:00"]
    assert refusal(tmp_path, with_runs(quick, 2)).endswith("2026-11-22T10:00:00+00:00 is when the run before it began")
    starts = [f"10:00:00.{number:06}" for number in range(9)]
    assert refusal(tmp_path, with_runs(quick, 9)).endswith("is before the run before it had ended")
    starts = [f"10:00:{number:02}" for number in range(9)]
    assert refusal(tmp_path, with_runs(quick, 9)) == ""
    starts = ["10:00:00", *(f"10:00:{number:02}.200" for number in range(8))]
    assert refusal(tmp_path, with_runs(quick, 9)) == ""  # a clock that was put back by 0.8 s


def test_each_worker_does_one_run_at_a_time(tmp_path: Path) -> None:
    """In whatever order: a run that was lost is made again later."""

    def of_workers(*runs: tuple[int | None, str]) -> str:
        def made_by(number: int, run: Run) -> Run:
            worker, began = runs[number]
            return run.model_copy(update={"worker": worker, "started": f"2026-11-22T{began}+00:00"})

        return refusal(tmp_path, with_runs(made_by, len(runs)))

    assert of_workers((1, "10:00:00"), (2, "10:00:00"), (1, "10:00:23"), (2, "10:00:24")) == ""
    assert of_workers((1, "10:00:23"), (2, "10:00:00"), (1, "10:00:00"), (2, "10:00:23")) == ""
    said = "runs.2.started: 2026-11-22T10:00:09+00:00 is before the run before it had ended"
    assert of_workers((1, "10:00:00"), (2, "10:00:00"), (1, "10:00:09")) == said
    assert of_workers((None, "10:00:23"), (None, "10:00:00")).startswith("runs.1.started: 2026-11-22T10:00:00+00:00 is")


@pytest.mark.parametrize("seconds", [1e-300, 5e-324, 1e-5, 2e-5, 1e-4])
@pytest.mark.parametrize("field", ["train_seconds", "eval_seconds"])
def test_nothing_is_faster_than_memory(tmp_path: Path, field: str, seconds: float) -> None:
    """50,000 images of 3,072 bytes at 10 TB/s are 15.36 microseconds; 10,000 are 3.07."""

    def change(_: int, run: Run) -> Run:
        first, last = run.epochs
        rate = {"images_per_second": min(50_000 / seconds, 1e308)} if field == "train_seconds" else {}
        return run.model_copy(update={"epochs": [first, last.model_copy(update={field: seconds, **rate})]})

    found = refusal(tmp_path, with_runs(change, 1))
    least = {"train_seconds": 1.536e-5, "eval_seconds": 3.072e-6}[field]
    assert (found == "") == (seconds >= least)
    if found:
        assert found.startswith(f"runs.0.epochs.1.{field}: {seconds:g} s for ") or seconds == 5e-324


def test_an_epoch_of_small_images_takes_less_to_read(tmp_path: Path) -> None:
    def change(_: int, run: Run) -> Run:
        first, last = run.epochs
        quick = {"train_seconds": 5e-6, "images_per_second": 1e10}
        return run.model_copy(update={"epochs": [first.model_copy(update=quick), last]})

    assert refusal(tmp_path, with_runs(change, 1, recipe=replace(TWO, image_sizes=(16, 32)))) == ""
    assert refusal(tmp_path, with_runs(change, 1)).startswith("runs.0.epochs.0.train_seconds: 5e-06 s for 50,000")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_loss", -0.1),
        ("test_loss", -1e-9),
        ("train_seconds", 1e308),
        ("eval_seconds", 1e10),
        ("wall_seconds", 1e308),
        ("setup_seconds", 1e300),
        ("interruptions", 10**50),
    ],
)
def test_figures_out_of_all_bounds(tmp_path: Path, field: str, value: float) -> None:
    values = json.loads(to_json(record()))
    run = values["runs"][0]
    place = run if field in run else run["epochs"][0]
    place[field] = value
    name = f"runs.0.{field}" if place is run else f"runs.0.epochs.0.{field}"
    assert refusal(tmp_path, values).startswith(f"{name}: input should be ")


def test_operations_and_images_out_of_all_bounds(tmp_path: Path) -> None:
    values = json.loads(to_json(record()))
    huge = copy.deepcopy(values)
    huge["work"] = {"flops_per_image": [1e305, 1e305], "optimizer_flops_per_step": 0.0}
    assert refusal(tmp_path, huge).startswith("work.flops_per_image.0: input should be less than")
    own = json.loads(to_json(made(replace(TWO, dataset="mine"))))
    own["images"]["train"] = 10**50
    assert refusal(tmp_path, own).startswith("images.train: input should be less than")


@pytest.mark.parametrize("place", ["", "environment", "recipe"])
def test_a_table_of_more_names_than_a_record_has_is_refused_at_once(tmp_path: Path, place: str) -> None:
    """Not by a complaint for each of them, of which the first is shown."""
    values = json.loads(to_json(record()))
    (values[place] if place else values).update({f"unknown{number}": 1 for number in range(300_000)})
    file = tmp_path / "one.record.json"
    file.write_text(json.dumps(values))
    began = time.process_time()
    with pytest.raises(InputError, match="names in one object; a record's have at most 1,000"):
        read_record(file)
    assert time.process_time() - began < 1  # complaints of all would be three


def test_a_list_is_refused_by_its_first_fault(tmp_path: Path) -> None:
    values = json.loads(to_json(record()))
    values["runs"] = 20 * [{**values["runs"][0], "epochs": 100_000 * [1]}]
    began = time.process_time()
    assert refusal(tmp_path, values) == "runs.0.epochs.0: input should be an object, got 1"
    assert time.process_time() - began < 3  # with all its faults, over 10


def test_wrong_answers_have_a_loss(tmp_path: Path) -> None:
    """Of ln 2 at the least, half of all probability being another class's."""
    values = json.loads(to_json(made()))
    for loss, refused in ((0.4 * math.log(2), False), (0.39 * math.log(2), True)):
        values["runs"][1]["epochs"][0]["test_loss"] = loss
        (file := tmp_path / "one.record.json").write_text(json.dumps(values))
        if refused:
            with pytest.raises(
                InputError, match=r"runs\.1\.epochs\.0\.test_loss: .*; wrong answers alone make it 0\.277$"
            ):
                read_record(file)
        else:
            read_record(file)
