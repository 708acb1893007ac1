"""DAGAN's nets: shapes, chance, the gradient penalty in closed form."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.models.dagan import PAPER, Critic, Dagan, Generator, Sizes, gradient_penalty
from naming import names

SMALL = Sizes(widths=(4, 6), inner=1, critic_inner=1, noise=3)


class LinearCritic(nn.Module):
    """f(x, o) = ⟨w, o⟩ + ⟨v, x⟩: its gradient by o is w, whatever the images."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return (self.w * other).flatten(1).sum(1) + 7 * x.flatten(1).sum(1)


def pairs(n: int = 5, shape: tuple[int, int, int] = (1, 8, 8)) -> tuple[Tensor, Tensor, Tensor]:
    x, real, made = torch.rand(3, n, *shape, generator=generator_for(0, "pairs"))
    return x, real, made


def parts(n: int) -> Tensor:
    """How far between the two images of each pair."""
    return torch.rand(n, generator=generator_for(0, "part"))


def test_penalty_of_a_linear_critic() -> None:
    """(‖w‖ − 1)², and its gradient 2 (‖w‖ − 1) w / ‖w‖: catches a gradient by the first image, a missing square root, a
    penalty that cannot be differentiated."""
    w = torch.randn(1, 8, 8, generator=generator_for(0, "w"))
    critic = LinearCritic(w)
    penalty = gradient_penalty(critic, *pairs(), parts(len(pairs()[0])))
    norm = float(w.norm())
    assert float(penalty.detach()) == pytest.approx((norm - 1) ** 2, rel=1e-5)
    penalty.backward()
    assert critic.w.grad is not None
    assert torch.allclose(critic.w.grad, 2 * (norm - 1) * w / norm, rtol=1e-4)


class SquareCritic(nn.Module):
    """f(x, o) = ½ ‖o‖²: its gradient by o is o itself."""

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return other.square().flatten(1).sum(1) / 2


def test_penalty_is_taken_between_the_two_images() -> None:
    """Between 0 and c the gradient's norm is part · ‖c‖: catches a penalty at one of the ends, or one part for all."""
    x = torch.zeros(4000, 1, 4, 4)
    c = torch.full_like(x, 0.5)  # ‖c‖ = 2
    found = float(gradient_penalty(SquareCritic(), x, c, torch.zeros_like(x), parts(len(x))).detach())
    assert found == pytest.approx(1 / 3, abs=0.02)  # ∫ (2 p − 1)² dp
    one_end = gradient_penalty(SquareCritic(), x, c, c, parts(len(x)))
    assert float(one_end.detach()) == pytest.approx(1.0, abs=1e-4)


def test_second_derivative_of_the_critic_is_right() -> None:
    """The penalty's gradient by the weights against finite differences."""
    critic = Critic((1, 8, 8), SMALL, generator_for(0, "c")).double()
    x, real, made = (t.double() for t in pairs())

    def penalty() -> Tensor:
        return gradient_penalty(critic, x, real, made, parts(len(x)).double())

    weight = critic.levels[0][0].conv.weight  # pyright: ignore
    (gradient,) = torch.autograd.grad(penalty(), weight)
    direction = torch.randn(weight.shape, generator=generator_for(0, "d"), dtype=torch.float64)
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * 1e-6 * direction
        ends.append(float(penalty().detach()))
        with torch.no_grad():
            weight -= sign * 1e-6 * direction
    assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 12), (1, 13, 9)])
def test_shapes_and_range(shape: tuple[int, int, int]) -> None:
    generator = Generator(shape, SMALL, generator_for(0, "g"))
    x, z = torch.rand(4, *shape, generator=generator_for(0, "x")), torch.randn(4, 3, generator=generator_for(0, "z"))
    y = generator(x, z).detach()
    assert y.shape == x.shape
    assert 0 <= float(y.min()) < float(y.max()) <= 1
    assert Critic(shape, SMALL, generator_for(0, "c"))(x, y).shape == (4,)


def test_the_papers_sizes_fit_omniglot() -> None:
    assert (PAPER.widths, PAPER.inner, PAPER.critic_inner, PAPER.noise) == ((64, 64, 128, 128), 3, 5, 100)
    with torch.no_grad():
        assert (
            Generator((1, 28, 28), PAPER, generator_for(0))(torch.rand(1, 1, 28, 28), torch.randn(1, 100)).shape[0] == 1
        )


