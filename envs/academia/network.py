"""A citation network of papers that cite papers and of co-authors: generated, or read from a file.

It is built once per process and shared, so nobody may change it. Files are those of the Citation Network Dataset (DBLP,
versions 10 to 12): one JSON object per line, or one array of objects.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

import networkx as nx

from atlas_ray.errors import DataError
from envs.academia import words
from envs.tools import names

N_PAPERS = 3_200
N_LABS = 220
AUTHORS_PER_LAB = 8
_SEED = "atlas citation network 1"


@dataclass(frozen=True)
class Paper:
    """A paper as it is read; authors and references by id."""

    id: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    n_citation: int
    keywords: tuple[str, ...]
    doc_type: str
    abstract: str
    references: tuple[str, ...]


class Network:
    """The two graphs, with titles and names as nodes.

    Where several papers have one title, or several authors one name, those after the first are called "..._2", "..._3"
    and so on, as upstream calls them.

    Args:
        papers: In the order in which names are given.
        people: Author id -> name and organization.
    """

    def __init__(self, papers: Iterable[Paper], people: dict[str, tuple[str, str]]) -> None:
        papers = list(papers)
        titles, called = _distinct({p.id: p.title for p in papers}), _distinct({i: n for i, (n, _) in people.items()})
        self.papers: nx.DiGraph[str] = nx.DiGraph()
        self.authors: nx.Graph[str] = nx.Graph()
        for key, (_, org) in people.items():
            self.authors.add_node(called[key], name=called[key], org=org)
        for paper in papers:
            writers = [called[key] for key in paper.authors]
            self.papers.add_node(
                titles[paper.id], authors=writers, year=paper.year, venue=paper.venue, n_citation=paper.n_citation,
                keywords=list(paper.keywords), doc_type=paper.doc_type, abstract=paper.abstract,
            )  # fmt: skip
            for one, other in combinations(dict.fromkeys(writers), 2):
                if not self.authors.has_edge(one, other):
                    self.authors.add_edge(one, other, papers=[])
                self.authors.edges[one, other]["papers"].append(titles[paper.id])
        for paper in papers:
            for key in paper.references:
                if key in titles:
                    self.papers.add_edge(titles[paper.id], titles[key])


def _distinct(labels: dict[str, str]) -> dict[str, str]:
    seen: Counter[str] = Counter()
    taken = set(labels.values())
    distinct = {}
    for key, label in labels.items():
        seen[label] += 1
        name = label
        while seen[label] > 1 and name in taken:
            name = f"{label}_{seen[label]}"
            seen[label] += name in taken
        taken.add(name)
        distinct[key] = name
    return distinct


@cache
def generated() -> Network:
    """The invented network: 3,200 papers by 1,760 authors, the same in any process."""
    rng = random.Random(_SEED)
    fields = sorted(words.FIELDS)
    everyone = rng.sample([f"{a} {b}" for a in names.FIRST for b in names.LAST], N_LABS * AUTHORS_PER_LAB)
    people: dict[str, tuple[str, str]] = {}
    labs = []
    for number in range(N_LABS):
        home = rng.choice(words.ORGANIZATIONS)
        lab = everyone[number * AUTHORS_PER_LAB : (number + 1) * AUTHORS_PER_LAB]
        labs.append(lab)
        people.update({name: (name, home if rng.random() < 0.7 else rng.choice(words.ORGANIZATIONS)) for name in lab})
    drafts = [(rng.randrange(2000, 2024), rng.randrange(N_LABS)) for _ in range(N_PAPERS)]
    drafts.sort()
    earlier: dict[str, list[str]] = {field: [] for field in fields}
    used: set[str] = set()
    papers = []
    for number, (year, lab_number) in enumerate(drafts):
        field = fields[lab_number % len(fields)]
        own = words.FIELDS[field]
        title = _title(rng, own, used)
        writers = rng.sample(labs[lab_number], rng.choice((1, 2, 2, 3, 3, 4)))
        if rng.random() < 0.08:
            writers.append(rng.choice(labs[(lab_number + len(fields)) % N_LABS]))
        pool = earlier[field]
        cited = rng.sample(pool, min(len(pool), rng.randrange(0, 8)))
        keywords = sorted(rng.sample(own["keywords"], rng.randrange(2, 5)))
        venue = rng.choice(own["venues"])
        abstract = f"{rng.choice(words.OPENINGS)} {title.split(' for ')[-1].lower()}. {rng.choice(words.CLAIMS)}"
        papers.append(
            Paper(
                str(number), title, tuple(writers), year, venue, 0, tuple(keywords),
                "Journal" if "Journal" in venue or "Transactions" in venue else "Conference", abstract, tuple(cited),
            )
        )  # fmt: skip
        pool.append(str(number))
    counted = Counter(key for paper in papers for key in paper.references)
    outside = {paper.id: int(rng.expovariate(0.15)) for paper in papers}
    return Network(
        (Paper(**{**vars(paper), "n_citation": counted[paper.id] + outside[paper.id]}) for paper in papers), people
    )


def _title(rng: random.Random, own: dict[str, list[str]], used: set[str]) -> str:
    while True:
        title = f"{rng.choice(words.ADJECTIVES)} {rng.choice(own['methods'])} for {rng.choice(own['problems'])}"
        if title not in used:
            used.add(title)
            return title


@lru_cache(maxsize=2)
def read(path: str) -> Network:
    """The network of a file; kept for the process.

    Raises:
        DataError: It cannot be read, or a record lacks what it needs; with line and field.
    """
    people: dict[str, tuple[str, str]] = {}
    papers = [_paper(record, where, people) for record, where in _records(Path(path))]
    if not papers:
        raise DataError(f"{path}: holds no paper; give a file of the Citation Network Dataset, version 10 to 12")
    return Network(papers, people)


def _records(path: Path) -> Iterator[tuple[Any, str]]:
    """Records with where they stand; a line may begin or end with what makes the lines an array."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                text = line.strip().strip(",")
                if text in ("", "[", "]"):
                    continue
                try:
                    value = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}: is no JSON object ({error})") from None
                for record in value if isinstance(value, list) else [value]:
                    yield record, f"{path}, line {number}"
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _paper(record: Any, where: str, people: dict[str, tuple[str, str]]) -> Paper:
    """One record; `people` takes up its authors."""
    if not isinstance(record, dict):
        raise DataError(f"{where}: is no object; a paper has at least id, title and year")
    for name in ("id", "title"):
        if not isinstance(record.get(name), str | int) or record[name] == "":
            raise DataError(f"{where}: field {name} is missing")
    try:
        year, n_citation = int(record.get("year") or 0), int(record.get("n_citation") or 0)
        writers = []
        for author in record.get("authors") or []:
            about = author if isinstance(author, dict) else {"name": author}
            key = str(about.get("id") or about["name"])
            people.setdefault(key, (str(about["name"]), str(about.get("org") or "")))
            writers.append(key)
        references = tuple(str(key) for key in record.get("references") or ())
        venue = record.get("venue") or ""
        keywords = record.get("keywords") or [topic["name"] for topic in record.get("fos") or ()]
        abstract = record.get("abstract") or _unfolded(record.get("indexed_abstract") or {})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{where}: a field is not as the Citation Network Dataset has it ({error!r})") from None
    return Paper(
        id=str(record["id"]), title=str(record["title"]), authors=tuple(writers), year=year,
        venue=str(venue.get("raw", "")) if isinstance(venue, dict) else str(venue), n_citation=n_citation,
        keywords=tuple(map(str, keywords)), doc_type=str(record.get("doc_type") or ""), abstract=str(abstract),
        references=references,
    )  # fmt: skip


def _unfolded(index: dict[str, Any]) -> str:
    """The text of an abstract that is stored as word -> positions."""
    words = {position: word for word, found in index.get("InvertedIndex", {}).items() for position in found}
    return " ".join(words[position] for position in sorted(words))
