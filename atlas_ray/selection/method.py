"""What a selection method is: a class in one file, registered under the entry-point group `atlas_ray.selection`.

A method says what it is called, which options it takes, which selections and models it is made from, and how it finds
the critical steps. A rule derives from `RuleMethod` and writes `choose`; a method with models of its own derives from
`Method` and writes `tables`. `--help`, the table in docs/selection.md, the report's colours, the order in which
selections are made and the keys that make them current all come from these classes. Neither ray nor torch is imported
here; a method imports what it needs where it needs it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from atlas_ray import plugins
from atlas_ray.config import PipelineConfig, SelectionSpec
from atlas_ray.errors import ConfigError
from atlas_ray.section import Section
from atlas_ray.trajectory import Selection, Trajectory

if TYPE_CHECKING:
    import pyarrow as pa

    from atlas_ray.roster import Roster
    from atlas_ray.selection.chunks import Plan
    from atlas_ray.store import Store

_PALETTE = (("#6d5bd0", "#b3a6ff"), ("#2f7d32", "#8bd48f"), ("#00838f", "#67d3df"), ("#795548", "#c9a492"))


class NoOptions(Section):
    """A method without options of its own."""


@dataclass(frozen=True)
class SelectionContext:
    """What a method may use of the run."""

    config: PipelineConfig
    store: Store
    roster: Roster
    """The models of the run, by name."""
    environment_versions: Mapping[str, str]
    """Of the environments of the trajectories: a hash of each one's rules, options and data."""


class Method(ABC):
    """A selection method, made for one named selection.

    Args:
        spec: name, ratio, seed and options of the selection.
    """

    summary: ClassVar[str]
    """One line for `--help` and the docs."""
    source: ClassVar[str]
    """Where it is described: a section of the paper, another paper, or `ours`."""
    needs: ClassVar[str] = "nothing"
    """What it costs, in words: `nothing`, `one question per trajectory`, `one prefill per trajectory`, `rollouts`."""
    version: ClassVar[int] = 1
    """Raised when the same inputs give other selections than before."""
    own_trajectories: ClassVar[bool] = False
    """Whether it judges trajectories that it makes itself (`prepare`) out of those of the run."""
    derived: ClassVar[bool] = False
    """Whether its overlap with other selections follows from its definition, so that comparing tells nothing."""
    phrase: ClassVar[str | None] = None
    """What its steps are called in a sentence, as `random steps`; None: `the steps that <selection> selected`."""
    color: ClassVar[tuple[str, str] | None] = None
    """In the report's charts, on light and on dark ground; None: one of a palette, by the name."""
    Options: ClassVar[type[Section]] = NoOptions
    rows_per_chunk: int = 1024
    """Trajectories that a worker gets at a time."""

    def __init__(self, spec: SelectionSpec) -> None:
        self.spec = spec

    @property
    def options(self) -> Any:
        """The selection's options, of class `Options`."""
        return self.spec.options

    def inputs(self) -> tuple[str, ...]:
        """Names of the selections that this one is made from; they are made first."""
        return ()

    def depends_on(self, context: SelectionContext) -> Any:
        """What determines the result besides options, seed, inputs and trajectories, as JSON: keys of models, say."""
        del context
        return None

    def prepare(self, context: SelectionContext, plan: Plan) -> list[Trajectory]:
        """The trajectories to judge, of a method with `own_trajectories`; the run stores them with the selection.

        Args:
            context: of the run.
            plan: the trajectories of the run that it may start from.
        """
        raise NotImplementedError(f"{type(self).__name__} has own_trajectories, so it must make them in `prepare`")

    @abstractmethod
    def tables(self, context: SelectionContext, plan: Plan, stack: ExitStack) -> Iterator[pa.Table]:
        """The selections of the planned trajectories, in their order, as `batches.output_table` makes them.

        Args:
            context: of the run.
            plan: which trajectories; at least one chunk.
            stack: closes what must live until the last table is read.
        """

    def facts(self) -> dict[str, Any]:
        """What else the finished run has to say, for `metrics/select.jsonl`."""
        return {}

    def row(self, trajectory: Trajectory, **fields: Any) -> Selection:
        """A selection of this method: `fields` are those of `Selection` that the method decides."""
        return Selection(
            trajectory_id=trajectory.trajectory_id, method=self.spec.method,
            **({"ratio": self.spec.ratio} | fields),
        )  # fmt: skip


