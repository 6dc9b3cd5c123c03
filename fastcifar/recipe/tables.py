"""The tables of a recipe; one that has several kinds (`model`, `optimizer`) has a class for each, by its `name`.

The docstrings are the flags' help and the documentation.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import tyro
from pydantic import ConfigDict, Discriminator, Field, Tag

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1, le=1024)]
Depth = Annotated[int, Field(ge=1, le=8)]
# What a line shows nothing of, as a range of a regular expression: control characters, ends of lines, what has no width
# or turns the direction of writing, tags.
UNSEEN = rf"\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff{chr(0xE0000)}-{chr(0xE007F)}"
# One's own: a Python file, and the name of something in it.
OwnName = Annotated[str, Field(pattern=rf"^[^:{UNSEEN}]+:[^{UNSEEN}]+$", max_length=500)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

# Unknown keys are refused, and a string is not taken for a number.
STRICT = ConfigDict(extra="forbid", strict=True)


def optional(metavar: str | None = None, **about: Any) -> Any:
    """tyro's `arg` of a flag that may be left out, its value called `metavar`; without a default the help says none."""

    def default(label: str) -> str:
        return "" if label in ("", "None") else f"(default: {label})"

    return tyro.conf.arg(metavar=metavar, help_behavior_hint=default, **about)


_MODEL = tyro.conf.arg(aliases=["--model"])
_OPTIMIZER = tyro.conf.arg(aliases=["--optimizer"])


@dataclass(frozen=True)
class Resnet:
    """The custom ResNet (`fastcifar.models.resnet`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[Literal["resnet"], _MODEL] = "resnet"
    """Which network: resnet, speednet, or one's own as FILE.py:NAME, whose other keys are its arguments."""
    width: Annotated[Width, tyro.conf.arg(aliases=["--width"])] = 64
    """Channels after the first convolution; layers 1 to 3 have 2, 4 and 8 times as many."""
    layer2_residual: bool = False
    """Give layer 2 a residual block too (7,756,554 parameters at width 64; 6,575,370 without)."""
    conv_bias: bool = True
    """Give the convolutions a bias; the batch normalisation after them cancels it."""


@dataclass(frozen=True)
class Speednet:
    """The network of the CIFAR-10 speedruns (`fastcifar.models.speednet`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[Literal["speednet"], _MODEL] = "speednet"
    """Which network: resnet, speednet, or one's own as FILE.py:NAME, whose other keys are its arguments."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=4)] = (64, 256, 256)
    """Channels of each group, whose first convolution is followed by a pooling that halves the image's sides."""
    depth: Depth | Annotated[tuple[Depth, ...], Field(min_length=1, max_length=4)] = 2
    """Convolutions of a group; or, as many as there are groups, of each."""
    residual: bool = False
    """Add to a group's end what its first convolution gave; from depth 2 on."""
    activation: Literal["gelu", "silu", "relu"] = "gelu"
    """The non-linearity after the whitening and after every batch normalisation."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of a batch in the running statistics of the batch normalisation, torch's `momentum`."""
    norm_eps: Positive = 1e-12
    """Added to the variance in the batch normalisation."""
    norm_images: Annotated[Count | None, optional("N")] = None
    """Normalise in training over about so many images at a time, not over the batch (ghost batch normalisation)."""
    head_scale: Annotated[Positive | None, optional("X")] = None
    """The logits are the last layer's sums times this; by default one over its number of inputs."""
    whiten_eps: Positive = 5e-4
    """Added to the eigenvalues of the patches' covariance."""
    whiten_bias_epochs: NonNegative = 3.0
    """Epochs over which the whitening's bias is trained, its rate falling linearly to 0."""


@dataclass(frozen=True)
class OwnModel:
    """A network of one's own: `NAME(classes, **arguments)` of a Python file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[OwnName, _MODEL]
    """Which network: resnet, speednet, or one's own as FILE.py:NAME, whose other keys are its arguments."""
    arguments: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """What NAME is called with by keyword; in a TOML file the table's other keys."""
    sha256: Annotated[Sha256 | None, tyro.conf.Suppress] = None
    """Of the file; filled in when it is read, and the file must have it where it is there already."""


