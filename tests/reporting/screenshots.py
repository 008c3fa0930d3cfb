"""Draw the picture of the page that the README shows: `make screenshots`."""

from __future__ import annotations

import importlib.util
import io
import sys
import tempfile
import time
from pathlib import Path

import torch
from browser import found, opened, sized
from PIL import Image
from selenium.webdriver.common.by import By

import initplug

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "examples" / "guide" / "audit.png"
COLORS = 160


def page(path: Path) -> None:
    """The audit of a ResNeXt of which one weight was changed behind the recipe's back."""
    spec = importlib.util.spec_from_file_location("resnext", ROOT / "examples" / "models" / "resnext.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["resnext"] = module
    spec.loader.exec_module(module)
    model = module.resnext29()
    initplug.apply(model, "resnext", seed=0)
    with torch.no_grad():
        model.get_parameter("stage_1.stage_1_bottleneck_0.conv_reduce.weight").mul_(1.3)
    initplug.audit(model, "resnext", histograms=True).save(path)


def main() -> None:
    if found() is None:
        sys.exit("needs Chromium and its driver: apt-get install chromium chromium-driver, or `make browser`")
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "profile") as driver:
        path = Path(folder) / "audit.html"
        page(path)
        sized(driver, 1280, 1500)
        driver.get(path.as_uri())
        driver.find_element(By.CSS_SELECTOR, ".lists button").click()
        driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
        time.sleep(1)  # for what is drawn at the next frame
        picture = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    picture.quantize(COLORS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
