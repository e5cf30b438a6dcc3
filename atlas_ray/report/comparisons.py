"""What was learned, in sentences made from the numbers: which model is compared with which, and what that says.

A difference that luck can explain is called not established, whatever its size. The tests themselves are in
`evaluation/compare.py`. All text is plain, without markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Literal

from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.evaluation.compare import Contrast, against, contrast
from atlas_ray.evaluation.metrics import Comparison
from atlas_ray.report.data import Evaluated, RunData
from atlas_ray.report.habits import Habit
from atlas_ray.report.tables import Cell, Table, table
from atlas_ray.report.text import joined, p_text
from atlas_ray.roster import BASE, WARMUP, Kind
from atlas_ray.store import Store

_CHANCE = "random"
"""The reference policy that acts at random."""
_LEARNED = {
    (True, False): "{0} learned the habit and {1} did not",
    (False, True): "{1} learned the habit and {0} did not",
    (True, True): "both learned the habit",
    (False, False): "neither learned the habit, so it does not explain the result",
}
"""By whether the model tuned on all steps, and the one in question, learned the experts' habit."""
_TONES: dict[str, Literal["good", "bad", "soft"]] = {"better": "good", "worse": "bad", "not established": "soft"}


def pairs(data: RunData) -> list[tuple[Evaluated, Evaluated]]:
    """The comparisons that the run is about: what to compare with first, the model in question second.

    Every tuned model is compared with base, warm-up and the random policy. The models of the first selection are
    compared with endpoints and model directories, and with the models tuned on other selections with the same training
    seed. Without a tuned model, endpoints and directories are compared with the references.
    """
    others, tuned = data.of_kind("endpoint", "directory"), data.of_kind("tuned")
    references = [model for model in (_chance(data), *data.of_kind("base", "warmup")) if model is not None]
    found = [(reference, model) for model in tuned or others for reference in references]
    for lead in next(iter(data.tuned.values()), []):
        found += [(other, lead) for other in others]
        own = (lead.selection, lead.objective)
        found += [
            (rival, lead) for rival in tuned if (rival.selection, rival.objective) != own and rival.seed == lead.seed
        ]
    return found


def model_comparisons(
    store: Store, results: Sequence[Mapping[str, Any]], cards: Mapping[str, EnvironmentCard]
) -> list[str]:
    """Every other model against the first one that is no reference policy, one line per environment.

    Args:
        store: the run directory.
        results: the content of the models' `results.json`.
        cards: of the environments.
    """
    first = next((result["model"] for result in results if result["kind"] != "policy"), None)
    others = [result["model"] for result in results if result["model"] != first]
    return [] if first is None else [each.line for name in others for each in against(store, first, name, cards)]


def contrasts(data: RunData) -> list[Contrast]:
    """The pairs over all environments; then in each one, the first training of every selection.

    There is no correction for the number of comparisons.
    """
    names, every = data.environments, pairs(data)
    firsts = {id(models[0]) for models in data.tuned.values()}
    first = [(a, b) for a, b in every if b.kind != "tuned" or id(b) in firsts]
    if len(names) == 1 and data.cards[names[0]].metric == "success_rate":
        names = []
    found = [contrast(a.episodes, b.episodes, None, data.cards) for a, b in every]
    found += [contrast(a.episodes, b.episodes, env, data.cards) for env in names for a, b in first]
    return [each for each in found if each is not None]


def contrast_table(found: list[Contrast]) -> Table:
    """The comparisons, one per row."""
    rows: list[list[str | Cell]] = []
    for each in found:
        c = each.comparison
        rows.append(
            [
                f"{each.first} → {each.second}", each.env, each.metric.replace("_", " "), str(c.n), f"{c.first:.1f}",
                f"{c.second:.1f}", f"{c.difference:+.1f}", f"{c.ci95[0]:+.1f} to {c.ci95[1]:+.1f}", p_text(c.p_value),
                Cell(each.verdict, tone=_TONES[each.verdict]),
            ]
        )  # fmt: skip
    header = ["from → to", "where", "metric", "pairs", "from", "to", "difference", "95 % interval", "p", "verdict"]
    return table(header, rows, words=(0, 1, 2, 9))


