"""Endpoints: every fault a clear sentence and never an empty answer; nothing is paid for twice, and no key leaks."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterclaim.errors import BudgetSpent, InputError, ModelError
from counterclaim.lab.models import endpoint as endpoint_module
from counterclaim.lab.models.endpoint import EndpointModel, row_seed, same_model
from counterclaim.lab.models.judge import open_judge
from counterclaim.records import Decode, FinishReason, Message, ModelRef
from counterclaim.registry import Answer, Ask, ModelSpec, Runtime, Usage, backend_of
from counterclaim.testing.server import Fault, Server, serve

DECODE = Decode(64, temperature=0.0)
SECRET = "sk-planted-0123456789abcdef"


def echo(body: Mapping[str, Any]) -> Answer:
    """Says what was asked, and with which seed."""
    asked = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    text = f"You asked: {asked} (seed {body.get('seed')})"
    ends = tuple(len(word) + 1 for word in text.split(" "))
    return Answer(text, FinishReason.STOP, len(ends), 7, (*ends[:-1], ends[-1] - 1))


def asks(n: int) -> list[Ask]:
    return [Ask(f"p{i}", (Message("user", f"question {i}"),)) for i in range(n)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "FIRST_WAIT_S", 0.002)
    for variable in (*endpoint_module.KEYS, "http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)


Open = Callable[..., EndpointModel]


@pytest.fixture
def opened() -> Iterator[Open]:
    models: list[EndpointModel] = []

    def open_(server: Server | str, *, raw: bool = False, **settings: Any) -> EndpointModel:
        name = server if isinstance(server, str) else f"{server.url}#{server.model}"
        settings = {"use_cache": False, "timeout_s": 5.0, **settings}
        model = backend_of(name).open(ModelSpec(name, raw=raw), Runtime(**settings))
        assert isinstance(model, EndpointModel)
        models.append(model)
        return model

    yield open_
    for model in models:
        model.close()


def until_it_stops(rows: Iterator[list[tuple[int, Answer]]], got: dict[int, Answer]) -> None:
    for batch in rows:
        got.update(batch)


def answers(model: EndpointModel, wanted: list[Ask], decode: Decode = DECODE, done: Any = ()) -> dict[int, Answer]:
    got: dict[int, Answer] = {}
    for batch in model.answer(wanted, decode, done):
        for index, answer in batch:
            assert index not in got, "an answer came twice"
            got[index] = answer
    return got


def test_answers_come_back_under_their_own_index_and_done_ones_are_not_asked(opened: Open) -> None:
    with serve(echo) as server:
        got = answers(opened(server, concurrency=4), asks(30), done={3, 5})
        assert len(server.requests) == 28
    assert sorted(got) == [i for i in range(30) if i not in (3, 5)]
    for i, answer in got.items():
        assert answer.text == f"You asked: question {i} (seed None)"
        assert (answer.finish_reason, answer.n_tokens, answer.prompt_tokens) == (FinishReason.STOP, 6, 7)


# --- faults


@pytest.mark.parametrize(
    "fault",
    [
        Fault("time-out", seconds=1.0),
        Fault("too-many-requests"),
        Fault("server-error"),
        Fault("unavailable"),
        Fault("half-json"),
        Fault("invalid-utf8"),
        Fault("reset", after=1),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_passing_fault_is_retried_and_leaves_no_trace(opened: Open, fault: Fault) -> None:
    with serve(echo, faults=[fault]) as server:
        got = answers(opened(server, timeout_s=0.3, concurrency=1), asks(3))
        assert len(server.requests) == 4
    assert [got[i].text for i in range(3)] == [f"You asked: question {i} (seed None)" for i in range(3)]


LASTING = {
    "time-out": "did not answer within 0.15 s, after 6 attempts",
    "too-many-requests": r"status 429 \(it says: Rate limit reached\), after 6 attempts",
    "server-error": r"status 500 \(it says: The server had an error\), after 6 attempts",
    "unavailable": "status 503",
    "half-json": "not whole JSON, after 6 attempts",
    "invalid-utf8": "not whole JSON, after 6 attempts",
    "reset": "connection failed .*, after 6 attempts",
    "no-choices": "holds no choice",
    "null-content": r"holds no text \(content is null, finish_reason 'stop'\)",
    "wrong-model": "another model: 'another-model' instead of 'local'",
    "no-finish-reason": "does not say why the answer ended",
}


@pytest.mark.parametrize("raw", [False, True], ids=["chat", "raw"])
@pytest.mark.parametrize("kind", LASTING)
def test_a_lasting_fault_is_an_error_answer_that_says_so_and_the_others_stand(
    opened: Open, kind: Any, raw: bool, tmp_path: Path
) -> None:
    fault = Fault(kind, times=None, marker="question 1", seconds=0.4)
    with serve(echo, faults=[fault]) as server:
        model = opened(server, raw=raw, concurrency=2, timeout_s=0.15, use_cache=True, cache=tmp_path / "kept.sqlite")
        got = answers(model, asks(4))
        bad = got.pop(1)
        assert bad.finish_reason is FinishReason.ERROR
        assert bad.text is None
        assert bad.error is not None
        assert re.search(LASTING[kind], bad.error)
        assert sorted(got) == [0, 2, 3]
        assert all(answer.text and answer.error is None for answer in got.values())
        before = len(server.requests)
        assert answers(model, asks(4))[1].error == bad.error, "an error is asked for again, and not kept"
        assert len(server.requests) - before == (6 if "after 6 attempts" in bad.error else 1)


def test_an_answer_that_was_filtered_says_so_with_or_without_text(opened: Open) -> None:
    def filtered(body: Mapping[str, Any]) -> Answer:
        return Answer(None if "0" in str(body["messages"]) else "Half a", FinishReason.FILTER, 2)

    with serve(filtered) as server:
        got = answers(opened(server), asks(2))
    assert got[0] == Answer(None, FinishReason.FILTER, 2)
    assert got[1] == Answer("Half a", FinishReason.FILTER, 2)
    with serve(echo, faults=[Fault("content-filter")]) as server:
        assert answers(opened(server), asks(1))[0].finish_reason is FinishReason.FILTER


def test_a_reply_without_usage_is_an_answer_of_unknown_length(opened: Open) -> None:
    with serve(echo, faults=[Fault("no-usage")]) as server:
        answer = answers(opened(server), asks(1))[0]
    assert answer == Answer("You asked: question 0 (seed None)", FinishReason.STOP)


def test_a_slow_server_is_waited_for(opened: Open) -> None:
    with serve(echo, faults=[Fault("slow", seconds=0.2)]) as server:
        assert answers(opened(server), asks(1))[0].finish_reason is FinishReason.STOP
        assert len(server.requests) == 1


@pytest.mark.parametrize("spelling", ["seconds", "date"])
def test_retry_after_is_honoured_as_seconds_and_as_a_date(opened: Open, spelling: str) -> None:
    header = "0.4" if spelling == "seconds" else formatdate(time.time() + 2, usegmt=True)
    least = 0.4 if spelling == "seconds" else 0.9  # a date has whole seconds
    with serve(echo, faults=[Fault("too-many-requests", retry_after=header)]) as server:
        answer = answers(opened(server), asks(1))[0]
        first, second = (seen.at for seen in server.requests)
    assert answer.error is None
    assert least <= second - first < 2.5


def test_a_server_that_asks_for_an_hour_is_not_waited_for(opened: Open) -> None:
    with serve(echo, faults=[Fault("unavailable", retry_after="3600")]) as server:
        got = answers(opened(server, concurrency=1), asks(2))
        assert len(server.requests) == 2
    assert "asks to wait 3600 s" in str(got[0].error)
    assert got[1].error is None


def test_a_refused_key_stops_at_once_and_keeps_what_was_answered(opened: Open) -> None:
    with serve(echo, faults=[Fault("unauthorised", after=3, times=None)]) as server:
        model = opened(server, concurrency=1)
        got = []
        with pytest.raises(ModelError, match=r"refused the API key.*set COUNTERCLAIM_API_KEY or OPENAI_API_KEY"):
            got.extend(index for batch in model.answer(asks(50), DECODE) for index, _ in batch)
        assert got == [0, 1, 2]
        assert len(server.requests) == 4


def test_a_model_or_a_path_that_is_not_there_stops_at_once(opened: Open) -> None:
    with serve(echo) as server:
        for name in (f"{server.url}#another", f"{server.url}/v7#local"):
            with pytest.raises(ModelError, match=r"does not have what was requested: .*404"):
                answers(opened(name), asks(5))


def test_a_url_where_nothing_listens_is_named(opened: Open) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ModelError, match=f"no server answers at {url} .*refused.*start it, or fix the URL"):
        answers(opened(f"{url}#x"), asks(20))
    with pytest.raises(ModelError, match=r"does not list its models .*start the server, or fix the URL"):
        opened(url)


def test_a_server_that_went_down_is_not_asked_for_ever(opened: Open) -> None:
    with serve(echo, faults=[Fault("unavailable", times=None, after=2)]) as server:
        model = opened(server, concurrency=4)
        got: dict[int, Answer] = {}
        with pytest.raises(
            ModelError, match=r"failed 10 requests in a row, each tried 6 times.*answers so far are kept"
        ):
            until_it_stops(model.answer(asks(500), DECODE), got)
        assert len(server.requests) < 2 + 6 * 14
    assert [answer.error is None for _, answer in sorted(got.items())].count(True) == 2
    assert all("503" in str(answer.error) for answer in got.values() if answer.error)


# --- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("http://user:hunter2@127.0.0.1/v1#m", "127.0.0.1 holds a user, a password or a query"),
        ("http://127.0.0.1/v1?api-key=hunter2#m", "127.0.0.1 holds a user, a password or a query"),
        ("http://#m", "names no server"),
        ("http://[::1/v1#m", "cannot be read"),
        ("http://127.0.0.1:99999999/v1#m", "cannot be read"),
        ("http://a b/v1#m", "cannot be read"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_a_password(
    opened: Open, name: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        opened(name)
    assert "hunter2" not in str(error.value)


def test_what_only_a_loaded_model_can_be_given_is_refused() -> None:
    for setting in ({"adapter": Path("a")}, {"revision": "main"}, {"dtype": "float32"}, {"quantisation": "4bit"}):
        spec = ModelSpec("http://127.0.0.1:1/v1#m", **setting)  # type: ignore[arg-type]  # one of each kind
        with pytest.raises(ModelError, match=f"cannot be given a {next(iter(setting))}"):
            EndpointModel(spec, Runtime(use_cache=False))


def test_a_url_alone_takes_the_only_model_or_lists_them(opened: Open) -> None:
    with serve(echo, model="only") as server:
        model = opened(server.url + "/")
        assert model.name == "only"
        assert model.ref == replace(model.ref, repo=f"{server.url}#only")
        assert answers(model, asks(1))[0].error is None


def test_several_models_are_listed(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {"data": [{"id": "a/one"}, {"id": "two"}]}
    monkeypatch.setattr(EndpointModel, "_retried", lambda *_: listed)
    with pytest.raises(ModelError, match=r"has 2 models: a/one, two; name the model behind the URL, as URL#model"):
        opened("http://127.0.0.1:1/v1")


@pytest.mark.parametrize(
    ("asked", "told", "same"),
    [
        ("gpt-x", "gpt-x", True),
        ("gpt-x", "gpt-x-2026-01-01", True),
        ("gpt-x", "gpt-x-20260101", True),
        ("gpt-x", "gpt-x-0613", True),
        ("gpt-x-latest", "gpt-x-2026-01-01", True),
        ("llama3", "llama3:latest", True),
        ("Qwen/Qwen3-8B", "Qwen3-8B", True),
        ("Qwen3-8B", "/models/Qwen/Qwen3-8B", True),
        ("Qwen3-8B", "C:\\models\\qwen3-8b.gguf", True),
        ("gpt-x", "gpt-x-mini", False),
        ("gpt-x", "gpt-x-2", False),
        ("gpt-x-2026-01-01", "gpt-x-2026-02-02", False),
        ("gpt-x-2026-01-01", "gpt-x", False),
        ("Qwen/Qwen3-8B", "other/Qwen3-8B", False),
        ("Qwen3-8B", "Qwen3-8B-Q4_K_M", False),
        ("step-1000", "step", False),
        ("step", "step-1000", False),
        ("m", "/", False),
    ],
)
def test_a_dated_or_longer_name_is_the_same_model_and_another_one_is_not(asked: str, told: str, same: bool) -> None:
    assert same_model(asked, told) is same


# --- what is sent


def test_every_decode_setting_goes_over(opened: Open) -> None:
    decode = Decode(
        33, temperature=0.7, top_p=0.9, top_k=20, repetition_penalty=1.1, presence_penalty=0.2, seed=5,
        stop=("END",), thinking=False,
    )  # fmt: skip
    turns = (Message("system", "Be brief."), Message("user", "Why?"))
    with serve(echo) as server:
        answers(opened(server), [Ask("p", turns, 2)], decode)
        answers(opened(server), asks(1), Decode(None))
        full, bare = (dict(seen.body) for seen in server.requests)
    assert full == {
        "model": "local", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
        "max_completion_tokens": 33, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "repetition_penalty": 1.1,
        "repeat_penalty": 1.1, "presence_penalty": 0.2, "stop": ["END"], "seed": row_seed(5, "p", 2),
        "chat_template_kwargs": {"enable_thinking": False},
    }  # fmt: skip
    assert bare == {"model": "local", "messages": [{"role": "user", "content": "question 0"}]}


@given(st.integers(), st.text(), st.integers(0, 1000))
def test_row_seeds_are_31_bits_and_depend_on_every_part(seed: int, key: str, sample: int) -> None:
    mine = row_seed(seed, key, sample)
    assert 0 <= mine < 2**31
    assert mine == row_seed(seed, key, sample)
    assert mine not in (
        row_seed(seed + 1, key, sample),
        row_seed(seed, key + "x", sample),
        row_seed(seed, key, sample + 1),
    )


def test_a_raw_prompt_goes_over_without_a_template(opened: Open) -> None:
    with serve(echo) as server:
        model = opened(server, raw=True, token_ends=True)
        answer = answers(model, asks(1))[0]
        seen = server.requests[0]
    assert (seen.path, seen.body["prompt"], seen.body["max_tokens"]) == ("/v1/completions", "question 0", 64)
    assert model.chat_template == "raw"
    assert answer.token_chars is not None
    assert sum(answer.token_chars) == len(answer.text or "")


@pytest.mark.parametrize("parameter", ["max_completion_tokens", "logprobs", "repeat_penalty"])
def test_what_a_server_rejects_by_name_is_spelt_otherwise_or_left_out_from_then_on(
    opened: Open, parameter: str
) -> None:
    decode = replace(DECODE, repetition_penalty=1.2)
    with serve(echo, faults=[Fault("rejects", times=None, parameter=parameter)]) as server:
        got = answers(opened(server, concurrency=1, token_ends=True), asks(5), decode)
        assert len(server.requests) == 6, "it is tried once per server"
        last = server.requests[-1].body
    assert all(answer.error is None for answer in got.values())
    assert (last.get("max_tokens"), last.get("max_completion_tokens")).count(64) == 1
    assert last["repetition_penalty"] == 1.2


def test_a_setting_that_a_server_rejects_stops_the_run_and_is_not_dropped(opened: Open) -> None:
    decode = replace(DECODE, top_k=5)
    rejects = [Fault("rejects", times=None, parameter=name) for name in ("max_completion_tokens", "top_k")]
    with (
        serve(echo, faults=rejects) as server,
        pytest.raises(ModelError, match=r"does not take 'top_k' as it is set .*leave top_k unset"),
    ):
        answers(opened(server, concurrency=1), asks(5), decode)


def test_a_prompt_longer_than_the_context_is_an_error_answer_of_its_own(opened: Open) -> None:
    def short(body: Mapping[str, Any]) -> Answer:
        if "question 1" in str(body):
            raise InputError("This model's maximum context length is 10 tokens, 'max_completion_tokens' is too large")
        return echo(body)

    with serve(short) as server:
        got = answers(opened(server, concurrency=1), asks(4))
        assert "max_completion_tokens" in server.requests[-1].body, "one long prompt says nothing of the server"
    assert "maximum context length is 10 tokens" in str(got[1].error)
    assert [got[i].error for i in (0, 2, 3)] == [None] * 3


def test_a_budget_that_a_server_ignores_is_noticed(opened: Open) -> None:
    def deaf(body: Mapping[str, Any]) -> Answer:
        n = min(body.get("max_tokens", 500), 500)
        return Answer("a " * n, FinishReason.LENGTH, n)

    with serve(deaf) as server:
        assert answers(opened(server), asks(1))[0].n_tokens == 64
    with serve(lambda body: Answer("a " * 500, FinishReason.LENGTH, 500)) as server:
        assert "wrote 500 tokens where 64 were allowed" in str(answers(opened(server), asks(1))[0].error)


# --- what comes back


def reply_of(model: EndpointModel, choice: Mapping[str, Any], **rest: Any) -> Answer:
    return model._read({"model": model.name, "choices": [choice], **rest}, DECODE)


@pytest.fixture
def reader(opened: Open) -> EndpointModel:
    return opened("http://127.0.0.1:1/v1#m")


@pytest.mark.parametrize(
    ("message", "finish", "text"),
    [
        ({"content": "Four.", "reasoning_content": "2 + 2"}, "stop", "<think>2 + 2</think>Four."),
        ({"content": "Four.", "reasoning": "2 + 2"}, "stop", "<think>2 + 2</think>Four."),
        ({"content": None, "reasoning_content": "2 + "}, "length", "<think>2 + "),
        ({"content": "", "reasoning_content": "2 + "}, "length", "<think>2 + "),
        ({"content": None, "refusal": "I will not."}, "stop", "I will not."),
        ({"content": "Four.", "tool_calls": [{}]}, "tool_calls", "Four."),
        ({"content": "Four."}, "abort", "Four."),
    ],
)
def test_reasoning_refusals_and_odd_endings_are_kept(
    reader: EndpointModel, message: dict[str, Any], finish: str, text: str
) -> None:
    answer = reply_of(reader, {"message": message, "finish_reason": finish})
    expected = {"length": FinishReason.LENGTH, "abort": FinishReason.UNKNOWN}.get(finish, FinishReason.STOP)
    assert (answer.text, answer.finish_reason) == (text, expected)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ({"choices": [{"message": {"content": None}, "finish_reason": "tool_calls"}]}, "no text but calls a tool"),
        ({"choices": [{"message": {"content": ["x"]}, "finish_reason": "stop"}]}, "holds no text"),
        ({"choices": [{"message": None, "finish_reason": "stop"}]}, "holds no text"),
        ({"error": {"message": "Upstream is down."}}, r"no choice \(it says: Upstream is down\)"),
        ({"choices": "none"}, "no choice"),
    ],
)
def test_a_reply_without_an_answer_is_an_error(reader: EndpointModel, reply: dict[str, Any], message: str) -> None:
    answer = reader._read(reply, DECODE)
    assert answer.text is None
    with pytest.raises(ValueError, match=message):
        raise ValueError(answer.error)


def logprobs(*pieces: bytes) -> dict[str, Any]:
    return {"content": [{"token": "?", "bytes": list(piece)} for piece in pieces]}


@pytest.mark.parametrize(
    ("text", "listed", "n_tokens", "chars"),
    [
        ("Hi you", logprobs(b"Hi", b" you"), 2, (2, 4)),
        ("Hi you", logprobs(b"Hi", b" you"), 3, (2, 4, 0)),
        ("Hi you", logprobs(b"Hi", b" you", b"<|im_end|>"), 3, (2, 4, 0)),
        ("a é🙂", logprobs(b"a ", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x99\x82"), 5, (2, 0, 1, 0, 1)),
        ("a \ufffd", logprobs(b"a ", b"\xf0\x9f"), 2, (2, 1)),
        ("Hi", logprobs(b"Hi"), None, (2,)),
        ("Hi you", logprobs(b"Hi", b" you"), 9, None),
        ("Hi you", logprobs(b"Hi"), 1, None),
        ("Hi", {"content": [{"token": "Hi", "bytes": None}]}, 1, (2,)),
        ("Hi", {"content": [{"bytes": [999]}]}, 1, None),
        ("Hi", {"content": None}, 0, None),
        ("Hi", None, 1, None),
    ],
)
def test_token_ends_are_read_off_the_bytes_or_not_at_all(
    reader: EndpointModel, text: str, listed: Any, n_tokens: int | None, chars: tuple[int, ...] | None
) -> None:
    choice = {"message": {"content": text}, "finish_reason": "stop", "logprobs": listed}
    usage = {} if n_tokens is None else {"usage": {"completion_tokens": n_tokens}}
    assert reply_of(reader, choice, **usage).token_chars == chars


def test_token_ends_are_asked_for_and_come_back(opened: Open) -> None:
    with serve(echo) as server:
        answer = answers(opened(server, token_ends=True), asks(1))[0]
        assert server.requests[0].body["logprobs"] is True
    assert answer.token_chars == echo({"messages": [{"content": "question 0"}]}).token_chars


# --- kept replies


def test_a_second_run_makes_no_request_and_gives_the_same(opened: Open, tmp_path: Path) -> None:
    settings = {"use_cache": True, "cache": tmp_path / "kept.sqlite"}
    decode = replace(DECODE, temperature=1.0, seed=3)
    wanted = [replace(ask, sample=sample) for ask in asks(10) for sample in range(3)]
    with serve(echo) as server:
        first = answers(opened(server, **settings), wanted, decode)
        assert len(server.requests) == 30, "samples do not collapse"
        assert len({answer.text for answer in first.values()}) == 30
        assert answers(opened(server, **settings), wanted, decode) == first
        assert len(server.requests) == 30
        again = opened(server, **settings)
        for i, other in enumerate([
            replace(decode, temperature=0.9), replace(decode, seed=4), replace(decode, max_new_tokens=63),
            replace(decode, stop=("x",)), replace(decode, thinking=True), replace(decode, system_prompt="s"),
        ]):  # fmt: skip
            answers(again, wanted[:1], other)
            assert len(server.requests) == 31 + i, "another decode setting misses"
        again.ask(wanted[0], decode)
        assert len(server.requests) == 36
        again.ask(wanted[0], decode, attempt=1)
        again.ask(wanted[0], decode, schema={"type": "object"})
        assert len(server.requests) == 38


def test_samples_without_a_seed_do_not_collapse_either(opened: Open, tmp_path: Path) -> None:
    count = iter(range(100))
    with serve(lambda _: Answer(f"answer {next(count)}", FinishReason.STOP, 2)) as server:
        model = opened(server, use_cache=True, cache=tmp_path / "kept.sqlite", concurrency=1)
        got = answers(model, [Ask("p", (Message("user", "why"),), sample) for sample in range(5)])
    assert len({answer.text for answer in got.values()}) == 5


def test_a_run_that_was_dropped_half_way_goes_on_where_it_was(opened: Open, tmp_path: Path) -> None:
    settings = {"use_cache": True, "cache": tmp_path / "kept.sqlite", "concurrency": 2}
    with serve(echo, latency_s=0.01) as server:
        model = opened(server, **settings)
        rows = model.answer(asks(60), DECODE)
        got = dict(pair for _ in range(5) for pair in next(rows))
        rows.close()
        time.sleep(0.1)  # requests under way end by themselves
        asked = len(server.requests)
        assert asked < 30, "a dropped run asks no further"
        whole = answers(opened(server, **settings), asks(60))
        assert len(server.requests) == 60
    assert whole.items() >= got.items()
    assert sorted(whole) == list(range(60))


RUN = """
import sys
from pathlib import Path
from counterclaim.lab.models.endpoint import EndpointModel
from counterclaim.records import Decode, Message
from counterclaim.registry import Ask, ModelSpec, Runtime
model = EndpointModel(ModelSpec(sys.argv[1]), Runtime(cache=Path(sys.argv[2]), concurrency=3))
asks = [Ask(f"p{i}", (Message("user", f"question {i}"),)) for i in range(60)]
for batch in model.answer(asks, Decode(64, temperature=0.0)):
    for index, answer in batch:
        print(index, answer.text, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_run_that_was_killed_repeats_at_most_what_was_under_way(tmp_path: Path) -> None:
    with serve(echo, latency_s=0.02) as server:
        command = [sys.executable, "-c", RUN, f"{server.url}#local", str(tmp_path / "kept.sqlite")]
        killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert killed.stdout is not None
        for _ in range(17):
            killed.stdout.readline()
        killed.kill()
        killed.communicate(timeout=30)
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert len(server.requests) <= 60 + 2 * 3
    assert sorted(int(line.split()[0]) for line in done.stdout.splitlines()) == list(range(60))


def test_a_damaged_file_of_kept_replies_is_named(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"no database " * 500)
    with pytest.raises(InputError, match=r"kept\.sqlite: the file of kept replies is damaged .*delete it"):
        opened("http://127.0.0.1:1/v1#m", use_cache=True, cache=path)


# --- budget


def test_a_token_budget_stops_cleanly_and_keeps_what_was_under_way(opened: Open, tmp_path: Path) -> None:
    settings = {"use_cache": True, "cache": tmp_path / "kept.sqlite", "concurrency": 4}
    with serve(echo, latency_s=0.02) as server:
        model = opened(server, most_tokens=100, **settings)  # 13 tokens a reply
        got: dict[int, Answer] = {}
        with pytest.raises(
            BudgetSpent, match=r"1\d\d tokens were billed of the 100 that were allowed; answers so far are kept"
        ):
            until_it_stops(model.answer(asks(200), DECODE), got)
        asked = len(server.requests)
        assert 8 <= asked <= 8 + 3
        assert len(got) == asked, "every request that was made gave its answer"
        kept = asks(200)
        with pytest.raises(BudgetSpent):
            answers(model, kept)
        assert sorted(answers(model, [kept[i] for i in got])) == list(range(asked)), "kept replies cost nothing"
        assert len(server.requests) == asked


def test_a_money_budget_stops_and_needs_prices(opened: Open) -> None:
    with serve(echo) as server:
        model = opened(server, most_cost=0.001, price_in=10.0, price_out=30.0, concurrency=1)  # 0.00025 a reply
        with pytest.raises(BudgetSpent, match=r"0\.001 was billed of the 0\.001"):
            answers(model, asks(50))
        assert len(server.requests) == 4
        with pytest.raises(ModelError, match="needs prices"):
            opened(server, most_cost=1.0)


def test_the_models_of_one_run_share_its_budget(opened: Open) -> None:
    with serve(echo) as server:
        usage = Usage()
        settings = {"most_tokens": 30, "concurrency": 1, "usage": usage}
        with pytest.raises(BudgetSpent):
            answers(opened(server, **settings), asks(9))
        asked = len(server.requests)
        with pytest.raises(BudgetSpent):
            answers(opened(server, **settings), asks(9))
        assert len(server.requests) == asked
        assert usage.tokens == 13 * asked


def test_a_reply_without_usage_counts_more_than_it_can_have_cost(opened: Open) -> None:
    with serve(echo, faults=[Fault("no-usage", times=None)]) as server:
        with pytest.raises(BudgetSpent):
            answers(opened(server, most_tokens=300, concurrency=1), asks(50))
        assert len(server.requests) <= 300 // 13


# --- the key


def test_the_key_is_sent_and_shows_nowhere(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET + "-of-openai")
    monkeypatch.setenv("COUNTERCLAIM_API_KEY", SECRET)

    def leaky(body: Mapping[str, Any]) -> Answer:
        if "question 1" in str(body):
            raise InputError(f"the key {SECRET} is not allowed to ask this")
        return Answer(f"Your key is {SECRET}.", FinishReason.STOP, 5, 5)

    cache = tmp_path / "kept.sqlite"
    with serve(leaky, key=SECRET) as server:
        model = opened(server, use_cache=True, cache=cache)
        shown = [repr(model), repr(model.ref), repr(answers(model, asks(3)))]
        assert all(seen.with_key for seen in server.requests)
        shown.append(repr(server.requests))
    monkeypatch.setenv("COUNTERCLAIM_API_KEY", SECRET + "-wrong")
    with serve(echo, key=SECRET) as server:
        with pytest.raises(ModelError) as refused:
            answers(opened(server, use_cache=True, cache=cache), asks(9))
        error: BaseException | None = refused.value
        while error is not None:
            shown.append(repr(error))
            assert error.__suppress_context__ or error.__context__ is None
            error = error.__cause__
    for file in tmp_path.iterdir():
        assert SECRET.encode() not in file.read_bytes()
    shown.append(caplog.text)
    assert not [text for text in shown if SECRET in text]
    assert "[API key]" in shown[2], "the planted leaks were met and taken out"
    assert "question 1" not in shown[2]


def test_a_key_that_no_header_can_carry_is_not_repeated(monkeypatch: pytest.MonkeyPatch, opened: Open) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "clé-secrète")
    with pytest.raises(ModelError, match="OPENAI_API_KEY holds characters that no key has") as error:
        opened("http://127.0.0.1:1/v1#m")
    assert "secr" not in str(error.value)


