"""The network of the CIFAR-10 speedruns: a frozen whitening, groups of convolutions, max pooling, one linear layer.

After airbench94_muon.py (Keller Jordan; "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, arXiv 2404.00498),
which descends from hlb-CIFAR10 (Tysam Balsam): with the defaults it is that network, of 1,971,352 trained parameters.
Three convolutions a group and `residual` are airbench96's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastcifar.errors import InputError
from fastcifar.models.batch_norm import BatchNorm2d
from fastcifar.models.conv import Conv2d
from fastcifar.models.pool import MaxPool2
from fastcifar.models.resnet import GlobalMaxPool
from fastcifar.recipe import Speednet

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "silu": nn.SiLU, "relu": nn.ReLU}
PATCH = 2  # side of the patches that are whitened
PATCH_VALUES = 3 * PATCH**2


class Conv(Conv2d):
    """Conv 3x3 (stride 1, padding 1) without bias, whose first filters pass the channels on; the rest are random."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        with torch.no_grad():
            nn.init.dirac_(self.weight[: self.in_channels])


class GhostBatchNorm(BatchNorm2d):
    """Batch normalisation whose statistics in training are those of about `images` images at a time.

    After Hoffer et al. 2017, "Train longer, generalize better", arXiv 1705.08741. The parts of a batch are equal, to an
    image, and together they move the running statistics as far as a whole batch does.
    """

    def __init__(self, channels: int, images: int, *, eps: float, momentum: float) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.images, self._kept = images, 1 - momentum

    def _normalised(self, x: Tensor, shift: Tensor, mean: Tensor) -> Tensor:
        parts = max(1, round(len(x) / self.images)) if self.training else 1
        if parts == 1:
            return super()._normalised(x, shift, mean)
        if torch.compiler.is_compiling() and x.is_cuda and len(x) % parts == 0:
            return self.at_once(x, parts, shift, mean)
        about = mean, self.running_var, self.weight, shift, True, 1 - self._kept ** (1 / parts)
        # Of tensor_split's parts each would be given a gradient of the whole's size, and those be added up.
        sizes = [len(range(part, len(x), parts)) for part in range(parts)]
        return torch.cat([F.batch_norm(part, *about, self.eps) for part in x.split(sizes)])

    def at_once(self, x: Tensor, parts: int, shift: Tensor, running_mean: Tensor) -> Tensor:
        """As in training, of equal parts, in operations of which inductor makes the kernels that one part takes."""
        values = x.unflatten(0, (parts, -1)).float()
        variance, mean = torch.var_mean(values, dim=(1, 3, 4), correction=0, keepdim=True)
        with torch.no_grad():
            count = values[0].numel() // values.shape[2]
            share = 1 - self._kept ** (1 / parts)
            for part in range(parts):
                running_mean.lerp_(mean[part].flatten(), share)
                self.running_var.lerp_(variance[part].flatten() * (count / (count - 1)), share)
        scale = (variance + self.eps).rsqrt() * self.weight[:, None, None]
        return ((values - mean) * scale + shift[:, None, None]).to(x.dtype).flatten(0, 1)


def _batch_norm(channels: int, config: Speednet) -> BatchNorm2d:
    eps, momentum = config.norm_eps, config.norm_momentum
    if config.norm_images:
        return GhostBatchNorm(channels, config.norm_images, eps=eps, momentum=momentum)
    return BatchNorm2d(channels, eps=eps, momentum=momentum)


class Block(nn.Module):
    """Conv 3x3 -> [MaxPool 2] -> BatchNorm, of which the shift alone is trained -> [+ shortcut] -> activation."""

    def __init__(self, channels_in: int, channels_out: int, config: Speednet, *, pool: bool) -> None:
        super().__init__()
        self.conv = Conv(channels_in, channels_out)
        self.pool = MaxPool2() if pool else None
        self.norm = _batch_norm(channels_out, config)
        self.norm.weight.requires_grad_(False)
        self.activation = ACTIVATIONS[config.activation]()

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        x = self.conv(x)
        if self.pool is not None:
            x = self.pool(x)
        x = self.norm(x)
        return self.activation(x if shortcut is None else x + shortcut)


