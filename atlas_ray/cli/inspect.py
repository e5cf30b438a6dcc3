"""A run directory in the terminal: what is done, results, trajectories with their picks, episodes; nothing is written.

Every function makes something that rich prints. The overview reads manifests, `results.json` and the ends of journals,
so it can be made again every second of a run. Pages and comparisons are the report's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import made_from
from atlas_ray.errors import DataError, StoreError
from atlas_ray.evaluation.evaluate import cards
from atlas_ray.evaluation.ledger import counted
from atlas_ray.plugins import nearest
from atlas_ray.report.data import STAGES, VERIFICATION, in_order, read_models
from atlas_ray.report.results import result_table
from atlas_ray.report.tables import NONE, Cell, table, to_terminal
from atlas_ray.report.under_way import UnderWay
from atlas_ray.store import Store
from atlas_ray.trajectory import Episode, Message, Selection


class Inspected:
    """A run directory and what the overview has read of it already.

    Args:
        url: of the run directory.

    Raises:
        StoreError: there is none.
    """

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        if not self.store.exists("config.yaml"):
            raise StoreError(f"{url}: no run directory (it has no config.yaml); give one such as runs/quickstart")
        self.config: PipelineConfig = made_from(
            yaml.safe_load(self.store.read_text("config.yaml")) or {}, None, self.store.path("config.yaml")
        )
        self._under_way = UnderWay(self.store)

    # --- overview ------------------------------------------------------------------------------------------------
    def overview(self) -> RenderableType:
        """Stages, results, selections, and how far work is that has not finished."""
        parts: list[RenderableType] = [Text(f"{self.store.url}  model {self.config.model}", "bold"), self._stages()]
        if self.store.exists("selections"):
            parts.append(self._selections())
        parts += [Text(line) for line in self._under_way.lines()]
        models = read_models(self.config, self.store)
        if models:
            results = [model.results for model in models.values()]
            known = cards(self.config, sorted({env for found in results for env in found["environments"]}))
            parts.append(to_terminal(result_table(self.store, results, known)))
        return Group(*parts)

    def _stages(self) -> RenderableType:
        rows = [
            [stage, unit, str(facts["finished"]).replace("T", " ").removesuffix("Z"), _seconds(facts.get("seconds")),
             str(facts.get("errors") or NONE)]
            for stage in (*STAGES, VERIFICATION)
            for unit, facts in self.store.facts(stage).items()
        ]  # fmt: skip
        if not rows:
            return Text("nothing is finished yet")
        return to_terminal(table(("stage", "unit", "finished (UTC)", "took", "errors"), rows, words=(0, 1, 2)))

    def _selections(self) -> RenderableType:
        facts, logged = self.store.facts("select"), {}
        for row in self.store.journal("metrics", "select.jsonl"):
            logged[str(row["selection"])] = row
        rows: list[Sequence[str | Cell]] = []
        for name in in_order(self.store.names("selections"), list(facts)):
            said, log = facts.get(name, {}), logged.get(name, {})
            rows.append(
                [name, str(log.get("method", NONE)), str(said.get("trajectories", NONE)), _share(log, "share_of_steps"),
                 _share(log, "share_of_tokens"), str(said.get("error_rows", NONE)), _dollars(log.get("cost_usd"))]
            )  # fmt: skip
        header = ("selection", "method", "trajectories", "steps", "tokens", "error rows", "cost")
        return to_terminal(table(header, rows, words=(0, 1)))

    # --- trajectories --------------------------------------------------------------------------------------------
    def trajectories(self, env: str | None, limit: int) -> RenderableType:
        """A line for each of the first trajectories."""
        found = [each for each in self.store.read_trajectories() if env in (None, each.env)]
        if not found:
            raise DataError(f"{self.store.url}: no trajectory of {env!r}" if env else f"{self.store.url}: none")
        rows = [
            [each.trajectory_id, each.env, each.item_id, str(each.n_steps),
             NONE if each.reward is None else f"{each.reward:.2f}"]
            for each in found[:limit]
        ]  # fmt: skip
        caption = f"{len(rows)} of {len(found)}; one of them: --trajectory ID"
        return to_terminal(
            table(("trajectory", "environment", "item", "steps", "reward"), rows, words=(0, 1, 2), caption=caption)
        )

    def trajectory(self, identity: str, selections: Sequence[str]) -> RenderableType:
        """A trajectory with the steps that selections chose.

        Args:
            identity: its id.
            selections: by name; empty: all that the run has.
        """
        known = {each.trajectory_id: each for each in self.store.every_trajectory()}
        if identity not in known:
            raise DataError(f"{self.store.url}: no trajectory {identity!r}{_closest(identity, known)}")
        made = self.store.names("selections")
        for name in selections:
            if name not in made:
                raise DataError(f"{self.store.url}: no selection {name!r}{nearest(name, made)}")
        picks = {
            name: row
            for name in selections or made
            for row in self.store.iter_selections(name)
            if row.trajectory_id == identity
        }
        found = known[identity]
        head = Text(f"{identity}  {found.env} {found.item_id}, {found.n_steps} steps", "bold")
        notes = [Text(f"{name}: {_said(row)}") for name, row in picks.items()]
        return Group(head, *notes, *_turns(found.messages, picks))

    # --- episodes ------------------------------------------------------------------------------------------------
    def episodes(self, model: str, env: str | None, *, failed: bool, limit: int) -> RenderableType:
        """A line for each of the first episodes that a model's results count.

        Args:
            model: by its name in the tables.
            env: only of this environment.
            failed: only those that did not succeed.
            limit: lines at most.
        """
        found = [
            each for each in self._counted(model)
            if env in (None, each.env) and not (failed and each.success and each.error is None)
        ]  # fmt: skip
        rows = [
            [each.key, each.env, f"{each.split} {each.task}", str(each.seed), f"{each.score:.2f}", str(each.rounds),
             each.error or each.stop]
            for each in found[:limit]
        ]  # fmt: skip
        header = ("episode", "environment", "task", "seed", "score", "rounds", "end")
        caption = f"{len(rows)} of {len(found)}; one of them: --episodes {model} --episode KEY"
        return to_terminal(table(header, rows, words=(0, 1, 2, 6), caption=caption))

    def episode(self, model: str, key: str) -> RenderableType:
        """One episode of a model, turn by turn."""
        known = {each.key: each for each in self._counted(model)}
        if key not in known:
            raise DataError(f"{self.store.url}: {model} has no episode {key!r}{_closest(key, known)}")
        it = known[key]
        head = f"{model}  {it.env} {it.split} task {it.task}, seed {it.seed}: score {it.score:.2f}, {it.stop}"
        return Group(Text(head, "bold"), *([Text(it.error, "red")] if it.error else []), *_turns(it.messages, {}))

    def _counted(self, model: str) -> list[Episode]:
        known = self.store.names("evaluation")
        if model not in known:
            raise DataError(f"{self.store.url}: {model!r} has not been evaluated{nearest(model, known)}")
        return counted(self.store, model)


def _turns(messages: Sequence[Message], picks: dict[str, Selection]) -> Iterator[RenderableType]:
    """A conversation; the head of a step names the selections that chose it, with its scores."""
    for message in messages:
        if message.step is None:
            yield Text(message.content, "dim")
            continue
        chosen = [name for name, row in picks.items() if message.step in row.steps]
        scores = [f"{name} {row.scores[message.step]:.2f}" for name, row in picks.items()
                  if row.scores is not None and message.step < len(row.scores)]  # fmt: skip
        title = "  ".join([f"step {message.step}", *(f"[{name}]" for name in chosen), *scores])
        style = "bold green" if chosen else "cyan"
        yield Rule(Text(title, style), align="left", style=style)
        yield Text(message.content, style)


def _said(row: Selection) -> str:
    if row.error:
        return f"error: {row.error}"
    return f"steps {', '.join(map(str, row.steps)) or 'none'}" + (f"; {row.reason}" if row.reason else "")


def _closest(name: str, known: Collection[str]) -> str:
    """The end of a message about an unknown id: a few of many."""
    return nearest(name, sorted(known)[:5]) + (" ..." if len(known) > 5 else "") if known else ""


def _seconds(seconds: float | None) -> str:
    return NONE if seconds is None else f"{seconds:,.0f} s"


def _share(log: dict[str, Any], name: str) -> str:
    return NONE if log.get(name) is None else f"{100 * log[name]:.0f} %"


def _dollars(cost: float | None) -> str:
    return NONE if not cost else f"${cost:.2f}"
