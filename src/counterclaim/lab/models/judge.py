"""Any model as a judge."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from counterclaim.errors import InputError, ModelError
from counterclaim.folder import Replies, reply_key
from counterclaim.lab.models import open_model
from counterclaim.lab.models.endpoint import EndpointModel
from counterclaim.records import Decode, FinishReason, Json, Message, prompt_id, to_json
from counterclaim.registry import Answer, Ask, Model, ModelSpec, Runtime

DECODE = Decode(max_new_tokens=4096, temperature=0.0)
"""How every judge answers: greedily, with room for its reasons."""


def open_judge(name: str, runtime: Runtime) -> ModelJudge:
    """The model of this name as a judge.

    Args:
        name: any model name: ``URL#model``, a repository, a folder, ``tiny:NAME``.
        runtime: how it is run; its cache keeps the replies.

    Raises:
        InputError: no backend opens the name, or the file of kept replies cannot be used.
        ModelError: the model cannot be opened.
    """
    model = open_model(ModelSpec(name), runtime)
    try:
        return ModelJudge(name, model, runtime)
    except BaseException:
        model.close()
        raise


class ModelJudge:
    """A ``registry.Judge`` over an opened model; safe with threads.

    An endpoint is asked by all threads at once, with the schema as ``response_format`` where the server takes it. Any
    other model is asked by one thread at a time, and its schema is only what the messages say. Replies are kept
    either way, so scoring again costs nothing.

    Args:
        name: the model's name.
        model: the opened model, which ``close`` closes.
        runtime: where replies are kept.

    Raises:
        InputError: the file of kept replies cannot be used.
    """

    def __init__(self, name: str, model: Model, runtime: Runtime) -> None:
        self._model = model
        endpoint = isinstance(model, EndpointModel)
        self._name = model.name if isinstance(model, EndpointModel) else name
        self._one_at_a_time = threading.Lock()
        self._replies = (
            Replies(runtime.cache) if runtime.use_cache and not endpoint else None
        )  # an endpoint has its own

    @property
    def name(self) -> str:
        """The model's name; of an endpoint without its URL, which does not change how it judges."""
        return self._name

    def reply(self, messages: Sequence[Message], schema: Mapping[str, Json] | None = None, *, attempt: int = 0) -> str:
        """The raw reply, a reasoning block in front of it included.

        Raises:
            ModelError: there is none to this question, it was cut by its budget, or it was filtered; the message holds
                its text.
            BudgetSpent: the budget of the runtime is used up.
            InputError: the judge cannot answer any question (no server, a refused key), or kept replies cannot be read
                or written. It is no ModelError, so that nobody takes it for one missing reply among many.
        """
        ask = Ask(prompt_id(messages), tuple(messages))
        try:
            if isinstance(self._model, EndpointModel):
                answer = self._model.ask(ask, DECODE, schema=schema, attempt=attempt)
            else:
                answer = self._asked_in_turn(ask, schema, attempt)
        except ModelError as error:
            raise InputError(f"the judge cannot be used: {error.problem}", remedy=error.remedy) from None
        if answer.error is not None or answer.text is None:
            raise ModelError(f"the judge {self._name} gave no reply ({answer.error or 'it was filtered'})")
        if answer.finish_reason is FinishReason.LENGTH:
            raise ModelError(f"the reply of the judge {self._name} was cut by its budget: {answer.text!r}")
        if answer.finish_reason is FinishReason.FILTER:
            raise ModelError(f"the reply of the judge {self._name} was filtered: {answer.text!r}")
        return answer.text

    def close(self) -> None:
        """Close the model and the file of kept replies."""
        self._model.close()
        if self._replies is not None:
            self._replies.close()

    def _asked_in_turn(self, ask: Ask, schema: Mapping[str, Json] | None, attempt: int) -> Answer:
        """The answer of a model that is no endpoint; only answers that ended well are kept."""
        key = reply_key({
            "format": 1, "judge": self._name, "model": to_json(self._model.ref), "messages": to_json(ask.messages),
            "decode": to_json(DECODE), "schema": schema, "attempt": attempt,
        })  # fmt: skip
        kept = None if self._replies is None else self._replies.get(key)
        if kept is not None:
            return Answer(kept["text"], FinishReason.STOP)
        with self._one_at_a_time:
            answers = [answer for batch in self._model.answer([ask], DECODE) for _, answer in batch]
        answer = answers[0] if answers else Answer(None, FinishReason.ERROR, error="the model gave no answer")
        if self._replies is not None and answer.finish_reason is FinishReason.STOP:
            self._replies.put(key, {"text": answer.text})
        return answer
