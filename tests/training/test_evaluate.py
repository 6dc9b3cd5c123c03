"""Views of the least certain quarter of the images; scores that follow from the logits."""

from collections import Counter
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastcifar.errors import InputError
from fastcifar.training.evaluate import BATCH_SIZE, TTA, OnBytes, evaluate, logits_of, normalise


def network() -> nn.Sequential:
    """Three classes, of no symmetry, with batch normalisation; the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 3)
        )
        nn.init.normal_(made[4].weight, std=0.3)
        nn.init.normal_(made[1].running_mean)
    return made


def images_of(count: int) -> Tensor:
    """uint8 (count, 32, 32, 3), no two alike."""
    return torch.randint(0, 256, (count, 32, 32, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)


def answers(images: Tensor, tta: TTA, precision: str = "float32") -> Tensor:
    return logits_of(OnBytes(network(), tta=tta), images, precision=precision)


@pytest.mark.parametrize("count", [1, 3, 4, 7, 8, 203])
def test_the_least_certain_quarter_gets_the_views_and_the_rest_one_answer(count: int) -> None:
    images = images_of(count)
    plain, viewed, found = (answers(images, tta) for tta in ("none", "flip+shift", "flip+shift-quarter"))
    changed = (found != plain).any(dim=1)
    assert int(changed.sum()) == count // 4
    certainty = plain.softmax(dim=1).max(dim=1).values
    if count >= 4:
        assert certainty[changed].max() <= certainty[~changed].min()
        torch.testing.assert_close(found[changed], viewed[changed])
    assert torch.equal(found[~changed], plain[~changed])


def test_it_is_a_quarter_of_all_images_not_of_each_batch() -> None:
    """Those of the first batch are all less certain than the others, and more than a quarter."""
    count = 2 * BATCH_SIZE + 203
    images = images_of(count)
    images[BATCH_SIZE:] = images[BATCH_SIZE:] // 2 + 128
    tested = OnBytes(Brightness(), tta="flip+shift-quarter")
    found, plain = logits_of(tested, images), logits_of(tested.viewed("none"), images)
    changed = (found != plain).any(dim=1).nonzero().flatten()
    least = plain.softmax(dim=1).amax(dim=1).argsort(stable=True)[: count // 4]
    assert torch.equal(changed, least.sort().values)
    assert changed.max() < BATCH_SIZE


class Brightness(nn.Module):
    """The brighter an image is on its left, the more certain of class 0; nothing to say of no image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, images: Tensor) -> Tensor:
        assert len(images)
        sums = (images[:, :, :, :16].mean(dim=(1, 2, 3)) + 1) * self.scale
        return torch.stack((sums, -sums), dim=1)


def test_of_three_images_none_is_answered_again() -> None:
    tested = OnBytes(Brightness(), tta="flip+shift-quarter")
    assert torch.equal(logits_of(tested, images_of(3)), logits_of(tested.viewed("none"), images_of(3)))


def test_of_equally_certain_images_the_first_are_answered_again() -> None:
    """Of 50 times one image, 12."""
    images = images_of(1).expand(50, -1, -1, -1)
    found, plain = (answers(images, tta) for tta in ("flip+shift-quarter", "none"))
    assert (found != plain).any(dim=1).tolist() == [True] * 12 + [False] * 38


