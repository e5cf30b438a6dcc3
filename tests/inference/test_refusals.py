"""What providers' errors mean: a matrix of provider, status and body, each played by a real HTTP server.

The bodies are rebuilt from what the providers document and from public bug reports.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from atlas_ray.errors import EndpointError
from atlas_ray.inference import transport
from atlas_ray.inference.client import Client
from atlas_ray.inference.refusals import read, unsupported
from atlas_ray.inference.transport import Endpoint
from atlas_ray.inference.types import CallError, Reply
from tests.endpoint_server import Answer, EndpointServer, Raw, Status

STOPS = {"quota": "quota is used up", "key": "key was refused", "model": "no such model"}


@pytest.fixture(autouse=True)
def _quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "LONGEST_PAUSE_S", 0.02)


def said(status: int, body: Any, **headers: str) -> Status:
    return Status(status, body=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def error(**fields: Any) -> dict[str, Any]:
    return {"error": fields}


def anthropic(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


def gemini(code: int, status: str, message: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    return [error(code=code, message=message, status=status, details=list(details))]


def vllm(code: int, kind: str, message: str) -> dict[str, Any]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


CURRENT_QUOTA = "You exceeded your current quota, please check your plan and billing details."
LONG = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
RAW = json.dumps(error(message="Insufficient Balance", type="unknown_error", code="invalid_request_error"))
MATRIX: list[tuple[str, str, Any]] = [
    # OpenAI
    ("quota", "openai", said(429, error(message=CURRENT_QUOTA, type="insufficient_quota", code="insufficient_quota"))),
    ("quota", "openai", said(429, error(message="Your account is not active, please check your billing details on our "
     "website.", type="billing_not_active", code="billing_not_active"))),
    ("rate_limit", "openai", said(429, error(message="Rate limit reached for gpt-4o on tokens per min (TPM): Limit "
     "30000. Visit https://platform.openai.com/account/billing to add a payment method.", type="tokens",
     code="rate_limit_exceeded"))),
    ("key", "openai", said(401, error(message="Incorrect API key provided: sk-x.", type="invalid_request_error",
     code="invalid_api_key"))),
    ("key", "openai", said(403, error(message="Country, region, or territory not supported",
     type="request_forbidden", code="unsupported_country_region_territory"))),
    ("model", "openai", said(404, error(message="The model `gpt-5o` does not exist or you do not have access to it.",
     type="invalid_request_error", code="model_not_found"))),
    ("model", "openai", said(403, error(message="Project `p` does not have access to model `gpt-4o`",
     type="invalid_request_error", code="model_not_found"))),
    ("context", "openai", said(400, error(message=LONG, type="invalid_request_error", param="messages",
     code="context_length_exceeded"))),
    ("flagged", "openai", said(400, error(message="Invalid prompt: your prompt was flagged as potentially violating "
     "our usage policy.", type="invalid_request_error", code="invalid_prompt"))),
    ("bad_request", "openai", said(400, error(message="Invalid type for 'messages[1].content'.",
     type="invalid_request_error", param="messages[1].content", code="invalid_type"))),
    ("server", "openai", said(500, error(message="The server had an error", type="server_error"))),
    ("server", "openai", said(503, error(message="Slow down", type="server_error"))),
    # OpenRouter
    ("flagged", "openrouter", said(403, error(code=403, message="Your input was flagged", metadata={
     "reasons": ["violence"], "flagged_input": "kill the ...", "provider_name": "OpenAI"}))),
    ("flagged", "openrouter", said(403, error(code=403, message="x requires moderation on OpenAI. Your input was "
     'flagged for "violence". No credits were charged.'))),
    ("quota", "openrouter", said(402, error(code=402, message="Insufficient credits. Add more using a link"))),
    ("quota", "openrouter", said(402, error(code=402, message="This request requires more credits, or fewer "
     "max_tokens. You requested up to 1024 tokens, but can only afford 12."))),
    ("rate_limit", "openrouter", said(402, error(code=402, message="In-flight budget", metadata={
     "limit_source": "openrouter_in_flight_budget"}), retry_after_ms="5")),
    ("key", "openrouter", said(401, error(code=401, message="No auth credentials found"))),
    ("key", "openrouter", said(403, error(code=403, message="Key has insufficient permissions"))),
    ("model", "openrouter", said(400, error(code=400, message="no/such is not a valid model ID"))),
    ("rate_limit", "openrouter", said(429, error(code=429, message="Provider returned error", metadata={
     "raw": "x is temporarily rate-limited upstream"}))),
    ("quota", "openrouter", said(429, error(code=429, message="Provider returned error", metadata={"raw": RAW}))),
    ("server", "openrouter", Raw(json.dumps(error(code=502, message="Provider returned error")).encode())),
    ("rate_limit", "openrouter", Raw(json.dumps(error(code=429, message="slow down")).encode(),
     headers={"retry-after-ms": "5"})),
    ("flagged", "openrouter", Raw(json.dumps(error(code=403, message="Your input was flagged")).encode())),
    ("server", "openrouter", Raw(json.dumps({"choices": [{"finish_reason": "error", "message": {"content": "{"},
     "error": {"code": 502, "message": "Upstream idle timeout"}}]}).encode())),
    # DeepSeek
    ("quota", "deepseek", said(402, json.loads(RAW))),
    ("quota", "deepseek", said(402, json.loads(RAW), retry_after_ms="5")),
    ("quota", "deepseek", said(429, json.loads(RAW), retry_after_ms="5")),
    ("key", "deepseek", said(401, error(message="Authentication Fails (no such user)", type="authentication_error",
     code="invalid_request_error"))),
    ("model", "deepseek", said(400, error(message="Model Not Exist", type="invalid_request_error",
     code="invalid_request_error"))),
    ("flagged", "deepseek", said(400, error(message="Content Exists Risk", type="invalid_request_error",
     code="invalid_request_error"))),
    ("context", "deepseek", said(400, error(message=LONG, type="invalid_request_error",
     code="invalid_request_error"))),
    ("rate_limit", "deepseek", said(429, error(message="Rate Limit Reached"))),
    ("server", "deepseek", said(503, error(message="Server overloaded"))),
    # Moonshot
    ("quota", "moonshot", said(429, error(message="Your account <org> is suspended, please check your plan and "
     "billing details", type="exceeded_current_quota_error"))),
    ("rate_limit", "moonshot", said(429, error(message="Your account reached max request",
     type="rate_limit_reached_error"))),
    ("flagged", "moonshot", said(400, error(message="The request was rejected because it was considered high risk",
     type="content_filter"))),
    # Azure
    ("flagged", "azure", said(400, error(code="content_filter", status=400, message="The response was filtered due "
     "to the prompt triggering Azure OpenAI's content management policy.", param="prompt", type=None, innererror={
     "code": "ResponsibleAIPolicyViolation", "content_filter_result": {"violence": {"filtered": True}}}))),
    ("rate_limit", "azure", said(429, error(code="429", message="Requests to the ChatCompletions_Create Operation "
     "have "
     "exceeded token rate limit of your current OpenAI S0 pricing tier. Please retry after 26 seconds. To increase "
     "your default rate limit, visit: https://aka.ms/oai/quotaincrease."), retry_after_ms="5")),
    ("key", "azure", said(401, error(code="401", message="Access denied due to invalid subscription key or wrong API "
     "endpoint."))),
    ("key", "azure", said(403, error(code="403", message="Access denied due to Virtual Network/Firewall rules."))),
    ("model", "azure", said(404, error(code="DeploymentNotFound", message="The API deployment for this resource "
     "does not exist."))),
    ("model", "azure", said(404, error(code="404", message="Resource not found"))),
    # Anthropic
    ("quota", "anthropic", said(400, anthropic("invalid_request_error", "Your credit balance is too low to access the "
     "Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."))),
    ("quota", "anthropic", said(400, anthropic("invalid_request_error", "You have reached your specified API usage "
     "limits. You will regain access on 2026-12-01."))),
    ("quota", "anthropic", said(402, anthropic("billing_error", "There is an issue with your billing."))),
    ("key", "anthropic", said(401, anthropic("authentication_error", "invalid x-api-key"))),
    ("key", "anthropic", said(403, anthropic("permission_error", "Your API key does not have permission."))),
    ("model", "anthropic", said(404, anthropic("not_found_error", "model: claude-0"))),
    ("context", "anthropic", said(400, anthropic("invalid_request_error", "prompt is too long: 210000 tokens > 200000 "
     "maximum"))),
    ("context", "anthropic", said(413, anthropic("request_too_large", "Request exceeds the maximum size"))),
    ("rate_limit", "anthropic", said(429, anthropic("rate_limit_error", "This request would exceed your account's "
     "rate limit"), retry_after_ms="5")),
    ("server", "anthropic", said(529, anthropic("overloaded_error", "Overloaded"))),
    # Gemini
    ("rate_limit", "gemini", said(429, gemini(429, "RESOURCE_EXHAUSTED", CURRENT_QUOTA, {"@type": "QuotaFailure",
     "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]},
     {"@type": "RetryInfo", "retryDelay": "0.01s"}))),
    ("rate_limit", "gemini", said(429, gemini(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check "
     "quota)."))),
    ("quota", "gemini", said(429, gemini(429, "RESOURCE_EXHAUSTED", CURRENT_QUOTA, {"@type": "QuotaFailure",
     "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
     {"@type": "RetryInfo", "retryDelay": "34s"}))),
    ("key", "gemini", said(400, gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
     {"@type": "ErrorInfo", "reason": "API_KEY_INVALID"}))),
    ("key", "gemini", said(403, gemini(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers."))),
    ("key", "gemini", said(400, gemini(400, "FAILED_PRECONDITION", "User location is not supported for the API "
     "use."))),
    ("model", "gemini", said(404, gemini(404, "NOT_FOUND", "models/x is not found for API version v1main"))),
    ("context", "gemini", said(400, gemini(400, "INVALID_ARGUMENT", "The input token count (1200000) exceeds the "
     "maximum number of tokens allowed (1048576)."))),
    ("server", "gemini", said(503, gemini(503, "UNAVAILABLE", "The model is overloaded. Please try again later."))),
    # vLLM and other servers of one's own
    ("context", "vllm", said(400, vllm(400, "BadRequestError", LONG))),
    ("model", "vllm", said(404, vllm(404, "NotFoundError", "The model `x` does not exist."))),
    ("key", "vllm", said(401, {"error": "Unauthorized"})),
    ("bad_request", "vllm", said(400, vllm(400, "BadRequestError", "Conversation roles must alternate"))),
    ("bad_request", "vllm", said(422, {"detail": [{"type": "missing", "loc": ["body", "messages", 0, "role"],
     "msg": "Field required", "input": {"content": "insufficient balance, the key was flagged"}}]})),
    ("server", "vllm", said(500, vllm(500, "InternalServerError", "EngineDeadError"))),
    ("server", "proxy", said(502, b"<html>502 Bad Gateway</html>")),
    # gateways
    ("quota", "litellm", said(400, error(message="Budget has been exceeded! Current cost: 10.1, Max budget: 10.0",
     type="budget_exceeded", code="400"))),
    ("quota", "siliconflow", said(403, {"code": 30001, "message": "Sorry, your account balance is insufficient",
     "data": None})),
    ("quota", "dashscope", said(400, error(code="Arrearage", message="Access denied, please make sure your account "
     "is in good standing."))),
    ("flagged", "dashscope", said(400, error(code="data_inspection_failed", message="Input data may contain "
     "inappropriate content."))),
    ("quota", "xai", said(403, {"code": "The caller does not have the right", "error": "Your newly created team "
     "doesn't have any credits yet."})),
    ("key", "mistral", said(401, {"message": "Unauthorized", "request_id": "x"})),
    ("model", "mistral", said(400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model",
     "param": None, "code": "1500"})),
]  # fmt: skip


@pytest.mark.parametrize(("means", "provider", "fault"), MATRIX)
def test_an_error_concerns_one_question_or_all_of_them_or_passes(means: str, provider: str, fault: Any) -> None:
    def play(body: dict[str, Any]) -> Any:
        times = faulty["times"] = faulty["times"] + (body["messages"][0]["content"] == "faulty")
        passed = means in ("rate_limit", "server") and times == 2
        return Answer("good") if body["messages"][0]["content"] != "faulty" or passed else fault

    faulty = {"times": 0}

    async def run(server: EndpointServer) -> None:
        client = Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=1, concurrency=1)

        async def ask(text: str) -> Reply:
            return await client.complete([{"role": "user", "content": text}], temperature=0.0, max_tokens=9)

        assert (await ask("first")).text == "good"
        if means in STOPS:
            for _ in range(2):  # the second time it is not even asked
                with pytest.raises(EndpointError, match=STOPS[means]) as stop:
                    await ask("faulty")
                assert "\n" not in str(stop.value)
            assert server.calls == 2
        elif means in ("rate_limit", "server"):
            reply = await ask("faulty")
            assert (reply.text, reply.retries) == ("good", 1)
        else:
            with pytest.raises(CallError) as failure:
                await ask("faulty")
            assert (failure.value.kind, server.calls, failure.value.retries) == (means, 2, 0)
            assert (await ask("last")).text == "good"
        await client.close()

    with EndpointServer(play) as server:
        asyncio.run(run(server))


ECHOES = [
    "Insufficient Balance", "your credit balance is too low", "model x does not exist", "out of credits",
    "unsupported parameter 'temperature'", "response_format is not supported", "use max_completion_tokens",
    "exceeded your current quota", "a guided tour", "api key not valid",
]  # fmt: skip


@pytest.mark.parametrize("text", ECHOES)
@pytest.mark.parametrize("frame", ["{}", "Invalid input: '{}'", 'Bad request: {{"temperature": 0, "content": "{}"}}'])
def test_an_echo_of_the_question_changes_nothing(text: str, frame: str) -> None:
    def play(body: dict[str, Any]) -> Any:
        return said(400, error(message=frame.format(text))) if body["messages"][0]["content"] == text else Answer("x")

    async def run(server: EndpointServer) -> None:
        client = Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=1, concurrency=1)
        with pytest.raises(CallError, match="bad_request"):
            await client.complete([{"role": "user", "content": text}], temperature=0, max_tokens=9, schema={})
        messages = [{"role": "user", "content": "another"}]
        reply = await client.complete(messages, temperature=0, max_tokens=9, schema={})
        assert reply.sampling == {"temperature": 0, "max_tokens": 9, "response_format": "json_schema"}
        await client.close()

    with EndpointServer(play) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize(
    ("body", "dropped"),
    [
        (error(message="Unsupported parameter: 'max_tokens' is not supported with this model. Use "
         "'max_completion_tokens' instead.", param="max_tokens", code="unsupported_parameter"), {"max_tokens"}),
        (error(message="Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) "
     "value "
         "is supported.", param="temperature", code="unsupported_value"), {"temperature"}),
        (error(message="Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.",
         param="temperature", code="decimal_above_max_value"), set()),
        (error(message="max_tokens is too large: 99999. This model supports at most 16384 completion tokens.",
         param="max_tokens", code="invalid_value"), set()),
        (error(message="Invalid schema for response_format 'answer'", param="response_format"), {"response_format"}),
        (error(message="Invalid parameter", param="response_format.type"), {"response_format"}),
        (error(message="This response_format type is unavailable now", type="invalid_request_error"),
         {"response_format"}),
        (error(message="'response_format' of type 'json_schema' is not supported"), {"response_format"}),
        (error(message="This model does not support response format `json_schema`."), {"response_format"}),
        (error(message="Unrecognized request argument supplied: response_format"), {"response_format"}),
        (error(message="Additional properties are not allowed ('response_format' was unexpected)"),
         {"response_format"}),
        (error(message="guided decoding is not supported by this backend"), {"response_format"}),
        (error(message="property 'response_format' is unsupported"), {"response_format"}),
        (error(message="'response_format.type' must be 'text'", type="invalid_request_error"), {"response_format"}),
        (error(message="Invalid value: 'json_schema'. Supported values are: 'text' and 'json_object'."),
         {"response_format"}),
        (error(message="Failed to deserialize the JSON body into the target type: response_format: unknown variant "
         "`json_schema`, expected `text` or `json_object`"), {"response_format"}),
        (error(message="ChatRequest(model='m', response_format=Format(type='json_schema'), temperature=0) is invalid"),
         set()),
        (error(message="litellm.UnsupportedParamsError: m does not support parameters: ['temperature']", param="None"),
         {"temperature"}),
        (gemini(400, "INVALID_ARGUMENT", 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'),
         {"seed"}),
        ({"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]},
         {"seed"}),
        ({"detail": [{"type": "less_than_equal", "loc": ["body", "temperature"], "msg": "Input should be less than or "
                      "equal to 2"}]}, set()),
        ({"object": "error", "message": {"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]}, "code": 1},
         {"seed"}),
        ({"detail": [{"loc": ["body", "messages", 0], "msg": "the guided tour: temperature unknown"}]}, set()),
        (error(message="Your prompt is not supported. It has the word temperature."), set()),
        (error(message='invalid request: {"temperature": 0.0, "messages": [{"content": "unknown"}]}'), set()),
        (error(message="unknown error while reading the guided tour"), set()),
        (b"<html>response_format</html>", set()),
    ],
)  # fmt: skip
def test_only_words_that_name_an_option_drop_it(body: Any, dropped: set[str]) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert unsupported(read(400, data), lambda: "a question") == dropped


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"[[]]", b'{"error": [1]}', b'{"error": {"message": {"a": 1}}}',
                                  b"[" * 5000, b'{"error": true}', b'{"detail": [{"loc": 3}]}'])  # fmt: skip
def test_any_error_body_is_read(body: bytes) -> None:
    assert read(400, body).status == 400


def test_an_error_that_does_not_say_why_stops_the_run_only_before_the_first_answer() -> None:
    """A 403 without words: the key that was good for other questions is not refused."""

    async def ask(client: Client, text: str) -> Reply:
        return await client.complete([{"role": "user", "content": text}], temperature=0, max_tokens=9)

    async def run(server: EndpointServer) -> None:
        client = Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=1, concurrency=1)
        await ask(client, "first")
        with pytest.raises(CallError, match="bad_request: HTTP 403"):
            await ask(client, "second")
        await client.close()
        other = Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=1, concurrency=1)
        with pytest.raises(EndpointError, match="key was refused"):
            await ask(other, "second")
        await other.close()

    nameless = said(403, b"<html>blocked</html>")
    with EndpointServer(lambda body: Answer("x") if body["messages"][0]["content"] == "first" else nameless) as server:
        asyncio.run(run(server))
