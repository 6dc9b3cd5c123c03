"""The tables of a recipe. One of several kinds (`model`, `optimizer`) has a class for each, selected by `name`.

The docstrings are the flags' help and the documentation.
"""

from dataclasses import dataclass, field, fields
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


_MODEL = tyro.conf.arg(aliases=["--model"], metavar="resnet|speednet|FILE.py:NAME")
_OPTIMIZER = tyro.conf.arg(aliases=["--optimizer"], metavar="adam|sgd|muon|FILE.py:NAME")


@dataclass(frozen=True)
class Resnet:
    """The custom ResNet (`fastcifar.models.resnet`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[Literal["resnet"], _MODEL] = "resnet"
    """The network: resnet, speednet, or your own as FILE.py:NAME, with the table's other keys as its arguments."""
    width: Annotated[Width, tyro.conf.arg(aliases=["--width"])] = 64
    """Channels after the first convolution; layers 1 to 3 have 2, 4 and 8 times as many."""
    layer2_residual: bool = False
    """Add a residual block to layer 2 as well (7,756,554 parameters at width 64; 6,575,370 without)."""
    conv_bias: bool = True
    """Give the convolutions a bias, although the batch normalisation after them cancels it."""


@dataclass(frozen=True)
class Speednet:
    """The network of the CIFAR-10 speedruns (`fastcifar.models.speednet`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[Literal["speednet"], _MODEL] = "speednet"
    """The network: resnet, speednet, or your own as FILE.py:NAME, with the table's other keys as its arguments."""
    widths: Annotated[tuple[Width, ...], Field(min_length=1, max_length=4)] = (64, 256, 256)
    """Channels of each group; a pooling after the group's first convolution halves the image's sides."""
    depth: Depth | Annotated[tuple[Depth, ...], Field(min_length=1, max_length=4)] = 2
    """Convolutions per group: one number for all groups, or one for each."""
    residual: bool = False
    """Add a shortcut from the output of a group's first convolution to its end, in groups of depth 2 or more."""
    activation: Literal["gelu", "silu", "relu"] = "gelu"
    """Activation after the whitening and after every batch normalisation."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Weight of each batch in batch normalisation's running statistics (torch's `momentum`)."""
    norm_eps: Positive = 1e-12
    """Added to the variance in batch normalisation."""
    norm_images: Annotated[Count | None, optional("N")] = None
    """In training, normalise over groups of about this many images, not the batch (ghost batch normalisation)."""
    head_scale: Annotated[Positive | None, optional("X")] = None
    """Factor on the last layer's output that gives the logits; default: one over its number of inputs."""
    whiten_eps: Positive = 5e-4
    """Added to the eigenvalues of the patch covariance when whitening."""
    whiten_bias_epochs: NonNegative = 3.0
    """Epochs over which the whitening layer's bias is trained, its learning rate falling linearly to 0."""


@dataclass(frozen=True)
class OwnModel:
    """A network of your own: `NAME(classes, **arguments)` in a Python file."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Annotated[OwnName, _MODEL]
    """The network: resnet, speednet, or your own as FILE.py:NAME, with the table's other keys as its arguments."""
    arguments: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Keyword arguments of NAME; in a TOML file, the table's other keys."""
    sha256: Annotated[Sha256 | None, tyro.conf.Suppress] = None
    """sha256 of the file: filled in when it is read; if it is given, the file must match it."""


@dataclass(frozen=True)
class Adam:
    """Adam over all parameters, at the schedule's learning rate."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = False

    name: Annotated[Literal["adam"], _OPTIMIZER] = "adam"
    """The optimizer: adam, sgd, muon, or your own as FILE.py:NAME, with the table's other keys as its arguments."""
    beta1: Fraction = 0.9
    """Decay of the running mean of the gradient."""
    beta2: Fraction = 0.999
    """Decay of the running mean of the squared gradient."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: NonNegative = 0.0
    """L2 penalty."""


@dataclass(frozen=True)
class Sgd:
    """SGD with momentum: convolutions at the schedule's learning rate; biases, norms and head at multiples of it."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = False

    name: Annotated[Literal["sgd"], _OPTIMIZER] = "sgd"
    """The optimizer: adam, sgd, muon, or your own as FILE.py:NAME, with the table's other keys as its arguments."""
    momentum: Fraction = 0.9
    """Momentum."""
    nesterov: bool = True
    """Nesterov momentum; needs a momentum above 0."""
    weight_decay: NonNegative = 0.0005
    """L2 penalty on convolutions and head; biases and norms have none."""
    bias_rate: NonNegative = 1.0
    """Learning rate of the biases, as a multiple of the schedule's."""
    norm_rate: NonNegative = 1.0
    """Learning rate of the normalisations' scales and shifts, likewise."""
    head_rate: NonNegative = 1.0
    """Learning rate of the last layer's weights, likewise."""


