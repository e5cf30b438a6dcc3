"""The stages of a run: what each one reads, does and writes.

Every stage reads what the stages before it wrote, writes its own directory and records a key (`keys.py`) in its
manifest when it is done; a unit of work whose key is recorded is skipped. The work itself is done by the packages
called here. They are imported where they are called: torch and vLLM take seconds, and `--help`, a wrong option and a
run with nothing to do need neither.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from atlas_ray.config import PipelineConfig
from atlas_ray.evaluation import ledger
from atlas_ray.evaluation.evaluate import cards, evaluate, evaluated_environments
from atlas_ray.hashing import content_hash
from atlas_ray.pipeline import pinned
from atlas_ray.pipeline.collect import PARTS
from atlas_ray.pipeline.held_out import refuse_planned, refuse_stored
from atlas_ray.pipeline.keys import Keys
from atlas_ray.pipeline.run import Run
from atlas_ray.progress import say
from atlas_ray.rollout.player import Engines
from atlas_ray.roster import WARMUP, checkpoint_name, tuned_selections
from atlas_ray.selection import method, rollout_preferences
from atlas_ray.trajectory import Trajectory


class Unit(NamedTuple):
    """One piece of work of a stage, with an entry of its own in the stage's manifest."""

    stage: str
    name: str
    key: str


def plan(run: Run) -> list[Unit]:
    """Every unit of the pipeline and of the verification, in order, with the key that the configuration gives it.

    Nothing is done and nothing is read but the configuration and the files that it names.
    """
    config, keys = run.config, Keys(run, planned=True)
    units = [Unit("collect", "trajectories", keys.collect())]
    if config.train.warmup is not None:
        units.append(Unit("train", WARMUP, keys.warmup()))
    units += [
        Unit("select", found.spec.name, keys.select(found.spec.name))
        for found in method.in_order(config, wanted_selections(config))
    ]
    for selection in tuned_selections(config):
        units += [Unit("train", name, keys.train(selection, seed)) for name, seed in _checkpoints(config, selection)]
    units += [Unit("evaluate", entry.name, keys.evaluate(entry)) for entry in keys.roster.evaluated()]
    verifier = keys.roster.entry(config.verify.model)
    units.append(_verification(config, verifier.name, keys.verify(verifier, config.verify.selection)))
    return units


# --- collect ---------------------------------------------------------------------------------------------------------
def collect(run: Run) -> int:
    """`trajectories/`: expert trajectories of training tasks, or an import; returns how many there are."""
    keys = Keys(run)

    def work() -> dict[str, Any]:
        from atlas_ray.pipeline.collect import collect as collect_trajectories

        facts = collect_trajectories(run.config, run.store)
        parts = {part: keys.part(part) for part in PARTS}
        return facts | {"parts": parts, **pinned.facts(source=run.config.collect.source)}

    refuse_planned(run.config)
    _refuse_without_rollouts(run.config, tuned_selections(run.config))
    run.once("collect", "trajectories", keys.collect(), work)
    refuse_stored(run.config, run.store)
    return int(run.store.facts("collect")["trajectories"]["trajectories"])


def warmup_ids(run: Run) -> set[str]:
    """Ids of the stored trajectories that are the warm-up's.

    Experts' trajectories were assigned when they were collected; of imported ones the seed draws a share of every
    environment's, of those that did not fail where failures are kept to tune on.
    """
    warmup = run.config.train.warmup
    if warmup is None:
        return set()
    rows = run.store.trajectory_parts(with_failures=not run.config.collect.keep_failures)
    chosen = {identity for _, identity, part in rows if part == "warmup"}
    for name in sorted({env for env, _, part in rows if part is None}):
        ids = [identity for env, identity, part in rows if env == name and part is None]
        ids.sort(key=lambda identity: content_hash([run.config.seed, "warmup", identity]))
        chosen.update(ids[: round(warmup.fraction * len(ids))])
    return chosen


def tuning_ids(run: Run) -> list[str]:
    """Ids of the stored trajectories that are not the warm-up's; reads no texts."""
    warm = warmup_ids(run)
    return [identity for _, identity in run.store.trajectory_ids() if identity not in warm]