class RuleMethod(Method):
    """A method that asks nobody: a pure rule, which runs on Ray Data as it is."""

    @abstractmethod
    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        """The critical steps of one trajectory; the same in any process.

        Args:
            trajectory: what to judge; it may have no steps.
            inputs: its rows in the selections that `inputs()` names, which may be error rows.
        """

    def tables(self, context: SelectionContext, plan: Plan, stack: ExitStack) -> Iterator[pa.Table]:
        """The rule over all chunks, in parallel."""
        del stack
        from atlas_ray.selection.batches import rule_tables

        return rule_tables(self, context.store, plan)


def names() -> list[str]:
    """The names of all selection methods, sorted."""
    return plugins.names(plugins.SELECTION_METHODS)


def method_class(name: str) -> type[Method]:
    """A selection method's class.

    Raises:
        ConfigError: there is no such method, or what its package registers is none.
    """
    found = plugins.load(plugins.SELECTION_METHODS, name)
    if not (isinstance(found, type) and issubclass(found, Method)):
        value = plugins.value_of(plugins.SELECTION_METHODS, name)
        raise ConfigError(f"selection method {name!r}: {value} is no class derived from atlas_ray.selection.Method")
    return found


def make(spec: SelectionSpec) -> Method:
    """The method of a selection."""
    return method_class(spec.method)(spec)


def color_of(method: str) -> tuple[str, str]:
    """A method's colours on light and on dark ground; an unknown method's come from the palette."""
    own = method_class(method).color if method in names() else None
    return own or _PALETTE[sum(method.encode()) % len(_PALETTE)]


def phrase_of(selection: str, method: str, filters: Sequence[str] = ()) -> str:
    """What a selection's steps are called in a sentence; a selection with a name of its own is named too.

    Args:
        selection: its name.
        method: its method's name.
        filters: the names of its filters, which are named with a phrase of the method's own.
    """
    own = method_class(method).phrase if method in names() else None
    if own is None:
        return f"the steps that {selection} selected"
    if filters:
        own += f" but {' and '.join(filters)}"
    return own if selection == method else f"{own} ({selection})"


def in_order(config: PipelineConfig, wanted: Sequence[str]) -> list[Method]:
    """The named selections and all that they are made from, each after its inputs.

    Raises:
        ConfigError: a selection is unknown, made from itself, or from one of other trajectories.
    """
    ordered: dict[str, Method] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            circle = " <- ".join([*above[above.index(name) :], name])
            raise ConfigError(f"select: {circle} goes in a circle; change complement_of or weights of one of them")
        if name in ordered:
            return
        method = make(config.selection(name))
        for part in method.inputs():
            visit(part, (*above, name))
            if ordered[part].own_trajectories:
                raise ConfigError(
                    f"select: {name} is made from {part}, whose method {ordered[part].spec.method!r} judges "
                    f"trajectories of its own, so there is nothing to compare; name another selection in {name}"
                )
        ordered[name] = method

    for name in wanted:
        visit(name, ())
    return list(ordered.values())


def describe() -> str:
    """The methods as a table in Markdown, as docs/selection.md has it."""
    lines = ["| method | selects | source | needs |", "| --- | --- | --- | --- |"]
    for name in names():
        found = method_class(name)
        lines.append(f"| `{name}` | {found.summary} | {found.source} | {found.needs} |")
    return "\n".join(lines) + "\n"
