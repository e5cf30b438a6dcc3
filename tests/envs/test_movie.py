"""Movie: the film universe, its documents, upstream's files, and TMDB's documented answers and errors."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from atlas_ray.environments import make
from atlas_ray.errors import ConfigError
from envs.movie.backend import document
from envs.movie.env import MovieEnv
from envs.movie.live import LiveMovie
from envs.movie.universe import universe
from envs.tools import live
from envs.tools.grammar import format_call
from tests.envs.tools.server import Reply, serve
from tests.reference import reference


def _call(env: MovieEnv, name: str, /, **arguments: Any) -> str:
    observation = env.step(format_call(name, arguments))[0]
    return observation.removeprefix("Observation: ").removesuffix("\nGive me one action.")


@pytest.fixture
def env() -> MovieEnv:
    env = MovieEnv(max_rounds=100)
    env.reset()
    return env


def test_the_universe_is_large_whole_and_read_only() -> None:
    least = {"movie": 2_000, "person": 2_000, "company": 100, "keyword": 70, "translation": 8_000, "role": 12_000}
    for table, n in (least | {"alternative_title": 4_000, "crew": 12_000}).items():
        assert universe().execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] >= n
    for table in ("role", "crew"):
        orphans = f"SELECT COUNT(*) FROM {table} WHERE person_id NOT IN (SELECT id FROM person)"
        assert universe().execute(orphans).fetchone() == (0,)
    directors = "SELECT COUNT(*) FROM (SELECT 1 FROM crew WHERE job = 'Director' GROUP BY movie_id HAVING COUNT(*) = 1)"
    assert universe().execute(directors).fetchone() == (2_400,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        universe().execute("DELETE FROM movie")


def test_documents_have_tmdbs_shape(env: MovieEnv) -> None:
    film = universe().execute("SELECT id, title, overview FROM movie ORDER BY id").fetchone()
    number = str(film[0])
    assert _call(env, "get_search_movie", movie_name=film[1].upper()) == str(
        [{"id": film[0], "overview": film[2], "title": film[1]}]
    )
    details = document("movie", film[0], "")
    assert {"id", "title", "genres", "production_companies", "production_countries", "vote_count"} <= set(details)
    assert set(details["production_companies"][0]) == {"id", "logo_path", "name", "origin_country"}
    for name, keys in (
        ("get_movie_details", ["title", "budget", "genres", "revenue", "vote_average", "release_date"]),
        ("get_movie_production_companies", ["production_companies"]),
        ("get_movie_production_countries", ["production_countries"]),
        ("get_movie_cast", ["cast"]),
        ("get_movie_crew", ["crew"]),
        ("get_movie_keywords", ["keywords"]),
        ("get_movie_alternative_titles", ["id", "titles"]),
        ("get_movie_translation", ["id", "translations"]),
    ):
        _call(env, name, movie_id=film[0])  # a number will do for an id
        assert env.log[-1].arguments == {"movie_id": number}
        assert list(env.log[-1].value) == keys
    crew = env.log[-4].value["crew"]
    leading = [member["job"] in ("Director", "Producer", "Writer") for member in crew]
    assert leading == sorted(leading, reverse=True)
    assert "title" not in env.log[-1].value["translations"][0]["data"]
    person = env.log[-5].value["cast"][0]
    assert _call(env, "get_search_person", person_name=person["name"]) == str(
        [{"id": person["id"], "name": person["name"]}]
    )
    for name, keys in (
        ("get_person_details", ["name", "biography", "birthday", "place_of_birth"]),
        ("get_person_cast", ["cast"]),
        ("get_person_crew", ["crew"]),
        ("get_person_external_ids", ["imdb_id", "facebook_id", "instagram_id", "twitter_id"]),
    ):
        _call(env, name, person_id=person["id"])
        assert list(env.log[-1].value) == keys


def test_searches_find_the_best_and_nothing_else(env: MovieEnv) -> None:
    title = universe().execute("SELECT title FROM movie WHERE title LIKE 'The %' ORDER BY id").fetchone()[0]
    without = title.removeprefix("The ")
    assert f"'title': {title!r}" in _call(env, "get_search_movie", movie_name=without)
    assert f"'title': {title!r}" in _call(env, "get_search_movie", movie_name=title[:-1])
    for name in ("Xyzzy", "%", "_", "' OR 1=1 --", "'; DROP TABLE movie; --", "..."):
        assert _call(env, "get_search_movie", movie_name=name) == "[]"
        assert _call(env, "get_search_person", person_name=name) == "[]"
    assert _call(env, "get_movie_details", movie_id="7") == (
        "Error: there is no film with the id 7; take ids from get_search_movie"
    )
    for wrong in ("1; DROP TABLE movie", "../person/5", "", "9" * 30):
        assert "movie_id: String should match pattern" in _call(env, "get_movie_details", movie_id=wrong)


@reference("tools/movie_sample.jsonl")
def test_upstreams_file_is_scored_by_the_same_rules(path: str) -> None:
    env = make("movie", data=path)
    assert (env.card.n_train, env.card.n_test) == (0, 40)
    for task, answer in ((18, 160000000), (4, "The Dark Knight"), (36, ["Universal Pictures", "Amblin Entertainment"])):
        env.reset(options={"task": task, "split": "test"})
        assert env.step(format_call("finish", {"answer": answer}))[4]["success"]


# -- the live backend, against a server that answers as TMDB documents -------------------------------------------------

_FILM = {
    "adult": False, "id": 27205, "title": "Some Film", "budget": 160, "revenue": 839, "vote_average": 8.4,
    "genres": [{"id": 28, "name": "Action"}], "release_date": "2010-07-15", "homepage": "", "overview": "Dreams.",
}  # fmt: skip
_CREDITS = {
    "id": 27205,
    "cast": [{"id": i, "name": f"Actor {i}", "character": f"Role {i}", "order": i} for i in range(12)],
    "crew": [{"id": 90, "name": "C", "job": "Editor"}, {"id": 91, "name": "D", "job": "Director"}],
}


def _tmdb(path: str, query: dict[str, str], headers: Mapping[str, str]) -> Reply:
    if headers["authorization"] != "Bearer good":
        return Reply({"status_code": 7, "status_message": "Invalid API key: You must be granted a valid key."}, 401)
    if path == "/search/movie":
        found = [_FILM] if query["query"] == "Some Film" else []
        return Reply({"page": 1, "results": found, "total_pages": 1, "total_results": len(found)})
    if path == "/movie/27205":
        return Reply(_FILM)
    if path == "/movie/27205/credits":
        return Reply(_CREDITS)
    return Reply({"status_code": 34, "status_message": "The resource you requested could not be found."}, 404)


@contextmanager
def _live(tmp_path: Any, answer: Any = _tmdb) -> Iterator[MovieEnv]:
    row = {"goal": "?", "subgoals": [160], "additional_info": {"tool": "movie", "answer": 160, "init_config": None}}
    (tmp_path / "movie.jsonl").write_text(json.dumps(row))
    with serve(answer) as (url, _):
        service = live.Service("TMDB", timeout_s=30.0, key_variable="TMDB_TOKEN")
        env = MovieEnv(backend=LiveMovie(url, service), data=tmp_path / "movie.jsonl", max_rounds=100)
        env.reset(options={"split": "test"})
        yield env


def test_the_live_backend_reads_tmdb(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "good")
    with _live(tmp_path) as env:
        found = _call(env, "get_search_movie", movie_name="Some Film")
        assert found == "[{'id': 27205, 'overview': 'Dreams.', 'title': 'Some Film'}]"
        assert _call(env, "get_search_movie", movie_name="Nothing") == "[]"
        assert _call(env, "get_movie_details", movie_id=27205).startswith(
            "{'title': 'Some Film', 'budget': 160, 'genres'"
        )
        _call(env, "get_movie_cast", movie_id="27205")
        assert [role["id"] for role in env.log[-1].value["cast"]] == list(range(10))
        _call(env, "get_movie_crew", movie_id="27205")
        assert [member["job"] for member in env.log[-1].value["crew"]] == ["Director", "Editor"]
        assert _call(env, "get_movie_keywords", movie_id="1") == (
            "Error: TMDB answers 404: The resource you requested could not be found."
        )
        info = env.step('finish with Action Input: {"answer": 160}')[4]
        assert (info["success"], info["faults"]) == (True, 0)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (None, r"TMDB refuses access (401): Invalid API key: You must be granted a valid key.; check TMDB_TOKEN"),
        (Reply("", 500), "TMDB answers 500; try again later"),
        (
            Reply({"status_message": "Over the limit."}, 429, {"retry-after": "30"}),
            "429: Over the limit.; try again in 30 s",
        ),
        (Reply('{"cast": [', 200), "no JSON"),
        (Reply({"id": 1}), "without cast"),
        (Reply({"cast": 3}), "cast is no list"),
        (Reply({"cast": [{"id": 1}]}), "without name"),
        (Reply(None), "without cast"),
    ],
)
def test_live_errors_are_observations_and_counted(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, reply: Reply | None, said: str
) -> None:
    monkeypatch.setenv("TMDB_TOKEN", "bad")
    monkeypatch.setattr(live.time, "sleep", lambda seconds: None)
    with _live(tmp_path, _tmdb if reply is None else lambda *_: reply) as env:
        assert said in _call(env, "get_movie_cast", movie_id="5")
        assert env.log == ()
        *_, info = env.step("check_valid_actions with Action Input: {}")
        assert (info["faults"], info["score"], env.running) == (1, 0.0, True)


def test_the_token_comes_from_the_environment(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMDB_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="set the environment variable TMDB_TOKEN"):
        LiveMovie()
    with pytest.raises(ConfigError, match="backend 'live' needs data=PATH"):
        make("movie", backend="live")
