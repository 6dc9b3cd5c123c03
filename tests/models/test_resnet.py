"""Both published forms of the network, layer by layer."""

import copy

import pytest
import torch
import torchinfo
from torch import nn

from fastcifar.models import build, parameter_count
from fastcifar.models.resnet import ConvBlock, ResNet
from fastcifar.recipe import Resnet

# The reference's table: kind, output shape, parameters.
TABLE = [
    ("Conv2d", (64, 32, 32), 1_792),
    ("BatchNorm2d", (64, 32, 32), 128),
    ("Conv2d", (128, 32, 32), 73_856),
    ("BatchNorm2d", (128, 16, 16), 256),
    ("Conv2d", (128, 16, 16), 147_584),
    ("BatchNorm2d", (128, 16, 16), 256),
    ("Conv2d", (128, 16, 16), 147_584),
    ("BatchNorm2d", (128, 16, 16), 256),
    ("Conv2d", (256, 16, 16), 295_168),
    ("BatchNorm2d", (256, 8, 8), 512),
    ("Conv2d", (256, 8, 8), 590_080),
    ("BatchNorm2d", (256, 8, 8), 512),
    ("Conv2d", (256, 8, 8), 590_080),
    ("BatchNorm2d", (256, 8, 8), 512),
    ("Conv2d", (512, 8, 8), 1_180_160),
    ("BatchNorm2d", (512, 4, 4), 1_024),
    ("Conv2d", (512, 4, 4), 2_359_808),
    ("BatchNorm2d", (512, 4, 4), 1_024),
    ("Conv2d", (512, 4, 4), 2_359_808),
    ("BatchNorm2d", (512, 4, 4), 1_024),
    ("Linear", (10,), 5_130),
]


def test_every_layer_of_the_reference() -> None:
    summary = torchinfo.summary(ResNet(Resnet(layer2_residual=True)), (1, 3, 32, 32), device="cpu", verbose=0)
    layers = [
        (layer.class_name, tuple(layer.output_size[1:]), layer.num_params)
        for layer in summary.summary_list
        if layer.class_name in ("Conv2d", "BatchNorm2d", "Linear")
    ]
    assert layers == TABLE
    assert sum(row[2] for row in TABLE) == 7_756_554


@pytest.mark.parametrize(("config", "parameters"), [(Resnet(), 6_575_370), (Resnet(layer2_residual=True), 7_756_554)])
def test_parameters(config: Resnet, parameters: int) -> None:
    assert parameter_count(ResNet(config)) == parameters


@pytest.mark.parametrize("pool", [False, True])
def test_in_training_a_bias_is_left_to_the_normalisation(pool: bool, restored_rng: object) -> None:
    """Which takes it away again; in evaluation the block is the convolution with its bias, and all that follows."""
    ours = ConvBlock(4, 8, bias=True, pool=pool)
    its = copy.deepcopy(ours)
    images = torch.randn(6, 4, 8, 8)
    torch.testing.assert_close(ours(images), nn.Sequential.forward(its, images), rtol=1e-4, atol=1e-5)
    for (name, found), expected in zip(ours.named_buffers(), its.buffers(), strict=True):
        torch.testing.assert_close(found, expected, msg=name)
    with torch.no_grad():
        shifted = ours.conv(images, biased=False) + ours.conv.bias[:, None, None]
        torch.testing.assert_close(shifted, ours.conv(images))
        ours.eval()
        assert torch.equal(ours(images), nn.Sequential.forward(ours, images))


def test_before_a_frozen_normalisation_a_bias_is_trained(restored_rng: object) -> None:
    block = ConvBlock(4, 8, bias=True)
    block.norm.eval()
    images = torch.randn(6, 4, 8, 8)
    out = block(images)
    assert torch.equal(out, nn.Sequential.forward(block, images))
    out.sum().backward()
    assert block.conv.bias.grad.abs().sum() > 0


def test_without_conv_bias() -> None:
    with_bias, without = ResNet(Resnet(width=8)), ResNet(Resnet(width=8, conv_bias=False))
    biases = sum(layer.out_channels for layer in with_bias.modules() if isinstance(layer, nn.Conv2d))
    assert parameter_count(with_bias) - parameter_count(without) == biases


def test_width_scales_every_layer() -> None:
    network = ResNet(Resnet(width=5))
    channels = [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert channels == [5, 10, 10, 10, 20, 40, 40, 40]


@pytest.mark.parametrize("residual", [False, True])
def test_the_blocks_are_residual(residual: bool) -> None:
    """With the second normalisation of each block scaled to zero, the block passes its input on."""
    network = ResNet(Resnet(width=4, layer2_residual=residual)).eval()
    for name in ("layer1", "layer2", "layer3"):
        layer = getattr(network, name)
        assert hasattr(layer, "residual") == (residual or name != "layer2")
        if hasattr(layer, "residual"):
            nn.init.zeros_(layer.residual[1].norm.weight)
            x = torch.rand(2, layer.residual[0].conv.in_channels, 8, 8)
            assert torch.equal(layer.residual(x.clone()), x)


def test_predict_gives_probabilities() -> None:
    network = ResNet(Resnet(width=4)).eval()
    images = torch.randn(3, 3, 32, 32)
    probabilities = network.predict(images)
    assert probabilities.shape == (3, 10)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    assert torch.equal(probabilities.argmax(1), network(images).argmax(1))


def test_built_for_another_number_of_classes() -> None:
    network = build(Resnet(width=4), 7)
    assert isinstance(network, ResNet)
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("side", [8, 16, 24, 28, 32])
def test_logits_of_images_of_several_sides(side: int) -> None:
    network = ResNet(Resnet(width=4), 7)
    assert network(torch.randn(2, 3, side, side).to(memory_format=torch.channels_last)).shape == (2, 7)


def test_it_compiles_as_one_graph() -> None:
    network, images = ResNet(Resnet(width=4)).eval(), torch.randn(2, 3, 24, 24)
    compiled = torch.compile(network, fullgraph=True, backend="eager", dynamic=False)
    torch.testing.assert_close(compiled(images), network(images))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_at_32_pixels_it_is_bit_for_bit_what_it_was_with_a_pooling_of_4(layout: torch.memory_format) -> None:
    """Ties too: of bytes as whole numbers, and half of them alike, many a map has its largest value several times."""
    network = ResNet(Resnet(width=4)).to(memory_format=layout)
    before = copy.deepcopy(network)
    before.pool = nn.MaxPool2d(4)  # type: ignore[assignment]
    images = torch.randint(0, 3, (8, 3, 32, 32)).float()
    images[:4] = images[:4, :, :1, :1]
    images = images.to(memory_format=layout)
    found, wanted = network(images), before(images)
    assert torch.equal(found, wanted)
    for logits in (found, wanted):
        logits.square().sum().backward()
    for value, old in zip(network.parameters(), before.parameters(), strict=True):
        assert value.grad is not None
        assert old.grad is not None
        assert torch.equal(value.grad, old.grad)
    assert list(network.state_dict()) == list(before.state_dict())


def test_of_equal_values_the_first_takes_the_gradient_of_the_pooling() -> None:
    x = torch.tensor([[3.0, 5.0, 5.0], [0.0, 5.0, 1.0]]).view(1, 1, 2, 3).requires_grad_()
    pooled = ResNet(Resnet(width=4)).pool(x)
    assert pooled.shape == (1, 1, 1, 1)
    pooled.backward(torch.full_like(pooled, 2.0))
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 2, 0, 0, 0, 0]
