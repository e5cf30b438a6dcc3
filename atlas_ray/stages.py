"""The stages of a run: what each depends on, when it is current, and where it writes.

Every stage reads what the stages before it wrote, writes its own directory and records a key (hash of its config and of
its inputs' keys) in its manifest when it is done; a stage whose key is recorded is skipped. The work itself is
done by the packages called here, each imported where it is called: torch and vLLM take seconds, and `--help`, a wrong
option and a run with nothing to do need neither.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from atlas_ray import models
from atlas_ray.config import Method, PipelineConfig, load
from atlas_ray.errors import ConfigError
from atlas_ray.evaluation.run import cards, evaluate, evaluated_environments
from atlas_ray.formats import files
from atlas_ray.inference.resolve import endpoint_identity
from atlas_ray.progress import say
from atlas_ray.rollout.player import REFERENCE_POLICIES, Agent
from atlas_ray.run import Run
from atlas_ray.selection.export import Format
from atlas_ray.selection.export import export as export_selection
from atlas_ray.store import Store, content_hash
from atlas_ray.trajectory import Trajectory

METHODS: tuple[Method, ...] = get_args(Method)
RANDOM_STEPS = "random_steps"


def wanted_selections(config: PipelineConfig) -> list[Method]:
    """The selections to train on: those of `train.selections` and those among the models to evaluate."""
    named = [selection for name in config.evaluate.models if (selection := _selection_of(name)) is not None]
    return list(dict.fromkeys([*config.train.selections, *named]))


def _selection_of(model: str) -> Method | None:
    """The selection that a model of the table was tuned on; None for any other model.

    `random` is the policy that acts at random, so the model tuned on random steps is called `random_steps`.
    """
    if model == RANDOM_STEPS:
        return "random"
    return next((method for method in METHODS if method == model and model not in REFERENCE_POLICIES), None)


# --- collect ---------------------------------------------------------------------------------------------------------
def collect(run: Run) -> list[Trajectory]:
    """`trajectories/`: expert trajectories of training tasks, or an import."""

    def work() -> dict[str, Any]:
        from atlas_ray.collect import collect as collect_trajectories

        trajectories, facts = collect_trajectories(run.config)
        run.store.write_trajectories(trajectories)
        return facts

    run.once("collect", "trajectories", _collect_key(run), work)
    return run.store.read_trajectories()


def _collect_key(run: Run) -> str:
    config = run.config
    source = config.collect.source
    imported = [] if source == "expert" else files.fingerprint(source)
    return content_hash(["collect", config.seed, config.environments, config.collect.model_dump(mode="json"), imported])


def warmup_split(
    config: PipelineConfig, trajectories: Sequence[Trajectory]
) -> tuple[list[Trajectory], list[Trajectory]]:
    """Trajectories for the warm-up and for tuning: disjoint by id, drawn per environment by the seed."""
    chosen = _warmup_ids(config, [(trajectory.env, trajectory.trajectory_id) for trajectory in trajectories])
    warm = [trajectory for trajectory in trajectories if trajectory.trajectory_id in chosen]
    return warm, [trajectory for trajectory in trajectories if trajectory.trajectory_id not in chosen]


def _warmup_ids(config: PipelineConfig, trajectories: Sequence[tuple[str, str]]) -> set[str]:
    """The ids for the warm-up among (environment, id)."""
    if config.train.warmup is None:
        return set()
    chosen: set[str] = set()
    for name in sorted({env for env, _ in trajectories}):
        ids = [identity for env, identity in trajectories if env == name]
        ids.sort(key=lambda identity: content_hash([config.seed, "warmup", identity]))
        chosen.update(ids[: round(config.train.warmup.fraction * len(ids))])
    return chosen


def tuning_ids(run: Run) -> list[str]:
    """Ids of the stored trajectories that are not the warm-up's; reads no texts."""
    found = run.store.trajectory_ids()
    warm = _warmup_ids(run.config, found)
    return [identity for _, identity in found if identity not in warm]


# --- select ----------------------------------------------------------------------------------------------------------
def select(run: Run, methods: Iterable[Method]) -> None:
    """`selections/<method>/`: the critical steps of the tuning set by each method, and by those that it is made of.

    Raises:
        ConfigError: a method is made of itself.
    """
    config, ids = run.config, tuning_ids(run)
    for method in selection_order(config, methods):
        scorer = _start_model(run)[0] if method == "perplexity" else None

        def work(method: Method = method, scorer: str | None = scorer) -> dict[str, Any]:
            if method == "value":
                return _select_by_value(run, ids)
            from atlas_ray.selection.run import select as select_steps

            return select_steps(config, run.store, method, ids, scorer_model=scorer)

        run.once("select", method, _select_key(run, method), work)


