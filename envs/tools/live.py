"""A JSON web service for the live backends; it waits for rate limits, and its failures are two kinds of error.

`Refused` is the service's complaint about the agent's request (400, 404, 422). `Fault` is a failure that the agent did
not cause: keys, limits, outages, timeouts, answers that are not JSON.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import httpx

from atlas_ray.errors import ConfigError
from envs.tools.backend import Fault, Refused
from envs.tools.grammar import shorten

T = TypeVar("T")

TRIES = 3
LONGEST_WAIT_S = 10.0
_PASSING = {429, 500, 502, 503, 504}


class Passing(Exception):
    """A failure that may not happen on the next try."""

    def __init__(self, problem: str, wait_s: float) -> None:
        super().__init__(problem)
        self.wait_s = wait_s


class ServiceResponse(Protocol):
    """A service's response, from any HTTP library."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def json(self) -> Any: ...


def patiently(once: Callable[[], T]) -> T:
    """Call a service; while the failure is `Passing`, try again, `TRIES` times at most and within a limit of time.

    Raises:
        Fault: It failed for as long as was waited for it.
        Refused: As `once`.
    """
    for left in reversed(range(TRIES)):
        try:
            return once()
        except Passing as failure:
            if left == 0 or failure.wait_s > LONGEST_WAIT_S:
                later = f"in {failure.wait_s:.0f} s" if failure.wait_s > LONGEST_WAIT_S else "later"
                raise Fault(f"Error: {failure}; try again {later}") from None
            time.sleep(failure.wait_s)
    raise AssertionError("the last try returns or raises")


def unreached(name: str, error: Exception) -> Passing:
    """The failure that stands for no response."""
    if "timeout" in type(error).__name__.lower():
        return Passing(f"{name} did not answer in time", 0.0)
    return Passing(f"{name} cannot be reached ({type(error).__name__})", 0.5)


def answered(name: str, answer: ServiceResponse, key_variable: str | None = None) -> Passing | Refused | Fault:
    """The failure that stands for a response without success.

    Args:
        name: The service, as errors call it.
        answer: With the status, the header Retry-After, and the service's words in its body.
        key_variable: The environment variable to check if access is refused.
    """
    status = answer.status_code
    if status in _PASSING:
        return Passing(f"{name} answers {status}{_said(answer)}", _retry_after(answer))
    if status in (401, 403):
        check = f"; check {key_variable}" if key_variable else ""
        return Fault(f"Error: {name} refuses access ({status}){_said(answer)}{check}")
    if 400 <= status < 500:
        return Refused(f"Error: {name} answers {status}{_said(answer)}")
    return Fault(f"Error: {name} answers {status}")


class Service:
    """GET requests to one service.

    Args:
        name: As errors call it.
        timeout_s: Seconds for each try.
        key_variable: The environment variable that holds the bearer token, if the service asks for one.

    Raises:
        ConfigError: The variable is not set.
    """

    def __init__(self, name: str, *, timeout_s: float = 20.0, key_variable: str | None = None) -> None:
        self._name = name
        self._key_variable = key_variable
        headers = {"accept": "application/json"}
        if key_variable is not None:
            key = os.environ.get(key_variable, "")
            if not key:
                raise ConfigError(f"{name}: set the environment variable {key_variable} to your API token")
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(headers=headers, timeout=timeout_s)

    def get(self, url: str, parameters: Mapping[str, Any] | None = None) -> Any:
        """The parsed JSON answer.

        A passing failure (429, 5xx, no connection) is tried again, after the service's Retry-After where it gives one
        of at most `LONGEST_WAIT_S` seconds.

        Raises:
            Refused: The request was wrong, in the service's words.
            Fault: The service failed.
        """
        return patiently(lambda: self._once(url, dict(parameters or {})))

    def _once(self, url: str, parameters: dict[str, Any]) -> Any:
        try:
            response = self._client.get(url, params=parameters)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise Refused(f"Error: {shorten(str(error))}") from None
        except httpx.RequestError as error:
            raise unreached(self._name, error) from None
        if response.is_success:
            return self._parse(response)
        raise answered(self._name, response, self._key_variable)

    def _parse(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise Fault(f"Error: {self._name} sent an answer that is no JSON; try again later") from None

    def malformed(self, what: str) -> Fault:
        """The fault for a response that is not in the documented form."""
        return Fault(f"Error: {self._name} sent an answer without {what}; try again later")


def _said(response: ServiceResponse) -> str:
    """The service's error message, if it has the documented form."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    words = body.get("status_message") or body.get("reason") or body.get("error") if isinstance(body, dict) else None
    if isinstance(words, dict):  # Google: {"error": {"code": 404, "message": ...}}
        words = words.get("message")
    return f": {shorten(words, 200)}" if isinstance(words, str) else ""


def _retry_after(response: ServiceResponse) -> float:
    """Seconds to wait by the header; half a second without one, or if it is a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.5
