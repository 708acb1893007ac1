"""Everybody can use the page: contrast, names of controls, width of a phone."""

from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_no_serious_fault_of_access(opened: Any, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    opened.set_viewport_size({"width": width, "height": 844})
    opened.locator("#drawings").scroll_into_view_if_needed()
    opened.wait_for_selector("#drawings[data-ready=yes]")
    found = axe.run(opened).response["violations"]
    assert not [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
