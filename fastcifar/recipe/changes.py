"""Changes to a recipe, as a TOML file or a command line makes them, and the differences between two."""

from dataclasses import asdict
from typing import Any

from fastcifar.recipe import KINDS, Recipe, gathered, scaled, validated


def merged(base: Recipe, changes: dict[str, Any], prefix: str = "") -> Recipe:
    """`base` with nested `changes`, checked: what a TOML file, or a command line, says of a recipe.

    A table of another kind than the base's begins with the defaults of its kind. With `epochs` all that is counted in
    them scales (`Recipe.with_epochs`), and with the optimizer the rates (`Recipe.with_optimizer`), unless they are
    among the changes. Raises `InputError`.
    """
    values = asdict(base)
    for key, change in changes.items():
        table = values.get(key)
        if isinstance(change, dict) and isinstance(table, dict):
            name = change.get("name", table.get("name"))
            changed = gathered(key, {**change, "name": name}) if key in KINDS else change
            values[key] = {**table, **changed} if name == table.get("name") else changed
        else:
            values[key] = change
    schedule = changes.get("schedule", {})
    if not isinstance(schedule, dict):
        return validated(values, prefix)  # which says what it is
    if "optimizer" in changes and "max_lr" not in schedule:
        optimizer = validated({"optimizer": values["optimizer"]}, prefix).optimizer
        values["schedule"] = asdict(base.with_optimizer(optimizer).schedule) | schedule
    if "epochs" in changes:
        tables = ((key, change) for key, change in changes.items() if isinstance(change, dict))
        given = {*changes, *(f"{key}.{name}" for key, change in tables for name in change)}
        for key, change in scaled(base, values["epochs"], given, prefix).items():
            if not isinstance(change, dict):
                values[key] = change
            elif isinstance(values[key], dict):  # else the check says what it is
                values[key] = values[key] | change
    return validated(values, prefix)


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """The fields that are not equal, by their dotted names, with both values."""

    def leaves(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {name: value}
        below = [leaves(one, f"{name}.{key}".lstrip(".")) for key, one in value.items()]
        return {key: one for part in below for key, one in part.items()}

    one, two = leaves(asdict(recipe), ""), leaves(asdict(other), "")
    return [f"{key} is {one.get(key)}, not {two.get(key)}" for key in one | two if one.get(key) != two.get(key)]


def passed_over(recipe: Recipe) -> list[str]:
    """What a recipe says of epochs that it does not have, a line for each field."""
    lines = []
    for name in ("image_sizes", "batch_sizes"):
        values = getattr(recipe, name)
        if set(values[recipe.epochs :]) - {*values[recipe.epochs - 1 : recipe.epochs]}:
            lines.append(f"{name}: only the first {recipe.epochs} of {len(values)} values are used")
    if late := [epoch for epoch in recipe.evaluation.epochs if epoch > recipe.epochs]:
        lines.append(f"evaluation.epochs: there is no epoch {late[0]}: epochs is {recipe.epochs}")
    if recipe.selection.leave_out and not any(map(recipe.left_out_of, range(recipe.epochs))):
        lines.append("selection: no epoch leaves out images, by after_epoch and last_epochs")
    return lines
