"""What an endpoint's error means: for this question, for every question, or for one option of the request.

Providers say the same with different statuses and bodies. So an error is read in this order: the codes in its body, its
HTTP status, then phrases of its message. A phrase that the request itself contains may be an echo, and counts for
nothing. Pure functions; sending and retrying is in `transport.py`.

The bodies are those that OpenAI, Azure, OpenRouter, DeepSeek, Moonshot, Anthropic, Gemini, Mistral, vLLM and the common
gateways document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

Meaning = Literal[
    "key", "quota", "model", "forbidden", "flagged", "context", "rate_limit", "server", "malformed", "bad_request"
]
"""`key`, `quota` and `model` hold for every question; `forbidden` is a 403 that does not say why. `rate_limit`,
`server` and `malformed` may pass. `flagged` (a content filter), `context` (too long) and `bad_request` are about this
question."""

_QUOTA = re.compile(
    r"insufficient(?:user)?(?:quota|balance|credits?|funds?)|exceeded?currentquota|notenoughbalance|billing|arrear"
    r"|overdue|paymentrequired|budgetexceeded|(?:credits?|balance|quota)exhausted|outofcredits?|spendlimit|perday"
)
"""In codes; names without separators, in lower case."""
_FLAGGED = re.compile(
    r"contentfilter|contentpolicy|responsibleai|moderation|flagged|invalidprompt|datainspection|sensitive|safety"
    r"|prohibitedcontent|guardrail|policyviolation|contentblocked|inputblocked"
)
_CONTEXT = re.compile(
    r"contextlength|contextwindow|contextsize|stringabovemaxlength|requesttoolarge|tokenlimitexceeded|prompttoolong"
)
_MODEL = re.compile(r"(?:model|deployment)(?:not|doesnot|unknown)|(?:invalid|unknown|unsupported)(?:model|deployment)")
_KEY = re.compile(
    r"apikey|authentication|unauthenticated|unauthori[sz]ed|permission|unsupportedcountry|deactivated|accessterminated"
    r"|invalidtoken|iplist"
)

_QUOTA_WORDS = re.compile(
    r"insufficient (?:account )?(?:balance|credits?|funds|quota)|(?:balance|credits?|funds) (?:is|are) (?:too low"
    r"|insufficient|not enough|exhausted|used up)|not enough (?:balance|credits?|funds)"
    r"|(?:out of|have any|ha(?:ve|s) no) credits|account is not active|budget has been exceeded|overdue"
    r"|in good standing|余额不足|额度不足|欠费"
)
_QUOTA_OR_RATE_WORDS = re.compile(
    r"exceeded your current quota|quota (?:is |has been )?(?:exceeded|exhausted|used up)"
    r"|check your (?:plan and )?billing|reached your (?:specified )?(?:api )?usage limit|spend(?:ing)? limit"
)
"""A 429 with these words is about the rate if it says when to ask again, or is Google's, which uses them for both."""
_FLAGGED_WORDS = re.compile(
    r"flagged|moderation|content[ _-](?:management|filter|polic)|safety|guardrail|inappropriate|sensitive"
    r"|content exists risk|high risk|usage polic|violat\w+ [\w\s']{0,30}polic|prohibited|harmful"
)
_CONTEXT_WORDS = re.compile(
    r"context (?:length|window|size)|prompt is too long|input is too long|maximum (?:number of )?(?:input )?tokens"
    r"|exceeds? the maximum number of tokens|too many (?:input )?tokens|input token count|request too large"
)
_MODEL_WORDS = re.compile(
    r"model [`'\"]?[\w./:-]*[`'\"]? ?(?:does not|doesn't|not) exist|model not found|(?:not a valid|invalid|no such"
    r"|unknown) model|does not have access to model"
)
_KEY_WORDS = re.compile(
    r"api[ -]?key|credential|authenticat|unauthori[sz]ed|permission|access denied|access to|not authorized|token"
    r"|account|organi[sz]ation|project|subscription|region|country|location|firewall|virtual network"
)
_WRONG_KEY_WORDS = re.compile(
    r"(?:invalid|incorrect|missing|expired) api[ -]?key|api[ -]?key (?:is )?(?:not valid|invalid|missing|expired)"
    r"|location is not supported"
)

