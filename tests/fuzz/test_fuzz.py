"""Whatever a command is given, it ends with 0 or 2 and one clear line, soon, and writes nowhere but where it was told.

Of six kinds of input 2,000 in all, always the same; `FASTCIFAR_FUZZ=50000` makes so many, others each time.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import tomli_w
from fuzz import damage
from fuzz.sandbox import Sandbox, counted
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from made_records import record, record_of_own
from matplotlib import font_manager  # noqa: F401 (its files in the home are its own, made at its first import)
from PIL import Image

import fastcifar
from fastcifar.commands.command import COMMANDS
from fastcifar.commands.parse import flags_of
from fastcifar.execution import Execution
from fastcifar.recipe import Recipe, Resnet, Schedule
from fastcifar.recipe.files import load_recipe, shipped_recipes, to_toml
from fastcifar.records.record import to_json
from fastcifar.training.log import EpochLog, Observer

SHARES = {"recipes": 1350, "records": 300, "headers": 60, "runs": 30, "command lines": 210, "data folders": 50}
ASKED = int(os.environ.get("FASTCIFAR_FUZZ", 0))
# Each input has its own limit, by the signal that pytest-timeout would use.
pytestmark = pytest.mark.timeout(0 if ASKED else 300, method="thread")
CPU = Execution(device="cpu", loader="fused", precision="float32", compile="off", checkpoint_seconds=0.001)
TINY = Recipe(
    epochs=2,
    batch_size=4,
    limit_train=8,
    limit_test=8,
    dataset="synthetic",
    model=Resnet(width=1),
    schedule=Schedule(min_lr=0.001, max_lr=0.01, peak_epoch=1),
)


class Stop(Observer):
    """Ends a run in its second epoch, as Ctrl-C would."""

    def epoch(self, log: EpochLog) -> None:
        if log.epoch == 2:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is valid: `run` and `other`, finished; `stopped`; `images`, a folder of them, and `own`, a run on it."""
    folder = tmp_path_factory.mktemp("things")
    for split in ("train", "test"):
        for number, name in enumerate("ab"):
            place = folder / "images" / split / name
            place.mkdir(parents=True)
            for one, (suffix, mode) in enumerate([("png", "RGB"), ("bmp", "L"), ("gif", "P"), ("jpg", "RGB")]):
                image = Image.new(mode, (8 + one, 9), 40 * number + one)
                image.save(place / f"{one}.{suffix}")
    for name in ("run", "other"):
        fastcifar.train(TINY, execution=CPU, out=folder / name)
    with pytest.raises(KeyboardInterrupt):
        fastcifar.train(TINY, execution=CPU, out=folder / "stopped", observers=[Stop()])
    asked = {"dataset": str(folder / "images"), "limit_train": None, "limit_test": None}
    fastcifar.train(Recipe(**{**vars(TINY), **asked}), execution=CPU, out=folder / "own")
    return folder


def fuzz(kind: str, sandbox: Sandbox, one: Callable[[Random], None]) -> None:
    """Try as many inputs as are the kind's share, each made by `one` of what it draws."""
    about: dict[str, Any] = {"derandomize": True, "max_examples": SHARES[kind]}
    if ASKED:
        about = {"max_examples": max(1, ASKED * SHARES[kind] // sum(SHARES.values()))}

    @settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate], **about)
    @given(st.randoms(use_true_random=False))
    def each(random: Random) -> None:
        sandbox.fresh()
        one(random)

    with counted(sandbox, kind):
        each()


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "sandbox")


def without_none(values: Any) -> Any:
    """TOML has no word for it."""
    if isinstance(values, dict):
        return {str(key): without_none(one) for key, one in values.items() if one is not None}
    return [without_none(one) for one in values if one is not None] if isinstance(values, list) else values


def test_recipe_files(sandbox: Sandbox) -> None:
    texts = [to_toml(load_recipe(name)).encode() for name in shipped_recipes()]
    texts += [b'base = "laptop"\nepochs = 3\n', b'[model]\nname = "net.py:Net"\nwidth = 3\n']
    import tomllib

    trees = [tomllib.loads(text.decode()) for text in texts]

    def one(random: Random) -> None:
        file = sandbox.given / "mine.toml"
        if random.randrange(3):
            try:
                text = tomli_w.dumps(without_none(damage.tree(random, random.choice(trees))))
            except (AttributeError, TypeError, ValueError, RecursionError):  # no table is TOML, nor a tree that deep
                text = ""
            file.write_bytes(text.encode("utf-8", "surrogatepass"))
        else:
            file.write_bytes(damage.content(random, random.choice(texts)))
        match random.randrange(20):
            case 0:
                sandbox.run("summary", "--recipe", str(file))
            case 1:
                out = str(sandbox.out / "run")
                sandbox.run("train", "--recipe", str(file), "--out", out, "--compile", "off", "--device", "cpu")
            case _:
                sandbox.run("recipe", str(file))

    fuzz("recipes", sandbox, one)