@pytest.mark.parametrize("size", [100, 7])
def test_the_size_of_batches_changes_nothing(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_of(203)
    wanted = answers(images, "flip+shift-quarter")
    monkeypatch.setattr("fastcifar.training.evaluate.BATCH_SIZE", size)
    torch.testing.assert_close(answers(images, "flip+shift-quarter"), wanted)


def test_in_bfloat16_the_quarter_is_of_its_own_answers() -> None:
    images = images_of(100)
    plain, found = (answers(images, tta, "bfloat16") for tta in ("none", "flip+shift-quarter"))
    assert found.dtype == torch.float32
    assert not torch.equal(plain, answers(images, "none"))
    assert int((found != plain).any(dim=1).sum()) == 25


class Casts(TorchDispatchMode):
    """Counts what is cast of each shape."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[torch.Size] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy):
            self.of[args[0].shape] += 1
        return func(*args, **(kwargs or {}))


def test_weights_are_cast_once_for_all_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastcifar.training.evaluate.BATCH_SIZE", 10)
    tested = network()
    with Casts() as casts:
        logits_of(OnBytes(tested), images_of(50), precision="bfloat16")
    assert casts.of[tested[0].weight.shape] == casts.of[tested[4].weight.shape] == 1
    assert casts.of[torch.Size([10, 3])] == 5  # the answers


def test_a_batch_alone_has_no_quarter() -> None:
    """An exported network, say, answers image by image."""
    with pytest.raises(InputError, match="flip\\+shift-quarter compares"):
        OnBytes(network(), tta="flip+shift-quarter")(images_of(4))


def test_other_views_of_one_network_leave_the_first_as_they_were() -> None:
    one = OnBytes(network(), tta="flip")
    other = one.viewed("none")
    assert (one.tta, other.tta) == ("flip", "none")
    assert other.network is one.network
    assert other.mean is one.mean


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("tta", ["none", "flip", "flip+shift", "flip+shift-quarter"])
def test_the_network_is_tested_in_evaluation_mode_and_left_in_its_own(tta: TTA, training: bool) -> None:
    tested = network().train(training)
    before = {name: value.clone() for name, value in tested.state_dict().items()}
    assert torch.equal(logits_of(OnBytes(tested, tta=tta), images_of(9)), answers(images_of(9), tta))
    assert [part.training for part in tested.modules()] == [training] * 6
    assert all(torch.equal(value, before[name]) for name, value in tested.state_dict().items())


def test_the_mode_is_put_back_though_the_network_raises() -> None:
    tested = network().train()
    with pytest.raises(RuntimeError):
        logits_of(OnBytes(tested), torch.zeros(2, 8, 8, 3, dtype=torch.uint8))
    assert tested.training


@pytest.mark.parametrize("tta", ["none", "flip", "flip+shift", "flip+shift-quarter"])
def test_scores_are_those_of_the_logits(tta: TTA) -> None:
    images = images_of(BATCH_SIZE + 50)
    labels = torch.randint(0, 3, (len(images),), generator=torch.Generator().manual_seed(4))
    found = evaluate(OnBytes(network(), tta=tta), images, labels)
    assert torch.equal(found.logits, answers(images, tta))
    assert found.accuracy == (found.logits.argmax(dim=1) == labels).double().mean().item()
    assert found.loss == pytest.approx(F.cross_entropy(found.logits.double(), labels).item(), rel=1e-5)


@torch.inference_mode()
def test_plain_answers_are_the_networks_own() -> None:
    """To the bit, batch by batch."""
    images = images_of(BATCH_SIZE + 50)
    wanted = torch.cat([network().eval()(normalise(part)) for part in images.split(BATCH_SIZE)])
    assert torch.equal(answers(images, "none"), wanted)


@pytest.mark.parametrize("tta", ["none", "flip", "flip+shift", "flip+shift-quarter"])
def test_compiled_it_answers_as_before_in_one_graph(tta: TTA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the views are, which lie in memory in several ways; a batch of another size runs as it is."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(
        "fastcifar.training.evaluate.compiled",
        lambda function: torch.compile(function, backend=backend, fullgraph=True, dynamic=False),
    )
    monkeypatch.setattr("fastcifar.training.evaluate.BATCH_SIZE", 20)
    tested = OnBytes(network(), tta=tta).compiled(20)
    images = images_of(80)
    for _ in range(2):
        torch.testing.assert_close(logits_of(tested, images), answers(images, tta), rtol=1e-4, atol=1e-4)
    assert len(graphs) == 1
    torch.testing.assert_close(logits_of(tested, images[:7]), answers(images[:7], tta), rtol=1e-4, atol=1e-4)
    assert len(graphs) == 1
