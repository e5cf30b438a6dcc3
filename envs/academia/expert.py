"""How Academia's questions are answered with its tools alone: one play for each template of `tasks.py`."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from envs.tools.tasks import Play, Step, Task, finish, use

Found = Generator[Step, Any, Any]


def _load(name: str, why: str = "") -> Found:
    why = why or f"The question is about {'papers' if name == 'PaperNet' else 'authors'}."
    yield use(f"{why} I load {name} before I can ask it.", f"load{name}")


def _paper(title: str, why: str) -> Found:
    return (yield use(f"{why} I look up '{title}'.", "paperNodeCheck", node=title))


def _author(name: str, why: str) -> Found:
    return (yield use(f"{why} I look up {name}.", "authorNodeCheck", node=name))


def _neighbours(graph: str, node: str, why: str) -> Found:
    return (yield use(why, "neighbourCheck", graph=graph, node=node))


def _both(task: Task, what: str) -> Found:
    """The two papers of a comparison."""
    one, other = task.parameters["titles"]
    yield from _load("PaperNet")
    first = yield from _paper(one, f"I need the {what} of both papers.")
    second = yield from _paper(other, f"The first has {what} {_value(first, what)}. Now the second:")
    return first, second


def _value(paper: dict[str, Any], what: str) -> Any:
    field = {"citations": "n_citation", "type": "doc_type"}.get(what, what)
    return ", ".join(paper[field]) if isinstance(paper[field], list) else paper[field]


def fact(task: Task) -> Play:
    title, field = task.parameters["title"], task.parameters["field"]
    yield from _load("PaperNet")
    value = (yield from _paper(title, f"The {field} is among what is known of a paper."))[field]
    yield finish(f"The {field} of the paper is {value}.", value)


def authors(task: Task) -> Play:
    title = task.parameters["title"]
    yield from _load("PaperNet")
    names = (yield from _paper(title, "A paper's entry names its authors."))["authors"]
    yield finish(f"The authors are {', '.join(names)}.", names)


def organization(task: Task) -> Play:
    name = task.parameters["name"]
    yield from _load("AuthorNet")
    org = (yield from _author(name, "An author's entry has the organization."))["org"]
    yield finish(f"{name} is at {org}.", org)


def same_organization(task: Task) -> Play:
    one, other = task.parameters["names"]
    yield from _load("AuthorNet")
    first = (yield from _author(one, "I compare two organizations."))["org"]
    second = (yield from _author(other, f"{one} is at {first}. Now"))["org"]
    word = "Yes" if first == second else "No"
    yield finish(f"They are at {first} and {second}, so the answer is {word}.", word)


def more_cited(task: Task) -> Play:
    first, second = yield from _both(task, "citations")
    one, other = task.parameters["titles"]
    best = one if first["n_citation"] > second["n_citation"] else other
    yield finish(f"They have {first['n_citation']} and {second['n_citation']} citations: it is '{best}'.", best)


def published_first(task: Task) -> Play:
    first, second = yield from _both(task, "year")
    one, other = task.parameters["titles"]
    best = one if first["year"] < second["year"] else other
    yield finish(f"They are of {first['year']} and {second['year']}, so '{best}' came first.", best)


def same_venue(task: Task) -> Play:
    first, second = yield from _both(task, "venue")
    word = "Yes" if (first["venue"], first["year"]) == (second["venue"], second["year"]) else "No"
    thought = f"One is from {first['venue']} in {first['year']}, the other from {second['venue']} in {second['year']}"
    yield finish(f"{thought}, so the answer is {word}.", word)


def both_conference(task: Task) -> Play:
    first, second = yield from _both(task, "type")
    types = (first["doc_type"], second["doc_type"])
    word = "Yes" if types == ("Conference", "Conference") else "No"
    yield finish(f"Their types are {types[0]} and {types[1]}, so the answer is {word}.", word)


def common_authors(task: Task) -> Play:
    first, second = yield from _both(task, "authors")
    word = "Yes" if set(first["authors"]) & set(second["authors"]) else "No"
    yield finish(f"The second is by {', '.join(second['authors'])}, so the answer is {word}.", word)


def common_keywords(task: Task) -> Play:
    first, second = yield from _both(task, "keywords")
    both = [word for word in first["keywords"] if word in second["keywords"]]
    yield finish(f"The second has {', '.join(second['keywords'])}; in both are {', '.join(both)}.", both)


def n_collaborators(task: Task) -> Play:
    name = task.parameters["name"]
    yield from _load("AuthorNet")
    found = yield from _neighbours("AuthorNet", name, f"The neighbours of {name} are the collaborators.")
    yield finish(f"They are {', '.join(found)}, {len(found)} in all.", len(found))


def mutual_collaborators(task: Task) -> Play:
    one, other = task.parameters["names"]
    yield from _load("AuthorNet")
    first = yield from _neighbours("AuthorNet", one, f"I list the collaborators of {one}.")
    second = yield from _neighbours("AuthorNet", other, f"Now those of {other}.")
    both = [name for name in first if name in second]
    yield finish(f"In both lists are {', '.join(both) or 'none'}, so the number is {len(both)}.", len(both))


def cites(task: Task) -> Play:
    one, other = task.parameters["titles"]
    yield from _load("PaperNet")
    found = yield from _neighbours("PaperNet", one, f"The neighbours of '{one}' are the papers it cites.")
    word = "Yes" if other in found else "No"
    yield finish(f"It cites {len(found)} papers; '{other}' is {'' if other in found else 'not '}one of them.", word)


def joint_citations(task: Task) -> Play:
    one, other = task.parameters["names"]
    yield from _load("AuthorNet")
    thought = f"The edge between {one} and {other} lists what they wrote together."
    papers = (yield use(thought, "authorEdgeCheck", node1=one, node2=other))["papers"]
    yield from _load("PaperNet", f"They wrote {len(papers)} papers together, whose citations PaperNet has.")
    counts: list[int] = []
    for title in papers:
        paper = yield from _paper(title, f"I have the citations of {len(counts)} of {len(papers)} papers.")
        counts.append(paper["n_citation"])
    yield finish(f"The sum of {', '.join(map(str, counts))} is {sum(counts)}.", sum(counts))


def closest_collaborator(task: Task) -> Play:
    name = task.parameters["name"]
    yield from _load("AuthorNet")
    found = yield from _neighbours("AuthorNet", name, f"First I need the collaborators of {name}.")
    weights: dict[str, int] = {}
    for other in found:
        thought = f"{len(weights)} of {len(found)} are counted. I ask what {name} wrote with {other}."
        weights[other] = (yield use(thought, "authorEdgeCheck", node1=name, node2=other))["weight"]
    best = max(weights, key=lambda other: weights[other])
    yield finish(f"Most papers, {weights[best]}, were written with {best}.", best)


def colleagues(task: Task) -> Play:
    name = task.parameters["name"]
    yield from _load("AuthorNet")
    home = (yield from _author(name, "I need the organization first."))["org"]
    found = yield from _neighbours("AuthorNet", name, f"{name} is at {home}. Now I list the collaborators.")
    same: list[str] = []
    for number, other in enumerate(found):
        org = (yield from _author(other, f"{number} of {len(found)} collaborators are checked."))["org"]
        same += [other] * (org == home)
    yield finish(f"At {home} too are {', '.join(same)}.", same)


def most_cited_reference(task: Task) -> Play:
    title = task.parameters["title"]
    yield from _load("PaperNet")
    found = yield from _neighbours("PaperNet", title, "The neighbours of a paper are those that it cites.")
    counts: dict[str, int] = {}
    for other in found:
        paper = yield from _paper(other, f"{len(counts)} of {len(found)} cited papers are known.")
        counts[other] = paper["n_citation"]
    best = max(counts, key=lambda other: counts[other])
    yield finish(f"With {counts[best]} citations, '{best}' has the most.", best)


def organizations(task: Task) -> Play:
    title = task.parameters["title"]
    yield from _load("PaperNet")
    names = (yield from _paper(title, "First I need the authors."))["authors"]
    yield from _load("AuthorNet", f"The authors are {', '.join(names)}; their organizations are in AuthorNet.")
    orgs: dict[str, None] = {}
    for number, name in enumerate(names):
        orgs[(yield from _author(name, f"{number} of {len(names)} authors are looked up."))["org"]] = None
    yield finish(f"The authors are from {', '.join(orgs)}.", list(orgs))
