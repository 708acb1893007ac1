"""A real server, real requests: guesses are the estimator's, what is hostile is a 4xx, no request is lost."""

import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from torch import nn

from innerloop import cli
from innerloop.estimator import Example, FewShotClassifier, bodies
from innerloop.models.pretrained import ImageFeatures, Preprocessing
from innerloop.serve import Limits, application
from planting import plants

COLOURS = {"blue": (20, 30, 220), "green": (20, 200, 40), "red": (220, 30, 20)}


def body() -> nn.Sequential:
    model = nn.Sequential()
    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model.add_module("features", ImageFeatures(net, Preprocessing(8, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))))
    return model


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (12, 10), kind: str = "PNG", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, kind, **how)
    return out.getvalue()


def taught(**how: Any) -> FewShotClassifier:
    pictures = [Image.new("RGB", (9, 9), (r + 9 * i, g + 5 * i, b)) for r, g, b in COLOURS.values() for i in range(3)]
    return FewShotClassifier(body(), method="anil", steps=5, **how).fit(pictures, np.repeat(list(COLOURS), 3))


class Server:
    """A server on a port of its own, in a thread."""

    def __init__(self, app: Any) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()

    def ask(self, method: str, path: str, content: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, picture: bytes, name: str = "x.png", **fields: str) -> tuple[int, Any]:
        content = form(picture, name, **fields)
        status, found = self.ask("POST", path, content, **{"Content-Type": "multipart/form-data; boundary=b"})
        return status, json.loads(found)


def form(picture: bytes, name: str = "x.png", **fields: str) -> bytes:
    parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'.encode() for n, v in fields.items()]
    head = f'--b\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode(
        "utf-8", "surrogateescape"
    )
    return b"".join(parts) + head + picture + b"\r\n--b--\r\n"


@pytest.fixture(scope="module")
def classifier() -> FewShotClassifier:
    return taught(unknown="none of these")


@pytest.fixture
def server(classifier: FewShotClassifier, tmp_path: Path) -> Iterator[Server]:
    made = Server(application(classifier, save=tmp_path / "kept.innerloop", limits=Limits(0.5, 1_000_000)))
    yield made
    made.stop()


@plants(
    "a picture is made smaller than the classifier sees it",
    "serve.app:_picture",
    lambda right: lambda *given: right(*given).resize((2, 1)),
)
def test_a_guess_is_the_estimators(server: Server, classifier: FewShotClassifier) -> None:
    halves, out = Image.new("RGB", (12, 10), (30, 180, 60)), io.BytesIO()
    halves.paste((60, 120, 90), (0, 0, 5, 10))
    halves.save(out, "PNG")
    picture = out.getvalue()
    status, found = server.post("/api/guess", picture)
    assert status == 200
    expected = classifier.guess([Image.open(io.BytesIO(picture))], nearest=3)
    probabilities = dict(zip(classifier.classes_.tolist(), expected.probabilities[0].tolist(), strict=True))
    assert {p["class"]: p["probability"] for p in found["probabilities"]} == probabilities
    assert found["guess"] == "green"
    assert found["probability"] == max(probabilities.values())
    assert [n["example"] for n in found["nearest"]] == expected.nearest[0].tolist()
    assert [n["class"] for n in found["nearest"]] == ["green"] * 3
    assert found["none_of_these"] is False
    assert server.post("/api/guess", jpeg((128, 128, 130)))[1]["none_of_these"] is True


@plants("nothing is taken back", "serve.app:_Model.undo", lambda right: lambda self: None)
@plants(
    "a correction is not kept",
    "serve.app:_Model._set",
    lambda right: lambda self, *state: setattr(self, "state", state),
)
def test_corrections_grow_the_support_set_and_are_kept(
    server: Server, classifier: FewShotClassifier, tmp_path: Path
) -> None:
    odd = jpeg((230, 220, 20))
    before = server.post("/api/guess", odd)[1]
    status, about = server.post("/api/correct", odd, label=" yellow ")
    assert (status, about["classes"]) == (200, {"blue": 3, "green": 3, "red": 3, "yellow": 1})
    assert about["added"] == 1
    after = server.post("/api/guess", odd)[1]
    assert (after["guess"], after["nearest"][0]["class"]) == ("yellow", "yellow")
    number = after["nearest"][0]["example"]
    small = Image.open(io.BytesIO(server.ask("GET", f"/api/examples/{number}")[1])).convert("RGB")
    assert np.allclose(small.getpixel((3, 3)), (230, 220, 20), atol=6)
    assert server.ask("GET", "/api/examples/0")[0] == 404, "it was fitted without small pictures"
    kept = FewShotClassifier.load(tmp_path / "kept.innerloop", model=body())
    assert kept.predict([Image.open(io.BytesIO(odd))]).tolist() == ["yellow"]
    assert kept.examples_[-1].name == "yellow/added 1"
    assert classifier.classes_.tolist() == list(COLOURS), "the one that was given is not changed"
    assert json.loads(server.ask("POST", "/api/undo")[1])["classes"] == {"blue": 3, "green": 3, "red": 3}
    assert server.post("/api/guess", odd)[1] == before
    assert FewShotClassifier.load(tmp_path / "kept.innerloop", model=body()).classes_.tolist() == list(COLOURS)
    assert server.ask("POST", "/api/undo")[0] == 409


