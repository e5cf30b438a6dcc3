"""PDDL problems: those of the four shipped domains, or a domain and problems by path.

How the shipped problems were made is in `generate.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from atlas_ray.environments.contract import Split
from atlas_ray.errors import ConfigError
from envs.pddl.parser import Domain, Problem, read_domain, read_problem, read_text
from envs.pddl.strips import Task

DOMAINS = ("gripper", "blocksworld", "barman", "tyreworld")
_FOLDER = Path(__file__).parent
SHIPPED = _FOLDER / "problems.jsonl"


@dataclass(frozen=True, eq=False)
class Entry:
    """A problem to play, and a plan for it, as "name object ..." a step, where one is known."""

    domain: Domain
    problem: Problem
    plan: tuple[str, ...] = ()


@cache
def own_domain(name: str) -> Domain:
    """One of the four domains."""
    path = _FOLDER / "domains" / f"{name}.pddl"
    return read_domain(path.read_text(encoding="utf-8"), path.name)


@cache
def _shipped() -> tuple[dict[str, object], ...]:
    return tuple(json.loads(line) for line in SHIPPED.read_text(encoding="utf-8").splitlines())


@cache
def shipped(domains: tuple[str, ...], split: Split) -> tuple[Entry, ...]:
    """The shipped problems of some domains, which take turns, so that the first n are a fair sample."""
    by_domain: list[list[Entry]] = []
    for name in domains:
        domain = own_domain(name)
        rows = [row for row in _shipped() if (row["domain"], row["split"]) == (name, split)]
        by_domain.append([_entry(domain, row) for row in rows])
    return tuple(entry for turn in zip(*by_domain, strict=True) for entry in turn)


def _entry(domain: Domain, row: dict[str, object]) -> Entry:
    problem, plan = row["problem"], row["plan"]
    assert isinstance(problem, str)
    assert isinstance(plan, list)
    return Entry(domain, read_problem(problem, SHIPPED.name, domain), tuple(plan))


@cache
def task_of(entry: Entry) -> Task:
    """The problem with its ground actions, which are made once per process."""
    return Task(entry.domain, entry.problem)


def from_paths(domain: str | Path, problems: str | Path) -> tuple[Entry, ...]:
    """Problems of a domain by path; a directory gives its .pddl files, sorted, but for the domain's own.

    Raises:
        ConfigError: A path is missing or has no problems.
        DataError: A file is not PDDL of the supported subset; the text names file and line.
    """
    domain_path, path = Path(domain), Path(problems)
    for one in (domain_path, path):
        if not one.exists():
            raise ConfigError(f"pddl: {one} does not exist; give domain=FILE and problems=FILE or DIRECTORY")
    known = read_domain(read_text(domain_path), str(domain_path))
    files = [path]
    if path.is_dir():
        files = sorted(one for one in path.glob("*.pddl") if not one.samefile(domain_path))
        if not files:
            raise ConfigError(f"pddl: {path} has no problem files; they end in .pddl")
    return tuple(Entry(known, read_problem(read_text(one), str(one), known)) for one in files)


def check_domains(domains: Sequence[str] | None) -> tuple[str, ...]:
    """The chosen domains in the order given; all four for None.

    Raises:
        ConfigError: Not a list of their names, empty, or a repeat.
    """
    if domains is None:
        return DOMAINS
    valid = isinstance(domains, Sequence) and not isinstance(domains, str) and len(domains) > 0
    if not valid or any(name not in DOMAINS for name in domains) or len(set(domains)) < len(domains):
        raise ConfigError(f"pddl: domains is {domains!r}; give a list of {', '.join(DOMAINS)}, each once")
    return tuple(domains)