@dataclass(frozen=True)
class Adam:
    """Adam over all parameters, at the schedule's rate."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = False

    name: Annotated[Literal["adam"], _OPTIMIZER] = "adam"
    """Which optimizer: adam, sgd, muon, or one's own as FILE.py:NAME, whose other keys are its arguments."""
    beta1: Fraction = 0.9
    """Decay of the running mean of the gradient."""
    beta2: Fraction = 0.999
    """Decay of the running mean of its square."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: NonNegative = 0.0
    """L2 penalty."""


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum: convolutions at the schedule's rate; biases, norms and head at multiples of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = False

    name: Annotated[Literal["sgd"], _OPTIMIZER] = "sgd"
    """Which optimizer: adam, sgd, muon, or one's own as FILE.py:NAME, whose other keys are its arguments."""
    momentum: Fraction = 0.9
    """Decay of the running sum of gradients."""
    nesterov: bool = True
    """Look ahead by the momentum; needs one above 0."""
    weight_decay: NonNegative = 0.0005
    """L2 penalty of convolutions and head; biases and norms have none."""
    bias_rate: NonNegative = 1.0
    """Rate of the biases, as a multiple of the schedule's."""
    norm_rate: NonNegative = 1.0
    """Rate of the normalisations' scales and shifts, likewise."""
    head_rate: NonNegative = 1.0
    """Rate of the last layer's weights, likewise."""


@dataclass(frozen=True)
class Muon:
    """Muon for the convolutions, SGD or Adam for the rest; the schedule multiplies the rates that stand here."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = True

    name: Annotated[Literal["muon"], _OPTIMIZER] = "muon"
    """Which optimizer: adam, sgd, muon, or one's own as FILE.py:NAME, whose other keys are its arguments."""
    lr: Positive = 0.24
    """Rate of the convolutions."""
    momentum: Fraction = 0.6
    """Decay of the running sum of gradients (Nesterov)."""
    newton_schulz_steps: Annotated[int, Field(ge=1, le=20)] = 3
    """Iterations that orthogonalise an update."""
    normalise_weights: bool = True
    """Before each step scale a convolution's weights to the norm sqrt(channels out)."""
    second_momentum: Fraction = 0.0
    """NorMuon's: how slowly the mean squares change by which an update's rows are evened; 0: they are not."""
    rest: Literal["adam", "sgd"] = "adam"
    """What updates biases, norms and head: Adam, or Nesterov SGD."""
    rest_momentum: Fraction = 0.9
    """Of that SGD; Adam's beta1."""
    bias_lr: NonNegative = 0.01
    """Rate of biases and norms."""
    head_lr: NonNegative = 0.01
    """Rate of the last layer's weights."""
    weight_decay: NonNegative = 0.0
    """Of biases, norms and head: share of a value that a step at full rate takes away (decay times rate)."""


@dataclass(frozen=True)
class OwnOptimizer:
    """An optimizer of one's own: `NAME(network, **arguments)` of a Python file; the schedule multiplies its rates."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = True

    name: Annotated[OwnName, _OPTIMIZER]
    """Which optimizer: adam, sgd, muon, or one's own as FILE.py:NAME, whose other keys are its arguments."""
    arguments: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """What NAME is called with by keyword; in a TOML file the table's other keys."""
    sha256: Annotated[Sha256 | None, tyro.conf.Suppress] = None
    """Of the file; filled in when it is read, and the file must have it where it is there already."""


AnyModel: TypeAlias = Resnet | Speednet | OwnModel
AnyOptimizer: TypeAlias = Adam | Sgd | Muon | OwnOptimizer
KINDS: dict[str, dict[str, type]] = {
    "model": {"resnet": Resnet, "speednet": Speednet},
    "optimizer": {"adam": Adam, "sgd": Sgd, "muon": Muon},
}
"""The tables that have several kinds, and the classes of those that ship by `name`, the first the default."""


def kind_of(table: str, value: Any) -> str | None:
    """Which kind of `table` its values are: a name that ships, "own", or None for a name that there is not."""
    name = value.get("name", next(iter(KINDS[table]))) if isinstance(value, dict) else getattr(value, "name", None)
    if not isinstance(name, str):  # of a file it may be anything
        return None
    return "own" if ":" in name else name if name in KINDS[table] else None


def _by_name(table: str) -> Discriminator:
    return Discriminator(
        lambda value: f"<{found}>" if (found := kind_of(table, value)) else None,
        custom_error_type="no_such_kind",
        custom_error_message=f"no such {table}",  # `fastcifar.recipe.validated` says what there is
    )


