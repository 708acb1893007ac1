"""The web application: a page, guesses for uploads, corrections that let the support set grow.

Uploads come from strangers: their size is counted while they arrive, their pixels are read from the header before any
is decoded, their names are not used. Requests of other sites' pages (another Host or Origin) are refused.
"""

import io
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from PIL import Image
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from innerloop.data.picture import opened
from innerloop.errors import InnerloopError, shown
from innerloop.estimator import Example, FewShotClassifier
from innerloop.report.gallery import thumbnail
from innerloop.version import __version__

NEAREST = 3
"""examples that are shown beside a guess"""
MOST = 10_000
"""examples in all"""
LABEL = 100
"""characters of a class's name"""
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'"
)


@dataclass(frozen=True)
class Limits:
    """What is accepted."""

    megabytes: float = 20.0
    """of an upload"""
    pixels: int = 50_000_000
    """of a picture"""


class _Model:
    """The classifier that is served, and its examples' names and small pictures; replaced as a whole, never changed."""

    def __init__(self, classifier: FewShotClassifier, save: Path | None) -> None:
        kept = getattr(classifier, "examples_", None)
        number = len(classifier.support_labels_)
        self.state = (classifier, kept or tuple(Example(f"example {i}", b"") for i in range(number)))
        self.save, self.writing, self.computing = save, Lock(), Lock()
        self.before: list[tuple[FewShotClassifier, tuple[Example, ...]]] = []

    def learn(self, image: Image.Image, label: str) -> None:
        with self.writing:
            classifier, examples = self.state
            if len(examples) >= MOST:
                raise HTTPException(409, f"the classifier has {MOST} examples, and takes no more")
            same = [c for c in classifier.classes_.tolist() if str(c) == label]
            if not same and classifier.classes_.dtype.kind not in "UO":
                raise HTTPException(422, f"the classes are numbers: {label!r} is none of them")
            with self.computing:
                grown = classifier.extended([image], same or [label])
            name = f"{label}/added {len(self.before) + 1}"
            self._set(grown, (*examples, Example(name, thumbnail(name, image).jpeg)))
            self.before.append((classifier, examples))

    def undo(self) -> None:
        with self.writing:
            if not self.before:
                raise HTTPException(409, "nothing was added that could be taken back")
            self._set(*self.before[-1])
            self.before.pop()

    def _set(self, classifier: FewShotClassifier, examples: tuple[Example, ...]) -> None:
        if self.save is not None:
            classifier.save(self.save, examples=examples)
        self.state = (classifier, examples)