def test_records(sandbox: Sandbox) -> None:
    made = [
        record(),
        record(((0.91, 0.92), (0.93, 0.94), (0.92, 0.95)), protocol="fixed-budget"),
        record_of_own(),
        record(((0.5, 0.95),), gpu="A GPU", gpus=1),
    ]
    trees = [json.loads(to_json(one)) for one in made]
    results = Path(fastcifar.__file__).parents[1] / "benchmarks" / "results"
    trees += [json.loads(file.read_bytes()) for file in sorted(results.glob("*.record.json"))[:3]]

    def one(random: Random) -> None:
        file = sandbox.given / random.choice(["mine.record.json", "a\u202eb.record.json", "\x1b[31m.json", "x" * 200])
        file.write_bytes(damage.as_json(random, random.choice(trees)))
        match random.randrange(12):
            case 0:
                sandbox.run("leaderboard", "show", str(file))
            case 1:
                sandbox.run("leaderboard", "page", "--out", str(sandbox.out / "page"), str(file))
            case 2:
                by = ("--author", "a", "--author-email", "b", "--code-url", "c")
                sandbox.run("leaderboard", "export", "--dawnbench", str(sandbox.out / "pairs"), *by, "--", str(file))
            case 3:
                sandbox.run("bench", "accuracy", "--resume", "--json", str(file))
            case _:
                sandbox.run("leaderboard", "check", str(file))

    fuzz("records", sandbox, one)


def header_damaged(random: Random, old: bytes) -> bytes:
    """A safetensors file whose header says something else, by values or by bytes; its length right or not."""
    length = int.from_bytes(old[:8], "little")
    header, tensors = old[8 : 8 + length], old[8 + length :]
    header = damage.content(random, header) if random.randrange(3) == 0 else damage.as_json(random, json.loads(header))
    said = len(header) if random.randrange(6) else random.choice([0, 1, length, 2**31, 2**63 - 1, 2**64 - 1])
    if random.randrange(8) == 0:
        tensors = damage.content(random, tensors)
    return said.to_bytes(8, "little") + header + tensors


def test_headers_of_weights_and_checkpoints(sandbox: Sandbox, things: Path) -> None:
    import hashlib

    image = things / "images" / "test" / "a" / "0.png"
    weights = (things / "run" / "model.safetensors").read_bytes()
    checkpoint = next(iter((things / "stopped" / "checkpoints").glob("*.safetensors"))).read_bytes()

    def one(random: Random) -> None:
        if random.randrange(20):
            shutil.copytree(things / "run", sandbox.given / "run")
            (sandbox.given / "run" / "model.safetensors").write_bytes(header_damaged(random, weights))
            sandbox.run("predict", str(sandbox.given / "run"), str(image), *random.choice([[], ["--json"]]))
            return
        run = sandbox.out / "run"
        shutil.copytree(things / "stopped", run)
        for file in (run / "checkpoints").glob("*.safetensors"):
            file.unlink()
        content = header_damaged(random, checkpoint)
        name = f"000001-{hashlib.sha256(content).hexdigest()}.safetensors"
        (run / "checkpoints" / name).write_bytes(content)
        sandbox.run("train", "--resume", str(run), "--no-report", trains=True)

    fuzz("headers", sandbox, one)


