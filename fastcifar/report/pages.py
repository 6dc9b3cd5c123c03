"""Pages from the templates beside this module: one file each that loads nothing, and pictures as PNG files beside it.

Text from runs and records is escaped by jinja2; the Content-Security-Policy lets nothing run or be loaded but the style
and the script in the file, by their hashes.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fastcifar.errors import InputError
from fastcifar.files import write_whole
from fastcifar.recipe.files import to_toml
from fastcifar.report.text import certainty, flat, four_digits, moment, number, percent, plain, seconds

_TEMPLATES = Environment(
    loader=PackageLoader("fastcifar.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
for _form in (number, percent, certainty, seconds, four_digits, moment, flat, plain, to_toml):
    _TEMPLATES.filters[_form.__name__] = _form


def render(template: str, *, styles: Sequence[str] = (), scripts: Sequence[str] = (), **values: Any) -> str:
    """A template with these values, and as `style`, `script` and `policy` what the files named `styles` and `scripts`
    hold and the policy that allows them."""
    style, script = _text(styles), _text(scripts)
    allowed = f"script-src '{_hash(script)}'; " if scripts else ""
    policy = (
        f"default-src 'none'; {allowed}style-src '{_hash(style)}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return _TEMPLATES.get_template(template).render(
        style=Markup(style), script=Markup(script), policy=Markup(policy), **values
    )


def write_page(folder: Path, page: str, pictures: Mapping[str, bytes] | None = None) -> Path:
    """Write index.html and PNG files by name into `folder`, which is made if it is missing; the page's path.

    Raises `InputError` where one cannot be written.
    """
    path = folder / "index.html"
    try:
        folder.mkdir(exist_ok=True)
        for name, png in (pictures or {}).items():
            write_whole(folder / f"{name}.png", png)
        write_whole(path, page.encode())
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return path


def _text(names: Sequence[str]) -> str:
    return "".join((resources.files("fastcifar.report") / "templates" / name).read_text() for name in names)


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
