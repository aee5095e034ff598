"""Models behind an OpenAI-compatible endpoint: vLLM, the llama.cpp server, hosted APIs."""

from __future__ import annotations

import codecs
import hashlib
import json
import math
import os
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from counterclaim.errors import BudgetSpent, ModelError
from counterclaim.folder import Replies, reply_key
from counterclaim.records import Decode, FinishReason, Json, ModelRef, canonical_json, to_json
from counterclaim.registry import Answer, Ask, ModelSpec, Runtime, backend

if TYPE_CHECKING:
    import openai
    import tenacity

_Request = Callable[["type[openai.HttpxBinaryResponseContent]"], bytes]
"""Makes one request with the SDK, which wraps the whole response in the class that it is given."""

KEYS = ("COUNTERCLAIM_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may hold the API key; the first that is set counts."""
ATTEMPTS = 6
"""Requests that are made for one answer at most."""
FIRST_CONTACT = 3
"""Attempts at a server that was never heard of: then the URL is wrong."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 60.0
"""Waits between attempts double from the first to the longest; half of each is random."""
LONGEST_RETRY_AFTER_S = 300.0
"""A server that asks for more patience than this is not waited for."""
SILENCE = 10
"""This many answers in a row for which every attempt failed mean that the endpoint is down."""

_PASSING = (408, 409, 429)  # statuses that another attempt may succeed, besides 5xx
_FINISH = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "content_filter": FinishReason.FILTER}
_CALLS = ("tool_calls", "function_call")
_NEGOTIABLE = ("max_completion_tokens", "logprobs", "response_format", "repeat_penalty")
"""What a request can do without; everything else that a server rejects is an error."""
_SETTINGS = (
    "temperature", "top_p", "top_k", "repetition_penalty", "presence_penalty", "seed", "stop", "chat_template_kwargs",
)  # fmt: skip
_DATED = re.compile(r"[-@:_](\d{4}-?\d{2}-?\d{2}|(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])|latest)\Z")
_PAGE = 64  # kept answers that are handed on at once
_SECRET = 16  # a key of at least that many characters is a secret, and no word that an answer could hold by chance


@backend(
    "openai",
    about="any OpenAI-compatible endpoint, named URL#model: vLLM, the llama.cpp server, hosted APIs",
    can=("generate",),
    opens=lambda name: name.startswith(("http://", "https://")),
    concurrent=True,
)
def openai_backend(spec: ModelSpec, runtime: Runtime) -> EndpointModel:
    """An endpoint as a model.

    Raises:
        ModelError: the URL or a setting cannot be used, the ``openai`` package is missing, or the name holds no model
            and the server does not have exactly one.
        InputError: the file of kept replies cannot be used.
    """
    return EndpointModel(spec, runtime)


class EndpointModel:
    """A model behind an OpenAI-compatible endpoint. Safe to use from several threads.

    What is sent: ``temperature``, ``top_p``, ``presence_penalty``, ``stop`` and ``seed`` as OpenAI spells them;
    ``top_k``, ``repetition_penalty`` (and llama.cpp's ``repeat_penalty``) and
    ``chat_template_kwargs.enable_thinking`` as open servers do; the budget as ``max_completion_tokens``, or as
    ``max_tokens`` where a server rejects or ignores that. A setting that is None is not sent (and the
    server's own default holds). A setting that a server rejects is an error: it is never dropped in silence.

    Seeds: with ``Decode.seed`` set, each request carries its own, the first 31 bits of SHA-256 over the JSON
    ``[seed, key, sample]``. Rows differ, a rerun repeats them, and arms share them. (Whether a server keeps to its
    seed is the server's word.)

    Reasoning that a server returns apart from the content is put in front of it as ``<think>...</think>``, so that
    nothing is lost; the block stays open where the budget ended inside it.

    What goes wrong with one answer is an error ``Answer`` with a sentence that says so. Kept replies
    (``Runtime.cache``) cost nothing, not even of the budget; errors are not kept.

    Args:
        spec: ``name`` is ``URL#model``, or ``URL`` where the server has one model only. ``raw`` asks ``/completions``
            with the text of the messages; nothing else may be set.
        runtime: concurrency, time-out, budget and cache.

    Raises:
        ModelError: see ``openai_backend``.
    """

    def __init__(self, spec: ModelSpec, runtime: Runtime) -> None:
        self.url, model = _parts(spec)
        if runtime.most_cost is not None and not (runtime.price_in or runtime.price_out):
            raise ModelError("a budget in money needs prices", remedy="state the price of a million tokens in and out")
        self._raw = spec.raw
        self._runtime = runtime
        self._key = _key()
        self._client, version = _client(self.url, self._key, runtime.timeout_s)
        self._lock = threading.Lock()
        self._refused: frozenset[str] = frozenset()  # of _NEGOTIABLE, what this server does not take
        self._heard = False  # whether it ever sent an HTTP response
        self._silence = 0
        try:
            self.name = model or self._only_model()
            self._replies = Replies(runtime.cache) if runtime.use_cache else None
        except BaseException:
            self._client.close()
            raise
        self._ref = ModelRef(repo=f"{self.url}#{self.name}", libraries=f"openai {version}")

    def __repr__(self) -> str:
        return f"EndpointModel({self.url}#{self.name})"

    @property
    def ref(self) -> ModelRef:
        """``URL#model``; what weights lie behind it the endpoint does not say."""
        return self._ref

    @property
    def chat_template(self) -> str | None:
        """``raw``, or None: an endpoint does not say which template it uses."""
        return "raw" if self._raw else None

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """Answers as they complete: first all that are kept, then the others, ``Runtime.concurrency`` at a time.

        Raises:
            ModelError: a status of 401, 402, 403 or 404, a setting that the server rejects, no server at the URL, or
                one that stopped answering.
            BudgetSpent: the budget is used up. No request was begun after that; those under way were waited for and
                yielded, so up to ``Runtime.concurrency`` replies may lie beyond it.
            InputError: kept replies cannot be read or written.
        """
        missing: deque[int] = deque()
        kept = []
        for index in (i for i in range(len(asks)) if i not in done):
            known = self._kept(self._reply_key(asks[index], decode))
            if known is None:
                missing.append(index)
            else:
                kept.append((index, known))
            if len(kept) == _PAGE:
                yield kept
                kept = []
        if kept:
            yield kept
        if missing:
            yield from self._answer_missing(asks, decode, missing)

    def ask(self, ask: Ask, decode: Decode, *, schema: Mapping[str, Json] | None = None, attempt: int = 0) -> Answer:
        """One answer.

        Args:
            ask: what is wanted.
            decode: how to sample.
            schema: JSON schema of the answer, for servers that can hold to one.
            attempt: another number asks again rather than taking a kept reply.

        Raises:
            ModelError, BudgetSpent, InputError: as ``answer``.
        """
        key = self._reply_key(ask, decode, schema, attempt)
        known = self._kept(key)
        if known is not None:
            return known
        answer = self._fresh(ask, decode, schema, threading.Event())
        self._keep(key, answer)
        return answer

    def close(self) -> None:
        """Close connections and the file of kept replies."""
        self._client.close()
        if self._replies is not None:
            self._replies.close()

    # --- many at a time

    def _answer_missing(
        self, asks: Sequence[Ask], decode: Decode, missing: deque[int]
    ) -> Iterator[list[tuple[int, Answer]]]:
        """Workers take indices from ``missing`` and hand on (index, answer), what stopped them, and None as they leave."""
        workers = min(max(self._runtime.concurrency, 1), len(missing))
        finished: queue.SimpleQueue[tuple[int, Answer] | Exception | None] = queue.SimpleQueue()
        room = threading.Semaphore(4 * workers)  # a slow reader is not run away from
        stop = threading.Event()

        def work() -> None:
            try:
                while room.acquire() and not stop.is_set():
                    try:
                        index = missing.popleft()
                    except IndexError:
                        break
                    answer = self._fresh(asks[index], decode, None, stop)
                    finished.put((index, answer))
                    self._keep(self._reply_key(asks[index], decode), answer)
            except _Stopped:
                pass
            except Exception as error:
                stop.set()
                finished.put(error)
            finally:
                room.release()
                finished.put(None)

        for _ in range(workers):
            threading.Thread(target=work, daemon=True).start()
        failure: Exception | None = None
        try:
            while workers:
                batch = []
                for outcome in _drained(finished):
                    if outcome is None:
                        workers -= 1
                    elif isinstance(outcome, Exception):
                        failure = failure or outcome
                        room.release(workers)  # workers that wait for room leave too
                    else:
                        batch.append(outcome)
                        room.release()
                if batch:
                    if self._runtime.progress is not None:
                        self._runtime.progress(sum(answer.n_tokens or 0 for _, answer in batch))
                    yield batch
        finally:
            stop.set()
            room.release(max(workers, 1))
        if failure is not None:
            raise failure

    # --- one at a time

    def _fresh(self, ask: Ask, decode: Decode, schema: Mapping[str, Json] | None, stop: threading.Event) -> Answer:
        """One answer from the server; an error Answer where there is none."""
        self._check_budget()
        try:
            reply = self._negotiated(ask, decode, schema, stop)
        except _Failed as failed:
            self._silence = 0
            return _error(str(failed))
        except _Again as again:
            with self._lock:
                self._silence += 1
                heard, silence = self._heard, self._silence
            if not heard and again.unreachable:
                raise ModelError(
                    f"no server answers at {self.url} ({again})", remedy="start it, or fix the URL"
                ) from None
            if silence >= SILENCE:
                raise ModelError(
                    f"{self.url} failed {silence} requests in a row, each tried {ATTEMPTS} times; the last time {again}",
                    remedy="see to the server and run again: answers so far are kept",
                ) from None
            return _error(f"{again}, after {ATTEMPTS} attempts")
        self._silence = 0
        return self._read(reply, decode)

    def _negotiated(
        self, ask: Ask, decode: Decode, schema: Mapping[str, Json] | None, stop: threading.Event
    ) -> dict[str, Json]:
        """The reply to a request that the server takes; what it does not take is remembered once one succeeds."""
        without = self._refused
        first: _Rejected | None = None
        while True:
            body = self._body(ask, decode, schema, without)
            try:
                reply = self._posted(body, stop)
            except _Rejected as rejected:
                first = first or rejected
                dropped = rejected.negotiable(body)
                if dropped is None:
                    raise self._final(first, rejected, body) from None
                without |= {dropped}
                continue
            self._bill(reply, body)
            written = _usage(reply, "completion_tokens")
            over = decode.max_new_tokens is not None and written is not None and written > decode.max_new_tokens
            if over and "max_completion_tokens" in body:
                without |= {"max_completion_tokens"}  # it was ignored
                self._check_budget()
                continue
            if over:
                raise _Failed(f"the endpoint wrote {written} tokens where {decode.max_new_tokens} were allowed")
            with self._lock:
                self._refused |= without
            return reply

    def _final(self, first: _Rejected, last: _Rejected, body: Mapping[str, Json]) -> Exception:
        """A rejection that nothing can be done about: of one of our settings, or of this request alone."""
        for name in _SETTINGS:
            if name in body and last.quotes(name):
                return ModelError(
                    f"{self.url} does not take {name!r} as it is set (it says: {last})",
                    remedy=f"leave {name} unset, or choose another value",
                )
        return _Failed(f"the endpoint rejected the request (it says: {first})")

    def _body(
        self, ask: Ask, decode: Decode, schema: Mapping[str, Json] | None, without: frozenset[str]
    ) -> dict[str, Json]:
        wanted: dict[str, Json] = {
            "model": self.name,
            "temperature": decode.temperature,
            "top_p": decode.top_p,
            "top_k": decode.top_k,
            "repetition_penalty": decode.repetition_penalty,
            "repeat_penalty": decode.repetition_penalty,
            "presence_penalty": decode.presence_penalty,
            "stop": None if decode.stop is None else list(decode.stop),
            "seed": None if decode.seed is None else row_seed(decode.seed, ask.key, ask.sample),
        }
        old = self._raw or "max_completion_tokens" in without
        wanted["max_tokens" if old else "max_completion_tokens"] = decode.max_new_tokens
        if self._raw:
            wanted["prompt"] = "\n\n".join(message.content for message in ask.messages)
        else:
            wanted["messages"] = [{"role": message.role, "content": message.content} for message in ask.messages]
            if decode.thinking is not None:
                wanted["chat_template_kwargs"] = {"enable_thinking": decode.thinking}
            if schema is not None:
                named = {"name": "reply", "schema": dict(schema), "strict": True}
                wanted["response_format"] = {"type": "json_schema", "json_schema": named}
        if self._runtime.token_ends:
            wanted["logprobs"] = 1 if self._raw else True
        return {name: value for name, value in wanted.items() if value is not None and name not in without}

    def _posted(self, body: Mapping[str, Json], stop: threading.Event) -> dict[str, Json]:
        """The reply to one request, as JSON, after as many attempts as it takes.

        The SDK's general ``post`` takes a body as it is, and half the time of ``chat.completions.create``.
        """
        path = "/completions" if self._raw else "/chat/completions"
        return self._retried(lambda whole: self._client.post(path, body=body, cast_to=whole).content, stop)

    def _retried(self, request: _Request, stop: threading.Event) -> dict[str, Json]:
        import tenacity

        half = {"multiplier": FIRST_WAIT_S / 2, "max": LONGEST_WAIT_S / 2}
        backoff = tenacity.wait_exponential(**half) + tenacity.wait_random_exponential(**half)
        jitter = tenacity.wait_random(0, FIRST_WAIT_S)  # clients that were given the same wait do not come back at once

        def failure(state: tenacity.RetryCallState) -> _Again:
            error = state.outcome.exception() if state.outcome else None
            assert isinstance(error, _Again)
            return error

        def enough(state: tenacity.RetryCallState) -> bool:
            lost = failure(state).unreachable and not self._heard
            return state.attempt_number >= (FIRST_CONTACT if lost else ATTEMPTS)

        def wait(state: tenacity.RetryCallState) -> float:
            wait_s = failure(state).wait_s
            return max(backoff(state), wait_s + jitter(state)) if wait_s else backoff(state)

        return tenacity.Retrying(
            stop=enough,
            wait=wait,
            sleep=tenacity.sleep_using_event(stop),
            retry=tenacity.retry_if_exception_type(_Again),
            reraise=True,
        )(self._attempt, request, stop)

    def _attempt(self, request: _Request, stop: threading.Event) -> dict[str, Json]:
        """One request.

        Errors are raised ``from None``: the SDK's own hold the request with its key.
        """
        import openai

        if stop.is_set():
            raise _Stopped
        try:
            content = request(openai.HttpxBinaryResponseContent)
        except UnicodeEncodeError:
            raise _Failed("the prompt holds half a surrogate pair, which UTF-8 cannot carry") from None
        except openai.APITimeoutError:
            raise _Again(f"the endpoint did not answer within {self._runtime.timeout_s:g} s") from None
        except openai.APIConnectionError as error:
            why = self._plain(str(error.__cause__ or error)) or "no reason given"
            raise _Again(f"the connection failed ({why})", unreachable=True) from None
        except openai.APIStatusError as error:
            self._heard = True
            raise self._refusal(error) from None
        self._heard = True
        if self._key is not None and len(self._key) >= _SECRET:
            content = content.replace(self._key.encode(), b"[API key]")
        try:
            reply = json.loads(content)
        except ValueError:
            raise _Again("the reply is not whole JSON") from None
        if not isinstance(reply, dict):
            raise _Again("the reply is not a JSON object")
        return reply

    def _refusal(self, error: openai.APIStatusError) -> Exception:
        """What a status other than 200 means."""
        status, words = error.status_code, self._words(error.body)
        what = f"the endpoint refused with status {status} (it says: {words})"
        if status in (401, 403):
            return ModelError(f"{self.url} refused the API key: {what}", remedy=f"set {KEYS[0]} or {KEYS[1]}")
        if status == 404:
            return ModelError(
                f"{self.url} does not have what was requested: {what}",
                remedy="fix the URL (most end in /v1) or the model's name behind #",
            )
        if status == 402 or error.code == "insufficient_quota":
            return ModelError(f"the account at {self.url} is used up: {what}", remedy="top it up and run again")
        if status in _PASSING or status >= 500:
            wait_s = _retry_after(error.response.headers.get("retry-after"))
            if wait_s > LONGEST_RETRY_AFTER_S:
                return _Failed(f"{what} and asks to wait {wait_s:.0f} s, longer than the {LONGEST_RETRY_AFTER_S:.0f} s "
                               "that are waited")  # fmt: skip
            return _Again(what, wait_s=wait_s)
        if status in (400, 422):
            return _Rejected(words, self._plain(json.dumps(error.body, ensure_ascii=False, default=str), most=4000))
        return _Failed(what)

    def _only_model(self) -> str:
        """The one model that the server has."""
        remedy = "name the model behind the URL, as URL#model"
        try:
            listed = self._retried(lambda whole: self._client.get("/models", cast_to=whole).content, threading.Event())
        except _Again as again:
            if again.unreachable:
                remedy = "start the server, or fix the URL"
            raise ModelError(f"{self.url} does not list its models ({again})", remedy=remedy) from None
        except (_Failed, _Rejected) as failed:
            raise ModelError(f"{self.url} does not list its models ({failed})", remedy=remedy) from None
        rows = listed.get("data")
        names = [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)] if rows else []
        if len(names) == 1:
            return str(names[0])
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise ModelError(f"{self.url} has {len(names)} models{': ' if names else ''}{shown}", remedy=remedy)

    # --- reading a reply

    def _read(self, reply: Mapping[str, Json], decode: Decode) -> Answer:
        """An answer; an error one where the reply does not hold what it must."""
        served = reply.get("model")
        if isinstance(served, str) and served and not same_model(self.name, served):
            return _error(f"the endpoint answered with another model: {self._plain(served)!r} instead of {self.name!r}")
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            words = f" (it says: {self._words(reply['error'])})" if reply.get("error") else ""
            return _error(f"the reply holds no choice{words}")
        choice = choices[0]
        ended = choice.get("finish_reason")
        if not isinstance(ended, str) or not ended:
            return _error("the reply does not say why the answer ended (no finish_reason)")
        finish = FinishReason.STOP if ended in _CALLS else _FINISH.get(ended, FinishReason.UNKNOWN)
        content = choice.get("text") if self._raw else _content(choice.get("message"), finish)
        if not isinstance(content, str):
            if finish is not FinishReason.FILTER:
                called = " but calls a tool" if ended in _CALLS else ""
                return _error(f"the reply holds no text{called} (content is null, finish_reason {ended!r})")
            content = None
        n_tokens = _usage(reply, "completion_tokens")
        token_chars = _token_chars(choice.get("logprobs"), content, n_tokens)
        if n_tokens is None and token_chars is not None:
            n_tokens = len(token_chars)
        return Answer(content, finish, n_tokens, _usage(reply, "prompt_tokens"), token_chars)

    # --- budget and cache

    def _bill(self, reply: Mapping[str, Json], body: Mapping[str, Json]) -> None:
        """Count a reply. Where it does not state its usage, one token a byte: more than there can be."""
        prompt, written = _usage(reply, "prompt_tokens"), _usage(reply, "completion_tokens")
        if prompt is None:
            prompt = len(canonical_json(body.get("messages") or body.get("prompt")).encode("utf-8", "replace"))
        if written is None:
            written = len(canonical_json(reply.get("choices")).encode("utf-8", "replace"))
        cost = (prompt * self._runtime.price_in + written * self._runtime.price_out) / 1e6
        self._runtime.usage.add(prompt + written, cost)

    def _check_budget(self) -> None:
        tokens, cost, billed = self._runtime.most_tokens, self._runtime.most_cost, self._runtime.usage
        if tokens is not None and billed.tokens >= tokens:
            raise BudgetSpent(
                f"{billed.tokens:,} tokens were billed of the {tokens:,} that were allowed; answers so far are kept: allow "
                "more and run again."
            )
        if cost is not None and billed.cost >= cost:
            raise BudgetSpent(
                f"{billed.cost:.4g} was billed of the {cost:.4g} that was allowed; answers so far are kept: allow more and "
                "run again."
            )

    def _reply_key(self, ask: Ask, decode: Decode, schema: Mapping[str, Json] | None = None, attempt: int = 0) -> str:
        return reply_key({
            "format": 1, "url": self.url, "model": self.name, "raw": self._raw, "token_ends": self._runtime.token_ends,
            "key": ask.key, "messages": to_json(ask.messages), "sample": ask.sample, "decode": to_json(decode),
            "schema": schema, "attempt": attempt,
        })  # fmt: skip

    def _kept(self, key: str) -> Answer | None:
        row = None if self._replies is None else self._replies.get(key)
        if row is None:
            return None
        ends = row["token_chars"]
        return Answer(**{
            **row, "finish_reason": FinishReason(row["finish_reason"]), "token_chars": None if ends is None else tuple(ends),
        })  # fmt: skip

    def _keep(self, key: str, answer: Answer) -> None:
        if self._replies is not None and answer.finish_reason is not FinishReason.ERROR:
            self._replies.put(key, asdict(answer))

    # --- what a server says, fit to be shown

    def _words(self, body: object) -> str:
        """A server's own words about an error."""
        found = body
        while isinstance(found, Mapping):
            found = found.get("message") or found.get("error") or found.get("detail")
        if isinstance(found, str) and "<html" not in found.lower():
            return self._plain(found) or "nothing"
        return "nothing" if found is None or isinstance(found, str) else self._plain(json.dumps(found, default=str))

    def _plain(self, text: str, most: int = 300) -> str:
        """A text on one line, not too long, without the API key."""
        if self._key is not None:
            text = text.replace(self._key, "[API key]")
        text = " ".join(text.split()).rstrip(".")
        return text if len(text) <= most else text[:most] + "..."


def row_seed(seed: int, key: str, sample: int) -> int:
    """The seed of one row: the first 31 bits of SHA-256 over the canonical JSON ``[seed, key, sample]``."""
    digest = hashlib.sha256(canonical_json([seed, key, sample]).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def same_model(requested: str, served: str) -> bool:
    """Whether the name in a reply is the requested one, a dated variant of it, or one with more or less of its path.

    ``gpt-x`` and ``gpt-x-2026-01-01``, ``gpt-x-latest`` and ``gpt-x-0613``, ``Qwen/Qwen3-8B`` and ``Qwen3-8B``,
    ``Qwen3-8B`` and ``/models/Qwen3-8B.gguf`` are; ``gpt-x`` and ``gpt-x-mini`` are not.
    """
    short, long = sorted((_path(requested), _path(served)), key=len)
    if not short or long[len(long) - len(short) : -1] != short[:-1]:
        return False
    wanted, got = _path(requested)[-1], _path(served)[-1]
    return got == wanted or _DATED.sub("", got) == re.sub(r"[-:]latest\Z", "", wanted)


def _path(name: str) -> list[str]:
    return [part for part in name.lower().removesuffix(".gguf").replace("\\", "/").split("/") if part]


class _Again(Exception):
    """An attempt that failed that a later one may not.

    Args:
        why: what happened.
        wait_s: how long the server asks to wait.
        unreachable: there was no HTTP response, but no time-out either.
    """

    def __init__(self, why: str, *, wait_s: float = 0.0, unreachable: bool = False) -> None:
        super().__init__(why)
        self.wait_s = wait_s
        self.unreachable = unreachable


class _Rejected(Exception):
    """A status of 400 or 422: the server does not take the request as it is."""

    def __init__(self, words: str, body: str) -> None:
        super().__init__(words)
        self._body = body

    def negotiable(self, body: Mapping[str, Json]) -> str | None:
        """Something in the request that it names, or may mean, and that can be left out or spelt otherwise."""
        for name in _NEGOTIABLE:
            if name in body and re.search(rf"(?<!\w){name}(?!\w)", self._body):
                return name
        if "response_format" in body and not any(name in body and self.quotes(name) for name in _SETTINGS):
            return "response_format"  # servers word this one in many ways
        return None

    def quotes(self, name: str) -> bool:
        """Whether it names this setting, as a name and not as a word of its sentence."""
        return (
            re.search(
                rf"""['"`\[]{name}\\?['"`\]]|(?:argument|parameter|field)\w*(?: supplied)?: {name}\b""", self._body
            )
            is not None
        )


class _Failed(Exception):
    """There is no answer to this request, and no other attempt will get one."""


class _Stopped(Exception):
    """The run ended while this request waited for its next attempt."""


def _error(sentence: str) -> Answer:
    return Answer(None, FinishReason.ERROR, error=sentence)


def _drained(finished: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """At least one thing from a queue, and all that lies there."""
    yield finished.get()
    while not finished.empty():
        yield finished.get()


def _parts(spec: ModelSpec) -> tuple[str, str | None]:
    """(base URL, model or None) of a name."""
    refused = (("revision", spec.revision), ("quantisation", spec.quantisation), ("adapter", spec.adapter),
             ("chat template", spec.chat_template), ("dtype", None if spec.dtype == "auto" else spec.dtype))  # fmt: skip
    for what, value in refused:
        if value is not None:
            raise ModelError(f"an endpoint cannot be given a {what}", remedy="set it where the server is started")
    url, _, model = spec.name.partition("#")
    try:
        parts = urlsplit(url)
        port = parts.port
        if any(character.isspace() for character in url):
            raise ValueError
    except ValueError:
        raise ModelError(
            "the URL of the endpoint cannot be read", remedy="write it as http://HOST:PORT/v1#model"
        ) from None
    if parts.username is not None or parts.password is not None or parts.query:
        # the URL is written into every record
        raise ModelError(
            f"the URL of the endpoint at {parts.hostname} holds a user, a password or a query",
            remedy=f"give a key in {KEYS[0]} or {KEYS[1]} instead",
        )
    if not parts.hostname:
        raise ModelError(f"{url!r} names no server", remedy="write it as http://HOST:PORT/v1#model")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}", model or None


def _key() -> str | None:
    for variable in KEYS:
        key = os.environ.get(variable, "").strip()
        if key:
            if not key.isascii() or not key.isprintable():
                raise ModelError(f"the API key in {variable} holds characters that no key has", remedy="set it again")
            return key
    return None


def _client(url: str, key: str | None, timeout_s: float) -> tuple[openai.OpenAI, str]:
    """The SDK's client, its own retries off, and its version."""
    try:
        import openai
        import tenacity  # noqa: F401
    except ImportError as error:
        raise ModelError(
            f"endpoints need the package {error.name}", remedy="run pip install 'counterclaim[endpoints]'"
        ) from error
    client = openai.OpenAI(base_url=url, api_key=key or "none", timeout=timeout_s, max_retries=0)
    return client, openai.__version__


def _retry_after(header: str | None) -> float:
    """Seconds that a ``Retry-After`` header (seconds or an HTTP date) asks to wait; 0 where there is none."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(header).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0


def _usage(reply: Mapping[str, Json], name: str) -> int | None:
    usage = reply.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _content(message: Json, finish: FinishReason) -> str | None:
    """The text of a message: its reasoning where that is returned apart, then its content or its refusal."""
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if content is None:
        content = message.get("refusal")
    thoughts = message.get("reasoning_content") or message.get("reasoning")
    if not isinstance(thoughts, str) or not thoughts:
        return content if isinstance(content, str) else None
    if finish is FinishReason.LENGTH and not content:
        return f"<think>{thoughts}"
    return f"<think>{thoughts}</think>{content if isinstance(content, str) else ''}"


def _token_chars(logprobs: Json, text: str | None, n_tokens: int | None) -> tuple[int, ...] | None:
    """Characters of ``text`` that each token completed; None where the tokens listed do not make up the text.

    A character whose bytes are spread over several tokens belongs to the last of them. Tokens after the end of the
    text (an end-of-turn token, a stop string that the server cut off) add nothing.
    """
    if text is None or not isinstance(logprobs, dict):
        return None
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        if "content" in logprobs:
            rows = logprobs["content"] or ()
            pieces = [
                decoder.decode(bytes(row["bytes"])) if row.get("bytes") is not None else row["token"] for row in rows
            ]
            if pieces:
                pieces[-1] += decoder.decode(b"", final=True)
        else:
            pieces = list(logprobs["tokens"])
        if not "".join(pieces).startswith(text):
            return None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    chars, left = [], len(text)
    for piece in pieces:
        chars.append(min(len(piece), left))
        left -= chars[-1]
    if n_tokens == len(chars) + 1:
        chars.append(0)  # the end-of-turn token is counted but not listed
    return tuple(chars) if n_tokens in (None, len(chars)) else None
