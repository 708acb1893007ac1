"""An exported run is a run: the same weights, the same tests, without the optimizer; its card has the real numbers."""

import json
from pathlib import Path

import pytest
import torch

import innerloop as il
from innerloop import cli
from innerloop.cli.evaluate import EvaluateArgs, evaluate_run
from innerloop.errors import InnerloopError
from innerloop.estimator import FewShotClassifier
from innerloop.runs import RunFolder
from innerloop.sharing import export_classifier, export_run
from innerloop.sharing.bundle import checked
from naming import names
from planting import plants


@plants(
    "the last weights in the place of the best",
    "runs.folder:RunFolder.load",
    lambda right: lambda self, which: right(self, "last"),
)
def test_a_run(run: Path, tmp_path: Path) -> None:
    # the best step is not the last one
    folder = RunFolder(run)
    best = folder.load("best")
    weights = {n: w + 1 for n, w in best.weights.items()}
    folder.save(type(best)(best.step + 1, weights, best.optimizer, best.state))
    out = export_run(run, tmp_path / "shared" / "mine")
    config, _, parameters = il.load_run(out)
    assert config == il.Config.from_json(RunFolder(run).config)
    assert all(torch.equal(parameters[n], w) for n, w in best.weights.items())
    assert RunFolder(out).load("best").optimizer == {}
    assert RunFolder(out).evaluations == RunFolder(run).evaluations
    assert checked(out, "mine")[0] == "run"
    files = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {"README.md", "innerloop.json", "config.json", "eval.json"} <= files
    assert not [f for f in files if f.endswith((".pt", ".pkl", ".bin", ".lock"))]
    again = evaluate_run(EvaluateArgs(out))
    assert again["per_episode"] == RunFolder(run).evaluations[0]["per_episode"]
    with pytest.raises(InnerloopError, match=names(out)):
        export_run(run, out)


def test_the_card(run: Path, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml")
    out = export_run(run, tmp_path / "mine", name="me/mine", notes=["A note."])
    card = (out / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    (test,) = RunFolder(run).evaluations
    number, bar = f"{100 * test['mean']:.2f}", f"{100 * test['ci95']:.2f}"
    (index,) = yaml.safe_load(head)["model-index"]
    (metric,) = index["results"][0]["metrics"]
    assert metric["value"] == float(number)
    assert f"ci95 ± {bar}" in metric["name"]
    assert f"| {number} ± {bar} | 6 |" in text
    env = RunFolder(run).environment
    assert str(env["commit"]) in text
    assert env["command"][0] in text
    assert "A note." in text
    assert 'il.from_pretrained("me/mine")' in text


def test_a_run_that_was_not_tested(run: Path, tmp_path: Path) -> None:
    (run / "eval.json").unlink()
    card = (export_run(run, tmp_path / "mine") / "README.md").read_text()
    assert "It was not tested." in card
    assert "model-index" not in card
    assert "±" not in card


def test_another_kind_of_run(run: Path, tmp_path: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"kind": "rl"}))
    with pytest.raises(InnerloopError, match=names("rl")):
        export_run(run, tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_a_classifier(tmp_path: Path) -> None:
    x = torch.rand(6, 5, generator=il.generator_for(0)).numpy()
    few = FewShotClassifier(method="means").fit(x, ["ant", "bee|wasp", "cat"] * 2)
    few.save(tmp_path / "a.innerloop")
    out = export_classifier(tmp_path / "a.innerloop", tmp_path / "mine")
    assert (FewShotClassifier.load(out / "model.innerloop").predict_proba(x) == few.predict_proba(x)).all()
    assert "ant, bee\\|wasp, cat" in (out / "README.md").read_text()
    assert checked(out, "mine")[0] == "classifier"
    with pytest.raises(InnerloopError, match=names(tmp_path / "no.innerloop")):
        export_classifier(tmp_path / "no.innerloop", tmp_path / "other")


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["export", str(run), "--out", str(tmp_path / "mine")]) == 0
    assert il.load_run(tmp_path / "mine")[0].data == "glyphs"
    assert cli.run(["export", str(run), "--out", str(tmp_path / "mine")]) == 1
    assert cli.run(["export", str(tmp_path / "nowhere"), "--out", str(tmp_path / "other")]) == 1
    assert cli.run(["export", str(run), "--out", str(tmp_path / "other"), "--public"]) == 1
    assert "--hub" in capsys.readouterr().err
