"""Academia's tasks: questions made from templates, with answers computed from the generated network.

How the experts answer the templates is in `expert.py`.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from envs.academia import expert
from envs.academia.network import generated
from envs.tools.tasks import Answer, Task, TaskSet, generate, template

_YES_NO = "Answer 'Yes' or 'No'."
_LIST = "Answer with an array of"
_FACTS = {
    "year": "When was the paper '{0}' published? Answer with a year, as a number.",
    "venue": "Where was the paper '{0}' published? Answer with the name of the venue.",
    "n_citation": "How many citations does the paper '{0}' have? Answer with a number.",
}
_MOST = 7
"""Collaborators or references at most, where each of them takes a call."""


@cache
def tasks() -> TaskSet:
    """The generated tasks: 200 for training, 20 for tests."""
    return generate("academia", TEMPLATES)


@cache
def _titles() -> list[str]:
    return list(generated().papers)


@cache
def _names() -> list[str]:
    return [name for name in generated().authors if generated().authors.degree(name)]


def _of(title: str) -> dict[str, Any]:
    paper: dict[str, Any] = generated().papers.nodes[title]
    return paper


def _org(name: str) -> str:
    org: str = generated().authors.nodes[name]["org"]
    return org


def _related(rng: random.Random, title: str) -> str:
    """Another paper: by one of its authors, from its venue, or any."""
    kind = rng.randrange(3)
    if kind == 0:
        others = [t for t in _titles() if set(_of(t)["authors"]) & set(_of(title)["authors"])]
    elif kind == 1:
        here = (_of(title)["venue"], _of(title)["year"])
        others = [t for t in _titles() if (_of(t)["venue"], _of(t)["year"]) == here]
    else:
        others = _titles()
    return rng.choice(others)


def _pair(rng: random.Random) -> tuple[str, str, dict[str, Any], dict[str, Any]] | None:
    one = rng.choice(_titles())
    other = _related(rng, one)
    return None if one == other else (one, other, _of(one), _of(other))


def _about_pair(question: str, pair: tuple[Any, ...], answer: Any) -> Task:
    return Task(question.format(*pair), Answer(answer), parameters={"titles": [pair[0], pair[1]]})


def _word(yes: bool) -> str:
    return "Yes" if yes else "No"


def _fact(rng: random.Random) -> Task:
    title, field = rng.choice(_titles()), rng.choice(sorted(_FACTS))
    parameters = {"title": title, "field": field}
    return Task(_FACTS[field].format(title), Answer(_of(title)[field]), parameters=parameters)


def _authors(rng: random.Random) -> Task:
    title = rng.choice(_titles())
    return Task(
        f"Who wrote the paper '{title}'? {_LIST} names.", Answer(_of(title)["authors"]), parameters={"title": title}
    )


def _organization(rng: random.Random) -> Task:
    name = rng.choice(_names())
    goal = f"At which organization is {name}? Answer with its name."
    return Task(goal, Answer(_org(name)), parameters={"name": name})


def _same_organization(rng: random.Random) -> Task | None:
    one, other = rng.choice(_names()), rng.choice(_names())
    if rng.random() < 0.5:
        other = rng.choice(list(generated().authors.neighbors(one)))
    if one == other:
        return None
    goal = f"Are {one} and {other} at the same organization? {_YES_NO}"
    return Task(goal, Answer(_word(_org(one) == _org(other))), parameters={"names": [one, other]})


def _more_cited(rng: random.Random) -> Task | None:
    pair = _pair(rng)
    if pair is None or pair[2]["n_citation"] == pair[3]["n_citation"]:
        return None
    best = pair[0] if pair[2]["n_citation"] > pair[3]["n_citation"] else pair[1]
    return _about_pair("Which paper has more citations, '{0}' or '{1}'? Answer with its title.", pair, best)


def _published_first(rng: random.Random) -> Task | None:
    pair = _pair(rng)
    if pair is None or pair[2]["year"] == pair[3]["year"]:
        return None
    best = pair[0] if pair[2]["year"] < pair[3]["year"] else pair[1]
    return _about_pair("Which paper was published earlier, '{0}' or '{1}'? Answer with its title.", pair, best)


def _same_venue(rng: random.Random) -> Task | None:
    pair = _pair(rng)
    if pair is None:
        return None
    same = all(pair[2][field] == pair[3][field] for field in ("venue", "year"))
    return _about_pair(f"Are '{{0}}' and '{{1}}' from the same venue in the same year? {_YES_NO}", pair, _word(same))


def _both_conference(rng: random.Random) -> Task | None:
    pair = _pair(rng)
    if pair is None:
        return None
    both = pair[2]["doc_type"] == pair[3]["doc_type"] == "Conference"
    return _about_pair(f"Are '{{0}}' and '{{1}}' both conference papers? {_YES_NO}", pair, _word(both))


def _common_authors(rng: random.Random) -> Task | None:
    pair = _pair(rng)
    if pair is None:
        return None
    shared = bool(set(pair[2]["authors"]) & set(pair[3]["authors"]))
    return _about_pair(f"Have '{{0}}' and '{{1}}' an author in common? {_YES_NO}", pair, _word(shared))


def _common_keywords(rng: random.Random) -> Task | None:
    pair = _pair(rng)
    shared = sorted(set(pair[2]["keywords"]) & set(pair[3]["keywords"])) if pair else []
    if pair is None or not shared:
        return None
    return _about_pair(f"Which keywords do '{{0}}' and '{{1}}' have in common? {_LIST} keywords.", pair, shared)


def _n_collaborators(rng: random.Random) -> Task:
    name = rng.choice(_names())
    goal = f"With how many people has {name} written papers in this network? Answer with a number."
    return Task(goal, Answer(int(generated().authors.degree(name))), parameters={"name": name})


def _mutual_collaborators(rng: random.Random) -> Task:
    one = rng.choice(_names())
    near = generated().authors
    other = rng.choice(list(near.neighbors(one)))
    n = sum(1 for name in near.neighbors(one) if near.has_edge(name, other))
    goal = f"How many collaborators have {one} and {other} in common? Answer with a number."
    return Task(goal, Answer(n), parameters={"names": [one, other]})


def _cites(rng: random.Random) -> Task | None:
    one = rng.choice(_titles())
    cited = list(generated().papers.successors(one))
    other = rng.choice(cited) if cited and rng.random() < 0.5 else rng.choice(_titles())
    if one == other or not cited:
        return None
    goal = f"Does the paper '{one}' cite '{other}'? {_YES_NO}"
    return Task(goal, Answer(_word(other in cited)), parameters={"titles": [one, other]})


def _joint_citations(rng: random.Random) -> Task | None:
    one = rng.choice(_names())
    other = rng.choice(list(generated().authors.neighbors(one)))
    papers = generated().authors.edges[one, other]["papers"]
    if len(papers) > _MOST:
        return None
    goal = f"How many citations have the papers that {one} and {other} wrote together, in sum? Answer with a number."
    total = sum(_of(title)["n_citation"] for title in papers)
    return Task(goal, Answer(total), parameters={"names": [one, other]})


def _few_neighbours(rng: random.Random) -> tuple[str, list[str]] | None:
    name = rng.choice(_names())
    found = list(generated().authors.neighbors(name))
    return (name, found) if 2 <= len(found) <= _MOST else None


def _closest_collaborator(rng: random.Random) -> Task | None:
    found = _few_neighbours(rng)
    if found is None:
        return None
    name, others = found
    counts = {other: len(generated().authors.edges[name, other]["papers"]) for other in others}
    best = max(counts, key=lambda other: counts[other])
    if list(counts.values()).count(counts[best]) > 1:
        return None
    goal = f"With whom has {name} written the most papers? Answer with the name."
    return Task(goal, Answer(best), parameters={"name": name})


def _colleagues(rng: random.Random) -> Task | None:
    found = _few_neighbours(rng)
    same = [other for other in found[1] if _org(other) == _org(found[0])] if found else []
    if found is None or not same or len(same) == len(found[1]):
        return None
    goal = f"Which collaborators of {found[0]} are at the same organization as {found[0]}? {_LIST} names."
    return Task(goal, Answer(same), parameters={"name": found[0]})


def _most_cited_reference(rng: random.Random) -> Task | None:
    title = rng.choice(_titles())
    counts = {other: _of(other)["n_citation"] for other in generated().papers.successors(title)}
    if not 2 <= len(counts) <= _MOST or list(counts.values()).count(max(counts.values())) > 1:
        return None
    best = max(counts, key=lambda other: counts[other])
    goal = f"Of the papers that '{title}' cites, which has the most citations? Answer with its title."
    return Task(goal, Answer(best), parameters={"title": title})


def _organizations(rng: random.Random) -> Task | None:
    title = rng.choice(_titles())
    orgs = sorted({_org(name) for name in _of(title)["authors"]})
    if len(orgs) < 2:
        return None
    goal = f"Which organizations are the authors of '{title}' from? {_LIST} names, each once."
    return Task(goal, Answer(orgs), parameters={"title": title})


TEMPLATES = (
    template(_fact, expert.fact, easy=True),
    template(_authors, expert.authors, easy=True),
    template(_organization, expert.organization, easy=True),
    template(_same_organization, expert.same_organization, easy=True),
    template(_more_cited, expert.more_cited, easy=True),
    template(_published_first, expert.published_first, easy=True),
    template(_same_venue, expert.same_venue, easy=True),
    template(_both_conference, expert.both_conference, easy=True),
    template(_common_authors, expert.common_authors, easy=True),
    template(_common_keywords, expert.common_keywords, easy=True),
    template(_n_collaborators, expert.n_collaborators, easy=True),
    template(_mutual_collaborators, expert.mutual_collaborators, easy=True),
    template(_cites, expert.cites, easy=True),
    template(_joint_citations, expert.joint_citations),
    template(_closest_collaborator, expert.closest_collaborator),
    template(_colleagues, expert.colleagues),
    template(_most_cited_reference, expert.most_cited_reference),
    template(_organizations, expert.organizations),
)