def estimate_selector(run: Run) -> str:
    """What the `llm` method would ask and cost, in a few lines; nothing is asked."""
    from atlas_ray.selection.estimate import estimate

    return estimate(run.config, run.store, tuning_ids(run)).text()


def compare_selections(run: Run) -> tuple[str, str]:
    """`compare/`: every stored selection beside the others, per environment.

    Returns:
        The table in Markdown, and the path of the plot.

    Raises:
        SelectionError: there is none, or one was made for other trajectories.
    """
    from atlas_ray.report import selections
    from atlas_ray.selection.compare import compare

    count = models.token_counter(models.resolve(run.config.model))
    figures = compare(run.store, run.store.names("selections"), count, tuning_ids(run))
    run.store.write_json(figures, "compare", "figures.json")
    text = selections.table(figures)
    run.store.write_text(text, "compare", "table.md")
    return text, run.store.write_bytes(selections.plot(figures), "compare", "plot.png")


def export(run: Run, method: str, form: Format, path: str) -> str:
    """A selection as another trainer's data; returns what was done, in a line."""
    written, left_out = export_selection(run.store, method, form, path, tuning_ids(run))
    rest = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
    return f"{path}: {written} trajectories with the steps of {method!r}" + (f"; left out: {rest}" if rest else "")


def _made_of(config: PipelineConfig, method: Method) -> list[Method]:
    """The selections that a method reads."""
    if method == "non_critical":
        return [config.select.complement_of]
    return sorted(config.select.hybrid.weights) if method == "hybrid" else []


def selection_order(config: PipelineConfig, methods: Iterable[Method]) -> list[Method]:
    """The methods and all that they are made of, each after its parts.

    Raises:
        ConfigError: a method is made of itself.
    """
    ordered: list[Method] = []

    def visit(method: Method, above: tuple[Method, ...]) -> None:
        if method in above:
            raise ConfigError(
                f"select: {' <- '.join([*above, method])} goes in a circle; change select.complement_of or "
                "select.hybrid.weights"
            )
        for part in _made_of(config, method):
            visit(part, (*above, method))
        if method not in ordered:
            ordered.append(method)

    for method in methods:
        visit(method, ())
    return ordered


def _select_key(run: Run, method: Method) -> str:
    config = run.config
    parts: list[Any] = ["select", method, config.seed, config.select.ratio, run.required("collect", "trajectories")]
    if config.train.warmup is not None:
        parts.append(config.train.warmup.fraction)
    if method == "llm":
        answers = {"model", "max_tokens", "temperature", "max_prompt_chars"}
        parts += [
            config.select.llm.model_dump(mode="json", include=answers),
            endpoint_identity(config.select.llm, config.model),
        ]
    elif method == "perplexity":
        parts.append(_start_model(run)[1])
        reference = config.select.perplexity.reference_model
        if reference is not None:
            parts.append(_base_key(config.model_copy(update={"model": reference})))
    elif method == "value":
        rule = config.select.value.model_dump(mode="json", exclude={"model"})
        parts += [rule, _playing(config), config.environments, _value_agent(run).key]
    elif method == "hybrid":
        parts.append(config.select.hybrid.weights)
    parts += [_select_key(run, part) for part in _made_of(config, method)]
    return content_hash(parts)


def _select_by_value(run: Run, ids: Sequence[str]) -> dict[str, Any]:
    from atlas_ray.value import select as select_by_value

    wanted = set(ids)
    tuning = [trajectory for trajectory in run.store.read_trajectories() if trajectory.trajectory_id in wanted]
    rows = select_by_value(run.config, run.store, tuning, _value_agent(run))
    return {"trajectories": len(rows), "errors": sum(row.error is not None for row in rows)}


def _value_agent(run: Run) -> Agent:
    """Who plays the rollouts of method `value`."""
    name = run.config.select.value.model
    if name is None:
        name = "base" if run.config.train.warmup is None else "warmup"
    return _agent(run, name)


def _playing(config: PipelineConfig) -> dict[str, Any]:
    """How models play, of what `evaluate` says."""
    how = {"max_new_tokens", "give_up_after", "calls_per_step", "token_budget"}
    return config.evaluate.model_dump(mode="json", include=how)