def _trajectories(run: Run, *, warm: bool) -> list[Trajectory]:
    """The trajectories of the warm-up, or those that models are tuned on."""
    ids = warmup_ids(run)
    return [each for each in run.store.read_trajectories() if (each.trajectory_id in ids) is warm]


def trajectories_of(run: Run, selection: str, tuning: list[Trajectory]) -> list[Trajectory]:
    """The trajectories that a stored selection is of: the tuning set, or those that its method made (`verified`)."""
    own = run.store.trajectory_folder(selection) != run.store.trajectory_folder()
    return run.store.read_trajectories(selection) if own else tuning


# --- select ----------------------------------------------------------------------------------------------------------
def wanted_selections(config: PipelineConfig, *, alone: bool = False) -> list[str]:
    """The selections to make: those that are named or asked for, and those that models are tuned on.

    Args:
        config: of the run.
        alone: where some are named or asked for, make no others: what `atlas-ray select` does.
    """
    named = [*config.select.methods, *config.select.selections]
    return list(dict.fromkeys(named if alone and named else [*named, *tuned_selections(config)]))


def select(run: Run, names: Iterable[str]) -> None:
    """`selections/<name>/`: the critical steps of the tuning set, of these selections and of those they are made from.

    Raises:
        ConfigError: a selection is unknown, or made from itself.
    """
    keys, ids = Keys(run), tuning_ids(run)
    for found in method.in_order(run.config, list(names)):

        def work(found: method.Method = found) -> dict[str, Any]:
            from atlas_ray.selection.run import run as run_method

            return run_method(keys.context, found, ids)

        run.once("select", found.spec.name, keys.select(found.spec.name), work)


# --- train -----------------------------------------------------------------------------------------------------------
def warm_up(run: Run) -> None:
    """`checkpoints/warmup`: the base model after all steps of the warm-up trajectories, if the config asks for one."""
    config, keys = run.config, Keys(run)
    if config.train.warmup is None:
        return

    def work() -> dict[str, Any]:
        from atlas_ray.training.trainer import train as train_model

        warm = _trajectories(run, warm=True)
        labels = {each.trajectory_id: dict.fromkeys(range(each.n_steps), 1.0) for each in warm}
        train_model(
            config, run.store, name=WARMUP, start=keys.roster.base(), trajectories=warm, labels=labels,
            options=config.train.for_warmup(), seed=config.seed,
        )  # fmt: skip
        return {"trajectories": len(warm), **pinned.facts(model=config.model)}

    run.once("train", WARMUP, keys.warmup(), work)


def train(run: Run, selections: Iterable[str], seeds: Iterable[int] | None = None) -> None:
    """`checkpoints/<selection>`: the model tuned on the steps of each selection, once with each seed; with
    `train.objective: dpo`, `checkpoints/<selection>.dpo`, tuned on the step preferences at them.

    Args:
        run: whose config says how to train.
        selections: by name.
        seeds: some of the config's training seeds; None: all of them.
    """
    wanted = set(run.config.training_seeds if seeds is None else seeds)
    config, keys, selections = run.config, Keys(run), list(selections)
    _refuse_without_rollouts(config, selections)
    tuning = _trajectories(run, warm=False)
    for selection in selections:
        for checkpoint, seed in _checkpoints(config, selection):
            if seed not in wanted:
                continue

            def work(selection: str = selection, checkpoint: str = checkpoint, seed: int = seed) -> dict[str, Any]:
                from atlas_ray.training.examples import choose
                from atlas_ray.training.trainer import train as train_model
                from atlas_ray.training.trainer import with_budget

                start = keys.roster.start()
                options = with_budget(config, config.train.for_tuning(), start, tuning)
                if options.objective == "dpo":
                    ids = [each.trajectory_id for each in tuning]
                    found = rollout_preferences.established(keys.context, selection, ids)
                    say(f"  train {checkpoint}: {found}")
                    train_model(
                        config, run.store, name=checkpoint, start=start, trajectories=(), labels={}, options=options,
                        seed=seed, preferences=found.preferences,
                    )  # fmt: skip
                    return {
                        "selection": selection, "seed": seed, "objective": "dpo", **found.facts(),
                        **pinned.facts(model=config.model),
                    }  # fmt: skip
                chosen = choose(trajectories_of(run, selection, tuning), run.store.read_selections(selection))
                say(f"  train {checkpoint}: {chosen}")
                train_model(
                    config, run.store, name=checkpoint, start=start, trajectories=chosen.trajectories,
                    labels=chosen.labels, options=options, seed=seed,
                )  # fmt: skip
                return {
                    "selection": selection, "seed": seed, "trajectories": len(chosen.trajectories),
                    "selection_errors": chosen.errors, "without_critical_steps": chosen.without_steps,
                    **({"failed_trajectories": chosen.failed} if chosen.failed else {}),
                    **pinned.facts(model=config.model),
                }  # fmt: skip

            run.once("train", checkpoint, keys.train(selection, seed), work)


