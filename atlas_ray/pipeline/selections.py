"""What can be done with selections besides making them: tell their cost beforehand, compare them, export them."""

from __future__ import annotations

from collections import Counter

from atlas_ray import models
from atlas_ray.errors import ConfigError
from atlas_ray.pipeline.keys import Keys
from atlas_ray.pipeline.run import Run
from atlas_ray.pipeline.stages import trajectories_of, tuning_ids, wanted_selections
from atlas_ray.selection import export as writing
from atlas_ray.selection import rollout_preferences
from atlas_ray.selection.method import in_order
from atlas_ray.selection.rollout_preferences import Established
from atlas_ray.training.examples import choose


def estimate_selectors(run: Run) -> str:
    """What the wanted selections that ask a selector would ask and cost, in a few lines; nothing is asked.

    Raises:
        ConfigError: none of them asks anybody.
    """
    from atlas_ray.selection.asking import AskingMethod
    from atlas_ray.selection.estimate import estimate

    found = in_order(run.config, wanted_selections(run.config))
    asking = [method for method in found if isinstance(method, AskingMethod)]
    if not asking:
        raise ConfigError("--dry-run tells what selections by a selector (llm, grade) would cost; none is wanted here")
    return "\n".join(estimate(run.config, run.store, method, tuning_ids(run)).text() for method in asking)


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
    text = comparison(found, {str(row["selection"]): row for row in run.store.journal("metrics", "select.jsonl")})
    run.store.write_text(text, "compare", "table.md")
    return text, run.store.write_bytes(selections_plot(found), "compare", "plot.png")


def export(run: Run, selection: str, form: str, path: str) -> str:
    """A selection as another trainer's data; returns what was done, in a line.

    Args:
        run: in which the selection has been made.
        selection: its name.
        form: one of `export.FORMATS`, of `export.PREFERENCE_FORMATS`, or `export.TOKENS`.
        path: of the file.

    Raises:
        ConfigError: step preferences are asked of a selection that rests on no rollouts.
        SelectionError: the selection has not been made for these trajectories, or no preference is established.
        DataError: the file cannot be written, or nothing is left to write.
    """
    if form in writing.PREFERENCE_FORMATS:
        found = preferences(run, selection)
        rows = writing.export_preferences(found, form, path)
        return f"{path}: {rows} rows; selection {selection!r}: {found}"
    done = _tokens(run, selection, path) if form == writing.TOKENS else writing.export(
        run.store, selection, form, path, tuning_ids(run)  # type: ignore[arg-type]  # argparse checks the choice
    )  # fmt: skip
    said = f"{path}: {done.rows} trajectories with the steps of {selection!r}"
    if done.left_out:
        said += "; left out: " + ", ".join(f"{count} {reason}" for reason, count in sorted(done.left_out.items()))
    if done.weights_lost:
        said += f"; {done.weights_lost} steps have a weight that this format cannot hold, and are fully trained in it"
    return said


def preferences(run: Run, selection: str) -> Established:
    """The step preferences at the critical steps of a selection; `rollout_preferences.established` has the errors."""
    return rollout_preferences.established(Keys(run).context, selection, tuning_ids(run))


def _tokens(run: Run, selection: str, path: str) -> writing.Exported:
    ids = set(tuning_ids(run))
    trajectories = [each for each in run.store.read_trajectories() if each.trajectory_id in ids]
    chosen = choose(trajectories_of(run, selection, trajectories), run.store.read_selections(selection))
    tokenizer = models.load_tokenizer(models.resolve(run.config.model))
    thinks = run.config.evaluate.thinking.on
    done = writing.export_tokens(chosen.trajectories, chosen.labels, tokenizer, run.config.train, path, thinks=thinks)
    done.left_out += Counter({"error": chosen.errors, "no step chosen": chosen.without_steps})
    return done
