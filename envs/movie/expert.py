"""How Movie's questions are answered with its tools alone: one play for each template of `tasks.py`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from envs.tools.tasks import Play, Step, Task, finish, use

Found = Generator[Step, Any, Any]


def _film(title: str, why: str = "") -> Found:
    """The id of a film."""
    thought = f"{why} I search for the film {title} to get its id.".strip()
    return str((yield use(thought, "get_search_movie", movie_name=title))[0]["id"])


def _details(title: str, what: str) -> Found:
    number = yield from _film(title)
    return (yield use(f"The details of {title} have its {what}.", "get_movie_details", movie_id=number))


def _director(title: str) -> Found:
    """The entry of the director in a film's crew."""
    number = yield from _film(title)
    crew = yield use(f"The crew of {title} tells who directed it.", "get_movie_crew", movie_id=number)
    return next(member for member in crew["crew"] if member["job"] == "Director")


def _cast(title: str) -> Found:
    number = yield from _film(title)
    return (yield use(f"I look at who played in {title}.", "get_movie_cast", movie_id=number))["cast"]


def fact(task: Task) -> Play:
    title, field, shown = task.parameters["title"], task.parameters["field"], task.parameters["shown"]
    value = (yield from _details(title, shown))[field]
    yield finish(f"The {shown} of {title} is {value}.", value)


def director(task: Task) -> Play:
    title = task.parameters["title"]
    name = (yield from _director(title))["name"]
    yield finish(f"{title} was directed by {name}.", name)


def director_birthplace(task: Task) -> Play:
    title = task.parameters["title"]
    person = yield from _director(title)
    thought = f"The director is {person['name']}. The details of that person have the place of birth."
    place = (yield use(thought, "get_person_details", person_id=str(person["id"])))["place_of_birth"]
    yield finish(f"{person['name']} was born in {place}.", place)


def profit(task: Task) -> Play:
    title = task.parameters["title"]
    found = yield from _details(title, "budget and revenue")
    word = "Yes" if found["revenue"] > found["budget"] else "No"
    yield finish(f"It cost {found['budget']} and took in {found['revenue']}, so the answer is {word}.", word)


def compare(task: Task) -> Play:
    titles, field, shown = task.parameters["titles"], task.parameters["field"], task.parameters["shown"]
    values = {}
    for title in titles:
        values[title] = (yield from _details(title, shown))[field]
    best = max(values, key=lambda title: values[title])
    if field == "release_date":
        best = min(values, key=lambda title: values[title])
    listed = " and ".join(f"{value} for {title}" for title, value in values.items())
    yield finish(f"The {shown} is {listed}, so the answer is {best}.", best)


def same_director(task: Task) -> Play:
    people = []
    for title in task.parameters["titles"]:
        people.append((yield from _director(title)))
    word = "Yes" if people[0]["id"] == people[1]["id"] else "No"
    yield finish(f"The directors are {people[0]['name']} and {people[1]['name']}, so the answer is {word}.", word)


def common_genres(task: Task) -> Play:
    genres = []
    for title in task.parameters["titles"]:
        found = yield from _details(title, "genres")
        genres.append([genre["name"] for genre in found["genres"]])
    both = [name for name in genres[0] if name in genres[1]]
    yield finish(f"One is {', '.join(genres[0])}, the other {', '.join(genres[1])}; in both: {', '.join(both)}.", both)


def character(task: Task) -> Play:
    title, actor = task.parameters["title"], task.parameters["actor"]
    name = next(role["character"] for role in (yield from _cast(title)) if role["name"] == actor)
    yield finish(f"{actor} played {name}.", name)


def other_role(task: Task) -> Play:
    one, other, played = task.parameters["title"], task.parameters["other"], task.parameters["character"]
    actor = next(role["name"] for role in (yield from _cast(one)) if role["character"] == played)
    cast = yield from _cast(other)
    name = next(role["character"] for role in cast if role["name"] == actor)
    yield finish(f"{actor} played {played} in {one}, and {name} in {other}.", name)