def test_a_local_server_needs_no_key(opened: Open) -> None:
    with serve(echo) as server:
        assert answers(opened(server), asks(1))[0].error is None


# --- odds and ends


def test_half_a_surrogate_pair_in_a_prompt_is_an_error_answer(opened: Open) -> None:
    with serve(echo) as server:
        got = answers(opened(server), [Ask("a", (Message("user", "\ud83d"),)), *asks(1)])
    assert "half a surrogate pair" in str(got[0].error)
    assert got[1].error is None


def test_progress_is_told_every_token(opened: Open) -> None:
    told: list[int] = []
    with serve(echo) as server:
        answers(opened(server, progress=told.append), asks(20))
    assert sum(told) == 20 * 6


def test_a_slow_reader_is_not_run_away_from(opened: Open) -> None:
    with serve(echo) as server:
        rows = opened(server, concurrency=2).answer(asks(100), DECODE)
        first = len(next(rows))  # as many as were finished by then: a busy machine hands on more at once
        time.sleep(0.3)
        assert len(server.requests) <= 2 * 4 + first
        assert first + sum(len(batch) for batch in rows) == 100


def test_no_thread_is_left_behind(opened: Open) -> None:
    with serve(echo) as server:
        before = threading.active_count()
        model = opened(server, concurrency=8)
        answers(model, asks(30))
        model.close()
        time.sleep(0.1)
    assert threading.active_count() <= before


