"""What every benchmark is asked, prints and writes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Result:
    """One claim: `value` compared with `goal`; `at_least` says which way. Without a goal it is a measurement."""

    claim: str
    peer: str
    value: float
    unit: str
    goal: float | None
    at_least: bool = True
    detail: str = ""

    @property
    def holds(self) -> bool:
        """Whether the goal is met, if there is one."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def parser_for(name: str, description: str | None) -> argparse.ArgumentParser:
    """A parser of `python -m benchmarks.<name>`, whose help is the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, formatter_class=argparse.RawTextHelpFormatter
    )


def asked(parser: argparse.ArgumentParser, claims: Iterable[str]) -> argparse.Namespace:
    """The command line's options, and as `claims` those that it names: all when it names none."""
    known = list(claims)
    parser.add_argument("claims", nargs="*", metavar="claim", help=f"of {', '.join(known)} [all]")
    options = parser.parse_args()
    unknown = sorted(set(options.claims) - set(known))
    if unknown:
        parser.error(f"no claim {', '.join(unknown)}; there are {', '.join(known)}")
    options.claims = options.claims or known
    return options


def publish(name: str, results: Sequence[Result]) -> None:
    """Print the claims beside their goals and write `benchmarks/results/<name>.json`."""
    show(name, results)
    write(name, results)


def show(name: str, results: Sequence[Result]) -> None:
    """Print the claims beside their goals."""
    table = Table(title=name)
    for column in ("claim", "value", "goal", "holds", "against", "detail"):
        table.add_column(column)
    for result in results:
        goal = holds = "-"
        if result.goal is not None:
            goal = f"{'>=' if result.at_least else '<='} {result.goal:,g}"
            holds = "yes" if result.holds else "NO"
        value = f"{result.value:,.4g}" if result.value < 10_000 else f"{result.value:,.0f}"
        table.add_row(result.claim, f"{value} {result.unit}", goal, holds, result.peer, result.detail)
    Console(width=140).print(table)


def write(name: str, results: Sequence[Result]) -> None:
    """Write `benchmarks/results/<name>.json`."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    rows = [{k: v for k, v in asdict(r).items() if k != "at_least"} | {"holds": r.holds} for r in results]
    (folder / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
