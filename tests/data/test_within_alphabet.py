"""One-shot tasks within an alphabet, on images whose pixels say what they are."""

import pytest
import torch

from innerloop.core.episodes import ClassImages, Episodes, TaskFamily
from innerloop.core.random import generator_for
from innerloop.data.within_alphabet import WithinAlphabet
from innerloop.errors import InnerloopError
from innerloop.evaluation import EvalSettings
from innerloop.evaluation.evaluate import fixed_episodes
from naming import names

SIZES = {"A": 6, "B": 3, "C": 5}
DRAWERS = 7


def letters(drawers: dict[str, int] | None = None) -> ClassImages:
    """Three alphabets; each image is one pixel high: (class number, drawer)."""
    names = [f"{a}/character{i:02}" for a, n in SIZES.items() for i in range(n)]
    count = [(drawers or {}).get(name.split("/")[0], DRAWERS) for name in names]
    per_class = [torch.tensor([[[[c, d]]] for d in range(n)], dtype=torch.uint8) for c, n in enumerate(count)]
    return ClassImages.from_tensors("letters", per_class, names)


def read(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The class and the drawer of each image."""
    value = (x * 255).round().long()[..., 0, 0, :]
    return value[..., 0], value[..., 1]


def draw(tasks: int = 400, way: int = 5, seed: int = 0) -> Episodes:
    return WithinAlphabet(letters(), way).sample(tasks, generator_for(seed))


def test_each_episode_is_of_one_alphabet_and_two_drawers() -> None:
    """Catches: one drawer for both sides, a drawer a class, classes of two alphabets, a class twice."""
    e = draw()
    assert e.classes is not None
    assert e.support_x.shape == e.query_x.shape == (400, 5, 1, 1, 2)
    assert torch.equal(e.support_y, torch.arange(5).expand(400, -1))
    assert torch.equal(e.query_y, e.support_y)
    names = letters().class_names
    for x in (e.support_x, e.query_x):
        assert torch.equal(read(x)[0], e.classes)
    support, query = read(e.support_x)[1], read(e.query_x)[1]
    assert bool((support == support[:, :1]).all())
    assert bool((query == query[:, :1]).all())
    assert bool((support[:, 0] != query[:, 0]).all())
    for row in e.classes.tolist():
        assert len(set(row)) == 5
        assert len({names[c].split("/")[0] for c in row}) == 1


def test_alphabets_drawers_and_characters_are_drawn_evenly() -> None:
    """A and C have 5 characters, B has 3; each alphabet, drawer and character of A comes as often as chance has it."""
    e = draw(3000)
    assert e.classes is not None
    of_a = e.classes[:, 0] < 6
    assert not bool(((e.classes >= 6) & (e.classes < 9)).any()), "B has too few characters"
    assert 0.46 < float(of_a.double().mean()) < 0.54
    for side in (e.support_x, e.query_x):
        share = torch.bincount(read(side)[1][:, 0], minlength=DRAWERS) / 3000
        assert float((share - 1 / DRAWERS).abs().max()) < 0.03
    first = torch.bincount(e.classes[of_a, 0], minlength=6) / int(of_a.sum())
    assert float((first - 1 / 6).abs().max()) < 0.04


def test_the_generator_alone_decides() -> None:
    a, b, c = draw(20), draw(20), draw(20, seed=1)
    assert torch.equal(a.support_x, b.support_x)
    assert torch.equal(a.query_x, b.query_x)
    assert not torch.equal(a.support_x, c.support_x)


def test_it_is_a_task_family_for_evaluation() -> None:
    family = WithinAlphabet(letters(), 5)
    assert isinstance(family, TaskFamily)
    assert (family.shot, family.query) == (1, 1)
    assert sum(len(e) for e in fixed_episodes(family, EvalSettings(episodes=30))) == 30


def test_an_alphabet_of_fewer_drawers_is_drawn_from_its_own() -> None:
    """Catches: a drawer past the end, which would be the next class's image."""
    e = WithinAlphabet(letters({"C": 2}), 5).sample(300, generator_for(0))
    assert e.classes is not None
    of_c = e.classes[:, 0] >= 9
    assert bool(of_c.any())
    assert torch.equal(read(e.query_x)[0], e.classes)
    assert int(read(e.support_x)[1][of_c].max()) == 1


def test_what_cannot_be_drawn_is_refused() -> None:
    data = letters()
    with pytest.raises(InnerloopError, match=names(7, "A", 6)):
        WithinAlphabet(data, 7)
    with pytest.raises(InnerloopError, match=names("way", 2, 1)):
        WithinAlphabet(data, 1)
    plain = ClassImages("plain", data.images, data.first, data.count, data.turns, tuple(f"c{i}" for i in range(14)))
    with pytest.raises(InnerloopError, match=names("plain", "c0")):
        WithinAlphabet(plain, 5)
    turned = ClassImages("turned", data.images, data.first, data.count, data.turns + 1, data.class_names)
    with pytest.raises(InnerloopError, match=names("turned", "rotations")):
        WithinAlphabet(turned, 5)
    uneven = data.select(range(14))
    uneven.count[2] = 4
    with pytest.raises(InnerloopError, match=names("A", 4, 7)):
        WithinAlphabet(uneven, 5)
