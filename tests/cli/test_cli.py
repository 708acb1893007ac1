"""The command line: help, failures in one sentence, and whole runs."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import innerloop
from innerloop import cli
from innerloop.cli.evaluate import printed_steps
from innerloop.data.catalogue import DATASETS
from innerloop.errors import InnerloopError
from innerloop.runs import RunFolder, read_json
from innerloop.training import PRESETS, build
from tiny import FLAGS, blobs


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No data of this machine, narrow lines, errors as users see them."""
    monkeypatch.setenv("INNERLOOP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "80")  # options one below the other
    monkeypatch.delenv("INNERLOOP_TRACEBACK", raising=False)


def fails(args: Sequence[str], says: str, capsys: pytest.CaptureFixture[str], status: int = 1) -> str:
    """The command fails with one sentence on stderr; returns it."""
    assert cli.run(list(args)) == status
    err = capsys.readouterr().err
    assert err.startswith("innerloop: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert says in err
    return err


def help_of(args: Sequence[str], capsys: pytest.CaptureFixture[str], ask: str = "--help-all") -> str:
    assert cli.run([*args, ask]) == 0
    return capsys.readouterr().out


def option(text: str, name: str) -> str:
    """What a help text says on one option, on one line."""
    lines = [line.strip(" │") for line in text.splitlines()]
    start = max(i for i, line in enumerate(lines) if line.split()[:1] in ([name], [f"{name},"]))
    end = next((i for i in range(start + 1, len(lines)) if not lines[i] or lines[i][0] in "-╰─"), len(lines))
    return " ".join(lines[start:end])


# help


def test_top_level(capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([], ["--help"], ["-h"], ["help"]):
        assert cli.run(args) == 0
        out = capsys.readouterr().out
        assert all(f"  {c} " in out and about in out for c, about in cli.COMMANDS.items())
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"innerloop {innerloop.__version__}\n"


def test_top_level_help_does_not_wait_for_torch() -> None:
    code = "import sys, innerloop.cli as c; c.run(['--help']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=100)


def test_as_a_module_it_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "innerloop", "--version"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()[-1]) == (0, innerloop.__version__)
    done = subprocess.run([sys.executable, "-m", "innerloop", "trian"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2


@pytest.mark.parametrize(("args", "unbuffered"), [(["--help"], ""), (["--help"], "1"), (["train", "--help"], "")])
def test_a_reader_that_has_gone_is_no_error(args: list[str], unbuffered: str) -> None:
    """`innerloop --help | head -1` printed a traceback."""
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "innerloop", *args]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=env, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_every_name_of_the_package_is_there() -> None:
    from innerloop.estimator import choose_method, classifier
    from innerloop.models.pretrained import pretrained

    assert all(hasattr(innerloop, name) for name in innerloop.__all__)
    assert innerloop.FewShotClassifier is classifier.FewShotClassifier
    assert innerloop.choose_method is choose_method
    assert innerloop.pretrained is pretrained


def test_all_names_can_be_had_without_the_extras() -> None:
    """`from innerloop import *` needs nothing that a plain installation has not; a name that does says what."""
    code = (
        "import sys\n"
        "sys.modules['sklearn'] = sys.modules['efficientnet_lite_pytorch'] = None\n"
        "from innerloop import *\n"
        "import innerloop\n"
        "for get in (lambda: innerloop.FewShotClassifier, innerloop.pretrained):\n"
        "    try: get()\n"
        "    except ImportError as e: assert 'pip install' in str(e)\n"
        "    else: raise SystemExit(1)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_help_lists_presets_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    out = help_of(["train"], capsys)
    for p in PRESETS:
        assert re.search(rf"^  {re.escape(p.name)} .*{re.escape(p.about)}$", out, re.M)
    for flag in (
        "--preset",
        "--out",
        "--resume",
        "--data",
        "--method",
        "--way",
        "--seed",
        "--inner.lr",
        "--outer.steps",
        "--test.episodes",
        "--validation.every",
        "--model.filters",
        "--folder.root",
        "--device",
    ):
        assert flag in out
        assert len(option(out, flag)) > len(flag) + 12, f"{flag} is not explained"


def test_help_shows_the_defaults_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    out = help_of(["train", "--preset", "omniglot-20way-1shot"], capsys)
    assert "(default: 5)" in option(out, "--inner.steps")
    assert "(default: 2.0)" in option(out, "--inner.lr")
    assert "(default: 20)" in option(out, "--way")
    assert "(default: omniglot-20way-1shot)" in option(out, "--preset")
    out = help_of(["train", "--preset=omniglot-20way-1shot", "--method=boil"], capsys)
    assert "(default: 0.5)" in option(out, "--inner.lr")
    out = help_of(["train", "--preset", "quick", "--preset", "sinusoid-10shot"], capsys)  # the last one counts
    assert "(default: sinusoid)" in option(out, "--data")
    assert "(default: 0.01)" in option(out, "--inner.lr")
    out = help_of(["study"], capsys)
    assert "(default: quick)" in option(out, "--preset")
    assert "(default: 600)" in option(out, "--outer.steps")


def test_help_of_evaluate_and_data(capsys: pytest.CaptureFixture[str]) -> None:
    out = help_of(["evaluate"], capsys)
    for flag in ("--method", "--which", "--split", "--episodes", "--inner-steps", "--statistics", "--query", "--seed"):
        assert flag in out
    assert "fetch" in help_of(["data"], capsys)
    assert "fetch" in help_of(["data", "list"], capsys)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["trian"], "did you mean 'train'"),
        (["xyzzy"], ", ".join(cli.COMMANDS)),
        (["train", "--inner.lrr", "1"], "--inner.lr"),
        (["train", "--methd", "anil"], "--method"),
        (["train", "--way", "five"], "five"),
        (["train", "--outer.steps", "0"], "outer.steps must be at least 1"),
        (["train", "--validation.every", "0"], "validation.every must be at least 1"),
        (["train", "--test.episodes", "1"], "test.episodes must be at least 2"),
        (["train", "--test.inner-steps", "-2"], "test.inner_steps must be at least 0"),
        (["evaluate"], "RUN"),
        (["data", "lst"], "did you mean 'list'?"),
        (["data", "list", "--frob"], "--frob"),
    ],
)
def test_wrong_usage(args: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(args) == 2
    err = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert says in err
    assert "Traceback" not in err


def test_unknown_preset(capsys: pytest.CaptureFixture[str]) -> None:
    err = fails(["train", "--preset", "omniglot-5way-1shoot"], "did you mean 'omniglot-5way-1shot'?", capsys)
    assert all(p.name in err for p in PRESETS)


# data


def test_data_list_and_check_without_data(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.run(["data", "list", f"--data-dir={tmp_path}"]) == 0
    out = capsys.readouterr().out
    assert all(s.name in out for s in DATASETS)
    assert "innerloop data fetch omniglot" in out
    assert cli.run(["data", "check", "omniglot", "--data-dir", str(tmp_path)]) == 1
    assert "omniglot: NOT OK" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["omniglot-5way-1shot", "mini-imagenet-5way-1shot", "cifar-fs-5way-1shot"])
def test_missing_data(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    fails(["train", "--preset", name, "--out", str(out), "--data-dir", str(tmp_path)], "data", capsys)
    assert not out.exists()


def folder_data(root: Path, classes: int = 12, images: int = 5) -> Path:
    """A small ROOT/CLASS/IMAGE tree."""
    pixels = blobs(classes=6).images
    for c in range(classes):
        (root / f"class{c:02}").mkdir(parents=True)
        for i in range(images):
            Image.fromarray(pixels[8 * c + i, 0].numpy()).save(root / f"class{c:02}" / f"{i}.png")
    return root


FOLDER = ["--data", "folder", "--folder.size", "16", "--folder.channels", "1", *FLAGS, "--way", "2"]


def test_a_folder_of_images(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = folder_data(tmp_path / "mine")
    out = tmp_path / "run"
    assert cli.run(["train", *FOLDER, "--folder.root", str(root), "--out", str(out)]) == 0
    assert RunFolder(out).finished
    capsys.readouterr()
    (root / "class03" / "2.png").write_bytes(b"no picture")
    fails(["train", *FOLDER, "--folder.root", str(root), "--out", str(tmp_path / "b")], "class03/2.png", capsys)
    fails(["train", *FOLDER, "--out", str(tmp_path / "b")], "--folder.root", capsys, 2)
    fails(["train", *FOLDER, "--folder.root", str(tmp_path / "nix"), "--out", str(tmp_path / "b")], "nix", capsys)
    assert not (tmp_path / "b").exists()


# whole runs, on made images


@pytest.fixture
def out(made_images: None, tmp_path: Path) -> Path:
    return tmp_path / "run"


def train(out: Path, *more: str) -> list[str]:
    return ["train", *FLAGS, "--out", str(out), *more]


def test_train_evaluate_and_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(train(out)) == 0
    shown = capsys.readouterr().out
    assert "8 episodes" in shown
    assert "transductive" in shown
    folder = RunFolder(out)
    assert {p.name for p in out.iterdir()} >= {"config.json", "env.json", "metrics.jsonl", "checkpoints", "eval.json"}
    (first,) = read_json(out / "eval.json")["evaluations"]
    assert first["episodes"] == len(first["per_episode"]) == 8
    assert len(first["steps"]) == 4
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}

    fails(train(out), "never overwritten", capsys)
    fails(train(out, "--resume"), "never overwritten", capsys)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before

    assert cli.run(["evaluate", str(out)]) == 0  # the same again is no second entry
    assert [r["per_episode"] for r in read_json(out / "eval.json")["evaluations"]] == [first["per_episode"]]
    changes = (
        ["--method", "nil"],
        ["--method", "anil"],
        ["--statistics", "support"],
        ["--which", "last"],
        ["--split", "val"],
        ["--inner-steps", "1"],
        ["--episodes", "6"],
        ["--seed", "5"],
    )
    for more in changes:
        assert cli.run(["evaluate", str(out), *more]) == 0
    rows = read_json(out / "eval.json")["evaluations"]
    assert len(rows) == len(changes) + 1
    assert rows[0] == {**first, "command": rows[0]["command"]}
    assert rows[7]["per_episode"] == first["per_episode"][:6]  # the first 6 of the same episodes
    assert rows[2]["steps"][0] == first["steps"][0]  # before any step the method makes no difference
    assert rows[1]["steps"] == [{"mean": rows[1]["mean"], "ci95": rows[1]["ci95"]}]
    assert rows[4]["step"] == 4
    assert folder.load("last").step == 4


@pytest.mark.parametrize("more", [["--inner.learn-rates"], ["--inner.recompute"], ["--method", "boil"]])
def test_any_run_can_be_tested_with_any_method(more: list[str], out: Path) -> None:
    assert cli.run(train(out, *more, "--test.episodes", "4")) == 0
    for method in ("maml", "fomaml", "anil", "boil", "nil"):
        assert cli.run(["evaluate", str(out), "--method", method]) == 0
    assert len(read_json(out / "eval.json")["evaluations"]) == 5


def test_the_classifier_of_all_classes_is_tested_by_its_features(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(train(out, "--method", "multiclass", "--validation.keep-every", "2")) == 0
    (first,) = read_json(out / "eval.json")["evaluations"]
    assert cli.run(["evaluate", str(out), "--method", "nil"]) == 0
    second = read_json(out / "eval.json")["evaluations"][1]
    assert second["per_episode"] == first["per_episode"]
    fails(["evaluate", str(out), "--method", "maml"], "test this body with nil, proto, baseline", capsys)
    assert cli.run(["evaluate", str(out), "--which", "step2"]) == 0
    assert read_json(out / "eval.json")["evaluations"][2]["step"] == 2
    fails(["evaluate", str(out), "--which", "step3"], "it has: best, last, step2, step4", capsys)


def test_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    args = ["--preset", "sinusoid-10shot", *FLAGS, "--inner.lr", "0.01", "--out", str(out)]
    assert cli.run(["train", *args]) == 0
    assert "mean squared error" in capsys.readouterr().out
    fails(["evaluate", str(out), "--method", "nil"], "nil", capsys)
    fails(["study", "--preset", "sinusoid-10shot", "--out", str(tmp_path / "s")], "regression", capsys)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--way", "9"], "way 9 is larger than the 6 classes"),
        (["--shot", "7"], "lower shot or query"),
        (["--inner.lr", "3e38"], "lower"),
        (["--device", "gpu"], "no device 'gpu'"),
        (["--device", "meta"], "no device 'meta'"),
    ],
)
def test_what_cannot_be_trained(more: list[str], says: str, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(train(out, *more), says, capsys)
    assert not RunFolder(out).finished


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--method", "nil", "--inner.learn-rates"], "nil has no inner loop"),
        (["--method", "multiclass", "--inner.statistics", "support"], "multiclass trains without support sets"),
    ],
)
def test_options_that_do_not_go_together(
    more: list[str], says: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(train(out, *more), says, capsys, status=2)
    assert not out.exists()


@pytest.mark.parametrize(
    ("more", "field", "value"),
    [
        (["--model.hidden"], "model.hidden", "()"),
        (["--model.filters", "0"], "model.filters", "0"),
        (["--outer.lr", "1e38"], "outer.lr", "1e+38"),
        (["--outer.lr", "inf"], "outer.lr", "inf"),
        (["--outer.final-lr", "-1"], "outer.final_lr", "-1.0"),
        (["--outer.final-lr", "nan"], "outer.final_lr", "nan"),
        (["--inner.lr", "1e400"], "inner.lr", "inf"),
        (["--inner.lr", "-1"], "inner.lr", "-1.0"),
        (["--test.temperature", "inf"], "test.temperature", "inf"),
        (["--way", "1"], "way", "1"),
        (["--train-way", "1"], "train_way", "1"),
        (["--threads", "-3"], "threads", "-3"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_before_anything_is_written(
    more: list[str], field: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "--out", str(tmp_path / "r"), *more]) in (1, 2)
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert f"{field} must be " in said
    assert f"got {value}" in said
    assert not (tmp_path / "r").exists()


def spoil_weights(out: Path) -> None:
    for path in out.glob("checkpoints/*/weights.safetensors"):
        path.write_bytes(path.read_bytes()[:-5])


def other_filters(out: Path) -> None:
    change_config(out, lambda c: c["model"].update(filters=5))


def change_config(out: Path, change: Any) -> None:
    config = read_json(out / "config.json")
    change(config)
    (out / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_weights, "cannot be read"),
        (other_filters, "of another model"),
        (lambda out: change_config(out, lambda c: c["inner"].update(learn_rates=True)), "rate:conv1"),
        (lambda out: change_config(out, lambda c: c.update(colour=1)), "colour"),
        (lambda out: change_config(out, lambda c: c["outer"].update(colour=1)), "colour"),
        (lambda out: change_config(out, lambda c: c.update(method="leo")), "leo"),
        (lambda out: (out / "config.json").write_text("{"), "config.json is not valid JSON"),
        (lambda out: (out / "config.json").write_text("7"), "config.json"),
        (lambda out: (out / "config.json").unlink(), "not a run folder"),
        (lambda out: (out / "checkpoints" / "index.json").write_text("garbage"), "index.json is not valid JSON"),
        (lambda out: (out / "checkpoints" / "index.json").unlink(), "no 'best' checkpoint"),
        (lambda out: (out / "eval.json").write_text("[1]"), "eval.json"),
        (lambda out: (out / "eval.json").write_bytes(b"\xff"), "eval.json"),
    ],
)
def test_a_spoilt_run(spoil: Any, says: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    out = tmp_path / "copy"
    shutil.copytree(trained, out)
    spoil(out)
    fails(["evaluate", str(out)], says, capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trained run, not to be changed."""
    from tiny import load_blobs

    out = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(build, "load_images", load_blobs)
        assert cli.run(train(out, "--test.episodes", "4")) == 0
    return out


@pytest.fixture(autouse=True)
def made(request: pytest.FixtureRequest) -> None:
    """A spoilt run is loaded with made images."""
    if "trained" in request.fixturenames:
        request.getfixturevalue("made_images")


def test_full_disk(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second checkpoint does not fit: the first stays, and --resume ends the run."""
    fsync = os.fsync

    def full(fd: int) -> None:
        name = str(Path(f"/proc/self/fd/{fd}").readlink())
        if "0000004" in name and "optimizer" in name:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        fsync(fd)

    with monkeypatch.context() as m:
        m.setattr(os, "fsync", full)
        fails(train(out), "the disk is full", capsys)
    assert RunFolder(out).load("last").step == 2
    assert not list(out.rglob("*.part"))
    assert cli.run(train(out, "--resume")) == 0
    assert [r["step"] for r in RunFolder(out).metrics] == [2, 4]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs limits on file sizes")
def test_a_file_that_may_not_grow(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
    try:
        fails(train(out, "--model.filters", "16"), "weights.safetensors", capsys)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not RunFolder(out).has("last")
    assert cli.run(train(out, "--model.filters", "16", "--resume")) == 0


def test_folders_that_cannot_be_written(
    out: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    fails(train(tmp_path / "file"), "is a file", capsys)
    fails(train(tmp_path / "file" / "run"), "file", capsys)
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    fails(train(tmp_path / "full"), "not empty", capsys)

    def refused(self: Path, *args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)  # a read-only folder, also for root
    fails(train(out), f"{out}: Permission denied", capsys)


def test_resume_with_another_configuration(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def once(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as m:
        m.setattr("innerloop.cli.train.detail", lambda *_: once() or "")
        err = fails(train(out), "stopped at step 1", capsys, 130)
    assert f"--resume --out {out}" in err
    fails(train(out), "--resume", capsys)
    fails(train(out, "--resume", "--inner.lr", "0.5"), "inner.lr: 0.4 there, 0.5 now", capsys)
    assert cli.run(train(out, "--resume")) == 0


def test_errors_of_ours_are_not_hidden(monkeypatch: pytest.MonkeyPatch, out: Path) -> None:
    def bug(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("innerloop.cli.train.train", bug)
    with pytest.raises(KeyError, match="a bug"):
        cli.run(train(out))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "not enough memory",
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory"),
        (RuntimeError("Storage size calculation overflowed with sizes=[9]"), "not enough memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), "the disk is full while writing /x/y"),
        (OSError(errno.EFBIG, "File too large", "/x/y"), "while writing /x/y"),
        (OSError(errno.EROFS, "Read-only file system", "/x/y"), "/x/y: Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (InnerloopError("a\n  b"), "a b"),
        (OSError("odd"), "odd"),
    ],
)
def test_sentences(error: Exception, says: str) -> None:
    found = cli.explain(error)
    assert found is not None
    assert says in found
    assert cli.explain(KeyError("x")) is None
    assert cli.explain(ValueError("too many values to unpack")) is None  # a bug of ours, not of the user


def test_ctrl_c_of_a_process(tmp_path: Path) -> None:
    """From the outside: signal, checkpoint, exit status, and on with --resume."""
    out = tmp_path / "run"
    args = [
        "--preset",
        "sinusoid-10shot",
        "--outer.steps",
        "1000000",
        "--validation.every",
        "100000",
        "--out",
        str(out),
    ]
    command = [sys.executable, "-m", "innerloop", "train", *args]
    if not (Path(innerloop.__file__).parent / "__main__.py").exists():
        command[1:3] = ["-c", "from innerloop.cli import main; main()"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert "1,000,000 outer steps" in process.stdout.readline()
        assert "train maml: 1/1000000" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 130
    assert err.startswith("innerloop: stopped at step ")
    assert err.count("\n") == 1
    assert RunFolder(out).load("last").step >= 1


def test_a_table_of_many_inner_steps_keeps_its_ends() -> None:
    assert printed_steps(0) == [0]
    assert printed_steps(20) == list(range(21))
    assert printed_steps(100) == [0, 1, *range(10, 101, 10)]
    assert printed_steps(21) == [0, 1, 3, 6, 9, 12, 15, 18, 21]


def test_a_dry_run_says_what_and_how_long_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The estimate is of the steps and validations that the real run has, from steps that take a known time."""
    from innerloop.cli import train as command

    monkeypatch.chdir(tmp_path)
    clock = iter([10.0, 12.0, 14.0, 21.0])  # 2 s a step, 5 s a validation

    def trained(config, out, *, data_dir, report) -> None:
        assert (config.outer.steps, config.validation.every) == (4, 4)
        for _ in range(4):
            report(None)

    monkeypatch.setattr(command, "train", trained)
    monkeypatch.setattr(command.time, "perf_counter", lambda: next(clock))
    options = "--outer.steps 1000 --validation.every 300 --validation.episodes 100 --test.episodes 600 --method anil"
    assert cli.run(["train", *options.split(), "--dry-run", "--out", "mine"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "ANIL on glyphs, 5-way 1-shot: 1,000 outer steps" in said
    assert "into mine" in said
    seconds = 1000 * 2 + (4 + 6) * 5
    assert f"about {seconds // 60}:{seconds % 60:02}" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "folder"),
    [
        ("train", "glyphs-5way-1shot-maml-seed0"),
        ("train --preset quick --method anil --inner.lr 0.1 --seed 3", "quick-anil-seed3"),
        ("train --preset omniglot-20way-1shot-cpu", "omniglot-20way-1shot-cpu-maml-seed0"),
        (
            "train --preset omniglot-20way-1shot-cpu --shot 5",
            "omniglot-20way-5shot-like-omniglot-20way-1shot-cpu-maml-seed0",
        ),
        (
            "train --preset glyphs-5way-1shot --data cifar_fs",
            "cifar-fs-5way-1shot-like-glyphs-5way-1shot-maml-seed0",
        ),
        ("train --preset omniglot-5way-1shot --data glyphs", "glyphs-5way-1shot-like-omniglot-5way-1shot-maml-seed0"),
        (
            "train --preset omniglot-5way-1shot --split-scheme lake",
            "omniglot-lake-5way-1shot-like-omniglot-5way-1shot-maml-seed0",
        ),
        ("train --preset sinusoid-10shot --shot 5", "sinusoid-5shot-like-sinusoid-10shot-maml-seed0"),
        ("study", "study-quick-glyphs-seed0"),
        ("study --way 10", "study-glyphs-10way-1shot-like-quick-seed0"),
        ("rl train --preset navigation-2019", "navigation-2019-maml-seed0"),
        (
            "rl train --preset navigation-2019 --env cheetah-velocity",
            "cheetah-velocity-like-navigation-2019-maml-seed0",
        ),
    ],
)
def test_the_default_folder_names_what_is_trained(args: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a folder with the preset's data or shots in its name where others are trained."""
    found = []

    def seen(out: Path, *, resume: bool) -> None:
        found.append(out)
        raise InnerloopError("stop")

    monkeypatch.setattr("innerloop.cli.options.check_out", seen)
    assert cli.run(args.split()) == 1
    assert found == [Path("runs") / folder]
