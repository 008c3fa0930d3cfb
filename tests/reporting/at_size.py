"""Time the page of a large model beside that of a small one, in one browser: `python tests/reporting/at_size.py`."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import torch
from browser import opened, sized
from selenium.webdriver import Chrome
from torch import nn

import initplug

SMALL, LARGE, LARGEST = 161, 20_002, 100_000
RECIPE = {
    "name": "size",
    "rules": {
        "weights": {"match": "*.weight", "init": "normal std=0.02"},
        "norms": {"match": "<LayerNorm>.weight", "init": 1},
        "biases": {"match": "*.bias", "init": 0},
    },
}
ACTS = {
    "search": "const box = document.querySelector('#search'); box.value = 'up weight'; box.oninput()",
    "sort": "document.querySelector('th.c-measured button').click()",
    "filter": "const one = document.querySelector('#filter-type'); one.value = 'LayerNorm'; one.onchange()",
    "open": "[...document.querySelectorAll('#rows tr.row button.name')][1].click()",
    "unfold": "document.querySelector('#fold').click()",
}
"""What a person does, each on a page that was just loaded."""

BEFORE = {"sort": ACTS["unfold"]}
"""What is done first: all rows are sorted, not the few lines of blocks."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)


def model(parameters: int) -> nn.Module:
    """A model of so many parameters: blocks of six, and a head of what is left."""
    whole = nn.Module()
    whole.blocks = nn.ModuleList(Block() for _ in range(parameters // 6))
    whole.rest = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(parameters % 6))
    return whole


def write(path: Path, parameters: int) -> None:
    """Write the page of an audit with histograms, of which one block in a hundred differs."""
    built = model(parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        initplug.apply(built, RECIPE, seed=0)
    with torch.no_grad():
        for place in range(0, parameters // 6, 100):
            built.get_parameter(f"blocks.{place}.up.weight").mul_(2)
    initplug.audit(built, RECIPE, histograms=True).save(path)


def measured(driver: Chrome, paths: list[Path], turns: int) -> list[dict[str, float]]:
    """The least milliseconds of loading each page and of what is done with it, the pages by turns."""
    found: list[dict[str, float]] = [{} for _ in paths]

    def note(place: int, act: str, spent: float) -> None:
        found[place][act] = min(spent, found[place].get(act, spent))

    for _ in range(turns):
        for act, script in ACTS.items():
            for place, path in enumerate(paths):
                driver.get(path.as_uri())
                timing = "const t = performance.timing; return t.loadEventEnd - t.navigationStart"
                note(place, "load", driver.execute_script(timing))
                driver.execute_script(BEFORE.get(act, ""))
                note(place, act, driver.execute_script(TIMED.format(script=script)))
    return found


TIMED = """
    const began = performance.now();
    {script};
    document.body.offsetHeight;
    return performance.now() - began;
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--parameters", type=int, nargs="*", default=[LARGE, LARGEST])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "profile") as driver:
        sized(driver, 1440, 1000)
        paths = []
        for parameters in (SMALL, *given.parameters):
            paths.append(Path(folder) / f"{parameters}.html")
            write(paths[-1], parameters)
        found = measured(driver, paths, given.turns)
        for path, spent in zip(paths, found, strict=True):
            driver.get(path.as_uri())
            elements = driver.execute_script("return document.querySelectorAll('*').length")
            print(f"{int(path.stem):,} parameters: {path.stat().st_size / 1e6:.2f} MB, {elements:,} elements")
            for act, each in spent.items():
                print(f"  {act:8} {each:8.1f} ms  {each / found[0][act]:6.2f} times")


if __name__ == "__main__":
    main()
