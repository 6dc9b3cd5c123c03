"""A run is killed and goes on: the same weights and the same log, whatever is trained, wherever it was."""

import os
import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from same import assert_same

from fastcifar import stopping
from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError, Stopped
from fastcifar.execution import Execution
from fastcifar.own import OwnCode
from fastcifar.recipe import Average, Evaluation, Muon, OwnModel, OwnOptimizer, Recipe, Selection, Sgd, Speednet
from fastcifar.training import checkpoint
from fastcifar.training.checkpoint import Checkpoints, Spent, earlier, go_on
from fastcifar.training.log import EpochLog, Observer
from fastcifar.training.packed import pack
from fastcifar.training.trainer import Trainer

CPU = Execution("cpu", "fused", "float32", "off")
BEGAN = Spent("2026-11-24T00:00:00.000+00:00")


class KilledError(Exception):
    """What a test's kill is, as seen from inside."""


class Kill(Observer):
    """The end of a process at a step of an epoch, or in its test."""

    def __init__(self, epoch: int, step: int | None) -> None:
        self._at, self._in_test, self._epoch = (epoch, step), step is None, epoch
        self._now = 0

    def step(self, epoch: int, step: int) -> None:
        self._now = epoch
        if (epoch, step) == self._at:
            raise KilledError

    def testing(self) -> None:
        if self._in_test and self._now == self._epoch:
            raise KilledError


