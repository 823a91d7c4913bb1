"""The page of a leaderboard in a real browser."""

import pytest
from bundles import HOSTILE

HEAD = "#board-1 thead th:nth-child({})"


@pytest.fixture
def opened(browser, board_site):
    browser.open(board_site / "index.html")
    return browser


def names(browser) -> list[str]:
    """The submissions of the first board, top to bottom."""
    cells = browser.driver.find_elements("css selector", "#board-1 tbody th > bdi")
    return [cell.text.removesuffix(": student").removesuffix(": student_b") for cell in cells]


def test_the_page_opens_without_errors_or_requests(opened, board_site):
    assert opened.errors() == []
    assert opened.requests() == [(board_site / "index.html").as_uri()]
    assert opened.driver.title == "Ours & <theirs>"
    assert names(opened)[:2] == ["Good", "Close"]
    assert HOSTILE in names(opened)
    assert opened.driver.find_elements("css selector", "img, tbody script, tbody b") == []


def test_without_a_script_the_page_is_whole_and_has_no_dead_buttons(browser, board_site):
    disable = "Emulation.setScriptExecutionDisabled"
    browser.driver.execute_cdp_cmd(disable, {"value": True})
    try:
        browser.open(board_site / "index.html")
        assert browser.texts("button") == []
        assert names(browser)[:2] == ["Good", "Close"]
        assert browser.texts("#board-1 tbody tr:first-child td")[0] == "1\u20133"
    finally:
        browser.driver.execute_cdp_cmd(disable, {"value": False})


@pytest.mark.parametrize("width", [400, 1400])
def test_verdict_and_name_are_seen_and_nothing_is_cut(opened, width):
    """On a screen of 1400 pixels no table scrolls; on one of 400 the verdict is seen at once."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        page, frame, table, verdict = opened.driver.execute_script(
            "const frame = document.querySelector('.scroll');"
            "const cell = frame.querySelector('bdi.kept');"
            "return [document.documentElement.scrollWidth, frame.clientWidth, frame.scrollWidth,"
            "        cell.getBoundingClientRect().right]"
        )
    finally:
        opened.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert page <= width
    assert verdict <= width
    assert width < 1400 or table == frame


def test_intervals_have_a_scale(opened):
    marks = opened.texts("#board-1 thead .axis text")
    assert marks == ["0.0", "100.0"]


def test_a_click_sorts_the_rows(opened):
    before = names(opened)
    head = opened.driver.find_element("css selector", HEAD.format(2))
    head.find_element("css selector", "button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(opened) == sorted(before, key=str.lower)
    head.find_element("css selector", "button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert names(opened) == sorted(before, key=str.lower, reverse=True)
    answers = opened.driver.find_element("id", "said").get_attribute("textContent")
    assert answers == "made, swapped: sorted by student, descending"
    others = opened.driver.find_elements("css selector", "#board-1 thead [aria-sort]")
    assert others == [head]


def test_the_keyboard_sorts_the_rows_and_missing_values_stay_last(opened):
    from selenium.webdriver.common.keys import Keys

    titles = [text.lower() for text in opened.texts("#board-1 thead th")]
    column = titles.index("distillability") + 1
    button = opened.driver.find_element("css selector", f"{HEAD.format(column)} button")
    opened.driver.execute_script("arguments[0].focus()", button)

    def values() -> list[float | None]:
        cells = opened.driver.find_elements(
            "css selector", f"#board-1 tbody td:nth-child({column})"
        )
        result = [cell.get_attribute("data-value") for cell in cells]
        return [None if value is None else float(value) for value in result]

    for key, order, reverse in ((Keys.ENTER, "descending", True), (Keys.SPACE, "ascending", False)):
        opened.driver.switch_to.active_element.send_keys(key)
        head = opened.driver.find_element("css selector", HEAD.format(column))
        assert head.get_attribute("aria-sort") == order
        result = values()
        assert result[-1] is None
        assert result[:-1] == sorted(result[:-1], reverse=reverse)
        assert len(set(result)) > 3
    assert opened.errors() == []


def test_every_cell_has_its_headers_and_every_table_a_name(opened):
    script = """
        return [...document.querySelectorAll('table')].every((table) =>
            table.caption.textContent
            && [...table.querySelectorAll('thead th')].every((head) => head.scope === 'col')
            && [...table.tBodies[0].rows].every((row) =>
                row.cells.length === table.tHead.rows[0].cells.length
                && row.querySelector('th').scope === 'row'))
        && [...document.querySelectorAll('[aria-labelledby]')].every((part) =>
            document.getElementById(part.getAttribute('aria-labelledby')).textContent)
        && [...document.querySelectorAll('.scroll')].every((part) => part.tabIndex === 0)
    """
    assert opened.driver.execute_script(script) is True


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(opened, scheme):
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3), from the colours the browser computed."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    script = """
        const root = getComputedStyle(document.documentElement);
        return Object.fromEntries(['text', 'soft', 'accent', 'good', 'bad', 'page', 'stripe']
            .map((name) => [name, root.getPropertyValue('--' + name).trim()]));
    """
    colours = opened.driver.execute_script(script)

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    assert (luminance(colours["page"]) > 0.5) == (scheme == "light")
    for ground in ("page", "stripe"):
        for ink in ("text", "soft", "accent", "good", "bad"):
            low, high = sorted((luminance(colours[ground]), luminance(colours[ink])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
