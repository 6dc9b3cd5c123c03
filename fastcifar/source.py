"""The source of custom code: its text, its sha256, and whether it is all there is to what was trained with."""

import ast
import hashlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import textwrap
from functools import partial
from pathlib import Path
from typing import Any

from fastcifar.errors import InputError
from fastcifar.files import read_regular

LARGEST = 2**20  # bytes of a custom file


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
        return "its source is not available; put it into a file"
    if "<" in name:
        return "a lambda or nested function may depend on the code around it; define it at the top level of its file"
    tree = _parsed(text)
    if tree is None or not binds(text, name):
        return "its file does not define that name; define it there"
    if beside := _beside(tree):
        return f"its file imports {beside}, which is not installed; put that code into the file"
    return None


def _beside(node: ast.AST) -> str | None:
    """The first module that a source imports from where its own file lies, or from nowhere: neither Python's nor
    installed. What it tries to import need not be there, and what is for types is not imported."""
    for child in ast.iter_child_nodes(node):
        names: list[str] = []
        match child:
            case ast.If() if "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            case ast.Import():
                names = [alias.name.partition(".")[0] for alias in child.names]
            case ast.ImportFrom(level=level):
                names = ["from its own package" if level else (child.module or "").partition(".")[0]]
        wanted = next((name for name in names if not _installed(name, needed=not isinstance(node, ast.Try))), None)
        if found := wanted or _beside(child):
            return found
    return None


def _installed(name: str, *, needed: bool) -> bool:
    if name in (*sys.stdlib_module_names, "fastcifar"):
        return True
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return not needed
    places = [place for place in (spec.origin, *(spec.submodule_search_locations or ())) if place]
    installed = tuple(map(sysconfig.get_path, ("purelib", "platlib")))
    return all(place.startswith(installed) or "-packages" in place for place in places)


def binds(text: str, name: str) -> bool:
    """Whether a word of this source gives something what NAME of FILE.py:NAME begins with; not if it is no Python."""
    tree = _parsed(text)
    if tree is None:
        return False
    if any(isinstance(node, ast.alias) and node.name == "*" for node in ast.walk(tree)):
        return True
    bound = {getattr(node, "name", None) for node in ast.walk(tree)}
    bound |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    aliases = [node for node in ast.walk(tree) if isinstance(node, ast.alias)]
    bound |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    return name.partition(":")[2].partition(".")[0] in bound


def _parsed(text: str) -> ast.AST | None:
    try:
        return ast.parse(text.lstrip("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # no Python
        return None
