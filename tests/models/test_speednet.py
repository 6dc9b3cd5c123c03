"""The speedruns' network against its formulas."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.data.dataset import Dataset
from fastcifar.errors import InputError
from fastcifar.models import build, parameter_count
from fastcifar.models.speednet import Conv, GhostBatchNorm, SpeedNet
from fastcifar.recipe import Speednet
from fastcifar.training.evaluate import normalise

pytestmark = pytest.mark.usefixtures("restored_rng")
NARROW = (4, 6, 5)


@pytest.fixture
def images(small: Dataset) -> Tensor:
    return normalise(torch.from_numpy(small.train_images))


def by_formula(network: SpeedNet, config: Speednet, images: Tensor, *, training: bool) -> Tensor:
    """Logits in float64, of the network's weights in their order, by broadcasting and sums: none of torch's layers."""
    values = iter([value.detach().double() for value in network.parameters()])
    statistics = iter([value.double() for name, value in network.named_buffers() if "running" in name])

    def convolved(x: Tensor, weight: Tensor) -> Tensor:
        side = weight.shape[2]
        return torch.einsum("nchwij,ocij->nohw", x.unfold(2, side, 1).unfold(3, side, 1), weight)

    def normed(x: Tensor) -> Tensor:
        scale, shift = next(values), next(values)
        mean, variance = next(statistics), next(statistics)
        if training:
            mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        root = (variance + config.norm_eps).sqrt()
        return ((x.movedim(1, 3) - mean) / root * scale + shift).movedim(3, 1)

    def activated(x: Tensor) -> Tensor:
        if config.activation == "relu":
            return x * (x > 0)
        if config.activation == "silu":
            return x / (1 + torch.exp(-x))
        return x * (1 + torch.erf(x / 2**0.5)) / 2

    weight, bias = next(values), next(values)
    x = activated(convolved(images.double(), weight) + bias.view(-1, 1, 1))
    depths = [config.depth] * len(config.widths) if isinstance(config.depth, int) else config.depth
    for depth in depths:
        outputs: list[Tensor] = []
        for number in range(depth):
            x = convolved(F.pad(x, (1, 1, 1, 1)), next(values))
            if number == 0:
                height, width = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
                corners = [x[:, :, top:height:2, left:width:2] for top in (0, 1) for left in (0, 1)]
                x = torch.stack(corners).max(dim=0).values
            x = normed(x)
            if config.residual and 0 < number == depth - 1:
                x = x + outputs[0]
            x = activated(x)
            outputs.append(x)
    head = next(values)
    assert next(values, None) is None
    scale = 1 / head.shape[1] if config.head_scale is None else config.head_scale
    return torch.einsum("nc,oc->no", x.flatten(2).max(dim=2).values, head) * scale


@pytest.mark.parametrize(
    "config",
    [
        Speednet(widths=NARROW),
        Speednet(widths=(4, 6), depth=1, residual=True, activation="silu", head_scale=0.25),
        Speednet(widths=(4, 6, 5), depth=3, residual=True, norm_eps=0.1),
        Speednet(widths=(4,), depth=3, activation="relu"),
        Speednet(widths=(3, 4, 5, 6), depth=2, residual=True),
        Speednet(widths=(4, 6, 5), depth=(1, 2, 3), residual=True),
    ],
    ids=["default", "one convolution", "three, residual", "one group", "four groups", "a depth each"],
)
def test_the_logits_are_those_of_the_formulas(config: Speednet) -> None:
    torch.manual_seed(1)
    network = SpeedNet(config, 7)
    for value in network.parameters():
        if value.ndim == 1:  # shifts begin at 0, which would hide one that is left out
            torch.nn.init.uniform_(value, 0.5, 1.5)
    images = torch.randn(4, 3, 32, 32)
    trained = network(images)
    wanted = by_formula(network, config, images, training=True)
    torch.testing.assert_close(trained.double(), wanted, rtol=1e-3, atol=1e-4)
    found = network.eval()(images)
    wanted = by_formula(network, config, images, training=False)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found, trained, rtol=1e-2)


def test_a_depth_for_each_group_or_one_for_all() -> None:
    with pytest.raises(InputError, match=r"^model.depth: 2 numbers for the 3 groups of model.widths$"):
        SpeedNet(Speednet(widths=NARROW, depth=(2, 3)))


def test_parameters_of_the_default() -> None:
    """
    Trained:    24 biases of the whitening
                9 * (24*64 + 64*64 + 64*256 + 256*256 + 256*256 + 256*256) = 1,967,616 of convolutions
                2 * (64 + 256 + 256) = 1,152 shifts of normalisations
                256 * 10 = 2,560 of the head
    Frozen:     24 * 3*2*2 = 288 of the whitening, and 1,152 scales of normalisations
    """
    network = build(Speednet(), 10)
    assert isinstance(network, SpeedNet)
    assert parameter_count(network) == 24 + 1_967_616 + 1_152 + 2_560 == 1_971_352
    assert sum(value.numel() for value in network.parameters()) == 1_971_352 + 288 + 1_152


@pytest.mark.parametrize("epochs", [3.0, 0.0])
def test_frozen_are_the_whitening_and_the_scales(epochs: float) -> None:
    network = SpeedNet(Speednet(widths=(4, 6), depth=2, whiten_bias_epochs=epochs))
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    scales = {f"groups.{group}.{block}.norm.weight" for group in (0, 1) for block in (0, 1)}
    assert frozen == {"whiten.weight"} | scales | ({"whiten.bias"} if epochs == 0 else set())
    assert all((network.get_parameter(name) == 1).all() for name in scales)
    assert network.trained_epochs == {"whiten.bias": epochs}
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert frozen == {name for name, value in network.named_parameters() if value.grad is None}


@pytest.mark.parametrize(("channels_in", "channels_out"), [(3, 8), (4, 4), (6, 4)])
def test_a_convolution_passes_its_first_channels_on(channels_in: int, channels_out: int) -> None:
    torch.manual_seed(1)
    conv, x = Conv(channels_in, channels_out), torch.randn(2, channels_in, 5, 5)
    passed = min(channels_in, channels_out)
    assert torch.equal(conv(x)[:, :passed], x[:, :passed])
    rest = conv.weight[passed:].detach()
    bound = (9 * channels_in) ** -0.5  # torch's own initialisation: uniform up to 1 / sqrt(inputs)
    assert len(rest) == channels_out - passed
    assert (rest.abs() <= bound).all()
    if len(rest):
        assert rest.std().item() == pytest.approx(bound / 3**0.5, rel=0.2)
        assert len(rest.unique()) > 0.9 * rest.numel()


def test_the_head_begins_at_a_standard_deviation_of_1() -> None:
    torch.manual_seed(1)
    head = SpeedNet(Speednet(widths=NARROW), 9).head.weight.detach()
    assert head.shape == (9, 5)
    assert head.std().item() == pytest.approx(1, abs=1e-5)
    assert head.abs().max() < 3  # uniform: at most sqrt(3)
    assert not torch.equal(head, SpeedNet(Speednet(widths=NARROW), 9).head.weight)


def test_running_statistics_take_the_share_of_a_batch_that_the_recipe_says() -> None:
    network = SpeedNet(Speednet(widths=(4,), depth=1, norm_momentum=0.3))
    (norm,) = (layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d))
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    network(torch.randn(8, 3, 32, 32))
    torch.testing.assert_close(norm.running_mean, 0.3 * seen[0].mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.7 + 0.3 * seen[0].var((0, 2, 3)))


def test_ghost_batches_have_statistics_of_their_own(restored_rng: object) -> None:
    whole, ghost = nn.BatchNorm2d(4, momentum=0.3), GhostBatchNorm(4, 5, eps=1e-5, momentum=0.3)
    x = torch.randn(12, 4, 3, 3)
    parts = [nn.BatchNorm2d(4)(part) for part in (x[:6], x[6:])]  # two of about five images
    torch.testing.assert_close(ghost(x), torch.cat(parts))
    twice = torch.cat((x, x))
    ghost.reset_running_stats()
    ghost.images = 12
    ghost(twice)
    whole(x)  # of parts with equal statistics the running ones move as far as those of one batch
    torch.testing.assert_close(ghost.running_mean, whole.running_mean)
    torch.testing.assert_close(ghost.running_var, whole.running_var)
    torch.testing.assert_close(ghost.eval()(x), whole.eval()(x))
    ghost.train()
    torch.testing.assert_close(ghost(x[:7]), nn.BatchNorm2d(4)(x[:7]))  # too few for two parts


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_gpu_compiles_of_ghost_batches_is_the_same(
    compiled: bool, dtype: torch.dtype, restored_rng: object
) -> None:
    layers = [GhostBatchNorm(4, 5, eps=1e-5, momentum=0.3) for _ in range(2)]
    x = (2 * torch.randn(20, 4, 3, 3) + 1).to(dtype).to(memory_format=torch.channels_last)
    weights = torch.randn(20, 4, 3, 3).to(memory_format=torch.channels_last)
    found = []
    for layer, at_once in zip(layers, (False, True), strict=True):
        function = partial(layer.at_once, parts=4, shift=layer.bias, running_mean=layer.running_mean)
        if compiled:
            function = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=False)
        images = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        out = function(images) if at_once else layer(images)
        assert out.dtype == dtype
        (out * weights).sum().backward()
        found.append([out, images.grad, layer.weight.grad, layer.bias.grad, layer.running_mean, layer.running_var])
    rounding = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(*found, **rounding)


@pytest.mark.parametrize("eps", [1e-7, 5e-4, 0.1])
def test_prepare_whitens_the_patches(images: Tensor, eps: float) -> None:
    images = images + 0.5  # a mean that may not be subtracted
    network = SpeedNet(Speednet(widths=(4,), whiten_eps=eps))
    network.prepare(images)
    weight = network.whiten.weight
    assert torch.equal(weight[12:], -weight[:12])
    outputs = F.conv2d(images.double(), weight[:12].double()).transpose(0, 1).flatten(1)
    moments = outputs @ outputs.T / outputs.shape[1]
    # The patches' own moments, one patch after the other.
    rows = images.double().permute(0, 2, 3, 1).numpy()
    corners = [rows[:, top : top + 31, left : left + 31] for top in (0, 1) for left in (0, 1)]
    patches = np.concatenate(corners, axis=3).reshape(-1, 12)
    eigenvalues = np.linalg.eigvalsh(patches.T @ patches / len(patches))
    wanted = torch.from_numpy(np.diag(eigenvalues / (eigenvalues + eps)))
    torch.testing.assert_close(moments, wanted, rtol=0, atol=0.005)
    if eps == 1e-7:
        torch.testing.assert_close(moments, torch.eye(12, dtype=torch.float64), rtol=0, atol=0.005)


def test_prepare_writes_into_the_present_tensor_the_same_each_time(images: Tensor) -> None:
    network, other = SpeedNet(Speednet(widths=(4,))), SpeedNet(Speednet(widths=(4,)))
    before = copy.deepcopy(network.state_dict())
    weight, address = network.whiten.weight, network.whiten.weight.data_ptr()
    state = torch.get_rng_state()
    network.prepare(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.whiten.weight is weight
    assert weight.data_ptr() == address
    assert not weight.requires_grad
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"whiten.weight"}
    other.to(memory_format=torch.channels_last).prepare(images.contiguous())
    assert torch.equal(other.whiten.weight, weight)


def test_prepare_gives_numbers_for_images_of_one_colour() -> None:
    network = SpeedNet(Speednet(widths=(4,), whiten_eps=1e-12))
    network.prepare(torch.full((5, 3, 32, 32), 0.7))
    assert network.whiten.weight.isfinite().all()


@pytest.mark.parametrize("classes", [7, 10])
@pytest.mark.parametrize("side", [9, 16, 24, 28, 32])
def test_logits_of_images_of_several_sides(side: int, classes: int) -> None:
    network = SpeedNet(Speednet(widths=NARROW), classes)
    assert network(torch.randn(2, 3, side, side)).shape == (2, classes)
    assert network(torch.randn(2, 3, side, side + 5).to(memory_format=torch.channels_last)).shape == (2, classes)


@pytest.mark.parametrize(("groups", "smallest"), [(1, 3), (2, 5), (3, 9), (4, 17)])
def test_an_image_that_is_pooled_to_nothing_is_an_error_of_one_line(groups: int, smallest: int) -> None:
    network = SpeedNet(Speednet(widths=(4,) * groups)).eval()
    assert network.smallest_side == smallest
    assert network(torch.randn(1, 3, smallest, smallest)).shape == (1, 10)
    with pytest.raises(
        InputError, match=rf"widths: {groups} groups .* of 32x{smallest - 1} .* at least {smallest} pix"
    ):
        network(torch.randn(1, 3, 32, smallest - 1))


def test_predict_gives_probabilities() -> None:
    network = SpeedNet(Speednet(widths=NARROW, head_scale=1.0)).eval()
    images = torch.randn(3, 3, 32, 32)
    probabilities = network.predict(images)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    torch.testing.assert_close(probabilities, torch.exp(network(images) - network(images).logsumexp(1, keepdim=True)))


def test_on_the_meta_device_it_has_the_names_and_shapes_of_a_real_one() -> None:
    config = Speednet(widths=NARROW, depth=3, residual=True)
    real = SpeedNet(config)
    state = torch.get_rng_state()
    with torch.device("meta"):
        network = SpeedNet(config)
    assert torch.equal(torch.get_rng_state(), state)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    assert shapes == {name: value.shape for name, value in real.state_dict().items()}
    network.load_state_dict(real.state_dict(), assign=True)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.eval()(images), real.eval()(images))


@pytest.mark.parametrize("depth", [1, 3])
def test_it_compiles_as_one_graph(depth: int) -> None:
    network = SpeedNet(Speednet(widths=NARROW, depth=depth, residual=True, norm_images=1)).to(
        memory_format=torch.channels_last
    )
    images = torch.randn(2, 3, 32, 32).to(memory_format=torch.channels_last)
    wanted = copy.deepcopy(network)(images)
    compiled = torch.compile(network, fullgraph=True, backend="eager", dynamic=False)
    torch.testing.assert_close(compiled(images), wanted)


def test_it_is_exported_for_any_number_of_images() -> None:
    network = SpeedNet(Speednet(widths=NARROW, depth=3, residual=True)).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (torch.randn(2, 3, 32, 32),), dynamic_shapes=({0: batch},))
    for count in (1, 3, 20):
        images = torch.randn(count, 3, 32, 32)
        torch.testing.assert_close(program.module()(images), network(images))
