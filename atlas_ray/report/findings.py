"""What was learned, in sentences made from the numbers: the paired tests between models and their plain reading.

A difference that luck can explain is called not established, whatever its size. All text is plain, without markup.
"""

from __future__ import annotations

from dataclasses import dataclass

from atlas_ray.evaluation.metrics import Comparison, compare
from atlas_ray.report.data import RunData


@dataclass(frozen=True)
class Contrast:
    """A paired comparison between two models, in one environment or over all."""

    first: str
    second: str
    env: str
    """An environment's name, or `all`."""
    metric: str
    """What is compared: the environment's own metric; success over all environments."""
    comparison: Comparison

    @property
    def verdict(self) -> str:
        """In one or two words."""
        if not self.comparison.established:
            return "not established"
        return "better" if self.comparison.difference > 0 else "worse"


def contrast(data: RunData, first: str, second: str, env: str | None = None) -> Contrast | None:
    """Compare two models; None when one was not evaluated or they share no finished episode.

    Args:
        data: the run.
        first: the model compared with.
        second: the model in question.
        env: in this environment by its own metric; None: success over all of them.
    """
    if first not in data.models or second not in data.models:
        return None
    metric = data.cards[env].metric if env else "success_rate"
    rows = [[e for e in data.models[name].episodes if env in (None, e.env)] for name in (first, second)]
    found = compare(rows[0], rows[1], metric)
    return None if found is None else Contrast(first, second, env or "all", metric, found)


def pairs(data: RunData) -> list[tuple[str, str]]:
    """The comparisons that the run is about: every tuned model with base, warm-up, random, and the first tuned."""
    found = [(first, tuned) for tuned in data.tuned for first in ("base", "warmup", "random")]
    found += [(other, data.tuned[0]) for other in data.tuned[1:]]
    return [(first, second) for first, second in found if first in data.models]


def contrasts(data: RunData) -> list[Contrast]:
    """Every pair over all environments, then in each one (no correction for their number)."""
    scopes: list[str | None] = [None, *data.environments]
    if len(data.environments) == 1:
        scopes = [None] if data.cards[data.environments[0]].metric == "success_rate" else scopes
    found = [contrast(data, first, second, env) for env in scopes for first, second in pairs(data)]
    return [entry for entry in found if entry is not None]


def headline(data: RunData) -> list[str]:
    """The result in two sentences: the tuned model against base, and against the warm-up where there is one."""
    if not data.tuned:
        return ["No tuned model was evaluated, so there is no result yet."]
    tuned = data.tuned[0]
    sentences = [_against_base(data, tuned)]
    if data.config.train.warmup is not None or "warmup" in data.models:
        sentences.append(_against_warmup(data, tuned))
    return sentences


def notes(data: RunData) -> list[str]:
    """What a reader must know besides: chance level, other selections, what lies behind the numbers."""
    lines: list[str] = []
    if not data.tuned:
        return lines
    tuned = data.tuned[0]
    chance = contrast(data, "random", tuned)
    if chance is not None:
        c = chance.comparison
        lead = "is established" if c.established and c.difference > 0 else "over it is not established"
        lines.append(f"A random policy solved {_solved(c, c.first)}: the lead of {tuned} {lead} {_figures(c)}.")
    for other in data.tuned[1:]:
        rival = contrast(data, other, tuned)
        if rival is not None:
            c = rival.comparison
            lines.append(
                f"Tuned on {_steps(other)} instead, it solved {_solved(c, c.first)}; the difference to {tuned} is "
                f"{'established' if c.established else 'not established'} {_figures(c)}."
            )
    if len(data.tuned) == 1 and tuned != "all":
        lines.append("No model was tuned on other steps, so nothing here says that these steps are better than others.")
    if stand_in(data, tuned):
        lines.append(
            f"The steps of {tuned} were picked by the model on board, which stands in for a selector LLM: this run "
            "shows that the road works, not what the selection method is worth."
        )
    lines.append(
        "Solved means the environment's own success; each environment's own metric is in the table. One training run "
        "with one seed: the intervals cover the luck of the tasks, not that of another training."
    )
    return lines


def stand_in(data: RunData, method: str) -> bool:
    """Whether the selector of a method was only standing in (provenance `stand_in`)."""
    return any(row.provenance.get("stand_in") is True for row in data.selections.get(method, []))


def p_text(p_value: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _against_base(data: RunData, tuned: str) -> str:
    found = contrast(data, "base", tuned)
    if found is None:
        return f"The model tuned on {_steps(tuned)} cannot be compared with the untuned one: {_why(data, 'base')}."
    c = found.comparison
    if not c.established:
        verdict = "Luck can explain this difference: it is not established."
    elif c.difference > 0:
        verdict = "This is more than luck."
    else:
        verdict = "Tuning made it worse, and this is more than luck."
    return (
        f"Tuned on {_steps(tuned)}, the model solved {_solved(c, c.second)}; untuned it solved "
        f"{_count(c, c.first)} {_figures(c)}. {verdict}"
    )


def _against_warmup(data: RunData, tuned: str) -> str:
    found = contrast(data, "warmup", tuned)
    if found is None:
        return f"What the selected steps add to the warm-up cannot be told: {_why(data, 'warmup')}."
    c = found.comparison
    if not c.established:
        verdict = "not established, so this run does not show that tuning on the selected steps adds to it"
    elif c.difference > 0:
        verdict = "established, so tuning on the selected steps added to it"
    else:
        verdict = "established, so tuning on the selected steps lost part of what the warm-up had taught"
    return f"The warm-up alone already solved {_solved(c, c.first)}; the difference to it is {verdict} {_figures(c)}."


def _steps(method: str) -> str:
    return "all steps" if method == "all" else f"the steps that {method} selected"


def _why(data: RunData, model: str) -> str:
    return f"{model} was not evaluated" if model not in data.models else "they share no finished test episode"


def _count(c: Comparison, percent: float) -> int:
    return round(percent * c.n / 100)


def _solved(c: Comparison, percent: float) -> str:
    return f"{_count(c, percent)} of {c.n} test tasks"


def _figures(c: Comparison) -> str:
    return f"({c.difference:+.1f} points, 95 % interval {c.ci95[0]:+.1f} to {c.ci95[1]:+.1f}, {p_text(c.p_value)})"
