"""The local server: it speaks the protocol, misbehaves exactly when told to, and ends when its block does."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.endpoint import endpoint_duels
from counterclaim.errors import InputError, ModelError
from counterclaim.lab.models import open_model
from counterclaim.lab.models.endpoint import EndpointModel
from counterclaim.lab.models.tiny import domain
from counterclaim.records import Decode, FinishReason, Message, ModelRef
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime
from counterclaim.testing.models import CHARACTER_SCHEME
from counterclaim.testing.models.teachers import CHARACTERS
from counterclaim.testing.server import Fault, Schedule, Server, serve, serve_models

CHAT = "/v1/chat/completions"
HELLO: dict[str, Any] = {"model": "local", "messages": [{"role": "user", "content": "Hello?"}]}


class Parrot:
    """A model that repeats the last turn up to its budget in words, and shows the settings it was given."""

    ref = ModelRef("parrot")
    chat_template = None

    def __init__(self) -> None:
        self.decodes: list[Decode] = []

    def answer(self, asks: Sequence[Ask], decode: Decode, done: Any = ()) -> Iterator[list[tuple[int, Answer]]]:
        self.decodes.append(decode)
        said = asks[0].messages[-1].content
        if said == "refuse":
            raise ModelError("this model answers nothing")
        if said == "fail":
            yield [(0, Answer(None, FinishReason.ERROR, error="out of memory"))]
            return
        words = said.split(" ")[: decode.max_new_tokens]
        ends = [len(word) + (i < len(words) - 1) for i, word in enumerate(words)]
        cut = len(words) < len(said.split(" "))
        finish = FinishReason.LENGTH if cut else FinishReason.STOP
        yield [(0, Answer(" ".join(words), finish, len(words), 3, tuple(ends)))]

    def close(self) -> None:
        pass


def call(
    server: Server, path: str, body: Any = None, *, key: str | None = None, raw: bytes | None = None
) -> tuple[int, Any]:
    """(status, JSON) of a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]), timeout=10)
    try:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        connection.request("GET" if content is None else "POST", path, content, headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def say(text: str, **rest: Any) -> dict[str, Any]:
    return {"model": "local", "messages": [{"role": "user", "content": text}], **rest}


def test_a_model_is_listed_and_answers_chats_and_completions() -> None:
    with serve(Parrot(), model="bird") as server:
        assert call(server, "/v1/models")[1]["data"][0]["id"] == "bird"
        status, chat = call(server, CHAT, {**say("a b c"), "model": "bird", "max_completion_tokens": 2})
        assert status == 200
        assert chat["model"] == "bird"
        assert chat["choices"] == [
            {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "a b"}}
        ]
        assert chat["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        body = {"model": "bird", "prompt": "a b c", "max_tokens": 9, "logprobs": 1}
        choice = call(server, "/v1/completions", body)[1]["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == ("a b c", "stop")
        assert choice["logprobs"] == {
            "tokens": ["a ", "b ", "c"], "text_offset": [0, 2, 4], "token_logprobs": [None] * 3,
        }  # fmt: skip


def test_the_openai_sdk_understands_it() -> None:
    import openai

    with (
        serve(Parrot(), key="k") as server,
        openai.OpenAI(base_url=server.url, api_key="k", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["local"]
        reply = client.chat.completions.create(
            model="local", messages=[{"role": "user", "content": "é b"}], logprobs=True
        )
        assert reply.choices[0].message.content == "é b"
        tokens = reply.choices[0].logprobs.content  # type: ignore[union-attr]  # they were asked for
        assert tokens is not None
        assert b"".join(bytes(token.bytes or ()) for token in tokens).decode() == "é b"
        assert client.completions.create(model="local", prompt="x y").choices[0].text == "x y"


def test_decode_settings_reach_the_model() -> None:
    parrot = Parrot()
    with serve(parrot) as server:
        call(server, CHAT, say(
            "x", max_tokens=5, temperature=0.5, top_p=0.9, top_k=3, repetition_penalty=1.1, presence_penalty=0.1, seed=7,
            stop="END", chat_template_kwargs={"enable_thinking": False},
        ))  # fmt: skip
        call(server, CHAT, say("x", stop=["A", "B"]))
    assert parrot.decodes[0] == Decode(5, 0.5, 0.9, 3, 1.1, 0.1, 7, ("END",), None, False)
    assert (parrot.decodes[1].max_new_tokens, parrot.decodes[1].stop) == (512, ("A", "B"))


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (CHAT, {**HELLO, "model": "other"}, 404, "The model `other` does not exist."),
        ("/v1/nothing", HELLO, 404, "There is nothing at /v1/nothing."),
        (CHAT, {"model": "local"}, 400, "'messages' is a list"),
        (CHAT, {"model": "local", "messages": [{"role": "user"}]}, 400, "'messages' is a list"),
        ("/v1/completions", {"model": "local", "prompt": ["a"]}, 400, "'prompt' is one text."),
        (CHAT, {**HELLO, "n": 2}, 400, "does not support n = 2"),
        (CHAT, {**HELLO, "stream": True}, 400, "does not support stream = True"),
        (CHAT, say("refuse"), 400, "this model answers nothing"),
        (CHAT, say("fail"), 500, "out of memory"),
        (CHAT, say("x", max_tokens="many"), 500, "The model failed: TypeError."),
        (CHAT, [1], 400, "not a JSON object"),
    ],
)
def test_a_request_that_cannot_be_served_says_why(path: str, body: Any, status: int, message: str) -> None:
    with serve(Parrot()) as server:
        got, reply = call(server, path, body)
        assert (got, message in reply["error"]["message"]) == (status, True)
        assert call(server, CHAT, HELLO)[0] == 200, "the server goes on"


def test_bodies_that_are_no_json_or_too_large_are_refused() -> None:
    with serve(Parrot()) as server:
        assert call(server, CHAT, raw=b"{half")[0] == 400
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]), timeout=10)
        connection.putrequest("POST", CHAT)
        connection.putheader("Content-Length", str(2**40))
        connection.endheaders()
        assert connection.getresponse().status == 413
        connection.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = ("messages", "n", "stream", "stop", "max_tokens", "temperature", "chat_template_kwargs", "logprobs", "seed")


