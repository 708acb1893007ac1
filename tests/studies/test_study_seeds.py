"""A study over seeds is the studies of the seeds, and its claims are tested on all of them."""

import copy
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from innerloop import cli
from innerloop.errors import InnerloopError
from innerloop.runs import RunFolder, read_json
from innerloop.studies import fan_out
from innerloop.studies.study_seeds import over_seeds, study_seeds
from innerloop.training import Config, Interrupted
from naming import names
from planting import plants
from tiny import CONFIG, FLAGS, assert_same, load_blobs

pytestmark = pytest.mark.usefixtures("made_images")
OWN = {"claim", "predicate", "holds", "evidence", "paper_data"}
"""what a claim of one study has"""


def here(work, items, **_: object) -> dict[int, str]:
    """In this process, so that the images that the test has made are there."""
    for item in items:
        work(item)
    return {}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 3 and 1 together, beside seed 3 alone."""
    from innerloop.training import build

    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        m.setattr(fan_out, "fan_out", here)
        m.setattr("innerloop.report.page.figures", lambda summary, episodes: {})
        common = ["study", *FLAGS, "--threads", "1"]
        assert cli.run([*common, "--seeds", "3", "1", "--jobs", "2", "--out", str(folder / "both")]) == 0
        assert cli.run([*common, "--seeds", "3", "--out", str(folder / "alone")]) == 0
    return folder


def timeless(summary: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the clock and the command line."""
    kept = {k: v for k, v in summary.items() if k not in ("seconds", "command", "env", "cost", "date", "over_seeds")}
    kept["methods"] = {
        n: {k: v for k, v in m.items() if k not in ("train_seconds", "curve")} for n, m in kept["methods"].items()
    }
    return kept


def test_each_seed_is_its_study(done: Path) -> None:
    """Catches a model of another seed's in a folder, and a first page that is not the first seed's."""
    alone = read_json(done / "alone" / "summary.json")
    first = read_json(done / "both" / "seed3" / "summary.json")
    whole = read_json(done / "both" / "summary.json")
    assert timeless(first) == timeless(alone) == timeless(whole)
    assert "over_seeds" not in alone
    assert (done / "both" / "episodes.safetensors").read_bytes() == (
        done / "alone" / "episodes.safetensors"
    ).read_bytes()
    for name in ("maml", "maml-small-head", "anil"):
        assert_same(done / "both" / "seed3" / name, done / "alone" / name)
        assert RunFolder(done / "both" / "seed1" / name).config["seed"] == 1


def test_numbers_over_seeds_are_those_of_the_seeds(done: Path) -> None:
    """Catches the number of another claim, of another start of the head, and a deviation that is none over seeds."""
    each = [read_json(done / "both" / f"seed{s}" / "summary.json") for s in (3, 1)]
    over = read_json(done / "both" / "summary.json")["over_seeds"]
    assert over["seeds"] == [3, 1]
    titles = [m["title"] for m in each[0]["methods"].values()]
    for row, name, title in zip(over["accuracy"], each[0]["methods"], titles, strict=True):
        values = [s["methods"][name]["mean"] for s in each]
        assert row["label"] == title
        assert (row["mean"], row["seed_std"]) == pytest.approx((statistics.mean(values), statistics.stdev(values)))
    for start, dial in (("maml", 0), ("maml_small", 1)):
        lowest = [s["dial"][dial]["lowest_body"] for s in each]
        head = [
            {k: next(b["mean"] for b in s[k][start] if b["block"] == "head") for k in ("cca98", "cka")} for s in each
        ]
        expected = [
            [s["dial"][dial]["frozen"]["difference"]["mean"] for s in each],
            *([m[k] for m in found] for k in ("cca98", "cka") for found in (lowest, head)),
            [s["dial"][dial]["moved"]["head"] for s in each],
        ]
        if start == "maml":
            expected.append([s["dial"][0]["nil"]["difference"]["mean"] for s in each])
            expected.append([next(p["mean"] for p in s["paired"] if p["a"] == "anil") for s in each])
        assert len(over["claims"][start]) == len(expected)
        for claim, values in zip(over["claims"][start], expected, strict=True):
            assert [v["mean"] for v in claim["number"]["values"]] == pytest.approx(values), claim["claim"]
            assert claim["number"]["seed_std"] == pytest.approx(statistics.stdev(values))