# --- judges

SCHEMA = {"type": "object", "properties": {"verdict": {"enum": ["YES", "NO"]}}, "required": ["verdict"]}
TURNS = (Message("user", "Is water wet? Reply as JSON."),)


def verdict(body: Mapping[str, Any]) -> Answer:
    return Answer(json.dumps({"verdict": "YES"}), FinishReason.STOP, 6, 9)


def test_an_endpoint_judges_with_its_schema_and_keeps_its_reply(tmp_path: Path) -> None:
    with serve(verdict, model="lab/judge-model") as server:
        runtime = Runtime(cache=tmp_path / "kept.sqlite")
        judge = open_judge(f"{server.url}#lab/judge-model", runtime)
        assert judge.name == "lab/judge-model"
        assert [judge.reply(TURNS, SCHEMA) for _ in range(3)] == ['{"verdict": "YES"}'] * 3
        assert len(server.requests) == 1
        judge.reply(TURNS, SCHEMA, attempt=1)
        judge.reply(TURNS, None)
        judge.close()
        first, second, third = (seen.body for seen in server.requests)
    assert first["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (first["temperature"], first["max_completion_tokens"]) == (0.0, 4096)
    assert "response_format" in second
    assert "response_format" not in third


@pytest.mark.parametrize("words", ["by name", "in its own words"])
def test_a_server_without_schemas_is_asked_without_one_from_then_on(words: str) -> None:
    def old(body: Mapping[str, Any]) -> Answer:
        if "response_format" in body and words == "in its own words":
            raise InputError("guided decoding is switched off")
        return verdict(body)

    faults = [Fault("rejects", times=None, parameter="response_format")] if words == "by name" else []
    with serve(old, faults=faults) as server:
        judge = open_judge(f"{server.url}#local", Runtime(use_cache=False))
        assert [judge.reply(TURNS, SCHEMA) for _ in range(3)] == ['{"verdict": "YES"}'] * 3
        judge.close()
        assert ["response_format" in seen.body for seen in server.requests] == [True, False, False, False]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer('{"verd', FinishReason.LENGTH, 3), """was cut by its budget: '{"verd'"""),
        (Answer("", FinishReason.FILTER, 0), "was filtered"),
        (Answer(None, FinishReason.FILTER, 0), "gave no reply"),
        (Answer(None, FinishReason.STOP, 0), "gave no reply .*content is null"),
    ],
)
def test_a_reply_that_is_none_is_an_error_of_the_judge(answer: Answer, message: str) -> None:
    with serve(lambda _: answer) as server:
        judge = open_judge(f"{server.url}#local", Runtime(use_cache=False))
        with pytest.raises(ModelError, match=message):
            judge.reply(TURNS, SCHEMA)
        judge.close()


