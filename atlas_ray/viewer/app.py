"""The server of the live view: the page, its sections, and rows of trajectories and episodes, as JSON.

It listens on 127.0.0.1 and only reads. Answers that may be asked for again carry an ETag. A request for another host
name is refused as `serving.guard` refuses it. Paths: `/api/state` says what there is and what has changed,
`/api/sections/ANCHOR` is a section as HTML, `/api/trajectories` and `/api/episodes` are pages of rows,
`/api/trajectory` and `/api/episode` one whole row.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from atlas_ray.errors import AtlasError, ConfigError, DataError
from atlas_ray.hashing import content_hash
from atlas_ray.plugins import nearest
from atlas_ray.report.html import template
from atlas_ray.serving.guard import App, Guard
from atlas_ray.viewer.index import OUTCOME, STYLE, method_column, selection_column
from atlas_ray.viewer.page import Section, Sections, colors_css
from atlas_ray.viewer.rows import Query, Rows
from atlas_ray.viewer.run import ViewedRun

LOOPBACK = "127.0.0.1"
_EVERY_S = 2.0
_MOST = 500
"""Rows of a page."""
_PER_MINUTE = 6000
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Drawings carry their geometry in style attributes; there is no style element, and no script but ours."""
_HEADERS = {
    "Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-cache",
}  # fmt: skip
_FILES = {
    "/": ("page.html", "atlas_ray.viewer", "text/html"),
    "/view.css": ("view.css", "atlas_ray.viewer", "text/css"),
    "/view.js": ("view.js", "atlas_ray.viewer", "text/javascript"),
    "/report.css": ("report.css", "atlas_ray.report", "text/css"),
    "/drawings.js": ("drawings.js", "atlas_ray.report", "text/javascript"),
}
"""Path: file, package, media type."""
_TRAJECTORY_COLUMNS = ("trajectory_id", "env", "n_steps", "source", STYLE, OUTCOME)
_EPISODE_COLUMNS = ("key", "model", "env", "split", "task", "seed", "score", "rounds", OUTCOME)
_MARKED = {"selection": selection_column, "method": method_column}
"""Filters whose column is named after their value."""


