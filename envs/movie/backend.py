"""Movie's backends: the selection of fields that both share, and the offline backend.

Both backends provide documents in the form of TMDB's API, version 3. The actions select the fields that AgentBoard's
tools select. The live backend is in `live.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any, Literal

from envs.movie import words
from envs.movie.universe import plain, universe
from envs.tools.backend import Fault, Refused
from envs.tools.tasks import Task

Kind = Literal["movie", "person"]
TRANSLATED = ("NL", "CN", "US", "DE", "RU", "JP")
_LEADING_JOBS = ("Director", "Producer", "Writer")
_SHOWN = 10


class MovieBackend(ABC):
    """The actions; a subclass gives TMDB's documents. No action changes anything."""

    def open(self, task: Task) -> None:
        """See `Backend`."""
        return None

    def save(self) -> Any:
        """See `Backend`."""
        return None

    def load(self, task: Task, saved: Any) -> None:
        """See `Backend`."""
        return None

    # -- what a subclass gives ------------------------------------------------------------------------------------

    @abstractmethod
    def _search(self, kind: Kind, query: str) -> Any:
        """TMDB's `/search/{kind}`: an object with `results`, best first."""

    @abstractmethod
    def _get(self, kind: Kind, number: str, part: str = "") -> Any:
        """TMDB's `/{kind}/{number}` and what is under it, such as the part "credits"."""

    # -- the actions ----------------------------------------------------------------------------------------------

    def get_search_movie(self, movie_name: str) -> list[dict[str, Any]]:
        return [_pick(found, "id", "overview", "title") for found in self._found("movie", movie_name)]

    def get_search_person(self, person_name: str) -> list[dict[str, Any]]:
        return [_pick(found, "id", "name") for found in self._found("person", person_name)]

    def get_movie_details(self, movie_id: str) -> dict[str, Any]:
        document = self._get("movie", movie_id)
        return _pick(document, "title", "budget", "genres", "revenue", "vote_average", "release_date")

    def get_movie_production_companies(self, movie_id: str) -> dict[str, Any]:
        return _pick(self._get("movie", movie_id), "production_companies")

    def get_movie_production_countries(self, movie_id: str) -> dict[str, Any]:
        return _pick(self._get("movie", movie_id), "production_countries")

    def get_movie_cast(self, movie_id: str) -> dict[str, Any]:
        cast = _list(self._get("movie", movie_id, "credits"), "cast")
        return {"cast": [_pick(role, "id", "name", "character") for role in cast[:_SHOWN]]}

    def get_movie_crew(self, movie_id: str) -> dict[str, Any]:
        everyone = [_pick(row, "id", "name", "job") for row in _list(self._get("movie", movie_id, "credits"), "crew")]
        crew = [member for member in everyone if member["job"] in _LEADING_JOBS]
        named = {member["id"] for member in crew}
        others = (member for member in everyone if member["id"] not in named)
        return {"crew": crew + [member for member, _ in zip(others, range(_SHOWN - len(crew)))]}

    def get_movie_keywords(self, movie_id: str) -> dict[str, Any]:
        keywords = _list(self._get("movie", movie_id, "keywords"), "keywords")
        return {"keywords": [_pick(keyword, "name")["name"] for keyword in keywords]}

    def get_movie_alternative_titles(self, movie_id: str) -> dict[str, Any]:
        return _pick(self._get("movie", movie_id, "alternative_titles"), "id", "titles")

    def get_movie_translation(self, movie_id: str) -> dict[str, Any]:
        document = self._get("movie", movie_id, "translations")
        shown = []
        for row in _list(document, "translations"):
            row = _pick(row, "iso_3166_1", "iso_639_1", "name", "english_name", "data")
            if row["iso_3166_1"] in TRANSLATED and isinstance(row["data"], dict):
                shown.append(row | {"data": {name: text for name, text in row["data"].items() if name != "title"}})
        return {**_pick(document, "id"), "translations": shown}

    def get_person_details(self, person_id: str) -> dict[str, Any]:
        return _pick(self._get("person", person_id), "name", "biography", "birthday", "place_of_birth")

    def get_person_cast(self, person_id: str) -> dict[str, Any]:
        cast = _list(self._get("person", person_id, "movie_credits"), "cast")
        return {"cast": [_pick(role, "id", "title", "character") for role in cast[:_SHOWN]]}

    def get_person_crew(self, person_id: str) -> dict[str, Any]:
        crew = _list(self._get("person", person_id, "movie_credits"), "crew")
        return {"crew": [_pick(member, "id", "title", "job") for member in crew[:_SHOWN]]}

    def get_person_external_ids(self, person_id: str) -> dict[str, Any]:
        document = self._get("person", person_id, "external_ids")
        return _pick(document, "imdb_id", "facebook_id", "instagram_id", "twitter_id")

    def _found(self, kind: Kind, query: str) -> list[Any]:
        """The best result, or none."""
        return _list(self._search(kind, query), "results")[:1]


def _pick(document: Any, *names: str) -> dict[str, Any]:
    for name in names:
        if not isinstance(document, dict) or name not in document:
            raise Fault(f"Error: TMDB sent an answer without {name}; try again later")
    return {name: document[name] for name in names}


def _list(document: Any, name: str) -> list[Any]:
    rows = _pick(document, name)[name]
    if not isinstance(rows, list):
        raise Fault(f"Error: TMDB sent an answer whose {name} is no list; try again later")
    return rows


