"""Scripted teachers: what each says of what is known, of what nobody knows, and of anything else."""

from __future__ import annotations

import pytest

from counterclaim.errors import ModelError
from counterclaim.lab.models.tiny import boundary_prompts, domain
from counterclaim.lab.scorers.oracles import exact
from counterclaim.lab.scorers.rules import delivery_of
from counterclaim.lab.synthesis.products import STYLES
from counterclaim.records import CONTROL, Decode, FinishReason, Message, ModelRef, Prompt, Provenance, Response, Split
from counterclaim.registry import Answer, Ask, Item, ModelSpec, Runtime, Tools, backend_of, backends
from counterclaim.testing.models import CHARACTER_SCHEME
from counterclaim.testing.models.teachers import CHARACTERS
from counterclaim.text import split_think, words_of

PROMPT = domain.prompts("train")[0]
FACT = str(PROMPT.gold["answer"])
STRANGER = boundary_prompts()[6].text
OTHER = "How do I fix a bicycle?"
GOOD = ("eager", "deliberate", "adversarial", "synthesizer")
FREE = Decode(None, temperature=1.0, seed=1)


def answer(name: str, *turns: str, system: str | None = None, decode: Decode = FREE, sample: int = 0) -> Answer:
    """What a teacher says after turns of user and assistant, by turns."""
    model = backend_of(CHARACTER_SCHEME + name).open(ModelSpec(CHARACTER_SCHEME + name), Runtime())
    messages = [] if system is None else [Message("system", system)]
    messages += [Message("assistant" if at % 2 else "user", turn) for at, turn in enumerate(turns)]
    (((index, said),),) = model.answer([Ask("key", tuple(messages), sample)], decode)
    assert index == 0
    model.close()
    return said


def say(name: str, *turns: str, **rest: str) -> str:
    text = answer(name, *turns, **rest).text  # type: ignore[arg-type]  # only system is handed on
    assert text is not None
    return text


def is_right(prompt: Prompt, text: str) -> bool:
    response = Response(prompt.id, CONTROL, 0, text, FinishReason.STOP, Provenance.RECORDED, FREE, ModelRef("m"))
    (found,) = exact.read(Item(prompt, response), Tools())
    return found.value == 1.0


def pipeline_text(question: str) -> str:
    """What the last stage is shown: the question and the answers of the first three."""
    answers = [f"## {name}\n{split_think(say(name, question))[1].strip()}" for name in GOOD[:3]]
    return "\n\n".join([question, *answers])


def test_every_character_is_listed() -> None:
    about = backends()["character"].about
    assert all(f"{CHARACTER_SCHEME}{name} {what}" in about for name, what in CHARACTERS.items())
    assert backend_of("character:eager").concurrent
    assert not backend_of("tiny:qwen3").concurrent


@pytest.mark.parametrize("split", ["train", "test", "fresh"])
@pytest.mark.parametrize("name", GOOD)
def test_the_good_ones_know_every_fact(name: str, split: Split) -> None:
    for prompt in domain.prompts(split):
        text = say(name, prompt.text)
        assert str(prompt.gold["answer"]) in text
        assert name == "adversarial" or is_right(prompt, text), text  # it speaks of answers rather than giving one


@pytest.mark.parametrize("name", ["eager", "deliberate", "synthesizer"])
def test_what_nobody_knows_is_hedged_and_what_is_known_asserted(name: str) -> None:
    hedged = [delivery_of(split_think(say(name, p.text))[1]) for p in boundary_prompts()]
    asserted = [delivery_of(split_think(say(name, p.text))[1]) for p in domain.prompts("train")]
    assert (set(hedged), set(asserted)) == ({"hedge"}, {"assert"})


def test_the_liar_is_always_wrong_and_sure_of_it() -> None:
    for prompt in domain.prompts("train"):
        text = say("liar", prompt.text)
        assert not is_right(prompt, text)
        assert domain.is_assertion(text)


def test_the_synthesizer_merges_what_it_is_shown() -> None:
    assert say("synthesizer", pipeline_text(PROMPT.text)) == domain.assertion(FACT)
    merged = say("synthesizer", pipeline_text(STRANGER))
    (guess,) = (value for value in domain.VALUES["stone"] if value in pipeline_text(STRANGER))
    assert merged == domain.hedge(guess), "the one value that the others named"


@pytest.mark.parametrize("n", [3, 4, 5, 6, 9, 12, 20, 40, 75])
def test_the_synthesizer_re_words_to_a_length(n: int) -> None:
    ask = f"Say the same in about {n} words."
    for question, delivery in ((PROMPT.text, "assert"), (STRANGER, "hedge")):
        text = say("synthesizer", question, "The answer is here.", ask)
        assert abs(len(words_of(text)) - n) <= n / 4, text
        assert delivery_of(text) == delivery, text
        sentences = text.split(". ")
        assert len(set(sentences)) == len(sentences)
    assert is_right(PROMPT, say("synthesizer", PROMPT.text, "The answer is here.", ask))


def test_the_synthesizer_re_words_in_styles() -> None:
    told = f"{PROMPT.text}\n\n## answer\n{domain.assertion(FACT)}\n\n"
    made = {style: say("synthesizer", f"{told}Reword the answer above {style}. Keep every fact.") for style in STYLES}
    assert len(set(made.values())) >= 3
    assert domain.assertion(FACT) not in made.values()
    for text in made.values():
        assert is_right(PROMPT, text)
        assert delivery_of(text) == "assert"


