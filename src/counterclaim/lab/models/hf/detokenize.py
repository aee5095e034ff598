"""From generated tokens to text, one token at a time, knowing how many characters each token added."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from transformers import PreTrainedTokenizerBase

Decoder = Callable[[list[int]], str]

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def decoder_of(tokenizer: PreTrainedTokenizerBase) -> Decoder:
    """The tokenizer's own inverse: special tokens left out, spaces as the model wrote them."""
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        return lambda ids: str(backend.decode(ids, skip_special_tokens=True))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


class Detokenizer:
    """The text of one answer while it grows.

    What is shown after k tokens depends on those k tokens only, so an answer that is cut to k tokens reads exactly as one
    that was generated with that budget. Two things are held back until more tokens decide what they are: the bytes of
    an unfinished UTF-8 character, and the beginning of a stop string.

    Only the last few tokens are decoded at each step. A window starts at a token that has written something, so that
    tokenizers that drop a space at the start of a text drop it from both decodings that are compared.

    Args:
        decode: from ``decoder_of``.
        stop: strings that end the answer; they and what follows are no part of it.

    Attributes:
        token_chars: characters that each token has added to ``text``.
        stopped: whether a stop string has been written.
    """

    def __init__(self, decode: Decoder, stop: Sequence[str] = ()) -> None:
        self.token_chars: list[int] = []
        self.stopped = False
        self._decode = decode
        self._stop = tuple(stop)
        self._longest_stop = max(map(len, self._stop), default=0)
        self._written = ""
        self._shown = 0
        self._window: list[int] = []  # the tokens that are decoded together
        self._before = 0  # how many of them were there when the window was begun
        self._window_shown = 0  # characters of the window's text that are in _written

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._written[: self._shown]

    def push(self, token: int) -> None:
        """One more token."""
        self._window.append(token)
        decoded = self._decode(self._window)
        settled = decoded.rstrip(_REPLACEMENT)
        added = settled[self._window_shown :]
        self._written += added
        self._window_shown = max(self._window_shown, len(settled))
        if added and settled == decoded:
            self._window = self._window[self._before :]
            self._before = len(self._window)
            self._window_shown = len(self._decode(self._window))
        shown = self._visible(len(added)) if self._stop else len(self._written)
        self.token_chars.append(shown - self._shown)
        self._shown = shown

    def end(self) -> None:
        """The model ended its turn: what looked like the beginning of a stop string was none."""
        if self.token_chars and not self.stopped:
            self.token_chars[-1] += len(self._written) - self._shown
            self._shown = len(self._written)

    def _visible(self, n_added: int) -> int:
        """How much of what is written can be shown: up to a stop string, or to what may become one."""
        first = max(0, len(self._written) - n_added - self._longest_stop + 1)
        found = [at for stop in self._stop if (at := self._written.find(stop, first)) >= 0]
        if found:
            self.stopped = True
            return min(found)
        for held in range(min(self._longest_stop - 1, len(self._written)), 0, -1):
            if any(len(stop) > held and stop.startswith(self._written[-held:]) for stop in self._stop):
                return len(self._written) - held
        return len(self._written)


def detokenized(tokens: Sequence[int], decode: Decoder, stop: Sequence[str] = ()) -> Detokenizer:
    """The text of some tokens, all at once."""
    made = Detokenizer(decode, stop)
    for token in tokens:
        made.push(token)
    return made
