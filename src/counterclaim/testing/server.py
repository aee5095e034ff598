"""A local server that speaks the OpenAI protocol over any models, and misbehaves on command.

The standard library's threading HTTP server, on this machine only.
"""

from __future__ import annotations

import hmac
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self, cast, get_args

from counterclaim.errors import CounterclaimError, InputError
from counterclaim.lab.models import open_model
from counterclaim.records import Decode, FinishReason, Json, Message, ModelRef, prompt_id
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime, backend_of

# faults ------------------------------------------------------------------------------------------------------------

FaultKind = Literal[
    "time-out", "slow", "too-many-requests", "server-error", "unavailable", "unauthorised", "half-json", "no-choices",
    "null-content", "wrong-model", "no-usage", "no-finish-reason", "reset", "content-filter", "invalid-utf8", "rejects",
]  # fmt: skip

STATUS: Mapping[str, tuple[int, str]] = {
    "too-many-requests": (429, "Rate limit reached."),
    "server-error": (500, "The server had an error."),
    "unavailable": (503, "The server is overloaded."),
    "unauthorised": (401, "Incorrect API key provided."),
}
"""Faults that are an error status with a message, before any model is asked."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to misbehave, and when.

    Attributes:
        kind: ``time-out`` holds the request for ``seconds`` and hangs up; ``slow`` holds it and then answers;
            ``reset`` hangs up at once; ``too-many-requests`` (429), ``server-error`` (500), ``unavailable`` (503) and
            ``unauthorised`` (401) are refusals; ``rejects`` (400) refuses requests that hold ``parameter``; all
            others answer with 200 and spoil the reply as they are named.
        times: how many requests it strikes; None for all.
        after: how many requests that it could strike it lets pass first.
        marker: strikes only requests whose body holds this text.
        seconds: how long ``time-out`` and ``slow`` hold a request.
        retry_after: the ``Retry-After`` header of a refusal: seconds or an HTTP date.
        parameter: what ``rejects`` refuses.
    """

    kind: FaultKind
    times: int | None = 1
    after: int = 0
    marker: str | None = None
    seconds: float = 30.0
    retry_after: str | None = None
    parameter: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ValueError(f"there is no fault named {self.kind!r}")
        if (self.kind == "rejects") != (self.parameter is not None):
            raise ValueError("the fault 'rejects' names a parameter, and no other does")

    def fits(self, body: Mapping[str, Json]) -> bool:
        """Whether it could strike a request with this body."""
        if self.parameter is not None and self.parameter not in body:
            return False
        return self.marker is None or self.marker in json.dumps(body, ensure_ascii=False)


class Schedule:
    """Decides which fault strikes which request; the caller holds a lock."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = list(faults)
        self._met = [0] * len(self._faults)

    def next(self, body: Mapping[str, Json]) -> Fault | None:
        """The first fault whose turn it is."""
        for at, fault in enumerate(self._faults):
            if fault.fits(body):
                met = self._met[at]
                if fault.times is None or met < fault.after + fault.times:
                    self._met[at] += 1
                    if met >= fault.after:
                        return fault
        return None


def spoil(kind: FaultKind, reply: dict[str, Json]) -> dict[str, Json]:
    """A reply with this fault in it; unchanged where the fault is not one of a reply's content."""
    choice = reply["choices"][0]
    if kind == "no-choices":
        reply["choices"] = []
    elif kind == "null-content" and "message" in choice:
        choice["message"]["content"] = None
    elif kind == "null-content":
        choice["text"] = None
    elif kind == "wrong-model":
        reply["model"] = "another-model"
    elif kind == "no-usage":
        reply.pop("usage", None)
    elif kind == "no-finish-reason":
        choice["finish_reason"] = None
    elif kind == "content-filter":
        choice["finish_reason"] = "content_filter"
    return reply


