"""Downloads from a server on this machine that behaves badly on request."""

import hashlib
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from innerloop.data import fetch as fetching
from innerloop.data.dataset import Download
from innerloop.data.fetch import FetchError, download, fetch
from innerloop.data.glyphs import GLYPHS
from innerloop.data.mini_imagenet import MINI_IMAGENET
from innerloop.data.omniglot import OMNIGLOT
from naming import names

CONTENT = bytes(range(256)) * 2000  # 512,000 bytes
OTHER = CONTENT[::-1]


@dataclass
class Behaviour:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    cut_after: int | None = None
    """bytes of the body after which the connection is closed"""
    status: int | None = None
    length: bool = True
    lie_about_range: bool = False
    asked: list[str | None] = field(default_factory=list)
    """the Range header of each request"""
    url: str = ""


@pytest.fixture
def server() -> Iterator[Behaviour]:
    behaviour = Behaviour()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

        def do_GET(self) -> None:
            b, wanted = behaviour, self.headers.get("Range")
            b.asked.append(wanted)
            if b.status:
                self.send_error(b.status)
                return
            start, same = 0, self.headers.get("If-Range") in (b.etag, b.modified)
            if b.ranges and wanted and same and self.headers.get("If-Range"):
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= len(b.content):
                    self.send_error(416)
                    return
                if b.lie_about_range:
                    start -= 1
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(b.content) - 1}/{len(b.content)}")
            else:
                self.send_response(200)
            if b.etag:
                self.send_header("ETag", b.etag)
            if b.modified:
                self.send_header("Last-Modified", b.modified)
            if b.length:
                self.send_header("Content-Length", str(len(b.content) - start))
            self.end_headers()
            body = b.content[start:]
            self.wfile.write(body if b.cut_after is None else body[: b.cut_after])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        behaviour.url = f"http://127.0.0.1:{running.server_address[1]}/made.zip"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield behaviour
        running.shutdown()
        thread.join()


def archive(server: Behaviour, content: bytes = CONTENT) -> Download:
    return Download("made.zip", server.url, len(content), hashlib.md5(content).hexdigest())