def actors_imdb(task: Task) -> Play:
    title, played = task.parameters["title"], task.parameters["character"]
    actor = next(role for role in (yield from _cast(title)) if role["character"] == played)
    thought = f"{played} was played by {actor['name']}, whose ids elsewhere I look up."
    imdb = (yield use(thought, "get_person_external_ids", person_id=str(actor["id"])))["imdb_id"]
    yield finish(f"The IMDB id of {actor['name']} is {imdb}.", imdb)


def companies(task: Task) -> Play:
    title = task.parameters["title"]
    number = yield from _film(title)
    found = yield use(f"I ask which companies made {title}.", "get_movie_production_companies", movie_id=number)
    names = [company["name"] for company in found["production_companies"]]
    yield finish(f"It was made by {', '.join(names)}.", names)


def same_country(task: Task) -> Play:
    countries = []
    for title in task.parameters["titles"]:
        number = yield from _film(title)
        found = yield use(f"I ask where {title} was made.", "get_movie_production_countries", movie_id=number)
        countries.append([country["name"] for country in found["production_countries"]])
    word = "Yes" if set(countries[0]) & set(countries[1]) else "No"
    yield finish(f"One is from {', '.join(countries[0])}, the other from {', '.join(countries[1])}: {word}.", word)


def translation(task: Task) -> Play:
    title, language = task.parameters["title"], task.parameters["language"]
    number = yield from _film(title)
    found = yield use(f"I look for the {language} description of {title}.", "get_movie_translation", movie_id=number)
    text = next(row["data"]["overview"] for row in found["translations"] if row["english_name"] == language)
    yield finish(f"The translations have one in {language}.", text)


def title_abroad(task: Task) -> Play:
    title, iso, country = task.parameters["title"], task.parameters["iso"], task.parameters["country"]
    number = yield from _film(title)
    found = yield use(f"I look up the other titles of {title}.", "get_movie_alternative_titles", movie_id=number)
    name = next(row["title"] for row in found["titles"] if row["iso_3166_1"] == iso)
    yield finish(f"{country} has the code {iso}, under which the title is {name}.", name)


def keywords(task: Task) -> Play:
    title, word = task.parameters["title"], task.parameters["word"]
    number = yield from _film(title)
    found = (yield use(f"The keywords tell what {title} is about.", "get_movie_keywords", movie_id=number))["keywords"]
    answer = "Yes" if word in found else "No"
    yield finish(f"The keywords are {', '.join(found)}, so the answer is {answer}.", answer)


def older_lead(task: Task) -> Play:
    leads = (yield from _cast(task.parameters["title"]))[:2]
    born = {}
    for lead in leads:
        thought = f"I need the birthday of {lead['name']}."
        born[lead["name"]] = (yield use(thought, "get_person_details", person_id=str(lead["id"])))["birthday"]
    oldest = min(born, key=lambda name: born[name])
    listed = " and ".join(f"{name} on {day}" for name, day in born.items())
    yield finish(f"Born were {listed}, so {oldest} is older.", oldest)


def _directed(name: str) -> Found:
    person = (yield use(f"I search for {name} to get the id.", "get_search_person", person_name=name))[0]
    crew = yield use(f"I look at the films that {name} made.", "get_person_crew", person_id=str(person["id"]))
    return [entry for entry in crew["crew"] if entry["job"] == "Director"]


def n_directed(task: Task) -> Play:
    name = task.parameters["name"]
    films = yield from _directed(name)
    yield finish(f"{name} directed {', '.join(film['title'] for film in films)}: {len(films)} films.", len(films))


def best_directed(task: Task) -> Play:
    name = task.parameters["name"]
    films = yield from _directed(name)
    votes: dict[str, float] = {}
    for film in films:
        thought = f"{len(votes)} of {len(films)} votes are known. I look up {film['title']}."
        votes[film["title"]] = (yield use(thought, "get_movie_details", movie_id=str(film["id"])))["vote_average"]
    best = max(votes, key=lambda title: votes[title])
    yield finish(f"The best vote, {votes[best]}, is that of {best}.", best)