def _checkpoints(config: PipelineConfig, selection: str) -> list[tuple[str, int]]:
    """Names and seeds of the checkpoints of a selection."""
    seeds = config.training_seeds
    return [(checkpoint_name(config, selection, seed), seed) for seed in seeds]


def _refuse_without_rollouts(config: PipelineConfig, selections: Iterable[str]) -> None:
    """Refuse what has no step preferences to learn, before anything is done.

    Raises:
        ConfigError: `train.objective` is `dpo`, and one of the selections rests on no rollouts.
    """
    if config.train.objective == "dpo":
        for selection in selections:
            rollout_preferences.playing_selection(config, selection)


# --- evaluate --------------------------------------------------------------------------------------------------------
def evaluate_models(run: Run) -> list[dict[str, Any]]:
    """`evaluation/<model>/`: episodes and `results.json` of every model, in the config's order."""
    keys, tables = Keys(run), []
    with Engines(run.config.engine) as kept:
        for entry in keys.roster.evaluated():

            def work(entry: Any = entry) -> dict[str, Any]:
                read = pinned.facts(
                    items=run.config.evaluate.items, instructions=run.config.evaluate.instructions,
                    model=run.config.model if entry.kind == "base" else None,
                )  # fmt: skip
                return _outcome(evaluate(run.config, run.store, entry, kept)) | read

            is_whole = partial(ledger.is_whole, run.store, entry.name)
            run.once("evaluate", entry.name, keys.evaluate(entry), work, is_whole)
            tables.append(run.store.read_json("evaluation", entry.name, "results.json"))
    return tables


def _outcome(results: dict[str, Any]) -> dict[str, Any]:
    scores = {name: entry["score"] for name, entry in results["environments"].items()}
    errors = sum(entry["errors"] for entry in results["environments"].values())
    return {"scores": scores, "errors": errors}


def result_cards(run: Run) -> dict[str, Any]:
    """The cards of the evaluated environments, for the tables."""
    return cards(run.config, evaluated_environments(run.config))


# --- verify ----------------------------------------------------------------------------------------------------------
def verify(run: Run) -> dict[str, Any]:
    """`verification/<model>/<selection>.json`: the model from scratch against from after each critical step."""
    config, keys = run.config, Keys(run)
    entry, selection = keys.roster.entry(config.verify.model), config.verify.selection

    def work() -> dict[str, Any]:
        from atlas_ray.evaluation.verify import verify as verify_steps

        tuning = trajectories_of(run, selection, _trajectories(run, warm=False))
        known = cards(config, sorted({trajectory.env for trajectory in tuning}))
        result = verify_steps(config, run.store, entry, tuning, run.store.read_selections(selection), known)
        return {"errors": sum(found["errors"] for found in result["environments"].values())}

    run.once(*_verification(config, entry.name, keys.verify(entry, selection)), work)
    result: dict[str, Any] = run.store.read_json("verification", entry.name, f"{selection}.json")
    return result


def _verification(config: PipelineConfig, model: str, key: str) -> Unit:
    return Unit("verification", f"{model} {config.verify.selection}", key)


# --- report ----------------------------------------------------------------------------------------------------------
def report(run: Run) -> tuple[str, str]:
    """`report.md`, `report.html` and, once something was evaluated, `report.png`: made anew each time, it is cheap."""
    from atlas_ray.report import write_report

    return write_report(run.config, run.store, result_cards(run))
