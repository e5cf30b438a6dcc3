"""A real HTTP server that speaks the Hugging Face Hub's API as huggingface_hub calls it, and `hub`, which starts it.

Repositories are commits of whole trees in memory. Files of `LARGE` bytes and weights go by the LFS protocol, as on the
Hub; Xet is left out (`HF_HUB_DISABLE_XET`). Private and gated repositories, tokens without rights and outages answer
as the Hub does.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

LARGE = 1 << 20
WRITER, READER = "hf_writer-4c1e", "hf_reader-77aa"
"""Tokens with rights to write, and to read private repositories."""
_KIND = r"(?P<kind>model|dataset)s"
_ID = r"(?P<id>[\w.-]+/[\w.-]+)"
_FILE = re.compile(rf"/(?P<prefix>datasets/)?{_ID}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_BATCH = re.compile(rf"/(?P<prefix>datasets/)?{_ID}\.git/info/lfs/objects/batch")
_API = re.compile(rf"/api/{_KIND}/{_ID}(/(?P<what>revision|tree|preupload|commit)/(?P<revision>[^/]+))?")


@dataclass
class Repository:
    """Its commits, the last one the head of `main`."""

    private: bool = False
    gated: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def commit(self, files: dict[str, bytes]) -> str:
        """Add a commit with exactly these files; returns its id."""
        before = self.commits[-1][0] if self.commits else ""
        contents = [(path, hashlib.sha256(data).hexdigest()) for path, data in sorted(files.items())]
        identity = hashlib.sha1(json.dumps([before, contents]).encode()).hexdigest()
        self.commits.append((identity, dict(files)))
        return identity

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """Id and files of a commit."""
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)

    @property
    def files(self) -> dict[str, bytes]:
        """Of the head."""
        return self.commits[-1][1]


class Refused(Exception):
    """An answer other than 200."""

    MESSAGE = ""
    """Of a refusal that has none."""

    def __init__(self, status: int, code: str = "", message: str = "", url: str = "") -> None:
        super().__init__(status)
        self.url = url
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message or self.MESSAGE}


class HubServer:
    """The server's state; `url` is what `HF_ENDPOINT` is to be."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        """Large files by SHA-256, also those that no commit has."""
        self.requests: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.outage: tuple[str, int] | None = None
        """A pattern of paths, and the status that they are answered by."""
        self.url = ""

    def repository(self, kind: str, name: str, files: dict[str, bytes] | None = None, **options: bool) -> Repository:
        """Make a repository with a first commit."""
        made = self.repositories[kind, name] = Repository(**options)
        made.commit(files or {".gitattributes": b""})
        return made

    def written(self) -> list[tuple[str, str]]:
        """The requests that brought contents."""
        return [(method, path) for method, path in self.requests if method == "PUT" or "/commit/" in path]

    # --- answers -------------------------------------------------------------------------------------------------
    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[bytes, dict[str, str]]:
        """Body and headers of a 200.

        Raises:
            Refused: any other answer.
        """
        self.requests.append((method, path))
        if self.outage is not None and re.search(self.outage[0], path):
            raise Refused(self.outage[1])
        if found := re.fullmatch(r"/lfs/(\w+)", path):
            assert hashlib.sha256(body).hexdigest() == found[1]
            self.objects[found[1]] = body
            return b"", {}
        if path == "/api/validate-yaml":
            return self._validated(json.loads(body)["content"])
        if path == "/api/repos/create":
            return self._created(json.loads(body), token)
        if found := _FILE.fullmatch(path):
            return self._file(found, token)
        if found := _BATCH.fullmatch(path):
            self._seen("dataset" if found["prefix"] else "model", found["id"], token, writes=True)
            return _json(self._batch(json.loads(body)))
        if found := _API.fullmatch(path):
            return _json(self._api(found, token, body))
        raise Refused(404)

    def _seen(self, kind: str, name: str, token: str | None, *, writes: bool = False) -> Repository:
        found = self.repositories.get((kind, name))
        if token not in (None, WRITER, READER):
            raise Refused(401, message="Invalid credentials in Authorization header")
        if found is None or (found.private and token is None):
            raise Refused(404 if token else 401, "RepoNotFound", "Repository not found")
        if writes and token != WRITER:
            raise Refused(403, message="You are not in the authorized list to write there")
        return found

    def _at(self, kind: str, name: str, revision: str, token: str | None) -> tuple[str, dict[str, bytes]]:
        found = self._seen(kind, name, token).at(unquote(revision))
        if found is None:
            raise Refused(404, "RevisionNotFound", "Invalid rev id")
        return found

    def _created(self, asked: dict[str, Any], token: str | None) -> tuple[bytes, dict[str, str]]:
        if token != WRITER:
            raise Refused(401 if token is None else 403, message="You don't have the rights to create it")
        kind, name = asked.get("type", "model"), f"{asked['organization']}/{asked['name']}"
        url = f"{self.url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self.repositories:
            raise Refused(409, message="You already created this repo", url=url)
        self.repository(kind, name, private=asked.get("visibility") == "private")
        return _json({"url": url, "id": name})

    def _validated(self, content: str) -> tuple[bytes, dict[str, str]]:
        found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        assert found, "a card begins with its metadata"
        assert isinstance(yaml.safe_load(found[1]), dict)
        return _json({"errors": [], "warnings": []})

    def _file(self, asked: re.Match[str], token: str | None) -> tuple[bytes, dict[str, str]]:
        kind, path = "dataset" if asked["prefix"] else "model", unquote(asked["path"])
        commit, files = self._at(kind, asked["id"], asked["revision"], token)
        if self.repositories[kind, asked["id"]].gated and token != READER:
            raise Refused(403, "GatedRepo", "Access is restricted")
        if path not in files:
            raise Refused(404, "EntryNotFound", "Entry not found")
        return files[path], {"ETag": f'"{_oid(path, files[path])}"', "X-Repo-Commit": commit}

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        objects = []
        for each in asked["objects"]:
            known = each["oid"] in self.objects
            upload = {"upload": {"href": f"{self.url}/lfs/{each['oid']}", "header": {}}}
            objects.append({"oid": each["oid"], "size": each["size"], **({} if known else {"actions": upload})})
        return {"transfer": "basic", "objects": objects}

    def _api(self, asked: re.Match[str], token: str | None, body: bytes) -> Any:
        kind, name, what = asked["kind"], asked["id"], asked["what"]
        if what in (None, "revision"):
            commit, files = self._at(kind, name, asked["revision"] or "main", token)
            return {"id": name, "sha": commit, "siblings": [{"rfilename": path} for path in sorted(files)]}
        if what == "tree":
            files = self._at(kind, name, asked["revision"], token)[1]
            return [_entry(path, data) for path, data in sorted(files.items())]
        repository = self._seen(kind, name, token, writes=True)
        if what == "preupload":
            there = repository.files
            return {
                "files": [
                    {
                        "path": each["path"], "shouldIgnore": False, "uploadMode": _mode(each["path"], each["size"]),
                        "oid": _oid(each["path"], there[each["path"]]) if each["path"] in there else None,
                    }
                    for each in json.loads(body)["files"]
                ]
            }  # fmt: skip
        files = dict(repository.files)
        for line in body.splitlines():
            key, value = json.loads(line).values()
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files)
        return {"commitUrl": f"{self.url}/{name}/commit/{commit}", "commitOid": commit}


