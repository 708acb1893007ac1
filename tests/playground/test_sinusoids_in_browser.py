"""The page's numbers are innerloop's, and its controls do what they say, in a real browser."""

from typing import Any

import pytest
import torch

from innerloop.core.episodes import Episodes
from innerloop.core.functional import Blocks, forward, slow_weights
from innerloop.core.inner import InnerLoop, adapt_path
from innerloop.core.losses import mean_squared_error
from innerloop.core.outer import meta_gradient
from innerloop.data.sinusoid import Sinusoid
from innerloop.methods.method import predictor
from innerloop.models import mlp

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def weights_of(model: torch.nn.Sequential) -> dict[str, list[float]]:
    return {n: p.detach().flatten().tolist() for n, p in model.named_parameters()}


def rows(x: torch.Tensor) -> list[list[float]]:
    return x.squeeze(-1).tolist()


def settings_of(inner: InnerLoop) -> dict[str, Any]:
    return {"blocks": inner.blocks, "steps": inner.steps, "lr": inner.lr, "firstOrder": inner.first_order}


def call(page: Any, method: str, **args: Any) -> Any:
    return page.evaluate("([method, args]) => playground.call('sinusoids', method, args)", [method, args])


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(("blocks", "steps"), [("all", 1), ("all", 3), ("head", 2), ("body", 1), ("none", 1)])
def test_the_meta_gradient_is_ours(opened: Any, blocks: Blocks, steps: int, first_order: bool) -> None:
    """Catches a gradient without its second derivatives, and one with them where there should be none."""
    generator = torch.Generator().manual_seed(5)
    model = mlp(1, 1, generator=generator)
    tasks = Sinusoid(query=7).sample(4, generator)
    inner = InnerLoop(blocks=blocks, steps=steps, lr=0.02, first_order=first_order)
    parameters = slow_weights(model)
    ours = meta_gradient(predictor(model, inner, loss=mean_squared_error), parameters, tasks, mean_squared_error)
    batch = {
        "supportX": rows(tasks.support_x),
        "supportY": rows(tasks.support_y),
        "queryX": rows(tasks.query_x),
        "queryY": rows(tasks.query_y),
    }
    theirs = call(opened, "metaGradient", weights=weights_of(model), batch=batch, settings=settings_of(inner))
    assert theirs["loss"] == pytest.approx(ours.loss, rel=1e-5)
    for name, gradient in ours.gradient.items():
        found = torch.tensor(theirs["gradient"][name])
        torch.testing.assert_close(found.view_as(gradient), gradient, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("blocks", ["all", "head"])
def test_the_curves_are_ours(opened: Any, blocks: Blocks) -> None:
    generator = torch.Generator().manual_seed(6)
    model = mlp(1, 1, generator=generator)
    task: Episodes = Sinusoid().sample(1, generator)
    inner = InnerLoop(blocks=blocks, steps=10, lr=0.02)
    grid = torch.linspace(-5, 5, 21).view(1, 21, 1)
    slow = {n: p.detach() for n, p in slow_weights(model).items()}
    theirs = call(
        opened,
        "curves",
        weights=weights_of(model),
        x=task.support_x.flatten().tolist(),
        y=task.support_y.flatten().tolist(),
        grid=grid.flatten().tolist(),
        settings=settings_of(inner),
    )
    with torch.no_grad():
        path = adapt_path(model, slow, task.support_x, task.support_y, inner, loss=mean_squared_error)
        for m, fast in enumerate(path):
            curve = torch.tensor(theirs["curves"][m])
            torch.testing.assert_close(curve, forward(model, slow, fast, grid).flatten(), rtol=1e-4, atol=1e-4)
            for block, moved in theirs["moved"][m].items():
                own = {n: w for n, w in slow.items() if n.startswith(block)}
                change = sum(float((fast[n][0] - w).square().sum()) for n, w in own.items() if n in fast)
                size = sum(float(w.square().sum()) for w in own.values())
                assert moved == pytest.approx((change / size) ** 0.5, rel=1e-3, abs=1e-6)


def test_adam_is_torchs(opened: Any) -> None:
    """Two outer steps from the page's own tasks lower nothing that torch's Adam would not: the same weights."""
    found = opened.evaluate(
        """async () => {
          const settings = {blocks: "all", steps: 1, lr: 0.02, firstOrder: false};
          await playground.call("sinusoids", "reset", {seed: 3});
          const before = await playground.call("sinusoids", "state");
          const given = {milliseconds: 0, tasks: 4, shot: 10, outerLr: 0.003, settings};
          const steps = [];
          for (let i = 0; i < 2; i++) {
            await playground.call("sinusoids", "train", given);
            steps.push(await playground.call("sinusoids", "state"));
          }
          return [before, ...steps];
        }"""
    )
    weights = {n: torch.tensor(w, dtype=torch.float64).requires_grad_() for n, w in found[0]["weights"].items()}
    adam = torch.optim.Adam(weights.values(), lr=3e-3)
    for state in found[1:]:
        for n, w in weights.items():
            w.grad = torch.tensor(state["gradient"][n], dtype=torch.float64)
        torch.nn.utils.clip_grad_norm_(weights.values(), 10.0)
        adam.step()
        for n, w in weights.items():
            expected = torch.tensor(state["weights"][n], dtype=torch.float64)
            torch.testing.assert_close(w.detach(), expected, rtol=1e-4, atol=1e-5)


def test_play_trains_and_the_wave_can_be_dragged(opened: Any) -> None:
    page = opened
    page.click("#play")
    page.wait_for_function("document.querySelector('#sinusoid-status').textContent.includes('outer steps')")
    page.wait_for_function("parseInt(document.querySelector('#sinusoid-status').textContent) >= 8")
    page.click("#play")
    assert page.get_attribute("#play", "aria-pressed") == "false"
    box = page.locator("#task-chart").bounding_box()
    before = page.input_value("#phase")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + 60, steps=4)
    page.mouse.up()
    assert float(page.input_value("#phase")) > float(before)
    page.focus("#amplitude")
    height = float(page.input_value("#amplitude"))
    page.keyboard.press("ArrowLeft")
    assert float(page.input_value("#amplitude")) < height
    page.check("input[name=order][value=first]", force=True)
    page.click("#restart")
    page.wait_for_function("document.querySelector('#sinusoid-status').textContent.includes('not trained')")
    page.wait_for_timeout(500)


def test_the_python_of_the_page_runs(opened: Any) -> None:
    opened.check("input[name=train-blocks][value=head]", force=True)
    code = opened.text_content("#sinusoid-code")
    assert 'blocks="head"' in code
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["gradient"].keys() == names["slow"].keys()
    assert names["fast"].keys() == {"head.weight", "head.bias"}
