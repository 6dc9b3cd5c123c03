"""How every figure is drawn: one style, and a figure as PNG for paper or as SVG in a page's own colours.

Figures are 3.5 inches wide, a column of a paper; their letters are 7 to 8 points there. The colours of the series are
told apart by the colour-blind, and line style or order says the same. A figure is drawn once, in colours for paper; in
the SVG each is a custom property of the page's CSS, which has one for light and one for dark.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from xml.etree import ElementTree

import matplotlib.style
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

Values: TypeAlias = Sequence[float] | NDArray[np.float64]
T = TypeVar("T")

WIDTH, DPI = 3.5, 300
POINTS = 72  # an inch
LETTER = 0.56  # of its size in points is a letter wide, on the mean of a name
ROWS = 100  # of a picture with one for each class, which would else be as long as one likes
MOST = 4 * round(WIDTH * DPI)  # points of a line; an axis is narrower than its picture
GROUND, TEXT, QUIET, LINE, PUBLISHED = "#ffffff", "#1c2024", "#596169", "#dfe2e0", "#6b737b"
SERIES = ("#0069b4", "#c94f00", "#00805c", "#b23a86", "#8a6500", "#2b3138")
# The custom property of templates/base.css that stands for each.
PROPERTIES = {GROUND: "card", TEXT: "text", QUIET: "quiet", LINE: "line", PUBLISHED: "published"} | {
    colour: f"c{number}" for number, colour in enumerate(SERIES)
}
_SVG, _LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"

# Whatever the user's matplotlibrc says.
in_style = matplotlib.style.context(
    [
        "default",
        {
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
            "font.size": 7.5,
            "axes.labelsize": 8,
            "axes.titlesize": 8,
            "text.color": TEXT,
            "text.parse_math": False,  # a $ in a run's name is one
            "axes.labelcolor": TEXT,
            "axes.edgecolor": QUIET,
            "axes.facecolor": "none",
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "grid.color": LINE,
            "grid.linewidth": 0.5,
            "xtick.color": QUIET,
            "ytick.color": QUIET,
            "xtick.labelcolor": TEXT,
            "ytick.labelcolor": TEXT,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "lines.linewidth": 1.4,
            "lines.markersize": 3.5,
            "legend.frameon": False,
            "legend.handlelength": 2.6,
            "hatch.color": SERIES[1],
            "hatch.linewidth": 0.6,
            "figure.facecolor": GROUND,
            "svg.fonttype": "none",
            "svg.hashsalt": "fastcifar",
        },
    ]
)


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its file, what it shows to who cannot see it, and its caption."""

    name: str
    figure: Figure
    alt: str
    caption: str

    def png(self) -> bytes:
        """The file for paper, at 300 dots an inch."""
        return _saved(self.figure, format="png")

    def svg(self) -> Markup:
        """The figure as a page holds it."""
        return as_svg(self.figure, self.name, self.alt)


def new_figure(height: float, width: float = WIDTH, **layout: Any) -> tuple[Figure, Any]:
    """A figure so many inches high and its axes, as `Figure.subplots` makes them; to be called `in_style`."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    return figure, figure.subplots(**layout)


def outermost(rows: Sequence[T]) -> Sequence[T]:
    """The first and the last of them, where there are more than `ROWS`."""
    half = ROWS // 2
    return rows if len(rows) <= ROWS else [*rows[:half], *rows[-half:]]


def outermost_of(classes: int) -> str:
    """What a caption says of them, of so many classes in the order of their accuracy."""
    return f"; the {ROWS // 2} best and the {ROWS // 2} worst of {classes:,} classes" if classes > ROWS else ""


def line(axis: Axes, places: Values, values: Values, colour: str, *, marker: str = "o", **style: Any) -> None:
    """A line of one value an epoch, with marks where they are few enough not to hide it; `style` as for `Axes.plot`.

    Of more than `MOST` values only those are drawn that can be seen.
    """
    places, values = _seen(places, values)
    axis.plot(places, values, marker=marker if len(values) <= 30 else None, color=colour, clip_on=False, **style)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True) if len(values) > 1 else FixedLocator(list(places)))


def _seen(places: Values, values: Values) -> tuple[Values, Values]:
    """Of more than `MOST` values, in each of as many stretches as a quarter of that, the ends, the least and the most.

    A stretch is narrower than a pixel, and drawn whole it is a stroke from the least to the most, slowly.
    """
    if len(values) <= MOST:
        return places, values
    kept = set[int]()
    for stretch in np.array_split(np.arange(len(values)), MOST // 4):
        inside = np.asarray(values[stretch[0] : stretch[-1] + 1])
        kept |= {
            int(stretch[0]),
            int(stretch[-1]),
            int(stretch[0] + inside.argmin()),
            int(stretch[0] + inside.argmax()),
        }
    return [places[one] for one in sorted(kept)], [values[one] for one in sorted(kept)]


@in_style
def _saved(figure: Figure, **options: Any) -> bytes:
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # a layout made twice is another one, and so would be the picture
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()


def as_svg(figure: Figure, name: str, alt: str, titles: Mapping[str, str] | None = None) -> Markup:
    """An SVG element for a page, its identifiers begun by `name`: no style, no script, no ground, the same bytes each
    time.

    `titles`: for an artist by its gid, what the browser says of it. It becomes a g of class `curve` with the gid as
    `data-curve`, and gets a wide invisible line by which a pointer takes hold of it.
    """
    root = ElementTree.fromstring(_saved(figure, format="svg", facecolor="none", metadata={"Date": None}))
    for unused in ("metadata", "defs"):  # the first defs are a style sheet
        root.remove(next(root.iter(f"{_SVG}{unused}")))
    view = root.attrib["viewBox"]
    for one in list(root.iter()):
        one.tag = one.tag.removeprefix(_SVG)
        one.tail = None
        if one.tag != "text":
            one.text = None
        gid = one.attrib.pop("id", "") if one.tag in ("g", "image") else ""  # to which nothing refers
        one.attrib = _attributes(one, name)
        if titles and gid in titles:
            _as_curve(one, gid, titles[gid])
    root.attrib = {"viewBox": view, "role": "img", "aria-label": alt, "stroke-linejoin": "round"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _attributes(one: ElementTree.Element, name: str) -> dict[str, str]:
    """Those of an element with its style as attributes, which a Content-Security-Policy has nothing against."""
    written = {key.removeprefix(_LINK): value for key, value in one.attrib.items()}
    styles = (part.partition(":") for part in written.pop("style", "").split(";") if part)
    written |= {key.strip(): value.strip() for key, _, value in styles}
    written.pop("font-family", None)  # the page's
    for key, value in written.items():
        if key == "id":
            value = f"{name}-{value}"
        elif key == "href" and value.startswith("#"):
            value = f"#{name}-{value[1:]}"
        elif value in PROPERTIES:
            value = f"var(--{PROPERTIES[value]})"
        written[key] = " ".join(value.replace("url(#", f"url(#{name}-").split())
    return written


def _as_curve(group: ElementTree.Element, gid: str, title: str) -> None:
    group.attrib |= {"class": "curve", "data-curve": gid}
    said = ElementTree.Element("title")
    said.text = title
    group.insert(0, said)
    drawn = group.find(f"{_SVG}path")
    if drawn is not None:
        group.insert(1, ElementTree.Element("path", {"class": "reach", "d": " ".join(drawn.attrib["d"].split())}))
