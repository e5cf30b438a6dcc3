"""A server with AgentGym's HTTP API for one of our environments: `python -m atlas_ray.environments.http --env babyai`.

AgentGym's clients and agents can play our environments through it: `/create`, `/reset`, `/step`, `/observation` and
`/close` have the bodies and responses of AgentGym's server for that environment, without what its client adds. Items
are numbered as in AgentTraj-L if the environment can locate them, otherwise training tasks first, then test tasks.
There is no authentication, so the server listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.middleware.trustedhost import TrustedHostMiddleware

from atlas_ray.environments import registry
from atlas_ray.environments.agentgym import ACTIONS, Dialect, dialect
from atlas_ray.environments.contract import EnvironmentCard, Split, TextEnv
from atlas_ray.errors import AtlasError, ConfigError, EnvironmentError
from atlas_ray.react import parse_reply

MAX_SESSIONS = 1024
MAX_DIGITS = 18
"""Of a session's number in a query; Python refuses to read thousands of digits."""
NO_CAP = 10**9
"""Rounds that nobody plays: AgentGym's servers have no cap, its evaluation has."""
IDLE_S = 1800.0
"""Seconds without a call after which a session is closed, because many clients do not close theirs."""


@dataclass
class _Session:
    env: TextEnv
    item: int = 0
    observation: str = ""
    """The last one as AgentGym's server sends it."""
    done: bool = False
    reward: float = 0.0
    info: dict[str, Any] = field(default_factory=lambda: {"score": 0.0})
    used: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Gateway:
    """The sessions of one environment.

    Args:
        name: the environment's name.
        options: its options.
        clock: returns seconds; tests pass their own.
    """

    def __init__(self, name: str, options: dict[str, Any], clock: Callable[[], float] = time.monotonic) -> None:
        self.name, self._options, self._clock = name, options, clock
        self.card = registry.card(name, **options)
        self._speech = dialect(name)
        self._sessions: dict[int, _Session] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def create(self) -> int:
        """Open a session; returns its number.

        Raises:
            HTTPException: 429, there are too many sessions.
        """
        now = self._clock()
        with self._lock:
            for number in [n for n, session in self._sessions.items() if now - session.used > IDLE_S]:
                self._sessions.pop(number).env.close()
            most = most_sessions(self.card)
            if len(self._sessions) >= most:
                raise HTTPException(429, f"there are {most} sessions; close one")
            number = next(self._numbers)
            self._sessions[number] = _Session(registry.make(self.name, **self._options), used=now)
        return number

    def reset(self, number: int, item: int | None) -> _Session:
        """Begin the episode of an item; None is the item of the session's last episode, at first item 0."""
        session = self.find(number)
        with session.lock:
            item = session.item if item is None else item
            split, task = locate(session.env, item)
            text, _ = session.env.reset(options={"task": task, "split": split})
            session.item, session.done, session.reward, session.info = item, False, 0.0, {"score": 0.0}
            session.observation = _opening(self._speech, session.env, text)
        return session

    def step(self, number: int, text: str) -> _Session:
        """Play a bare action or a whole reply."""
        session = self.find(number)
        with session.lock:
            reply = parse_reply(text, self.card.action_rule) if "Action:" in text else None
            if reply is not None and reply.action is None:
                session.env.snapshot()  # refuses where there is no episode
                session.observation, session.reward = str(reply.problem), 0.0
                return session
            action = text if reply is None else str(reply.action)
            session.observation, session.reward, ended, truncated, session.info = session.env.step(action)
            session.done = ended or truncated
        return session

    def find(self, number: int) -> _Session:
        """A session by its number.

        Raises:
            HTTPException: 404, there is none.
        """
        session = self._sessions.get(number)
        if session is None:
            raise HTTPException(404, f"there is no session {str(number)[:20]}; call /create")
        session.used = self._clock()
        return session

    def close(self, number: int) -> None:
        """Close a session."""
        self.find(number)
        with self._lock:
            session = self._sessions.pop(number, None)
        if session is not None:
            with session.lock:
                session.env.close()

    def numbers(self) -> list[int]:
        """The numbers of all sessions."""
        return sorted(self._sessions)


