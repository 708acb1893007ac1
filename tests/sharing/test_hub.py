"""To the Hub and back, by huggingface_hub's own code against a server on this machine."""

import json
import sys
from pathlib import Path

import pytest
import torch
from hub_server import Hub

import innerloop as il
from innerloop import cli
from innerloop.errors import InnerloopError
from innerloop.estimator import FewShotClassifier
from innerloop.runs import RunFolder
from innerloop.sharing import bundle
from naming import names
from planting import plants


def test_a_run(hub: Hub, run: Path) -> None:
    where = il.push_to_hub(run, "me/omni")
    assert where.endswith("me/omni")
    assert hub.private["me/omni"]
    path = il.from_pretrained("me/omni")
    _, _, parameters = il.load_run(path)
    best = RunFolder(run).load("best")
    assert all(torch.equal(parameters[n], w) for n, w in best.weights.items())
    assert 'il.from_pretrained("me/omni")' in (path / "README.md").read_text()
    (path / "config.json").read_text()
    assert il.from_pretrained("me/omni") == path
    il.push_to_hub(run, "me/omni", public=True)  # again, into the same repository
    assert hub.private["me/omni"]


def test_a_classifier(hub: Hub, tmp_path: Path) -> None:
    x = torch.rand(6, 5, generator=il.generator_for(0)).numpy()
    few = FewShotClassifier().fit(x, ["ant", "bee", "cat"] * 2)
    few.save(tmp_path / "a.innerloop")
    il.push_to_hub(tmp_path / "a.innerloop", "me/ants", public=True)
    assert not hub.private["me/ants"]
    loaded = FewShotClassifier.load(il.from_pretrained("me/ants"))
    assert (loaded.predict_proba(x) == few.predict_proba(x)).all()


def test_the_commands(hub: Hub, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(run), "--hub", "me/omni"]) == 0
    assert cli.run(["evaluate", "hf:me/omni", "--episodes", "4"]) == 0
    assert len(RunFolder(il.from_pretrained("me/omni")).evaluations) == 2
    assert cli.run(["evaluate", "hf:me/imno"]) == 1
    assert "me/imno" in capsys.readouterr().err
    assert cli.run(["evaluate", "glyphs-5way-1shot-mmal"]) == 1
    assert "did you mean 'glyphs-5way-1shot-maml'" in capsys.readouterr().err


@plants("a changed file is not noticed", "sharing.bundle:checked", lambda right: lambda f, n: ("run", ["config.json"]))
@pytest.mark.parametrize("file", ["weights.safetensors", "eval.json", "config.json"])
def test_a_changed_file_is_refused(hub: Hub, run: Path, file: str) -> None:
    il.push_to_hub(run, "me/omni")
    hub.damage = lambda name, content: content[:-9] + bytes(9) if name.endswith(file) else content
    with pytest.raises(InnerloopError, match=names("me/omni", file)):
        il.from_pretrained("me/omni")
    assert not list((Path(bundle.__file__).parent).glob("me--omni"))


def test_a_download_that_is_cut_off_goes_on(hub: Hub, run: Path) -> None:
    il.push_to_hub(run, "me/omni")
    cuts = []
    hub.cut = lambda name: name.endswith("weights.safetensors") and not cuts and not cuts.append(name)
    path = il.from_pretrained("me/omni")
    assert cuts
    assert torch.equal(
        RunFolder(path).load("best").weights["conv1.conv.weight"],
        RunFolder(run).load("best").weights["conv1.conv.weight"],
    )


def test_a_download_that_is_always_cut_off(hub: Hub, run: Path) -> None:
    il.push_to_hub(run, "me/omni")
    hub.cut = lambda name: name.endswith("weights.safetensors")
    with pytest.raises(InnerloopError, match=names("me/omni")):
        il.from_pretrained("me/omni")
    hub.cut = lambda name: False
    assert RunFolder(il.from_pretrained("me/omni")).load("best").step


def test_without_a_network_the_last_one_stays(hub: Hub, run: Path) -> None:
    il.push_to_hub(run, "me/omni")
    path = il.from_pretrained("me/omni")
    hub.stop()
    assert il.from_pretrained("me/omni") == path
    with pytest.raises(InnerloopError, match=names("me/other")):
        il.from_pretrained("me/other")


def test_revisions_and_names(hub: Hub, run: Path) -> None:
    il.push_to_hub(run, "me/omni")
    first = list(hub.repos["me/omni"])[-1]
    (run / "eval.json").unlink()
    il.push_to_hub(run, "me/omni")
    assert (il.from_pretrained("me/omni", revision=first) / "eval.json").exists()
    for name, revision in (("me/omni", "f" * 40), ("me/nothing", None), ("me/../omni", None), ("me/omni/x", None)):
        with pytest.raises(InnerloopError, match=names(name)):
            il.from_pretrained(name, revision=revision)


def rewritten(hub: Hub, name: str, changed: dict[str, bytes], manifest: dict) -> None:
    """A repository of somebody who knows the format."""
    there = {**hub.latest(name), **changed}
    own = json.loads(there["innerloop.json"])
    own["files"] = {n: {"bytes": len(c), "sha256": bundle.hashlib.sha256(c).hexdigest()} for n, c in there.items()
                    if bundle.FILES.fullmatch(n)}  # fmt: skip
    there["innerloop.json"] = json.dumps(own | manifest).encode()
    hub.repos[name]["a" * 40] = there


def test_code_is_not_loaded(hub: Hub, run: Path) -> None:
    il.push_to_hub(run, "me/omni")
    config = json.loads((run / "config.json").read_text()) | {"method": "os:system"}
    rewritten(hub, "me/omni", {"config.json": json.dumps(config).encode()}, {})
    with pytest.raises(InnerloopError, match=names("me/omni", "'os:system'")):
        il.from_pretrained("me/omni")


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": {"../../evil.json": {"bytes": 1, "sha256": "0"}}},
        {"files": {"config.json": {"bytes": 1 << 40, "sha256": "0"}}},
        {"files": {"config.json": "x"}},
        {"files": {"finished.json": {}, "config.json": {}}},
        {"files": []},
        {"files": {}},
        {"kind": "pickle"},
        {"files": {"checkpoints/0000009/weights.safetensors": {"bytes": 1, "sha256": "0"}}},
    ],
)
def test_a_hostile_manifest(hub: Hub, run: Path, manifest: dict) -> None:
    il.push_to_hub(run, "me/omni")
    rewritten(hub, "me/omni", {}, manifest)
    with pytest.raises(InnerloopError, match=names("me/omni")):
        il.from_pretrained("me/omni")


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=names("innerloop[hub]")):
        il.from_pretrained("me/omni")
    assert cli.run(["evaluate", "hf:me/omni"]) == 1
    assert "innerloop[hub]" in capsys.readouterr().err


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(InnerloopError, match=names("'glyphs-5way-1shot-mmal'", "glyphs-5way-1shot-maml")):
        il.from_pretrained("glyphs-5way-1shot-mmal")
