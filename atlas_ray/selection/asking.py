"""Methods that put one question per trajectory to a selector model: `llm`, `grade`.

Here are their options, the rule (one question, one repair, and what is recorded) and the stage that asks on the
cluster. What is asked and how an answer is read is the method's own. How a question travels to the endpoint is in
`inference/`; what is remembered of answers is in `journal.py`, and what paces the questions in `limits.py`.
"""

from __future__ import annotations

import asyncio
import gc
import os
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pyarrow as pa
from pydantic import Field

from atlas_ray import models, ray_metrics
from atlas_ray.errors import AtlasError, EndpointError, SelectionError
from atlas_ray.inference.client import Client
from atlas_ray.inference.cost import cost_usd, price_of
from atlas_ray.inference.resolve import SelectorEndpoint, endpoint_identity, resolve
from atlas_ray.inference.transport import Endpoint
from atlas_ray.inference.types import CallError, Reply
from atlas_ray.progress import say
from atlas_ray.section import RuntimeOnly
from atlas_ray.selection.answer import AnswerError
from atlas_ray.selection.batches import chunks_of, cluster_cpus, dataset, output_table, stop_table, tables
from atlas_ray.selection.chunks import read_rows
from atlas_ray.selection.journal import AnswerJournal, JournaledClient
from atlas_ray.selection.limits import Limits, RemoteBudgetGuard, pace
from atlas_ray.selection.method import Method, SelectionContext
from atlas_ray.selection.prompt import Ask, Prompt, PromptTooLongError, Question
from atlas_ray.selection.summary import Calls
from atlas_ray.store import GROUP_ROWS, Store
from atlas_ray.trajectory import Selection, Trajectory, Usage, trajectory_from_row

if TYPE_CHECKING:
    from atlas_ray.config import SelectionSpec
    from atlas_ray.selection.chunks import Plan

STAND_IN_NOTE = "chosen by the run's own base model in place of a capable selector; not to be trusted"
SLOTS_PER_ACTOR = 256
"""Requests that one process keeps under way, at a thousand or more answers a second."""
_AHEAD = 8
"""Trajectories that a process holds per slot: those that pause before another try, and those that wait to be written
in order, must not leave slots empty."""
_ENDED_BY_ITSELF = frozenset({"stop", "stop_sequence", "end_turn", "eos", "eos_token", "complete", "completed"})
"""Finish reasons, as providers name them, of an answer that was not cut."""
_STAND_IN_CONCURRENCY = 8
_STAND_IN_TIMEOUT_S = 600.0


class SelectorOptions(SelectorEndpoint):
    """The selector model, and how it is asked."""

    max_tokens: int = Field(1024, gt=0)
    """Length of an answer in tokens."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature."""
    requests_per_minute: RuntimeOnly[int | None] = Field(None, gt=0)
    """Cluster-wide limit; None leaves it to the endpoint's 429 answers."""
    tokens_per_minute: RuntimeOnly[int | None] = Field(None, gt=0)
    """Cluster-wide limit of prompt tokens (estimated) and `max_tokens` together; None: none."""
    budget_usd: RuntimeOnly[float | None] = Field(None, gt=0)
    """No question is asked that could bring what this run directory has paid above it; the answers so far are kept."""
    max_prompt_chars: int = Field(400_000, gt=0)
    """Longer trajectories have the middle of their observations elided, never a step dropped."""
    prices: dict[str, tuple[float, float]] = Field({"gpt-4o": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)})
    """USD per million prompt and completion tokens by model, or by the beginning of its name; list prices by default,
    which change: check them before a large run."""

    @property
    def sampling(self) -> dict[str, Any]:
        """The options of a question that its answer depends on."""
        return {"temperature": self.temperature, "max_tokens": self.max_tokens}


