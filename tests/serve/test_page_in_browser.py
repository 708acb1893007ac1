"""The served page in a real browser, where there is one: choose, drop, correct, take back."""

import time
from typing import Any

import pytest
from test_serve import COLOURS, Server, jpeg, taught

from innerloop.serve import application

DROP = """([name, content]) => {
  const data = new DataTransfer();
  data.items.add(new File([Uint8Array.from(content)], name));
  const event = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: data });
  document.getElementById("drop").dispatchEvent(event);
}"""


def shows(page: Any, place: str, words: str) -> None:
    """Wait for it from outside: the page's policy allows no evaluation in it."""
    for _ in range(600):
        if words in (page.text_content(place) or ""):
            return
        time.sleep(0.1)
    raise AssertionError(f"{place} shows {page.text_content(place)!r}")


@pytest.mark.slow
def test_drop_guess_correct(browser: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    server = Server(application(taught(unknown="none of these")))
    try:
        for dark, width in ((False, 1280), (True, 390)):
            context = browser.new_context(
                color_scheme="dark" if dark else "light", viewport={"width": width, "height": 844}
            )
            page = context.new_page()
            page.set_default_timeout(60_000)
            said: list[str] = []
            page.on("pageerror", lambda error, said=said: said.append(str(error)))
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            home = f"http://127.0.0.1:{server.port}"
            page.goto(home)
            shows(page, "#about", "9 examples of 3 classes")
            page.set_input_files(
                "#file", files=[{"name": "x.png", "mimeType": "image/png", "buffer": jpeg(COLOURS["green"])}]
            )
            shows(page, "#guess", "green")
            assert page.locator("#bars li").count() == 3
            page.evaluate(DROP, ["y.png", list(jpeg((230, 220, 20)))])
            shows(page, "#none", "none of these")
            page.fill("#label", "yellow")
            page.click("#correct button")
            shows(page, "#status", "Added as an example of yellow")
            shows(page, "#guess", "yellow")
            page.click("#undo")
            shows(page, "#status", "Taken back")
            shows(page, "#about", "9 examples of 3 classes")
            page.evaluate(DROP, ["z.png", [1, 2, 3]])
            shows(page, "#status", "cannot be read")
            found = axe.Axe().run(page).response["violations"]
            assert not [v["id"] for v in found if v["impact"] in ("serious", "critical")]
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert not said
            assert all(url.startswith((home, "blob:", "data:")) for url in asked)
            context.close()
    finally:
        server.stop()
