"""The training loop: seeded, warm without a trace, stopped by a bad loss, honest in its log."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from same import assert_same

from fastcifar.bench.step import new_step
from fastcifar.data.dataset import Dataset
from fastcifar.data.loader import LOADERS
from fastcifar.data.plan import EpochPlan, draw_plan
from fastcifar.errors import InputError, RunError
from fastcifar.execution import Execution
from fastcifar.own import OwnCode
from fastcifar.recipe import (
    Adam,
    Augmentation,
    Average,
    Evaluation,
    Muon,
    OwnModel,
    Recipe,
    Resnet,
    Schedule,
    Sgd,
    Speednet,
)
from fastcifar.training.evaluate import OnBytes, evaluate, normalise
from fastcifar.training.log import EpochLog, Observer
from fastcifar.training.state import TrainState
from fastcifar.training.trainer import Trainer

CPU = Execution(device="cpu", loader="dali", precision="float32", compile="off")


class Watcher(Observer):
    """Keeps what an observer is told."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.logs: list[EpochLog] = []

    def step(self, epoch: int, step: int) -> None:
        self.steps.append((epoch, step))

    def epoch(self, log: EpochLog) -> None:
        self.logs.append(log)


def test_two_runs_with_one_seed_are_identical(small: Dataset, quick: Recipe) -> None:
    one, same = (Trainer(quick, small, CPU) for _ in range(2))
    other = Trainer(replace(quick, seed=1), small, CPU)
    results = [trainer.run() for trainer in (one, same, other)]
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, same.model.state_dict()[name]), name
    assert results[0].final_accuracy == results[1].final_accuracy
    assert not torch.equal(one.model.head.weight, other.model.head.weight)


def test_training_learns(small: Dataset, quick: Recipe) -> None:
    recipe = replace(quick, augmentation=Augmentation(pad=0, flip="none", cutout=0), batch_size=50).with_epochs(8)
    watcher = Watcher()
    Trainer(recipe, small, CPU).run([watcher])
    assert watcher.logs[-1].train_loss < watcher.logs[0].train_loss - 0.3
    assert watcher.logs[-1].train_accuracy > watcher.logs[0].train_accuracy + 0.1


@pytest.mark.parametrize("mode", ["off", "default"])
def test_warm_up_leaves_no_trace(small: Dataset, quick: Recipe, mode: str, restored_rng: object) -> None:
    """Neither in a new trainer nor in the midst of a run, where the optimizer has a state."""
    trainer = Trainer(quick, small, replace(CPU, compile=mode))  # type: ignore[arg-type]
    numpy_state = np.random.get_state()[1].tolist()
    for _ in range(2):
        torch.manual_seed(5)
        before = trainer.state.capture()
        trainer.warm_up(steps=3)
        assert_same(trainer.state.state_dict(), before)
        assert np.random.get_state()[1].tolist() == numpy_state
        assert all(parameter.grad is None for parameter in trainer.model.parameters())
        trainer.train_epoch()


