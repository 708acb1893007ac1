"""The page adapts to drawings as innerloop does: probabilities after each step, and how far each layer moved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from innerloop import playground
from innerloop.analysis.movement import movement
from innerloop.core.episodes import Episodes
from innerloop.core.inner import InnerLoop
from innerloop.methods.gradient import step_predictions
from innerloop.methods.method import predictor
from innerloop.models import conv4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODELS = Path(playground.__file__).parent / "models"
STEPS, LR = 5, 0.1


def episode() -> Episodes:
    """Five characters, the first drawing of each; one more drawing of the third."""
    drawings = load_file(MODELS / "characters.safetensors")["drawings"].float() / 255
    support = drawings[[0, 5, 9, 14, 20], 0][None, :, None]
    return Episodes(support, torch.arange(5)[None], drawings[9, 3][None, None, None], torch.tensor([[2]]))


def trained(name: str) -> tuple[torch.nn.Sequential, dict[str, torch.Tensor]]:
    return conv4(5), {n: w.float() for n, w in load_file(MODELS / f"{name}.safetensors").items()}


def call(page: Any, method: str, **args: Any) -> Any:
    return page.evaluate("([method, args]) => playground.call('drawings', method, args)", [method, args])


def given(page: Any, name: str) -> dict[str, Any]:
    """Load the model into the page's worker from Python's numbers; gives the episode for its calls."""
    _, slow = trained(name)
    weights = {n: {"numbers": w.flatten().tolist(), "shape": list(w.shape)} for n, w in slow.items()}
    call(page, "load", model=name, weights=weights)
    e = episode()
    return {"support": e.support_x.reshape(5, 784).tolist(), "query": e.query_x.flatten().tolist()}


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("maml", ["conv1", "conv2", "conv3", "conv4", "head"]),
        ("maml-small-head", ["conv1", "conv2", "conv3", "conv4", "head"]),
        ("maml", ["head"]),
        ("maml-small-head", ["conv3", "conv4"]),
        ("anil", ["head"]),
        ("maml", []),
    ],
)
def test_probabilities_and_movement_are_ours(opened: Any, name: str, blocks: list[str]) -> None:
    """Catches other batch statistics, another layout of the weights, a frozen layer that moves."""
    model, slow = trained(name)
    inner = InnerLoop(blocks=blocks, steps=STEPS, lr=LR)
    images = given(opened, name)
    moved = call(opened, "adapt", model=name, support=images["support"], blocks=blocks, steps=STEPS, lr=LR)
    theirs = call(opened, "probabilities", model=name, **images)
    with torch.no_grad():
        ours = [z.softmax(-1)[0, 0] for z in step_predictions(model, slow, episode(), inner, statistics="support")]
    if blocks:
        assert len(theirs) == len(ours) == STEPS + 1
    for found, expected in zip(theirs, ours, strict=False):
        torch.testing.assert_close(torch.tensor(found), expected, rtol=2e-3, atol=2e-4)
    for block in movement(model, slow, [episode(), episode()], inner):
        assert moved[-1][block.block] == pytest.approx(block.relative.mean, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("name", ["maml", "maml-small-head", "anil"])
def test_nil_is_ours(opened: Any, name: str) -> None:
    model, slow = trained(name)
    predict = predictor(model, InnerLoop(blocks="none", steps=0), head="cosine", statistics="support")
    with torch.no_grad():
        ours = predict(slow, episode()).softmax(-1)[0, 0]
    found = torch.tensor(call(opened, "nil", model=name, **given(opened, name)))
    torch.testing.assert_close(found, ours, rtol=1e-3, atol=1e-5)


def ready(page: Any) -> None:
    page.wait_for_selector("#drawings[data-ready=yes]")


def test_drawing_freezing_and_clearing(opened: Any) -> None:
    page = opened
    page.locator("#drawings").scroll_into_view_if_needed()
    ready(page)
    canvas = page.locator("#support canvas").first
    page.get_by_label("Clear Class A").click()
    page.wait_for_function("document.querySelector('#drawings-status').textContent.includes('Class A')")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 70, box["y"] + 70, steps=5)
    page.mouse.up()
    ready(page)
    assert "your drawing" in canvas.get_attribute("aria-label")
    for layer in ("conv1", "conv2", "conv3", "conv4"):
        page.check(f"input[name=freeze][value={layer}]")
    page.wait_for_function("document.querySelectorAll('#card-maml .moved-row.frozen').length === 4")
    ready(page)
    numbers = page.locator("#card-maml .moved-row .number").all_text_contents()
    assert numbers[:4] == ["0"] * 4
    assert float(numbers[4]) > 0


def test_drawing_by_keyboard(opened: Any) -> None:
    page = opened
    page.locator("#drawings").scroll_into_view_if_needed()
    ready(page)
    page.get_by_label("Clear The drawing to guess").click()
    page.focus("#query canvas")
    page.keyboard.press("Space")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    assert "your drawing" in page.locator("#query canvas").get_attribute("aria-label")
    ready(page)


def test_drawing_by_touch(browser: Any, page_file: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.locator("#query canvas").scroll_into_view_if_needed()
    page.locator("#query canvas").tap()
    assert "your drawing" in page.locator("#query canvas").get_attribute("aria-label")
    context.close()
