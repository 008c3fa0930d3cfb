"""The page of a large model beside that of a small one, in one browser: a few times as long, no more room."""

from __future__ import annotations

from pathlib import Path

import pytest
from at_size import ACTS, SMALL, measured, write
from browser import opened, required, sized

LARGE = 5_000
"""Parameters of the large model; `at_size.py` times larger ones."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    required()
    folder = tmp_path_factory.mktemp("sizes")
    found = [folder / f"{parameters}.html" for parameters in (SMALL, LARGE)]
    for path in found:
        write(path, int(path.stem))
    return found


def test_the_page_of_a_large_model_is_about_as_quick(paths: list[Path], tmp_path: Path) -> None:
    with opened(tmp_path / "profile") as driver:
        sized(driver, 1440, 1000)
        small, large = measured(driver, paths, 2)
        sizes = []
        for path in paths:
            driver.get(path.as_uri())
            sizes.append(driver.execute_script("return document.querySelectorAll('*').length"))
    assert large["load"] < 3 * small["load"]
    for act in ACTS:
        assert large[act] < 5 * small[act], act
    assert sizes[1] < 2 * sizes[0] < 3000


def test_the_file_of_a_large_model_is_small(paths: list[Path]) -> None:
    small, large = (path.stat().st_size for path in paths)
    assert (large - small) / (LARGE - SMALL) < 200  # bytes of a parameter: 20,000 are less than 5 MB
