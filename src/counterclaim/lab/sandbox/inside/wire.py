"""Plain data between an examiner and a candidate: a strict encoding, and calls that go both ways.

A message is a JSON array with its length in front. A value is None, bool, int, float, complex, str, bytes, list, tuple,
dict, set, frozenset, range, a builtin type, or a reference to an object that stays with its owner. The receiver
rebuilds every value from builtins of its own, so an object with a dishonest ``__eq__`` arrives as the data it holds or
as a reference that equals nothing.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Mapping
from typing import Any

FRAME = 4  # bytes of the length in front of a message, big-endian
_DEEPEST = 64  # calls back and forth under one call
_EXACT = 1 << 63  # larger integers travel as hexadecimal: decimal conversion is quadratic and limited
_TYPES = {
    kind.__name__: kind
    for kind in (
        bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, object, type(None),
    )
}  # fmt: skip


class WireError(BaseException):
    """A message breaks the encoding. No ``except Exception`` of a test may hide it."""


class NotPlain(Exception):
    """A value cannot be carried."""


class TooDeep(NotPlain):
    """A value is nested too deeply, or holds itself."""


class Peer:
    """One end of the wire.

    Args:
        send: writes one message.
        receive: reads one message; both raise where the other end is gone.
    """

    def __init__(self, send: Callable[[bytes], None], receive: Callable[[], bytes]) -> None:
        self._send, self._receive = send, receive
        self._objects: list[Any] = []  # what the other end holds references to
        self._depth = 0

    def ask(self, *request: Any) -> Any:
        """Put a request to the other end and return its answer, serving its own requests meanwhile.

        Raises:
            RemoteError: answering raised an exception there; this one derives from the same builtin exception.
                NotPlain: the request holds something that cannot be carried.
            WireError: the other end broke the encoding.
        """
        self._send(self.pack(list(request)))
        while True:
            message = self.unpack(self._receive())
            if message[0] == "value" and len(message) == 2:
                return message[1]
            if message[0] == "raise" and len(message) == 3:
                raise _exception_like(message[1], message[2])
            self._serve_one(message)

    def answer(self, message: list[Any]) -> Any:
        """What this end says to a request. Overridden by each end."""
        raise WireError(f"{message[0]!r} is not served here")

    def _serve_one(self, message: list[Any]) -> None:
        self._depth += 1
        try:
            if self._depth > _DEEPEST:
                raise RecursionError("calls between program and tests are nested too deeply")
            reply = self.pack(["value", self.answer(message)])
        except BaseException as error:  # SystemExit and KeyboardInterrupt of the program are answers too
            self.passing(error)
            reply = self.pack(["raise", [kind.__name__ for kind in type(error).__mro__], _text_of(error)])
        finally:
            self._depth -= 1
        self._send(reply)

    def passing(self, error: BaseException) -> None:
        """Raise what must end this end instead of being sent to the other."""

    def serve(self) -> None:
        """Answer requests until the other end is gone."""
        while True:
            self._serve_one(self.unpack(self._receive()))

    def pack(self, value: Any) -> bytes:
        """The bytes of a message, length included."""
        try:
            body = json.dumps(self._encode(value), allow_nan=False).encode("ascii")
        except RecursionError:
            raise TooDeep("the value is nested too deeply, or holds itself") from None
        return len(body).to_bytes(FRAME, "big") + body

    def unpack(self, body: bytes) -> list[Any]:
        """The message in some bytes (without the length).

        Raises:
            WireError: it is none.
        """
        try:
            message = self._decode(json.loads(body))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
            raise WireError(f"a message breaks the encoding ({type(error).__name__})") from None
        if not isinstance(message, list) or not message or not isinstance(message[0], str):
            raise WireError("a message is a list that begins with its kind")
        return message

    def own(self, number: Any) -> Any:
        """The object of this end that a reference of the other end means."""
        if type(number) is not int or not 0 <= number < len(self._objects):
            raise WireError("a reference to nothing")
        return self._objects[number]

    def may_lend(self, value: Any) -> bool:
        """Whether a value that is no plain data may be referred to by the other end."""
        raise NotImplementedError

    def _encode(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind is bool or kind is str:
            return value
        if kind is int:
            return value if -_EXACT <= value < _EXACT else {"i": hex(value)}
        if kind is float:
            return {"f": value.hex()}
        if kind is list:
            return [self._encode(item) for item in value]
        if kind is tuple:
            return {"t": [self._encode(item) for item in value]}
        if kind is dict:
            return {"d": [[self._encode(key), self._encode(item)] for key, item in value.items()]}
        if kind is set or kind is frozenset:
            return {"s" if kind is set else "z": [self._encode(item) for item in value]}
        if kind is bytes or kind is bytearray:
            return {"b" if kind is bytes else "y": value.hex()}
        if kind is _KEYS:
            return {"v": [self._encode(key) for key in value]}
        if kind is complex:
            return {"c": [value.real.hex(), value.imag.hex()]}
        if kind is range:
            return {"r": [self._encode(value.start), self._encode(value.stop), self._encode(value.step)]}
        if kind is type and value.__name__ in _TYPES and _TYPES[value.__name__] is value:
            return {"k": value.__name__}
        if isinstance(value, Remote):
            return {"m": _number_of(value)}
        for base, plain in _BASES:
            if issubclass(kind, base):
                return self._encode(plain(value))
        if not self.may_lend(value):
            raise NotPlain(f"an object of type {kind.__name__} is no plain data")
        self._objects.append(value)
        return {"o": len(self._objects) - 1}

    def _decode(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._decode(item) for item in value]
        if not isinstance(value, dict):
            if isinstance(value, float):
                raise WireError("a float travels as hexadecimal")
            return value
        ((tag, held),) = value.items()
        return _DECODERS[tag](self, held)


class Remote:
    """An object that stays at the other end. It can be called, iterated and asked for attributes; it equals only itself."""

    __slots__ = ("_number", "_peer")

    def __init__(self, peer: Peer, number: int) -> None:
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        value, changed = _pair(_peer_of(self).ask("call", _number_of(self), args, kwargs))
        for position, content in _pairs(changed):
            if type(position) is not int or not 0 <= position < len(args):
                raise WireError("an argument came back that was never sent")
            _refill(args[position], content)
        return value

    def __iter__(self) -> Any:
        return _peer_of(self).ask("iter", _number_of(self))

    def __next__(self) -> Any:
        found, value = _pair(_peer_of(self).ask("next", _number_of(self)))
        if found is not True:
            raise StopIteration
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # copying, pickling and printing look for these; none crosses the wire
        return _peer_of(self).ask("get", _number_of(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        _peer_of(self).ask("set", _number_of(self), name, value)

    def __repr__(self) -> str:
        return "<an object of the program>"


class RemoteError(Exception):
    """An exception at the other end. Raised as a subclass of this and of the builtin exception it was nearest to."""


def call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, list[tuple[int, Any]]]:
    """Call a function for the other end: its result, and the (position, content) of arguments that it changed."""
    before = [repr(arg) if isinstance(arg, _MUTABLE) else "" for arg in args]
    value = function(*args, **kwargs)
    changed = [
        (position, arg)
        for position, arg in enumerate(args)
        if isinstance(arg, _MUTABLE) and repr(arg) != before[position]
    ]
    return value, changed


def iterate(iterator: Any) -> tuple[bool, Any]:
    """One step of an iterator for the other end: whether there was an item, and the item."""
    for item in iterator:
        return True, item
    return False, None


_KEYS: type = type(dict[Any, Any]().keys())
_MUTABLE = (list, dict, set, bytearray)


def _pair(value: Any) -> tuple[Any, Any]:
    if type(value) is not tuple or len(value) != 2:
        raise WireError("an answer has two parts")
    return value


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if type(value) is not list:
        raise WireError("a list was to come back")
    return [_pair(item) for item in value]


def _refill(mine: Any, content: Any) -> None:
    """Give a mutable argument the content that the other end left in its copy."""
    if type(mine) is not type(content):
        raise WireError("an argument came back as another type")
    if isinstance(mine, list | bytearray):
        mine[:] = content
    elif isinstance(mine, dict | set):
        mine.clear()
        mine.update(content)


def _exception_like(names: Any, text: Any) -> RemoteError:
    """An exception that derives from the nearest builtin exception among some class names."""
    for name in names if isinstance(names, list) else ():
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception):
            break
    else:
        kind = Exception
    first = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    made = type(
        first[:80] if first.isidentifier() else "Exception",
        (RemoteError,) if kind is Exception else (RemoteError, kind),
        {"__str__": _describe},
    )
    try:
        raised = made()
    except TypeError:  # UnicodeDecodeError and its kin want arguments
        raised = RemoteError()
    raised.args = (str(text)[:500],)
    return raised  # type: ignore[no-any-return]


def _describe(error: BaseException) -> str:
    return str(error.args[0]) if error.args else ""


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:500]
    except BaseException:  # a class of the program may break in __str__
        return ""


def _peer_of(remote: Remote) -> Peer:
    return object.__getattribute__(remote, "_peer")  # type: ignore[no-any-return]


def _number_of(remote: Remote) -> int:
    return object.__getattribute__(remote, "_number")  # type: ignore[no-any-return]


# A subclass (Counter, namedtuple, IntEnum) travels as the builtin that it extends, read by the builtin's own methods.
_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, int.__int__),
    (float, float.__float__),
    (str, lambda value: str.__str__(value) if type(str.__str__(value)) is str else "".join(str.__iter__(value))),
    (bytes, lambda value: bytes(bytes.__iter__(value))),
    (list, lambda value: [*list.__iter__(value)]),
    (tuple, lambda value: (*tuple.__iter__(value),)),
    (dict, lambda value: dict(zip(dict.keys(value), dict.values(value), strict=True))),
    (set, lambda value: {*set.__iter__(value)}),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
)


def _integer(_: Peer, held: Any) -> int:
    if not isinstance(held, str):
        raise WireError("a large integer travels as hexadecimal")
    return int(held, 16)


def _range(peer: Peer, held: Any) -> range:
    start, stop, step = (peer._decode(item) for item in held)
    return range(start, stop, step)


def _remote(peer: Peer, held: Any) -> Remote:
    if type(held) is not int:
        raise WireError("a reference is a number")
    return Remote(peer, held)


_DECODERS: dict[str, Callable[[Peer, Any], Any]] = {
    "i": _integer,
    "f": lambda _, held: float.fromhex(held),
    "c": lambda _, held: complex(float.fromhex(held[0]), float.fromhex(held[1])),
    "b": lambda _, held: bytes.fromhex(held),
    "y": lambda _, held: bytearray.fromhex(held),
    "t": lambda peer, held: tuple(peer._decode(item) for item in held),
    "s": lambda peer, held: {peer._decode(item) for item in held},
    "z": lambda peer, held: frozenset(peer._decode(item) for item in held),
    "d": lambda peer, held: {peer._decode(key): peer._decode(item) for key, item in held},
    "v": lambda peer, held: dict.fromkeys(peer._decode(key) for key in held).keys(),
    "r": _range,
    "k": lambda _, held: _TYPES[held],
    "m": lambda peer, held: peer.own(held),
    "o": _remote,
}