Model: TypeAlias = Annotated[
    Annotated[Resnet, Tag("<resnet>")] | Annotated[Speednet, Tag("<speednet>")] | Annotated[OwnModel, Tag("<own>")],
    _by_name("model"),
]
Optimizer: TypeAlias = Annotated[
    Annotated[Adam, Tag("<adam>")]
    | Annotated[Sgd, Tag("<sgd>")]
    | Annotated[Muon, Tag("<muon>")]
    | Annotated[OwnOptimizer, Tag("<own>")],
    _by_name("optimizer"),
]


@dataclass(frozen=True)
class Augmentation:
    """Pad, crop to 32x32, flip, jitter, cut out: what `fastcifar.data.plan` draws for every image of every epoch."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    pad: Annotated[int, Field(ge=0, le=8)] = 4
    """Pixels added on each side before the crop back to 32x32."""
    pad_mode: Literal["zero", "reflect"] = "zero"
    """What the padding shows: black, or the mirrored border."""
    flip: Literal["none", "random", "alternating"] = "random"
    """Horizontal flip: never, with probability 1/2, or random in the first epoch and then in turn."""
    brightness: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Largest amount, in standard deviations, by which an image is made brighter or darker; uniform, 0 is none."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest share by which its distance from the mean colour is then stretched or shrunk; uniform, 0 is none."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 8
    """Side in pixels of the square set to the mean colour, wholly inside the image; 0 is none."""
    own: Annotated[OwnName | None, optional("FILE.py:NAME")] = None
    """A transform of one's own that comes after these: FILE.py:NAME, called with a batch and a generator."""
    own_sha256: Annotated[Sha256 | None, tyro.conf.Suppress] = None
    """Of that file; filled in when it is read, and the file must have it where it is there already."""


@dataclass(frozen=True)
class Selection:
    """Which of the training images an epoch is of (`fastcifar.training.selection`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    leave_out: Fraction = 0.0
    """Share of the images that an epoch leaves out: those whose loss was least when they were last trained on."""
    after_epoch: Annotated[int, Field(ge=1)] = 1
    """Epochs that come before, of all images."""
    last_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the end that are of all images too."""


@dataclass(frozen=True)
class Schedule:
    """One cycle of the learning rate: min_lr -> max_lr at the end of peak_epoch -> min_lr, stepped every batch.

    An optimizer that brings rates of its own (muon, one's own) has them multiplied by it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    min_lr: NonNegative = 0.0001
    """Learning rate of the first step and of the last (LRMIN)."""
    max_lr: Positive = 0.005
    """Learning rate at the peak (LRMAX); of an optimizer that brings its rates, the factor there, usually 1."""
    peak_epoch: NonNegative = 5.0
    """Epoch at whose end the peak is reached; moves in proportion where epochs alone is given."""
    hold_epochs: NonNegative = 0.0
    """Epochs that then stay at the peak, before the way down; as many in proportion where epochs alone is given."""
    shape: Literal["linear", "cosine"] = "linear"
    """The way up and down."""


@dataclass(frozen=True)
class Average:
    """A running average of the weights (`fastcifar.training.average`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["none", "ema", "lookahead"] = "none"
    """none; an exponential moving average; or one that the network is set back to each time (Lookahead)."""
    decay: Fraction = 0.95
    """Share that the average keeps of itself, a step."""
    every: Annotated[int, Field(ge=1)] = 5
    """Steps from one update to the next, which keeps the share decay ** every."""
    ramp: NonNegative = 3.0
    """That share is multiplied by (steps taken / steps in all) ** ramp; 0 is the whole of it from the start."""


@dataclass(frozen=True)
class Evaluation:
    """How a network is tested, and after which epochs."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    tta: Literal["none", "flip", "flip+shift", "flip+shift-quarter"] = "none"
    """Mean answer over the mirrored image too; and over shifted ones (6 views), of all or of the least certain 25 %."""
    weights: Literal["average", "network"] = "average"
    """What is tested and kept: the average of the weights where there is one, or the network as it is."""
    epochs: Annotated[tuple[Count, ...], Field(max_length=1000), optional()] = ()
    """After which epochs, counted from 1, and in any case after the last; none: after every one."""
