"""A JSON web service as the live backends use it: patient with limits, and never an exception of its own.

What the service says of the agent's request (400, 404, 422) is `Refused`; what fails without the agent's doing (keys,
limits, outages, timeouts, answers that are no JSON) is a `Fault`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import httpx

from atlas_ray.errors import ConfigError
from envs.tools.backend import Fault, Refused
from envs.tools.grammar import shorten

TRIES = 3
LONGEST_WAIT_S = 10.0
_PASSING = {429, 500, 502, 503, 504}


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
        for left in reversed(range(TRIES)):
            try:
                response = self._client.get(url, params=dict(parameters or {}))
            except httpx.TimeoutException:
                problem, wait = f"{self._name} did not answer in time", 0.0
            except httpx.TransportError as error:
                problem, wait = f"{self._name} cannot be reached ({type(error).__name__})", 0.5
            except (httpx.InvalidURL, UnicodeEncodeError) as error:
                raise Refused(f"Error: {shorten(str(error))}") from None
            else:
                if response.is_success:
                    return self._parse(response)
                if response.status_code not in _PASSING:
                    raise self._refusal(response)
                problem = f"{self._name} answers {response.status_code}{_said(response)}"
                wait = _retry_after(response)
            if left == 0 or wait > LONGEST_WAIT_S:
                later = f"; try again in {wait:.0f} s" if wait > LONGEST_WAIT_S else "; try again later"
                raise Fault(f"Error: {problem}{later}")
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _parse(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise Fault(f"Error: {self._name} sent an answer that is no JSON; try again later") from None

    def _refusal(self, response: httpx.Response) -> Refused | Fault:
        if response.status_code in (401, 403):
            check = f"; check {self._key_variable}" if self._key_variable else ""
            return Fault(f"Error: {self._name} refuses access ({response.status_code}){_said(response)}{check}")
        if 400 <= response.status_code < 500:
            return Refused(f"Error: {self._name} answers {response.status_code}{_said(response)}")
        return Fault(f"Error: {self._name} answers {response.status_code}")

    def malformed(self, what: str) -> Fault:
        """The fault of an answer whose shape is not the documented one."""
        return Fault(f"Error: {self._name} sent an answer without {what}; try again later")


def _said(response: httpx.Response) -> str:
    """The service's own words, where it gives them as its documentation says."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    words = body.get("status_message") or body.get("reason") or body.get("error") if isinstance(body, dict) else None
    return f": {shorten(words, 200)}" if isinstance(words, str) else ""


def _retry_after(response: httpx.Response) -> float:
    """Seconds to wait, as the header says (a date counts as half a second), else half a second."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() else 0.5
