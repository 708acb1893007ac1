"""Help begins with what a command does, its examples work as pasted, names are suggested and completed."""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.cli import options, rl
from innerloop.cli.completion import KINDS
from innerloop.cli.help import Help, options_of, page
from innerloop.rl.presets import PRESETS as RL_PRESETS
from innerloop.training import PRESETS, preset

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
HELPS = {name: import_module(f"innerloop.cli.{name}").HELP for name in cli.COMMANDS} | {
    f"rl {action}": getattr(rl, f"{action.upper()}_HELP") for action in ("train", "evaluate", "analyse", "render")
}
EXAMPLES = [line for h in HELPS.values() for line in h.examples]
EXAMPLES += [line.strip() for line in cli.HELP.splitlines() if line.startswith("  innerloop ")]


class Parsed(Exception):
    """The parser has taken the command line."""


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_is_taken_by_the_parser(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an option, a preset or an action that was renamed. Folders and modules of the examples do not exist."""

    def parsed(*_: object, **__: object) -> None:
        raise Parsed

    monkeypatch.setattr(options, "_check", parsed)
    words = shlex.split(example, comments=True)
    if ">" in words:
        words = words[: words.index(">")]
    if "my_envs:mine" in words:
        words[words.index("my_envs:mine")] = "navigation"
    assert words[0] == "innerloop"
    with pytest.raises(Parsed):
        cli.run(words[1:])


@pytest.mark.parametrize("command", HELPS)
def test_help_begins_with_what_the_command_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    text: Help = HELPS[command]
    about, _, rest = out.partition("\n\n")
    assert " ".join(about.split()) == " ".join(text.about.split())
    assert rest.startswith("examples\n")
    assert 2 <= len(text.examples) <= 4
    assert f"usage: innerloop {command}" in rest
    before_names = out.split("\npresets, ")[0].split("\nnames\n")[0]
    assert len(before_names.splitlines()) <= 75
    assert max(map(len, before_names.splitlines())) <= 120


@pytest.mark.parametrize("command", [c for c, h in HELPS.items() if h.main])
def test_short_help_has_the_main_options_and_help_all_every_one(command: str) -> None:
    text: Help = HELPS[command]
    known = list(options_of(KINDS[command]))
    assert set(text.main) <= {o.flag for o in known}
    assert all(any(o.flag.startswith(h) for o in known) for h in text.hidden)
    short, whole = (page(command, text, KINDS[command], whole=w) for w in (False, True))
    entries = [re.findall(r"^  (--[\w.-]+)", t, re.M) for t in (short, whole)]
    assert entries[0] == list(text.main)
    assert set(entries[1]) == {o.flag for o in known if not o.flag.startswith(text.hidden or (" ",))}


def test_every_option_is_explained() -> None:
    for command, kind in KINDS.items():
        for option in options_of(kind):
            assert len(option.about) > 5, f"{command} {option.flag}"


def recorded() -> Iterator[tuple[str, float]]:
    """Minutes of MAML's training for presets, from runs and speeds under results/."""

    def run(name: str) -> tuple[float, float]:
        """Seconds and tasks."""
        config, done = (json.loads((RESULTS / name / f"{f}.json").read_text()) for f in ("config", "finished"))
        per_step = config["outer"]["meta_batch"] if "outer" in config else 1
        return done["seconds"], done["steps"] * per_step

    def outer(name: str) -> int:
        return preset(name).outer.steps * preset(name).outer.meta_batch

    study = json.loads((RESULTS / "study-quick-glyphs" / "summary.json").read_text())["cost"]["train_ms"]["maml"]
    for name in ("quick", "glyphs-5way-1shot"):  # 4 tasks were timed
        yield name, outer(name) / 4 * study / 6e4
    seconds, tasks = run("omniglot-5way-1shot-maml")
    yield "omniglot-5way-1shot-cpu", seconds / tasks * outer("omniglot-5way-1shot-cpu") / 60
    seconds, tasks = run("omniglot-20way-1shot-maml")
    for name in ("omniglot-20way-1shot-cpu", "omniglot-lake-20way-1shot-cpu"):
        yield name, seconds / tasks * outer(name) / 60
    cells = json.loads((RESULTS / "speed_meta_step.json").read_text())["cells"]
    step = {c["setting"]: c["rows"][0]["seconds"] for c in cells if c["method"] == "maml"}
    for name, setting in (
        ("omniglot-20way-1shot", "omniglot 20-way 1-shot"),
        ("mini-imagenet-5way-1shot", "mini-imagenet 5-way 1-shot"),
        ("cifar-fs-5way-1shot", "cifar-fs 5-way 1-shot"),
    ):
        yield name, preset(name).outer.steps * step[setting] / 60
    rows = json.loads((RESULTS / "speed_small_nets.json").read_text())["rows"]
    (ms,) = (r["ms innerloop"] for r in rows if (r["tasks"], r["inner_steps"]) == (25, 1))
    yield "sinusoid-10shot", preset("sinusoid-10shot").outer.steps * ms / 6e4


def test_the_durations_of_presets_are_those_recorded() -> None:
    """Catches a duration that was made up, and a preset that was changed without it."""
    expected = dict(recorded())
    assert {p.name for p in PRESETS if p.minutes is not None} == set(expected)
    for p in PRESETS:
        if p.minutes is not None:
            assert p.minutes == pytest.approx(expected[p.name], rel=0.1), p.name
    for p in RL_PRESETS:
        if p.minutes is not None:
            done = json.loads((RESULTS / "rl" / f"{p.name}-maml-seed0" / "finished.json").read_text())
            assert done["steps"] == p.config.iterations
            assert p.minutes == pytest.approx(done["seconds"] / 60, rel=0.1), p.name


@pytest.mark.parametrize(
    ("args", "near"),
    [
        ("trian", "train"),
        ("train --preset quik", "quick"),
        ("train --method anli", "anil"),
        ("evaluate RUN --method prtoo", "proto"),
        ("train --data omnigolt", "omniglot"),
        ("data fetch omniglt", "omniglot"),
        ("data chek", "check"),
        ("runs lst", "list"),
        ("reproduce tabel1", "table1"),
        ("reproduce families --methods porto", "proto"),
        ("reproduce table1 --budget smok", "smoke"),
        ("train --device cdua", "cpu"),
        ("train --model.arch comv4", "conv4"),
        ("train --outer.optimizer adm", "adam"),
        ("train --sed 1", "--seed"),
        ("rl trian", "train"),
        ("rl train --env navigatoin", "navigation"),
        ("rl train --preset navigation-2018", "navigation-2019"),
        ("completion bahs", "bash"),
        ("sweep --vary inner.rl=1,2", "inner.lr"),
        ("evaluate RUN --augment-support afine", "affine"),
        ("evaluate RUN --split tset", "test"),
        ("serve nothing.innerlop", "nothing.innerloop"),
    ],
)
def test_a_name_that_is_nearly_right_is_suggested(
    args: str, near: str, made_images: None, tmp_path: Path, monkeypatch, capsys, trained: Callable[[], str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path))
    Path("nothing.innerloop").touch()
    words = [trained() if w == "RUN" else w for w in args.split()]
    capsys.readouterr()
    assert cli.run(words) in (1, 2)
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert near not in args
    assert near in err, err


@pytest.fixture
def trained(made_images: None, tmp_path: Path) -> Callable[[], str]:
    from tiny import FLAGS

    def make() -> str:
        assert cli.run(["train", *FLAGS, "--out", str(tmp_path / "run")]) == 0
        return str(tmp_path / "run")

    return make


def test_help_of_a_boolean_that_is_on_shows_how_to_turn_it_off() -> None:
    (gallery,) = (o for o in options_of(KINDS["classify"]) if o.flag == "--gallery")
    assert gallery.shown == "--gallery, --no-gallery"
    assert replace(gallery, flag="--model.affine").shown == "--model.affine, --model.no-affine"
    assert replace(gallery, default=False).shown == "--gallery"