class Mine(torch.nn.Module):
    """A custom network: drops out, and has a buffer that its state_dict leaves out and training changes."""

    seen: torch.Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, classes)
        self.register_buffer("seen", torch.ones(()), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 0.5
        features = self.norm(self.conv(images)).relu().amax(dim=(2, 3))
        return self.head(torch.nn.functional.dropout(features, 0.3, self.training)) * self.seen.rsqrt()


def adagrad(network: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """Custom optimizers, two of them."""
    first, *rest = network.parameters()
    return [torch.optim.Adagrad([first], lr=0.01), torch.optim.RMSprop(rest, lr=0.001, momentum=0.9)]


def recipes(quick: Recipe) -> dict[str, tuple[Recipe, OwnCode]]:
    muon = replace(quick, model=Speednet(widths=(8, 8, 8)), batch_size=64).with_optimizer(Muon())
    sgd = replace(quick, average=Average("lookahead", every=2), image_sizes=(24, 32), batch_sizes=(64, 128))
    own = replace(quick, model=OwnModel("mine.py:Mine")).with_optimizer(OwnOptimizer("mine.py:adagrad"))
    return {
        "adam, ema": (replace(quick, average=Average("ema", decay=0.9, every=1)), OwnCode()),
        "sgd, lookahead, sizes": (sgd.with_optimizer(Sgd(nesterov=True, momentum=0.9)), OwnCode()),
        "muon, whitening, flip": (replace(muon, evaluation=Evaluation("flip")), OwnCode()),
        "one's own": (own, OwnCode(model=Mine, optimizer=adagrad)),
        "the hardest images": (replace(quick, batch_size=64, selection=Selection(leave_out=0.3)), OwnCode()),
    }


def about(folder: Path, trainer: Trainer, spent: Spent = BEGAN, seconds: float = 1e-9, **more: Any) -> Checkpoints:
    told: list[str] = []
    began = time.monotonic()
    wall = lambda: spent.wall_seconds + time.monotonic() - began + trainer.prepare_seconds  # noqa: E731
    return Checkpoints(folder, trainer, spent, **{"seconds": seconds, "wall": wall, "tell": told.append, **more})


def killed(folder: Path, trainer: Trainer, kill: Kill, spent: Spent = BEGAN, **more: Any) -> None:
    with pytest.raises(KilledError), about(folder, trainer, spent, **more) as kept:
        trainer.run([kept, kill])


def timeless(log: list[EpochLog]) -> list[dict[str, Any]]:
    times = ("train_seconds", "eval_seconds", "images_per_second", "other_cores")
    return [{key: value for key, value in asdict(one).items() if key not in times} for one in log]


def assert_same_end(one: Trainer, other: Trainer) -> None:
    states = [trainer.state.state_dict() for trainer in (one, other)]
    assert timeless(one.state.log) == timeless(other.state.log)
    for state in states:
        del state["log"]
    assert_same(*states)


@pytest.mark.parametrize(
    "name", ["adam, ema", "sgd, lookahead, sizes", "muon, whitening, flip", "one's own", "the hardest images"]
)
def test_killed_twice_it_ends_as_if_it_had_not_been(
    name: str, small: Dataset, quick: Recipe, tmp_path: Path, restored_rng: object
) -> None:
    recipe, own = recipes(quick)[name]
    whole = Trainer(recipe, small, CPU, own)
    whole.run()

    first = Trainer(recipe, small, CPU, own)
    killed(tmp_path, first, Kill(1, 2))
    torch.manual_seed(99)  # another process has other random numbers
    second = Trainer(recipe, small, CPU, own)
    session = earlier(tmp_path, second.recipe)
    assert session is not None
    spent, notes = go_on(tmp_path, second, session.spent)
    assert second.state.step > 0
    assert any("continuing in epoch 1 after" in note for note in notes)
    assert spent.interruptions == 1
    killed(tmp_path, second, Kill(2, 2 if name == "the hardest images" else None), spent)

    third = Trainer(recipe, small, CPU, own)
    session = earlier(tmp_path, third.recipe)
    assert session is not None
    spent, _ = go_on(tmp_path, third, session.spent)
    assert spent.interruptions == 2
    with about(tmp_path, third, spent) as kept:
        third.run([kept])
    assert_same_end(third, whole)
    assert (spent.started, third.prepare_seconds) == (BEGAN.started, 0.0)
    assert session.spent.wall_seconds >= spent.lost_seconds + sum(one.train_seconds for one in third.state.log[:1])


def test_the_seconds_of_an_epoch_are_those_of_all_its_parts(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    """And what is done again is told as lost, up to the last finished step, and not counted twice."""

    class Slow(Observer):
        def step(self, epoch: int, step: int) -> None:
            time.sleep(0.9)  # so long that a busy machine changes nothing below

    first = Trainer(quick, small, CPU)
    with pytest.raises(KilledError), about(tmp_path, first, seconds=1.5) as kept:
        first.run([Slow(), kept, Kill(1, 3)])  # kept after step 2; step 3 is lost
    assert first.spent_seconds > 2.7
    second = Trainer(quick, small, CPU)
    session = earlier(tmp_path, second.recipe)
    assert session is not None
    spent, notes = go_on(tmp_path, second, session.spent)
    assert second.state.step == 2
    assert 1.8 <= second.spent_seconds < 2.7
    assert 0.9 <= spent.lost_seconds < 1.8
    assert spent.wall_seconds > 2.7
    assert f"{spent.lost_seconds:.1f} s of training and testing are done again" in notes[0]
    log = second.train_epoch([Slow()])
    assert 2.7 <= log.train_seconds < 4.5
    assert log.train_seconds + spent.lost_seconds > 3.6


def test_a_checkpoint_may_be_later_than_the_last_beat_before_the_kill(
    small: Dataset, quick: Recipe, tmp_path: Path
) -> None:
    first = Trainer(quick, small, CPU)
    killed(tmp_path, first, Kill(1, 2))
    (tmp_path / "heartbeat").unlink()
    second = Trainer(quick, small, CPU)
    session = earlier(tmp_path, second.recipe)
    assert session is not None
    spent, _ = go_on(tmp_path, second, session.spent)
    assert second.state.step > 0
    assert spent.wall_seconds >= second.spent_seconds > session.spent.wall_seconds


def test_a_stop_keeps_the_last_finished_step(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    """Nothing is lost, in training and in testing, and with no checkpoint otherwise."""

    class Ask(Observer):
        def __init__(self, in_test: bool) -> None:
            self._in_test = in_test

        def step(self, epoch: int, step: int) -> None:
            if not self._in_test and (epoch, step) == (2, 1):
                stopping._asked.by = 15

        def testing(self) -> None:
            if self._in_test:
                stopping._asked.by = 15

    whole = Trainer(quick, small, CPU)
    whole.run()
    for in_test, at in ((False, (1, 1)), (True, (0, 3))):
        folder = tmp_path / str(in_test)
        first = Trainer(quick, small, CPU)
        with pytest.raises(Stopped) as stopped, about(folder, first, seconds=0) as kept:
            first.run([Ask(in_test), kept])
        stopping._asked.by = None
        assert stopped.value.exit_code == 128 + 15
        second = Trainer(quick, small, CPU)
        session = earlier(folder, second.recipe)
        assert session is not None
        spent, _ = go_on(folder, second, session.spent)
        assert (second.state.epoch, second.state.step) == at
        assert spent.lost_seconds < 0.2
        second.run()
        assert_same_end(second, whole)


def test_it_goes_on_under_another_precision_and_averages_stay(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    quick = replace(quick, average=Average(name="ema", every=1, ramp=0.0))
    first = Trainer(quick, small, CPU)
    killed(tmp_path, first, Kill(2, 1))
    second = Trainer(quick, small, replace(CPU, precision="bfloat16"))
    session = earlier(tmp_path, second.recipe)
    assert session is not None
    go_on(tmp_path, second, session.spent)
    assert timeless(second.state.log) == timeless(first.state.log)
    assert_same(second.model.state_dict(), first.model.state_dict())
    assert_same(second.tested_network.state_dict(), first.tested_network.state_dict())
    assert not torch.equal(second.model.head.weight, second.tested_network.head.weight)
    second.run()
    assert len(second.state.log) == 2


def two_checkpoints(folder: Path, small: Dataset, quick: Recipe) -> tuple[Path, Path]:
    """The older one after an epoch, the newer one after a step of the next."""
    trainer = Trainer(quick, small, CPU)
    with about(folder, trainer, seconds=1e6) as kept:
        trainer.train_epoch()
        kept.keep(wait=True)
        trainer.state.step = 1
        kept.keep(wait=True)
    newer, older = checkpoint._files(folder)
    return older, newer


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)


def renamed(path: Path, content: bytes) -> None:
    """A file whose name is right."""
    path.unlink()
    name = f"{path.name[:6]}-{checkpoint.hashlib.sha256(content).hexdigest()}.safetensors"
    (path.parent / name).write_bytes(content)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("unpickled",)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut, "damaged: its sha256 is not the one in its name"),
        (flip, "damaged: its sha256 is not the one in its name"),
        (lambda path: path.write_bytes(b""), "damaged: its sha256 is not the one in its name"),
        (lambda path: renamed(path, pickle.dumps(Bomb())), "not a checkpoint: not a packed state: SafetensorError"),
        (lambda path: renamed(path, pack({"log": []}).to_bytes({})), "not a checkpoint of this recipe"),
        (
            lambda path: renamed(path, pack({"network": {}}).to_bytes({"format": "1", "recipe": ""})),
            "not a checkpoint of this recipe",
        ),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory"),
    ],
)
def test_a_checkpoint_that_will_not_do_is_refused_and_the_one_before_it_used(
    damage: Callable[[Path], Any],
    complaint: str,
    small: Dataset,
    quick: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    older, newer = two_checkpoints(tmp_path / "kept", small, quick)
    damage(newer)
    trainer = Trainer(quick, small, CPU)
    _, notes = go_on(tmp_path / "kept", trainer, BEGAN)
    assert notes[0].endswith(f"{complaint}; the one before it is used")
    assert (trainer.state.epoch, trainer.state.step) == (1, 0)
    damage(older)
    fresh = Trainer(quick, small, CPU)
    _, notes = go_on(tmp_path / "kept", fresh, BEGAN)
    assert notes[-1].endswith("there is no other checkpoint, so the run begins again")
    assert (fresh.state.epoch, fresh.state.step) == (0, 0)
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"step": 4},
        {"step": -1},
        {"step": "1"},
        {"network": {}},
        {"optimizers": []},
        {"log": [{"epoch": 1}]},
        {"losses": torch.zeros(99)},
        {"generators": {"cpu": torch.zeros(3)}},
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    change: dict[str, Any], small: Dataset, quick: Recipe, tmp_path: Path
) -> None:
    """Signed as it should be; nothing half restored is trained."""
    _, newer = two_checkpoints(tmp_path, small, quick)
    trainer = Trainer(quick, small, CPU)
    digest = checkpoint._digest(trainer.recipe)
    state = trainer.state.state_dict() | change
    renamed(newer, pack(state).to_bytes({"format": "1", "recipe": digest}))
    _, notes = go_on(tmp_path, trainer, BEGAN)
    assert "not a state of this recipe" in notes[0]
    assert (trainer.state.epoch, trainer.state.step) == (1, 0)


