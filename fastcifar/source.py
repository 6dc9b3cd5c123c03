"""The source of code of one's own: its text, its sha256, and whether it is all there is to what was trained with."""

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import textwrap
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from fastcifar.errors import InputError
from fastcifar.files import read_regular

LARGEST = 2**20  # bytes of a file of one's own


def digest(text: str) -> str:
    """sha256 of a source, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_source(file: Path) -> str:
    """The text of a Python file. Raises `InputError`."""
    try:
        return read_regular(file, LARGEST).decode()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: is not a text in UTF-8: {error}") from error


def source_of(value: Any, part: str) -> tuple[str, str | None, Path | None]:
    """FILE.py:NAME of a callable, the text of its file, and where that is; of a `part` that was typed in, its own text;
    None where there is none."""
    name = re.sub(r"[\x00-\x1f]", "?", getattr(value, "__qualname__", None) or type(value).__name__)
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    file = getattr(module, "__file__", None)
    if isinstance(value, partial):
        return f"python:{name}", None, None  # its arguments are in no source
    if file and Path(file).is_file():
        return f"{Path(file).name}:{name}", read_source(Path(file)), Path(file).absolute()
    try:
        text = inspect.getsource(value)
    except (OSError, TypeError):
        return f"python:{name}", None, None
    return f"notebook_{part}.py:{name}", textwrap.dedent(text), None


def beyond(name: str, text: str | None) -> str | None:
    """Why a source is not all that there is to what `name` is in it; None where it may be."""
    if text is None:
        return "its source cannot be had; put it into a file"
    if "<" in name:
        return "what it is may be said by what stands around it; give it a name at the top of its file"
    if beside := _beside(text):
        return f"its file imports {beside}, which is not installed; put that into it"
    return None


def _beside(text: str) -> str | None:
    """The first module that a source imports from where its own file lies, say: neither Python's nor installed."""
    named = [alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names]
    named += [node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    for name in (name.partition(".")[0] for name in named):
        spec = None
        if name and name not in (*sys.stdlib_module_names, "fastcifar"):
            with suppress(ImportError, ValueError):
                spec = importlib.util.find_spec(name)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        installed = tuple(map(sysconfig.get_path, ("purelib", "platlib")))
        if any(one and not one.startswith(installed) and "-packages" not in one for one in places):
            return name
    return None


def binds(text: str, name: str) -> bool:
    """Whether a module of this source may have `name` at its top; where it binds what is in no word of it, it may."""
    tree = ast.parse(text)
    if any(isinstance(node, ast.alias) and node.name == "*" for node in ast.walk(tree)):
        return True
    bound = {getattr(node, "name", None) for node in ast.walk(tree)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    aliases = [node for node in ast.walk(tree) if isinstance(node, ast.alias)]
    bound |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    return name in bound
