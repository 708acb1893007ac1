"""Sinusoid tasks against the protocol of the MAML paper."""

import math

import pytest
import torch

from innerloop.core.random import generator_for
from innerloop.data.sinusoid import Sinusoid
from innerloop.errors import InnerloopError
from naming import names


def test_shapes_and_ranges() -> None:
    episodes = Sinusoid(shot=5, query=7).sample(4000, generator_for(0))
    assert episodes.support_x.shape == episodes.support_y.shape == (4000, 5, 1)
    assert episodes.query_x.shape == episodes.query_y.shape == (4000, 7, 1)
    assert episodes.support_x.dtype == torch.float32
    x = torch.cat([episodes.support_x, episodes.query_x], 1)
    assert float(x.min()) >= -5
    assert float(x.max()) <= 5
    assert abs(float(x.mean())) < 0.1
    assert float(x.std()) == pytest.approx(10 / math.sqrt(12), rel=0.02)


def test_each_task_is_one_sine_of_its_own() -> None:
    """y = a sin x cos φ − a cos x sin φ: fit both factors by least squares, and look at the law of a and φ.

    Catches: amplitude or phase drawn for each point, support and query of two tasks, the sign, ranges.
    """
    episodes = Sinusoid(shot=10, query=10).sample(5000, generator_for(3))
    x, y = episodes.support_x.double(), episodes.support_y.double()
    basis = torch.cat([torch.sin(x), -torch.cos(x)], 2)
    factors = torch.linalg.lstsq(basis, y).solution  # [tasks, 2, 1]: a cos φ, a sin φ
    query = torch.cat([torch.sin(episodes.query_x.double()), -torch.cos(episodes.query_x.double())], 2)
    torch.testing.assert_close(query @ factors, episodes.query_y.double(), atol=1e-3, rtol=1e-3)
    amplitude = factors.norm(dim=1).flatten()
    phase = torch.atan2(factors[:, 1, 0], factors[:, 0, 0])
    assert 0.1 - 1e-3 <= float(amplitude.min()) < 0.15
    assert 4.95 < float(amplitude.max()) <= 5 + 1e-3
    assert float(amplitude.mean()) == pytest.approx(2.55, abs=0.1)
    assert -1e-2 <= float(phase.min()) < 0.05
    assert math.pi - 0.05 < float(phase.max()) <= math.pi + 1e-2
    assert float(phase.mean()) == pytest.approx(math.pi / 2, abs=0.05)


def test_reproducible_and_checked() -> None:
    tasks = Sinusoid(5, 5)
    assert torch.equal(tasks.sample(3, generator_for(1)).query_y, tasks.sample(3, generator_for(1)).query_y)
    assert not torch.equal(tasks.sample(3, generator_for(1)).query_y, tasks.sample(3, generator_for(2)).query_y)
    with pytest.raises(InnerloopError, match=names("shot", 1, 0)):
        Sinusoid(shot=0)
    with pytest.raises(InnerloopError, match=names("phase", (1.0, 0.0))):
        Sinusoid(phase=(1.0, 0.0))