def garble(kind: FaultKind, body: bytes) -> bytes:
    """The bytes of a reply with this fault in them; unchanged where the fault is not one of bytes."""
    if kind == "half-json":
        return body[: len(body) // 2]
    if kind == "invalid-utf8":
        return body.replace(b'"content": "', b'"content": "\xff\xfe', 1).replace(b'"text": "', b'"text": "\xff\xfe', 1)
    return body


# the server --------------------------------------------------------------------------------------------------------

Answerer = Model | Callable[[Mapping[str, Json]], Answer]
"""What answers: an opened model, or a function from the body of a request."""

MOST_TOKENS = 512  # new tokens where a request states no budget
_LARGEST_BODY = 64 * 2**20
_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.FILTER: "content_filter",
    FinishReason.UNKNOWN: None,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that the server saw.

    Attributes:
        path: such as ``/v1/chat/completions``.
        body: of a POST, as parsed JSON.
        at: seconds since the server started.
        with_key: whether an API key came with it; the key itself is not kept.
    """

    path: str
    body: Mapping[str, Json]
    at: float
    with_key: bool


class Server:
    """A running server; made by ``serve``, ends with its ``with`` block.

    Attributes:
        url: what to put before ``#model``: ``http://127.0.0.1:PORT/v1``.
        models: the names under which it serves.
        requests: every request that came, in order of arrival.
    """

    def __init__(
        self,
        answerers: Mapping[str, Answerer],
        concurrent: Container[str],
        port: int,
        faults: Sequence[Fault],
        latency_s: float,
        key: str | None,
    ) -> None:
        self.models = tuple(answerers)
        self.requests: list[Seen] = []
        self.lock = threading.Lock()
        self.schedule = Schedule(faults)
        self.latency_s = latency_s
        self.key = key
        self.closing = threading.Event()
        self._answerers = dict(answerers)
        # a lock of its own for each model, so that a slow one holds up no other
        self._turns: dict[str, AbstractContextManager[object]] = {
            name: nullcontext() if name in concurrent else threading.Lock() for name in answerers
        }
        self._started = time.monotonic()
        try:
            self._http = _Http(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(
                f"port {port} cannot be served on ({error.strerror})", remedy="choose another port"
            ) from error
        self._http.owner = self
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()

    def saw(self, path: str, body: Mapping[str, Json], with_key: bool) -> Fault | None:
        """Record a request; the fault that strikes it, if any."""
        with self.lock:
            self.requests.append(Seen(path, body, time.monotonic() - self._started, with_key))
            return self.schedule.next(body) if body else None

    @property
    def model(self) -> str:
        """The name of the only model, or of the first."""
        return self.models[0]

    def answer(self, body: Mapping[str, Json], messages: tuple[Message, ...]) -> Answer:
        """What the model or the function that the body names says."""
        answerer = self._answerers[body["model"]]
        if not hasattr(answerer, "answer"):
            return answerer(body)
        ask = Ask(prompt_id(messages), messages)
        with self._turns[body["model"]]:
            for batch in answerer.answer([ask], _decode(body)):
                for _, answer in batch:
                    return answer
        return Answer(None, FinishReason.ERROR, error="the model gave no answer")


def serve(
    answerer: Answerer | Mapping[str, Answerer],
    *,
    port: int = 0,
    model: str = "local",
    concurrent: Container[str] = (),
    faults: Sequence[Fault] = (),
    latency_s: float = 0.0,
    key: str | None = None,
) -> Server:
    """A server on 127.0.0.1 that speaks the OpenAI protocol: ``with serve(model) as server: ... server.url``.

    It knows ``/v1/models``, ``/v1/chat/completions`` and ``/v1/completions``, with ``n`` = 1 and without streaming.
    Decode settings are read as OpenAI, vLLM and llama.cpp spell them, ``chat_template_kwargs.enable_thinking``
    included. ``logprobs`` tells where tokens end, with their bytes; the probabilities themselves are null, for a
    ``Model`` does not say them. A request that states no budget gets ``MOST_TOKENS`` new tokens.

    Args:
        answerer: an opened model (asked one question at a time), or a function from the body of a request to an
            answer (called from many threads at once); or several of them by the names under which they are served.
        port: 0 for any free one.
        model: the name under which a single one is served. Requests for a name that is not served get 404.
        concurrent: names of models that may be asked by several threads at once.
        faults: how to misbehave; for each request the first one whose turn it is strikes.
        latency_s: seconds that every reply takes at least.
        key: requests without this API key get 401.

    Raises:
        InputError: the port is taken.
    """
    answerers = answerer if isinstance(answerer, Mapping) else {model: answerer}
    return Server(answerers, concurrent, port, faults, latency_s, key)


class _Http(ThreadingHTTPServer):
    """Knows its open connections, so that closing does not wait for clients that keep them alive."""

    daemon_threads = False  # closing waits for the threads, which then have nothing left to read
    request_queue_size = 512
    owner: Server

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no error of the server's."""

    def hang_up(self) -> None:
        with self._open_lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class _Refused(Exception):
    """A request that gets an error status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        parameter: str | None = None,
        code: str | None = None,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.parameter = parameter
        self.code = code
        self.retry_after = retry_after


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept alive
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of a reply leave together
    server: _Http

    def parse_request(self) -> bool:
        self.arrived = time.monotonic()  # its first line is there
        return super().parse_request()

    def do_GET(self) -> None:
        self._handle(self._get)

    def do_POST(self) -> None:
        self._handle(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def _handle(self, reply: Callable[[], None]) -> None:
        try:
            reply()
        except _Refused as refused:
            error = {"message": str(refused), "type": "error", "param": refused.parameter, "code": refused.code}
            self._send(refused.status, {"error": error}, retry_after=refused.retry_after)

    def _get(self) -> None:
        owner = self.server.owner
        owner.saw(self.path, {}, self._key() is not None)
        self._check_key()
        if self.path != "/v1/models":
            raise _Refused(404, f"There is nothing at {self.path}.")
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in owner.models]
        self._send(200, {"object": "list", "data": rows})

    def _post(self) -> None:
        owner = self.server.owner
        body = self._body()
        fault = owner.saw(self.path, body, self._key() is not None)
        if fault is not None and not self._misbehave(fault, body):
            return
        self._check_key()
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            raise _Refused(404, f"There is nothing at {self.path}.")
        if body.get("model") not in owner.models:
            what = f"The model `{body.get('model')}` does not exist."
            raise _Refused(404, what, parameter="model", code="model_not_found")
        reply = self._reply(body)
        self._send(200, reply if fault is None else spoil(fault.kind, reply), fault, latency_s=owner.latency_s)

    def _misbehave(self, fault: Fault, body: Mapping[str, Json]) -> bool:
        """Strike before the model is asked; whether there is anything left to answer."""
        if fault.kind in STATUS:
            status, message = STATUS[fault.kind]
            raise _Refused(status, message, retry_after=fault.retry_after)
        if fault.kind == "rejects":
            raise _Refused(400, f"Unsupported parameter: '{fault.parameter}'.", parameter=fault.parameter)
        if fault.kind in ("time-out", "slow"):
            self.server.owner.closing.wait(fault.seconds)
        if fault.kind in ("time-out", "reset"):
            # closing with this option set sends a reset instead of a polite end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return False
        return True

    def _reply(self, body: Mapping[str, Json]) -> dict[str, Json]:
        chat = self.path.endswith("/chat/completions")
        messages = _messages(body) if chat else (Message("user", _prompt(body)),)
        for name, only in (("n", (None, 1)), ("stream", (None, False))):
            if body.get(name) not in only:
                raise _Refused(400, f"This server does not support {name} = {body[name]}.", parameter=name)
        try:
            answer = self.server.owner.answer(body, messages)
        except CounterclaimError as error:
            raise _Refused(400, str(error)) from error
        except Exception as error:
            raise _Refused(500, f"The model failed: {type(error).__name__}.") from error
        if answer.finish_reason is FinishReason.ERROR:
            raise _Refused(500, f"The model failed: {answer.error}")
        return _chat(answer, body) if chat else _completion(answer, body)

    def _body(self) -> dict[str, Json]:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _LARGEST_BODY:
            self.close_connection = True
            raise _Refused(413, "A request needs a Content-Length of at most 64 MiB.")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise _Refused(400, "The body is not JSON.") from error
        if not isinstance(body, dict):
            raise _Refused(400, "The body is not a JSON object.")
        return body

    def _key(self) -> str | None:
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def _check_key(self) -> None:
        wanted = self.server.owner.key
        if wanted is not None and not hmac.compare_digest((self._key() or "").encode(), wanted.encode()):
            raise _Refused(401, "Incorrect API key provided.")

    def _send(
        self,
        status: int,
        reply: Json,
        fault: Fault | None = None,
        *,
        retry_after: str | None = None,
        latency_s: float = 0.0,
    ) -> None:
        """Send a reply, not before its request was here for ``latency_s``."""
        content = json.dumps(reply, ensure_ascii=False).encode("utf-8", "replace")
        if fault is not None:
            content = garble(fault.kind, content)
        self.server.owner.closing.wait(latency_s - (time.monotonic() - self.arrived))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


def _messages(body: Mapping[str, Json]) -> tuple[Message, ...]:
    turns = body.get("messages")
    well = isinstance(turns, list) and all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in turns
    )
    if not turns or not well:
        raise _Refused(400, "'messages' is a list of {role, content} with text as content.", parameter="messages")
    return tuple(Message(turn["role"], turn["content"]) for turn in turns)


def _prompt(body: Mapping[str, Json]) -> str:
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        raise _Refused(400, "'prompt' is one text.", parameter="prompt")
    return prompt


def _decode(body: Mapping[str, Json]) -> Decode:
    budget = body.get("max_completion_tokens", body.get("max_tokens"))
    stop = body.get("stop")
    return Decode(
        max_new_tokens=MOST_TOKENS if budget is None else budget,
        temperature=body.get("temperature"),
        top_p=body.get("top_p"),
        top_k=body.get("top_k"),
        repetition_penalty=body.get("repetition_penalty"),
        presence_penalty=body.get("presence_penalty"),
        seed=body.get("seed"),
        stop=None if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        thinking=(body.get("chat_template_kwargs") or {}).get("enable_thinking"),
    )


def _frame(answer: Answer, body: Mapping[str, Json], kind: str, choice: dict[str, Json]) -> dict[str, Json]:
    """What chat and plain completions have in common."""
    choice = {"index": 0, "finish_reason": _FINISH[answer.finish_reason], **choice}
    reply = {"id": "local", "object": kind, "created": int(time.time()), "model": body["model"], "choices": [choice]}
    if answer.n_tokens is not None:
        reply["usage"] = {"completion_tokens": answer.n_tokens}
        if answer.prompt_tokens is not None:
            reply["usage"]["prompt_tokens"] = answer.prompt_tokens
            reply["usage"]["total_tokens"] = answer.prompt_tokens + answer.n_tokens
    return reply


def _chat(answer: Answer, body: Mapping[str, Json]) -> dict[str, Json]:
    choice: dict[str, Json] = {"message": {"role": "assistant", "content": answer.text}}
    if body.get("logprobs") and answer.token_chars is not None:
        choice["logprobs"] = {
            "content": [
                {"token": token, "bytes": list(token.encode("utf-8", "replace")), "logprob": None, "top_logprobs": []}
                for token, _ in _tokens(answer)
            ]
        }
    return _frame(answer, body, "chat.completion", choice)


def _completion(answer: Answer, body: Mapping[str, Json]) -> dict[str, Json]:
    choice: dict[str, Json] = {"text": answer.text}
    if body.get("logprobs") is not None and answer.token_chars is not None:
        tokens = _tokens(answer)
        choice["logprobs"] = {
            "tokens": [token for token, _ in tokens],
            "text_offset": [offset for _, offset in tokens],
            "token_logprobs": [None] * len(tokens),
        }
    return _frame(answer, body, "text_completion", choice)


def _tokens(answer: Answer) -> list[tuple[str, int]]:
    """(text, offset in characters) of every generated token."""
    text, at, tokens = answer.text or "", 0, []
    for n in answer.token_chars or ():
        tokens.append((text[at : at + n], at))
        at += n
    return tokens


# models by name ----------------------------------------------------------------------------------------------------


@contextmanager
def serve_models(
    names: Sequence[str],
    port: int,
    faults: Sequence[tuple[str, int | None]],
    latency_s: float,
    *,
    when_asked: bool = False,
) -> Iterator[Server]:
    """Models behind a local OpenAI-compatible endpoint that misbehaves on command, each under its own name.

    A request to one model does not wait for those to others. Models of backends that say ``concurrent`` answer several
    requests at once.

    Args:
        names: any model names; backends of plug-ins and planted worlds must have been imported.
        port: on this machine; a free one for 0.
        faults: what to do wrong, each as often as its count says (always for None).
        latency_s: seconds by which every reply is held back.
        when_asked: open each model when it is first asked. One that cannot be opened then answers 400 with the reason.

    Raises:
        InputError: there is no such model or fault, or the port is taken.
        ModelError: a model cannot be opened, unless ``when_asked``.
    """
    kinds = get_args(FaultKind)
    for kind, _ in faults:
        if kind not in kinds or kind == "rejects":
            known = ", ".join(name for name in kinds if name != "rejects")
            raise InputError(f"there is no fault {kind!r}", remedy=f"choose among {known}")
    planned = [Fault(cast(FaultKind, kind), times=times) for kind, times in faults]
    concurrent = {name for name in names if backend_of(name).concurrent}
    with ExitStack() as stack:
        models = {name: stack.enter_context(closing(_OnDemand(name))) for name in names}
        if not when_asked:
            for model in models.values():
                model.opened()
        yield stack.enter_context(serve(models, port=port, concurrent=concurrent, faults=planned, latency_s=latency_s))


class _OnDemand:
    """A model that is opened when it is first asked."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._model: Model | None = None
        self._opening = threading.Lock()

    def opened(self) -> Model:
        """The model itself."""
        with self._opening:
            if self._model is None:
                self._model = open_model(ModelSpec(self._name), Runtime())
            return self._model

    @property
    def ref(self) -> ModelRef:
        """Of the model itself."""
        return self.opened().ref

    @property
    def chat_template(self) -> str | None:
        """Of the model itself."""
        return self.opened().chat_template

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """What the model itself answers."""
        return self.opened().answer(asks, decode, done)

    def close(self) -> None:
        """Close the model if it was opened."""
        if self._model is not None:
            self._model.close()