def most_sessions(card: EnvironmentCard) -> int:
    """The limit on sessions; environments that start a process may take half of the machine's memory."""
    if not card.isolated:
        return MAX_SESSIONS
    half_mib = int(psutil.virtual_memory().total) // 2**21
    return min(MAX_SESSIONS, max(1, half_mib // card.process_mib))


def locate(env: TextEnv, item: int) -> tuple[Split, int]:
    """Split and task of an item."""
    try:
        return env.locate(item)
    except EnvironmentError:
        n_train = env.card.n_train
        return ("train", item) if item < n_train else ("test", item - n_train)


def _opening(speech: Dialect, env: TextEnv, text: str) -> str:
    """The first observation without what AgentGym's client adds to it."""
    if speech.opening is not None:
        return speech.opening
    if speech.lists_actions:
        return text.partition(ACTIONS)[0]
    return text.removeprefix(f"{env.rules}\n").removeprefix(f"{_description(env)}\n")


def _description(env: TextEnv) -> str:
    """The task in words, where the environment has it apart from the first observation (ScienceWorld)."""
    return str(getattr(env, "description", ""))


class _Body(BaseModel):
    """A body with any fields; the dialect's fields are looked up by name."""

    model_config = ConfigDict(extra="allow")

    def task(self, name: str) -> int | None:
        return None if (self.model_extra or {}).get(name) is None else self.number(name)

    def number(self, name: str) -> int:
        value = (self.model_extra or {}).get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise HTTPException(422, f"the body needs {name!r}, a whole number")
        return value

    def text(self, name: str) -> str:
        value = (self.model_extra or {}).get(name)
        if not isinstance(value, str):
            raise HTTPException(422, f"the body needs {name!r}, a text")
        return value


def make_app(name: str, **options: Any) -> FastAPI:
    """The application that serves one environment.

    Raises:
        ConfigError: there is no such environment or option.
    """
    gateway, speech = Gateway(name, options), dialect(name)
    app = FastAPI(title=f"AgentGym API: {name}")
    path = speech.prefix

    @app.exception_handler(AtlasError)
    def refuse(request: Request, error: AtlasError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 400)

    @app.exception_handler(RequestValidationError)
    def refuse_body(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": "the body is no JSON object, or the query lacks a number"}, 422)

    @app.get("/")
    def hello() -> str:
        return "ok"

    @app.get(f"{path}/list_envs")
    def list_envs() -> list[int]:
        return gateway.numbers()

    @app.post(f"{path}/create", response_model=None)
    def create(body: _Body | None = None) -> int | dict[str, Any]:
        number = gateway.create()
        if speech.create == "episode":
            session = gateway.reset(number, number % max(1, gateway.card.n_train + gateway.card.n_test))
            return {"id": number, "observation": session.observation, "reward": 0.0, "done": False}
        if speech.create_takes_task and body is not None:
            gateway.reset(number, body.task("id"))
        return number if speech.create == "number" else {"id": number}

    @app.post(f"{path}/reset", response_model=None)
    def reset(body: _Body) -> Any:
        number = body.number(speech.session)
        return _reset_reply(speech, number, gateway.reset(number, body.task(speech.task)))

    @app.post(f"{path}/step")
    def step(body: _Body) -> dict[str, Any]:
        return _step_reply(speech, gateway.step(body.number(speech.session), body.text("action")))

    @app.get(f"{path}/observation", response_model=None)
    def observation(request: Request) -> str | dict[str, Any]:
        session = gateway.find(_query(request, speech))
        return session.observation if speech.observes == "text" else _step_reply(speech, session)

    if speech.vocabulary:

        @app.get(f"{path}/filtered_vocab")
        def filtered_vocab(request: Request) -> list[str]:
            env: Any = gateway.find(_query(request, speech)).env
            return list(env.words)

    @app.get(f"{path}/available_actions")
    def available_actions(request: Request) -> list[str]:
        return gateway.find(_query(request, speech)).env.valid_actions()

    @app.post(f"{path}/close")
    def close(body: _Body) -> bool:
        gateway.close(body.number(speech.session))
        return True

    return app


def only_here(app: FastAPI) -> FastAPI:
    """Have requests for another host name refused: they come from pages to which a browser was led (DNS rebinding)."""
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    return app


def _query(request: Request, speech: Dialect) -> int:
    value = request.query_params.get(speech.session, "")
    if not (value.isdecimal() and len(value) <= MAX_DIGITS):
        raise HTTPException(422, f"the query needs {speech.session}=NUMBER, of at most {MAX_DIGITS} digits")
    return int(value)


def _reset_reply(speech: Dialect, number: int, session: _Session) -> Any:
    if speech.reset == "text":
        return session.observation
    if speech.reset == "pair":
        return [session.observation, None]
    reply: dict[str, Any] = {"id": number, "observation": session.observation, "reward": 0.0, "done": False}
    if speech.score_scale is not None:
        reply |= {"score": 0.0, "deleted": False}
    if _description(session.env):
        reply |= {"task_description": _description(session.env)}
    return reply | _actions(speech, session)


def _step_reply(speech: Dialect, session: _Session) -> dict[str, Any]:
    reply: dict[str, Any] = {speech.observation: session.observation, "done": session.done}
    score = float(session.info["score"])
    if speech.score_scale is None:
        reply["reward"] = score  # clients take the last step's reward for the episode's
    else:
        reply |= {"reward": session.reward * speech.score_scale, "score": score * speech.score_scale}
    if speech.reset == "pair":
        reply["info"] = None
    return reply | _actions(speech, session)


def _actions(speech: Dialect, session: _Session) -> dict[str, Any]:
    return {"available_actions": session.env.valid_actions()} if speech.lists_actions else {}


def main() -> None:
    """Serve one environment until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m atlas_ray.environments.http", description=__doc__)
    parser.add_argument("--env", required=True, help="name of the environment")
    parser.add_argument("--port", type=int, default=36001, help="[36001]")
    parser.add_argument("--data", help="official or own data: the environment's option of that name")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option, repeatable")
    parser.add_argument(
        "--max-rounds", default="card", help="a number, 'card' (the environment's own) or 'none' [card]"
    )
    arguments = parser.parse_args()
    import uvicorn

    try:
        app = make_app(arguments.env, **options(arguments.data, arguments.option, arguments.max_rounds))
    except AtlasError as error:
        sys.exit(f"error: {error}")
    uvicorn.run(only_here(app), host="127.0.0.1", port=arguments.port, log_level="warning")


def options(data: str | None, given: Sequence[str], max_rounds: str) -> dict[str, Any]:
    """An environment's options as the command line has them.

    Raises:
        ConfigError: an option is not of the form NAME=VALUE, or the rounds are no number.
    """
    chosen = dict(registry.read_option(text) for text in given)
    if data is not None:
        chosen["data"] = data
    if max_rounds != "card":
        if max_rounds != "none" and not (max_rounds.isascii() and max_rounds.isdigit() and len(max_rounds) < 10):
            raise ConfigError(f"--max-rounds {max_rounds!r}: give a number, 'card' or 'none'")
        chosen["max_rounds"] = NO_CAP if max_rounds == "none" else int(max_rounds)
    return chosen


if __name__ == "__main__":
    main()
