"""An operator: a model that answers in capitals. Its dose is the share of the letters of each answer that it changes."""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from counterclaim import Answer, Ask, Decode, Fitting, Model, ModelRef, operator


class Louder:
    """A model around another one."""

    def __init__(self, model: Model, share: float) -> None:
        self.model, self.share = model, share
        self.chat_template = model.chat_template
        self.ref: ModelRef = replace(model.ref, adapter_hash=f"louder-{share:g}")

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        for batch in self.model.answer(asks, decode, done):
            yield [(at, self.raised(answer)) for at, answer in batch]

    def raised(self, answer: Answer) -> Answer:
        text = answer.text or ""
        loud = round(self.share * len(text))
        return replace(answer, text="".join(c.upper() if len(c.upper()) == 1 else c for c in text[:loud]) + text[loud:])

    def close(self) -> None:
        self.model.close()


@contextmanager
def louder(model: Model, folder: Path, dose: float) -> Iterator[Model]:
    strength = json.loads((folder / "louder.json").read_text())["strength"]
    yield model if dose == 0 else Louder(model, dose * strength)


@operator("louder", about="answers in capitals", needs=("generate",), on=louder, trial={"strength": 1.0})
def fit(fitting: Fitting, folder: Path) -> Mapping[str, object]:
    """Nothing is learnt: what there is to set is written down."""
    card = {"strength": float(fitting.plan["strength"])}
    (folder / "louder.json").write_text(json.dumps(card))
    return card
