"""AgentGym's clients on our gateway: what each of them sends and reads, written from its behaviour.

`remote:` is the other way round: our client on servers, of which AgentGym's own are stood in for by the gateway.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from fastapi.testclient import TestClient

from atlas_ray.environments import http, registry
from atlas_ray.environments.contract import TextEnv
from tests.reference import FOLDER


class Told(NamedTuple):
    """What a client gives its agent."""

    text: str
    reward: float = 0.0
    done: bool = False


class Client:
    """The behaviour that AgentGym's clients share: a session, calls that must succeed, an observation."""

    prefix = ""
    session_field = "id"
    task_field = "data_idx"

    def __init__(self, name: str, **options: Any) -> None:
        self.http = TestClient(http.make_app(name, **options))
        self.made = self.create()
        self.session = self.made["id"]

    def create(self) -> Any:
        return self.post("create", None)

    def post(self, call: str, body: dict[str, Any] | None, *, with_session: bool = False) -> Any:
        if with_session:
            body = {**(body or {}), self.session_field: self.session}
        answer = self.http.post(f"{self.prefix}/{call}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, call: str) -> Any:
        answer = self.http.get(f"{self.prefix}/{call}?{self.session_field}={self.session}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def reset(self, item: int) -> str:
        self.info = self.post("reset", {self.task_field: item}, with_session=True)
        return self.observe()

    def observe(self) -> str:
        return str(self.info["observation"])

    def action_of(self, reply: str) -> str:
        return reply

    def step(self, reply: str) -> Told:
        self.info = self.post("step", {"action": self.action_of(reply)}, with_session=True)
        return Told(self.info["observation"], float(self.info["reward"]), self.info["done"])


class CleaningClient(Client):
    """TextCraft and BabyAI: one action a reply, in letters, digits, commas and blanks."""

    def action_of(self, reply: str) -> str:
        found = re.findall(r"Action:\s*(.*?)(?=\n|$)", reply, re.DOTALL)
        return " ".join(re.sub(r"[^A-Za-z0-9, ]+", "", found[-1] if found else "").split())


class TextCraftClient(CleaningClient):
    def create(self) -> Any:
        return self.post("create", {"minecraft_dir": "agentenv_textcraft/", "commands": None, "goal": None})

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        assert self.made["observation"]


class BabyAIClient(CleaningClient):
    def step(self, reply: str) -> Told:
        return super().step(reply)._replace(reward=self.info["score"])


class SplittingClient(Client):
    """Maze and Wordle: the text between the first two labels; the rules are the client's own."""

    def action_of(self, reply: str) -> str:
        parts = reply.removesuffix("</s>").split("Action:")
        return (parts[1] if len(parts) > 1 else parts[0]).strip()


class MazeClient(SplittingClient):
    prefix, task_field = "/maze", "game"

    def observe(self) -> str:
        return f"THE CLIENT'S RULES\n{self.info['observation']}"


class WordleClient(SplittingClient):
    prefix, task_field = "/wordle", "seed"

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.words = self.get("filtered_vocab")

    def observe(self) -> str:
        return "THE CLIENT'S RULES\n" + "\n".join(self.words)


class AdaptingClient(Client):
    """WebShop, ALFWorld, ScienceWorld: the text after the last label."""

    def action_of(self, reply: str) -> str:
        _, label, after = reply.removesuffix("</s>").rpartition("Action:")
        if label:
            return after.strip()
        return after.strip() if "search[" in reply or "click[" in reply else ""


class ALFWorldClient(AdaptingClient):
    def reset(self, item: int) -> str:
        self.info = self.post("reset", {"game": item, "world_type": "Text"}, with_session=True)
        return f"{self.info['observation']}\nAVAILABLE ACTIONS: {','.join(self.info['available_actions'])}"


class ScienceWorldClient(AdaptingClient):
    def reset(self, item: int) -> str:
        self.info = self.post("reset", {"data_idx": item}, with_session=True)
        return str(self.info["task_description"] + "\n" + self.info["observation"])

    def step(self, reply: str) -> Told:
        return super().step(reply)._replace(reward=self.info["score"] / 100)


class WebShopClient(AdaptingClient):
    session_field, task_field = "env_idx", "session_id"

    def create(self) -> Any:
        return {"id": self.post("create", None)}

    def reset(self, item: int) -> str:
        answer = self.post("reset", {"session_id": item}, with_session=True)
        assert len(answer) == 2
        answer[0] = self.get("observation")
        return str(answer[0])

    def step(self, reply: str) -> Told:
        answer = self.post("step", {"action": self.action_of(reply)}, with_session=True)
        assert answer["info"] is None
        return Told(answer["state"], answer["reward"], answer["done"])


class ToolClient(Client):
    session_field, task_field = "env_idx", "id"

    def create(self) -> Any:
        return {"id": self.post("create", {"id": 0})}

    def reset(self, item: int) -> str:
        told = self.post("reset", {"id": item}, with_session=True)
        assert told == self.get("observation")
        return str(told)


CLIENTS: dict[str, Callable[..., Client]] = {
    "webshop": WebShopClient, "alfworld": ALFWorldClient, "babyai": BabyAIClient, "scienceworld": ScienceWorldClient,
    "textcraft": TextCraftClient, "maze": MazeClient, "wordle": WordleClient,
    **dict.fromkeys(("weather", "todo", "movie", "sheet", "academia"), ToolClient),
    "jericho": Client, "pddl": Client,
}  # fmt: skip
"""AgentGym has no client for the last two; what speaks TextCraft's dialect can play them."""


def local(name: str, **options: Any) -> TextEnv:
    return registry.make(name, **options)


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_agentgyms_client_plays_an_episode(name: str) -> None:
    client, env = CLIENTS[name](name), local(name)
    split, task = http.locate(env, 3)
    first, _ = env.reset(options={"task": task, "split": split})
    told = client.reset(3)
    if env.rules:
        assert told.startswith("THE CLIENT'S RULES\n")
        assert first.splitlines()[-1] == told.splitlines()[-1] or name == "wordle"
        assert env.rules.splitlines()[0] not in told
    else:
        assert told == first
    expert, told, score = env.expert(), Told(first), 0.0
    while env.running:
        thought, action = expert.next_action(told.text)
        observation, *_, info = env.step(action)
        told = client.step(f"Thought: {thought}\nAction: {action}")
        assert told.text == observation
        assert told.reward == pytest.approx(info["score"])
        score = info["score"]
    assert told.done
    assert score > 0 or name == "scienceworld"
    assert client.post("close", None, with_session=True) is True
    env.close()


def test_wordles_client_reads_the_words_before_the_first_game() -> None:
    client = WordleClient("wordle")
    assert client.words == list(local("wordle").words)  # type: ignore[attr-defined]
    assert client.post("reset", {"seed": 1}, with_session=True)["observation"] == "Let's start Wordle!"


def test_mazes_reset_leaves_the_rules_to_the_client() -> None:
    client = MazeClient("maze")
    observation = client.post("reset", {"game": 0}, with_session=True)["observation"]
    assert observation.startswith("The goal is at position 8, 6. Your current position is at position 1, 1. There are")
    assert "\n" not in observation


@pytest.mark.parametrize(("client", "name"), [(WebShopClient, "webshop"), (ToolClient, "todo")])
def test_a_reset_without_an_item_begins_the_last_one_anew(client: Callable[..., Client], name: str) -> None:
    it = client(name)
    first = it.reset(2)
    field = it.task_field
    assert it.post("reset", {field: None}, with_session=True) in (first, [first, None])
    assert it.post("reset", {}, with_session=True) in (first, [first, None])


def test_babyais_observation_is_an_object() -> None:
    client = BabyAIClient("babyai")
    client.reset(5)
    assert client.get("observation")["observation"] == client.info["observation"]


@pytest.mark.parametrize("number", ["9" * 5000, "", "-1", "1e3", "x", "\u0663" * 30])
def test_a_session_that_is_no_number_is_answered(number: str) -> None:
    client = TestClient(http.make_app("textcraft"))
    assert client.get("/observation", params={"id": number}).status_code == 422
    assert client.post("/step", json={"id": number, "action": "x"}).status_code == 422
    body = f'{{"id": {"9" * 5000}, "action": "x"}}'
    assert client.post("/step", content=body, headers={"content-type": "application/json"}).status_code in (400, 422)


def test_the_gateways_options(tmp_path: Any) -> None:
    chosen = http.options(str(tmp_path), ["depths=[2]", "name=text"], "none")
    assert chosen == {"depths": [2], "name": "text", "data": str(tmp_path), "max_rounds": http.NO_CAP}
    assert http.options(None, [], "card") == {}
    assert http.options(None, [], "7") == {"max_rounds": 7}
    for rounds in ("0x", "-1", "9" * 5000):
        with pytest.raises(http.ConfigError, match="give a number, 'card' or 'none'"):
            http.options(None, [], rounds)
    with pytest.raises(http.ConfigError, match="NAME=VALUE"):
        http.options(None, ["depths"], "card")


def test_without_a_cap_an_episode_goes_on() -> None:
    client = MazeClient("maze", **http.options(None, [], "none"))
    client.reset(0)
    for _ in range(40):
        assert not client.step("Action: move up").done


@pytest.mark.skipif(not (FOLDER / "wordle/tweet_words.txt").exists(), reason="the reference words are not there")
def test_agentgyms_words_and_games_are_served() -> None:
    client = WordleClient("wordle", **http.options(None, [f"vocabulary={FOLDER / 'wordle/tweet_words.txt'}"], "card"))
    assert len(client.words) == 40
    client.reset(7)
    for turn in range(6):
        told = client.step(f"Thought: x\nAction: {' '.join(client.words[turn])}</s>")
        if told.done:
            break
    assert told.done, "a game of AgentGym's has six guesses"