# --- train -----------------------------------------------------------------------------------------------------------
def warm_up(run: Run) -> None:
    """`checkpoints/warmup`: the base model after all steps of the warm-up trajectories, if the config asks for one."""
    config = run.config
    if config.train.warmup is None:
        return

    def work() -> dict[str, Any]:
        from atlas_ray.training.run import train as train_model

        warm, _ = warmup_split(config, run.store.read_trajectories())
        steps = {trajectory.trajectory_id: tuple(range(trajectory.n_steps)) for trajectory in warm}
        train_model(
            config, run.store, name="warmup", base=config.model, trajectories=warm, steps=steps,
            options=config.train.for_warmup(),
        )  # fmt: skip
        return {"trajectories": len(warm)}

    run.once("train", "warmup", _warmup_key(run), work)


def _warmup_key(run: Run) -> str:
    config = run.config
    recipe = config.train.for_warmup().recipe()
    return content_hash(["warmup", config.seed, recipe, run.required("collect", "trajectories"), _base_key(config)])


def train(run: Run, selections: Iterable[Method]) -> None:
    """`checkpoints/<selection>`: the model tuned on the critical steps that each selection names."""
    config = run.config
    _, tuning = warmup_split(config, run.store.read_trajectories())
    for selection in selections:

        def work(selection: Method = selection) -> dict[str, Any]:
            from atlas_ray.training.examples import choose
            from atlas_ray.training.run import train as train_model

            chosen = choose(tuning, run.store.read_selections(selection))
            train_model(
                config, run.store, name=selection, base=_start_model(run)[0], trajectories=chosen.trajectories,
                steps=chosen.steps,
            )  # fmt: skip
            return {
                "trajectories": len(chosen.trajectories),
                "selection_errors": len(tuning) - len(chosen.trajectories),
            }

        run.once("train", selection, _train_key(run, selection), work)


def _train_key(run: Run, selection: Method) -> str:
    return content_hash(
        ["train", run.config.seed, run.config.train.recipe(), run.required("select", selection), _start_model(run)[1]]
    )


def _start_model(run: Run) -> tuple[str, str]:
    """Directory and key of the model that tuning starts from, which scores perplexity too."""
    if run.config.train.warmup is None:
        return models.resolve(run.config.model), _base_key(run.config)
    return run.store.path("checkpoints", "warmup"), run.required("train", "warmup")


def _base_key(config: PipelineConfig) -> str:
    if config.model == models.ON_BOARD:
        return config.model
    directory = Path(models.resolve(config.model))
    files = sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in directory.iterdir() if f.is_file())
    return content_hash([config.model, files])


# --- evaluate --------------------------------------------------------------------------------------------------------
def evaluate_models(run: Run) -> list[dict[str, Any]]:
    """`evaluation/<model>/`: episodes and `results.json` of every model, in the config's order."""
    config = run.config
    settings = config.evaluate.model_dump(mode="json", exclude={"models", "endpoints"})
    environments = evaluated_environments(config)
    tables = []
    for name in config.evaluate.models:
        agent = _agent(run, name)
        key = content_hash(["evaluate", config.seed, settings, environments, config.environments, agent.key])

        def work(agent: Agent = agent) -> dict[str, Any]:
            return _outcome(evaluate(config, run.store, agent))

        run.once("evaluate", agent.name, key, work)
        tables.append(run.store.read_json("evaluation", agent.name, "results.json"))
    return tables


def _outcome(results: dict[str, Any]) -> dict[str, Any]:
    scores = {name: entry["score"] for name, entry in results["environments"].items()}
    errors = sum(entry["errors"] for entry in results["environments"].values())
    return {"scores": scores, "errors": errors}


def _agent(run: Run, name: str) -> Agent:
    """A model by its name in the config.

    Raises:
        ConfigError: the name says what the config does not have.
        StoreError: the model has not been trained.
    """
    if name in REFERENCE_POLICIES:
        return Agent(name, name)
    endpoint = run.config.evaluate.endpoints.get(name)
    if endpoint is not None:
        return Agent(name, content_hash(["endpoint", endpoint.base_url, endpoint.model]), endpoint=endpoint)
    if name == "base":
        return Agent(name, _base_key(run.config), models.resolve(run.config.model))
    if name == "warmup" and run.config.train.warmup is None:
        raise ConfigError("the model 'warmup' needs the section train.warmup; add it or drop the model")
    checkpoint = _selection_of(name) or ("warmup" if name == "warmup" else None)
    if checkpoint is not None:
        return Agent(name, run.required("train", checkpoint), run.store.path("checkpoints", checkpoint))
    directory = models.resolve(name)
    key = _base_key(run.config.model_copy(update={"model": name}))
    return Agent(Path(name.rstrip("/")).name, key, directory)