def application(
    classifier: FewShotClassifier,
    *,
    save: Path | None = None,
    limits: Limits | None = None,
    hosts: tuple[str, ...] = LOOPBACK,
) -> FastAPI:
    """The application for a fitted classifier; `save` is the file that keeps what it is taught.

    `hosts` are the names by which it may be called.
    """
    limits = limits or Limits()
    model = _Model(classifier, save)
    # the pages of FastAPI's own documentation load from elsewhere
    app = FastAPI(title="innerloop", version=__version__, docs_url=None, redoc_url=None)
    app.add_middleware(_Guard, limit=int(limits.megabytes * 1e6), hosts=hosts)  # pyright: ignore[reportArgumentType]
    grows = classifier.can_grow

    @app.exception_handler(InnerloopError)
    async def refused(_: Request, error: InnerloopError) -> JSONResponse:
        return JSONResponse({"detail": " ".join(str(error).split())}, 422)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_asset("page.html"), headers={"Content-Security-Policy": _POLICY})

    @app.get("/page.js", include_in_schema=False)
    def script() -> Response:
        return Response(_asset("page.js"), media_type="text/javascript")

    @app.get("/api/model")
    def about() -> dict[str, Any]:
        """Classes with their numbers of examples, the method, and whether it can be corrected."""
        now, examples = model.state
        labels = [str(c) for c in now.support_labels_.tolist()]
        return {
            "classes": {str(c): labels.count(str(c)) for c in now.classes_.tolist()},
            "method": now.method,
            "examples": len(examples),
            "can_learn": grows,
            "new_classes": grows and now.classes_.dtype.kind in "UO",
            "added": len(model.before),
            "kept_in": None if save is None else save.name,
            "unknown": None if now.threshold_ is None else str(now.unknown),
            "megabytes": limits.megabytes,
        }

    @app.post("/api/guess")
    def guess(file: Annotated[bytes, File(description="a picture")]) -> dict[str, Any]:
        """What the picture is taken to be, the probability of every class, and the nearest examples."""
        image = _picture(file, limits)
        now, examples = model.state
        with model.computing:  # one at a time: PyTorch has the threads that it was given
            found = now.guess([image], nearest=NEAREST)
        names = [str(c) for c in now.classes_.tolist()]
        labels = [str(c) for c in now.support_labels_.tolist()]
        order = found.probabilities[0].argsort()[::-1].tolist()
        return {
            "guess": names[order[0]],
            "probability": float(found.probabilities[0, order[0]]),
            "probabilities": [{"class": names[i], "probability": float(found.probabilities[0, i])} for i in order],
            "none_of_these": None if found.known is None else not bool(found.known[0]),
            "nearest": [
                {"example": int(i), "class": labels[i], "name": shown(examples[i].name), "cosine": float(c)}
                for i, c in zip(found.nearest[0].tolist(), found.cosines[0].tolist(), strict=True)
            ],
        }

    @app.get("/api/examples/{number}", response_class=Response)
    def example(number: int) -> Response:
        """The small picture of an example, JPEG."""
        examples = model.state[1]
        if not 0 <= number < len(examples) or not examples[number].jpeg:
            raise HTTPException(404, "there is no such picture")
        try:  # the file may come from a stranger: what is sent was made here
            image = opened(io.BytesIO(examples[number].jpeg), "RGB")
        except InnerloopError as error:
            raise HTTPException(404, "there is no such picture") from error
        return Response(
            thumbnail("", image).jpeg, media_type="image/jpeg", headers={"X-Content-Type-Options": "nosniff"}
        )

    @app.post("/api/correct")
    def correct(
        file: Annotated[bytes, File(description="a picture")],
        label: Annotated[str, Form(description="its class, one at hand or a new one", max_length=LABEL)],
    ) -> dict[str, Any]:
        """Make the picture an example of the class."""
        label = label.strip()
        if not label or not label.isprintable():
            raise HTTPException(422, "a class needs a name of printable characters")
        if not grows:
            raise HTTPException(409, "this classifier adapts its network and cannot be corrected: fit it again")
        model.learn(_picture(file, limits), label)
        return about()

    @app.post("/api/undo")
    def undo() -> dict[str, Any]:
        """Take the last correction back."""
        model.undo()
        return about()

    return app


def _picture(content: bytes, limits: Limits) -> Image.Image:
    """The picture in an upload, reduced where it is large; 4xx for anything else."""
    try:
        image = opened(io.BytesIO(content), "RGB", draft=1024, most=limits.pixels)
    except InnerloopError as error:
        raise HTTPException(422, f"the picture cannot be read: {' '.join(str(error).split())}") from error
    times = min(image.size) // 1024
    image = image.reduce(times) if times > 1 else image
    image.info = {}
    return image


def _asset(name: str) -> str:
    return files("innerloop.serve").joinpath(name).read_text("utf-8")


class _Guard:
    """Refuses requests for other hosts, from pages of other origins, and bodies that are too large."""

    def __init__(self, app: ASGIApp, limit: int, hosts: tuple[str, ...]) -> None:
        self.app, self.limit, self.hosts = app, limit, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        name = host.rsplit(":", 1)[0] if host.rsplit(":", 1)[-1].isdecimal() else host
        if "*" not in self.hosts and name.lower() not in self.hosts:
            await _say(send, 421, "this server does not go by that name; give it with --host")
            return
        if origin is not None and origin.partition("://")[2] != host:
            await _say(send, 403, "a page of another site may not use this server")
            return
        length = headers.get(b"content-length", "0")
        if not length.isdecimal() or int(length[:18]) > self.limit:
            await _say(send, 413, f"the upload is too large; at most {self.limit / 1e6:g} MB are taken")
            return
        count, started, large = 0, False, False

        async def counted() -> Message:
            nonlocal count, large
            message = await receive()
            count += len(message.get("body", b""))
            if count > self.limit:
                large = True
                return {"type": "http.disconnect"}
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if large and not started:
                started = True
                await _say(send, 413, f"the upload is too large; at most {self.limit / 1e6:g} MB are taken")
            elif not large:
                started = True
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except Exception:
            if not large:
                raise
        if large and not started:
            await _say(send, 413, f"the upload is too large; at most {self.limit / 1e6:g} MB are taken")


async def _say(send: Send, status: int, why: str) -> None:
    await JSONResponse({"detail": why}, status)({"type": "http"}, _nothing, send)


async def _nothing() -> Message:
    return {"type": "http.disconnect"}