_LONGEST_MESSAGE = 4000
"""Characters of a message that are looked at."""
_OPTIONS = {
    "response_format": r"response[_ ]format|json[_ ]schema|structured[_ ]outputs?|guided[_ ](?:json|decoding)",
    "max_tokens": r"max_tokens",
    "temperature": r"temperature",
    "seed": r"seed",
}
"""Options of a request that can be left out, as endpoints write them."""
_RANGE = re.compile(r"above|below|too (?:large|small|high|low)|(?:less|greater|more) than|at (?:most|least)|between")
_UNKNOWN = (
    r"(?:un(?:supported|known|expected|recogni[sz]ed)|not? (?:support(?:ed)?|permitted|allowed)|(?:n't|not) support)"
)
_NOUNS = (
    r"(?:\s*(?:the|this|request|body|parameter|value|argument|supplied|option|field|property|name|model|type"
    r"|variant)s?\b)"
)
_BEFORE = _UNKNOWN + _NOUNS + r"{0,5}[\s:(\[]*['\"`]?"
_FOLLOW = (
    r"(?:\s*(?:of|with|is|are|was|this|type|parameter|option|value|field|model|currently|does|['\"`][\w-]+['\"`]))"
)
_AFTER = r"(?:\.\w+)*['\"`]?" + _FOLLOW + r"{0,5}[\s:]*(?:" + _UNKNOWN + r"|unavailable|not available|deprecated)"
_NAMED = {
    option: re.compile(rf"{_BEFORE}\b(?:{names})\b|\b(?:{names})\b{_AFTER}") for option, names in _OPTIONS.items()
}
_SCHEMA = re.compile(
    r"(?<!=)(?<!['\"=:]['\"])\b(?:response_format|json_schema|structured_outputs|guided_json)\b(?!['\"]?\s*=|['\"]\s*:)"
)
"""These words are nobody's but the API's, so that naming them is enough, unless they are an argument's in an echo."""
_COMPLAINT = re.compile(rf"{_UNKNOWN}|invalid|must be|expected|only|(?:un|not )available")
_QUOTATION = re.compile(r"\{\s*['\"]|\[\s*\{")
"""Begins an object: what follows in a message is the request."""
_REPLACED = re.compile(r"\buse ['\"`]?max_completion_tokens")


@dataclass(frozen=True)
class ErrorBody:
    """An error response, whoever wrote it."""

    status: int
    """HTTP status, or the one that the body of a 200 names; 0 where neither says."""
    message: str
    codes: tuple[str, ...] = ()
    """Code, type, status and reason, as names without separators in lower case."""
    params: frozenset[str] = frozenset()
    """Options of the request that structured fields name."""
    pause_s: float | None = None
    """Seconds to wait, where the body says so."""


