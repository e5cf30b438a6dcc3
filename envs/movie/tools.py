"""The actions of Movie, with AgentGym's names and arguments and our own descriptions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from envs.tools.toolbox import Parameter, Tool, Toolbox

_ID = Annotated[str, Field(pattern=r"^[0-9]{1,10}$")]
_MOVIE = {"movie_id": Parameter(_ID, "string", "The film's id, from get_search_movie or a filmography.")}
_PERSON = {"person_id": Parameter(_ID, "string", "The person's id, from get_search_person or a film's cast or crew.")}
_NAME = Annotated[str, Field(min_length=1)]

TOOLBOX = Toolbox(
    [
        Tool(
            "get_search_movie",
            "Find a film by its title.",
            {"movie_name": Parameter(_NAME, "string", "The title.")},
            "- id, overview, title: Of the best match; an empty list if there is none.",
        ),
        Tool(
            "get_movie_details",
            "Look up a film's main facts.",
            _MOVIE,
            "- title, budget, genres, revenue, vote_average, release_date: Money in dollars, the average vote of 10.",
        ),
        Tool(
            "get_movie_production_companies",
            "Look up which companies made a film.",
            _MOVIE,
            "- production_companies: The companies.",
        ),
        Tool(
            "get_movie_production_countries",
            "Look up in which countries a film was made.",
            _MOVIE,
            "- production_countries: The countries.",
        ),
        Tool(
            "get_movie_cast",
            "List the actors of a film with their roles, the leads first.",
            _MOVIE,
            "- cast: The first 10.",
        ),
        Tool(
            "get_movie_crew",
            "List directors, producers and writers of a film, then others who made it.",
            _MOVIE,
            "- crew: At least 10, if there are so many.",
        ),
        Tool("get_movie_keywords", "List what a film is about.", _MOVIE, "- keywords: The keywords."),
        Tool(
            "get_search_person",
            "Find a person by name.",
            {"person_name": Parameter(_NAME, "string", "The name.")},
            "- id, name: Of the best match; an empty list if there is none.",
        ),
        Tool(
            "get_person_details",
            "Look up a person's life.",
            _PERSON,
            "- name, biography, birthday, place_of_birth: What is known.",
        ),
        Tool(
            "get_person_cast", "List the films that a person played in.", _PERSON, "- cast: The first 10, with roles."
        ),
        Tool("get_person_crew", "List the films that a person made.", _PERSON, "- crew: The first 10, with jobs."),
        Tool(
            "get_person_external_ids",
            "Look up a person's ids elsewhere.",
            _PERSON,
            "- imdb_id, facebook_id, instagram_id, twitter_id: None where there is none.",
        ),
        Tool(
            "get_movie_alternative_titles",
            "List a film's titles in other countries.",
            _MOVIE,
            "- id, titles: Each with the country's ISO 3166-1 code.",
        ),
        Tool(
            "get_movie_translation",
            "Look up a film's description in other languages.",
            _MOVIE,
            "- id, translations: For the countries NL, CN, US, DE, RU and JP, where there is one.",
        ),
    ]
)

HINT = "Films and people are given by ids: search for them by name first, never make an id up."
EXAMPLE = """\
Goal: In which year did the film Paper Harbour come out? Answer with a number.
Thought: I need the id of the film before I can look anything up.

Action: get_search_movie with Action Input: {"movie_name": "Paper Harbour"}
Observation: [{'id': 4711, 'overview': 'A ferryman hides a stowaway.', 'title': 'Paper Harbour'}]
Thought: The id is 4711. The release date is among the details.

Action: get_movie_details with Action Input: {"movie_id": "4711"}
Observation: {'title': 'Paper Harbour', 'budget': 2000000, 'genres': [{'id': 7, 'name': 'Drama'}], 'revenue': 5100000, \
'vote_average': 7.175, 'release_date': '1998-03-08'}
Thought: It was released on 1998-03-08, so the year is 1998.

Action: finish with Action Input: {"answer": 1998}
Observation: 1998
"""