def comparisons(run: Run) -> list[str]:
    """Every other model against the first of the config's that needs an engine, paired by task, in words."""
    from atlas_ray.evaluation.compare import against

    names, known = [_agent(run, name).name for name in run.config.evaluate.models], result_cards(run)
    first = next((name for name in names if name not in REFERENCE_POLICIES), names[0])
    others = [name for name in names if name != first]
    return [line for name in others for line in against(run.config, run.store, first, name, known)]


def result_cards(run: Run) -> dict[str, Any]:
    """The cards of the evaluated environments, for the tables."""
    return cards(run.config, evaluated_environments(run.config))


# --- verify ---------------------------------------------------------------------------------------------------------
def verify(run: Run) -> dict[str, Any]:
    """`verification/<model>/<selection>.json`: the model from scratch against from after each critical step."""
    config = run.config
    agent, selection = _agent(run, config.verify.model), config.verify.selection
    parts = [config.seed, config.verify.trajectories, _playing(config), config.evaluate.temperature]
    key = content_hash(["verify", *parts, config.environments, agent.key, run.required("select", selection)])

    def work() -> dict[str, Any]:
        from atlas_ray.evaluation.verify import verify as verify_steps

        _, tuning = warmup_split(config, run.store.read_trajectories())
        known = cards(config, sorted({trajectory.env for trajectory in tuning}))
        result = verify_steps(config, run.store, agent, tuning, run.store.read_selections(selection), known)
        return {"errors": sum(entry["errors"] for entry in result["environments"].values())}

    run.once("verification", f"{agent.name} {selection}", key, work)
    result: dict[str, Any] = run.store.read_json("verification", agent.name, f"{selection}.json")
    return result


# --- report ----------------------------------------------------------------------------------------------------------
def report(run: Run) -> tuple[str, str]:
    """`report.md`, `report.html` and, once something was evaluated, `report.png`: made anew each time, it is cheap."""
    from atlas_ray.report import picture, write_report

    if run.store.names("evaluation"):
        picture(run.store)
    return write_report(run.config, run.store, result_cards(run))


# --- serve -----------------------------------------------------------------------------------------------------------
@contextmanager
def serve(run: Run) -> Iterator[str]:
    """The tuned model, and the base beside it, on Ray Serve for as long as the block lasts or until Ctrl-C or SIGTERM;
    yields the URL.

    Raises:
        ConfigError: the model is unknown, or the address cannot be used.
        StoreError: the model has not been trained.
        EngineError: a model could not be served.
    """
    from atlas_ray.serving import app

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, in whatever state the start is
    try:
        yield app.start(run.config, served_models(run))
    except KeyboardInterrupt:
        pass
    finally:
        say("stopping: requests under way may finish")
        app.stop()


def service(arguments: dict[str, Any]) -> Any:
    """What `serve` deploys, for a Ray Serve whose config file names this function: `serve run`, KubeRay's RayService.

    Where that Serve listens is not ours to know, so a key in the environment (`serve.api_key_env`) is demanded.

    Args:
        arguments: `config`, a YAML file on the nodes, and dotted options that go over it, as on a command line.

    Raises:
        ConfigError: an option is wrong, the model is unknown, or there is no key.
        StoreError: the model has not been trained.
    """
    from atlas_ray.serving import app

    options = dict(arguments)
    config = load(options.pop("config", None), options)
    key = app.key_of(config.serve, needed=True)
    return app.build(config, served_models(Run(config, Store(config.run_dir))), key)


def served_models(run: Run) -> dict[str, str]:
    """Model directories by the names they are served under, the tuned one first."""
    config, chosen = run.config, run.config.serve.model
    if chosen is not None and chosen.startswith("checkpoints/"):
        chosen = chosen.removeprefix("checkpoints/").rstrip("/")
        if not run.store.exists("checkpoints", chosen, "config.json"):
            there = ", ".join(run.store.names("checkpoints")) or "none"
            raise ConfigError(f"serve.model: {run.store.url} has no checkpoint {chosen!r}; there are: {there}")
        models_served = {chosen: run.store.path("checkpoints", chosen)}
    elif chosen is not None:
        models_served = {Path(chosen.rstrip("/")).name: models.resolve(chosen)}
    else:
        name = RANDOM_STEPS if config.train.selections[0] == "random" else config.train.selections[0]
        agent = _agent(run, name)
        models_served = {agent.name: str(agent.directory)}
    return models_served | ({"base": models.resolve(config.model)} if config.serve.base else {})
