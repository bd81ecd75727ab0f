"""The page in a real browser: nothing in the console, nothing from the network, all visible, on phone and projector."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import synthetic
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

pytestmark = pytest.mark.browser

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    binary = next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed: the report was not tested in a browser")
    options = Options()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    yield started
    started.quit()


def _open(browser: webdriver.Chrome, page: Path, width: int = 1280, theme: str = "light") -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(page.as_uri())


@pytest.fixture
def page(finished: Path) -> Path:
    return finished / "report.html"


def test_console_and_network_are_silent(browser: webdriver.Chrome, page: Path) -> None:
    browser.get_log("performance")
    _open(browser, page)
    browser.find_element(By.ID, "theme").click()
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]


@pytest.mark.parametrize(("width", "shown"), [(390, "narrow"), (820, "wide"), (1280, "wide"), (1920, "wide")])
def test_figures_are_visible_and_nothing_is_wider_than_the_screen(
    browser: webdriver.Chrome, page: Path, width: int, shown: str
) -> None:
    _open(browser, page, width)
    pictures = browser.find_elements(By.CSS_SELECTOR, "svg[role=img]")
    assert len(pictures) == 12
    visible = [picture for picture in pictures if picture.is_displayed()]
    assert [picture.get_attribute("class") for picture in visible] == [shown] * 6
    for picture in visible:
        assert picture.size["width"] > 300 and picture.size["height"] > 100
        assert picture.find_elements(By.TAG_NAME, "path")
    too_wide = "const root = document.documentElement; return root.scrollWidth - root.clientWidth"
    assert browser.execute_script(too_wide) == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_no_text_is_cut_off_or_covered_in_a_figure(browser: webdriver.Chrome, page: Path, width: int) -> None:
    _open(browser, page, width)
    boxes: list[list[dict[str, Any]]] = browser.execute_script(
        """
        const shown = [...document.querySelectorAll('svg[role=img]')].filter(s => s.getBoundingClientRect().width);
        return shown.map(svg => {
          const f = svg.getBoundingClientRect();
          return [...svg.querySelectorAll('text')].map(text => {
            const r = text.getBoundingClientRect();
            const out = Math.max(f.left - r.left, r.right - f.right, f.top - r.top, r.bottom - f.bottom);
            return {text: text.textContent, l: r.left, r: r.right, t: r.top, b: r.bottom, out};
          });
        });"""
    )
    assert len(boxes) == 6
    for figure in boxes:
        assert figure
        for i, one in enumerate(figure):
            assert one["out"] < 2, one
            for other in figure[:i]:
                across = min(one["r"], other["r"]) - max(one["l"], other["l"])
                down = min(one["b"], other["b"]) - max(one["t"], other["t"])
                height = min(one["b"] - one["t"], other["b"] - other["t"])
                # A line's box is taller than its letters.
                assert across <= 1 or down < 0.4 * height, (one, other)


def test_tables_are_there(browser: webdriver.Chrome, page: Path) -> None:
    _open(browser, page)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    tables = browser.find_elements(By.TAG_NAME, "table")
    assert len(tables) == 7
    assert all(table.is_displayed() for table in tables)
    for table in tables[:2]:
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
        assert len(rows) == len(synthetic.RULES)
        assert rows[0].text.startswith("Back-propagation")


@pytest.mark.parametrize("width", [390, 1280])
def test_the_matrix_shows_a_sign_and_says_a_word_in_every_cell(
    browser: webdriver.Chrome, page: Path, width: int
) -> None:
    _open(browser, page, width)
    rows = browser.find_elements(By.CSS_SELECTOR, ".matrix tbody tr")
    for rule, row in zip(synthetic.RULES, rows, strict=True):
        cells = row.find_elements(By.CSS_SELECTOR, "td:not(.total)")
        for cell, verdict in zip(cells, synthetic.verdicts(rule).values(), strict=True):
            sign = cell.find_element(By.CSS_SELECTOR, "svg.verdict")
            assert sign.size["width"] > 10 and sign.find_elements(By.CSS_SELECTOR, "path, circle")
            word = cell.find_element(By.CSS_SELECTOR, ".said")
            assert (word.get_attribute("textContent") or "").split(",")[0] == verdict
            # For a screen reader alone.
            assert word.size["width"] <= 1
            assert "A synthetic sentence" in (cell.get_attribute("title") or "")


def test_the_picture_comes_right_after_the_finding(browser: webdriver.Chrome, page: Path) -> None:
    _open(browser, page)
    after = "return document.querySelector('.finding').nextElementSibling.id"
    assert browser.execute_script(after) == "figure-problems"
    top = browser.find_element(By.ID, "figure-problems").rect["y"]
    assert top < 500  # on the first screen
    assert browser.find_element(By.ID, "figure-final").rect["y"] > top


def test_the_rule_stays_in_sight_while_the_matrix_scrolls(browser: webdriver.Chrome, page: Path) -> None:
    _open(browser, page, 390)
    names = "return [...document.querySelectorAll('.matrix tbody th')].map(e => e.getBoundingClientRect().left)"
    before = browser.execute_script(names)
    moved = browser.execute_script(
        "const s = document.querySelector('.matrix .scroll'); s.scrollLeft = 150; return s.scrollLeft"
    )
    assert moved == 150
    assert browser.execute_script(names) == before


def _background(browser: webdriver.Chrome) -> str:
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_light_dark_and_the_button(browser: webdriver.Chrome, page: Path) -> None:
    _open(browser, page, theme="light")
    light = _background(browser)
    ink = browser.execute_script("return getComputedStyle(document.querySelector('svg.wide text')).fill")
    _open(browser, page, theme="dark")
    dark = _background(browser)
    assert light != dark
    assert browser.execute_script("return getComputedStyle(document.querySelector('svg.wide text')).fill") != ink
    button = browser.find_element(By.ID, "theme")
    assert button.text == "Light"
    button.click()
    assert _background(browser) == light
    assert button.text == "Dark"
    button.click()
    assert _background(browser) == dark


def test_print_is_on_white(browser: webdriver.Chrome, page: Path) -> None:
    _open(browser, page, theme="light")
    light = _background(browser)
    media = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    assert _background(browser) == light
    assert not browser.find_element(By.ID, "theme").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