def _json(value: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps(value).encode(), {"Content-Type": "application/json"}


def _mode(path: str, size: int) -> str:
    return "lfs" if size >= LARGE or path.endswith((".safetensors", ".parquet")) else "regular"


def _is_large(path: str, data: bytes) -> bool:
    return _mode(path, len(data)) == "lfs"


def _oid(path: str, data: bytes) -> str:
    """As the Hub compares a file with a new one: SHA-256 of a large file, git's hash of another."""
    return hashlib.sha256(data).hexdigest() if _is_large(path, data) else _git(data)


def _git(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": _git(data)}
    if _is_large(path, data):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def _do(self) -> None:
        given = self.headers.get("Authorization")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        path = urlsplit(self.path).path
        try:
            content, headers = self.hub.answer(self.command, path, given and given.removeprefix("Bearer "), body)
            status = 200
        except Refused as refused:
            status, headers = refused.status, refused.headers
            content = json.dumps({"error": headers["X-Error-Message"], "url": refused.url}).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = _do

    def _chunks(self) -> bytes:
        """A body that is sent in chunks."""
        data = b""
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline(), 16)
            data += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break
        return data

    def log_message(self, *_: Any) -> None:
        """Nothing on the terminal."""


@contextmanager
def serving() -> Iterator[HubServer]:
    """A server for as long as the block lasts."""
    state = HubServer()
    handler = type("Handler", (_Handler,), {"hub": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubServer]:
    """A Hub of one's own, with an empty cache and no token; for this process and those that it starts."""
    from huggingface_hub import constants

    with serving() as state:
        # The library reads its environment when it is imported, and other tests have imported it.
        for name, value in (
            ("HF_ENDPOINT", state.url), ("HF_HOME", str(tmp_path / "hf")), ("HF_HUB_DISABLE_XET", "1"),
        ):  # fmt: skip
            monkeypatch.setenv(name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", state.url)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", state.url + template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield state
