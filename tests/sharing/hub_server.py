"""A server that answers what huggingface_hub asks the Hub for, from memory, on this machine."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hub:
    """Repositories in memory: name -> commit -> files."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.damage: Callable[[str, bytes], bytes] = lambda name, content: content
        """what is sent in the place of a file, under the length and the sum of the right one"""
        self.cut: Callable[[str], bool] = lambda name: False
        """whether the connection breaks in the middle of a file"""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_POST = do_PUT = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def latest(self, repo: str) -> dict[str, bytes]:
        return list(self.repos[repo].values())[-1]

    def answer(self, at: BaseHTTPRequestHandler) -> None:
        path = at.path.partition("?")[0]
        self.asked.append(f"{at.command} {path}")
        body = at.rfile.read(int(at.headers.get("content-length", 0)))
        if path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}" if given.get("organization") else given["name"]
            there = name in self.repos
            self.repos.setdefault(name, {"0" * 40: {}})
            private = given.get("private", given.get("visibility") == "private")
            self.private.setdefault(name, bool(private))
            self.say(at, {"url": f"{self.url}/{name}"}, 409 if there else 200)
        elif path == "/api/validate-yaml":
            self.say(at, {"errors": [], "warnings": []})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/[^/]+", path):
            files = [
                {"path": f["path"], "uploadMode": "regular"}  # the other way is a binary protocol, of hf_xet
                for f in json.loads(body)["files"]
            ]
            self.say(at, {"files": [f | {"shouldIgnore": False, "oid": None} for f in files]})
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", path):
            self.commit(at, found[1], [json.loads(line) for line in body.splitlines() if line.strip()])
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self.about(at, found[1], found[2] or "main")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.tree(at, found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.file(at, *found.groups())
        else:
            self.say(at, {"error": f"not found: {path}"}, 404)

    def find(self, at: BaseHTTPRequestHandler, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repos.get(repo, {})
        if revision == "main" and commits:
            revision = list(commits)[-1]
        if revision in commits:
            return revision, commits[revision]
        kind = "RevisionNotFound" if commits else "RepoNotFound"
        self.say(at, {"error": kind}, 404, {"X-Error-Code": kind})
        return None

    def commit(self, at: BaseHTTPRequestHandler, repo: str, lines: list[dict[str, Any]]) -> None:
        files = dict(self.latest(repo))
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.repos[repo][commit] = files
        self.say(at, {"success": True, "commitOid": commit, "commitUrl": f"{self.url}/{repo}/commit/{commit}"})

    def about(self, at: BaseHTTPRequestHandler, repo: str, revision: str) -> None:
        if found := self.find(at, repo, revision):
            siblings = [{"rfilename": n, "size": len(c)} for n, c in found[1].items()]
            info = {"id": repo, "modelId": repo, "sha": found[0], "private": self.private.get(repo, False)}
            self.say(at, info | {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0})

    def tree(self, at: BaseHTTPRequestHandler, repo: str, revision: str) -> None:
        if found := self.find(at, repo, revision):
            files = [
                {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for n, c in found[1].items()
            ]
            self.say(at, files)

    def file(self, at: BaseHTTPRequestHandler, repo: str, revision: str, name: str) -> None:
        if not (found := self.find(at, repo, revision)):
            return
        commit, files = found
        if name not in files:
            self.say(at, {"error": "EntryNotFound"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            return
        content = files[name]
        start = int(at.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-").partition("-")[0])
        sent = self.damage(name, content)[start:]
        at.send_response(206 if start else 200)
        at.send_header("X-Repo-Commit", commit)
        at.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        at.send_header("Accept-Ranges", "bytes")
        if start:
            at.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        at.send_header("Content-Length", str(len(content) - start))
        at.end_headers()
        if at.command == "HEAD":
            return
        if self.cut(name):
            at.wfile.write(sent[: len(sent) // 2])
            at.wfile.flush()
            at.close_connection = True
            at.connection.close()
            return
        at.wfile.write(sent)

    def say(
        self, at: BaseHTTPRequestHandler, value: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        content = json.dumps(value).encode()
        at.send_response(status)
        for name, text in {"Content-Type": "application/json", **(headers or {})}.items():
            at.send_header(name, text)
        at.send_header("Content-Length", str(len(content)))
        at.end_headers()
        if at.command != "HEAD":
            at.wfile.write(content)
