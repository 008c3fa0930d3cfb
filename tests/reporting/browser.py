"""A real browser for the page: Chromium without a window and without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def found() -> tuple[str, str] | None:
    """The browser and its driver, if both are there."""
    browser = next((path for name in NAMES if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


def required() -> None:
    """Skip what needs a browser where there is none; in CI that is a failure."""
    if found() is None:
        reason = "needs Chromium and its driver: apt-get install chromium chromium-driver, or `make browser`"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@contextmanager
def opened(folder: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a new profile in an empty folder."""
    paths = found()
    assert paths is not None  # `required` came before
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(paths[1]))
    try:
        yield driver
    finally:
        driver.quit()


def sized(
    driver: webdriver.Chrome, width: int, height: int, theme: Literal["light", "dark"] = "light", *, scale: float = 1
) -> None:
    """A window of that many pixels, and what the system says of colours."""
    size: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    colors = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": colors})
