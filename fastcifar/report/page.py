"""The leaderboard as one HTML file that loads nothing: the records as data, and a script that draws them.

No text from a record becomes markup: the data stand in a JSON block without a `<`, the script sets text only, and the
Content-Security-Policy lets nothing run but that script.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from fastcifar.errors import InputError
from fastcifar.measure.leaderboard import Curve, Entry, Group, Published
from fastcifar.measure.record import Epoch, Interval
from fastcifar.recipe import to_toml
from fastcifar.training.run_directory import write_whole


def write_page(out: Path, groups: Sequence[Group], published: Sequence[Published], curves: Sequence[Curve]) -> Path:
    """Write index.html into the folder `out`, which is made if it is missing, and return the file's path.

    The same records give the same bytes. Raises `InputError` if the file cannot be written.
    """
    page = _page(groups, published, curves).encode()
    path = out / "index.html"
    try:
        out.mkdir(exist_ok=True)
        write_whole(path, page)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _page(groups: Sequence[Group], published: Sequence[Published], curves: Sequence[Curve]) -> str:
    style = _asset("leaderboard.css")
    script = _asset("leaderboard_chart.js") + _asset("leaderboard.js")
    data = {
        "groups": [_group(group) for group in groups],
        "published": [asdict(one) for one in published],
        "curves": [{"name": one.name, "source": one.source, "points": _points(one.points)} for one in curves],
    }
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    # One pass over the template alone, so that a $ in a record stays one.
    return Template(_asset("leaderboard.html")).substitute(
        policy=policy, style=style, script=script, data=_json_block(data)
    )


def _group(group: Group) -> dict[str, Any]:
    return {
        "division": group.division,
        "protocol": group.protocol,
        "target": group.target,
        "hardware": group.hardware,
        "data": group.data,
        "entries": [_entry(entry) for entry in group.entries],
    }


def _entry(entry: Entry) -> dict[str, Any]:
    record, summary = entry.record, entry.record.summary
    return {
        "recipe": entry.recipe,
        "loader": entry.loader,
        "file": entry.file,
        "program": record.program,
        "date": record.date,
        "n": summary.runs,
        "p": summary.p,
        "seconds": _interval(summary.seconds),
        "accuracy": _interval(summary.final_accuracy),
        "images_per_second": _interval(summary.images_per_second),
        "images": record.images.model_dump(),
        "recipe_hash": record.recipe_hash,
        "toml": None if record.recipe is None else to_toml(record.recipe),
        "execution": None if record.execution is None else asdict(record.execution),
        "environment": record.environment.model_dump(),
        "runs": [
            {
                "seed": None if run.seed is None else str(run.seed),  # a script's numbers end at 2^53
                "started": run.started,
                "setup_seconds": _short(run.setup_seconds),
                "wall_seconds": _short(run.wall_seconds),
                "epochs": [_epoch(epoch) for epoch in run.epochs],
            }
            for run in record.runs
        ],
        "curve": _points(entry.curve()),
    }


def _epoch(epoch: Epoch) -> list[float | None]:
    """In the order of the script's EPOCH_COLUMNS."""
    return [
        epoch.epoch,
        _short(epoch.train_seconds),
        _short(epoch.eval_seconds),
        _short(epoch.train_loss),
        _short(epoch.train_accuracy),
        _short(epoch.test_loss),
        _short(epoch.test_accuracy),
        _short(epoch.learning_rate),
        _short(epoch.images_per_second),
    ]


def _interval(interval: Interval | None) -> dict[str, float | None] | None:
    return None if interval is None else interval.model_dump()


def _points(points: Sequence[tuple[float, float]]) -> list[list[float | None]]:
    return [[_short(seconds), _short(accuracy)] for seconds, accuracy in points]


def _short(value: float | None) -> float | None:
    """Six digits, more than the page shows, in a third of the characters."""
    return None if value is None else float(f"{value:.6g}")


def _json_block(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element it stands in: ASCII, and none of the characters that make markup."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return resources.files("fastcifar.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
