"""Method `verified`: where the expert's step turns a failed episode into a solved one (CSO, arXiv 2602.03412).

A model plays the tasks of the trajectories from the beginning. In each failed episode the environment's expert acts
once, in the place of one of the model's steps, and the model plays on. The step is critical if the task is then solved:
the expert's step is good there, and the model can use it. What is trained is the expert's step in the model's own
conversation, so the selection is of trajectories of its own, kept beside it (`selections/<name>/trajectories/`):

- for every verified step the conversation up to it, the expert's step, and how the model solved the task from there;
  its one critical step is the expert's;
- for a failed episode without a verified step the episode itself, with no critical step, or an error.

Of an episode's verified steps at most the budget counts, the earlier first. A step at which the expert would act as the
model did is not tried. Unlike CSO, every step is a candidate, as far as `max_rollouts` reaches: no reward model picks
them; and the steps are trained, not the preferences between two actions. One solved continuation can be luck, which
`rollouts` above 1 makes less likely. Episodes are kept in `select/verified.jsonl`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from atlas_ray.errors import AtlasError, ConfigError
from atlas_ray.hashing import content_hash, draw
from atlas_ray.progress import Progress, say
from atlas_ray.roster import RosterEntry
from atlas_ray.selection.budget import budget
from atlas_ray.selection.method import RuleMethod, SelectionContext
from atlas_ray.selection.sampling import SamplingMethod, SamplingOptions
from atlas_ray.trajectory import Episode, Message, Selection, Split, Trajectory

if TYPE_CHECKING:
    from atlas_ray.evaluation.forked import Forked
    from atlas_ray.rollout.driver import Rollouts
    from atlas_ray.selection.chunks import Plan

JOURNAL = ("select", "verified.jsonl")


class VerifiedOptions(SamplingOptions):
    """Method `verified` (CSO): the expert's step in a failed episode of the model, which then plays on.

    Episodes are played as `evaluate` says (length of a reply, calls per step, when to give up), but sample.
    """

    episodes: int = Field(1, gt=0)
    """Episodes of every task from the beginning, to find failed ones among."""
    rollouts: int = Field(1, gt=0)
    """Continuations after the expert's step; all of them have to solve the task."""
    max_rollouts: int = Field(1000, gt=0)
    """Continuations at most, shared out evenly among the failed episodes; the seed draws the steps that are tried."""


@dataclass(frozen=True)
class _Task:
    """A task to play from the beginning, and the trajectory that it is from."""

    trajectory_id: str
    env: str
    item_id: str
    split: Split
    task: int
    seed: int
    opening: tuple[Message, ...]


