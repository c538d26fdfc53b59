"""From parts to one HTML file: template, style, script, plotly and the figures' data are all in it.

The same parts give the same bytes. A page takes 5 MB, nearly all of it plotly, and half a second.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from data_pipeline.durable import write_durably
from evaluation.page.parts import Figure, Page, Plot

HERE = Path(__file__).parent
_NUMBER = re.compile(r"[+-]?(?:\d[\d,]*)?(?:\.\d+|\d)(?:[eE][+-]?\d+)?")


def write_page(page: Page, path: Path) -> None:
    """Write `page` to `path`, whole or not at all; raises `UserError` where the disk is full."""
    write_durably(path, page_html(page))


def page_html(page: Page) -> str:
    """The file's content; raises `ValueError` for two figures of one name."""
    figures = [part for section in page.sections for part in section.parts if isinstance(part, Figure)]
    names = [figure.name for figure in figures]
    if len(set(names)) < len(names):
        raise ValueError(f"figures of a page need names of their own: {', '.join(sorted(names))}")
    templates = Environment(
        loader=FileSystemLoader(HERE, encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals |= {"drawing_json": drawing_json, "number_of": number_of}
    return templates.get_template("page.html.j2").render(
        page=page,
        style=_own("page.css"),
        script=_own("page.js"),
        plotly=Markup(get_plotlyjs() if figures else ""),
    )


def drawing_json(plot: Plot) -> Markup:
    """Traces and layout of `plot` as JSON that may stand inside a script element."""
    content: dict[str, Any] = plot.drawing.to_plotly_json()
    content["layout"].pop("template", None)  # the page has its own
    text = json.dumps(content, cls=PlotlyJSONEncoder, sort_keys=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def number_of(cell: str) -> str:
    """The number that `cell` begins with, as JavaScript reads it; empty where there is none."""
    found = _NUMBER.match(cell.strip())
    return repr(float(found.group().replace(",", ""))) if found else ""


def _own(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))
