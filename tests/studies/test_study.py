"""The whole study in miniature, through the command line."""

import signal
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.runs import RunFolder, read_json
from innerloop.studies import study as run_study
from innerloop.studies.study import verdict
from innerloop.training import train as train_run
from tiny import FLAGS

pytestmark = pytest.mark.usefixtures("made_images")


def args(out: Path, *more: str) -> list[str]:
    return ["study", *FLAGS, "--out", str(out), *more]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from innerloop.training import setup
    from tiny import load_blobs

    out = tmp_path_factory.mktemp("study") / "s"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(setup, "load_images", load_blobs)
        assert cli.run(args(out)) == 0
    return out


def test_what_a_study_leaves(done: Path) -> None:
    summary = read_json(done / "summary.json")
    assert (done / "report.html").read_text().lstrip().lower().startswith("<!doctype html")
    assert summary["data"]["episodes"] == 20
    assert set(summary["methods"]) >= {"maml", "anil", "nil", "nil_maml", "untrained_nil", "pixels"}
    for value in summary["methods"].values():
        assert len(value["per_episode"]) == 20
        assert value["mean"] == pytest.approx(sum(value["per_episode"]) / 20, abs=1e-5)
    assert [len(r["frozen"]) for r in summary["freezing"]] == [0, 1, 2, 3, 4]
    assert summary["freezing"][0]["mean"] == summary["methods"]["maml"]["mean"]
    assert summary["freezing"][0]["difference"] == {"mean": 0.0, "ci95": 0.0}
    for name in ("maml", "anil"):
        assert RunFolder(done / name).finished
        still = [m["block"] for m in summary["movement"][name] if m["distance"] == 0]
        assert still == ([] if name == "maml" else ["conv1", "conv2", "conv3", "conv4"])
    body = [r["mean"] for r in summary["cka"]["anil"] if r["block"] != "head"]
    assert body == pytest.approx([1.0] * 4, abs=1e-6)
    assert summary["verdict"]["answer"] in ("feature reuse", "rapid learning", "mixed", "undecided")
    for p in summary["paired"]:
        a, b = (summary["methods"][p[k]]["per_episode"] for k in ("a", "b"))
        assert p["mean"] == pytest.approx(sum(x - y for x, y in zip(a, b, strict=True)) / 20, abs=1e-5)


def test_the_answer_needs_an_inner_loop_that_does_something() -> None:
    """Freezing a model that learnt nothing loses nothing, which is no feature reuse."""
    same = {"mean": 0.0, "ci95": 0.01}
    summary = {
        "freezing": [{"frozen": [], "difference": same}, {"frozen": ["conv1"], "difference": same}],
        "paired": [{"a": a, "b": "maml", **same} for a in ("anil", "nil_maml")],
        "cka": {"maml": [{"block": "conv1", "mean": 1.0}]},
        "movement": {"maml": [{"block": "conv1", "relative": 0.1}, {"block": "head", "relative": 0.2}]},
        "methods": {"maml": {"steps": [{"mean": 0.2}, {"mean": 0.8}]}},
    }
    assert verdict(summary)["answer"] == "feature reuse"
    summary["freezing"][1]["difference"] = {"mean": -0.5, "ci95": 0.01}
    assert verdict(summary)["answer"] == "mixed"
    summary["methods"]["maml"]["steps"][1] = {"mean": 0.21}
    assert verdict(summary)["answer"] == "undecided"


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_a_finished_study_is_not_run_again(done: Path, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = (done / "summary.json").read_bytes()
    assert cli.run(args(done, *more)) == 1
    err = capsys.readouterr().err
    assert "finished study" in err
    assert "report.html" in err
    assert (done / "summary.json").read_bytes() == before


def test_a_lost_page_is_written_again(done: Path) -> None:
    page = done / "report.html"
    page.unlink()
    assert cli.run(args(done)) == 0
    assert page.exists()


def test_interrupted_in_anil_and_resumed(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    module = sys.modules[run_study.__module__]

    def stop_anil(config, out, *, report, **more):
        def stopping(p):
            report(p)
            if config.method == "anil" and p.step == 3:
                signal.raise_signal(signal.SIGINT)

        return train_run(config, out, report=stopping, **more)

    out = tmp_path / "s"
    with monkeypatch.context() as m:
        m.setattr(module, "train", stop_anil)
        assert cli.run(args(out)) == 130
    err = capsys.readouterr().err
    assert "step 3" in err
    assert f"--resume --out {out} " in err  # the study's folder, not the run's inside
    assert cli.run(args(out)) == 1
    assert "--resume" in capsys.readouterr().err
    assert cli.run(args(out, "--resume", "--seed", "9")) == 1
    assert "another configuration" in capsys.readouterr().err
    assert cli.run(args(out, "--resume")) == 0
    one, other = read_json(out / "summary.json"), read_json(done / "summary.json")
    for name, value in one["methods"].items():
        assert value["per_episode"] == other["methods"][name]["per_episode"]
    assert one["freezing"] == other["freezing"]
    assert one["movement"] == other["movement"]


def test_foreign_folder_and_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x").touch()
    assert cli.run(args(tmp_path)) == 1
    assert "holds no study" in capsys.readouterr().err
    assert cli.run(args(tmp_path / "new", "--method", "boil")) == 1
    assert "both maml and anil" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