class AskingMethod(Method):
    """One question per trajectory; every answer is in the journal before it is used."""

    WORDING: ClassVar[str]
    """Identifies the wording of the questions."""
    SCHEMA: ClassVar[dict[str, Any]]
    """JSON schema of an answer, one for every trajectory."""
    Options = SelectorOptions

    def __init__(self, spec: SelectionSpec) -> None:
        super().__init__(spec)
        # few, so that progress shows, and not too few for the slots
        self.rows_per_chunk = min(GROUP_ROWS, max(16, self.options.concurrency // 2))

    @abstractmethod
    def question(self, trajectory: Trajectory, *, stand_in: bool) -> Prompt:
        """The first question about a trajectory that has steps.

        Args:
            trajectory: to judge.
            stand_in: ask the run's own model, which needs a short prompt and a constrained answer.

        Raises:
            PromptTooLongError: it does not fit into `max_prompt_chars`.
        """

    @abstractmethod
    def read(self, trajectory: Trajectory, text: str, *, cut: bool) -> dict[str, Any]:
        """Fields of the selection, from an answer.

        Args:
            trajectory: that the question was about.
            text: the answer.
            cut: the endpoint did not let it end by itself.

        Raises:
            AnswerError: it is not a valid answer.
        """

    @abstractmethod
    def repair(self, question: Question, trajectory: Trajectory, answer: str, error: str) -> Question:
        """The conversation that asks again after an answer that cannot be used, quoting what was wrong with it."""

    @abstractmethod
    def expected_tokens(self, trajectory: Trajectory) -> int:
        """Tokens of a typical answer, for an estimate of the cost."""

    def depends_on(self, context: SelectionContext) -> Any:
        """What would answer, and the wording of the questions."""
        named = endpoint_identity(self.options)
        return [self.WORDING, named or ["stand-in", context.roster.base().player_key(context.config.engine)]]

    def tables(self, context: SelectionContext, plan: Plan, stack: ExitStack) -> Iterator[pa.Table]:
        """Ask on the cluster; see `Method.tables`.

        Raises:
            EndpointError: the endpoint cannot be used.
            SelectionError: there is a budget, but no price for the model.
        """
        import ray
        import ray.data

        method, price = self, (0.0, 0.0)
        endpoint = resolve(self.options, os.environ)
        stand_in = endpoint is None
        if endpoint is None:
            endpoint, identity, method = self._stand_in(context, stack)
        else:
            identity = endpoint.model
            price = self._price_of(identity)
        note = ", a stand-in not to be trusted" if stand_in else ""
        say(f"  select {self.spec.name}: asking {identity} at {endpoint.base_url}{note}")
        options: SelectorOptions = method.options
        limits = None
        if options.requests_per_minute or options.tokens_per_minute or options.budget_usd:
            spent = AnswerJournal(context.store).spent_usd() if options.budget_usd else 0.0
            limits = (
                ray.remote(num_cpus=0)(Limits)
                .options(name=ray_metrics.actor_name("selector limits"))
                .remote(options.requests_per_minute, options.tokens_per_minute, options.budget_usd, spent)
            )
        actors = max(1, min(ceil(options.concurrency / SLOTS_PER_ACTOR), cluster_cpus()))
        slots, rows = max(1, options.concurrency // actors), self.rows_per_chunk
        chunks = 2 if rows == GROUP_ROWS else 1  # with many slots, what a task costs beside calls holds up all of them
        tasks = ceil(_AHEAD * slots / rows / chunks)
        return tables(
            dataset(plan, chunks, self.spec.name).map_batches(
                Selector,
                fn_constructor_args=(method, endpoint, identity, price, stand_in, slots, context.store.url, limits),
                batch_size=None,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=actors, max_concurrent_calls_per_actor=tasks),
                num_cpus=0.5,
            )
        )

    def _price_of(self, model: str) -> tuple[float, float]:
        """The price of the selector's model; (0, 0) for one that is not in the table, which is said."""
        price, section = price_of(self.options.prices, model), f"select.{self.spec.method}"
        if price is None:
            if self.options.budget_usd is not None:
                raise SelectionError(
                    f"{section}.budget_usd needs the price of {model!r}; add it to {section}.prices: "
                    f"{{{model}: [USD per million prompt tokens, USD per million completion tokens]}}"
                )
            say(f"  select {self.spec.name}: no price for {model!r} in {section}.prices; its cost counts as 0")
        return price or (0.0, 0.0)

    def _stand_in(self, context: SelectionContext, stack: ExitStack) -> tuple[Endpoint, str, Self]:
        """The run's own base model (in the quickstart the one on board), served locally until `stack` closes."""
        from atlas_ray.inference.endpoint import SERVED_NAME, LocalEndpoint

        config, options, section = context.config, self.options, f"select.{self.spec.method}"
        if options.model is not None:
            raise EndpointError(
                f"{section}.model is {options.model!r}, but no endpoint is named; set {options.api_key_env}, "
                f"OPENAI_BASE_URL or {section}.base_url"
            )
        identity = os.path.basename(config.model.rstrip("/"))
        say(f"  select {self.spec.name}: no endpoint is configured; starting a local one where {identity} stands in")
        path = models.resolve(config.model, trust_remote_code=config.trust_remote_code)
        url = stack.enter_context(LocalEndpoint(path, config.engine))
        slower = {
            "concurrency": min(options.concurrency, _STAND_IN_CONCURRENCY),
            "timeout_s": max(options.timeout_s, _STAND_IN_TIMEOUT_S),
            "budget_usd": None,
        }
        method = type(self)(replace(self.spec, options=options.model_copy(update=slower)))
        return Endpoint(base_url=url, model=SERVED_NAME), identity, method

    # --- the rule ------------------------------------------------------------------------------------------------
    async def judge(
        self, trajectory: Trajectory, ask: Ask, *, model: str, price: tuple[float, float], stand_in: bool = False
    ) -> Selection:
        """The selection that the selector's answer gives, or an error row.

        Args:
            trajectory: what to judge.
            ask: answers questions.
            model: recorded.
            price: USD per million prompt and completion tokens.
            stand_in: use the short, constrained prompt for the run's own model, and say so in the row.

        Raises:
            AtlasError: no question will be answered any more.
        """
        provenance: dict[str, Any] = {"model": model, "wording": self.WORDING}
        if stand_in:
            provenance |= {"stand_in": True, "note": STAND_IN_NOTE}
        if not trajectory.n_steps:
            return self.row(trajectory, provenance=provenance)
        try:
            prompt = self.question(trajectory, stand_in=stand_in)
        except PromptTooLongError as error:
            return self.row(trajectory, provenance=provenance, error=f"prompt_too_long: {error}")
        if prompt.elided:
            provenance["elided"] = prompt.elided
        replies: list[Reply] = []
        try:
            chosen, failure = await self._ask(trajectory, ask, prompt, replies)
        except CallError as error:
            chosen, failure = {}, str(error)
        if replies:
            provenance |= {"sampling": replies[-1].sampling, "answered_by": replies[-1].model}
        if len(replies) > 1:
            provenance["repaired"] = failure is None
        if not all(reply.usage_known for reply in replies):
            provenance["usage"] = "estimated"
        return self.row(trajectory, **chosen, error=failure, usage=_usage(replies, price), provenance=provenance)

    async def _ask(
        self, trajectory: Trajectory, ask: Ask, prompt: Prompt, replies: list[Reply]
    ) -> tuple[dict[str, Any], str | None]:
        """What a valid answer says, or what was wrong with the second one; every reply is appended to `replies`."""
        question, failure = prompt.question, ""
        for _ in range(2):
            reply = await ask(question)
            replies.append(reply)
            try:
                if reply.refusal is not None:
                    raise AnswerError("refusal", " ".join(reply.refusal.split())[:200] or "the answer was withheld")
                is_cut = reply.finish_reason.lower() not in _ENDED_BY_ITSELF
                return self.read(trajectory, reply.text, cut=is_cut), None
            except AnswerError as error:
                failure = str(error)
                question = self.repair(prompt.question, trajectory, reply.text, error.detail)
        return {}, failure


def _usage(replies: Sequence[Reply], price: tuple[float, float]) -> Usage:
    prompt_tokens = sum(reply.prompt_tokens for reply in replies)
    completion_tokens = sum(reply.completion_tokens for reply in replies)
    cost = cost_usd(prompt_tokens, completion_tokens, price)
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, cost_usd=round(cost, 9))


# --- the stage -------------------------------------------------------------------------------------------------------
class Selector:
    """Stage: an actor that keeps many questions under way at a time.

    Args:
        method: with the options of the selection.
        endpoint: where the questions go.
        identity: names the model, whatever the endpoint calls it.
        price: USD per million prompt and completion tokens.
        stand_in: the run's own model serves.
        slots: questions of this actor under way at a time.
        run_dir: URL of the run directory, for trajectories and journal.
        limits: the `Limits` actor; None without rate limits and budget.
    """

    def __init__(
        self, method: AskingMethod, endpoint: Endpoint, identity: str, price: tuple[float, float], stand_in: bool,
        slots: int, run_dir: str, limits: Any,
    ) -> None:  # fmt: skip
        options: SelectorOptions = method.options
        limited = options.requests_per_minute is not None or options.tokens_per_minute is not None
        client = Client(
            endpoint, timeout_s=options.timeout_s, max_retries=options.max_retries, concurrency=slots,
            pace=pace(limits) if limited else None, max_wait_s=options.max_wait_s,
        )  # fmt: skip
        self._store = Store(run_dir)
        self._journal, self._room = AnswerJournal(self._store), client.room
        self._client = JournaledClient(
            client, self._journal, identity, options.sampling, method.SCHEMA, price,
            RemoteBudgetGuard(limits, options.budget_usd) if options.budget_usd is not None else None,
        )  # fmt: skip
        self._method, self._identity, self._price, self._stand_in = method, identity, price, stand_in
        self._preparing = asyncio.Lock()
        _collect_garbage_rarely()

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        """Select in every trajectory of the batch, all of them at once as far as there are slots."""
        read = self._read(batch) if self._store.is_local else await asyncio.to_thread(self._read, batch)
        calls: list[Calls] = []
        tasks: list[asyncio.Task[Selection]] = []
        async with self._preparing:
            for row in read:
                await self._room.wait()
                calls.append(Calls())
                tasks.append(asyncio.create_task(self._select(trajectory_from_row(row), calls[-1])))
                await asyncio.sleep(0)  # answers that have come go first: others wait for their slots
        results = await asyncio.gather(*tasks, return_exceptions=True)
        selections = []
        for result in results:
            if isinstance(result, AtlasError):
                yield stop_table(result)
                return
            if isinstance(result, BaseException):
                raise result
            selections.append(result)
        yield output_table(selections, calls)

    def _read(self, batch: pa.Table) -> list[dict[str, Any]]:
        self._journal.refresh()
        return [row for chunk in chunks_of(batch) for row in read_rows(self._store, chunk)]

    async def _select(self, trajectory: Trajectory, calls: Calls) -> Selection:
        ask = self._client.asker(calls)
        return await self._method.judge(
            trajectory, ask, model=self._identity, price=self._price, stand_in=self._stand_in
        )


def _collect_garbage_rarely() -> None:
    """Rows and questions are many small objects without cycles. Looking for cycles in all of them took two thirds of
    the time of reading, and the event loop stood still meanwhile.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)