@pytest.fixture(scope="module")
def standing() -> Iterator[Server]:
    with serve(Parrot()) as server:
        yield server


@given(st.dictionaries(st.sampled_from(FIELDS), json_values))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_request_brings_it_down(standing: Server, fields: dict[str, Any]) -> None:
    status, reply = call(standing, CHAT, {**HELLO, **fields})
    assert status in (200, 400, 500)
    assert ("choices" in reply) == (status == 200)


def test_a_key_is_checked_and_not_kept() -> None:
    with serve(Parrot(), key="planted-key") as server:
        assert call(server, CHAT, HELLO)[0] == 401
        assert call(server, CHAT, HELLO, key="wrong")[0] == 401
        assert call(server, "/v1/models", key="wrong")[0] == 401
        assert call(server, CHAT, HELLO, key="planted-key")[0] == 200
        assert [seen.with_key for seen in server.requests] == [False, True, True, True]
        assert "planted-key" not in repr(server.requests)


def test_faults_strike_by_count_in_order_and_by_marker() -> None:
    faults = [
        Fault("server-error", times=2, after=1),
        Fault("unavailable", marker="odd"),
        Fault("too-many-requests", times=None, marker="never"),
    ]
    with serve(Parrot(), faults=faults) as server:
        statuses = [call(server, CHAT, HELLO)[0] for _ in range(5)]
        assert statuses == [200, 500, 500, 200, 200]
        assert call(server, CHAT, say("something odd"))[0] == 503
        assert call(server, CHAT, say("something odd"))[0] == 200
        assert [call(server, CHAT, say("never"))[0] for _ in range(3)] == [429] * 3
        assert [seen.body["messages"][0]["content"] for seen in server.requests[-2:]] == ["never"] * 2


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 12))
def test_a_fault_strikes_exactly_its_times_after_those_it_lets_pass(after: int, times: int, n: int) -> None:
    schedule = Schedule([Fault("reset", times=times, after=after)])
    struck = [schedule.next({"a": 1}) is not None for _ in range(n)]
    assert struck == [after <= i < after + times for i in range(n)]


