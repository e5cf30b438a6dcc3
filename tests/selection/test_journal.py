"""What is kept of a selector's answers, by one process or several."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from atlas_ray.errors import BudgetError, StoreError
from atlas_ray.inference.client import Client
from atlas_ray.inference.transport import Endpoint
from atlas_ray.inference.types import CallError, Reply
from atlas_ray.selection.journal import AnswerJournal, JournaledClient
from atlas_ray.selection.limits import Limits
from atlas_ray.selection.prompt import Question
from atlas_ray.selection.summary import Calls
from atlas_ray.store import Store
from tests.conftest import STORAGE, run_dir_on
from tests.endpoint_server import MISSING, Answer, EndpointServer, Raw


def reply(text: str) -> Reply:
    return Reply(text, "selector", "stop", prompt_tokens=7, completion_tokens=2, sampling={"temperature": 0.0})


@pytest.fixture(params=STORAGE)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(run_dir_on(request.param, request, tmp_path))


def files(store: Store) -> list[str]:
    return [store.path("select", "journal", name) for name in store.names("select", "journal")]


def test_every_answer_is_found_again_by_who_wrote_it_and_by_others(store: Store) -> None:
    async def keep() -> AnswerJournal:
        writer, other = AnswerJournal(store), AnswerJournal(store)
        await asyncio.gather(*(writer.write(f"k{n}", reply(f'"key": "k{n}"\nü'), 0.5) for n in range(20)))
        assert (await writer.read("k3"), await other.read("k3")) == (reply('"key": "k3"\nü'), None)
        for journal in (writer, other):
            journal.refresh()
            assert [(await journal.read(f"k{n}")) for n in range(20)] == [reply(f'"key": "k{n}"\nü') for n in range(20)]
            assert (journal.has("k19"), journal.has("k20"), await journal.read("k20")) == (True, False, None)
        await other.write("k20", reply("the other's"), 0.25)
        writer.refresh()
        assert await writer.read("k20") == reply("the other's")
        return writer

    assert asyncio.run(keep()).spent_usd() == 10.25
    assert len(files(store)) == 2


def test_a_line_that_a_kill_tore_is_owed_again_and_the_others_are_not(store: Store) -> None:
    async def keep(*keys: str) -> None:
        journal = AnswerJournal(store)
        for key in keys:
            await journal.write(key, reply(key), 1.0)

    asyncio.run(keep("a", "b"))
    (file,) = files(store)
    whole = store.fs.cat_file(file)
    with store.fs.open(file, "wb") as stream:
        stream.write(whole[:-20])
    journal = AnswerJournal(store)
    assert (journal.has("a"), journal.has("b")) == (True, False)
    with store.fs.open(file, "wb") as stream:
        stream.write(whole)  # it was not a kill: the line was on its way
    journal.refresh()
    assert asyncio.run(journal.read("b")) == reply("b")


def test_who_waits_for_a_write_that_fails_is_told(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    folder = tmp_path / "select" / "journal"
    folder.mkdir(parents=True)

    async def keep() -> None:
        journal = AnswerJournal(store)
        os.symlink("/dev/full", folder / journal._file)
        found = await asyncio.gather(*(journal.write(key, reply(key), 1.0) for key in "abc"), return_exceptions=True)
        assert [type(each) for each in found] == [StoreError] * 3

    asyncio.run(keep())


class Guard:
    """A `BudgetGuard` over limits in this process."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    async def reserve(self, usd: float) -> None:
        if self.limits.reserve(usd) != "granted":
            raise BudgetError("spent")

    async def settle(self, reserved: float, paid: float) -> None:
        self.limits.settle(reserved, paid)


UNKNOWN = [MISSING, None, "many", {}, {"prompt_tokens": "90", "completion_tokens": "9"}, {"prompt_tokens": 0}]


@pytest.mark.parametrize("answer", [*(Answer("hi", usage=usage) for usage in UNKNOWN), Raw(b'{"choices": []}')])
def test_an_unknown_cost_counts_as_what_was_reserved(tmp_path: Path, answer: Any) -> None:
    """30 questions that can cost a cent each, 5 cents; also in the next run, which reads the journal."""
    store = Store(str(tmp_path))

    async def run(server: EndpointServer) -> int:
        journal = AnswerJournal(store)
        limits = Limits(None, None, 0.0501, journal.spent_usd())
        client = Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=0, concurrency=1)
        sampling = {"temperature": 0.0, "max_tokens": 10}
        asker = JournaledClient(client, journal, "m", sampling, None, (500.0, 500.0), Guard(limits))
        calls = Calls()
        ask = asker.asker(calls)
        for number in range(30):
            messages = [{"role": "user", "content": f"{number:02} and more, so ask"}]
            try:
                reply = await ask(Question(messages, messages, None))
                assert (reply.prompt_tokens, reply.completion_tokens) == (10, 10)
            except CallError:
                assert isinstance(answer, Raw)
            except BudgetError:
                break
        await client.close()
        assert limits.spent() == pytest.approx(0.05)
        return calls.made

    with EndpointServer(answer) as server:
        assert asyncio.run(run(server)) == server.calls == 5
        assert asyncio.run(run(server)) == 0
        assert server.calls == 5
    assert AnswerJournal(store).spent_usd() == pytest.approx(0.05)
