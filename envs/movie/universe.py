"""The film universe: 2,400 invented films and their makers, in an SQLite database in memory.

It is generated from one fixed seed, so it is the same in any process. It is built once per process, shared, and only
read. Its documents have the form of TMDB's API, version 3.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterable
from datetime import date, timedelta
from functools import cache
from typing import Any

from envs.movie import words
from envs.tools import names

N_FILMS = 2_400
N_PEOPLE = 2_000
N_DIRECTORS = 260
"""The first of the people; the next as many write, produce and film; the others act."""
N_CREW = 400
_SEED = "atlas movie universe 1"
_FIRST_FILM, _FIRST_PERSON, _FIRST_COMPANY, _FIRST_KEYWORD = 10_001, 50_001, 301, 7_001

_SCHEMA = """
CREATE TABLE movie (id INTEGER PRIMARY KEY, title TEXT UNIQUE, plain TEXT, overview TEXT, budget INTEGER,
                    revenue INTEGER, vote_average REAL, vote_count INTEGER, release_date TEXT);
CREATE TABLE movie_genre (movie_id INTEGER, genre_id INTEGER);
CREATE TABLE movie_country (movie_id INTEGER, iso TEXT);
CREATE TABLE company (id INTEGER PRIMARY KEY, name TEXT UNIQUE, origin_country TEXT);
CREATE TABLE movie_company (movie_id INTEGER, company_id INTEGER);
CREATE TABLE keyword (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE movie_keyword (movie_id INTEGER, keyword_id INTEGER);
CREATE TABLE alternative_title (movie_id INTEGER, iso TEXT, title TEXT, type TEXT);
CREATE TABLE translation (movie_id INTEGER, iso TEXT, overview TEXT, tagline TEXT);
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT UNIQUE, plain TEXT, birthday TEXT, place_of_birth TEXT,
                     biography TEXT, imdb_id TEXT, facebook_id TEXT, instagram_id TEXT, twitter_id TEXT);
CREATE TABLE role (movie_id INTEGER, person_id INTEGER, character TEXT, position INTEGER);
CREATE TABLE crew (movie_id INTEGER, person_id INTEGER, job TEXT, position INTEGER);
"""
_INDEXES = """
CREATE INDEX movie_plain ON movie (plain); CREATE INDEX person_plain ON person (plain);
CREATE INDEX mg ON movie_genre (movie_id); CREATE INDEX mc ON movie_country (movie_id);
CREATE INDEX mco ON movie_company (movie_id); CREATE INDEX mk ON movie_keyword (movie_id);
CREATE INDEX at ON alternative_title (movie_id); CREATE INDEX tr ON translation (movie_id);
CREATE INDEX cm ON role (movie_id); CREATE INDEX cp ON role (person_id);
CREATE INDEX wm ON crew (movie_id); CREATE INDEX wp ON crew (person_id);
"""


@cache
def universe() -> sqlite3.Connection:
    """The database of this process: query it, never write to it."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.executescript(_SCHEMA)
    rng = random.Random(_SEED)
    _fill(database, rng)
    database.executescript(_INDEXES)
    database.execute("PRAGMA query_only = ON")
    return database


def plain(name: str) -> str:
    """A name as searches compare it: letters, digits and single spaces."""
    kept = "".join(char if char.isalnum() or char.isspace() else " " if char in "-:/" else "" for char in name)
    return " ".join(kept.casefold().split())


def _fill(database: sqlite3.Connection, rng: random.Random) -> None:
    def insert(table: str, rows: Iterable[tuple[Any, ...]]) -> None:
        rows = list(rows)
        database.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(rows[0]))})", rows)  # noqa: S608

    companies = [f"{name} {kind}" for name in words.COMPANY_NAMES for kind in words.COMPANY_KINDS]
    isos = sorted(words.COUNTRIES)
    homes = [rng.choice(isos) for _ in companies]
    insert("company", [(_FIRST_COMPANY + i, name, homes[i]) for i, name in enumerate(companies)])
    insert("keyword", [(_FIRST_KEYWORD + i, name) for i, name in enumerate(words.KEYWORDS)])
    insert("person", _people(rng))
    for i, title in enumerate(_titles(rng)):
        movie = _FIRST_FILM + i
        chosen = rng.sample(range(len(companies)), rng.choice((1, 1, 2, 2, 3)))
        translations = _translations(rng, movie)
        insert("movie", [_film(rng, movie, title, overview=translations[0][2])])
        insert("movie_genre", [(movie, genre) for genre in sorted(rng.sample(sorted(words.GENRES), rng.randint(1, 3)))])
        insert("movie_company", [(movie, _FIRST_COMPANY + j) for j in chosen])
        insert("movie_country", [(movie, iso) for iso in sorted({homes[j] for j in chosen})])
        insert("movie_keyword", [(movie, _FIRST_KEYWORD + j) for j in rng.sample(range(len(words.KEYWORDS)), 5)])
        insert("translation", translations)
        places = rng.sample(isos, rng.randint(1, 4))
        kinds = ("", "", "working title")
        others = [" and ".join(rng.sample(words.NOUNS, 2)) for _ in places]
        insert("alternative_title", [(movie, *row, rng.choice(kinds)) for row in zip(sorted(places), others)])
        insert("role", _cast(rng, movie))
        insert("crew", _crew(rng, movie))
    database.commit()


