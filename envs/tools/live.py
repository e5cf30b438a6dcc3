"""A JSON web service as the live backends use it: patient with limits, and never an exception of its own.

What the service says of the agent's request (400, 404, 422) is `Refused`; what fails without the agent's doing (keys,
limits, outages, timeouts, answers that are no JSON) is a `Fault`.
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
    """A failure that another try may mend."""

    def __init__(self, problem: str, wait_s: float) -> None:
        super().__init__(problem)
        self.wait_s = wait_s


class Answer(Protocol):
    """A service's answer, of any HTTP library."""

    @property
    def status_code(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    def json(self) -> Any: ...


def patiently(once: Callable[[], T]) -> T:
    """Do something with a service, again while its failure is `Passing`: `TRIES` times, in reasonable time.

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
    """What it means that no answer came."""
    if "timeout" in type(error).__name__.lower():
        return Passing(f"{name} did not answer in time", 0.0)
    return Passing(f"{name} cannot be reached ({type(error).__name__})", 0.5)


def answered(name: str, answer: Answer, key_variable: str | None = None) -> Passing | Refused | Fault:
    """What an answer means that is no success.

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
        """The fault of an answer whose shape is not the documented one."""
        return Fault(f"Error: {self._name} sent an answer without {what}; try again later")


def _said(response: Answer) -> str:
    """The service's own words, where it gives them as its documentation says."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    words = body.get("status_message") or body.get("reason") or body.get("error") if isinstance(body, dict) else None
    if isinstance(words, dict):  # Google: {"error": {"code": 404, "message": ...}}
        words = words.get("message")
    return f": {shorten(words, 200)}" if isinstance(words, str) else ""


def _retry_after(response: Answer) -> float:
    """Seconds to wait, as the header says (a date counts as half a second), else half a second."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.5