def there(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


def test_a_plain_download_tells_its_progress(server: Behaviour, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    to = tmp_path / "new" / "made.zip"
    download(archive(server), to, lambda *a: seen.append(a))
    assert to.read_bytes() == CONTENT
    assert there(to.parent) == {"made.zip"}
    assert seen[0] == ("downloading made.zip", 0, len(CONTENT))
    assert seen[-1] == ("downloading made.zip", len(CONTENT), len(CONTENT))
    assert [s[1] for s in seen] == sorted(s[1] for s in seen)


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_two_processes_do_not_write_into_one_file(server: Behaviour, tmp_path: Path) -> None:
    to, said = tmp_path / "made.zip", []

    def meanwhile(_what: str, have: int, _total: int | None) -> None:
        if have and not said:
            with pytest.raises(FetchError, match=names("process", "made.zip", tmp_path)) as found:
                download(archive(server), to)
            said.append(found)

    download(archive(server), to, meanwhile)
    assert said
    assert to.read_bytes() == CONTENT
    assert there(tmp_path) == {"made.zip"}
    assert len(server.asked) == 1


@pytest.mark.parametrize("validator", ["etag", "date"])
def test_a_cut_download_is_gone_on_from(server: Behaviour, tmp_path: Path, validator: str) -> None:
    if validator == "date":
        server.etag, server.modified = None, "Thu, 01 Jan 2015 00:00:00 GMT"
    to = tmp_path / "made.zip"
    server.cut_after = 200_000
    with pytest.raises(FetchError, match=names(server.url, "200,000", "512,000")):
        download(archive(server), to)
    assert not to.exists(), "half a file is taken for the whole"
    assert (tmp_path / "made.zip.part").stat().st_size == 200_000
    server.cut_after = 100_000
    with pytest.raises(FetchError, match=names(server.url, "300,000", "512,000")):
        download(archive(server), to)
    server.cut_after = None
    download(archive(server), to)
    assert to.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=200000-", "bytes=300000-"]
    assert there(tmp_path) == {"made.zip"}


def cut_once(server: Behaviour, to: Path) -> None:
    server.cut_after = 200_000
    with pytest.raises(FetchError):
        download(archive(server), to)
    server.cut_after = None


def test_a_changed_file_is_not_spliced(server: Behaviour, tmp_path: Path) -> None:
    """Its md5 would catch the splice, too, but throw the download away: it must start afresh."""
    to = tmp_path / "made.zip"
    cut_once(server, to)
    server.content, server.etag = OTHER, '"two"'
    download(archive(server, OTHER), to)
    assert to.read_bytes() == OTHER
    assert server.asked == [None, "bytes=200000-"]


def test_a_server_without_ranges_starts_over(server: Behaviour, tmp_path: Path) -> None:
    to = tmp_path / "made.zip"
    server.ranges = False
    cut_once(server, to)
    download(archive(server), to)
    assert to.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_it_starts_over(server: Behaviour, tmp_path: Path, etag: str | None) -> None:
    to = tmp_path / "made.zip"
    server.etag = etag
    cut_once(server, to)
    download(archive(server), to)
    assert to.read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_a_wrong_range_in_the_answer_starts_over(server: Behaviour, tmp_path: Path) -> None:
    to = tmp_path / "made.zip"
    cut_once(server, to)
    server.lie_about_range = True
    download(archive(server), to)
    assert to.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_over(server: Behaviour, tmp_path: Path) -> None:
    to = tmp_path / "made.zip"
    cut_once(server, to)
    with (tmp_path / "made.zip.part").open("ab") as file:
        file.write(bytes(len(CONTENT)))
    download(archive(server), to)
    assert to.read_bytes() == CONTENT


def test_a_whole_part_needs_no_network(server: Behaviour, tmp_path: Path) -> None:
    """The program was killed between the last byte and the renaming."""
    to = tmp_path / "made.zip"
    cut_once(server, to)
    (tmp_path / "made.zip.part").write_bytes(CONTENT)
    download(archive(server), to)
    assert to.read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("note", ["", "{}", "[]", "null", '{"url": 3}'])
def test_a_part_with_a_spoilt_note_starts_over(server: Behaviour, tmp_path: Path, note: str) -> None:
    (tmp_path / "made.zip.part").write_bytes(b"what is this")
    (tmp_path / "made.zip.part.json").write_text(note)
    download(archive(server), tmp_path / "made.zip")
    assert (tmp_path / "made.zip").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_nothing(server: Behaviour, tmp_path: Path) -> None:
    server.content = OTHER
    given, known = (hashlib.md5(c).hexdigest() for c in (OTHER, CONTENT))
    with pytest.raises(FetchError, match=names(server.url, given, known)):
        download(archive(server, CONTENT), tmp_path / "made.zip")
    assert there(tmp_path) == set(), "a part that can never become right would be resumed for ever"


def test_a_cut_without_a_length_is_caught_by_the_checksum(server: Behaviour, tmp_path: Path) -> None:
    server.length, server.cut_after = False, 1000
    given, known = (hashlib.md5(c).hexdigest() for c in (CONTENT[:1000], CONTENT))
    with pytest.raises(FetchError, match=names(server.url, given, known)):
        download(archive(server), tmp_path / "made.zip")
    assert there(tmp_path) == set()


@pytest.mark.parametrize("length", [True, False])
def test_a_body_much_larger_than_the_archive_is_refused(server: Behaviour, tmp_path: Path, length: bool) -> None:
    """Without a length, too, where it might never end; a part that came before is kept."""
    server.content, server.length = CONTENT * 5, length
    small = Download("made.zip", server.url, len(CONTENT))
    with pytest.raises(FetchError, match=r"made\.zip .*512,000 are expected"):
        download(small, tmp_path / "made.zip")
    assert there(tmp_path) == set()


@pytest.mark.parametrize("status", [403, 404, 500])
def test_refusals_are_one_sentence(server: Behaviour, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(FetchError, match=names(server.url, status)) as caught:
        download(archive(server), tmp_path / "made.zip")
    assert "\n" not in str(caught.value)
    assert there(tmp_path) == set()


def test_no_network(tmp_path: Path) -> None:
    nobody = Download("made.zip", "http://127.0.0.1:9/made.zip", 3, "0" * 32)
    with pytest.raises(FetchError, match=names(nobody.url, tmp_path / "made.zip")):
        download(nobody, tmp_path / "made.zip")


def test_a_server_that_falls_silent(server: Behaviour, tmp_path: Path) -> None:
    """The body never comes: catches a download without a timeout, which would hang."""
    done = threading.Event()

    class Slow(bytes):
        def __getitem__(self, key: object) -> bytes:
            done.wait(5)
            return b""

    server.content = Slow(CONTENT)
    begun = time.monotonic()
    try:
        with pytest.raises(FetchError, match=names(server.url, 0, "512,000")):
            download(archive(server), tmp_path / "made.zip", timeout=0.2)
        assert time.monotonic() - begun < 4
    finally:
        done.set()


def test_a_full_disk_keeps_the_part(server: Behaviour, tmp_path: Path) -> None:
    """The system's limit on file sizes stands for the full disk: it cuts a write short, then refuses."""
    resource = pytest.importorskip("resource")
    to, room = tmp_path / "made.zip", 100_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(FetchError, match=names("disk", tmp_path / "made.zip.part")):
            download(archive(server), to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "made.zip.part").read_bytes() == CONTENT[:room]
    download(archive(server), to)
    assert to.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={room}-"]


def test_a_folder_that_cannot_be_made(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / "omniglot").write_text("a file, not a folder")
    with pytest.raises(FetchError, match=names(tmp_path / "omniglot" / "made.zip.part")):
        download(archive(server), tmp_path / "omniglot" / "made.zip")


def test_fetch_gets_only_what_is_missing(server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images_evaluation").mkdir()  # unpacked already
    asked: list[str] = []
    monkeypatch.setattr(fetching, "download", lambda a, to, progress: asked.append(f"{a.url} {to}"))
    paths = fetch(OMNIGLOT, tmp_path)
    background = tmp_path / "omniglot" / "images_background.zip"
    assert paths == [background, tmp_path / "images_evaluation"]
    assert asked == [f"{OMNIGLOT.files[0].url} {background}"]


def test_what_cannot_be_fetched_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=names("mini_imagenet", "mini-imagenet-cache", tmp_path / "mini_imagenet")):
        fetch(MINI_IMAGENET, tmp_path)
    assert fetch(GLYPHS, tmp_path) == []