def _titles(rng: random.Random) -> list[str]:
    """Different titles, also when read without "The"; no other title of a film is one of them."""
    a, b, p = words.ADJECTIVES, words.NOUNS, words.PLACES
    everything = [f"The {x} {y}" for x in a for y in b]
    everything += [f"The {y} of {z}" for y in b for z in p] + [f"{x} {z}" for x in a for z in p]
    return rng.sample(everything, N_FILMS)


def _people(rng: random.Random) -> list[tuple[Any, ...]]:
    chosen = rng.sample([f"{first} {last}" for first in names.FIRST for last in names.LAST], N_PEOPLE)
    people = []
    for i, name in enumerate(chosen):
        born = date(1930, 1, 1) + timedelta(rng.randrange(365 * 70))
        place = rng.choice(words.BIRTHPLACES)
        trade = "a director" if i < N_DIRECTORS else "a film-maker" if i < N_DIRECTORS + N_CREW else "an actor"
        handle = plain(name).replace(" ", "")
        biography = (
            f"{name} (born {born:%B} {born.day}, {born.year}) is {trade} from {place.split(',')[0]}. "
            f"{name.split()[0]} began to work in films at the age of {rng.randint(16, 35)}."
        )
        social = [handle if rng.random() < 0.7 else None for _ in range(3)]
        people.append(
            (_FIRST_PERSON + i, name, plain(name), born.isoformat(), place, biography, f"nm{9_000_000 + i}", *social)
        )
    return people


def _film(rng: random.Random, movie: int, title: str, overview: str) -> tuple[Any, ...]:
    budget = rng.randrange(1, 200) * 10 ** rng.choice((5, 6, 6))
    revenue = round(budget * rng.lognormvariate(0.3, 0.8)) + rng.randrange(1000)
    released = date(1960, 1, 1) + timedelta(rng.randrange(365 * 64))
    rating = round(min(max(rng.gauss(6.4, 1.1), 1.5), 9.4), 3)
    return (
        movie,
        title,
        plain(title),
        overview,
        budget,
        revenue,
        rating,
        rng.randrange(50, 20_000),
        released.isoformat(),
    )


def _translations(rng: random.Random, movie: int) -> list[tuple[Any, ...]]:
    """English first."""
    place, parts = rng.choice(words.PLACES), (words.HEROES, words.QUESTS, words.STAKES)
    picks = [rng.randrange(part["US"].count("|") + 1) for part in parts]
    isos = ["US", *(iso for iso in words.LANGUAGES if iso != "US" and rng.random() < 0.7)]
    rows = []
    for iso in isos:
        hero, quest, stake = (part[iso].split("|")[pick] for part, pick in zip(parts, picks, strict=True))
        rows.append((movie, iso, words.SENTENCE[iso].format(hero=hero, quest=quest, stake=stake, place=place), ""))
    return rows


def _cast(rng: random.Random, movie: int) -> list[tuple[Any, ...]]:
    start = N_DIRECTORS + N_CREW
    people = rng.sample(range(start, N_PEOPLE), rng.randint(5, 9))
    if rng.random() < 0.1:
        people.append(rng.randrange(N_DIRECTORS))
    first, last = rng.sample(names.FIRST, len(people)), rng.sample(names.LAST, len(people))
    return [(movie, _FIRST_PERSON + who, f"{first[i]} {last[i]}", i) for i, who in enumerate(people)]


def _crew(rng: random.Random, movie: int) -> list[tuple[Any, ...]]:
    director = rng.randrange(N_DIRECTORS)
    helpers = iter(rng.sample(range(N_DIRECTORS, N_DIRECTORS + N_CREW), 8))
    jobs = [("Director", director), ("Writer", director if rng.random() < 0.3 else next(helpers))]
    jobs += [("Producer", next(helpers)) for _ in range(rng.randint(1, 3))]
    jobs += [(job, next(helpers)) for job in ("Editor", "Director of Photography", "Original Music Composer")]
    rng.shuffle(jobs)
    return [(movie, _FIRST_PERSON + who, job, i) for i, (job, who) in enumerate(jobs)]