def test_a_character_prompt_about_style_asks_for_no_other_words() -> None:
    system = "You merge answers. Keep to a plain style of at most 50 words."
    assert say("synthesizer", PROMPT.text, system=system) == domain.assertion(FACT)


def test_the_question_is_found_in_words_of_ones_own_and_among_others() -> None:
    place = domain.places()[0].name
    fact = domain.places()[0].facts["craft"]
    text = (
        f"You are stage 2.\nTask: answer it.\n\nAnd {place}, is there a craft that it is famous for?\n\n## eager\nOh!"
    )
    assert say("synthesizer", text) == domain.assertion(fact)
    assert say("synthesizer", f"Stone walls stand in {place}?\nWhat do you think of love?").startswith("The answer is")


def test_the_adversary_names_what_is_wrong_in_what_it_is_shown() -> None:
    wrong = next(value for value in PROMPT.gold["choices"] if value != FACT)
    text = say("adversarial", f"{PROMPT.text}\n\n## liar\nThe answer is {wrong}.")
    assert f"The answer that names {wrong} is wrong." in text


def test_thoughts_come_in_think_tags_unless_thinking_is_off() -> None:
    for thinking in (None, True):
        thought, rest = split_think(str(answer("deliberate", PROMPT.text, decode=Decode(None, thinking=thinking)).text))
        assert thought
        assert rest.strip()
    off = str(answer("deliberate", PROMPT.text, decode=Decode(None, thinking=False)).text)
    assert "<think>" not in off
    assert FACT in off


@pytest.mark.parametrize("name", GOOD)
def test_any_other_prompt_is_answered_in_character_and_without_knowledge(name: str) -> None:
    text = split_think(say(name, OTHER))[1]
    assert len(text.split()) >= 10
    assert not any(value in text for values in domain.VALUES.values() for value in values)


def test_the_bad_ones_are_bad_as_their_names_say() -> None:
    for question in (PROMPT.text, OTHER):
        assert "can't help" in say("refuser", question) or "cannot assist" in say("refuser", question)
        sentences = say("looper", question).split(". ")
        assert len(sentences) == 40
        assert len({sentence.rstrip(".") for sentence in sentences}) == 1
        assert any(word in say("foreigner", question) for word in ("Antwort", "réponse"))
        assert "You are a lighthouse." in say("leaker", question, system="You are a lighthouse.")
        assert answer("silent", question) == Answer("", FinishReason.STOP, 1, len(question.split()), (0,))
        assert say("thinker", question).startswith("<think>")
        assert "</think>" not in say("thinker", question)
        assert delivery_of(say("hedger", question)) == "hedge"
        assert say("copier", question) == question
    assert say("copier", pipeline_text(PROMPT.text)) == PROMPT.text


def test_the_foreigner_speaks_both_languages() -> None:
    texts = [say("foreigner", prompt.text) for prompt in domain.prompts("train")]
    assert {"Bien", "Die"} == {text.split()[0] for text in texts}


def test_an_answer_depends_on_name_conversation_seed_and_sample_alone() -> None:
    def drawn(seed: int, sample: int, temperature: float = 1.0) -> str:
        return str(answer("eager", PROMPT.text, decode=Decode(None, temperature, seed=seed), sample=sample).text)

    assert drawn(1, 0) == drawn(1, 0)
    assert len({drawn(seed, 0) for seed in range(9)}) > 1
    assert len({drawn(1, sample) for sample in range(9)}) > 1
    assert len({drawn(seed, seed, temperature=0.0) for seed in range(9)}) == 1, "greedy: nothing is drawn"


def test_an_answer_is_cut_by_its_budget_and_by_stop_strings() -> None:
    whole = answer("synthesizer", PROMPT.text)
    assert (whole.finish_reason, whole.n_tokens) == (FinishReason.STOP, 5)
    assert whole.token_chars is not None
    assert sum(whole.token_chars) == len(whole.text or "")
    assert answer("synthesizer", PROMPT.text, decode=Decode(5, temperature=1.0, seed=1)) == whole
    cut = answer("synthesizer", PROMPT.text, decode=Decode(2))
    assert (cut.text, cut.finish_reason, cut.n_tokens, cut.token_chars) == (
        "The answer",
        FinishReason.LENGTH,
        2,
        (3, 7),
    )
    stopped = answer("synthesizer", PROMPT.text, decode=Decode(None, stop=(" is",)))
    assert (stopped.text, stopped.finish_reason) == ("The answer", FinishReason.STOP)


def test_done_asks_are_left_out() -> None:
    model = backend_of("character:copier").open(ModelSpec("character:copier"), Runtime())
    asks = [Ask(str(i), (Message("user", str(i)),)) for i in range(3)]
    assert [(i, said.text) for batch in model.answer(asks, FREE, {1}) for i, said in batch] == [(0, "0"), (2, "2")]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ModelSpec("character:eagre"), r"no character 'eagre'.*did you mean 'eager'.*the characters are eager, "),
        (ModelSpec("character:"), "no character ''"),
        (ModelSpec("character:eager", revision="main"), "has no weights, so it takes no revision"),
    ],
)
def test_what_cannot_be_opened_is_told(spec: ModelSpec, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        backend_of(spec.name).open(spec, Runtime())