def test_a_judge_that_cannot_answer_at_all_is_not_one_missing_reply() -> None:
    with serve(verdict, key="k") as server:
        judge = open_judge(f"{server.url}#local", Runtime(use_cache=False))
        with pytest.raises(InputError, match=r"the judge cannot be used: .* refused the API key") as error:
            judge.reply(TURNS, SCHEMA)
        judge.close()
    assert not isinstance(error.value, ModelError)


class Local:
    """A model that is no endpoint, and that only one thread may use at a time."""

    ref = ModelRef("toy")
    chat_template = None

    def __init__(self) -> None:
        self.calls = 0
        self.inside = threading.Lock()

    def answer(self, asks: Any, decode: Decode, done: Any = ()) -> Iterator[list[tuple[int, Answer]]]:
        assert self.inside.acquire(blocking=False), "two threads at once"
        time.sleep(0.005)
        self.calls += 1
        self.inside.release()
        yield [(0, Answer(f"reply to {asks[0].messages[0].content}", FinishReason.STOP, 4))]

    def close(self) -> None:
        pass


def test_any_model_judges_one_thread_at_a_time_and_its_replies_are_kept(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from counterclaim.lab.models.judge import ModelJudge

    model = Local()
    judge = ModelJudge("toy", model, Runtime(cache=tmp_path / "kept.sqlite"))
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda i: judge.reply((Message("user", f"q{i % 10}"),), SCHEMA), range(10)))
    assert replies == [f"reply to q{i}" for i in range(10)]
    assert judge.reply((Message("user", "q3"),), SCHEMA) == "reply to q3"
    assert model.calls == 10
    judge.reply((Message("user", "q3"),), SCHEMA, attempt=1)
    assert model.calls == 11
    judge.close()
