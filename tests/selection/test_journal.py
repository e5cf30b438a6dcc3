"""What is kept of a selector's answers, by one process or several."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from atlas_ray.errors import StoreError
from atlas_ray.inference.types import Reply
from atlas_ray.selection.journal import AnswerJournal
from atlas_ray.store import Store


def reply(text: str) -> Reply:
    return Reply(text, "selector", "stop", prompt_tokens=7, completion_tokens=2, sampling={"temperature": 0.0})


@pytest.fixture(params=["path", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run") if request.param == "path" else f"memory://{tmp_path.name}/run")


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
