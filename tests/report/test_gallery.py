"""The gallery: whole, self-contained, each picture once, and marks that are the guesses."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from PIL import Image

from innerloop.report import gallery as module
from innerloop.report.gallery import GRID, Gallery, Guess, concepts, page, thumbnail

CLASSES = ["a <b>&", "cat", "dog"]


def picture(number: int, size: tuple[int, int] = (30, 20)) -> Image.Image:
    return Image.new("RGB", size, (number % 256, 7 * number % 256, 31 * number % 256))


def made(pictures: int = 60) -> Gallery:
    """Guesses go round the classes; a tenth is marked."""
    examples = tuple(
        (c, thumbnail(f"{c}/{i}.jpg", picture(200 + 5 * k + i))) for k, c in enumerate(CLASSES) for i in range(3)
    )
    guesses = tuple(
        Guess(
            thumbnail(f"new/{i}.jpg", picture(i)),
            CLASSES[1 + i % 2],
            0.5 + 0.4 * ((i * 37) % pictures) / pictures,
            CLASSES[0],
            0.05,
            (3 * i) % len(examples),
            i % 10 == 0,
        )
        for i in range(pictures)
    )
    return Gallery(examples, guesses, (("x<y>.txt", "it is no picture"),), (("method", "nil: as asked"),))


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "xlink:href", "data", "poster"):
                self.loads.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            if name == "class":
                self.classes.append(value or "")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_needs_nothing_else() -> None:
    text = page(made())
    seen = Page(text)
    assert all(x.startswith(("data:image/jpeg;base64,", "#")) for x in seen.loads)
    assert {x[1:] for x in seen.loads if x.startswith("#")} <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    assert not {"script", "link", "iframe", "img"} & set(seen.tags)
    assert "url(" not in text
    assert "@import" not in text
    for x in seen.loads:
        if x.startswith("data:"):
            assert Image.open(io.BytesIO(base64.b64decode(x.split(",")[1]))).size == (30, 20)


def test_each_picture_is_kept_once() -> None:
    """Catches a page that grows with every place where a picture is shown."""
    g = made()
    pictures = [p for _, p in g.examples] + [x.picture for x in g.guesses]
    text = page(g)
    assert text.count("data:image/jpeg") == len(pictures)
    assert len(text) < 1.4 * sum(len(p.jpeg) for p in pictures) + 2000 * len(pictures) + 15_000


def test_names_are_escaped() -> None:
    g = made()
    odd = replace(g.guesses[0].picture, name='"><script>alert(1)</script>.jpg')
    text = page(replace(g, guesses=(replace(g.guesses[0], picture=odd), *g.guesses[1:])))
    assert "a &lt;b&gt;&amp;" in text
    assert "<script" not in text
    assert "x&lt;y&gt;.txt" in text
    assert "script" not in Page(text).tags


def test_the_opening_picture_shows_the_examples_and_the_guesses() -> None:
    g = made()
    names = [p.name for _, p in g.examples] + [x.picture.name for x in g.guesses]
    label = {x.picture.name: x.label for x in g.guesses}
    for c in concepts(g, g.guesses):
        of = {kind: [names[x.number] for x in c.cells if x.kind == kind] for kind in ("example", "same", "other")}
        assert sorted(of["example"]) == [f"{c.name}/{i}.jpg" for i in range(3)]
        assert all(label[n] == c.name for n in of["same"])
        assert all(label[n] != c.name for n in of["other"])
        assert len({x.number for x in c.cells}) == len(c.cells) == GRID
        assert [x.kind for x in c.cells[:3]] != ["example"] * 3 or c.name != "cat", "not shuffled"
        assert bool(of["same"]) == (c.name != CLASSES[0])


def test_the_seed_alone_decides_the_opening_pictures() -> None:
    g = made()
    assert page(g) == page(made())
    assert concepts(g, g.guesses) != concepts(replace(g, seed=1), g.guesses)


def test_cards_come_by_certainty_and_marks_are_said() -> None:
    g = made()
    for c in concepts(g, g.guesses):
        sure = [x.probability for _, x in c.guesses]
        assert sure == sorted(sure, reverse=True)
        assert c.total == len(sure)
    seen = Page(page(g))
    assert seen.classes.count("card marked") == 6
    assert seen.classes.count("card") == 54
    assert "6 are marked look again" in seen.text
    assert f"No picture was taken to be {CLASSES[0]}." in seen.text
    assert "nearest example, of cat" in seen.text


def test_of_too_many_the_marked_and_an_even_choice_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 20)
    g = made(60)
    seen = Page(page(g))
    assert seen.classes.count("card marked") == 6
    assert seen.classes.count("card") == 14
    assert "60 pictures, sorted into 3 classes by 9 examples" in seen.text
    assert "The page shows 20 of them" in seen.text
    shown = sorted(x.probability for c in concepts(g, module._chosen(g.guesses)) for _, x in c.guesses if not x.marked)
    everything = sorted(x.probability for x in g.guesses if not x.marked)
    assert abs(sum(shown) / len(shown) - sum(everything) / len(everything)) < 0.03


def test_few_pictures() -> None:
    """One picture, two classes: no division by nothing, no empty grid."""
    g = made(1)
    seen = Page(page(g))
    assert "1 picture, sorted into" in seen.text
    assert "1 is marked look again" in seen.text
    assert seen.classes.count("concept") == 3


def test_thumbnails_are_small_and_never_enlarged() -> None:
    small = thumbnail("x", picture(3, (8, 5)))
    assert (small.width, small.height) == (8, 5)
    large = thumbnail("x", picture(3, (3000, 1000)))
    assert (large.width, large.height) == (192, 64)
    assert Image.open(io.BytesIO(large.jpeg)).format == "JPEG"
    thin = thumbnail("x", picture(3, (3000, 1)))
    assert (thin.width, thin.height) == (192, 1)


def test_it_prints_and_has_a_dark_side() -> None:
    text = page(made(3))
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert re.search(r'name="viewport" content="width=device-width', text)