class View:
    """Some runs, and the page about them.

    Args:
        urls: of their directories.

    Raises:
        StoreError: the protocol of a URL is unknown.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.runs = [ViewedRun(url, name) for url, name in zip(urls, _names(urls), strict=True)]
        self._sections = Sections(self.runs)
        self.sections: list[Section] = []
        self.colors = ""

    def refresh(self) -> None:
        """Read what has changed in the runs, and write the sections about it."""
        for step in (ViewedRun.refresh, ViewedRun.refresh_figures):
            for run in self.runs:
                step(run)
                self.sections, self.colors = self._sections.write(), colors_css(self.runs)

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Refresh again and again in a thread, until the block ends."""
        done = threading.Event()

        def follow() -> None:
            while not done.is_set():
                self.refresh()
                done.wait(_EVERY_S)

        thread = threading.Thread(target=follow, name="follow", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    # --- answers -------------------------------------------------------------------------------------------------
    def state(self) -> dict[str, Any]:
        """What there is to see, with versions of all that the page holds."""
        return {
            "sections": [
                {"anchor": each.anchor, "title": each.title, "version": each.version} for each in self.sections
            ],
            "colors": content_hash(self.colors),
            "runs": [_about(run) for run in self.runs],
        }  # fmt: skip

    def run(self, name: str) -> ViewedRun:
        """A run by its name on the page.

        Raises:
            DataError: there is none of that name.
        """
        found = next((run for run in self.runs if run.name == name), None)
        if found is None:
            raise DataError(f"there is no run {name!r} here{nearest(name, [run.name for run in self.runs])}")
        return found

    def trajectories(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """A page of trajectories."""
        rows = [(run, None if run.trajectories is None else run.trajectories.rows) for run in self._chosen(asked)]
        return _page(rows, asked, ("env", STYLE, OUTCOME, "source"), _TRAJECTORY_COLUMNS)

    def episodes(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """A page of episodes."""
        filters = ("model", "env", OUTCOME, "split", "task", "seed")
        return _page([(run, run.episodes) for run in self._chosen(asked)], asked, filters, _EPISODE_COLUMNS)

    def _chosen(self, asked: Mapping[str, str]) -> list[ViewedRun]:
        return [self.run(asked["run"])] if asked.get("run") else self.runs


def _page(
    tables: Sequence[tuple[ViewedRun, Rows | None]],
    asked: Mapping[str, str],
    filters: Sequence[str],
    columns: Sequence[str],
) -> dict[str, Any]:
    """The rows of several runs as one list: how many there are, how many fit, and some of those."""
    offset, limit = _number(asked, "offset", 0), min(_number(asked, "limit", 100), _MOST)
    equal = [(name, asked[name]) for name in filters if asked.get(name)]
    marked = [column(asked[name]) for name, column in _MARKED.items() if asked.get(name)]
    equal += [(column, "") for column in marked]
    words = tuple(asked.get("q", "").split())
    shown: list[dict[str, Any]] = []
    total = matched = 0
    for run, rows in tables:
        if rows is None:
            continue
        total += rows.total
        if not set(marked) <= set(rows.names):  # this run has no such selection, so no row of it
            continue
        found = rows.find(Query(tuple(equal), words, asked.get("order") or None))
        begin = max(0, offset - matched)
        numbers = found[begin : begin + limit - len(shown)].tolist()
        shown += [{"run": run.name, **row} for row in rows.taken(numbers, columns)]
        matched += len(found)
    return {"total": total, "matched": matched, "offset": offset, "rows": shown}


def _number(asked: Mapping[str, str], name: str, default: int) -> int:
    text = asked.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise DataError(f"{name} is {text!r}; give a number from 0 on")
    return int(text)


def _about(run: ViewedRun) -> dict[str, Any]:
    trajectories, episodes = run.trajectories, run.episodes
    return {
        "name": run.name,
        "versions": run.versions,
        "reading": run.reading,
        "trajectories": {} if trajectories is None else {
            "env": trajectories.rows.values("env"), STYLE: trajectories.rows.values(STYLE),
            "selection": list(run.selections), "method": trajectories.methods,
        },
        "episodes": {} if episodes is None else {"model": episodes.values("model"), "env": episodes.values("env")},
    }  # fmt: skip


def _names(urls: Sequence[str]) -> list[str]:
    """What the page calls runs: the last part of their URLs, with as many parts before it as tell them apart."""
    parts = [url.rstrip("/").split("/") for url in urls]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError(f"command line: a run is named twice among {', '.join(urls)}; name each once")


# --- HTTP ------------------------------------------------------------------------------------------------------------
def application(view: View) -> App:
    """The ASGI application."""

    def file(path: str) -> Route:
        name, package, media = _FILES[path]
        content = template(name, package)
        return Route(path, lambda request: _tagged(request, content, media))

    def data(path: str, answer: Any) -> Route:
        def endpoint(request: Request) -> Response:  # a plain function: Starlette calls it in a thread
            try:
                return JSONResponse(answer(request.query_params), headers=_HEADERS)
            except AtlasError as error:
                return JSONResponse({"error": str(error)}, 400 if isinstance(error, DataError) else 404, _HEADERS)

        return Route(path, endpoint)

    def state(request: Request) -> Response:
        return _tagged(request, json.dumps(view.state(), ensure_ascii=False), "application/json")

    def section(request: Request) -> Response:
        found = next((each for each in view.sections if each.anchor == request.path_params["anchor"]), None)
        if found is None:
            return JSONResponse({"error": "there is no such section"}, 404, _HEADERS)
        return _tagged(request, found.html, "text/html")

    routes = [
        *map(file, _FILES),
        Route("/colors.css", lambda request: _tagged(request, view.colors, "text/css")),
        Route("/api/state", state),
        Route("/api/sections/{anchor}", section),
        data("/api/trajectories", view.trajectories),
        data("/api/episodes", view.episodes),
        data("/api/trajectory", lambda q: _whole_trajectory(view, q)),
        data("/api/episode", lambda q: view.run(q.get("run", "")).episode(q.get("key", ""))),
    ]
    return Guard(
        Starlette(routes=routes), key=None, requests_per_minute=_PER_MINUTE, max_body_bytes=0,
        elsewhere="forward its port to your machine, as with ssh -L",
    )  # fmt: skip


def _whole_trajectory(view: View, asked: Mapping[str, str]) -> dict[str, Any]:
    run = view.run(asked.get("run", ""))
    at = view.runs.index(run)
    return {"run": at, **run.trajectory(asked.get("id", ""), tokens=asked.get("tokens") == "1")}


def _tagged(request: Request, content: str, media: str) -> Response:
    """Text with an ETag; 304 where the client has it already."""
    tag = f'"{content_hash(content)}"'
    headers = _HEADERS | {"ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media, headers=headers)


def bound(port: int) -> socket.socket:
    """A socket that listens on this machine alone.

    Args:
        port: 0 takes a free one.

    Raises:
        ConfigError: the port is taken.
    """
    try:
        return socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise ConfigError(
            f"--port {port}: {error.strerror or error}; choose another one, or 0 for a free one"
        ) from error


def serve(view: View, listening: socket.socket) -> None:
    """Answer requests until Ctrl-C, and follow the runs meanwhile."""
    server = uvicorn.Server(uvicorn.Config(application(view), log_level="warning", lifespan="off"))
    with view.following(), contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has ended
        server.run(sockets=[listening])
