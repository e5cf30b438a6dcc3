"""A local HTTP server that plays a web service, for the live backends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit


class Reply(NamedTuple):
    """What the server answers: a text as it is, anything else as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = {}


class Request(NamedTuple):
    """What the server was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: Any
    """Parsed JSON, None if there is none."""


Answer = Callable[[str, dict[str, str], Mapping[str, str]], Reply]


@contextmanager
def serve(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A server whose replies are `answer(path, query, headers)`; gives its URL and the requests it saw."""
    seen: list[str] = []

    def reply(request: Request, target: str) -> Reply:
        seen.append(target)
        return answer(request.path, request.query, request.headers)

    with _serve(reply) as url:
        yield url, seen


@contextmanager
def serve_requests(answer: Callable[[Request], Reply]) -> Iterator[str]:
    """A server for any method; gives its URL."""
    with _serve(lambda request, target: answer(request)) as url:
        yield url


@contextmanager
def _serve(answer: Callable[[Request, str], Reply]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            request = Request(self.command, unquote(parts.path), query, self.headers, json.loads(body or "null"))
            reply = answer(request, self.path)
            text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = do_DELETE = _reply

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            """Clients that did not wait for the answer are part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