def test_of_one_seed_the_claims_are_those_of_its_study(done: Path) -> None:
    """Another way to the same: there from the measurements, here from what was written of them."""
    summary = read_json(done / "alone" / "summary.json")
    over = over_seeds({3: summary})
    found = {
        n: [{k: c[k] for k in OWN} for c in tested] for n, tested in json.loads(json.dumps(over))["claims"].items()
    }
    assert found["maml"] == summary["verdict"]["claims"]
    assert found["maml_small"] == summary["dial"][1]["claims"]
    assert (over["answer"], over["answers"]) == (summary["verdict"]["answer"], summary["verdict"]["answers"])


def learnt(summary: dict[str, Any], lost: float, ci95: float) -> dict[str, Any]:
    """A study in which MAML learns 50 points beyond the untrained body, and freezing changes accuracy by `lost`."""
    changed = copy.deepcopy(summary)
    for name, score in (("maml", 0.9), ("untrained_nil", 0.4)):
        changed["methods"][name]["per_episode"] = [score] * 8
    changed["dial"][0]["frozen"]["difference"] = {"mean": lost, "ci95": ci95}
    return changed


@plants(
    "the first seed's claims",
    "studies.study_seeds:numbers_of",
    lambda right: lambda v, n: right(dict([*v.items()][:1]), n),
)
@pytest.mark.parametrize(
    ("losses", "holds"),
    [
        ([(-0.001, 0.002), (-0.01, 0.002)], True),
        ([(-0.2, 0.01), (-0.1, 0.01)], False),
        ([(-0.001, 0.002), (-0.2, 0.01)], None),
        ([(-0.001, 0.002), (-0.015, 0.01)], None),  # one interval reaches beyond the bound of 2 points
    ],
)
def test_a_claim_holds_where_every_seed_says_so(done: Path, losses, holds) -> None:
    alone = read_json(done / "alone" / "summary.json")
    over = over_seeds({s: learnt(alone, *lost) for s, lost in enumerate(losses)})
    claim = over["claims"]["maml"][0]
    assert claim["holds"] is holds
    assert claim["number"]["mean"] == pytest.approx(statistics.mean(m for m, _ in losses))


def test_the_page_and_the_terminal_have_the_numbers(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("innerloop.report.page.figures", lambda summary, episodes: {})
    (done / "both" / "report.html").unlink()
    capsys.readouterr()
    assert cli.run(["study", *FLAGS, "--seeds", "3", "1", "--out", str(done / "both")]) == 0
    out = capsys.readouterr().out
    over = read_json(done / "both" / "summary.json")["over_seeds"]
    deviation = f"{over['claims']['maml'][3]['number']['seed_std']:.3f}"
    page = (done / "both" / "report.html").read_text()
    for text in (out, page):
        assert "seed_std" in text
        assert "seeds 3, 1" in text
        assert deviation in text
    for folder in ("alone", "both/seed3"):
        assert "seed_std" not in (done / folder / "report.html").read_text()
    assert "from one seed" not in page


def test_finished_unfinished_and_further_seeds(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is left alone, continued or given more seeds as one says, and what is finished is not made again."""
    monkeypatch.setattr(fan_out, "fan_out", here)
    with pytest.raises(InnerloopError, match=names("finished", done / "both")):
        study_seeds(CONFIG, (3, 1), done / "both", resume=True)
    with pytest.raises(InnerloopError, match=names("4", "4")):
        study_seeds(CONFIG, (4, 4), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    own = Config.from_json(read_json(done / "both" / "summary.json")["config"])
    other = replace(own, outer=replace(own.outer, steps=own.outer.steps + 1))
    before = (done / "both" / "summary.json").read_bytes()
    with pytest.raises(InnerloopError, match=names("seed3", "outer")):  # its seeds would be of two settings
        study_seeds(other, (3, 1, 2), done / "both", resume=True)
    assert (done / "both" / "summary.json").read_bytes() == before
    assert not (done / "both" / "seed2").exists()
    began: list[str] = []

    def stopping(work, items, **_: object) -> dict[int, str]:
        began.extend(i.folder.parent.name for i in items)
        raise KeyboardInterrupt

    monkeypatch.setattr(fan_out, "fan_out", stopping)
    with pytest.raises(Interrupted):
        study_seeds(replace(own, threads=2), (3, 1, 2), done / "both", jobs=2, resume=True)
    assert began == ["seed2"] * 3
    (tmp_path / "half" / "seed1" / "anil").mkdir(parents=True)
    with pytest.raises(InnerloopError, match=names("--resume")):
        study_seeds(CONFIG, (0, 1), tmp_path / "half")


def test_seed_and_seeds_are_not_given_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["study", *FLAGS, "--seed", "1", "--seeds", "2", "3", "--out", str(tmp_path / "x")]) == 1
    assert "--seeds" in capsys.readouterr().err
