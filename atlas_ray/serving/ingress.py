"""The HTTP ingress on Ray Serve: OpenAI's endpoints, agent sessions and the web page.

Chat and completions go to Ray Serve's own ingress, behind the schema of `schema.py`. The episode of a session runs in
an environment server, the actor class that evaluation uses: the ingress fetches the conversation from it, asks the
model for a reply, and plays that reply. When an environment server dies, its sessions answer 410 and the service goes
on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import SecretStr, ValidationError
from ray.exceptions import RayActorError
from ray.serve.llm.ingress import OpenAiIngress
from ray.serve.llm.openai_api_models import ChatCompletionRequest, CompletionRequest
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.responses import JSONResponse, Response, StreamingResponse
from vllm.exceptions import VLLMClientError

from atlas_ray import ray_metrics
from atlas_ray.config import RolloutConfig
from atlas_ray.environments import registry
from atlas_ray.errors import AtlasError
from atlas_ray.rollout.player import ModelSpec
from atlas_ray.rollout.server import EnvironmentActor
from atlas_ray.rollout.sessions import Refusal
from atlas_ray.serving.guard import Guard, error_body
from atlas_ray.serving.lasting import Lasting
from atlas_ray.serving.schema import (
    ChatRequest,
    CompletionsRequest,
    EnvironmentInfo,
    EnvironmentList,
    Error,
    NewSession,
    PersonsAction,
    SessionResponse,
)

ROUTES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "models": ("GET", "/v1/models", {}),
    "chat": ("POST", "/v1/chat/completions", {}),
    "completions": ("POST", "/v1/completions", {}),
    "environments": ("GET", "/v1/agent/environments", {"response_model": EnvironmentList}),
    "open_session": ("POST", "/v1/agent/sessions", {"status_code": 201, "response_model": SessionResponse}),
    "view_session": ("GET", "/v1/agent/sessions/{session}", {"response_model": SessionResponse}),
    "close_session": ("DELETE", "/v1/agent/sessions/{session}", {"status_code": 204}),
    "act": ("POST", "/v1/agent/sessions/{session}/act", {"response_model": SessionResponse}),
    "run": ("POST", "/v1/agent/sessions/{session}/run", {"response_class": StreamingResponse}),
    "step": ("POST", "/v1/agent/sessions/{session}/step", {"response_model": SessionResponse}),
    "undo": ("POST", "/v1/agent/sessions/{session}/undo", {"response_model": SessionResponse}),
    "health": ("GET", "/health", {}),
    "page": ("GET", "/", {"include_in_schema": False}),
    "page_css": ("GET", "/page.css", {"include_in_schema": False}),
    "page_js": ("GET", "/page.js", {"include_in_schema": False}),
}
"""Method of `AgentIngress` -> HTTP method, path and options of the route."""
THINK_S = 300.0
"""Seconds that a model has for one reply."""
_SWEEP_S = 60.0


@dataclass(frozen=True)
class Settings:
    """Settings of the ingress; made from the run's configuration in `app.py`."""

    agent: str
    """Name of the tuned model, the default model of a session."""
    adapters: dict[str, str]
    """Name of the model that each adapter belongs to, by the adapter's name."""
    options: dict[str, dict[str, Any]]
    """Environment options by environment."""
    max_new_tokens: int
    rollout: RolloutConfig
    """Limits of an environment server."""
    servers: int
    max_sessions: int
    session_idle_s: float
    requests_per_minute: int
    max_body_bytes: int
    key: SecretStr | None


