"""What can be done with selections besides making them: tell their cost beforehand, compare them, export them."""

from __future__ import annotations

from atlas_ray import models
from atlas_ray.errors import ConfigError
from atlas_ray.pipeline.run import Run
from atlas_ray.pipeline.stages import tuning_ids, wanted_selections
from atlas_ray.selection.export import Format
from atlas_ray.selection.export import export as export_selection
from atlas_ray.selection.method import in_order


def estimate_selectors(run: Run) -> str:
    """What the wanted selections by method `llm` would ask and cost, in a few lines; nothing is asked.

    Raises:
        ConfigError: none of them asks anybody.
    """
    from atlas_ray.selection.estimate import estimate

    specs = [found.spec for found in in_order(run.config, wanted_selections(run.config))]
    asking = [spec for spec in specs if spec.method == "llm"]
    if not asking:
        raise ConfigError("--dry-run tells what selections by method llm would cost; none is wanted here")
    return "\n".join(estimate(run.config, run.store, spec, tuning_ids(run)).text() for spec in asking)


def compare_selections(run: Run) -> tuple[str, str]:
    """`compare/`: every stored selection beside the others, per environment.

    Returns:
        The table in Markdown, and the path of the plot.

    Raises:
        SelectionError: there is none, or one was made for other trajectories.
    """
    from atlas_ray.report.drawings import selections_plot
    from atlas_ray.report.selections import comparison
    from atlas_ray.selection import compare

    count = models.token_counter(models.resolve(run.config.model))
    found = compare.stored(run.store, run.store.names("selections"), count, tuning_ids(run))
    run.store.write_json([figures.facts() for figures in found], "compare", "figures.json")
    text = comparison(found)
    run.store.write_text(text, "compare", "table.md")
    return text, run.store.write_bytes(selections_plot(found), "compare", "plot.png")


def export(run: Run, selection: str, form: Format, path: str) -> str:
    """A selection as another trainer's data; returns what was done, in a line."""
    found = export_selection(run.store, selection, form, path, tuning_ids(run))
    said = f"{path}: {found.rows} trajectories with the steps of {selection!r}"
    if found.left_out:
        said += "; left out: " + ", ".join(f"{count} {reason}" for reason, count in sorted(found.left_out.items()))
    if found.weights_lost:
        said += f"; {found.weights_lost} steps have a weight that this format cannot hold, and are fully trained in it"
    return said
