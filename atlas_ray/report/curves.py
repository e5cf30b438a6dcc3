"""Success over rounds of the run's models, as data for the page and for the picture.

The models tuned on one selection with several seeds are one line. The points come from `evaluation/statistics.py`.
"""

from __future__ import annotations

from atlas_ray.evaluation.statistics import success_curve
from atlas_ray.report.data import RunData
from atlas_ray.report.experiment_charts import REFERENCES, Key, Line, LineChart
from atlas_ray.selection.method import color_of
from atlas_ray.trajectory import Episode


def success_charts(data: RunData) -> list[LineChart]:
    """A chart per environment, from one round to the cap; lines in the order of the table of results."""
    found = []
    for env in data.environments:
        most = data.cards[env].max_rounds
        lines = []
        for key, trainings in _lines(data):
            played = [[episode for episode in episodes if episode.env == env] for episodes in trainings]
            if points := success_curve(played, most):
                lines.append(Line(key, tuple((float(p.rounds), p.success, *p.ci95) for p in points)))
        found.append(LineChart(env, most, tuple(lines)))
    return found


def _lines(data: RunData) -> list[tuple[Key, list[list[Episode]]]]:
    """Every line with the episodes of its trainings."""
    found = [
        (Key(model.name, REFERENCES[model.kind], True), [model.episodes])
        for model in data.models.values()
        if model.kind != "tuned"
    ]
    for selection, models in data.tuned.items():
        color, filtered = color_of(data.method_of(selection)), bool(data.filters_of(selection))
        found.append((Key(selection, color, filtered), [model.episodes for model in models]))
    return found