@dataclass(frozen=True)
class Muon:
    """Muon for the convolutions, SGD or Adam for the rest; the schedule multiplies the learning rates given here."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = True

    name: Annotated[Literal["muon"], _OPTIMIZER] = "muon"
    """The optimizer: adam, sgd, muon, or your own as FILE.py:NAME, with the table's other keys as its arguments."""
    lr: Positive = 0.24
    """Learning rate of the convolutions."""
    momentum: Fraction = 0.6
    """Momentum (Nesterov)."""
    newton_schulz_steps: Annotated[int, Field(ge=1, le=20)] = 3
    """Newton-Schulz iterations that orthogonalise an update."""
    normalise_weights: bool = True
    """Scale each convolution's weights to norm sqrt(output channels) before every step."""
    second_momentum: Fraction = 0.0
    """NorMuon: decay of the running mean square that normalises each row of an update; 0: off."""
    rest: Literal["adam", "sgd"] = "adam"
    """Optimizer of biases, norms and head: Adam, or Nesterov SGD."""
    rest_momentum: Fraction = 0.9
    """Its momentum (SGD) or beta1 (Adam)."""
    bias_lr: NonNegative = 0.01
    """Learning rate of biases and norms."""
    head_lr: NonNegative = 0.01
    """Learning rate of the last layer's weights."""
    weight_decay: NonNegative = 0.0
    """Decay of biases, norms and head: the fraction of a value that a step at full rate removes (decay times rate)."""


@dataclass(frozen=True)
class OwnOptimizer:
    """An optimizer of your own: `NAME(network, **arguments)` in a Python file; the schedule multiplies its rates."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT
    brings_rates: ClassVar[bool] = True

    name: Annotated[OwnName, _OPTIMIZER]
    """The optimizer: adam, sgd, muon, or your own as FILE.py:NAME, with the table's other keys as its arguments."""
    arguments: Annotated[dict[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Keyword arguments of NAME; in a TOML file, the table's other keys."""
    sha256: Annotated[Sha256 | None, tyro.conf.Suppress] = None
    """sha256 of the file: filled in when it is read; if it is given, the file must match it."""


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


def kinds_with(table: str, field_name: str) -> list[str]:
    """The kinds of `table` that ship and have this field."""
    return [kind for kind, of in KINDS.get(table, {}).items() if field_name in {one.name for one in fields(of)}]


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
    """Pixels of padding on each side before the random crop back to 32x32."""
    pad_mode: Literal["zero", "reflect"] = "zero"
    """Pad with zeros (black), or reflect the border."""
    flip: Literal["none", "random", "alternating"] = "random"
    """Horizontal flip: never, with probability 1/2, or random in the first epoch and alternating afterwards."""
    brightness: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Maximum brightness jitter, in standard deviations; uniform in both directions, 0: none."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Maximum contrast jitter, as a fraction of the distance from the mean colour; uniform, 0: none."""
    cutout: Annotated[int, Field(ge=0, le=32)] = 8
    """Side in pixels of the square set to the mean colour, always entirely inside the image; 0: none."""
    own: Annotated[OwnName | None, optional("FILE.py:NAME")] = None
    """Your own transform, applied after these: FILE.py:NAME, called with a batch and a generator."""
    own_sha256: Annotated[Sha256 | None, tyro.conf.Suppress] = None
    """sha256 of that file: filled in when it is read; if it is given, the file must match it."""


@dataclass(frozen=True)
class Selection:
    """Which training images an epoch uses (`fastcifar.training.selection`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    leave_out: Fraction = 0.0
    """Share of the images that an epoch leaves out: those with the lowest loss when they were last trained on."""
    after_epoch: Annotated[int, Field(ge=1)] = 1
    """Number of initial epochs that use all images; scales with epochs unless set."""
    last_epochs: Annotated[int, Field(ge=0)] = 0
    """Number of final epochs that use all images; scales with epochs unless set."""


@dataclass(frozen=True)
class Schedule:
    """One cycle of the learning rate: min_lr -> max_lr at the end of peak_epoch -> min_lr, stepped every batch.

    An optimizer with learning rates of its own (muon, and yours) has them multiplied by it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    min_lr: NonNegative = 0.0001
    """Learning rate of the first and the last step (LRMIN)."""
    max_lr: Positive = 0.005
    """Learning rate at the peak (LRMAX); for an optimizer with its own rates, a factor on them, usually 1."""
    peak_epoch: NonNegative = 5.0
    """Epoch at whose end the peak is reached; scales with epochs unless set."""
    hold_epochs: NonNegative = 0.0
    """Epochs to stay at the peak before the descent; scales with epochs unless set."""
    shape: Literal["linear", "cosine"] = "linear"
    """Shape of the ascent and the descent."""


@dataclass(frozen=True)
class Average:
    """A running average of the weights (`fastcifar.training.average`)."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: Literal["none", "ema", "lookahead"] = "none"
    """none; ema: exponential moving average; lookahead: an average to which the network is reset each time."""
    decay: Fraction = 0.95
    """Decay of the average per step."""
    every: Annotated[int, Field(ge=1)] = 5
    """Steps between updates, each with decay ** every."""
    ramp: NonNegative = 3.0
    """Exponent of the warm-up of that decay, (steps taken / total steps) ** ramp; 0: full decay from the start."""


@dataclass(frozen=True)
class Evaluation:
    """How a network is tested, and after which epochs."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    tta: Literal["none", "flip", "flip+shift", "flip+shift-quarter"] = "none"
    """Test-time augmentation: flip averages 2 views, flip+shift 6, -quarter 6 for the least certain 25 % of images."""
    weights: Literal["average", "network"] = "average"
    """Which weights are tested and kept: their average if there is one, or the network's own."""
    epochs: Annotated[tuple[Count, ...], Field(max_length=1000), optional()] = ()
    """Epochs (from 1) to test after, besides the last one; empty: all. Scales with epochs unless set."""
