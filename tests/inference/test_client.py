"""The client against a real HTTP server that plays every fault."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_ray.errors import EndpointError
from atlas_ray.inference import transport
from atlas_ray.inference.client import Client
from atlas_ray.inference.cost import price_of
from atlas_ray.inference.resolve import SelectorEndpoint, endpoint_identity, resolve
from atlas_ray.inference.transport import Endpoint
from atlas_ray.inference.types import CallError, Reply
from tests.endpoint_server import MISSING, Answer, EndpointServer, Raw, Reset, Status, steps_answer

KEY = "sk-secret-0123456789"
SOON = {"retry-after-ms": "5"}


def ask(server: EndpointServer, *, max_retries: int = 3, timeout_s: float = 5.0, **options: Any) -> Reply:
    async def run() -> Reply:
        endpoint = Endpoint(base_url=server.url, model="selector", key=KEY)
        client = Client(endpoint, timeout_s=timeout_s, max_retries=max_retries, concurrency=4)
        try:
            messages = [{"role": "user", "content": "hello"}]
            return await client.complete(messages, temperature=0.0, max_tokens=9, **options)
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.fixture
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "LONGEST_PAUSE_S", 0.05)


def test_an_answer_has_text_usage_and_what_was_sent() -> None:
    with EndpointServer(Answer("hi")) as server:
        reply = ask(server)
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.retries) == ("hi", 100, 10, 0)
        assert reply.sampling == {"temperature": 0.0, "max_tokens": 9}
        assert server.requests[0]["model"] == "selector"


@pytest.mark.parametrize(
    "fault",
    [Status(429, headers=SOON), Status(500), Status(503), Reset(), Reset(silent=True), Raw(b"<html>"), Raw(b"")],
)
def test_a_passing_fault_is_retried(fault: Any, quick_backoff: None) -> None:
    with EndpointServer(Answer("hi")) as server:
        server.play(fault, fault)
        reply = ask(server)
        assert (reply.text, reply.retries, server.calls) == ("hi", 2, 3)


@pytest.mark.parametrize(
    ("fault", "kind", "calls"),
    [
        (Status(429, headers=SOON), "rate_limit", 3),
        (Status(500), "server", 3),
        (Reset(), "connection", 3),
        (Reset(silent=True), "connection", 3),
        (Raw(b"not json"), "malformed", 3),
        (Raw(b'{"choices": []}'), "malformed", 3),
        (Raw(b'{"error": {"message": "overloaded"}}'), "malformed", 3),
        (Raw(b'{"choices": [{"message": {"content": "x"}, "error": {"message": "cut"}}]}'), "malformed", 3),
        (Raw(b"[" * 100_000), "malformed", 3),
        (Raw(b'"' + b"x" * (20 << 20) + b'"'), "too_large", 1),
        (Answer("late", delay_s=600.0), "timeout", 3),
        (Status(400), "bad_request", 1),
        (Status(400, {"message": "too long", "code": "context_length_exceeded"}), "context", 1),
    ],
)
def test_a_lasting_fault_has_a_kind(fault: Any, kind: str, calls: int, quick_backoff: None) -> None:
    with EndpointServer(fault) as server:
        with pytest.raises(CallError) as failure:
            ask(server, max_retries=2, timeout_s=1.0 if kind == "timeout" else 60.0)
        assert (failure.value.kind, server.calls, failure.value.retries) == (kind, calls, calls - 1)
        assert "\n" not in str(failure.value)
        assert len(str(failure.value)) < 400


def test_retry_after_is_honoured() -> None:
    with EndpointServer(Answer("hi")) as server:
        server.play(Status(429, headers={"retry-after": "1"}))
        start = time.monotonic()
        assert ask(server).retries == 1
        assert time.monotonic() - start >= 1.0


def test_retry_after_is_waited_for_up_to_the_limit() -> None:
    """503 with Retry-After, and a 200 whose body is an error; the tries share one limit."""

    async def run(url: str, max_wait_s: float) -> Reply:
        endpoint = Endpoint(base_url=url, model="m")
        client = Client(endpoint, timeout_s=5, max_retries=9, concurrency=1, max_wait_s=max_wait_s)
        try:
            return await client.complete([], temperature=0, max_tokens=1)
        finally:
            await client.close()

    second = {"retry-after-ms": "400"}
    faults = [Status(503, headers=second), Raw(b'{"error": {"message": "overloaded"}}', headers=second)]
    with EndpointServer(Answer("hi")) as server:
        server.play(*faults)
        start = time.monotonic()
        assert asyncio.run(run(server.url, 60.0)).retries == 2
        assert time.monotonic() - start >= 0.8
        server.play(*faults)
        with pytest.raises(CallError, match="overloaded") as failure:
            asyncio.run(run(server.url, 0.5))
        assert failure.value.retries == 1


def test_three_minutes_are_waited_for_by_default_and_a_refusal_ends_the_waiting() -> None:
    async def run(server: EndpointServer) -> None:
        client = Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=9, concurrency=2)
        server.play(Status(503, headers={"retry-after": "180"}), Status(402, {"message": "Insufficient Balance"}))
        waiting = asyncio.create_task(client.complete([], temperature=0, max_tokens=1))
        while not server.calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert not waiting.done()
        for call in (client.complete([], temperature=0, max_tokens=1), waiting):
            with pytest.raises(EndpointError, match="quota is used up"):
                await asyncio.wait_for(call, 60)
        assert server.calls == 2
        await client.close()

    with EndpointServer(Answer("hi")) as server:
        asyncio.run(run(server))


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": '{"steps": [0]}'}]}
TEXT = {"type": "text", "text": "hi"}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([TEXT], "hi"),
        ([THINKING, TEXT], "hi"),
        ([{"type": "reasoning", "text": "hm"}, {"type": "redacted_thinking", "data": "x"}, TEXT, TEXT], "hihi"),
        ([{"type": "output_text", "text": "hi", "annotations": []}], "hi"),
        ([{"type": "text", "text": {"value": "hi"}}], "hi"),
        ([{"text": "hm", "thought": True}, {"text": "hi"}], "hi"),
        (["hi", " you"], "hi you"),
        (TEXT, "hi"),
        ([THINKING], ""),
        ([None, 3, [], {"type": "text"}, {"type": "text", "text": None}], ""),
    ],
)
def test_of_a_list_of_parts_the_text_counts(content: Any, text: str) -> None:
    with EndpointServer(Answer(content)) as server:
        assert ask(server).text == text


def completion(message: dict[str, Any], usage: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": "stop"} | more
    return json.dumps({"id": "x", "model": "m", "choices": [choice], "usage": usage}).encode()


USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
FILTERS = {"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}}}


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("openai", completion({"content": "hi", "refusal": None, "annotations": []}, USAGE)),
        (
            "openrouter",
            completion({"content": "hi", "reasoning": "hm"}, USAGE | {"cost": 0.1}, error=None),
        ),
        ("deepseek", completion({"content": "hi", "reasoning_content": "hm"}, USAGE | {"prompt_cache_hit_tokens": 0})),
        ("azure", completion({"content": "hi"}, USAGE, **FILTERS)),
        ("anthropic", completion({"content": [{"type": "thinking", "thinking": "hm"}, TEXT]}, USAGE, logprobs=None)),
        ("vllm", completion({"content": "hi", "reasoning": "hm", "tool_calls": []}, USAGE, stop_reason=None)),
        ("gemini", completion({"content": "hi", "extra_content": {"google": {}}}, USAGE, finish_reason="STOP")),
        ("mistral", completion({"content": [THINKING, TEXT], "prefix": False}, USAGE)),
    ],
)
def test_every_providers_answer_is_read(provider: str, body: bytes) -> None:
    with EndpointServer(Raw(body)) as server:
        reply = ask(server)
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.usage_known) == ("hi", 7, 2, True)
        assert reply.refusal is None


def test_a_refusal_among_the_parts_is_a_refusal() -> None:
    with EndpointServer(Answer([{"type": "refusal", "refusal": "I cannot"}])) as server:
        assert ask(server).refusal == "I cannot"


@pytest.mark.parametrize(
    ("usage", "found"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2}, (7, 2, True)),
        ({"prompt_tokens": 7.0, "completion_tokens": 2.0}, (7, 2, True)),
        ({"input_tokens": 7, "output_tokens": 2}, (7, 2, True)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (0, 0, False)),
        ({"prompt_tokens": 7}, (7, 0, False)),
        ({"prompt_tokens": "7", "completion_tokens": "2"}, (0, 0, False)),
        ({"prompt_tokens": -7, "completion_tokens": True}, (0, 0, False)),
        ({}, (0, 0, False)),
        (None, (0, 0, False)),
        ("many", (0, 0, False)),
        (MISSING, (0, 0, False)),
    ],
)
def test_usage_that_is_not_told_is_not_known(usage: Any, found: tuple[int, int, bool]) -> None:
    with EndpointServer(Answer("hi", usage=usage)) as server:
        reply = ask(server)
        assert (reply.prompt_tokens, reply.completion_tokens, reply.usage_known) == found


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("https://x.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
         "https://x.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"),
    ],
)  # fmt: skip
def test_where_a_question_goes(base_url: str, url: str) -> None:
    assert transport._url(base_url, "/chat/completions") == url


def test_a_seed_that_the_endpoint_does_not_know_is_left_out() -> None:
    def play(body: dict[str, Any]) -> Any:
        refused = {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs"}]}
        return Status(422, body=refused) if "seed" in body else Answer("hi")

    with EndpointServer(play) as server:
        assert ask(server, seed=3).text == "hi"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
        ({"retry-after": "Mon, 01 Jan 2300 00:00:00 GMT"}, 1e9),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "when it suits"}, None),
        ({}, None),
    ],
)
def test_what_an_endpoint_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    found = transport.retry_after_s(headers)
    assert found == seconds or (seconds == 1e9 and found is not None and found > seconds)


@pytest.mark.parametrize(
    "play", [Status(429, headers={"retry-after": "601"}), Status(503, headers=SOON | {"x-should-retry": "false"})]
)
def test_what_is_not_worth_waiting_for_fails_at_once(play: Any) -> None:
    with EndpointServer(play) as server, pytest.raises(CallError) as failure:
        ask(server)
    assert (server.calls, failure.value.retries) == (1, 0)


def test_a_trickle_of_bytes_does_not_outlive_the_deadline(quick_backoff: None) -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        for _ in range(40):
            writer.write(b" ")
            await asyncio.sleep(0.05)
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        client = Client(Endpoint(base_url=url, model="m"), timeout_s=0.3, max_retries=0, concurrency=1)
        with pytest.raises(CallError, match="timeout"):
            await client.complete([], temperature=0, max_tokens=1)
        await client.close()
        server.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Status(401), "key was refused"),
        (Status(403), "key was refused"),
        (Status(404), "no such model"),
        (Status(429, {"message": "pay", "code": "insufficient_quota"}, SOON), "quota is used up"),
    ],
)
def test_an_endpoint_that_refuses_for_good_stops_everything(fault: Any, words: str) -> None:
    with EndpointServer(fault) as server, pytest.raises(EndpointError, match=words):
        ask(server, max_retries=1)


def test_an_endpoint_out_of_reach_stops_everything(quick_backoff: None) -> None:
    with EndpointServer() as server:
        pass
    with pytest.raises(EndpointError, match="does not answer"):
        ask(server, max_retries=1)


def test_an_outage_is_outlasted_once_the_endpoint_was_reached() -> None:
    async def run() -> None:
        first = EndpointServer(Answer("hi"))
        first.__enter__()
        port = int(first.url.split(":")[2].split("/")[0])
        client = Client(Endpoint(base_url=first.url, model="m"), timeout_s=5, max_retries=4, concurrency=4)
        await client.complete([], temperature=0, max_tokens=1)
        first.__exit__(None, None, None)
        waiting = [asyncio.create_task(client.complete([], temperature=0, max_tokens=1)) for _ in range(4)]
        await asyncio.sleep(1.2)
        assert not any(task.done() for task in waiting)
        with EndpointServer(Answer("again"), port=port):
            assert [reply.text for reply in await asyncio.gather(*waiting)] == ["again"] * 4
            await client.close()

    asyncio.run(run())


def test_the_key_shows_nowhere() -> None:
    with EndpointServer(key="another") as server:
        with pytest.raises(EndpointError) as failure:
            ask(server)
        assert KEY not in str(failure.value)
        assert "***" in str(failure.value)
        assert KEY not in repr(Endpoint(base_url=server.url, model="m", key=KEY))


def test_an_unsupported_schema_is_dropped_for_the_run() -> None:
    refused = Status(400, {"message": "'response_format' of type 'json_schema' is not supported"})

    async def run(server: EndpointServer) -> None:
        client = Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=0, concurrency=1)
        for _ in range(2):
            reply = await client.complete([], temperature=0, max_tokens=5, schema={"type": "object"})
            assert reply.sampling == {"temperature": 0, "max_tokens": 5}
        await client.close()

    with EndpointServer(lambda body: refused if "response_format" in body else Answer("hi")) as server:
        asyncio.run(run(server))
        assert ["response_format" in request for request in server.requests] == [True, False, False]


def test_where_no_schema_is_supported_the_other_conversation_is_sent() -> None:
    def play(body: dict[str, Any]) -> Any:
        if "response_format" in body:
            return Status(400, {"message": "response_format is not supported"})
        return Answer(body["messages"][0]["content"])

    with EndpointServer(play) as server:
        plain = [{"role": "user", "content": "plain"}]
        assert ask(server, schema={"type": "object"}, without_schema=plain).text == "plain"
    with EndpointServer(lambda body: Answer(body["messages"][0]["content"])) as server:
        assert ask(server, schema={"type": "object"}, without_schema=plain).text == "hello"


def test_a_price_is_that_of_the_longest_name_that_fits() -> None:
    prices = {"gpt-4o": (2.5, 10.0), "gpt-4o-mini": (0.15, 0.6)}
    assert price_of(prices, "gpt-4o-mini-2024-07-18") == (0.15, 0.6)
    assert price_of(prices, "gpt-4o-2024-08-06") == (2.5, 10.0)
    assert price_of(prices, "llama") is None


def test_options_that_reasoning_models_refuse_are_replaced() -> None:
    def reasoning(body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            return Status(400, {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."})
        if "temperature" in body:
            return Status(400, {"message": "Unsupported value: 'temperature' does not support 0 with this model."})
        return Answer("hi")

    with EndpointServer(reasoning) as server:
        assert ask(server).sampling == {"max_completion_tokens": 9}


def test_a_schema_is_recorded_by_its_name_and_a_regex_goes_to_vllm() -> None:
    with EndpointServer(Answer("hi")) as server:
        assert ask(server, schema={"type": "object"}).sampling["response_format"] == "json_schema"
        assert ask(server, schema={"type": "object"}, regex="[0-9]").sampling["regex"] == "[0-9]"
        assert server.requests[1]["structured_outputs"] == {"regex": "[0-9]"}
        assert "response_format" not in server.requests[1]


def test_half_characters_do_not_get_through() -> None:
    with EndpointServer(Raw(json.dumps({"choices": [{"message": {"content": "a\ud800b"}}]}).encode())) as server:
        assert ask(server).text == "a?b"


def test_concurrency_is_bounded_and_every_try_is_paced(quick_backoff: None) -> None:
    paced: list[int] = []

    async def pace(tokens: int) -> None:
        paced.append(tokens)

    async def run(server: EndpointServer) -> None:
        endpoint = Endpoint(base_url=server.url, model="m")
        client = Client(endpoint, timeout_s=5, max_retries=3, concurrency=3, pace=pace)
        await asyncio.gather(*(client.complete([], temperature=0, max_tokens=5) for _ in range(12)))
        await client.close()

    with EndpointServer(Answer("hi", delay_s=0.2)) as server:
        server.play(Status(500), Status(500))
        asyncio.run(run(server))
        assert (server.most_under_way, server.calls, paced) == (3, 14, [5] * 14)


def test_a_question_that_has_paused_goes_before_those_never_sent(quick_backoff: None) -> None:
    """And nobody makes more questions ready than are soon to be sent."""
    order: list[str] = []

    def play(body: dict[str, Any]) -> Any:
        order.append(body["messages"][0]["content"])
        return Status(500) if order == ["0"] else Answer("hi", delay_s=0.2)

    async def run(url: str) -> None:
        client = Client(Endpoint(base_url=url, model="selector"), timeout_s=5, max_retries=3, concurrency=2)
        asked = []
        for number in range(12):
            await client.room.wait()
            messages = [{"role": "user", "content": str(number)}]
            asked.append(asyncio.create_task(client.complete(messages, temperature=0.0, max_tokens=9)))
            await asyncio.sleep(0)
        assert len(order) >= 8  # but two under way and two in waiting, all have been sent
        await asyncio.gather(*asked)
        await client.close()

    with EndpointServer(play) as server:
        asyncio.run(run(server.url))
    assert order.count("0") == 2
    assert "0" in order[2:4]
    assert sorted(map(int, order)) == [0, *range(12)]


def test_a_place_that_nobody_takes_any_more_is_passed_on() -> None:
    async def run() -> None:
        slots = transport._Slots(1)
        await slots.take(again=False)
        first, second = (asyncio.create_task(slots.take(again=False)) for _ in range(2))
        await asyncio.sleep(0)
        slots.give()  # to the first, which is cancelled in the same moment
        first.cancel()
        await asyncio.wait_for(second, 60)
        third = asyncio.create_task(slots.take(again=True))
        await asyncio.sleep(0)
        third.cancel()
        await asyncio.sleep(0)
        slots.give()
        await asyncio.wait_for(slots.take(again=False), 60)

    asyncio.run(run())


@pytest.fixture(scope="module")
def asker() -> Iterator[Callable[[bytes], Reply]]:
    """Puts a question to a server that answers with the given body; one client for many questions."""
    loop = asyncio.new_event_loop()
    with EndpointServer() as server:

        async def start() -> Client:
            return Client(Endpoint(base_url=server.url, model="m"), timeout_s=5, max_retries=0, concurrency=1)

        client = loop.run_until_complete(start())

        def put(body: bytes) -> Reply:
            server.play(Raw(body))
            return loop.run_until_complete(client.complete([], temperature=0, max_tokens=1))

        yield put
        loop.run_until_complete(client.close())
    loop.close()


@given(body=st.binary(max_size=200) | st.text(alphabet='{}[]":, \\u0choicesmg', max_size=60).map(str.encode))
@settings(max_examples=150, deadline=None)
def test_any_body_is_an_answer_or_a_named_error(asker: Callable[[bytes], Reply], body: bytes) -> None:
    with pytest.raises(CallError, match="malformed"):
        asker(body)


JUNK = st.none() | st.integers() | st.text() | st.lists(st.integers(), max_size=2)


@given(
    choice=st.fixed_dictionaries(
        {"message": st.fixed_dictionaries({}, optional={"content": JUNK, "refusal": JUNK})},
        optional={"finish_reason": JUNK},
    ),
    usage=JUNK | st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens"]), JUNK),
)
@settings(max_examples=150, deadline=None)
def test_odd_fields_do_no_harm(asker: Callable[[bytes], Reply], choice: dict[str, Any], usage: Any) -> None:
    reply = asker(json.dumps({"choices": [choice], "usage": usage}).encode())
    assert reply.text == reply.text.encode().decode()
    assert reply.prompt_tokens >= 0


class TestResolve:
    def test_nothing_configured_is_nobody(self) -> None:
        assert resolve(SelectorEndpoint(), {}) is None
        assert endpoint_identity(SelectorEndpoint(), {}) is None

    def test_a_key_alone_means_openai_and_the_papers_model(self) -> None:
        endpoint = resolve(SelectorEndpoint(), {"OPENAI_API_KEY": f" {KEY}\n"})
        assert endpoint is not None
        assert (endpoint.base_url, endpoint.model) == ("https://api.openai.com/v1", "gpt-4o")
        assert endpoint.key.get_secret_value() == KEY

    def test_the_config_wins_over_the_environment(self) -> None:
        config = SelectorEndpoint(base_url="http://one/v1", model="m", api_key_env="MY_KEY")
        environ = {"OPENAI_BASE_URL": "http://two/v1", "OPENAI_API_KEY": "a", "MY_KEY": "b"}
        endpoint = resolve(config, environ)
        assert endpoint is not None
        assert (endpoint.base_url, endpoint.model, endpoint.key.get_secret_value()) == ("http://one/v1", "m", "b")
        assert endpoint_identity(config, environ) == "m at http://one/v1"

    def test_the_only_model_is_taken(self) -> None:
        with EndpointServer(models=["one"]) as server:
            endpoint = resolve(SelectorEndpoint(), {"OPENAI_BASE_URL": server.url})
            assert endpoint is not None
            assert endpoint.model == "one"

    @pytest.mark.parametrize("models", [[], ["b", "a"]])
    def test_none_or_several_models_are_refused_by_name(self, models: list[str]) -> None:
        with EndpointServer(models=models) as server, pytest.raises(EndpointError) as failure:
            resolve(SelectorEndpoint(base_url=server.url), {})
        assert all(name in str(failure.value) for name in models)

    def test_a_wrong_key_or_path_or_no_server_is_one_line(self) -> None:
        with EndpointServer(key="right") as server:
            for url in (server.url, server.url + "/wrong"):
                with pytest.raises(EndpointError) as failure:
                    resolve(SelectorEndpoint(base_url=url, max_retries=0), {"OPENAI_API_KEY": KEY})
                assert KEY not in str(failure.value)
        with pytest.raises(EndpointError):
            resolve(SelectorEndpoint(base_url=server.url, max_retries=0), {})

    @pytest.mark.parametrize(
        ("config", "environ"),
        [
            (SelectorEndpoint(base_url="localhost:8000/v1"), {}),
            (SelectorEndpoint(base_url="http://"), {}),
            (SelectorEndpoint(base_url="https://api.openai.com/v1"), {}),
            (SelectorEndpoint(), {"OPENAI_API_KEY": "schlüssel"}),
        ],
    )
    def test_unusable_settings_are_refused(self, config: SelectorEndpoint, environ: dict[str, str]) -> None:
        with pytest.raises(EndpointError):
            resolve(config, environ)


def test_the_body_limit_is_far_above_an_honest_answer() -> None:
    assert transport.MAX_BODY_BYTES >= 1 << 20
    assert steps_answer(0).text is not None
