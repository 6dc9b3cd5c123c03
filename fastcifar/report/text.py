"""Numbers and settings as the pages say them."""

import html
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from fastcifar.recipe.tables import AnyModel, Resnet, Speednet

NONE = "–"
LONGEST_NAME = 20  # letters of a class in a picture


def number(value: float | None, form: str) -> str:
    """A number in Python's format `form`, a dash for none."""
    return NONE if value is None else format(value, form)


def percent(share: float | None, digits: int = 2) -> str:
    """A share (0 to 1) in per cent."""
    return NONE if share is None or math.isnan(share) else f"{100 * share:.{digits}f} %"


def certainty(probability: float) -> str:
    """A probability in per cent, of which none is said to be 100 %."""
    return "> 99.99 %" if probability > 0.9999 else percent(probability)


def seconds(value: object) -> str:
    """Seconds, with their unit; what is no number is none."""
    if not isinstance(value, int | float):
        return "none"
    return f"{value:,.2f} s" if value < 10 else f"{value:,.1f} s"


def four_digits(value: float | None) -> str:
    """A number with the decimals that four digits need, a dash for none."""
    return NONE if value is None else f"{value:,.{min(6, max(0, 3 - math.floor(math.log10(abs(value) or 1))))}f}"


def moment(started: str) -> str:
    """A time in ISO 8601 to the minute, in UTC; what is none stays as it is."""
    try:
        return f"{datetime.fromisoformat(started).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return started


def dotted(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested tables, each with its dotted name."""
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def flat(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Dotted names and values as they are written on a page."""
    return [(name, _said(value)) for name, value in dotted(found)]


def _said(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def brief(name: str, longest: int = LONGEST_NAME) -> str:
    """The name of a class, as long as a picture has room for."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def network_name(model: AnyModel) -> str:
    """Which network, and how wide it is where it says so."""
    match model:
        case Resnet():
            return f"{model.name}, {model.width} wide"
        case Speednet():
            return f"{model.name}, {'/'.join(map(str, model.widths))} wide"
    return model.name


def plain(text: str) -> Markup:
    """Text of a record that Markdown and the HTML in it leave as it is."""
    return Markup(re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", html.escape(text, quote=False)))
