"""A local server that plays Todoist's API v1, with the fields that its documentation names, for the live backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.envs.tools.server import Reply, Request, serve_requests

STAMP = "2024-05-01T08:00:00.000000Z"


class Todoist:
    """An account: projects and tasks by id, and replies that are to be given first, whatever is asked."""

    def __init__(self) -> None:
        self.projects: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.failures: list[Reply] = []
        self.requests: list[Request] = []
        self._last_id = 0
        self.add_project({"name": "Inbox", "inbox_project": True})

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.failures:
            return self.failures.pop(0)
        if request.headers.get("authorization") != "Bearer secret":
            return Reply({"error": "Forbidden"}, 401)
        kind, *rest = request.path.removeprefix("/api/v1/").split("/")
        table = self.projects if kind == "projects" else self.tasks
        if not rest:
            return self._list(request, table) if request.method == "GET" else Reply(self._add(kind, request.body))
        row = table.get(rest[0])
        if row is None:
            return Reply({"error": f"{kind[:-1].title()} not found", "error_code": 478, "http_code": 404}, 404)
        if request.method == "DELETE" or rest[1:] == ["close"]:
            table.pop(rest[0])
            return Reply("", 204)
        if request.method == "POST":
            row.update(self._changes(request.body))
        return Reply(row)

    def _list(self, request: Request, table: dict[str, dict[str, Any]]) -> Reply:
        """Two rows a page, so that paging is exercised."""
        project_id = request.query.get("project_id")
        if project_id is not None and project_id not in self.projects:
            return Reply({"error": "Project not found", "http_code": 404}, 404)
        rows = [row for row in table.values() if project_id in (None, row.get("project_id"))]
        start = int(request.query.get("cursor", "0"))
        more = str(start + 2) if len(rows) > start + 2 else None
        return Reply({"results": rows[start : start + 2], "next_cursor": more})

    def _add(self, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.add_project(body) if kind == "projects" else self._add_task(body)

    def add_project(self, body: dict[str, Any]) -> dict[str, Any]:
        row = {
            "id": self._id(), "name": body["name"], "description": body.get("description", ""),
            "child_order": len(self.projects), "color": "charcoal", "is_collapsed": False, "shared": False,
            "is_favorite": body.get("is_favorite", False), "is_archived": False, "can_assign_tasks": False,
            "view_style": "list", "created_at": STAMP, "updated_at": STAMP, "parent_id": None,
            "inbox_project": body.get("inbox_project", False),
        }  # fmt: skip
        self.projects[row["id"]] = row
        return row

    def _add_task(self, body: dict[str, Any]) -> dict[str, Any]:
        row = {
            "id": self._id(), "content": body["content"], "description": body.get("description", ""),
            "project_id": body["project_id"], "section_id": None, "parent_id": None, "labels": [],
            "priority": body.get("priority", 1), "due": None, "deadline": None, "duration": None,
            "is_collapsed": False, "responsible_uid": None, "assigned_by_uid": None, "completed_at": None,
            "child_order": 1 + sum(task["project_id"] == body["project_id"] for task in self.tasks.values()),
            "added_by_uid": "1", "added_at": STAMP, "updated_at": STAMP,
        }  # fmt: skip
        self.tasks[row["id"]] = row | self._changes(body)
        return self.tasks[row["id"]]

    @staticmethod
    def _changes(body: dict[str, Any]) -> dict[str, Any]:
        changes: dict[str, Any] = {name: body[name] for name in ("is_favorite",) if name in body}
        if "due_date" in body:
            changes["due"] = {"date": body["due_date"], "string": body["due_date"], "lang": "en", "is_recurring": False}
        if "duration" in body:
            changes["duration"] = {"amount": body["duration"], "unit": body["duration_unit"]}
        return changes

    def _id(self) -> str:
        self._last_id += 1
        return f"6X{self._last_id:04d}"


class _Redirected(httpx.HTTPTransport):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = httpx.URL(url)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(scheme=self._url.scheme, host=self._url.host, port=self._url.port)
        return super().handle_request(request)


@contextmanager
def account() -> Iterator[tuple[Todoist, httpx.Client]]:
    """An account, and a client whose requests to Todoist go to it."""
    todoist = Todoist()
    with serve_requests(todoist.answer) as url, httpx.Client(transport=_Redirected(url)) as client:
        yield todoist, client