def test_warm_up_does_move_what_it_restores(small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the restoring, the weights would have changed: the test above can fail."""
    monkeypatch.setattr(TrainState, "restore", lambda *_: None)
    fresh = Trainer(quick, small, CPU)
    monkeypatch.undo()
    assert not torch.equal(fresh.model.head.weight, Trainer(quick, small, CPU).model.head.weight)


def test_compiled_gives_the_same_losses(small: Dataset, quick: Recipe) -> None:
    recipe = replace(quick, schedule=Schedule(min_lr=0, max_lr=1e-5, peak_epoch=1))  # high rates amplify rounding
    eager, compiled = Watcher(), Watcher()
    Trainer(recipe, small, CPU).run([eager])
    Trainer(recipe, small, replace(CPU, compile="default")).run([compiled])
    for one, other in zip(eager.logs, compiled.logs, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)


def test_bfloat16_trains(small: Dataset, quick: Recipe) -> None:
    watcher, reference = Watcher(), Watcher()
    Trainer(quick, small, replace(CPU, precision="bfloat16")).run([watcher])
    Trainer(quick, small, CPU).run([reference])
    assert watcher.logs[0].train_loss == pytest.approx(reference.logs[0].train_loss, rel=0.05)
    assert watcher.logs[0].train_loss != reference.logs[0].train_loss


def test_the_log_adds_up(small: Dataset, quick: Recipe) -> None:
    watcher = Watcher()
    trainer = Trainer(replace(quick, target=1e-9), small, CPU)
    result = trainer.run([watcher])
    assert watcher.steps == [(epoch, step) for epoch in (1, 2) for step in (1, 2, 3)]
    assert [log.epoch for log in watcher.logs] == [1, 2]
    for log in watcher.logs:
        assert log.images_per_second == pytest.approx(300 / log.train_seconds)
        assert 0 <= log.train_accuracy <= 1
        assert log.test_accuracy * 200 == pytest.approx(round(log.test_accuracy * 200))
    assert result.train_seconds == sum(log.train_seconds for log in watcher.logs)
    assert result.eval_seconds == sum(log.eval_seconds for log in watcher.logs)
    assert result.final_accuracy == watcher.logs[-1].test_accuracy
    assert result.best_accuracy == max(log.test_accuracy for log in watcher.logs)
    assert result.time_to_target == watcher.logs[0].train_seconds
    assert watcher.logs[0].learning_rate == pytest.approx(0.01)
    assert watcher.logs[1].learning_rate == pytest.approx(0.001)


def test_each_epoch_is_drawn_once_before_the_one_before_is_over(
    small: Dataset, quick: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the first one within its own time; none after the last."""
    trainer, drawn, watcher = Trainer(replace(quick, epochs=3), small, CPU), list[tuple[int, int]](), Watcher()

    def drawing(n: int, augmentation: Augmentation, *, seed: int, epoch: int) -> EpochPlan:
        drawn.append((epoch, len(watcher.logs)))
        return draw_plan(n, augmentation, seed=seed, epoch=epoch)

    monkeypatch.setattr("fastcifar.data.plan.draw_plan", drawing)
    trainer.run([watcher])
    assert drawn == [(0, 0), (1, 0), (2, 1)]
    drawn.clear()
    watcher.logs.clear()
    trainer.restart(replace(trainer.recipe, seed=5))  # which warms up with a plan of its own
    trainer.run([watcher])
    assert drawn[-3:] == [(0, 0), (1, 0), (2, 1)]


def test_the_loss_of_an_epoch_is_the_mean_over_its_images(small: Dataset, quick: Recipe) -> None:
    """With a learning rate of almost nothing the network stays what it was: the loss can be computed again. The short
    last batch counts for as many images as it has."""
    augmentation = Augmentation(pad=0, flip="none", cutout=0)
    recipe = replace(quick, schedule=Schedule(min_lr=0, max_lr=1e-12, peak_epoch=1), epochs=1, batch_size=290)
    trainer = Trainer(replace(recipe, augmentation=augmentation), small, CPU)
    total = 0.0
    for part in draw_plan(300, augmentation, seed=recipe.seed, epoch=0).batches(290):
        images = normalise(torch.from_numpy(small.train_images[part.indices]))
        labels = torch.from_numpy(small.train_labels[part.indices])
        total += F.cross_entropy(trainer.model(images), labels, reduction="sum").item()
    assert trainer.train_epoch().train_loss == pytest.approx(total / 300, rel=1e-5)


def test_evaluation_is_right(small: Dataset, quick: Recipe) -> None:
    trainer = Trainer(quick, small, CPU)
    trainer.model.train()
    images, labels = torch.from_numpy(small.test_images), torch.from_numpy(small.test_labels)
    found = evaluate(OnBytes(trainer.model), images, labels)
    assert trainer.model.training
    with torch.no_grad():
        logits = trainer.model.eval()(normalise(images))
    assert found.accuracy == pytest.approx((logits.argmax(1) == labels).float().mean().item())
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


def test_stop_at_target(small: Dataset, quick: Recipe) -> None:
    result = Trainer(replace(quick, target=1e-9, stop_at_target=True), small, CPU).run()
    assert result.epochs == 1
    result = Trainer(replace(quick, target=1.0, stop_at_target=True), small, CPU).run()
    assert (result.epochs, result.time_to_target) == (2, None)


def test_drop_last(small: Dataset, quick: Recipe) -> None:
    watcher = Watcher()
    trainer = Trainer(replace(quick, drop_last=True), small, CPU)
    trainer.run([watcher])
    assert trainer.steps == [2, 2]
    assert len(watcher.steps) == 4
    assert watcher.logs[0].images_per_second == pytest.approx(256 / watcher.logs[0].train_seconds)


def test_a_loss_that_is_no_number_stops_the_run(small: Dataset, quick: Recipe) -> None:
    trainer = Trainer(replace(quick, schedule=Schedule(min_lr=0.5, max_lr=0.5, peak_epoch=1)), small, CPU)
    trainer.train_epoch()
    with torch.no_grad():
        trainer.model.head.weight.fill_(float("nan"))
    with pytest.raises(RunError, match=r"^the loss is nan in epoch 2, step 1, at learning rate 0\.5; try a lower"):
        trainer.train_epoch()


def test_a_network_that_ends_as_no_number_has_failed(small: Dataset, quick: Recipe) -> None:
    """The last step of a run has no loss after it: the test's loss tells."""
    recipe = replace(quick, epochs=1, batch_size=300, schedule=Schedule(min_lr=1e30, max_lr=1e30, peak_epoch=1))
    with pytest.raises(RunError, match=r"^the test loss is (nan|inf) in epoch 1, step 1, at learning rate 1e\+30"):
        Trainer(recipe, small, CPU).run()


def test_a_recipe_made_by_hand_is_checked(small: Dataset) -> None:
    with pytest.raises(InputError, match=r"^schedule\.peak_epoch: 5 is past the end of 1 epochs"):
        Trainer(Recipe(epochs=1), small, CPU)


def test_a_batch_larger_than_the_data(small: Dataset, quick: Recipe) -> None:
    with pytest.raises(InputError, match="batch_size: 301 is more than the 300 training images"):
        Trainer(replace(quick, batch_size=301), small, CPU)


def test_an_epoch_goes_on_where_it_was_left(small: Dataset, quick: Recipe) -> None:
    """Left by an exception after its second step of three, it ends as if never left."""

    class Leaves(Observer):
        def step(self, epoch: int, step: int) -> None:
            if step == 2:
                raise KeyboardInterrupt

    whole, left = (Trainer(quick, small, CPU) for _ in range(2))
    with pytest.raises(KeyboardInterrupt):
        left.train_epoch([Leaves()])
    assert (left.state.epoch, left.state.step) == (0, 2)
    for _ in range(2):
        one, other = whole.train_epoch(), left.train_epoch()
        assert (one.train_loss, one.train_accuracy, one.test_loss) == (
            other.train_loss,
            other.train_accuracy,
            other.test_loss,
        )
    states = [{**trainer.state.state_dict(), "log": None} for trainer in (whole, left)]  # whose seconds differ
    assert_same(*states)


@pytest.mark.parametrize("loader", LOADERS)
def test_nothing_is_compiled_in_training(
    small: Dataset, quick: Recipe, loader: str, monkeypatch: pytest.MonkeyPatch, restored_rng: object
) -> None:
    """Set-up compiles for the images as the loader gives them; a second trainer of the recipe uses it again."""
    torch._dynamo.reset()
    compile_ = torch.compile  # tracing is what counts here; making kernels of it would take long
    monkeypatch.setattr(
        torch, "compile", lambda function, dynamic, **_: compile_(function, backend="eager", dynamic=dynamic)
    )
    execution = Execution("cpu", loader, "bfloat16", "default")  # type: ignore[arg-type]
    trainer = Trainer(quick, small, execution)
    with torch.compiler.set_stance("fail_on_recompile"):
        trainer.train_epoch()
        trainer.train_epoch()
    if loader != "fused":  # whose every loader is compiled
        with torch.compiler.set_stance("fail_on_recompile"):
            Trainer(replace(quick, seed=1), small, execution).train_epoch()
    torch._dynamo.reset()


@pytest.mark.parametrize("optimizer", [Adam(), Sgd(), Muon()])
def test_optimizers_allocate_nothing_in_training(
    small: Dataset, quick: Recipe, optimizer: Adam | Sgd | Muon, restored_rng: object
) -> None:
    trainer = Trainer(replace(quick, optimizer=optimizer), small, CPU)

    def addresses() -> list[int]:
        kept = [of for one in trainer.state.optimizers for of in one.state.values()]
        return [value.data_ptr() for of in kept for value in of.values()]

    before = addresses()
    assert len(before) >= len(list(trainer.model.parameters()))
    trainer.train_epoch()
    assert addresses() == before


@pytest.mark.parametrize("mode", ["off", "default"])
def test_a_step_counts_what_is_right(mode: str, monkeypatch: pytest.MonkeyPatch, restored_rng: object) -> None:
    """In what is compiled, where it costs no kernels of its own."""
    graphs: list[torch.fx.GraphModule] = []

    def kept(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **_: compile_(function, backend=kept, dynamic=False))
    step, (images, labels) = new_step(Resnet(width=4), 10, None, 64, torch.device("cpu"), "float32", mode)
    step._label_smoothing = 0.3
    logits = step._model(images).detach()
    loss, losses, correct = step(images, labels)
    assert int(correct) == int((logits.argmax(dim=1) == labels).sum()) > 0
    torch.testing.assert_close(losses, F.cross_entropy(logits, labels, reduction="none"), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.3), rtol=1e-4, atol=0)
    counted = [any(node.target == "argmax" for node in graph.graph.nodes) for graph in graphs]
    assert counted == ([] if mode == "off" else [True])


