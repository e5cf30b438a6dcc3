"""Which endpoint a configuration and the environment variables name for a selector: its URL, its model and its key."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from atlas_ray.errors import EndpointError
from atlas_ray.inference.transport import LONGEST_WAIT_S, Endpoint, Failure, Transport
from atlas_ray.section import RuntimeOnly, Section

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_MODEL = "gpt-4o"
"""The paper's selector (section 4.2)."""
_TRIES = 3
"""Of the first request, which tells whether there is an endpoint: a wrong URL shall not be tried for a minute."""


class SelectorEndpoint(Section):
    """The selector model, at any OpenAI-compatible endpoint."""

    model: str | None = None
    """None: `gpt-4o` (paper section 4.2) at OpenAI; elsewhere the only model that the endpoint lists."""
    base_url: str | None = None
    """None: `OPENAI_BASE_URL`; if neither that nor the key is set, the run's base model serves locally."""
    api_key_env: RuntimeOnly[str] = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key."""
    concurrency: RuntimeOnly[int] = Field(32, gt=0)
    """Requests under way at a time, over the whole cluster."""
    timeout_s: RuntimeOnly[float] = Field(120.0, gt=0)
    """Seconds until a request is given up and tried again."""
    max_retries: RuntimeOnly[int] = Field(10, ge=0)
    """Tries after the first for 429, 5xx, timeouts and broken connections."""
    max_wait_s: RuntimeOnly[float] = Field(LONGEST_WAIT_S, ge=0)
    """Seconds that a question waits because the endpoint asks it to (Retry-After), all its tries together."""


def resolve(config: SelectorEndpoint, environ: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that configuration and environment variables name; None when they name none.

    Raises:
        EndpointError: URL or key is unusable, or the model is not named and the endpoint does not list exactly one.
    """
    key = environ.get(config.api_key_env, "").strip()
    base_url = _base_url(config, environ)
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EndpointError(f"endpoint {base_url!r}: no http(s) URL; mend base_url of the selector or OPENAI_BASE_URL")
    at_openai = parts.hostname == "api.openai.com"
    if at_openai and not key:
        raise EndpointError(f"endpoint {base_url}: the key is missing; set {config.api_key_env}")
    if not key.isascii() or not key.isprintable():
        raise EndpointError(f"{config.api_key_env}: the key has characters that no HTTP header can carry; set it again")
    endpoint = Endpoint(base_url=base_url, model=config.model or OPENAI_MODEL, key=SecretStr(key or "none"))
    if config.model or at_openai:
        return endpoint
    return endpoint.model_copy(update={"model": _only_model(endpoint, config)})


def endpoint_identity(config: SelectorEndpoint, environ: Mapping[str, str] = os.environ) -> str | None:
    """Names what would answer, without asking it; None where no endpoint is named."""
    base_url = _base_url(config, environ)
    if base_url is None:
        return None
    default = OPENAI_MODEL if urlsplit(base_url).hostname == "api.openai.com" else "its only model"
    return f"{config.model or default} at {base_url}"


def _base_url(config: SelectorEndpoint, environ: Mapping[str, str]) -> str | None:
    named = config.base_url or environ.get("OPENAI_BASE_URL", "").strip()
    return named or (OPENAI_URL if environ.get(config.api_key_env, "").strip() else None)


def _only_model(endpoint: Endpoint, config: SelectorEndpoint) -> str:
    async def ask() -> list[str]:
        transport = Transport(
            endpoint, timeout_s=config.timeout_s, max_retries=_TRIES - 1, concurrency=1, max_wait_s=config.max_wait_s
        )
        try:
            listed = await transport.request("GET", "/models")
            return sorted(str(model["id"]) for model in listed.body["data"])
        finally:
            await transport.close()

    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has an event loop already
            names = thread.submit(asyncio.run, ask()).result()
    except Failure as failure:
        raise EndpointError(f"{endpoint}: its models cannot be listed: {failure.detail}") from None
    except (TypeError, LookupError) as error:
        raise EndpointError(f"{endpoint}: /models is no OpenAI answer; check the URL (.../v1)") from error
    if len(names) != 1:
        found = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "none"
        raise EndpointError(
            f"{endpoint}: it serves {len(names)} models ({found}); set model of the selector (select.llm.model)"
        )
    return names[0]
