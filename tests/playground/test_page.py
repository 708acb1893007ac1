"""The page is one file, small, and asks nothing of a network."""

import re
from pathlib import Path

import pytest

from innerloop import cli
from innerloop.playground import page


def test_one_file_without_a_network(page_file: Path) -> None:
    text = page_file.read_text()
    assert page_file.stat().st_size <= 3_000_000
    assert "{{" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"<(?:script|img|iframe|audio|video|source)[^>]*\ssrc=", text)
    assert not re.search(r"<link(?![^>]*href=\"data:)", text)
    assert not re.search(r"@import|\bfetch\(|XMLHttpRequest|importScripts", text)


def test_every_script_ends_where_it_should() -> None:
    """Catches a script whose text holds the end of its own element."""
    text = page()
    assert len(re.findall(r"<script\b", text)) == len(re.findall(r"</script>", text))
    assert text.rstrip().endswith("</html>")


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["playground", "--out", str(tmp_path / "there")]) == 0
    assert (tmp_path / "there" / "playground.html").read_text() == page()
    assert str(tmp_path / "there" / "playground.html") in capsys.readouterr().out


def test_the_command_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setenv("INNERLOOP_CACHE", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    assert cli.run(["playground"]) == 0
    assert opened == [(tmp_path / "playground.html").as_uri()]
    assert "opened" in capsys.readouterr().out


def test_what_the_page_names_exists() -> None:
    """Each `function` of the page stands in the file that is named beside it."""
    root = Path(cli.__file__).parents[1]
    named = re.findall(r"<code>(\w+)</code> <span class=\"where\">([\w/.]+)</span>", page())
    assert len(named) >= 2
    for function, file in named:
        assert f"def {function}(" in (root / file).read_text()
