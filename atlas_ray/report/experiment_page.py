"""The page of an experiment: what it found in sentences, tables and charts, as Markdown and as one HTML file.

Figures come from `experiment_comparisons.py`. The HTML asks no host for anything and has no script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

from atlas_ray.report.content import PageBlock, PageSection
from atlas_ray.report.experiment_charts import Forest, Key, LineChart, Scatter, forests, key_of, line_charts, scatter
from atlas_ray.report.experiment_comparisons import ALL, Arm, Compared, success_of
from atlas_ray.report.tables import NONE, Cell, Table, escape, table, to_markdown
from atlas_ray.report.text import count, joined, p_text, percent

_TONES: dict[str, Literal["good", "bad", "soft"]] = {"better": "good", "worse": "bad", "not established": "soft"}


@dataclass(frozen=True)
class Page:
    """Everything that both forms of the page say and draw."""

    title: str
    question: str
    headline: list[str]
    notes: list[str]
    success: Table
    """By combination and selection."""
    sections: list[PageSection]
    curves: dict[str, list[LineChart]]
    """Success over rounds, by scope; the first is the widest."""
    forests: list[Forest]
    scatters: list[Scatter]
    keys: list[Key]
    """Of the charts, each once."""
    command: str


def page(
    settings: Mapping[str, Any],
    rows: Sequence[dict[str, Any]],
    arms: Sequence[Arm],
    compared: Sequence[Compared],
    missing: Sequence[str],
    power: str,
    command: str,
) -> Page:
    """Prepare the page.

    Args:
        settings: the experiment's file: `title`, `question`, `references`.
        rows: of `experiment.json`.
        arms: of the rows.
        compared: their comparisons.
        missing: what the tables lack, a line each.
        power: what the design can find, in words.
        command: that runs the experiment again.
    """
    caps: dict[str, int] = {}
    for row in rows:
        longest = max((point["rounds"] for point in row["curve"]), default=row["within"] or 1)
        caps[row["environment"]] = max(caps.get(row["environment"], 1), longest)
    scope = ALL if len(caps) > 1 else next(iter(caps), ALL)
    scopes = ({ALL: max(caps.values())} if len(caps) > 1 else {}) | dict(sorted(caps.items()))
    references = [name for name in settings["references"] if any(arm.name == name for arm in arms)]
    causes = (
        scatter(arms, scope, "Precision of the selection", "precision against the truth, %",
                Arm.precision),
        scatter(arms, scope, "Labelled tokens", "labelled tokens of a training",
                lambda arm: arm.per_training("labelled_tokens")),
        scatter(arms, scope, "Seconds of training", "seconds of a training",
                lambda arm: arm.per_training("training_seconds")),
    )  # fmt: skip
    keys = {key.name: key for arm in arms if (key := key_of(arm))}
    curves = line_charts(arms, scopes) if arms else {}
    success, truths = _map(arms, scope), _truths(rows)
    return Page(
        title=str(settings["title"]), question=str(settings["question"]),
        headline=_headline(compared, scope, references), notes=[*missing, power, *_notes(rows)],
        success=success,
        sections=[
            PageSection("map", "Success by combination and selection", blocks=[PageBlock(success)]),
            PageSection("arms", "What was trained, and how it played", blocks=[PageBlock(_arms(arms, scope))]),
            *([PageSection("truth", "Selections against the truth", [_TRUTH], [PageBlock(truths)])] if truths else ()),
            PageSection("comparisons", "Comparisons", [_EXPLAINED], [
                PageBlock(_comparisons(own), f"{env}, against {reference}")
                for env in scopes for reference in references
                if (own := [each for each in compared if (each.environment, each.reference) == (env, reference)])
            ]),
            PageSection("rounds", "Success over rounds, in figures", blocks=[
                PageBlock(_rounds(charts), env) for env, charts in curves.items()
            ]),
        ],
        curves=curves,
        forests=[plot for reference in references for plot in forests(compared, scope, reference)],
        scatters=[each for each in causes if each is not None], keys=list(keys.values()), command=command,
    )  # fmt: skip


_EXPLAINED = (
    "Paired by task, clustered by training seed. The interval covers seeds and tasks where both sides have several "
    "seeds. p is corrected by Holm over the comparisons of one combination; below 0.05 a difference is established."
)

_TRUTH = (
    "Of the steps that a selection chose, the share that matters; of those that matter, the share that it chose. The "
    "expert recorded what its steps are; intervals draw whole trajectories."
)


def _headline(compared: Sequence[Compared], scope: str, references: Sequence[str]) -> list[str]:
    lines = []
    for reference in references:
        own = [each for each in compared if (each.environment, each.reference) == (scope, reference)]
        if not own:
            continue
        better, worse = ([each for each in own if each.verdict == verdict] for verdict in ("better", "worse"))
        lines.append(
            f"Of {len(own)} comparisons with {reference} over {scope}, {len(better)} selections are better, "
            f"{len(worse)} worse, and {len(own) - len(better) - len(worse)} differences are not established."
        )
        if better:
            best = max(better, key=lambda each: each.difference)
            lines.append(
                f"The largest gain over {reference}: {best.selection} in {best.combination}, "
                f"{best.success:.1f} % against {best.reference_success:.1f} % ({best.difference:+.1f} points, 95 % "
                f"interval {best.ci95[0]:+.1f} to {best.ci95[1]:+.1f}, {p_text(best.p_holm)})."
            )
    return lines or ["There is nothing to compare yet."]


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    caps = {row["environment"]: row["within"] for row in rows if row["within"] is not None}
    if not caps:
        return []
    said = joined([f"{cap} rounds in {env}" for env, cap in sorted(caps.items())])
    return [f"A task counts as solved within {said}; this was fixed before the run."]


def _map(arms: Sequence[Arm], scope: str) -> Table:
    combinations = list(dict.fromkeys(arm.combination for arm in arms))
    names = list(dict.fromkeys(arm.name for arm in arms))
    known = {(arm.combination, arm.name): success_of(arm, scope) for arm in arms}
    lines: list[list[str | Cell]] = []
    for name in names:
        line: list[str | Cell] = [name]
        for combination in combinations:
            found = known.get((combination, name))
            line.append(NONE if found is None else Cell(f"{found.mean:.1f}", shade=found.mean / 100))
        lines.append(line)
    return table(["selection", *combinations], lines)


def _truths(rows: Sequence[Mapping[str, Any]]) -> Table | None:
    """Precision and recall of every selection, those that nothing is tuned on too; None where no truth is known."""
    known = {
        (row["combination"], row["selection"], row["environment"]): row for row in rows if row["selected"] is not None
    }
    lines: list[list[str | Cell]] = [
        [*key, str(row["selected"]), _interval(row, "precision"), _interval(row, "recall")]
        for key, row in known.items()
    ]
    header = ["combination", "selection", "environment", "steps", "precision, %", "recall, %"]
    return table(header, lines, words=(0, 1, 2)) if lines else None


def _interval(row: Mapping[str, Any], field: str) -> str:
    value, bounds = row[field], row[f"{field}_ci95"]
    if value is None:
        return NONE
    return f"{value:.1f}" if bounds is None else f"{value:.1f} [{bounds[0]:.1f}, {bounds[1]:.1f}]"


def _arms(arms: Sequence[Arm], scope: str) -> Table:
    header = ["combination", "selection", "filters", "seeds", "success, %", "mean rounds", "steps that only look",
              "precision, %", "labelled tokens", "training, s"]  # fmt: skip
    lines: list[list[str | Cell]] = []
    for arm in arms:
        found = success_of(arm, scope)
        rounds, precision = arm.mean_of("mean_rounds"), arm.precision()
        lines.append([
            arm.combination, arm.name, ", ".join(arm.filters) or NONE, str(found.seeds) if found else NONE,
            f"{found.mean:.1f} [{found.ci95[0]:.1f}, {found.ci95[1]:.1f}]" if found else NONE,
            NONE if rounds is None else f"{rounds:.2f}", percent(arm.looks()),
            NONE if precision is None else f"{precision:.1f}", count(arm.per_training("labelled_tokens")),
            count(arm.per_training("training_seconds")),
        ])  # fmt: skip
    return table(header, lines, words=(0, 1, 2))


def _comparisons(compared: Sequence[Compared]) -> Table:
    header = [
        "combination",
        "selection",
        "success, %",
        "reference, %",
        "difference, points",
        "p",
        "p (Holm)",
        "verdict",
    ]
    lines: list[list[str | Cell]] = []
    for each in compared:
        lines.append([
            each.combination, each.selection, f"{each.success:.1f}", f"{each.reference_success:.1f}",
            f"{each.difference:+.1f} [{each.ci95[0]:+.1f}, {each.ci95[1]:+.1f}]", f"{each.p_value:.3f}",
            f"{each.p_holm:.3f}", Cell(each.verdict, tone=_TONES[each.verdict]),
        ])  # fmt: skip
    return table(header, lines, words=(0, 1, 7))


def _rounds(charts: Sequence[LineChart]) -> Table:
    most = max((chart.most for chart in charts), default=1)
    lines = [
        [chart.title, line.key.name, *(f"{y:.1f} [{low:.1f}, {high:.1f}]" for _, y, low, high in line.points),
         *[NONE] * (most - len(line.points))]
        for chart in charts for line in chart.lines
    ]  # fmt: skip
    return table(["combination", "selection", *(f"<= {i}" for i in range(1, most + 1))], lines, words=(0, 1))


def to_html(page: Page) -> str:
    """The page as one HTML file."""
    environment = Environment(
        loader=PackageLoader("atlas_ray.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    classes = {key.name: f"k{i}" for i, key in enumerate(page.keys)}
    return environment.get_template("experiment.html.j2").render(page=page, classes=classes)


def to_text(page: Page, pictures: Mapping[str, str]) -> str:
    """The page as Markdown.

    Args:
        page: what it says.
        pictures: file names of the pictures, by their captions.
    """
    parts = [f"# {escape(page.title)}", escape(page.question), *map(escape, page.headline)]
    parts.append("\n".join(f"- {escape(note)}" for note in page.notes))
    parts += [f"![{caption}]({file})" for caption, file in pictures.items()]
    for section in page.sections:
        parts += [f"## {section.title}", *map(escape, section.sentences)]
        for block in section.blocks:
            parts += [f"### {escape(block.title)}" if block.title else "", escape(block.explanation or "")]
            parts.append(to_markdown(block.table).rstrip())
    parts += ["## Run it again", f"```bash\n{page.command}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"
