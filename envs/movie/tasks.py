"""Movie's tasks: questions made from templates, with answers queried from the film universe.

How the experts answer the templates is in `expert.py`.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from envs.movie import expert, words
from envs.movie.universe import universe
from envs.tools.tasks import Answer, Task, TaskSet, generate, template

_FACTS = {
    "budget": ("budget", "What was the budget of the film '{0}'? Answer with a number of dollars."),
    "revenue": ("revenue", "How much did the film '{0}' take in? Answer with a number of dollars."),
    "vote_average": ("average vote", "What is the average vote for the film '{0}'? Answer with a number."),
    "release_date": ("release date", "When was the film '{0}' released? Answer as YYYY-MM-DD."),
}
_COMPARED = {
    "revenue": ("revenue", "Which film took in more money, '{0}' or '{1}'?"),
    "vote_average": ("average vote", "Which film has the higher average vote, '{0}' or '{1}'?"),
    "release_date": ("release date", "Which film was released earlier, '{0}' or '{1}'?"),
}
_YES_NO = "Answer 'Yes' or 'No'."


@cache
def tasks() -> TaskSet:
    """The generated tasks: 200 for training, 20 for tests."""
    return generate("movie", TEMPLATES)


def _all(query: str, *values: Any) -> list[Any]:
    return universe().execute(query, values).fetchall()


def _column(query: str, *values: Any) -> list[Any]:
    return [row[0] for row in _all(query, *values)]


@cache
def _films() -> list[tuple[int, str]]:
    return _all("SELECT id, title FROM movie ORDER BY id")


def _directors(movie: int) -> list[int]:
    return _column("SELECT person_id FROM crew WHERE movie_id = ? AND job = 'Director'", movie)


def _sibling(rng: random.Random, movie: int) -> tuple[int, str] | None:
    """Another film by the same director."""
    query = """SELECT id, title FROM movie JOIN crew ON movie_id = id
               WHERE person_id = ? AND job = 'Director' AND id != ? ORDER BY id"""
    others = _all(query, _directors(movie)[0], movie)
    return rng.choice(others) if others else None


def _fact(rng: random.Random) -> Task:
    (movie, title), field = rng.choice(_films()), rng.choice(sorted(_FACTS))
    shown, question = _FACTS[field]
    (value,) = _column(f"SELECT {field} FROM movie WHERE id = ?", movie)  # noqa: S608
    parameters = {"title": title, "field": field, "shown": shown}
    return Task(question.format(title), Answer(value), parameters=parameters)


def _director(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    (name,) = _column("SELECT name FROM person WHERE id = ?", _directors(movie)[0])
    goal = f"Who directed the film '{title}'? Answer with the name."
    return Task(goal, Answer(name), parameters={"title": title})


def _director_birthplace(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    (place,) = _column("SELECT place_of_birth FROM person WHERE id = ?", _directors(movie)[0])
    goal = f"Where was the director of '{title}' born? Answer with the place as the database has it."
    return Task(goal, Answer(place), parameters={"title": title})


def _profit(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    ((budget, revenue),) = _all("SELECT budget, revenue FROM movie WHERE id = ?", movie)
    goal = f"Did the film '{title}' take in more than it cost? {_YES_NO}"
    return Task(goal, Answer("Yes" if revenue > budget else "No"), parameters={"title": title})


def _compare(rng: random.Random) -> Task | None:
    (one, first), (other, second) = rng.sample(_films(), 2)
    field = rng.choice(sorted(_COMPARED))
    shown, question = _COMPARED[field]
    values = [_column(f"SELECT {field} FROM movie WHERE id = ?", movie)[0] for movie in (one, other)]  # noqa: S608
    if values[0] == values[1]:
        return None
    best = first if (values[0] > values[1]) != (field == "release_date") else second
    parameters = {"titles": [first, second], "field": field, "shown": shown}
    goal = question.format(first, second) + " Answer with the title."
    return Task(goal, Answer(best), parameters=parameters)


def _same_director(rng: random.Random) -> Task | None:
    one, first = rng.choice(_films())
    pair = _sibling(rng, one) if rng.random() < 0.5 else rng.choice(_films())
    if pair is None or pair[0] == one:
        return None
    answer = "Yes" if _directors(one) == _directors(pair[0]) else "No"
    goal = f"Do '{first}' and '{pair[1]}' have the same director? {_YES_NO}"
    return Task(goal, Answer(answer), parameters={"titles": [first, pair[1]]})


def _common_genres(rng: random.Random) -> Task | None:
    (one, first), (other, second) = rng.sample(_films(), 2)
    query = "SELECT genre_id FROM movie_genre WHERE movie_id = ?"
    both = sorted(set(_column(query, one)) & set(_column(query, other)))
    if not both:
        return None
    goal = f"Which genres do '{first}' and '{second}' have in common? Answer with an array of their names."
    return Task(goal, Answer([words.GENRES[genre] for genre in both]), parameters={"titles": [first, second]})


def _role(rng: random.Random, movie: int) -> tuple[int, str, str]:
    query = """SELECT id, name, character FROM role JOIN person ON person_id = id WHERE movie_id = ? AND position < 10
               ORDER BY position"""
    found: tuple[int, str, str] = rng.choice(_all(query, movie))
    return found


def _character(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    _, actor, played = _role(rng, movie)
    goal = f"Which character did {actor} play in '{title}'? Answer with the character's name."
    return Task(goal, Answer(played), parameters={"title": title, "actor": actor})


def _other_role(rng: random.Random) -> Task | None:
    movie, title = rng.choice(_films())
    person, _, played = _role(rng, movie)
    query = """SELECT title, character FROM movie JOIN role ON movie_id = id
               WHERE person_id = ? AND id != ? AND position < 10 ORDER BY id"""
    others = _all(query, person, movie)
    if not others:
        return None
    other, answer = rng.choice(others)
    goal = f"Whoever played {played} in '{title}': what was their role in '{other}'? Answer with the character's name."
    return Task(goal, Answer(answer), parameters={"title": title, "other": other, "character": played})


def _actors_imdb(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    person, _, played = _role(rng, movie)
    (imdb,) = _column("SELECT imdb_id FROM person WHERE id = ?", person)
    goal = f"What is the IMDB id of the person who played {played} in '{title}'?"
    return Task(goal, Answer(imdb), parameters={"title": title, "character": played})


def _companies(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    names = _column("SELECT name FROM company JOIN movie_company ON company_id = id WHERE movie_id = ?", movie)
    goal = f"Which companies produced the film '{title}'? Answer with an array of their names."
    return Task(goal, Answer(sorted(names)), parameters={"title": title})


def _same_country(rng: random.Random) -> Task | None:
    (one, first), (other, second) = rng.sample(_films(), 2)
    query = "SELECT iso FROM movie_country WHERE movie_id = ?"
    shared = bool(set(_column(query, one)) & set(_column(query, other)))
    if shared != (rng.random() < 0.5):
        return None
    goal = f"Was any country involved in the production of both '{first}' and '{second}'? {_YES_NO}"
    return Task(goal, Answer("Yes" if shared else "No"), parameters={"titles": [first, second]})


def _translation(rng: random.Random) -> Task | None:
    (movie, title), iso = rng.choice(_films()), rng.choice([iso for iso in words.LANGUAGES if iso != "US"])
    found = _column("SELECT overview FROM translation WHERE movie_id = ? AND iso = ?", movie, iso)
    if not found:
        return None
    language = words.LANGUAGES[iso][2]
    goal = f"Give me the overview of the film '{title}' in {language}, word for word."
    return Task(goal, Answer(found[0]), parameters={"title": title, "language": language})


def _title_abroad(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    iso, name = rng.choice(_all("SELECT iso, title FROM alternative_title WHERE movie_id = ? ORDER BY iso", movie))
    country = words.COUNTRIES[iso]
    goal = f"Under which title is the film '{title}' known in {country}? Answer with that title."
    return Task(goal, Answer(name), parameters={"title": title, "iso": iso, "country": country})


def _keywords(rng: random.Random) -> Task:
    movie, title = rng.choice(_films())
    has = _column("SELECT name FROM keyword JOIN movie_keyword ON keyword_id = id WHERE movie_id = ?", movie)
    word = rng.choice(sorted(has)) if rng.random() < 0.5 else rng.choice(words.KEYWORDS)
    goal = f"Is '{word}' among the keywords of the film '{title}'? {_YES_NO}"
    return Task(goal, Answer("Yes" if word in has else "No"), parameters={"title": title, "word": word})


def _older_lead(rng: random.Random) -> Task | None:
    movie, title = rng.choice(_films())
    query = "SELECT name, birthday FROM role JOIN person ON person_id = id WHERE movie_id = ? AND position < 2"
    (one, born), (other, later) = sorted(_all(query, movie), key=lambda row: row[1])
    if born == later:
        return None
    leads = " or ".join(sorted((one, other)))
    goal = f"Of the first two in the cast of '{title}', {leads}, who is older? Answer with the name."
    return Task(goal, Answer(one), parameters={"title": title})


def _work(rng: random.Random) -> tuple[str, list[tuple[str, float]]] | None:
    """A director with at most ten entries in all as crew, and the films directed."""
    who, name = rng.choice(_all("SELECT id, name FROM person WHERE biography LIKE '%is a director%' ORDER BY id"))
    query = "SELECT title, vote_average FROM movie JOIN crew ON movie_id = id WHERE person_id = ? AND job = 'Director'"
    (n,) = _column("SELECT COUNT(*) FROM crew WHERE person_id = ?", who)
    films = _all(query, who)
    return (name, films) if films and n <= 10 else None


def _n_directed(rng: random.Random) -> Task | None:
    work = _work(rng)
    if work is None:
        return None
    goal = f"How many films has {work[0]} directed? Answer with a number."
    return Task(goal, Answer(len(work[1])), parameters={"name": work[0]})


def _best_directed(rng: random.Random) -> Task | None:
    work = _work(rng)
    if work is None or not 2 <= len(work[1]) <= 6:
        return None
    votes = sorted(work[1], key=lambda film: -film[1])
    if votes[0][1] == votes[1][1]:
        return None
    goal = f"Which of the films that {work[0]} directed has the best average vote? Answer with the title."
    return Task(goal, Answer(votes[0][0]), parameters={"name": work[0]})


TEMPLATES = (
    template(_fact, expert.fact, easy=True),
    template(_director, expert.director, easy=True),
    template(_director_birthplace, expert.director_birthplace, easy=True),
    template(_profit, expert.profit, easy=True),
    template(_compare, expert.compare),
    template(_same_director, expert.same_director),
    template(_common_genres, expert.common_genres),
    template(_character, expert.character, easy=True),
    template(_other_role, expert.other_role),
    template(_actors_imdb, expert.actors_imdb, easy=True),
    template(_companies, expert.companies, easy=True),
    template(_same_country, expert.same_country),
    template(_translation, expert.translation, easy=True),
    template(_title_abroad, expert.title_abroad, easy=True),
    template(_keywords, expert.keywords, easy=True),
    template(_older_lead, expert.older_lead),
    template(_n_directed, expert.n_directed, easy=True),
    template(_best_directed, expert.best_directed),
)
