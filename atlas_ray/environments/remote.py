"""An environment behind an AgentGym server: `remote:babyai` with the option `url`.

It is a client of AgentGym's HTTP API (dialects in `agentgym.py`), so environments that run there can be evaluated here.
As AgentGym's own clients do, it tells the agent what a server leaves to them: rules, valid words, available actions.
Items number the training tasks first, then the test tasks. A server's responses are untrusted: texts are only shown,
numbers are checked. A snapshot is the list of actions, restored by replay.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any
from urllib.parse import urlsplit

import httpx

from atlas_ray.environments.agentgym import ACTIONS, dialect
from atlas_ray.environments.contract import EnvironmentCard, Expert, Outcome, Split, TextEnv, item_number
from atlas_ray.errors import ConfigError, EnvironmentError

PREFIX = "remote:"
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9, ]+")


class RemoteEnv(TextEnv):
    """One session of an AgentGym server.

    Args:
        card: the card of our environment of the same name; the name becomes `remote:<name>`.
        told: the `TextEnv.rules` of our environment.
        url: the server's address, as in `http://127.0.0.1:36001`; required.
        first_test: the item of test task 0; None: the item after the last training task.
        n_items: items of the server; None: as many as our environment has tasks.
        timeout_s: seconds per call.
        max_rounds: see `TextEnv`.

    Raises:
        ConfigError: `url` is no http(s) URL.
    """

    def __init__(
        self, card: EnvironmentCard, told: str = "", *, url: str = "", first_test: int | None = None,
        n_items: int | None = None, timeout_s: float = 60.0, max_rounds: int | None = None,
    ) -> None:  # fmt: skip
        self._dialect, self._told = dialect(card.name), told
        name = PREFIX + card.name
        self._first_test = card.n_train if first_test is None else first_test
        here = card.model_copy(update={"name": name, "snapshot": "replay", "process_mib": 0})
        if n_items is not None:
            n_train = min(self._first_test, n_items)
            here = here.model_copy(update={"n_train": n_train, "n_test": n_items - n_train})
        super().__init__(here, max_rounds=max_rounds)
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError(f"{name}: url is {url!r}; give the server's, as in http://127.0.0.1:36001")
        self._url = url.rstrip("/")
        self._http = httpx.Client(timeout=timeout_s, trust_env=urlsplit(url).hostname not in ("127.0.0.1", "localhost"))
        self._session: int | None = None
        self._actions: list[str] = []
        self._listed: list[str] = []

    def _start(self, task: int, split: Split, seed: int | None) -> str:
        if self._session is None:
            answer = self._ask("create", {"id": self._item(task, split)} if self._dialect.create_takes_task else {})
            number = answer.get("id") if isinstance(answer, dict) else answer
            if isinstance(number, bool) or not isinstance(number, int):
                raise self._nonsense("create", answer)
            self._session = number
        self._actions = []
        body: dict[str, Any] = {self._dialect.session: self._session, self._dialect.task: self._item(task, split)}
        if self._dialect.lists_actions:
            body["world_type"] = "Text"  # ALFWorld's server requires it
        answer = self._ask("reset", body)
        if self._dialect.reset == "pair" and isinstance(answer, list) and answer:
            answer = answer[0]
        if isinstance(answer, dict):
            self._listed = self._texts(answer.get("available_actions"))
            described = answer.get("task_description")
            text = answer.get("observation")
            answer = f"{described}\n{text}" if isinstance(described, str) and described else text
        if not isinstance(answer, str):
            raise self._nonsense("reset", answer)
        return self._tell(answer)

    def _tell(self, text: str) -> str:
        """The first observation as the server's own client words it, in our words."""
        if self._dialect.lists_actions:
            return f"{text}{ACTIONS}{','.join(self._listed)}"
        if not self._told:
            return text
        words = ""
        if self._dialect.vocabulary:
            words = " ".join(self._texts(self._ask("filtered_vocab", method="GET"), in_order=True))
        rules = self._told.format(words=words, max_rounds=self.card.max_rounds)
        return rules if self._dialect.opening is not None else f"{rules}\n{text}"

    def _act(self, action: str) -> Outcome:
        answer = self._ask("step", {self._dialect.session: self._session, "action": self._sent(action)})
        self._actions.append(action)
        field, scale = ("reward", 1.0) if self._dialect.score_scale is None else ("score", self._dialect.score_scale)
        if not isinstance(answer, dict):
            raise self._nonsense("step", answer)
        text, amount, done = answer.get(self._dialect.observation), answer.get(field), answer.get("done")
        if not isinstance(text, str) or isinstance(amount, bool) or not isinstance(amount, int | float):
            raise self._nonsense("step", answer)
        self._listed = self._texts(answer.get("available_actions"))
        score = min(1.0, max(0.0, float(amount) / scale))  # nan becomes 0
        return Outcome(text, score, score >= self._dialect.success_from, done is True)

    def _sent(self, action: str) -> str:
        """The action in the form that this server takes; the tool servers parse a whole reply."""
        if self._dialect.plain_actions:
            return " ".join(_NOT_PLAIN.sub("", action).split())
        return f"Action: {action}" if self._dialect.create_takes_task else action

    def _save(self) -> Any:
        return (self._task, self._split, self._seed, self._score, tuple(self._actions))

    def _load(self, inner: Any) -> None:
        task, split, seed, score, actions = inner
        self._start(task, split, seed)
        outcome = None
        for action in actions:
            outcome = self._act(action)
        if outcome is not None and outcome.score != score:
            raise EnvironmentError(f"{self.card.name}: {self._url} plays the same actions differently the second time")

    def valid_actions(self) -> list[str]:
        """The actions that the server listed in its last response, if it does."""
        return list(self._listed) if self.running else []

    def expert(self) -> Expert:
        """Not available: AgentGym's servers have no expert.

        Raises:
            EnvironmentError: always.
        """
        raise EnvironmentError(f"{self.card.name}: an AgentGym server has no expert; use another policy")

    def close(self) -> None:
        """End the session, if the server can."""
        if self._session is not None:
            body = {self._dialect.session: self._session}
            with contextlib.suppress(httpx.HTTPError):  # a server that is gone has no session left
                self._http.post(f"{self._url}{self._dialect.prefix}/close", json=body)
            self._session = None
        self._http.close()

    def locate(self, item_id: int | str) -> tuple[Split, int]:
        """The server's item of that number; see `TextEnv.locate`."""
        number = item_number(item_id, str(item_id).rpartition("_")[0])
        if number is None:
            raise EnvironmentError(f"{self.card.name}: item {item_id!r} has no number; AgentGym's servers number items")
        split: Split = "train" if number < self._first_test else "test"
        task = number if split == "train" else number - self._first_test
        if task >= self.card.n_tasks(split):
            last = self._first_test + self.card.n_test - 1
            raise EnvironmentError(f"{self.card.name}: no item {item_id!r}, the last is {last}; see the option n_items")
        return split, task

    def _item(self, task: int, split: Split) -> int:
        return task if split == "train" else self._first_test + task

    def _ask(self, call: str, body: dict[str, Any] | None = None, *, method: str = "POST") -> Any:
        query = {self._dialect.session: str(self._session)} if body is None else None
        try:
            response = self._http.request(method, f"{self._url}{self._dialect.prefix}/{call}", json=body, params=query)
            response.raise_for_status()
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            self._session = None  # another one is made for the next episode
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise EnvironmentError(f"{self.card.name}: {self._url} /{call}: {reason}") from None
        if isinstance(answer, dict) and isinstance(answer.get("error"), str):  # with status 200, as AgentGym's do
            self._session = None
            reason = " ".join(answer["error"].split())[:200] or "an error without a text"
            raise EnvironmentError(f"{self.card.name}: {self._url} /{call}: {reason}")
        return answer

    def _nonsense(self, call: str, answer: object) -> EnvironmentError:
        return EnvironmentError(
            f"{self.card.name}: {self._url} /{call} answered {str(answer)[:100]!r}; is it AgentGym's?"
        )

    @staticmethod
    def _texts(value: object, *, in_order: bool = False) -> list[str]:
        """The texts of a list, each once; sorted unless its order is asked for."""
        found = list(dict.fromkeys(text for text in value if isinstance(text, str))) if isinstance(value, list) else []
        return found if in_order else sorted(found)
