"""`report.md`: the findings of the page without drawings and transcripts; for terminals, diffs and pull requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atlas_ray.evaluation.table import escape
from atlas_ray.evaluation.table import markdown as result_table
from atlas_ray.report import findings, overview
from atlas_ray.report.data import RunData
from atlas_ray.report.html import count, duration, facts, number, training_runs
from atlas_ray.report.setting import Setting, cost, spent, total_seconds


def render(data: RunData, setting: Setting) -> str:
    """The report as GitHub-flavoured Markdown; text from data is escaped."""
    parts = [f"# {escape(setting.title)}", *map(escape, findings.headline(data))]
    parts.append(_bullets(findings.notes(data)))
    if data.missing:
        parts += ["**Missing from this run**", _bullets(data.missing)]
    parts.append("## Results")
    if data.models:
        parts.append("Percent, 95 % interval in brackets; n counts finished test episodes.")
        parts.append(result_table([model.results for model in data.models.values()], data.cards).rstrip())
    else:
        parts.append("No model was evaluated.")
    if contrasts := findings.contrasts(data):
        parts.append("### Paired comparisons")
        parts.append(_contrast_table(contrasts))
    parts += ["## Training", _training_table(data)]
    parts += ["## Selections", *_selections(data)]
    parts += ["## Time and cost", _time_table(data)]
    parts += ["## Run it again", "```bash\n" + "\n".join(setting.commands) + "\n```"]
    parts.append(", ".join(f"{name} {number}" for name, number in setting.versions) + f". Written {setting.written}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([escape(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _contrast_table(contrasts: Sequence[findings.Contrast]) -> str:
    header = ["from", "to", "where", "metric", "pairs", "difference", "95 % interval", "p", "verdict"]
    rows = []
    for row in contrasts:
        c = row.comparison
        interval = f"{c.ci95[0]:+.1f} to {c.ci95[1]:+.1f}"
        p_value = findings.p_text(c.p_value)
        rows.append(
            [
                row.first,
                row.second,
                row.env,
                row.metric.replace("_", " "),
                str(c.n),
                f"{c.difference:+.1f}",
                interval,
                p_value,
                row.verdict,
            ]
        )
    return _table(header, rows)


def _training_table(data: RunData) -> str:
    runs = training_runs(data)
    if not runs:
        return "Nothing was trained, or it left no log."

    return _table(
        ["checkpoint", "steps", "first loss", "last loss", "tokens read", "labelled", "time"],
        [
            [run.name, str(run.steps), number(run.first_loss), number(run.last_loss),
             count(run.tokens), count(run.labelled), duration(run.seconds)]
            for run in runs
        ],
    )  # fmt: skip


def _selections(data: RunData) -> list[str]:
    methods = overview.method_rows(data)
    if not methods:
        return ["No selection was made."]
    rows = []
    for row in methods:
        errors = ", ".join(f"{times} x {kind}" for kind, times in row.errors.items()) or "none"
        name = f"{row.method} (stand-in)" if row.stand_in else row.method
        tokens = "–" if row.token_share is None else f"{100 * row.token_share:.1f} %"
        shares = [f"{100 * row.step_share:.1f} %", tokens]
        rows.append([name, str(row.trajectories), f"{row.picked} of {row.steps}", *shares, errors])
    parts = [escape(overview.worth(data))]
    parts.append(_table(["method", "trajectories", "steps", "of steps", "of their tokens", "error rows"], rows))
    if named := [[row.method, _categories(row)] for row in methods if row.categories]:
        parts.append(_table(["method", "categories of its steps"], named))
    pairs = [
        [f"{o.first} and {o.second}", f"{o.jaccard:.3f}", f"{o.expected:.3f} ({o.low:.3f} to {o.high:.3f})", o.verdict]
        for o in overview.overlaps(data)
    ]
    if pairs:
        parts.append(_table(["methods", "Jaccard overlap", "by chance", "verdict"], pairs))
    return parts


def _categories(row: overview.MethodRow) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in row.categories.items())


def _time_table(data: RunData) -> str:
    if not data.units:
        return "No stage has finished."
    rows = [[unit.stage, unit.name, duration(unit.seconds), cost(data, unit), facts(unit.facts)] for unit in data.units]
    rows.append(["all", "", duration(total_seconds(data)), spent(data), ""])
    return _table(["stage", "unit", "time", "cost", "recorded"], rows)