def api(settings: Settings) -> FastAPI:
    """The FastAPI application without routes: guard, OpenAPI document, errors as OpenAI error objects."""
    refusals: dict[int | str, dict[str, Any]] = {status: {"model": Error} for status in ("4XX", "5XX")}
    app = FastAPI(
        title="atlas-ray agent",
        description="An OpenAI-compatible endpoint, and an agent that plays in sessions.",
        version="1", responses=refusals, docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.add_middleware(
        Guard, key=settings.key, requests_per_minute=settings.requests_per_minute,
        max_body_bytes=settings.max_body_bytes,
    )  # fmt: skip
    app.add_exception_handler(Exception, _problem)
    app.add_exception_handler(StarletteHTTPException, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


async def _problem(_: Request, error: Exception) -> JSONResponse:
    """HTTP errors keep their status; any other exception is a 500, and the server logs it."""
    status = int(getattr(error, "status_code", 500))
    message = getattr(error, "message", None) or getattr(error, "detail", None) or f"{type(error).__name__}: {error}"
    return JSONResponse(error_body(status, str(message)), status)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return JSONResponse(error_body(422, f"{where or 'body'}: {first['msg']}"), 422)


class AgentIngress(OpenAiIngress):  # type: ignore[misc]
    """The ingress; `ROUTES` maps its methods to paths."""

    def __init__(self, llm_deployments: dict[str, Any], model_cards: dict[str, Any], *, settings: Settings) -> None:
        super().__init__(llm_deployments, model_cards)
        self._settings = settings
        for name, base in settings.adapters.items():
            self._model_cards[name] = model_cards[base].model_copy(update={"id": name})
        self._servers = [_Server(settings) for _ in range(settings.servers)]
        self._turn = itertools.count()
        self._sweeper: asyncio.Task[None] | None = None
        self._lasting = Lasting()
        self._running = 0
        self._draining = False

    async def _get_model_id(self, model: str | None) -> str:
        """Ray's, but a name that nothing has is answered by those that there are."""
        if model is not None and model not in self._model_cards:
            raise HTTPException(404, f"model: no {model!r}; there are {', '.join(sorted(self._model_cards))}")
        return await super()._get_model_id(model)  # type: ignore[no-any-return]

    def _get_configured_serve_handle(self, model_id: str) -> Any:
        """Ray's; an adapter is in the engine of its model, which knows it by the request's own `model`."""
        return super()._get_configured_serve_handle(self._settings.adapters.get(model_id, model_id))

    # --- OpenAI ------------------------------------------------------------------------------------------------------
    async def chat(self, body: ChatRequest, request: Request) -> Response:
        """OpenAI's chat completions; `stream` is honoured."""
        return await self._ask(ChatCompletionRequest, body, "chat", request)

    async def completions(self, body: CompletionsRequest, request: Request) -> Response:
        """OpenAI's completions; `stream` is honoured."""
        return await self._ask(CompletionRequest, body, "completions", request)

    async def _ask(self, kind: Any, body: Any, method: str, request: Request) -> Response:
        try:
            asked = kind.model_validate(body.model_dump(exclude_none=True, by_alias=True))
            return await self._process_llm_request(asked, method, request)  # type: ignore[no-any-return]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise HTTPException(422, f"{where}: {first['msg']}") from error
        except (ValueError, VLLMClientError) as error:  # vLLM rejects some requests that pass its schema
            raise HTTPException(400, " ".join(str(error).split())[:500]) from error

    # --- sessions ----------------------------------------------------------------------------------------------------
    async def environments(self) -> EnvironmentList:
        """The environments in which sessions can be opened."""
        listed, unavailable = [], {}
        for name in registry.names():
            try:
                card = registry.card(name, **self._settings.options.get(name, {}))
            except AtlasError as error:
                unavailable[name] = str(error)
            else:
                listed.append(
                    EnvironmentInfo.model_validate(card.model_dump(include=set(EnvironmentInfo.model_fields)))
                )
        return EnvironmentList(data=listed, unavailable=unavailable)

    async def open_session(self, body: NewSession) -> Any:
        """Begin an episode."""
        self._refuse_when_draining()
        model = body.model or self._settings.agent
        if model not in self._model_cards:
            raise HTTPException(422, f"model: no {model!r}; there are {', '.join(sorted(self._model_cards))}")
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        number = next(self._turn) % len(self._servers)
        options = self._settings.options.get(body.environment, {})
        opening = self._call(
            number, self._servers[number].generation, "open",
            body.environment, body.task, body.split, body.seed, model, options,
        )  # fmt: skip
        return await self._lasting.do(opening, undo=lambda view: self._session(view["id"], "close"))

    async def view_session(self, session: str) -> Any:
        """The current state of the session."""
        return await self._session(session, "view")

    async def close_session(self, session: str) -> None:
        """End the session."""
        await self._session(session, "close")

    async def step(self, session: str, body: PersonsAction) -> Any:
        """Play a person's action."""
        return await self._session(session, "step", body.action)

    async def undo(self, session: str) -> Any:
        """Take back the last step, of a person or the agent."""
        return await self._session(session, "undo")

    async def act(self, session: str) -> Any:
        """Let the agent play one step."""
        async with aclosing(self._speak(session)) as pieces:
            text = "".join([piece async for piece in pieces])
        return await self._session(session, "reply", text.strip())

    async def run(self, session: str) -> StreamingResponse:
        """Let the agent play to the end; server-sent events `token` {text}, `step` (the session), `end`, `error`."""
        self._refuse_when_draining()
        await self._session(session, "view")  # an unknown session is a plain 404
        return StreamingResponse(self._events(session), media_type="text/event-stream")

    async def drain(self, seconds: float) -> int:
        """Refuse new episodes and runs, and wait for running ones; returns how many did not finish in time."""
        self._draining = True
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        return self._running

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise HTTPException(503, "the service is about to end")

    async def _events(self, session: str) -> AsyncIterator[str]:
        self._running += 1
        try:
            while True:
                text = ""
                async with aclosing(self._speak(session)) as pieces:
                    async for piece in pieces:
                        text += piece
                        yield _event("token", {"text": piece})
                view = await self._session(session, "reply", text.strip())
                yield _event("step", view)
                if view["over"]:
                    yield _event("end", view)
                    return
        except HTTPException as error:
            yield _event("error", error_body(error.status_code, str(error.detail)))
        finally:
            self._running -= 1

    async def _speak(self, session: str) -> AsyncGenerator[str, None]:
        """The model's next reply, in pieces; the session is reserved until it is complete, or nobody waits for it.

        Raises:
            HTTPException: the session or the model refuses.
        """
        messages = await self._session(session, "think", THINK_S, undo="release")
        spoken = False
        try:
            view = await self._session(session, "view")
            body = ChatCompletionRequest(
                model=view["model"], messages=messages, stream=True, temperature=0.0,
                max_tokens=self._settings.max_new_tokens,
            )  # fmt: skip
            async with asyncio.timeout(THINK_S):
                async for chunk in self._get_response(body=body, call_method="chat"):
                    for part in chunk if isinstance(chunk, list) else [chunk]:
                        for piece in _pieces(part):
                            yield piece
            spoken = True
        except TimeoutError as error:
            raise HTTPException(504, f"model {view['model']} did not answer within {THINK_S:.0f} s") from error
        finally:
            if not spoken:
                await self._session(session, "release")

    async def _session(self, session: str, call: str, *arguments: Any, undo: str = "") -> Any:
        """Call `Sessions` for a session; the call is made to its end whatever becomes of the request.

        Args:
            session: name of the session.
            call: method.
            arguments: of the method.
            undo: method that takes the call back where its request has gone meanwhile.
        """
        number, generation, identity = _parts(session)
        if number >= len(self._servers):
            raise HTTPException(404, f"there is no session {session}")
        calling = self._call(number, generation, call, identity, *arguments)
        return await self._lasting.do(calling, undo=(lambda _: self._session(session, undo)) if undo else None)

    async def _call(self, number: int, generation: int, call: str, *arguments: Any) -> Any:
        """Call `Sessions` in an environment server."""
        server = self._servers[number]
        try:
            if generation != server.generation:
                raise HTTPException(410, "the session is lost: its environment server died; open another one")
            answer = await server.actor.session.remote(call, *arguments)
        except RayActorError as error:
            if generation == server.generation:
                server.replace()
            raise HTTPException(410, "the session is lost: its environment server died; open another one") from error
        if isinstance(answer, Refusal):
            raise HTTPException(answer.status, answer.message)
        if isinstance(answer, dict) and "id" in answer:
            answer["id"] = f"{number}-{generation}-{answer['id']}"
        return answer

    async def _sweep(self) -> None:
        """Close idle sessions regularly, even without requests."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            for number, server in enumerate(self._servers):
                try:
                    await self._call(number, server.generation, "expire")
                except HTTPException:
                    continue  # the server died and was replaced, so it has no sessions

    # --- page --------------------------------------------------------------------------------------------------------
    async def health(self) -> dict[str, str]:
        """A sign that the service runs."""
        return {"status": "ok"}

    async def page(self) -> Response:
        """The page."""
        return _static("page.html", "text/html")

    async def page_css(self) -> Response:
        """The page's style sheet."""
        return _static("page.css", "text/css")

    async def page_js(self) -> Response:
        """The page's script."""
        return _static("page.js", "text/javascript")


class _Server:
    """An environment server and its generation, a number that none before it had, also before this ingress."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.replace()

    def replace(self) -> None:
        """Start a new actor."""
        self.generation = secrets.randbelow(10**8)
        limits = self._settings.rollout
        self.actor = EnvironmentActor.options(
            name=ray_metrics.actor_name("sessions"),
            num_cpus=0,
            memory=limits.memory_gib * 2**30,
            max_concurrency=1024,
            label_selector=limits.labels or None,
        ).remote(ModelSpec(), limits, self._settings.max_sessions, self._settings.session_idle_s)


def _parts(session: str) -> tuple[int, int, str]:
    number, _, rest = session.partition("-")
    generation, _, identity = rest.partition("-")
    if not (number.isdecimal() and generation.isdecimal() and len(number + generation) < 12):
        raise HTTPException(404, f"there is no session {session[:80]}")
    return int(number), int(generation), identity


def _pieces(part: Any) -> list[str]:
    """The texts in one part of a chat stream, which are vLLM's `data: {...}` lines.

    Raises:
        HTTPException: the part is an error.
    """
    if not isinstance(part, str):
        error = getattr(part, "error", None)
        raise HTTPException(int(getattr(error, "code", 502) or 502), str(getattr(error, "message", part)))
    texts = []
    for line in part.splitlines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        data = json.loads(line.removeprefix("data: "))
        if "error" in data:
            raise HTTPException(int(data["error"].get("code") or 502), str(data["error"].get("message")))
        texts += [choice["delta"].get("content") or "" for choice in data["choices"]]
    return [text for text in texts if text]


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _static(name: str, kind: str) -> Response:
    content = files("atlas_ray.serving").joinpath(name).read_bytes()
    policy = (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'"
    )
    return Response(
        content, media_type=kind, headers={"content-security-policy": policy, "x-content-type-options": "nosniff"}
    )
