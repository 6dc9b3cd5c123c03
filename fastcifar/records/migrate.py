"""Records of earlier versions, made into records of the present one: version -> function over the raw JSON.

A function gives the next version's values for its own version's, and changes nothing in place. Its literals say what
was so before, and stay as they are whatever today's defaults become. Nobody has checked the values yet: what is not as
it should be is passed on, and refused afterwards by the check of the present version. `recipe_hash` is kept: it is that
of the recipe as it stands in the file.
"""

from collections.abc import Callable
from typing import Any

from fastcifar.recipe.migrate import with_ends, with_even_rows, with_kinds, with_selection, with_tests
from fastcifar.records.record import SCHEMA_VERSION


def _gpus_used(values: dict[str, Any]) -> dict[str, Any]:
    """1 -> 2: `environment.gpus` was the number on the machine, and is the number that the run used.

    Every program used one so far, and none where it ran on the CPU; a rival's, without an execution, one if there was.
    """
    environment, execution = values.get("environment"), values.get("execution")
    if not isinstance(environment, dict) or type(gpus := environment.get("gpus")) is not int:
        return values
    on_cpu = isinstance(execution, dict) and execution.get("device") == "cpu"
    used = min(gpus, 0 if on_cpu else 1)
    unused = {} if used else {"gpu": None, "gpu_power_limit_watts": None}
    return {**values, "environment": {**environment, "gpus": used, **unused}}


def _named_parts(values: dict[str, Any]) -> dict[str, Any]:
    """2 -> 3: the recipe names its network and optimizer; there was no custom code, and no work was counted."""
    summary = values.get("summary")
    if isinstance(summary, dict):
        values = {**values, "summary": {"petaflops": None, **summary}}
    return {"sources": [], "work": None, "evaluation": None, **values, "recipe": with_kinds(values.get("recipe"))}


def _uninterrupted(values: dict[str, Any]) -> dict[str, Any]:
    """3 -> 4: no run had been interrupted, since none could go on, and no checkpoint was written."""
    runs, execution = values.get("runs"), values.get("execution")
    if isinstance(runs, list):
        none = {"interruptions": 0, "lost_seconds": 0.0}
        values = {**values, "runs": [none | run if isinstance(run, dict) else run for run in runs]}
    if isinstance(execution, dict):
        values = {**values, "execution": {"checkpoint_seconds": None, **execution}}
    return values


def _other_programs(values: dict[str, Any]) -> dict[str, Any]:
    """4 -> 5: nobody looked at what other programs had of the CPU, and all runs were tested alike."""

    def unknown(run: Any) -> Any:
        epochs = run.get("epochs") if isinstance(run, dict) else None
        if not isinstance(epochs, list):
            return run
        return {**run, "epochs": [{"other_cores": None} | one if isinstance(one, dict) else one for one in epochs]}

    if isinstance(runs := values.get("runs"), list):
        values = {**values, "runs": [unknown(run) for run in runs]}
    return {**values, "recipe": with_tests(values.get("recipe"))}


def _all_images(values: dict[str, Any]) -> dict[str, Any]:
    """5 -> 6: every epoch was of all images."""
    return {**values, "recipe": with_selection(values.get("recipe"))}


def _no_p_without_spread(values: dict[str, Any]) -> dict[str, Any]:
    """6 -> 7: runs of one and the same final accuracy had p = 0 above the target, else 1, and could claim by it.

    And no recipe evened Muon's rows, or normalised parts of a batch.
    """
    values = {**values, "recipe": with_even_rows(values.get("recipe"))}
    summary, runs = values.get("summary"), values.get("runs")
    accuracy = summary.get("final_accuracy") if isinstance(summary, dict) else None
    if not isinstance(summary, dict) or not isinstance(accuracy, dict) or not isinstance(runs, list) or len(runs) < 2:
        return values
    if accuracy.get("low") != accuracy.get("high"):
        return values
    claimed = {"reached": False} if values.get("protocol") == "fixed-budget" else {}
    return {**values, "summary": {**summary, "p": None, **claimed}}


def _one_peak(values: dict[str, Any]) -> dict[str, Any]:
    """7 -> 8: no rate stayed at its peak, and where epochs left images out the last ones did; no runs were made at
    once."""
    if isinstance(runs := values.get("runs"), list):
        values = {**values, "runs": [{"worker": None} | run if isinstance(run, dict) else run for run in runs]}
    return {**values, "recipe": with_ends(values.get("recipe"))}


def _own_statistics(values: dict[str, Any]) -> dict[str, Any]:
    """8 -> 9: batch statistics were each process's own."""
    execution = values.get("execution")
    return {**values, "execution": {"sync_batchnorm": False, **execution}} if isinstance(execution, dict) else values


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: _gpus_used,
    2: _named_parts,
    3: _uninterrupted,
    4: _other_programs,
    5: _all_images,
    6: _no_p_without_spread,
    7: _one_peak,
    8: _own_statistics,
}


def migrated(values: dict[str, Any]) -> dict[str, Any]:
    """`values`, a record's of any version from 1 on, in the present version."""
    for version in range(values["schema_version"], SCHEMA_VERSION):
        values = {**MIGRATIONS[version](values), "schema_version": version + 1}
    return values
