"""Draws one page: a sheet as JSON on standard input, HTML on standard output. `python -m app.reports.render`.

The same sheet gives the same bytes, whenever and wherever it is drawn with the same libraries.
"""

import sys
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.reports import pictures, view, words
from app.reports.drawing import Picture
from app.reports.schemas import Sheet
from unlearning.audits.report import Audit

TEMPLATES = Path(__file__).parent


def figure(value: float | None) -> Markup:
    """Return a figure for people, with its exact value for programs."""
    if value is None:
        return Markup('<span class="none">not measured</span>')
    return Markup('<data value="{}">{}</data>').format(repr(value), words.number(value))


def cell(value: object) -> Markup | str:
    """Return what stands in a cell of a table."""
    if isinstance(value, (int, float)):
        return figure(value)
    return Markup("—") if value is None else words.plain(str(value))


def draw(sheet: Sheet) -> str:
    """Return the page of a sheet."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": cell,
        "duration": words.duration,
        "figure": figure,
        "moment": words.moment,
        "plain": words.plain,
        "setting": view.setting,
    }
    style = Markup((TEMPLATES / "page.css").read_text())  # noqa: S704 - a file of our own
    return environment.get_template("page.html").render(
        sheet=sheet,
        audit=sheet.audit,
        view=view,
        counted=words.counted,
        style=style,
        **(_pictures(sheet.audit, sheet) if sheet.audit is not None else {}),
    )


def _pictures(audit: Audit, sheet: Sheet) -> dict[str, Any]:
    return {
        "distributions": list(pictures.distributions(audit)),
        "ladder": pictures.ladder(sheet.ladder),
        "curves": list(pictures.curves(audit)),
        "strata": pictures.strata(audit),
        "inline": _inline,
    }


def _inline(picture: Picture) -> Markup:
    return Markup(picture.svg)  # noqa: S704 - made by `drawing.inline`, which escapes every text


def main() -> None:
    """Draw the sheet on standard input."""
    sheet = Sheet.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.buffer.write(draw(sheet).encode())


if __name__ == "__main__":
    main()