class Sizes(torch.nn.Module):
    """Keeps the shapes of the batches it is trained on."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.head, self.seen = torch.nn.Linear(3, classes), []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen.append((len(images), images.shape[-1]))
        return self.head(images.mean(dim=(2, 3)))


def test_sizes_of_images_and_batches_by_epoch(small: Dataset, quick: Recipe) -> None:
    recipe = replace(quick, model=OwnModel("mine.py:Net"), image_sizes=(24, 32), batch_sizes=(150, 100)).with_epochs(3)
    watcher, trainer = Watcher(), Trainer(recipe, small, CPU, OwnCode(model=Sizes))
    assert trainer.steps == [2, 3, 3]
    trainer.model.seen.clear()
    trainer.run([watcher])
    assert trainer.model.seen == [(150, 24)] * 2 + [(100, 32)] * 6
    assert watcher.steps == [(1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3)]
    assert all(log.images_per_second == pytest.approx(300 / log.train_seconds) for log in watcher.logs)


def test_a_network_too_deep_for_small_images_is_refused_at_the_start(small: Dataset, quick: Recipe) -> None:
    deep = Speednet(widths=(4, 4, 4, 4))
    with pytest.raises(InputError, match="16"):
        Trainer(replace(quick, model=deep, image_sizes=(16, 32)), small, CPU)


def test_speednet_with_muon_learns_and_restarts_as_new(small: Dataset, quick: Recipe) -> None:
    recipe = replace(quick, model=Speednet(widths=(8, 8, 8)), batch_size=50).with_optimizer(Muon()).with_epochs(4)
    recipe = replace(recipe, average=Average("lookahead"), evaluation=Evaluation("flip"))
    one = Trainer(recipe, small, CPU)
    logs = [one.train_epoch() for _ in range(4)]
    assert logs[-1].train_loss < logs[0].train_loss - 0.15
    one.restart(replace(recipe, seed=1))
    new = Trainer(replace(recipe, seed=1), small, CPU)
    assert new.prepare_seconds > 0
    assert new.state.seconds == new.prepare_seconds
    assert one.state.seconds == one.prepare_seconds
    assert_same(*({**trainer.state.state_dict(), "seconds": 0} for trainer in (one, new)))
    assert one.train_epoch().train_loss == new.train_epoch().train_loss


def test_a_restart_begins_the_schedule_anew(small: Dataset, quick: Recipe) -> None:
    """Also where the rates differ: every group has its first rate again."""
    one = Trainer(quick, small, CPU)
    one.run()
    other = quick.with_rates(min_lr=0.002, max_lr=0.004)
    one.restart(other)
    new = Trainer(other, small, CPU)
    # The images were padded twice, and took their time to.
    assert_same(one.state.state_dict() | {"seconds": 0.0}, new.state.state_dict() | {"seconds": 0.0})
    logs = [trainer.train_epoch() for trainer in (one, new)]
    assert logs[0].train_loss == logs[1].train_loss
    assert logs[0].learning_rate == 0.004


def test_the_average_is_what_is_tested_and_kept(small: Dataset, quick: Recipe) -> None:
    recipe = replace(quick, average=Average("ema", decay=0.5, every=1, ramp=0))
    averaged, plain = Trainer(recipe, small, CPU), Trainer(quick, small, CPU)
    as_is = Trainer(replace(recipe, evaluation=Evaluation(weights="network")), small, CPU)
    logs = [trainer.train_epoch() for trainer in (averaged, plain, as_is)]
    assert logs[0].train_loss == logs[1].train_loss == logs[2].train_loss
    assert logs[0].test_loss != logs[1].test_loss == logs[2].test_loss
    assert averaged.tested_network is not averaged.model
    assert as_is.tested_network is as_is.model


def test_a_rate_of_the_first_epochs_ends(small: Dataset, quick: Recipe) -> None:
    """The whitening's bias moves in the first epoch and stays in the second."""
    recipe = replace(quick, model=Speednet(widths=(4, 4, 4), whiten_bias_epochs=1.0)).with_optimizer(Muon())
    trainer = Trainer(recipe, small, CPU)
    seen = [trainer.model.whiten.bias.detach().clone()]
    for _ in range(2):
        trainer.train_epoch()
        seen.append(trainer.model.whiten.bias.detach().clone())
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])


def test_an_epoch_that_is_not_tested_trains_the_same(small: Dataset, quick: Recipe) -> None:
    """And is no crossing of the target; the last one is always tested."""
    quick = replace(quick.with_epochs(3), target=0.01)
    one, other = Watcher(), Watcher()
    trainer = Trainer(replace(quick, evaluation=Evaluation(epochs=(2,))), small, CPU)
    result = trainer.run([one])
    Trainer(quick, small, CPU).run([other])
    assert [log.test_accuracy is None for log in one.logs] == [True, False, False]
    assert (one.logs[0].test_loss, one.logs[0].eval_seconds) == (None, 0.0)
    assert [log.train_loss for log in one.logs] == [log.train_loss for log in other.logs]
    assert [log.test_loss for log in one.logs[1:]] == [log.test_loss for log in other.logs[1:]]
    assert result.time_to_target == sum(log.train_seconds for log in one.logs[:2])
    assert result.final_accuracy == one.logs[2].test_accuracy
    stopping = replace(quick, stop_at_target=True, evaluation=Evaluation(epochs=(2,)))
    assert Trainer(stopping, small, CPU).run().epochs == 2
