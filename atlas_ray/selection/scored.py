"""Methods that score steps by what a model says of them as it reads the trajectory: `perplexity`, `entropy`, `gain`.

A method names its models, the stage that they run in (`prefill.py`), and its formula: from what the stage found of a
trajectory to one score a step. The budget's number of steps with the highest score is chosen.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from atlas_ray import models
from atlas_ray.errors import AtlasError
from atlas_ray.selection.batches import chunks_of, dataset, error_from, output_table, stop_table, tables
from atlas_ray.selection.budget import highest
from atlas_ray.selection.chunks import read
from atlas_ray.selection.method import Method, SelectionContext
from atlas_ray.selection.prefill import Found, Prefill, ScoringModel, TokenScorer, read_found
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory, Usage

if TYPE_CHECKING:
    import ray.data

    from atlas_ray.selection.chunks import Plan


class ScoredMethod(Method):
    """The budget's number of steps with the highest score; of equal steps the earlier."""

    stage: ClassVar[type[Prefill]] = TokenScorer
    rows_per_chunk = 32  # fixed, because the other sequences of a batch move the last digits of a score

    def models(self, context: SelectionContext) -> list[ScoringModel]:
        """Who reads the trajectories: the model that tuning starts from.

        Raises:
            ModelError: a model cannot be used.
        """
        config, start = context.config, context.roster.start()
        model = config.model if start.kind == "base" else str(start.directory)
        name = model.removeprefix(context.store.root + "/")
        key = start.player_key(config.engine)
        thinks = config.evaluate.thinking.on
        return [ScoringModel(model, name, key, config.engine, config.trust_remote_code, thinks)]

    @abstractmethod
    def scores(self, *found: Found) -> Sequence[float]:
        """One score for each step, from what each of the `models` found of a trajectory."""

    def depends_on(self, context: SelectionContext) -> Any:
        """The model, the engine's context and data type, and whether prompts ask for thinking."""
        config = context.config
        return [context.roster.start().player_key(config.engine), config.evaluate.thinking.on]

    def tables(self, context: SelectionContext, plan: Plan, stack: ExitStack) -> Iterator[pa.Table]:
        """Score on the engines, then choose; see `Method.tables`.

        Raises:
            ModelError: a model cannot be used.
        """
        del stack
        first, *others = self.models(context)
        scored = self._scored(context, plan, dataset(plan, 1, self.spec.name), first)
        for model in others:  # one model after the other, so that both need not fit beside each other
            scored = self._scored(context, plan, scored.materialize(), model)
        options = {"method": self, "run_dir": context.store.url}
        return tables(
            scored.map_batches(choose, batch_format="pyarrow", batch_size=None, fn_kwargs=options, num_cpus=0.5)
        )

    def judge(self, trajectory: Trajectory, found: Sequence[Found], names: Sequence[str]) -> Selection:
        """The selection that follows from what the models found; an error row if one of them gave an error.

        Args:
            trajectory: to judge.
            found: of each of the `models`.
            names: theirs, recorded as `model` and, for a second one, `reference_model`.
        """
        provenance: dict[str, Any] = {}
        for prefix, each, name in zip(("", "reference_"), found, names, strict=False):
            provenance[f"{prefix}model"] = name
            if each.get("windows"):
                provenance[f"{prefix}windows"] = {"count": each["windows"], "tokens": each["width"]}
        usage = Usage(prompt_tokens=sum(each["tokens"] for each in found))
        error = next((each["error"] for each in found if each["error"] is not None), None)
        if error is None:
            scores = tuple(self.scores(*found)) if trajectory.n_steps else ()
            wrong = [step for step, score in enumerate(scores) if not isfinite(score)]
            if not wrong:
                steps = highest(scores, self.spec.ratio)
                return self.row(trajectory, steps=steps, scores=scores, usage=usage, provenance=provenance)
            error = f"score: that of step {wrong[0]} is no number"
        return self.row(trajectory, error=error, usage=usage, provenance=provenance)

    def _scored(
        self, context: SelectionContext, plan: Plan, data: ray.data.Dataset, model: ScoringModel
    ) -> ray.data.Dataset:
        import ray.data

        from atlas_ray.inference.engine import engine_environment, engine_resources

        engine = model.engine
        path = models.resolve(model.model, trust_remote_code=model.trust_remote_code)
        models.load_tokenizer(path)  # a model that cannot be used fails here, with one line
        return data.map_batches(
            self.stage,
            fn_constructor_args=(model, context.store.url),
            batch_size=1,  # a chunk; Ray Data refuses whole blocks for a stage on GPUs
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=min(engine.replicas, len(plan.chunks))),
            runtime_env={"env_vars": engine_environment(engine)},
            **engine_resources(engine),
        )


def choose(batch: pa.Table, *, method: ScoredMethod, run_dir: str) -> pa.Table:
    """Last stage: from what the models found of the trajectories to their selections."""
    store, selections = Store(run_dir), []
    for chunk, row in zip(chunks_of(batch), batch.to_pylist(), strict=True):
        if row["stop"] is not None:
            return stop_table(error_from(*json.loads(row["stop"])))
        scored = json.loads(row["scored"])
        try:
            found = zip(*(read_found(store, each["file"]) for each in scored), strict=True)
        except AtlasError as error:
            return stop_table(error)
        names = [each["model"] for each in scored]
        selections += [
            method.judge(trajectory, of_models, names)
            for trajectory, of_models in zip(read(store, chunk), found, strict=True)
        ]
    return output_table(selections)
