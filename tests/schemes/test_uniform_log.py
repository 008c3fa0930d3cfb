"""Logarithms of uniform draws: laws by scipy's quadrature, samples by scipy's tests, and what is refused."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

import initplug
from initplug.planning.closed_forms import exponential, logarithm, shifted
from initplug.schemes.distributions import Uniform
from initplug.schemes.uniform_log import UniformLog

LAWS = [
    UniformLog(1.0, 16.0),
    UniformLog(0.0, 16.0),
    UniformLog(0.0, 1.0, -2.0),
    UniformLog(1e-9, 3.0),
    UniformLog(2.0, 3.9, 0.5),
    UniformLog(2.0, 4.1),
    UniformLog(7.0, 7.001),
]


def by_integration(one: UniformLog) -> list[float]:
    """Mean, standard deviation, skewness and kurtosis, by adaptive quadrature over ln x."""
    start = math.log(max(one.least, 1e-30 * one.most))
    width = one.most - one.least

    def expected(power: int, mean: float) -> float:
        def of(logarithm: float) -> float:
            return (one.gain * logarithm - mean) ** power * math.exp(logarithm) / width

        edges = np.linspace(start, math.log(one.most), 9)
        return math.fsum(integrate.quad(of, *pair, epsabs=0, epsrel=1e-12)[0] for pair in itertools.pairwise(edges))

    mean = expected(1, 0.0)
    variance, third, fourth = (expected(power, mean) for power in (2, 3, 4))
    return [mean, math.sqrt(variance), third / variance**1.5, fourth / variance**2]


@pytest.mark.parametrize("one", LAWS, ids=str)
def test_moments_are_those_of_the_integrals(one: UniformLog) -> None:
    law = one.law
    found = [law.mean, law.std, law.skewness, law.kurtosis]
    assert found == pytest.approx(by_integration(one), rel=1e-6, abs=1e-6)
    ((share, density),) = law.smooth
    assert share == 1
    middle = law.mean
    below = abs(math.exp(middle / one.gain) - (one.least if one.gain > 0 else one.most)) / (one.most - one.least)
    step = 1e-6 * law.std
    beyond = abs(math.exp((middle + step) / one.gain) - (one.least if one.gain > 0 else one.most))
    assert density.at(middle) == pytest.approx((beyond / (one.most - one.least) - below) / step, rel=1e-4)


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("text", ["uniform 1 16 log", "uniform 0 16 log"])
def test_draws_are_uniform_once_their_exponential_is_taken(text: str, seed: int | None) -> None:
    torch.manual_seed(1)
    module = nn.ParameterDict({"w": nn.Parameter(torch.empty(20_000))})
    audit = initplug.apply(module, {"rules": {"^w": text}}, seed=seed)
    assert audit["w"].verdict == "ok"
    values = module["w"].detach().double().numpy()
    assert np.isfinite(values).all()
    least = float(text.split()[1])
    assert stats.kstest(np.exp(values), stats.uniform(least, 16 - least).cdf).pvalue > 1e-4


@pytest.mark.parametrize("seed", range(20))
def test_few_elements_may_lie_anywhere(seed: int) -> None:
    torch.manual_seed(seed)
    module = nn.ParameterDict({"w": nn.Parameter(torch.empty(4).uniform_(0, 16).log_())})
    assert initplug.audit(module, {"rules": {"^w": "uniform 0 16 log"}})["w"].verdict == "ok"


def test_factors_scale_the_logarithm() -> None:
    module = nn.ParameterDict({"w": nn.Parameter(torch.empty(4000))})
    init = {"fn": "uniform", "low": 1, "high": 16, "link": "log", "factor": -0.5}
    row = initplug.plan(module, {"rules": {"^w": init}})["w"]
    assert row.distribution == UniformLog(1.0, 16.0, -0.5)
    assert row.low == pytest.approx(-0.5 * math.log(16))
    assert row.high == 0


def test_closed_forms_go_to_and_fro() -> None:
    drawn = logarithm(Uniform(1.0, 16.0))
    assert drawn == UniformLog(1.0, 16.0)
    assert exponential(drawn) == Uniform(1.0, 16.0)
    assert shifted(drawn, math.log(2)) == UniformLog(2.0, 32.0)


@pytest.mark.parametrize("text", ["uniform -1 1 log", "uniform 2 1 log", "uniform 0 0 log"])
def test_what_has_no_logarithm_is_refused(text: str) -> None:
    module = nn.ParameterDict({"w": nn.Parameter(torch.empty(4))})
    with pytest.raises(initplug.InitplugError, match=r"logarithms are of positive|low must not exceed"):
        initplug.plan(module, {"rules": {"^w": text}})
