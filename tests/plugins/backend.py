"""A backend: models named ``parrot:NAME``, which say what they are asked, louder."""

from collections.abc import Container, Iterator, Sequence

from counterclaim import Answer, Ask, Decode, FinishReason, Model, ModelRef, ModelSpec, Runtime, backend


class Parrot:
    chat_template = "raw"

    def __init__(self, name: str) -> None:
        self.ref = ModelRef(name)

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        for at, ask in enumerate(asks):
            if at not in done:
                words = ask.messages[-1].content.upper().split()
                budget = decode.max_new_tokens or len(words)
                ended = FinishReason.LENGTH if len(words) > budget else FinishReason.STOP
                yield [(at, Answer(" ".join(words[:budget]), ended, n_tokens=len(words[:budget])))]

    def close(self) -> None:
        pass


@backend(
    "parrot",
    about="says what it is asked, louder",
    can=("generate",),
    opens=lambda name: name.startswith("parrot:"),
    trial="parrot:grey",
)
def parrot(spec: ModelSpec, runtime: Runtime) -> Model:
    return Parrot(spec.name)