def test_image_and_noise_both_count() -> None:
    """Catches a generator that is cut off from its noise, from its image, or that sees only one of the noise layers."""
    generator = Generator((1, 16, 16), SMALL, generator_for(0, "g"))
    x, z = (
        torch.rand(1, 1, 16, 16, generator=generator_for(0, "x")).requires_grad_(),
        torch.zeros(1, 3, requires_grad=True),
    )
    own = [layer.weight for layer in generator.noise]  # pyright: ignore
    y = generator(x, z)
    for found in torch.autograd.grad(y.square().sum(), [x, z, *generator.parameters()], allow_unused=True):
        assert found is not None
    with torch.no_grad():
        other = generator(x, z + 1)
        for weight in own:
            weight.zero_()  # pyright: ignore
        assert not torch.equal(other, y)
        assert torch.equal(generator(x, z), generator(x, z + 1))


def test_a_sample_does_not_depend_on_the_rest_of_the_batch() -> None:
    """What batch norm would break."""
    generator = Generator((1, 16, 16), SMALL, generator_for(0, "g"))
    x, z = torch.rand(5, 1, 16, 16, generator=generator_for(0, "x")), torch.randn(5, 3, generator=generator_for(0, "z"))
    with torch.no_grad():
        whole = generator(x, z)
        alone = torch.cat([generator(x[i : i + 1], z[i : i + 1]) for i in range(5)])
    assert torch.allclose(whole, alone, atol=1e-6)


def test_the_critic_tells_first_from_second() -> None:
    critic = Critic((1, 8, 8), SMALL, generator_for(0, "c"))
    x, other, _ = pairs()
    with torch.no_grad():
        assert not torch.allclose(critic(x, other), critic(other, x))


def test_dagan_is_the_generator_with_noise_from_the_argument() -> None:
    network = Generator((1, 8, 8), SMALL, generator_for(0, "g"))
    x = pairs()[0]
    state = torch.get_rng_state()
    made = Dagan(network)(x, generator_for(1, "z"))
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        expected = network(x, torch.randn(5, 3, generator=generator_for(1, "z")))
    assert torch.equal(made, expected)
    assert not made.requires_grad
    assert torch.allclose(Dagan(network, batch=2)(x, generator_for(1, "z")), made, atol=1e-6)
    assert not torch.allclose(Dagan(network)(x, generator_for(2, "z")), made, atol=1e-4)
    assert Dagan(network)(x[:0], generator_for(1, "z")).shape == (0, 1, 8, 8)


def test_noise_starts_as_loud_as_the_image() -> None:
    """Maps of z of variance 1: Xavier's rule for so many outputs would make them a tenth of that, soon ignored."""
    generator = Generator((1, 28, 28), Sizes(), generator_for(0, "g"))
    z = torch.randn(200, 32, generator=generator_for(0, "z"))
    for layer in generator.noise:
        assert float(layer(z).detach().std()) == pytest.approx(1.0, abs=0.1)


def test_same_stream_same_weights() -> None:
    a, b, c = (Generator((1, 8, 8), SMALL, generator_for(s, "g")).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(a[n], b[n]) for n in a)
    assert not torch.equal(a["last.weight"], c["last.weight"])


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Sizes(widths=()), ("sizes.widths", ())),
        (lambda: Sizes(widths=(4, 0)), ("sizes.widths[1]", 0, 1)),
        (lambda: Sizes(noise=0), ("sizes.noise", 0, 1)),
        (lambda: Generator((1, 3, 8), SMALL), ("3×8", 2, 4)),
        (lambda: Critic((1, 8, 2), SMALL), ("8×2", 2, 4)),
        (
            lambda: Generator((1, 8, 8), SMALL)(torch.rand(2, 1, 9, 8), torch.rand(2, 3)),
            ([1, 8, 8], [1, 9, 8]),
        ),
        (lambda: Generator((1, 8, 8), SMALL)(torch.rand(2, 1, 8, 8), torch.rand(2, 4)), ("z", [2, 3], [2, 4])),
        (lambda: Critic((1, 8, 8), SMALL)(*torch.rand(2, 2, 3, 8, 8)), ([1, 8, 8], [3, 8, 8])),
        (lambda: Dagan(Generator((1, 8, 8), SMALL))(torch.rand(2, 3, 8, 8), generator_for(0)), ([1, 8, 8], [3, 8, 8])),
    ],
)
def test_what_is_refused(make: Any, named: tuple[object, ...]) -> None:
    with pytest.raises(InnerloopError, match=names(*named)):
        make()
