"""The page in a real browser: no error, curves that answer the pointer, and nothing wider than a telephone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_modules.reports.report import Report
from tests.lightning_modules.reports.small_results import LADDER, write_baseline, write_ladder

pytest.importorskip("bjontegaard", reason="BD-rate needs the extra: pip install -e .[metrics]")
playwright = pytest.importorskip("playwright.sync_api", reason="needs a browser's driver: pip install playwright")

pytestmark = pytest.mark.slow
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_ladder(folder / "in" / "sweep", ["experiment=hyperprior"])
    rungs = [(str(k), 0.3 * k, str(26 + 2 * k)) for k in range(1, 6)]
    for k in range(9):
        write_baseline(folder / "in" / f"codec{k}", f"a codec with a long name {k}", rungs)
    write_baseline(folder / "in" / "png", "PNG", [("0", 12.0, "inf")])
    Report(None, ["akima", "cubic"], 20, 0, say=lambda line: None).run([folder / "in"], folder / "out")
    return folder / "out" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no browser: install Debian's chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[(PHONE, "dark"), (PHONE, "light"), (DESK, "dark"), (DESK, "light")], ids=str)
def page(request: pytest.FixtureRequest, browser: Any, page_path: Path) -> Iterator[Any]:
    """The page as opened; any message in its console and any request for another file fails the test."""
    size, scheme = request.param
    context = browser.new_context(viewport=size, color_scheme=scheme)
    opened, messages = context.new_page(), []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on("request", lambda asked: messages.append(asked.url) if asked.url != page_path.as_uri() else None)
    opened.goto(page_path.as_uri())
    yield opened
    context.close()
    assert [message for message in messages if not message.startswith("data:")] == []


def test_the_page_is_no_wider_than_the_screen(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_the_curves_are_there_and_inside_their_figures(page: Any) -> None:
    assert page.locator("figure").count() == 3
    lines = page.locator("figure:first-child polyline")
    assert lines.count() == 10
    frame = page.locator("figure svg").first.bounding_box()
    for k in range(lines.count()):
        box = lines.nth(k).bounding_box()
        assert box["width"] > 20
        assert box["height"] > 20
        assert frame["x"] <= box["x"] <= box["x"] + box["width"] <= frame["x"] + frame["width"]


def test_pointing_near_a_point_names_it_and_leaving_does_not(page: Any) -> None:
    figure = page.locator("figure").first
    point = figure.locator("g[data-curve='0'] circle.point").nth(len(LADDER) - 1)
    tip, box = figure.locator(".tip"), point.bounding_box()
    assert not tip.is_visible()
    page.mouse.move(box["x"] + box["width"] / 2 + 2, box["y"] + box["height"] / 2)
    assert tip.inner_text() == "hyperprior, lmbda 0.01: 1.2000 bpp, 34.00 dB"
    shown = tip.bounding_box()
    assert shown["x"] >= 0
    assert shown["x"] + shown["width"] <= page.viewport_size["width"]
    page.mouse.move(1, 1)
    assert not tip.is_visible()


def test_a_button_of_the_legend_hides_its_curve_everywhere_and_shows_it_again(page: Any) -> None:
    button, curves = page.locator(".legend button").nth(1), page.locator("g[data-curve='1']")
    assert button.inner_text() == "a codec with a long name 0"
    for shown in (False, True):
        button.click()
        assert [curves.nth(k).is_visible() for k in range(3)] == [shown] * 3


def test_text_stands_out_from_its_ground(page: Any) -> None:
    """At least 7 to 1, the contrast that WCAG 2.1 calls enhanced."""
    ink, paper = page.evaluate(
        "(() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] })()"
    )

    def luminance(colour: str) -> float:
        levels = [int(word) / 255 for word in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 7.0