def test_faults_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="no fault named"):
        Fault("explode")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="names a parameter"):
        Fault("rejects")
    with pytest.raises(ValueError, match="names a parameter"):
        Fault("reset", parameter="top_k")


def test_spoilt_replies_are_spoilt_as_named() -> None:
    def struck(kind: Any) -> Mapping[str, Any]:
        with serve(Parrot(), faults=[Fault(kind)]) as server:
            return dict(call(server, CHAT, HELLO)[1])

    assert struck("no-choices")["choices"] == []
    assert struck("null-content")["choices"][0]["message"]["content"] is None
    assert struck("wrong-model")["model"] == "another-model"
    assert "usage" not in struck("no-usage")
    assert struck("no-finish-reason")["choices"][0]["finish_reason"] is None
    assert struck("content-filter")["choices"][0]["finish_reason"] == "content_filter"
    for kind in ("half-json", "invalid-utf8"):
        with pytest.raises(ValueError):
            struck(kind)
    for broken in ("reset", "time-out"):
        with (
            serve(Parrot(), faults=[Fault(broken, seconds=0.01)]) as server,
            pytest.raises((http.client.HTTPException, ConnectionError)),
        ):
            call(server, CHAT, HELLO)


def test_a_refusal_carries_its_retry_after() -> None:
    with serve(Parrot(), faults=[Fault("too-many-requests", retry_after="7")]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", int(server.url.split(":")[2].split("/")[0]), timeout=10)
        connection.request("POST", CHAT, json.dumps(HELLO))
        reply = connection.getresponse()
        assert (reply.status, reply.headers["Retry-After"]) == (429, "7")
        connection.close()


def test_it_ends_at_once_though_clients_hold_connections_and_requests_wait() -> None:
    start = time.monotonic()
    with serve(Parrot(), faults=[Fault("time-out", seconds=60, after=1)]) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        idle, held = (http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(2))
        idle.request("POST", CHAT, json.dumps(HELLO))
        assert idle.getresponse().read()
        held.request("POST", CHAT, json.dumps(HELLO))
        while len(server.requests) < 2:
            time.sleep(0.005)
    assert time.monotonic() - start < 3
    idle.close()
    held.close()
    with pytest.raises(ConnectionError):
        call(server, CHAT, HELLO)


class Meeting:
    """A model whose answer waits until so many of its requests are under way at once, or until it is let go."""

    ref = ModelRef("meeting")
    chat_template = None

    def __init__(self, size: int) -> None:
        self.size, self.inside, self.most = size, 0, 0
        self.full = threading.Condition()

    def let_go(self) -> None:
        with self.full:
            self.size = 0
            self.full.notify_all()

    def answer(self, asks: Sequence[Ask], decode: Decode, done: Any = ()) -> Iterator[list[tuple[int, Answer]]]:
        with self.full:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.full.notify_all()
            self.full.wait_for(lambda: self.most >= self.size, timeout=10)
            self.inside -= 1
        yield [(0, Answer("met", FinishReason.STOP, 1))]

    def close(self) -> None:
        pass


def test_several_models_are_served_by_name() -> None:
    with serve({"a": Parrot(), "b": lambda body: Answer("b!", FinishReason.STOP, 1)}) as server:
        assert server.models == ("a", "b")
        assert [row["id"] for row in call(server, "/v1/models")[1]["data"]] == ["a", "b"]
        assert call(server, CHAT, {**HELLO, "model": "a"})[1]["choices"][0]["message"]["content"] == "Hello?"
        assert call(server, CHAT, {**HELLO, "model": "b"})[1]["choices"][0]["message"]["content"] == "b!"
        for strange in ("c", None, ["a"], 1):
            status, reply = call(server, CHAT, {**HELLO, "model": strange})
            assert (status, reply["error"]["code"], reply["error"]["param"]) == (404, "model_not_found", "model")


def test_the_client_tells_of_a_model_that_is_not_served() -> None:
    with serve({"a": Parrot(), "b": Parrot()}) as server:
        model = EndpointModel(ModelSpec(f"{server.url}#c"), Runtime(use_cache=False))
        with pytest.raises(ModelError, match="The model `c` does not exist"):
            model.ask(Ask("k", (Message("user", "x"),)), Decode(4))
        model.close()
        with pytest.raises(ModelError, match="has 2 models: a, b"):
            EndpointModel(ModelSpec(server.url), Runtime(use_cache=False))


def test_models_do_not_wait_for_each_other_and_one_is_asked_one_question_at_a_time() -> None:
    slow = Meeting(2)
    with serve({"slow": slow, "fast": Parrot()}) as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(call, server, CHAT, {**HELLO, "model": "slow"}) for _ in range(2)]
        while len(server.requests) < 2 or not slow.inside:
            time.sleep(0.001)
        assert call(server, CHAT, {**HELLO, "model": "fast"})[0] == 200
        assert slow.inside == 1, "the fast one answered while the slow one was at work on one of its questions"
        slow.let_go()
        assert [each.result()[0] for each in waiting] == [200, 200]
        assert slow.most == 1