def read(status: int, data: bytes) -> ErrorBody:
    """The error in a response's body; `status` is 0 for a 200, whose body may name another one."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ErrorBody(status, data.decode("utf-8", "replace"))
    return read_parsed(status, found) or ErrorBody(status, data.decode("utf-8", "replace"))


def read_parsed(status: int, found: Any, depth: int = 0) -> ErrorBody | None:
    """The error in a parsed body; None where there is none."""
    if isinstance(found, list):
        found = found[0] if found else None
    if not isinstance(found, dict) or depth > 3:
        return None
    told = found.get("error") or _of_choice(found) or found.get("errors")
    told = told[0] if isinstance(told, list) and told else told
    if (not told and (status or found.get("object") == "error")) or told is True:
        told = found  # some say it without a frame
    if isinstance(told, str):
        told = found | {"message": told}
    if not isinstance(told, dict):
        return None
    message, params = _message(told)
    inner = _inner(told, message, depth)
    codes = [*_codes(told), *_codes(found)]
    if status == 0:
        status = next((code for code in map(_status, (told.get("code"), told.get("status"))) if code), 0)
    params |= _roots([told.get("param")])
    details = told["details"] if isinstance(told.get("details"), list) else []
    codes += [code for each in _dicts(details) for code in _codes(each)]
    violations = [each for detail in _dicts(details) for each in _dicts(detail.get("violations"))]
    codes += [_plain(each.get("quotaId")) for each in violations]
    pause = next((found for each in _dicts(details) if (found := _seconds(each.get("retryDelay"))) is not None), None)
    if inner is not None:
        message = inner.message if message.lstrip().startswith(("{", "[")) else f"{message}: {inner.message}"
        codes, params, pause = [*codes, *inner.codes], params | inner.params, pause or inner.pause_s
    return ErrorBody(status, message, tuple(code for code in codes if code), params, pause)


def meaning(error: ErrorBody, *, pauses: bool, said: Callable[[], str]) -> Meaning:
    """What an error means.

    Args:
        error: from `read`.
        pauses: the endpoint says when to ask again, so its quota is not used up for good.
        said: the text of the request's conversation, for phrases that may be an echo.
    """
    status, codes, text = error.status, error.codes, error.message[:_LONGEST_MESSAGE].lower()

    def has(words: re.Pattern[str]) -> bool:
        return any(not _is_echo(match[0], said) for match in words.finditer(text))

    if _any(_QUOTA, codes):
        return "quota"
    if status >= 500 or status in (408, 409, 425):
        return "server"
    if has(_QUOTA_WORDS):
        return "quota"
    if status in (402, 429):
        if pauses or (status == 429 and "resourceexhausted" in codes):
            return "rate_limit"
        return "quota" if status == 402 or has(_QUOTA_OR_RATE_WORDS) else "rate_limit"
    if has(_QUOTA_OR_RATE_WORDS):
        return "quota"
    if status == 401:
        return "key"
    if _any(_FLAGGED, codes) or (status == 451):
        return "flagged"
    if _any(_CONTEXT, codes) or status == 413:
        return "context"
    if status == 0:
        return "malformed"
    if _any(_MODEL, codes) or "model" in error.params or status in (404, 405, 410) or has(_MODEL_WORDS):
        return "model"
    if status == 403:
        if _any(_KEY, codes) and not _FLAGGED_WORDS.search(text):
            return "key"
        if _FLAGGED_WORDS.search(text):
            return "flagged"
        return "key" if has(_KEY_WORDS) else "forbidden"
    if _any(_KEY, codes) or has(_WRONG_KEY_WORDS):
        return "key"
    if has(_CONTEXT_WORDS):
        return "context"
    return "flagged" if has(_FLAGGED_WORDS) else "bad_request"


def unsupported(error: ErrorBody, said: Callable[[], str]) -> set[str]:
    """The options of a request that a 400 or 422 says the endpoint does not know.

    Args:
        error: from `read`.
        said: the text of the request's conversation, for words that may be an echo.
    """
    if error.status not in (400, 422):
        return set()
    text = error.message[:_LONGEST_MESSAGE].lower()
    own = _QUOTATION.split(text, maxsplit=1)[0]
    named = {
        option for option, words in _NAMED.items() if any(not _is_echo(match[0], said) for match in words.finditer(own))
    }
    if any(not _is_echo(match[0], said) for match in _REPLACED.finditer(own)):
        named.add("max_tokens")
    if _COMPLAINT.search(own) and any(not _is_echo(match[0], said) for match in _SCHEMA.finditer(own)):
        named.add("response_format")
    if not error.params:
        return named
    structured = error.params & _OPTIONS.keys()
    known = {"temperature", "max_tokens", "seed"} if _RANGE.search(own) else set()  # but not with this value
    return set(structured - known)


def _any(words: re.Pattern[str], codes: Iterable[str]) -> bool:
    return any(words.search(code) for code in codes)


def _is_echo(phrase: str, said: Callable[[], str]) -> bool:
    return _plain(phrase) in _plain(said())


def _plain(value: Any) -> str:
    """A name or phrase in lower case without separators; numbers and other values are no names."""
    return re.sub(r"[\W_]+", "", value).lower() if isinstance(value, str) else ""


def _status(value: Any) -> int:
    """An HTTP error status, as a number or as digits; 0 for anything else."""
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[45][0-9]{2}", value) else value
    return number if isinstance(number, int) and 400 <= number < 600 else 0


def _codes(told: dict[str, Any]) -> list[str]:
    inner = told.get("innererror")
    names = [told.get(key) for key in ("code", "type", "status", "reason", "error_type")]
    names += [inner.get("code")] if isinstance(inner, dict) else []
    metadata = told.get("metadata")
    if isinstance(metadata, dict):
        names += [metadata.get(key) for key in ("error_type", "limit_source", "reason")]
        names += ["flagged_input"] if "flagged_input" in metadata or "reasons" in metadata else []
    return [_plain(name) for name in names]


def _message(told: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """The text of an error, and the options that a list of details names (FastAPI's `loc`)."""
    value = told.get("message") or told.get("detail") or told.get("msg") or told.get("error") or ""
    if isinstance(value, dict):
        value = value.get("detail") or value.get("message") or value
    if isinstance(value, list):
        places = [(entry.get("loc") or ["body"], entry.get("msg")) for entry in _dicts(value)]
        lines = [f"{'.'.join(map(str, loc))}: {text}" for loc, text in places if isinstance(loc, list)]
        roots = _roots(loc[1] for loc, _ in places if isinstance(loc, list) and len(loc) > 1)
        return "; ".join(lines), roots
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), frozenset()


def _inner(told: dict[str, Any], message: str, depth: int) -> ErrorBody | None:
    """The error of the provider behind a gateway, which passes it on as text."""
    metadata = told.get("metadata")
    for text in (metadata.get("raw") if isinstance(metadata, dict) else None, message):
        if isinstance(text, str) and text.lstrip().startswith(("{", "[")):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                continue
            return read_parsed(400, found, depth + 1)
    return None


def _of_choice(found: dict[str, Any]) -> Any:
    choices = found.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def _roots(names: Iterable[Any]) -> frozenset[str]:
    return frozenset(
        re.split(r"[.\[]", name)[0] for name in names if isinstance(name, str) and name not in ("", "None")
    )


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [each for each in values if isinstance(each, dict)] if isinstance(values, list) else []


def _seconds(value: Any) -> float | None:
    """Seconds as Google writes them: "34.5s"."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s", value) if isinstance(value, str) else None
    return float(match[1]) if match else None
