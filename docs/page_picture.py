"""A picture of a report's page for the documents: what chromium shows at a width, of the whole page or of one figure.

    python docs/page_picture.py RUN/report/report.html --figure precision-recall --out docs/figures/simulated_pr.png

Needs the package playwright and the program chromium.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from data_pipeline.errors import UserError, command_line

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    page: Annotated[Path, typer.Argument(help="A page that a report wrote.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    figure: Annotated[str, typer.Option(help="Name of one figure, for example precision-recall; else the page.")] = "",
    width: Annotated[int, typer.Option(help="Pixels of the window.", min=320, max=4000)] = 1440,
    height: Annotated[int, typer.Option(help="Pixels from the top of the page; 0: all of it.", min=0)] = 0,
    scheme: Annotated[Literal["light", "dark"], typer.Option(help="Scheme of the browser.")] = "light",
) -> None:
    """Write a picture of a page."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        raise UserError("the browser chromium is missing; install it (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": width, "height": height or 900}, color_scheme=scheme)
        shown.goto(page.resolve().as_uri())
        shown.wait_for_selector("html[data-drawn]")
        if figure:
            place = shown.locator(f"[id='figure-{figure}']")
            if place.count() == 0:
                raise UserError(f"{page} has no figure '{figure}'; look for id=\"figure-...\" in it")
            place.screenshot(path=out)
        else:
            shown.screenshot(path=out, full_page=not height)
        browser.close()


if __name__ == "__main__":
    command_line(app)