def test_a_model_that_may_be_asked_at_once_is() -> None:
    model = Meeting(3)
    with serve({"m": model}, concurrent={"m"}) as server, ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(call, server, CHAT, {**HELLO, "model": "m"}) for _ in range(3)]
        assert [each.result()[0] for each in asked] == [200] * 3
    assert model.most == 3


def test_models_are_opened_when_they_are_first_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def opening(spec: ModelSpec, runtime: Runtime) -> Model:
        opened.append(spec.name)
        return open_model(spec, runtime)

    monkeypatch.setattr("counterclaim.testing.server.open_model", opening)
    names = ["character:copier", "character:eager", "character:nobody"]
    with serve_models(names, 0, (), 0.0, when_asked=True) as server:
        assert opened == []
        for _ in range(2):
            assert call(server, CHAT, {**HELLO, "model": "character:copier"})[0] == 200
        assert opened == ["character:copier"]
        status, reply = call(server, CHAT, {**HELLO, "model": "character:nobody"})
        assert (status, "there is no character 'nobody'" in reply["error"]["message"]) == (400, True)
    with pytest.raises(ModelError, match="no character"), serve_models(names, 0, (), 0.0):
        pytest.fail("it was served")


def test_scripted_teachers_say_the_same_served_as_opened_here() -> None:
    asks = [Ask(p.id, p.messages) for p in domain.prompts("train")[:20]]
    names = [CHARACTER_SCHEME + name for name in CHARACTERS]
    decode = Decode(64, temperature=0.0)
    with serve_models(names, 0, (), 0.0, when_asked=True) as server:
        for name in names:
            there = EndpointModel(ModelSpec(f"{server.url}#{name}"), Runtime(use_cache=False, token_ends=True))
            here = open_model(ModelSpec(name))
            served = dict(pair for batch in there.answer(asks, decode) for pair in batch)
            assert served == dict(pair for batch in here.answer(asks, decode) for pair in batch), name
            there.close()


def test_a_port_that_is_taken_is_named() -> None:
    with serve(Parrot()) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        with pytest.raises(InputError, match=f"port {port} cannot be served on .*choose another port"):
            serve(Parrot(), port=port)


def test_the_client_comes_near_the_ideal() -> None:
    (row,) = endpoint_duels(quick=True)
    assert set(row) == {"name", "ours", "peer", "peer_s", "ratio", "agreement"}
    assert row["agreement"] == 0
    assert row["peer_s"] == pytest.approx(0.8)
    assert 0.5 < row["ratio"] <= 1, "a smoke test: the figure to quote is the bench's"
