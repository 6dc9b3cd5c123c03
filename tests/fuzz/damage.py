"""Ways to make something wrong of something right: of nested values, of bytes, of a folder."""

import copy
import json
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from random import Random
from typing import Any

NUMBERS = [0, 1, -1, 2, 7, 255, 10**6, 2**31, 2**63 - 1, 2**63, 10**30, -(10**30), 0.0, -0.0, 0.5, 1.5]
NUMBERS += [1e308, -1e308, 5e-324, 1e-9, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", " ", "a", "x" * 300, "x" * 70_000, "\x1b[31mred\x1b[0m", "\u202eevil", "\u200b", "a\nb", "a\tb", "\0", "é"]
TEXTS += [
    "../outside/victim.json",
    "..",
    ".",
    "/",
    "/dev/zero",
    "~",
    "$HOME",
    "<script>alert(1)</script>",
    "%s{0}{{x}}",
]
TEXTS += [
    "[bold]x[/bold]",
    ":smile:",
    "\U0001f600",
    "ﬁ",
    "\U000e0041",
    "auto",
    "none",
    "seed",
    "cifar10",
    "file.py:name",
]
TEXTS += ["1", "1e999", "nan", "true", "null", "name:", ":name", "a:b:c", "-1", "--out", "2026-01-01", "0x10", "1_000"]
TOKENS = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"\x80",
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"'",
    b"=",
    b":",
    b",",
    b"\n",
    b"\r",
    b"#",
    b"\\",
]
TOKENS += [b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"1e400", b"NaN", b"-Infinity", b"null", b"true", b"9" * 5000]
TOKENS += [b"[" * 5000, b'{"a":' * 3000, b"a." * 3000, b"\xe2\x80\xae", b"\x1b[2J", b"inf", b"[[runs]]", b"1979-05-27"]


def value(random: Random, depth: int = 0) -> Any:
    """One that hardly anything is meant to be."""
    kind = random.randrange(8 if depth < 3 else 5)
    if kind < 2:
        return random.choice(NUMBERS)
    if kind < 4:
        return random.choice(TEXTS)
    if kind == 4:
        return random.choice([True, False, None, [], {}, date(2026, 1, 1)])
    if kind == 5:
        return [value(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 6:
        return {random.choice(TEXTS): value(random, depth + 1) for _ in range(random.randrange(3))}
    return nested(random.choice([3, 50, 400]), random.choice([list, dict]))


def nested(depth: int, kind: type) -> Any:
    """Lists in lists, or tables in tables."""
    found: Any = kind()
    for _ in range(depth):
        found = [found] if kind is list else {"a": found}
    return found


def tree(random: Random, values: Any) -> Any:
    """`values`, dicts and lists in each other, with one to three of their places made wrong."""
    values = copy.deepcopy(values)
    for _ in range(random.choice([1, 1, 2, 3])):
        places = list(_places(values))
        if not places:
            return value(random)
        holder, key = random.choice(places)
        _change(random, holder, key, places)
    return values


def _places(values: Any, depth: int = 0) -> Any:
    if depth > 30:
        return
    keys = list(values) if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ()
    for key in keys:
        yield values, key
        yield from _places(values[key], depth + 1)


def _change(random: Random, holder: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
    """The one place, or the table or list that it is in."""
    old = holder[key]
    match random.randrange(9):
        case 0 | 1:
            holder[key] = value(random)
        case 2:
            del holder[key]
        case 3:
            holder[key] = random.choice([str(old), [old], {"a": old}, {str(key): old}])
        case 4 if type(old) in (int, float):
            holder[key] = random.choice([-old, old + 1, old * 1000, float(old), 1 / (old or 1), old + 1e-9])
        case 4 if isinstance(old, str):
            holder[key] = random.choice([old + random.choice(TEXTS), old.upper(), old[:-1], old * 2])
        case 4 if isinstance(old, list):
            holder[key] = random.choice([old * 2, old[:-1], old[::-1], [*old, value(random)]])
        case 5 if isinstance(holder, dict):
            holder[random.choice(TEXTS)] = value(random)
        case 6:
            other, place = random.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                holder[key] = copy.deepcopy(other[place])
        case 7 if isinstance(holder, dict):
            holder[f"{key}{random.choice(TEXTS[:12])}"] = holder.pop(key)
        case _:
            holder[key] = value(random)


def content(random: Random, old: bytes) -> bytes:
    """`old` with bytes changed, left out, put in or doubled; or other bytes."""
    if random.randrange(12) == 0:
        return random.choice([b"", random.randbytes(random.choice([1, 8, 100, 1000]))])
    found = bytearray(old)
    for _ in range(random.choice([1, 1, 2, 5])):
        at = random.randrange(len(found) + 1)
        end = min(len(found), at + random.choice([1, 2, 10, 100]))
        match random.randrange(6):
            case 0 if at < len(found):
                found[at] = random.randrange(256)
            case 1:
                del found[at:end]
            case 2:
                found[at:at] = random.choice(TOKENS)
            case 3:
                found[at:at] = found[at:end]
            case 4:
                del found[at:]
            case _:
                found[at:end] = random.choice(TOKENS)
    return bytes(found)


def as_json(random: Random, values: Any) -> bytes:
    """A JSON file of damaged values, its text damaged now and then."""
    text = json.dumps(tree(random, values), default=str, indent=random.choice([None, 1])).encode()
    return content(random, text) if random.randrange(4) == 0 else text


def folder(random: Random, place: Path, outside: Path) -> None:
    """Damage one to three things in a folder: files changed, gone, or another kind of thing; others put there.

    Links lead to `outside`, to nowhere, to themselves, or to a device.
    """
    for _ in range(random.choice([1, 1, 2, 3])):
        # What a command removes from a run itself is damaged as well, so all is sorted, by name.
        there = sorted(path for path in place.rglob("*") if not path.is_symlink())
        path = random.choice(there) if there and random.randrange(4) else place / random.choice(NAMES)
        if random.randrange(8) == 0:
            path = path.parent / random.choice(NAMES)
        if not path.parent.is_dir() or path == place:
            continue
        old = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        _remove(path)
        random.choice(_THINGS)(random, path, old, outside)


NAMES = [
    ".x.01234567.tmp",
    ".run.json.01234567.tmp",
    "checkpoints",
    "report",
    "run.json",
    "a\x1b[31m",
    "b\u202e",
    "c\nd",
]
NAMES += [
    "x" * 250,
    "\udcff\udc80",
    "-rf",
    "train",
    "test",
    "events.jsonl",
    "steps.csv",
    "checkpoints/session.json",
    "x.record.json",
]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        for one in path.iterdir():
            _remove(one)
        path.rmdir()
    elif path.is_symlink() or path.exists():
        path.unlink()


def _bytes(random: Random, path: Path, old: bytes, outside: Path) -> None:
    path.write_bytes(content(random, old))


def _values(random: Random, path: Path, old: bytes, outside: Path) -> None:
    """JSON, a whole file of it or a line each, stays JSON."""
    try:
        lines = [old] if path.suffix == ".json" else old.splitlines()
        path.write_bytes(b"\n".join(as_json(random, json.loads(line)) for line in lines))
    except (ValueError, RecursionError):
        path.write_bytes(content(random, old))


def _nothing(random: Random, path: Path, old: bytes, outside: Path) -> None:
    """It is gone."""


def _folder(random: Random, path: Path, old: bytes, outside: Path) -> None:
    path.mkdir()
    if random.randrange(2):
        (path / "session.json").write_text("{}")


def _link(random: Random, path: Path, old: bytes, outside: Path) -> None:
    inside = [outside / "victim.json", outside, outside / "checkpoints"]
    path.symlink_to(random.choice([*inside, path, path.parent, Path("nowhere"), Path("/dev/zero"), Path("/dev/null")]))


def _pipe(random: Random, path: Path, old: bytes, outside: Path) -> None:
    os.mkfifo(path)


_THINGS: list[Callable[[Random, Path, bytes, Path], None]]
_THINGS = [_bytes, _bytes, _values, _values, _values, _nothing, _folder, _link, _link, _pipe]