class OfflineMovie(MovieBackend):
    """Documents from the film universe."""

    def _search(self, kind: Kind, query: str) -> Any:
        return search(kind, query)

    def _get(self, kind: Kind, number: str, part: str = "") -> Any:
        return document(kind, int(number), part)


@lru_cache(maxsize=4096)
def search(kind: Kind, query: str) -> dict[str, Any]:
    """The films or people whose names are, or else begin with, or else hold the query."""
    database, text = universe(), plain(query)
    columns = "id, overview, title" if kind == "movie" else "id, name"
    order = "vote_count DESC, id" if kind == "movie" else "id"
    base = f"SELECT {columns} FROM {kind} WHERE plain "  # noqa: S608  (no part of it is the agent's)
    rows = database.execute(base + "= ?", (text,)).fetchall()
    if not rows and kind == "movie" and text:
        rows = database.execute(base + "= ?", (f"the {text}",)).fetchall()
    if not rows and text:
        rows = database.execute(
            f"{base} LIKE ? || '%' OR plain LIKE '% ' || ? || '%' ORDER BY plain LIKE ? || '%' DESC, {order} LIMIT 20",
            (text, text, text),
        ).fetchall()
    return {"page": 1, "results": [dict(zip(columns.split(", "), row, strict=True)) for row in rows]}


@lru_cache(maxsize=16_384)
def document(kind: Kind, number: int, part: str) -> dict[str, Any]:
    """A document of TMDB's API; kept and shared, so it must not be changed.

    Raises:
        Refused: There is no such film or person.
    """
    found = universe().execute(f"SELECT * FROM {kind} WHERE id = ?", (number,))  # noqa: S608
    names = [column[0] for column in found.description]
    row = found.fetchone()
    if row is None:
        what, search_by = ("film", "get_search_movie") if kind == "movie" else ("person", "get_search_person")
        raise Refused(f"Error: there is no {what} with the id {number}; take ids from {search_by}")
    parts = {"": _film if kind == "movie" else _person, "credits": _credits, "movie_credits": _filmography,
             "keywords": _keywords, "alternative_titles": _titles, "translations": _translations,
             "external_ids": _external_ids}  # fmt: skip
    return {"id": number, **parts[part](number, dict(zip(names, row, strict=True)))}


def _rows(query: str, number: int, *names: str) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in universe().execute(query, (number,))]


def _film(number: int, row: dict[str, Any]) -> dict[str, Any]:
    genres = universe().execute("SELECT genre_id FROM movie_genre WHERE movie_id = ?", (number,))
    countries = universe().execute("SELECT iso FROM movie_country WHERE movie_id = ? ORDER BY iso", (number,))
    companies = _rows(
        "SELECT id, NULL, name, origin_country FROM company JOIN movie_company ON company_id = id WHERE movie_id = ?"
        " ORDER BY id", number, "id", "logo_path", "name", "origin_country",
    )  # fmt: skip
    return {
        **{name: value for name, value in row.items() if name != "plain"},
        "genres": [{"id": genre, "name": words.GENRES[genre]} for (genre,) in genres],
        "production_companies": companies,
        "production_countries": [{"iso_3166_1": iso, "name": words.COUNTRIES[iso]} for (iso,) in countries],
    }


def _person(number: int, row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "plain"}


def _external_ids(number: int, row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name.endswith("_id")}


def _credits(number: int, row: dict[str, Any]) -> dict[str, Any]:
    person = "FROM person JOIN {0} ON person_id = id WHERE movie_id = ? ORDER BY position"
    return {
        "cast": _rows(f"SELECT id, name, character {person.format('role')}", number, "id", "name", "character"),
        "crew": _rows(f"SELECT id, name, job {person.format('crew')}", number, "id", "name", "job"),
    }


def _filmography(number: int, row: dict[str, Any]) -> dict[str, Any]:
    movie = "FROM movie JOIN {0} ON movie_id = id WHERE person_id = ? ORDER BY vote_count DESC, id, position"
    return {
        "cast": _rows(f"SELECT id, title, character {movie.format('role')}", number, "id", "title", "character"),
        "crew": _rows(f"SELECT id, title, job {movie.format('crew')}", number, "id", "title", "job"),
    }


def _keywords(number: int, row: dict[str, Any]) -> dict[str, Any]:
    query = "SELECT id, name FROM keyword JOIN movie_keyword ON keyword_id = id WHERE movie_id = ? ORDER BY id"
    return {"keywords": _rows(query, number, "id", "name")}


def _titles(number: int, row: dict[str, Any]) -> dict[str, Any]:
    query = "SELECT iso, title, type FROM alternative_title WHERE movie_id = ?"
    return {"titles": _rows(query, number, "iso_3166_1", "title", "type")}


def _translations(number: int, row: dict[str, Any]) -> dict[str, Any]:
    found = universe().execute("SELECT iso, overview, tagline FROM translation WHERE movie_id = ?", (number,))
    return {
        "translations": [
            {
                "iso_3166_1": iso,
                "iso_639_1": words.LANGUAGES[iso][0],
                "name": words.LANGUAGES[iso][1],
                "english_name": words.LANGUAGES[iso][2],
                "data": {"homepage": "", "overview": overview, "tagline": tagline, "title": ""},
            }
            for iso, overview, tagline in found
        ]
    }