class Group(nn.Sequential):
    """`depth` blocks, the first of them pooled; its output is added in the last one if `residual`."""

    def __init__(self, channels_in: int, channels_out: int, depth: int, config: Speednet) -> None:
        super().__init__(
            Block(channels_in, channels_out, config, pool=True),
            *(Block(channels_out, channels_out, config, pool=False) for _ in range(depth - 1)),
        )
        self.residual = config.residual

    def forward(self, x: Tensor) -> Tensor:
        shortcut = None
        for number, block in enumerate(self, 1):
            x = block(x, shortcut if number == len(self) else None)
            if self.residual and shortcut is None:
                shortcut = x
        return x


class SpeedNet(nn.Module):
    """Normalised images (B, 3, H, W), H and W at least `smallest_side`, to logits (B, classes).

    `trained_epochs`: the parameters that are trained for the first so many epochs only, by name. Raises `InputError`
    where the depths are not as many as the groups.
    """

    def __init__(self, config: Speednet, classes: int = 10) -> None:
        super().__init__()
        self.whiten_eps = config.whiten_eps
        self.whiten = nn.Conv2d(3, 2 * PATCH_VALUES, PATCH)
        self.whiten.weight.requires_grad_(False)
        self.whiten.bias.requires_grad_(config.whiten_bias_epochs > 0)  # type: ignore[union-attr]
        self.trained_epochs: dict[str, float] = {"whiten.bias": config.whiten_bias_epochs}
        self.activation = ACTIVATIONS[config.activation]()
        channels, groups = (2 * PATCH_VALUES, *config.widths), len(config.widths)
        depths = config.depth if isinstance(config.depth, tuple) else (config.depth,) * groups
        if len(depths) != groups:
            raise InputError(f"model.depth: {len(depths)} numbers for the {groups} groups of model.widths")
        self.groups = nn.Sequential(
            *(Group(*sizes, config) for sizes in zip(channels[:-1], config.widths, depths, strict=True))
        )
        self.smallest_side = PATCH - 1 + 2 ** len(config.widths)
        self.pool = GlobalMaxPool()
        self.head = nn.Linear(channels[-1], classes, bias=False)
        with torch.no_grad():
            self.head.weight.div_(self.head.weight.std())
        self.head_scale = config.head_scale or 1 / channels[-1]

    @torch.no_grad()
    def prepare(self, images: Tensor) -> None:
        """Set the whitening to what makes the 2x2 patches of `images` (n, 3, H, W), normalised, uncorrelated.

        The filters are the eigenvectors of the patches' second moments (their mean is not subtracted), each over
        sqrt(its eigenvalue + `whiten_eps`), the smallest first, and after them their negatives. Equal images give equal
        filters on one machine. They are written into the present tensor, whose address CUDA graphs hold.
        """
        patches = images.float().unfold(2, PATCH, 1).unfold(3, PATCH, 1)  # (n, 3, H - 1, W - 1, PATCH, PATCH)
        patches = patches.permute(0, 1, 4, 5, 2, 3).reshape(len(images), PATCH_VALUES, -1)
        # By image, since one product of so few rows and millions of columns would leave a GPU idle.
        moments = (patches @ patches.mT).mean(dim=0) / patches.shape[2]
        # The upper triangle, as airbench has it, for that decides the eigenvectors' signs. On the CPU: of so small a
        # matrix a GPU's library is at it for milliseconds.
        eigenvalues, eigenvectors = torch.linalg.eigh(moments.cpu(), UPLO="U")
        # An eigenvalue of 0 may come out below it.
        filters = (eigenvectors / (eigenvalues.clamp(min=0) + self.whiten_eps).sqrt()).mT
        self.whiten.weight.copy_(torch.cat((filters, -filters)).view(self.whiten.weight.shape))

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[2:]) < self.smallest_side:
            raise InputError(
                f"model.widths: {len(self.groups)} groups pool an image of {images.shape[2]}x{images.shape[3]} to "
                f"nothing; images of at least {self.smallest_side} pixels a side are needed, or fewer groups"
            )
        x = self.activation(self.whiten(images))
        x = self.pool(self.groups(x)).flatten(1)
        return self.head(x) * self.head_scale

    @torch.inference_mode()
    def predict(self, images: Tensor) -> Tensor:
        """Class probabilities (B, classes) of normalised images (B, 3, H, W): the softmax of the logits."""
        return self(images).softmax(dim=1)