def test_the_page_needs_nothing_from_elsewhere(server: Server) -> None:
    for path in ("/", "/page.js"):
        status, content = server.ask("GET", path)
        assert status == 200
        assert b"http" not in content.replace(b"https pages", b"")
    paths = json.loads(server.ask("GET", "/openapi.json")[1])["paths"]
    assert set(paths) == {"/api/model", "/api/guess", "/api/examples/{number}", "/api/correct", "/api/undo"}
    assert server.ask("GET", "/docs")[0] == 404


def bomb(width: int, height: int) -> bytes:
    """A PNG that says to be so large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100_000))
        + chunk(b"IEND", b"")
    )


GOOD = jpeg((1, 2, 3))
UPLOADS: dict[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "a script": b"<script>alert(1)</script>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "PDF": b"%PDF-1.7\n1 0 obj\n",
    "a pickle": b"\x80\x04\x95cos\nsystem\n",
    "zip": b"PK\x03\x04" + b"\0" * 100,
    "gzip": b"\x1f\x8b\x08" + b"\0" * 100,
    "an executable": b"\x7fELF" + b"\0" * 100,
    "half a picture": GOOD[: len(GOOD) // 2],
    "a head alone": GOOD[:33],
    "a JPEG cut off": jpeg((1, 2, 3), (200, 200), "JPEG")[:300],
    "a bomb of 100,000 pixels a side": bomb(100_000, 100_000),
    "a bomb of 2³¹ pixels": bomb(2**31 - 1, 1),
    "a bomb above the limit": bomb(1001, 1000),
    "a wide one": jpeg((1, 2, 3), (1_000_001, 1)),
    "no pixels": bomb(0, 0),
    "a TIFF of huge tiles": b"II*\0" + struct.pack("<IHHHIIHHIII", 8, 2, 256, 4, 1, 2**31 - 1, 257, 4, 1, 2**31 - 1, 0),
    "a GIF of nothing": b"GIF89a\xff\xff\xff\xff\0\0\0;",
    "an icon of nothing": b"\0\0\1\0\1\0\0\0\0\0\1\0 \0\xff\xff\xff\xff\x16\0\0\0",
    "a WebP of nothing": b"RIFF\xff\xff\xff\xffWEBPVP8L\xff\xff\xff\x7f",
    "random bytes": np.random.default_rng(0).bytes(10_000),
    "too many bytes": GOOD + b"\0" * 600_000,
}  # fmt: skip


@plants(
    "any host and any origin may ask",
    "serve.app:_Guard.__call__",
    lambda right: lambda self, *given: self.app(*given),
)
def test_hostile_uploads_are_4xx(server: Server) -> None:
    statuses = {name: server.post("/api/guess", content)[0] for name, content in UPLOADS.items()}
    assert all(400 <= status < 500 for status in statuses.values()), statuses
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    more = {
        "no form": server.ask("POST", "/api/guess", GOOD, **{"Content-Type": "image/png"}),
        "no file": server.ask("POST", "/api/guess", b"--b--\r\n", **kind),
        "another field": server.ask("POST", "/api/guess", form(GOOD).replace(b'"file"', b'"flie"'), **kind),
        "a boundary that never comes": server.ask("POST", "/api/guess", b"x" * 1000, **kind),
        "a negative length": server.ask("POST", "/api/guess", None, **kind, **{"Content-Length": "-1"}),
        "no label": server.ask("POST", "/api/correct", form(GOOD), **kind),
        "an empty label": server.ask("POST", "/api/correct", form(GOOD, label="  "), **kind),
        "a long label": server.ask("POST", "/api/correct", form(GOOD, label="x" * 101), **kind),
        "a label of control characters": server.ask("POST", "/api/correct", form(GOOD, label="a\0b\x1b[2J"), **kind),
        "another site's page": server.ask("POST", "/api/undo", b"", Origin="http://evil.example"),
        "another host": server.ask("GET", "/api/model", None, Host="evil.example"),
        "a path out": server.ask("GET", "/api/examples/..%2f..%2fetc%2fpasswd"),
        "an example beyond": server.ask("GET", "/api/examples/99999999999999999999"),
        "a negative example": server.ask("GET", "/api/examples/-1"),
    }
    assert all(400 <= status < 500 for status, _ in more.values()), more
    assert len(statuses) + len(more) >= 30
    assert server.post("/api/guess", GOOD)[0] == 200
    assert json.loads(server.ask("GET", "/api/model")[1])["examples"] == 9


@plants(
    "an upload has no limit",
    "serve.app:_Guard.__init__",
    lambda right: lambda self, app, limit, hosts: right(self, app, 10**12, hosts),
)
def test_an_upload_without_a_length_is_counted(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as s:
        s.sendall(
            b"POST /api/guess HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        start = form(b"")[:-9]
        s.sendall(b"%x\r\n%s\r\n" % (len(start), start))
        try:
            for _ in range(20):
                s.sendall(b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000))
            s.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it has answered already
        assert s.recv(1000).split(b" ")[1] == b"413"


def test_the_names_of_files_lead_nowhere(server: Server, tmp_path: Path) -> None:
    before = sorted(p.name for p in tmp_path.rglob("*"))
    for name in ("../../x", "/etc/passwd", "..\\x", "a\0b", "x" * 5000, "\udcff", "con"):
        status, _ = server.post("/api/guess", jpeg((220, 30, 20)), name=name)
        assert status in (200, 400, 422)
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_a_thousand_requests_from_eight_clients(server: Server) -> None:
    """Guesses and corrections at the same time: each is answered, and right."""
    pictures = {name: jpeg(colour) for name, colour in COLOURS.items()}

    def client(number: int) -> int:
        right = 0
        for i in range(125):
            name = list(COLOURS)[(number + i) % 3]
            if i % 25 == 24:
                right += server.post("/api/correct", pictures[name], label=name)[0] == 200
            else:
                status, found = server.post("/api/guess", pictures[name])
                right += (status, found["guess"]) == (200, name)
        return right

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(client, range(8))) == 1000
    about = json.loads(server.ask("GET", "/api/model")[1])
    assert (about["examples"], about["added"]) == (9 + 40, 40)


def test_classes_that_are_numbers_and_networks_that_adapt() -> None:
    pictures = [Image.new("RGB", (9, 9), c) for c in COLOURS.values()]
    numbers = Server(application(FewShotClassifier(body()).fit(pictures, [1, 2, 3])))
    adapted = Server(application(FewShotClassifier(body(), method="finetune", steps=1).fit(pictures, [1, 2, 3])))
    try:
        assert numbers.post("/api/correct", GOOD, label="2")[1]["classes"] == {"1": 1, "2": 2, "3": 1}
        assert numbers.post("/api/correct", GOOD, label="two")[0] == 422
        assert adapted.post("/api/guess", jpeg(COLOURS["red"]))[1]["guess"] == "3"
        assert adapted.post("/api/correct", GOOD, label="2")[0] == 409
        assert json.loads(adapted.ask("GET", "/api/model")[1])["can_learn"] is False
    finally:
        numbers.stop()
        adapted.stop()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(uvicorn, "run", lambda app, **how: asked.update(how, app=app))
    monkeypatch.setattr(bodies, "without_weights", body)
    monkeypatch.setattr(bodies, "pretrained", body)
    picture = [Image.new("RGB", (9, 9), c) for c in COLOURS.values()]
    few = FewShotClassifier().fit(picture, list(COLOURS))
    few.save(tmp_path / "model.innerloop", examples=[Example(c, jpeg(COLOURS[c], kind="JPEG")) for c in COLOURS])
    assert cli.run(["serve", str(tmp_path / "model.innerloop"), "--port", "8123"]) == 0
    assert (asked["host"], asked["port"]) == ("127.0.0.1", 8123)
    assert "http://127.0.0.1:8123" in capsys.readouterr().out.replace("\n", "")
    assert cli.run(["serve", str(tmp_path / "model.innerloop"), "--port", "0"]) == 1
    assert cli.run(["serve", str(tmp_path / "modle.innerloop")]) == 1
    assert "did you mean" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    assert cli.run(["serve", str(tmp_path / "model.innerloop")]) == 1
    assert "pip install 'innerloop[serve,pretrained]'" in capsys.readouterr().err