class VerifiedSteps(SamplingMethod, RuleMethod):
    """The expert's step of every trajectory that `prepare` made of a verified one."""

    summary = "steps of failed episodes at which the expert's action leads to success"
    phrase = "verified steps"
    source = "CSO, 2602.03412"
    needs = "an episode per task, and rollouts from the steps of the failed ones"
    own_trajectories = True
    color = ("#b5651d", "#f0b27a")
    Options = VerifiedOptions

    _facts: dict[str, Any] | None = None

    def prepare(self, context: SelectionContext, plan: Plan) -> list[Trajectory]:
        """Play the tasks, then the steps of the failed episodes; see the module.

        Raises:
            ConfigError: the model acts by tool calls, which the expert's steps are not.
            EngineError: an engine did not start.
            ModelError: the model has no tokenizer.
        """
        from atlas_ray.evaluation.forked import Forked, ForkedRollouts, costs
        from atlas_ray.rollout.driver import Rollouts
        from atlas_ray.rollout.player import playing as playing_model

        config, (entry, playing) = context.config, self.player(context)
        if playing.action_format == "tools":
            raise ConfigError(
                f"selection {self.spec.name!r}: method verified puts in the expert's steps as text; set "
                "evaluate.action_format to react, or take another method"
            )
        tasks, strange = _tasks(context, plan)
        with playing_model(entry, config.engine) as model, Rollouts(model, config.rollout) as rollouts:
            episodes = self._episodes(context, rollouts, tasks)
            lost = (_trajectory(*pair) for pair in episodes if pair[1].error is None and not pair[1].success)
            failed = {trajectory.trajectory_id: trajectory for trajectory in lost}
            tried = self._tried(list(failed.values()))
            forked = [Forked(trajectory, frozenset(tried[name])) for name, trajectory in sorted(failed.items())]
            total = self.options.rollouts * sum(map(len, tried.values()))
            branches = ForkedRollouts(
                config, context.store, entry, playing, forked, JOURNAL, rollouts,
                Progress(f"select {self.spec.name}", total, "continuations"), by_expert=True,
            )  # fmt: skip
            asked: set[str] = set()
            for each in branches:
                name = each.trajectory.trajectory_id
                if each.error is None and name not in asked:
                    asked.add(name)
                    branches.ask(each, self._forks(each))
        made = [trajectory for each in forked for trajectory in self._made(each, tried, entry)]
        errors = [episode.error for _, episode in episodes if episode.error is not None]
        self._facts = {
            "tasks": len(tasks), "tasks_unknown": len(strange), "episodes": len(episodes),
            "episodes_solved": sum(episode.success for _, episode in episodes), "episode_errors": len(errors),
            "failed": len(forked), "steps_tried": sum(map(len, tried.values())),
            "steps_verified": sum("instead_of" in each.metadata["verified"] for each in made),
            **costs(forked, [episode for _, episode in episodes]),
        }  # fmt: skip
        facts = self._facts
        say(
            f"  select {self.spec.name}: {facts['failed']} of {facts['episodes']} episodes failed; "
            f"{facts['steps_verified']} verified steps; {facts['rollouts']} episodes in all"
        )
        for what, found in (("tasks are unknown here", strange), ("episodes have an error", errors)):
            if found:
                say(f"  select {self.spec.name}: {len(found)} {what} ({found[0]})")
        return made

    def choose(self, trajectory: Trajectory, inputs: Mapping[str, Selection]) -> Selection:
        """The step that `prepare` put into the trajectory, if it is one of a verified step."""
        del inputs
        known = dict(trajectory.metadata["verified"])
        error, step = known.pop("error", None), known.pop("step", None)
        if error is not None:
            return self.row(trajectory, error=error, provenance=known)
        if step is None:
            return self.row(trajectory, provenance=known)
        reason = f"The model's own step here, after which it failed: {known.pop('instead_of')}"
        return self.row(trajectory, steps=(step,), reason=reason, provenance=known)

    def facts(self) -> dict[str, Any]:
        """Episodes, steps that were tried and verified, environment steps and tokens."""
        return self._facts or {}

    def _episodes(
        self, context: SelectionContext, rollouts: Rollouts, tasks: Sequence[_Task]
    ) -> list[tuple[_Task, Episode]]:
        """The model's episodes of the tasks, in their order; those that the journal has are not played again."""
        from atlas_ray.environments import registry
        from atlas_ray.rollout.spec import EpisodeSpec

        config, store, (entry, playing) = context.config, context.store, self.player(context)
        options = {env: config.collect_options(env) for env in {task.env for task in tasks}}
        versions = {env: registry.version(env, options[env]) for env in options}
        specs = [
            (task, EpisodeSpec(
                model=entry.name, model_key=entry.player_key(config.engine), env=task.env, task=task.task,
                split=task.split, seed=task.seed, playing=playing, options=options[task.env],
                env_version=versions[task.env], opening=task.opening, sample=sample,
                deadline_s=config.rollout.deadline_s,
            ))
            for task in tasks for sample in range(self.options.episodes)
        ]  # fmt: skip
        known = {row["episode"]["key"]: row for row in store.journal(*JOURNAL) if row["episode"]["error"] is None}
        found = {spec.key: Episode.model_validate(known[spec.key]["episode"]) for _, spec in specs if spec.key in known}
        owed = {spec.key: (task, spec) for task, spec in specs if spec.key not in found}
        progress = Progress(f"select {self.spec.name}", len(owed), "episodes")
        rollouts.add(spec for _, spec in owed.values())
        for episode in rollouts:
            assert isinstance(episode, Episode)  # an episode's task has an episode as its result
            row = {"trajectory_id": owed[episode.key][0].trajectory_id, "step": None, "sample": None}
            store.append([row | {"episode": episode.model_dump(mode="json")}], *JOURNAL)
            found[episode.key] = episode
            progress.add()
        return [(task, found[key]) for key, task in {spec.key: task for task, spec in specs}.items()]

    def _tried(self, failed: Sequence[Trajectory]) -> dict[str, tuple[int, ...]]:
        """The steps of each failed episode that are tried, by its id."""
        seed = self.spec.seed
        ordered = sorted(failed, key=lambda each: content_hash([seed, "verified", each.trajectory_id]))
        shares = shared_out([each.n_steps for each in ordered], self.options.max_rollouts // self.options.rollouts)
        return {
            each.trajectory_id: draw(range(each.n_steps), share, "verified", seed, each.trajectory_id)
            for each, share in zip(ordered, shares, strict=True)
        }

    def _forks(self, forked: Forked) -> list[Any]:
        """The continuations of a replayed episode: none where the expert's step ends it."""
        from atlas_ray.evaluation.forked import Fork

        return [
            Fork(step, sample)
            for step, start in sorted(forked.replayed.starts.items())
            if start.state.ending == "running"
            for sample in range(self.options.rollouts)
        ]

    def _made(self, forked: Forked, tried: Mapping[str, tuple[int, ...]], entry: RosterEntry) -> Iterator[Trajectory]:
        """The trajectories of a failed episode: one for every verified step, or the episode itself."""
        from atlas_ray.evaluation.forked import Fork

        failed = forked.trajectory
        known: dict[str, Any] = {
            "policy": entry.name, "seed": self.spec.seed, "tried": list(tried[failed.trajectory_id]),
            **self.options.determinants(),
        }  # fmt: skip
        if forked.error is not None:
            yield _with(failed, known | {"error": forked.error})
            return
        solved: dict[int, Episode | None] = {}
        for step, start in sorted(forked.replayed.starts.items()):
            played = [episode for fork, episode in forked.episodes.items() if fork.step == step]
            if start.state.success if not played else all(episode.success for episode in played):
                solved[step] = forked.episodes.get(Fork(step))
        known["verified_steps"] = sorted(solved)
        chosen = sorted(solved)[: budget(failed.n_steps, self.spec.ratio)]
        if not chosen:
            yield _with(failed, known)
        for step in chosen:
            start, rest = forked.replayed.starts[step], solved[step]
            own = failed.steps[step].content
            yield _with(
                failed, known | {"step": step, "failed": failed.trajectory_id, "instead_of": own},
                messages=(*start.messages, *(() if rest is None else rest.messages)),
                reward=start.state.score if rest is None else rest.score, success=True,
            )  # fmt: skip


def shared_out(lengths: Sequence[int], total: int) -> list[int]:
    """How many steps of each episode are tried: one more of each in turn, until all are or the total is spent.

    Args:
        lengths: steps of each episode.
        total: steps at most.
    """
    shares = [0] * len(lengths)
    for level in range(max(lengths, default=0)):
        for index, length in enumerate(lengths):
            if level < length and total > 0:
                shares[index] += 1
                total -= 1
    return shares


def _tasks(context: SelectionContext, plan: Plan) -> tuple[list[_Task], list[str]]:
    """The tasks of the planned trajectories, each once, and why others have none here."""
    from atlas_ray.environments import registry
    from atlas_ray.rollout.replay import task_of
    from atlas_ray.selection.chunks import read

    config, environments = context.config, set(registry.names())
    tasks: dict[tuple[Any, ...], _Task] = {}
    strange: list[str] = []
    made: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for chunk in plan.chunks:
            for trajectory in read(context.store, chunk):
                env = trajectory.env
                if env not in environments:
                    strange.append(f"{trajectory.trajectory_id}: there is no environment {env!r}")
                    continue
                if env not in made:
                    opened = registry.make(env, **config.collect_options(env))
                    made[env] = stack.enter_context(contextlib.closing(opened))
                try:
                    split, task, seed = task_of(trajectory, made[env], config.seed)
                except AtlasError as error:
                    strange.append(f"{trajectory.trajectory_id}: {error}")
                    continue
                tasks.setdefault(
                    (env, split, task, seed),
                    _Task(trajectory.trajectory_id, env, trajectory.item_id, split, task, seed,
                          _opening(trajectory.messages)),
                )  # fmt: skip
    return list(tasks.values()), strange


def _opening(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Instruction and acknowledgement of a trajectory; none where it begins otherwise, as the environment's then."""
    roles = [(message.role, message.step) for message in messages[:3]]
    return tuple(messages[:2]) if roles == [("user", None), ("assistant", None), ("user", None)] else ()


def _trajectory(task: _Task, episode: Episode) -> Trajectory:
    """A model's episode as a trajectory; equal episodes have equal ids."""
    return Trajectory(
        trajectory_id=_id(task.item_id, episode.messages), env=task.env, item_id=task.item_id, split=task.split,
        source="policy", messages=episode.messages, n_steps=_count(episode.messages), reward=episode.score,
        success=episode.success,
        metadata={"task": task.task, "seed": task.seed, "stop": episode.stop, "part": "tuning"},
    )  # fmt: skip


def _with(failed: Trajectory, known: dict[str, Any], **fields: Any) -> Trajectory:
    """A trajectory of `verified`: the failed episode with other fields, and what is known of it in its metadata."""
    messages: tuple[Message, ...] = fields.get("messages", failed.messages)
    fields |= {
        "trajectory_id": _id(failed.item_id, messages), "n_steps": _count(messages),
        "metadata": failed.metadata | {"verified": known},
    }  # fmt: skip
    return Trajectory.model_validate(failed.model_dump() | {"messages": messages} | fields)


def _id(item_id: str, messages: Sequence[Message]) -> str:
    return f"{item_id}_{content_hash([message.model_dump() for message in messages])[:8]}"


def _count(messages: Iterable[Message]) -> int:
    return sum(message.step is not None for message in messages)