def headline(data: RunData, habit: Habit | None = None) -> list[str]:
    """The result in a few sentences.

    The tuned model is compared with the one that was tuned on all steps, and the second sentence tells what lies
    behind the difference. Without such a model, it is compared with the untuned one. The last sentence compares it with
    the warm-up, where there is one.

    Args:
        data: the run.
        habit: of the experts, where they had one.
    """
    lead = _lead(data)
    if lead is None:
        return ["No tuned model was evaluated, so there is no result yet."]
    rival = tuned_on_all(data, lead)
    found = None if rival is None else _compared(data, rival, lead)
    if rival is None or found is None:
        sentences = [_against_base(data, lead)]
    else:
        sentences = [_against_all(data, lead, found), *_reasons(rival, lead, habit)]
    if data.config.train.warmup is not None or data.of_kind("warmup"):
        sentences.append(_against_warmup(data, lead))
    return sentences


def tuned_on_all(data: RunData, model: Evaluated) -> Evaluated | None:
    """The model that was tuned on all steps with the same training seed as `model`; None without one, or for itself."""
    if _is_all(data, model):
        return None
    return next((each for each in data.of_kind("tuned") if each.seed == model.seed and _is_all(data, each)), None)


def notes(data: RunData) -> list[str]:
    """What a reader must know besides: chance level, other models, other selections, what lies behind the numbers."""
    lead = _lead(data)
    if lead is None:
        return []
    chance, others, trainings = _chance(data), data.of_kind("endpoint", "directory"), data.tuned
    on_all = tuned_on_all(data, lead)
    told = on_all if on_all is not None and _compared(data, on_all, lead) is not None else None
    lines = []
    if told is not None and (found := _with(data, "base", lead)):
        lines.append(f"The untuned model solved {_solved(data, found, found.first)}; {_lead_over(lead, found)}.")
    if chance is not None and (found := _compared(data, chance, lead)):
        lines.append(f"A random policy solved {_solved(data, found, found.first)}; {_lead_over(lead, found)}.")
    for other in others:
        if found := _compared(data, other, lead):
            lines.append(
                f"{other.name}, which was not tuned here, solved {_solved(data, found, found.first)}; "
                f"{_lead_over(lead, found)}."
            )
    for selection, rivals in list(trainings.items())[1:]:
        rival = next((model for model in rivals if model.seed == lead.seed), rivals[0])
        if rival is told:
            continue
        tuned_on = f"Tuned on {data.phrase_of(selection)} instead"
        if found := _compared(data, rival, lead):
            solved = _solved(data, found, found.first)
            lines.append(f"{tuned_on}, the model {rival.name} solved {solved}; {_lead_over(lead, found)}.")
        else:
            lines.append(f"{tuned_on}: {rival.name} shares no finished test episode with {lead.name}.")
    if len(trainings) == 1:
        lines.append("No model was tuned on other steps, so nothing here says that these steps are better than others.")
    for selection, models in trainings.items():
        if len(models) > 1:
            lines.append(
                f"Tuned on {data.phrase_of(selection)} with {len(models)} training seeds, the "
                f"models solved {_by_seed(models)} {_tasks(data)}."
            )
    lines += [
        f"The steps of {selection} were picked by the model on board, which stands in for a selector LLM: this run "
        "shows that the road works, not what the selection method is worth."
        for selection in trainings
        if data.is_stand_in(selection)
    ]
    lines.append(
        "Solved means the environment's own success; each environment's own metric is in the table. " + _luck(data)
    )
    return lines


def _lead(data: RunData) -> Evaluated | None:
    """The model that the run is about: the first seed of the first selection."""
    return next((models[0] for models in data.tuned.values()), None)


def _chance(data: RunData) -> Evaluated | None:
    return next((model for model in data.of_kind("policy") if model.name == _CHANCE), None)


def _compared(data: RunData, first: Evaluated, second: Evaluated) -> Comparison | None:
    """Success over all environments."""
    found = contrast(first.episodes, second.episodes, None, data.cards)
    return None if found is None else found.comparison


def _with(data: RunData, kind: Kind, lead: Evaluated) -> Comparison | None:
    return next((_compared(data, model, lead) for model in data.of_kind(kind)), None)


def _is_all(data: RunData, model: Evaluated) -> bool:
    selection = str(model.selection)
    return data.method_of(selection) == "all" and not data.filters_of(selection)


def _against_all(data: RunData, lead: Evaluated, c: Comparison) -> str:
    if not c.established:
        verdict = f"Luck can explain this difference: it is not established {_figures(c)}."
    elif c.difference > 0:
        verdict = f"The selected steps win, and this is more than luck {_figures(c)}."
    else:
        verdict = f"All steps win, and this is more than luck {_figures(c)}."
    caps = {env: data.cards[env].max_rounds for env in data.environments}
    if len(set(caps.values())) == 1:
        within = f"{next(iter(caps.values()))} rounds"
    else:
        within = joined([f"{cap} rounds in {env}" for env, cap in caps.items()])
    return (
        f"Tuned on {data.phrase_of(str(lead.selection))}, the model solved {_solved(data, c, c.second)} within the cap "
        f"of {within}; tuned on all steps it solved {_count(c, c.first)}. {verdict}"
    )