def test_run_directories(sandbox: Sandbox, things: Path) -> None:
    image = things / "images" / "test" / "a" / "0.png"

    def one(random: Random) -> None:
        run = sandbox.given / "run"
        stopped = random.randrange(8) == 0
        shutil.copytree(things / ("stopped" if stopped else "run"), run)
        damage.folder(random, run, sandbox.outside)
        # A finished run is rid of what a killed process left; a stopped one goes on where it is.
        own = ["in/run/checkpoints", *(f"in/run/{one.name}" for one in run.glob(".*.tmp"))]
        match random.randrange(30):
            case 0 | 1 if not stopped:
                sandbox.run("train", "--resume", str(run), "--no-report", also=["in/run"], trains=True)
            case 2 if random.randrange(2):
                sandbox.run("report", str(run), "--out", str(sandbox.out / "report"), also=own)
            case 3:
                sandbox.run("compare", str(run), str(things / "other"), "--out", str(sandbox.out / "page"), also=own)
            case 4 | 5:
                sandbox.run("eval", str(run), "--device", "cpu", also=own)
            case 6 | 7 | 8 | 9:
                sandbox.run("leaderboard", "record", str(run), "--json", str(sandbox.out / "x.json"), also=own)
            case 10 if stopped:
                sandbox.run("train", "--resume", str(run), "--no-report", also=["in/run"], trains=True)
            case _:
                sandbox.run("predict", str(run), str(image), also=own)

    fuzz("runs", sandbox, one)


OUTPUTS = ("--out", "--json", "--figure", "--trace", "--markdown", "--dawnbench")
TRAINS = ("train", "find-lr", "bench")


def test_command_lines(sandbox: Sandbox, things: Path) -> None:
    flags = {name: [flag for flag, _ in flags_of(kind)] for name, kind in COMMANDS.items()}
    everywhere = sorted({flag for some in flags.values() for flag in some})
    # Records are looked for below a folder: all of a disk, or the temporary files of others, would take their time.
    texts = [text.replace("\0", "\udcff") for text in damage.TEXTS if text.strip("/.")] + ["."]
    numbers = [str(number) for number in damage.NUMBERS]
    places = [str(things / name) for name in ("run", "own", "stopped", "images", "images/test/a/0.png", "nowhere")]

    def value(random: Random) -> str:
        return random.choice(random.choice([texts, numbers, places, ["seed", "laptop", "cpu", "adam", "resnet"]]))

    def one(random: Random) -> None:
        name = random.choice([*COMMANDS, *COMMANDS, random.choice(texts)])
        words = name.split(" ")[:2] if name in COMMANDS else [name]
        known = flags.get(name, everywhere)
        for _ in range(random.randrange(6)):
            flag = random.choice(random.choice([known, known, known, everywhere, texts]) or everywhere)
            given = value(random)
            if flag in OUTPUTS:
                given = os.fspath(sandbox.out / given.lstrip("/~").replace("..", "x"))
            match random.randrange(6):
                case 0:
                    words.append(given)
                case 1:
                    words.append(f"{flag}={given}")
                case 2 if flag not in OUTPUTS:
                    words.append(flag)
                case _:
                    words += [flag, given]
        if words[0] == "report":
            words += ["--out", str(sandbox.out / "report")]
        if words[:2] == ["bench", "peers"]:  # whose programs are processes of their own
            words += ["--peer", "nobody=nowhere"]
        if words[:2] == ["leaderboard", "page"]:
            words += ["--out", str(sandbox.out / "page")]
        sandbox.run(*words)

    fuzz("command lines", sandbox, one)


def test_data_folders(sandbox: Sandbox, things: Path) -> None:
    def one(random: Random) -> None:
        if random.randrange(4) == 0:
            batches = sandbox.given / "data" / "cifar-10-batches-py"
            batches.mkdir(parents=True)
            for name in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"):
                (batches / name).write_bytes(b"\x80\x04\x95" + name.encode())
            damage.folder(random, batches.parent, sandbox.outside)
            if random.randrange(2):
                sandbox.run("data", "--data", str(batches.parent))
            else:
                out = str(sandbox.out / "run")
                sandbox.run("train", "--recipe", "seed", "--data", str(batches.parent), "--out", out, "--device", "cpu")
            return
        images, run = sandbox.given / "images", str(things / "own")
        shutil.copytree(things / "images", images)
        damage.folder(random, images, sandbox.outside)
        match random.randrange(6):
            case 0:
                sandbox.run("eval", run, "--data", str(images), "--device", "cpu")
            case 1:
                sandbox.run("eval", run, "--images", str(images / "test"), "--device", "cpu", "--tta", "none")
            case 2:
                small = ("--recipe", "seed", "--model.width", "1", "--batch-size", "1000000", "--device", "cpu")
                sandbox.run("train", *small, "--dataset", str(images), "--out", str(sandbox.out / "run"))
            case _:
                files = sorted(map(str, images.rglob("*")))
                sandbox.run("predict", run, *random.sample(files, min(len(files), 3)), str(images / "nothing"))

    fuzz("data folders", sandbox, one)
