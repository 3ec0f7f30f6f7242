"""Pictures of one page: figures of a fixed look, as SVG that stands in the page itself.

Colours are those of Okabe and Ito, which people with any colour vision tell apart; a dash pattern, a marker or a hatch
says the same once more. Texts stay texts, in the page's own font.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
INK, QUIET = "#1b1b1f", "#55555e"
STYLE: dict[Any, Any] = {
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.color": "#dddde3",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "expunge",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}
"""Names from elsewhere are shown as they are, dollar signs and all; equal figures give equal bytes."""

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """What a picture shows, in figures."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with all that stands in for it where it cannot be seen."""

    key: str
    title: str
    description: str
    svg: str
    table: Table


@dataclass(frozen=True)
class Look:
    """How one model is drawn everywhere."""

    name: str
    colour: str
    dashes: str | tuple[float, tuple[float, ...]]
    marker: str
    hatch: str


LOOKS = {
    "original": Look("original", "#c44e00", (0, (5, 2)), "^", ""),
    "retrained": Look("retrained", "#007a5a", (0, (1, 1)), "D", "///"),
    "candidate": Look("new version", "#0060a8", "-", "o", ""),
}


@contextmanager
def canvas(width: float = 4.6, height: float = 3.2) -> Iterator[tuple[Figure, Axes]]:
    """Open a figure of so many inches with one pair of axes.

    At this size letters stay readable on a telephone, where the picture is as wide as the page.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.add_subplot()


def inline(figure: Figure, key: str, title: str, description: str) -> str:
    """Return a figure as an element of a page, named and described for those who do not see it.

    Args:
        figure: The figure.
        key: Keeps its ids apart from those of the page's other pictures.
        title: What it is.
        description: What it shows.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ET.fromstring(text.getvalue())  # noqa: S314 - our own drawing, made a line above
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    for parent in list(root.iter()):
        for child in list(parent):
            # Its one rule is meant for the picture and would hold for the whole page.
            if child.tag in {f"{{{SVG}}}style", f"{{{SVG}}}metadata"}:
                parent.remove(child)
    _keep_used_ids(root, key)
    for element in root.iter(f"{{{SVG}}}text"):
        style = element.get("style", "")
        element.set("style", re.sub(r"\s*font-family:[^;]*;?", "", style))
    root.set("role", "img")
    root.set("aria-labelledby", f"{key}-title {key}-description")
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    for place, (name, content) in enumerate((("title", title), ("desc", description))):
        element = ET.Element(f"{{{SVG}}}{name}", id=f"{key}-{'title' if name == 'title' else 'description'}")
        element.text = content
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def _keep_used_ids(root: ET.Element, key: str) -> None:
    """Drop ids that nothing refers to, and make the others the picture's own."""
    reference = re.compile(r"url\(#([^)]+)\)")
    link = f"{{{XLINK}}}href"
    used = {
        name
        for element in root.iter()
        for value in element.attrib.values()
        for name in reference.findall(value)
    }
    used |= {value[1:] for element in root.iter() if (value := element.get(link, "")).startswith("#")}
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                if value in used:
                    element.set("id", f"{key}-{value}")
                else:
                    del element.attrib["id"]
            elif name == link:
                element.set(link, f"#{key}-{value[1:]}")
            else:
                element.set(name, reference.sub(lambda found: f"url(#{key}-{found[1]})", value))