def test_another_recipe_and_another_seed(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    trainer = Trainer(quick, small, CPU)
    killed(tmp_path, trainer, Kill(1, 1))
    assert earlier(tmp_path / "none", trainer.recipe) is None
    assert earlier(tmp_path, replace(trainer.recipe, seed=1)) is None
    with pytest.raises(InputError, match=r"a run of another recipe: epochs is 3, not 2"):
        earlier(tmp_path, replace(trainer.recipe, epochs=3))
    (tmp_path / "session.json").write_text("{}")
    with pytest.raises(InputError, match=r"session\.json: format: field required"):
        earlier(tmp_path, trainer.recipe)


def test_two_are_kept_and_everything_goes_in_the_end(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    trainer, folder = Trainer(quick, small, CPU), tmp_path / "kept"
    with about(folder, trainer) as kept:
        trainer.run([kept])
        assert len(checkpoint._files(folder)) == 2
    (folder / ".000009.safetensors.0123abcd.tmp").touch()
    checkpoint.remove(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_links_lead_to_stays_as_it_is(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    """A run directory may be somebody else's: nothing is written or removed outside of it."""
    theirs, folder, beat = tmp_path / "theirs", tmp_path / "kept", tmp_path / "beat"
    theirs.mkdir()
    for name in ("session.json", "heartbeat", ".a.0123abcd.tmp", f"000001-{'0' * 64}.safetensors"):
        (theirs / name).write_text("theirs")
    folder.symlink_to(theirs)
    checkpoint.remove(folder)
    with pytest.raises(InputError, match=r"kept: a link to another folder"), about(folder, Trainer(quick, small, CPU)):
        pass
    assert [file.read_text() for file in theirs.iterdir()] == ["theirs"] * 4
    folder.unlink()
    folder.mkdir()
    beat.write_text("theirs")
    (folder / "heartbeat").symlink_to(beat)
    with about(folder, Trainer(quick, small, CPU)):
        pass
    assert beat.read_text() == "theirs"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a bug")])
def test_what_cannot_be_written_is_a_line_and_training_goes_on(
    error: Exception, small: Dataset, quick: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, or a thread that dies, in one checkpoint; the next one is written."""
    whole = Trainer(quick, small, CPU)
    whole.run()
    write, calls, told = checkpoint.write_whole, [], list[str]()

    def failing(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:  # the first is session.json
            raise error
        write(path, content)

    monkeypatch.setattr(checkpoint, "write_whole", failing)
    trainer = Trainer(quick, small, CPU)
    with about(tmp_path, trainer, tell=told.append) as kept:
        trainer.run([kept])
    said = error.strerror if isinstance(error, OSError) else error
    assert told == [f"{tmp_path}: checkpoint 1 could not be written: {said}"]
    assert len(calls) > 2
    assert len(checkpoint._files(tmp_path)) >= 1
    assert_same_end(trainer, whole)


def test_what_a_checkpoint_cannot_hold_is_a_line(small: Dataset, quick: Recipe, tmp_path: Path) -> None:
    told: list[str] = []
    trainer = Trainer(quick, small, CPU)
    trainer.state.optimizers[0].param_groups[0]["hook"] = print
    with about(tmp_path, trainer, tell=told.append, seconds=1e6) as kept:
        kept.keep()
    assert told == [
        "no checkpoint: state.optimizers.0.param_groups.0.hook is a builtin_function_or_method, which cannot be kept"
    ]
