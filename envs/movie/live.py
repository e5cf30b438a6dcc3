"""Movie's live backend: TMDB's API, version 3, with a bearer token from the environment variable `TMDB_TOKEN`."""

from __future__ import annotations

from typing import Any

from envs.movie.backend import Kind, MovieBackend
from envs.tools.live import Service

URL = "https://api.themoviedb.org/3"
TOKEN_VARIABLE = "TMDB_TOKEN"  # noqa: S105  (the name of the variable, not a token)


class LiveMovie(MovieBackend):
    """Asks TMDB.

    Args:
        url: The API's root, where it is not TMDB's own.
        service: How to ask.
    """

    def __init__(self, url: str = URL, service: Service | None = None) -> None:
        self._url = url
        self._service = service or Service("TMDB", key_variable=TOKEN_VARIABLE)

    def _search(self, kind: Kind, query: str) -> Any:
        parameters = {"query": query, "include_adult": "false", "language": "en-US", "page": "1"}
        return self._service.get(f"{self._url}/search/{kind}", parameters)

    def _get(self, kind: Kind, number: str, part: str = "") -> Any:
        return self._service.get(f"{self._url}/{kind}/{number}" + (f"/{part}" if part else ""))
