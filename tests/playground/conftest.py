"""The playground's page in a real browser, where there is one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from innerloop.playground import write_page


@pytest.fixture(scope="session")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("playground"))


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page, opened from disk without a network; a message on the console fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    yield page
    assert not said
    assert all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    context.close()
