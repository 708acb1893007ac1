"""What a run says of where it was made: above all the commit, without which a number cannot be made again."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from innerloop.runs import environment
from innerloop.runs.environment import commit
from planting import plants

MODULE = sys.modules[commit.__module__]


def git(where: Path, *args: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", where, *who, *args], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source tree in git from which the package seems to run."""
    file = tmp_path / "tree" / "src" / "innerloop" / "runs" / "environment.py"
    file.parent.mkdir(parents=True)
    file.write_text("1\n")
    (tmp_path / "tree" / "notes.txt").write_text("1\n")
    git(tmp_path / "tree", "init", "-q")
    git(tmp_path / "tree", "add", ".")
    git(tmp_path / "tree", "commit", "-qm", "one")
    monkeypatch.setattr(MODULE, "__file__", str(file))
    return tmp_path / "tree"


@plants("changed source under the name of its commit", "runs.environment:commit", lambda right: lambda: "0" * 40)
def test_the_commit_of_the_source_tree_and_whether_the_package_differs_from_it(source: Path) -> None:
    head = git(source, "rev-parse", "HEAD")
    assert len(head) == 40
    assert commit() == environment()["commit"] == head
    (source / "notes.txt").write_text("2\n")  # not of the package
    assert commit() == head
    (source / "src" / "innerloop" / "new.py").write_text("1\n")
    assert commit() == head + "+changes"
    git(source, "add", ".")
    git(source, "commit", "-qm", "two")
    assert commit() == git(source, "rev-parse", "HEAD") != head


def test_no_commit_where_there_is_none(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first one; installed within somebody else's repository; without git; outside of any."""
    other = source.parent / "other"
    package = other / "venv" / "innerloop" / "runs"
    package.mkdir(parents=True)
    git(other, "init", "-q")
    monkeypatch.setattr(MODULE, "__file__", str(package / "environment.py"))
    assert commit() is None
    (other / "src" / "innerloop").mkdir(parents=True)
    assert commit() is None  # the repository has such a folder, but it is another
    monkeypatch.setattr(MODULE, "__file__", str(other / "src" / "innerloop" / "runs" / "environment.py"))
    assert commit() is None
    monkeypatch.setattr(MODULE, "__file__", str(source / "src" / "innerloop" / "runs" / "environment.py"))
    assert commit() is not None
    monkeypatch.setenv("PATH", "")
    assert commit() is None
    monkeypatch.undo()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(source.parent))
    (source.parent / "plain" / "src" / "innerloop" / "runs").mkdir(parents=True)
    monkeypatch.setattr(MODULE, "__file__", str(source.parent / "plain/src/innerloop/runs/environment.py"))
    assert commit() is None


@pytest.mark.parametrize(("typed", "kept"), [("/opt/bin/innerloop", "innerloop"), ("/opt/train.py", "/opt/train.py")])
def test_the_command_is_kept_as_it_was_typed(typed: str, kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [typed, "train", "--way", "5"])
    assert environment()["command"] == [kept, "train", "--way", "5"]


def test_the_machine() -> None:
    found = environment()
    assert (found["threads"], found["python"]) == (torch.get_num_threads(), platform.python_version())
    info = Path("/proc/cpuinfo")
    models = [row.split(":")[1].strip() for row in info.read_text().splitlines() if row.startswith("model name")]
    assert found["processor"] == (models[0] if models else platform.processor())
