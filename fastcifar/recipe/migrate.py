"""Recipes of earlier formats: records of versions 1 and 2, and run.json of format 1, in the recipe's present fields.

What stands here is what was so before, written out, and stays as it is whatever today's defaults become.
"""

import copy
from typing import Any

# There was one network, one optimizer, no average of weights, and a test was one plain answer to each image.
_NAMES = {"model": "resnet", "optimizer": "adam"}
_FIELDS: dict[str, Any] = {
    "batch_sizes": [],
    "image_sizes": [],
    "dataset_sha256": None,
    "average": {"name": "none", "decay": 0.95, "every": 5, "ramp": 3.0},
    "evaluation": {"tta": "none", "weights": "average"},
}
_AUGMENTATION = {"brightness": 0.0, "contrast": 0.0, "own": None, "own_sha256": None}


def with_tests(values: Any) -> Any:
    """A recipe's JSON from before it said when and on what a network is tested: after every epoch, on test images.

    It is of version 4 of records; as in `with_kinds`, what is none is passed on.
    """
    if not isinstance(values, dict):
        return values
    evaluation = values.get("evaluation")
    tested = {"evaluation": {"epochs": [], **evaluation}} if isinstance(evaluation, dict) else {}
    return {"validation": None, **values, **tested}


def with_selection(values: Any) -> Any:
    """A recipe's JSON from before an epoch could leave images out: it is of version 5 of records.

    As in `with_kinds`, what is none is passed on.
    """
    return {"selection": {"leave_out": 0.0, "after_epoch": 1}, **values} if isinstance(values, dict) else values


def with_even_rows(values: Any) -> Any:
    """A recipe's JSON from before Muon could even an update's rows and batch normalisation take part of a batch: it is
    of version 6 of records. As in `with_kinds`, what is none is passed on.
    """
    if not isinstance(values, dict):
        return values
    new: dict[tuple[str, str], dict[str, Any]] = {
        ("optimizer", "muon"): {"second_momentum": 0.0},
        ("model", "speednet"): {"norm_images": None},
    }
    filled = {
        table: {**fields, **values[table]}
        for (table, name), fields in new.items()
        if isinstance(values.get(table), dict) and values[table].get("name") == name
    }
    return {**values, **filled}


def with_ends(values: Any) -> Any:
    """A recipe's JSON from before a rate could stay at its peak, and the last epochs be of all images where others are
    not: it is of version 7 of records. As in `with_kinds`, what is none is passed on.
    """
    if not isinstance(values, dict):
        return values
    new: dict[str, dict[str, Any]] = {"schedule": {"hold_epochs": 0.0}, "selection": {"last_epochs": 0}}
    filled = {
        table: {**fields, **values[table]} for table, fields in new.items() if isinstance(values.get(table), dict)
    }
    return {**values, **filled}


def with_kinds(values: Any) -> Any:
    """A recipe's JSON from before its networks and optimizers had names, with what has come since.

    Nothing is changed in place, and what stands there stays. Nobody has checked the values yet: what is not as it
    should be is passed on.
    """
    if not isinstance(values, dict):
        return values
    tables = {table: {"name": name} for table, name in _NAMES.items()} | {"augmentation": _AUGMENTATION}
    filled = {
        table: {**fields, **values[table]} for table, fields in tables.items() if isinstance(values.get(table), dict)
    }
    return copy.deepcopy({**_FIELDS, **values, **filled})
