"""Pages in a headless Chromium: pictures at three widths, light and dark, and what axe-core finds.

    make pages                                        # a small run, its report, then this script
    python docs/look_at_pages.py --output_path results/looks results/pages/report_*.html

It ends with an error where a page is wider than the screen, where the console holds a message, or
where axe-core finds a serious violation. Without a browser it says what is missing and does
nothing; axe-core comes with `npm install --prefix DIR axe-core` and `--axe DIR`.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
from pathlib import Path
from typing import Any

WIDTHS = (400, 800, 1400)
SCHEMES = ("light", "dark")
TALLEST = 16_000
"""Pixels of a picture; a longer page is cut."""

PATIENCE = 110
"""Seconds that axe-core may take on one page; after 120 Selenium hears nothing of it."""

SERIOUS = ("serious", "critical")


def main() -> int:
    """Look at every page; 1 where one has a fault."""
    out = argparse.ArgumentParser(description="Look at pages in a headless Chromium.")
    out.add_argument("pages", nargs="+", type=Path, metavar="PAGE", help="HTML files")
    out.add_argument("--output_path", type=Path, required=True, metavar="DIR", help="for pictures")
    out.add_argument("--axe", type=Path, metavar="DIR", help="where npm has installed axe-core")
    values = out.parse_args()
    for page in values.pages:
        if not page.is_file():
            out.error(f"{page}: there is no such page")
    driver, reason = browser()
    if driver is None:
        print(f"skipped: {reason}")
        return 0
    axe = ""
    if values.axe is not None:
        program = values.axe / "node_modules/axe-core/axe.min.js"
        if program.is_file():
            axe = program.read_text(encoding="utf-8")
        else:
            print(f"without axe-core: {program} is missing (npm install --prefix DIR axe-core)")
    values.output_path.mkdir(parents=True, exist_ok=True)
    faults: list[str] = []
    try:
        for page in values.pages:
            for scheme in SCHEMES:
                for width in WIDTHS:
                    result = look(driver, page, width, scheme, values.output_path, axe)
                    faults += [f"{page.name}, {width} px, {scheme}: {fault}" for fault in result]
    finally:
        driver.quit()
    print("\n".join(faults) or f"{len(values.pages)} pages without a fault")
    return 1 if faults else 0


def browser() -> tuple[Any, str]:
    """A driver of Chromium, or None and why there is none."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if path is None]:
        return None, f"no {' and no '.join(missing)}; on Debian: apt-get install chromium-driver"
    try:
        from selenium import webdriver
    except ImportError:
        return None, "selenium is not installed (pip install selenium)"
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for flag in ("headless", "no-sandbox", "disable-dev-shm-usage", "disable-gpu"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=programs["chromedriver"])
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(PATIENCE)
    return driver, ""


def look(driver: Any, page: Path, width: int, scheme: str, folder: Path, axe: str) -> list[str]:
    """One picture, and what is wrong."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    driver.get(page.resolve().as_uri())
    size = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": width, "height": min(size[1], TALLEST), "scale": 1}
    shot = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
    )
    picture = folder / f"{page.stem}_{width}_{scheme}.png"
    picture.write_bytes(base64.b64decode(shot["data"]))
    faults = [entry["message"] for entry in driver.get_log("browser")]
    if size[0] > width:
        faults.append(f"is {size[0]} px wide")
    if axe:
        driver.execute_script(axe)
        result = driver.execute_async_script(
            "axe.run().then((r) => arguments[arguments.length - 1](r.violations))"
        )
        faults += [
            f"{one['id']} ({one['impact']}, {len(one['nodes'])}x, {one['nodes'][0]['target'][0]}): "
            f"{one['help']}"
            for one in result
            if one["impact"] in SERIOUS
        ]
    return faults


if __name__ == "__main__":
    sys.exit(main())