def _reasons(rival: Evaluated, lead: Evaluated, habit: Habit | None) -> list[str]:
    """One sentence on what the two models learned of the experts' habit, and on the rounds that they use."""
    parts = []
    if habit is not None and {rival.name, lead.name} <= habit.models.keys():
        parts.append(
            f"{habit.experts} steps of the experts that both learned from are looks which change nothing; of the steps "
            f"at test, {habit.models[rival.name]} are such looks by {rival.name}, and {habit.models[lead.name]} by "
            f"{lead.name}"
        )
        parts.append(_LEARNED[habit.learned_by(rival.name), habit.learned_by(lead.name)].format(rival.name, lead.name))
    solved = [{(e.env, e.split_task, e.seed): e.rounds for e in model.episodes if e.success} for model in (rival, lead)]
    shared = solved[0].keys() & solved[1].keys()
    if shared:
        slow, fast = (fmean(rounds[key] for key in shared) for rounds in solved)
        times = f"{len(shared)} {'task that both solved takes' if len(shared) == 1 else 'tasks that both solved take'}"
        parts.append(f"the {times} {rival.name} {slow:.1f} rounds and {lead.name} {fast:.1f}")
    return ["Why: " + "; ".join(parts) + "."] if parts else []


def _against_base(data: RunData, lead: Evaluated) -> str:
    steps = data.phrase_of(str(lead.selection))
    c = _with(data, "base", lead)
    if c is None:
        return f"The model tuned on {steps} cannot be compared with the untuned one: {_why(data, BASE, 'base')}."
    if not c.established:
        verdict = "Luck can explain this difference: it is not established."
    elif c.difference > 0:
        verdict = "This is more than luck."
    else:
        verdict = "Tuning made it worse, and this is more than luck."
    return (
        f"Tuned on {steps}, the model solved {_solved(data, c, c.second)}; untuned it solved "
        f"{_count(c, c.first)} {_figures(c)}. {verdict}"
    )


def _against_warmup(data: RunData, lead: Evaluated) -> str:
    c = _with(data, "warmup", lead)
    if c is None:
        return f"What these steps add to the warm-up cannot be told: {_why(data, WARMUP, 'warmup')}."
    if not c.established:
        verdict = "not established, so this run does not show that tuning on these steps adds to it"
    elif c.difference > 0:
        verdict = "established, so tuning on these steps added to it"
    else:
        verdict = "established, so tuning on these steps lost part of what the warm-up had taught"
    solved = _solved(data, c, c.first)
    return f"The warm-up alone already solved {solved}; the difference to it is {verdict} {_figures(c)}."


def _lead_over(lead: Evaluated, c: Comparison) -> str:
    if not c.established:
        return f"the difference to {lead.name} is not established {_figures(c)}"
    better = "better" if c.difference > 0 else "worse"
    return f"{lead.name} is {better}, and this is established {_figures(c)}"


def _by_seed(models: list[Evaluated]) -> str:
    """What every training of a selection came to."""
    parts = []
    for model in models:
        done = [episode for episode in model.episodes if episode.error is None]
        parts.append(f"{sum(episode.success for episode in done)} of {len(done)} (seed {model.seed})")
    return joined(parts)


def _luck(data: RunData) -> str:
    if all(len(models) == 1 for models in data.tuned.values()):
        return (
            "One training run with one seed: the intervals cover the luck of the tasks, not that of another training."
        )
    return (
        "A comparison is of one training with another of the same seed: its interval covers the luck of the tasks. "
        "The rows that average over seeds cover both tasks and trainings."
    )


def _why(data: RunData, name: str, kind: Kind) -> str:
    return "they share no finished test episode" if data.of_kind(kind) else f"{name} was not evaluated"


def _tasks(data: RunData) -> str:
    return "test tasks" if data.config.evaluate.repeats == 1 else "test episodes"


def _count(c: Comparison, percent: float) -> int:
    return round(percent * c.n / 100)


def _solved(data: RunData, c: Comparison, percent: float) -> str:
    return f"{_count(c, percent)} of {c.n} {_tasks(data)}"


def _figures(c: Comparison) -> str:
    return f"({c.difference:+.1f} points, 95 % interval {c.ci95[0]:+.1f} to {c.ci95[1]:+.1f}, {p_text(c.p_value)})"
