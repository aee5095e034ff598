"""Filters: each with cases that it must catch and near misses that it must let pass."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from counterclaim.errors import InputError, ModelError
from counterclaim.lab.config import FilterPlan
from counterclaim.lab.models.tiny import prompts as tiny_prompts
from counterclaim.lab.models.tiny.domain import assertion, hedge
from counterclaim.lab.scorers.rubrics import checklist
from counterclaim.lab.synthesis import replies
from counterclaim.lab.synthesis.filters import (
    EXAMPLE_REMEDIES,
    DroppedExample,
    FilteredExamples,
    check_enough,
    filter_examples,
    jaccard,
    missing_fact,
    shingles,
)
from counterclaim.lab.synthesis.replies import leak_in, loop_in, other_language, refusal_in, teacher_fault, thought_of
from counterclaim.records import Example, ExampleKind, Message, Prompt

ANYTHING = FilterPlan(language=None, facts=False, near_duplicate=1.0)


def example(
    chosen: str,
    rejected: str | None = None,
    prompt: str = "Which stone is it?",
    kind: ExampleKind = "gold",
    source: str = "",
) -> Example:
    return Example((Message("user", prompt),), chosen, rejected, kind, prompt_id=source)


def outcome(one: Example, plan: FilterPlan = ANYTHING, prompts: Sequence[Prompt] = ()) -> str | None:
    """The filter that drops an example that comes alone; None where it is kept."""
    filtered = filter_examples([one], plan, {prompt.id: prompt for prompt in prompts})
    assert len(filtered.kept) + len(filtered.dropped) == 1
    return filtered.dropped[0].filter if filtered.dropped else None


# --- refusals -----------------------------------------------------------------------------------------------------

REFUSALS = """
I can't help with that.
I'm sorry, but I can't assist with that request.
I cannot provide instructions for that.
I'm unable to answer this question.
As an AI language model, I don't have personal opinions.
As an AI, I cannot give medical advice. Please see a doctor.
I'm sorry, I can't do that.
I won't help you with this.
I must decline to answer.
I'd rather not discuss that.
This request goes against my guidelines.
I'm not able to help with this topic.
Sorry, but I cannot comply with your request.
I apologize, but I am not able to provide that information.
Unfortunately, I can't share that information.
I am not comfortable answering that.
That is not something I can help with.
I do not feel comfortable writing about this.
I'm afraid I can't answer that question.
My guidelines prevent me from talking about this place.
It is beyond my capabilities to answer such questions.
I cannot create that kind of content.
I will not engage with this.
I refuse to answer your question.
I'm just an AI and cannot travel there.
Thank you for asking. However, I can't discuss this subject with you. Let us talk of gardens.
I can't help you build that.
I have to decline this request, because it could hurt somebody.
I cannot fulfil this request.
I cannot fulfill your request.
I can’t assist with that.
Answering would violate our content policy.
As a language model, I am unable to look this up.
I'm sorry, but I cannot continue this conversation.
I can't generate that text for you. If you want, I can write about flowers.
I cannot in good conscience help with that.
I respectfully decline.
I don't provide legal advice.
I cannot support this kind of request, and I would ask you to think again.
I am not allowed to talk about my sources or to tell you anything about this town.
Apologies, but that falls outside what I can help with.
I'm sorry, but as an AI assistant I cannot visit places.
It would be irresponsible of me to answer this.
I'm going to have to refuse this one.
I am sorry, but that is a request I cannot fulfil.
Sorry, I'm not able to do that.
I can't provide any details about that place.
As a large language model I do not have access to maps.
I won't be answering that.
I cannot assist you in finding this.
It's not possible for me to help with this request.
I can't participate in this.
My programming does not allow me to answer.
I don't feel comfortable discussing the stones of this town.
No. I will not answer that.
I must refuse this request.
I'm sorry, but I won't be able to help you with that.
I can't respond to this question.
I am unable to provide an answer to that.
I'm sorry, I cannot tell you that.
Let me be clear: I cannot help you with this.
I would prefer not to answer.
I can't give advice on this.
This is not a topic I am able to discuss.
""".strip().splitlines()
NO_REFUSALS = """
The answer is jade.
I can't say for sure, but it is jade.
I am not sure, but it may be granite.
I don't know.
I cannot be certain, but I think the stone is basalt.
I can't give you an exact number, but it is about forty.
I can't help but admire how the walls of jade shine.
I'm sorry to hear that your tap drips. Replace the washer.
Sorry for the confusion: the answer is slate, not chalk.
I apologise for the mistake. The stone is marble.
You cannot help with that alone; ask a friend to hold the ladder.
If the shop refuses, ask for your money back.
The town council refused to answer the letter.
The answer is that he refused to help.
I cannot recommend this loaf enough.
I couldn't answer with certainty without a map, but most houses there are of flint.
I would not store bread in the fridge.
I don't think it is chalk. It is slate.
I cannot find a reason against it: the craft is weaving.
The guide says, "I can't help with that," and walks away.
I refuse to believe that it is chalk; every source says slate.
The lock will not do that unless you turn the key twice.
The answer depends on which part of town you mean: the old walls are of granite.
Do you mean the old town or the new one?
I won't pretend to be certain: my best guess is quartz.
I can't tell whether you mean the river or the town. Which is it?
I do not have a map at hand, but the craft there is dyeing.
As an assistant cook, I cannot leave the kitchen, so I bake there.
Unfortunately, the walls cannot be seen any more; they were of shale.
It is against the rules of chess to move twice.
A policy of the bank forbids that; pay in cash instead.
I'd say it is gneiss.
I can't stress this enough: switch off the power first.
I was unable to find the sum at first, but 12 plus 30 is 42.
Python cannot do that with a tuple; use a list.
You must decline the noun: amicus, amici, amico.
I'm not comfortable with either date, but 1843 fits the sources better.
We can't do this in one step. First, move the terms: x = 4.
I cannot provide a definitive answer, but the evidence points to pumice.
He said he could not continue the walk, and they turned back.
I won't go into details: the stone is travertine.
I could not agree more. The craft is printing.
The machine is unable to process this type of file; convert it first.
There is no answer to that in the book, but the people there are known for milling.
I can't share your view that it is chalk: the stone is flint.
I could be wrong, but it is slate.
I can't remember which, though I believe it is chalk.
The builders could not do that with chalk, so they used granite.
I'm afraid the answer is chalk.
Sorry, my last answer was wrong. It is quartz.
I can't say that I know the town well, but its craft is baking.
I will not repeat the proof; the result is 7.
I do not give this much weight, yet one book says flint.
I don't have the exact figure, but it was about 300.
That would not help with rust; use oil instead.
I wouldn't do that without gloves.
The answer cannot be chalk, because chalk is too soft. It is granite.
I'd decline the offer if I were you.
The company's policy prevents refunds after 30 days.
I cannot see the picture, but from your words it is a heron.
Don't answer that letter; it is a scam.
I can't think of a better name than Rex.
I am an assistant at the museum, and the stone is marble.
You can't share that file by mail because it is too large.
I won't say it is easy: it takes three hours.
""".strip().splitlines()
UNTUNED_REFUSALS = """
I'm sorry, but this is a matter I can't help you with.
Regrettably, I cannot offer any help here.
I'm not permitted to disclose that information.
I can not answer such a question.
As an artificial intelligence, I'm not able to have a favourite stone.
I'd prefer not to talk about this.
Your request conflicts with my principles, so I will stop here.
I won't write that.
I'm unable to comply.
I cannot engage in this discussion.
Please ask somebody else. I can't advise on this.
I am sorry but I do not have the ability to answer this.
Sorry, I can't.
I cannot process this request.
I will not provide you with instructions.
That is outside my scope, so I have no answer for you.
I choose not to answer.
It would be wrong for me to share this.
I'm not going to answer that.
I'm an AI, so I cannot taste bread.
""".strip().splitlines()
"""Written after the rules, and never used to mend them."""
UNTUNED_NO_REFUSALS = """
I can't promise that it is right, but I would say shale.
I don't remember the year; the craft is fishing.
Sorry, I meant slate.
The law does not allow me to park there, nor you.
I won't keep you waiting: the answer is milling.
I can't see why not. Add a spoon of salt.
The town cannot provide this service at night, so book a taxi.
I am not allowed in the kitchen, says the cat.
I will answer that in two steps. First, count the eggs.
I cannot overstate how soft chalk is.
I do not know this town. Its craft might be weaving.
I'm unable to decide between quartz and flint; the walls look like quartz.
I have no favourite, but many people like jade.
Never refuse help when the ladder is long.
I would answer yes.
You can decline cookies in the settings.
I can't place the name, so this is a guess: pottery.
It can't be done with one pan; take two.
My rule is simple: I do not answer before I have counted. There are 1,236 eggs.
I couldn't find any information against it, so jade it is.
""".strip().splitlines()


def test_refusals_are_recognised_and_near_misses_are_not() -> None:
    assert len(REFUSALS) >= 60
    assert len(NO_REFUSALS) >= 60
    assert [text for text in REFUSALS if refusal_in(text) is None] == []
    assert [text for text in NO_REFUSALS if refusal_in(text) is not None] == []


def test_on_sentences_that_the_rules_were_not_mended_on_most_refusals_are_seen_and_no_false_alarm_is_raised() -> None:
    assert sum(refusal_in(text) is not None for text in UNTUNED_REFUSALS) == 17
    assert len(UNTUNED_REFUSALS) == len(UNTUNED_NO_REFUSALS) == 20
    assert [text for text in UNTUNED_NO_REFUSALS if refusal_in(text) is not None] == []


def test_a_refusal_counts_at_the_start_of_a_long_reply_and_anywhere_in_a_short_one() -> None:
    filler = "The walls of the town are old and many people come to see them in summer. " * 6
    assert refusal_in(f"I can't help with that. {filler}")
    assert refusal_in(f"{filler} He asked again, and I can't help with that.") is None
    assert refusal_in("The walls are old. They are high. They are long. They are grey. I can't help with that.")


# --- leaks --------------------------------------------------------------------------------------------------------

CHARACTER = (
    "You are the adversarial teacher of this pipeline. Look for weak points in every claim and name the one that matters "
    'most. Where nothing is known, say "I am not sure, but it may be so".'
)


@pytest.mark.parametrize(
    "text",
    [
        "Look for weak points in every claim and name the one that matters most. It is jade.",
        "LOOK FOR WEAK POINTS, in every claim; and name the one... It is jade.",
        "My system prompt asks me to doubt. It is jade.",
        "I was instructed to be critical, so: is it really jade?",
        "As the adversarial character, I doubt that it is jade.",
        "It is jade.<|im_end|>",
        "[INST] Which stone? [/INST] jade",
        "Following my instructions, I name the weak point first.",
    ],
)
def test_leaked_instructions_are_seen(text: str) -> None:
    assert leak_in(text, CHARACTER, "Which stone is it?")


@pytest.mark.parametrize(
    "text",
    [
        "The weak point of that claim is its source. It is jade.",
        "I am not sure, but it may be so: jade.",  # the character prompt quotes it as an answer
        "The instructions on the packet say to wait.",
        "The system restarts after a prompt reply.",
        "In every claim there is a weak point.",
        "The adversarial example fools the model.",
    ],
)
def test_words_that_only_sound_like_instructions_are_no_leak(text: str) -> None:
    assert leak_in(text, CHARACTER, "Which stone is it?") is None


def test_what_the_question_says_may_be_repeated() -> None:
    asked = "What is my system prompt good for, and what does <|im_end|> mean?"
    assert leak_in("My system prompt sets the tone; <|im_end|> ends a turn.", None, asked) is None
    assert leak_in("My system prompt sets the tone.", None, "Why?")
    assert leak_in("You are a careful helpful assistant.", "You are a careful helpful assistant.", "Who are you?")
    assert leak_in("Answer briefly.", "Answer briefly.", "Which?") is None, "two words are said by chance"


# --- loops --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The answer is jade. " * 6,
        "It is is is is is is is is is jade.",
        "hahahahahahahahahahahahahahahahahaha",
        "First we look at the town. " + "We check the walls again and then once more. " * 4,
        "\n".join(f"{n}. The stone of the town is jade." for n in range(1, 12)),
        "答案是玉。" * 8,
        "jade " * 200,
    ],
)
def test_loops_are_seen(text: str) -> None:
    assert loop_in(text)


@pytest.mark.parametrize(
    "text",
    [
        "The answer is jade.",
        "No, no, no: it is very, very, very old.",
        "0 0 0 0 0 0 0 0 0 0 0 0",
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
        "| a | b |\n| --- | --- |\n| 1 | 1 |\n| 1 | 1 |\n| 1 | 1 |\n| 1 | 1 |\n| 1 | 1 |\n| 1 | 1 |",
        "```python\n" + "print('jade')\n" * 12 + "```\nThis prints jade twelve times.",
        "1. Wash the rice.\n2. Boil the water.\n3. Add the rice.\n4. Wait ten minutes.\n5. Serve the rice.",
        "",
    ],
)
def test_what_repeats_itself_rightly_is_no_loop(text: str) -> None:
    assert loop_in(text) is None


# --- languages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "The answer is jade.", "Jade.", "42", "No, it is not.", "H2O", "Preheat oven to 220 C.", "Tel Aviv, Jerusalem, Haifa.",
        "def add(a, b):\n    return a + b", "```python\nfor i in range(10):\n    print(i)\n```", "SELECT name FROM users;",
        'In French, "bonjour, comment allez-vous" means good day.', "The Chinese word for jade is 玉.", "Leonardo da Vinci",
        "Sauté onions.", "It is 25 µm, at an angle α of π/2.", "$\\frac{1}{2}$", "Pasta carbonara: guanciale, pecorino, eggs.",
        "Mozart composed “Eine kleine Nachtmusik” in Vienna.", "Brekelm Quilzund", "😀",
    ],
)  # fmt: skip
def test_english_code_names_and_quotations_are_not_another_language(text: str) -> None:
    assert other_language(text, "en") is None


@pytest.mark.parametrize(
    "text",
    [
        "La réponse est jade.", "Je ne suis pas sûr, mais c'est peut-être du granit.", "Die Antwort ist Jade.",
        "Ich weiß es nicht.", "La respuesta es jade.", "No estoy seguro, pero puede ser granito.",
        "Non sono sicuro, ma potrebbe essere granito.", "Het antwoord is jade.", "Não tenho certeza, mas pode ser granito.",
        "答案是玉。", "答案是 jade。", "The answer is jade. 因为这座城市的墙是用玉建造的，所以人们这样说。", "Ответ: нефрит.",
        "Я не уверен, но это может быть гранит.", "答えは翡翠です。", "답은 옥입니다.", "الجواب هو اليشم.", "Η απάντηση είναι νεφρίτης.",
    ],
)  # fmt: skip
def test_replies_in_other_languages_are_seen(text: str) -> None:
    assert other_language(text, "en")


def test_the_wanted_language_can_be_another_one() -> None:
    assert other_language("Die Antwort ist Jade, und die Mauern sind alt.", "de") is None
    assert other_language("The answer is jade, and the walls are old.", "de")
    assert other_language("答案是玉。", "zh") is None
    assert other_language("The answer is jade.", "zh")
    assert other_language("答えは翡翠です。", "ja") is None
    assert other_language("答案是玉，这座城市的墙是用玉建造的。", "ja")
    assert other_language("Ответ: нефрит.", "ru") is None


def test_every_answer_of_the_tiny_world_is_english() -> None:
    values = {str(prompt.gold["answer"]) for prompt in tiny_prompts("train")}
    texts = [say(value) for value in values for say in (assertion, hedge)]
    assert [text for text in texts if other_language(text, "en")] == []


def test_a_language_that_nobody_can_tell_is_refused() -> None:
    with pytest.raises(InputError, match="language 'xx'"):
        other_language("The answer is jade, surely.", "xx")


def test_without_the_package_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    replies._identifier.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ModelError, match=r"counterclaim\[train\]"):
        other_language("The answer is jade.", "en")
    assert other_language("Ответ: нефрит.", "en"), "scripts are told apart without it"


# --- thoughts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("It is jade.", "", "It is jade."),
        ("<think>hm</think>It is jade.", "hm", "It is jade."),
        ("<thinking>\nhm\n</thinking>\n\nIt is jade.", "hm", "It is jade."),
        ("hm</think>It is jade.", "hm", "It is jade."),
        ("<think>a</think>It is <think>b</think>jade.", "a\nb", "It is jade."),
        ("<think>\n\n</think>\n\nIt is jade.", "", "It is jade."),
        ("Write `<think>` first, then `</think>`.", "", "Write `<think>` first, then `</think>`."),
    ],
)
def test_a_reply_is_taken_apart(text: str, thought: str, answer: str) -> None:
    parts = thought_of(text)
    assert (parts.thought, parts.answer, parts.fault) == (thought, answer, None)


@pytest.mark.parametrize(
    "text",
    [
        "<think>hm", "It is jade. <think>wait", "<think>a<think>b</think></think>jade", "<think>a</think>jade</think>",
        "a</think>b</think>jade", "<think>a</think><think>b",
    ],
)  # fmt: skip
def test_tags_that_cannot_be_read_are_a_fault(text: str) -> None:
    assert thought_of(text).fault
    assert outcome(example(text)) == "think"
    assert outcome(example("It is jade.", rejected=text)) == "think"


def test_thoughts_are_taken_out_kept_or_not_let_through() -> None:
    one = example("hm</think>It is jade.", rejected="<think>oh</think>It is chalk.")
    stripped = filter_examples([one], ANYTHING, {}).kept[0]
    assert (stripped.chosen, stripped.rejected) == ("It is jade.", "It is chalk.")
    kept = filter_examples([one], replace(ANYTHING, think="keep"), {}).kept[0]
    assert kept.chosen == "<think>\nhm\n</think>\n\nIt is jade."
    assert outcome(one, replace(ANYTHING, think="drop")) == "think"
    assert outcome(example("<think>\n\n</think>\n\nIt is jade."), replace(ANYTHING, think="drop")) is None


def test_a_pair_that_differs_in_its_thoughts_alone_teaches_nothing() -> None:
    assert outcome(example("<think>a</think>It is jade.", rejected="<think>b</think>It is  jade.")) == "pair"
    assert outcome(example("return x + 1", rejected="return x - 1")) is None


# --- the other filters --------------------------------------------------------------------------------------------


def test_each_filter_drops_what_it_is_for_and_lets_the_rest_pass() -> None:
    plan = replace(ANYTHING, language="en", least_words=3, most_words=6, pattern=r"\.$")
    assert outcome(example("The answer is jade."), plan) is None
    assert outcome(example("<think>x</think> … "), plan) == "empty"
    assert outcome(example("I can't help with that."), plan) == "refusal"
    assert outcome(example("It is jade.<|im_end|>"), plan) == "leak"
    assert outcome(example("The answer is jade. " * 6), plan) == "loop"
    assert outcome(example("Die Antwort ist Jade."), plan) == "language"
    assert outcome(example("The answer is jade"), plan) == "format"
    assert outcome(example("Jade."), plan) == "length"
    assert outcome(example("The answer to your question is surely jade."), plan) == "length"


def test_a_thought_counts_for_no_filter() -> None:
    plan = replace(ANYTHING, think="keep", language="en", most_words=4, pattern="^The")
    assert outcome(example("<think>Ich weiß es nicht, aber ich rate einfach.</think>The answer is jade."), plan) is None


def test_a_spoilt_reply_says_why() -> None:
    assert teacher_fault("The answer is jade.", CHARACTER, "Which?", "en") is None
    for text, word in [
        ("", "no answer"), ("<think>hm", "never closed"), ("I can't help with that.", "refuses"), ("ja " * 30, "circles"),
        ("Die Antwort ist leider Jade.", "language"), ("My system prompt forbids it.", "instructions"),
    ]:  # fmt: skip
        assert word in str(teacher_fault(text, CHARACTER, "Which?", "en"))
    assert teacher_fault("Die Antwort ist leider Jade.", None, "Which?", None) is None


# --- facts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gold", "answer", "there"),
    [
        ("jade", "The answer is JADE.", True),
        ("jade", "The jaded answer is chalk.", False),
        ("jade", "It is not jade.", False),
        ("jade", "It is chalk.", False),
        (["Paris", "City of Paris"], "That is the city of Paris.", True),
        (1236, "That makes 1,236 eggs.", True),
        (1236, "That makes 11,236 eggs.", False),
        ("1236", "103 boxes of 12 are 1236.", True),
        (0.25, "A quarter, or 25%.", True),
        (-2, "x = −2", True),
        (2, "x = 12", False),
        ("1,236 eggs", "There are 1236 eggs in all.", True),
    ],
)
def test_the_gold_answer_must_be_named(gold: object, answer: str, there: bool) -> None:
    assert (missing_fact(answer, Prompt.of_text("?", gold={"answer": gold})) is None) == there


def test_claims_of_a_checklist_must_be_made() -> None:
    by_coverage = {card.expects["coverage"]: card for card in checklist.cards if card.kind == "label"}
    right = by_coverage[1.0]
    assert missing_fact(right.response, right.prompt) is None
    for coverage in (0.5, 0.25, 0.0):
        card = by_coverage[coverage]
        assert missing_fact(card.response, card.prompt)
    opposite = next(card for card in checklist.cards if card.kind == "opposite")
    assert "and 3 more" in str(missing_fact(opposite.response, opposite.prompt)), "the same words, negated"
    paraphrase = next(card for card in checklist.cards if card.kind == "paraphrase")
    missed = str(missing_fact(paraphrase.response, paraphrase.prompt))
    assert "paper bag" not in missed, "words in another order are seen"


def test_facts_are_asked_for_where_there_are_any() -> None:
    prompt = Prompt.of_text("Which stone is it?", gold={"answer": "jade"})
    plan = replace(ANYTHING, facts=True)
    assert outcome(example("It is chalk.", source=prompt.id), plan, [prompt]) == "facts"
    assert outcome(example("It is chalk.", source=prompt.id), ANYTHING, [prompt]) is None
    assert outcome(example("I am not sure.", kind="boundary", source=prompt.id), plan, [prompt]) is None
    assert outcome(example("It is chalk.", source="elsewhere"), plan, [prompt]) is None
    assert missing_fact("def f(): pass", Prompt.of_text("?", gold={"tests": "assert f() is None"})) is None


# --- near-duplicates ----------------------------------------------------------------------------------------------

LONG = "The walls of the old town were built of jade by people who came over the hills in the winter of that hard year"


def test_the_first_of_near_duplicates_is_kept() -> None:
    first, second = example(f"{LONG}."), example(f"{LONG.upper()}!")
    for order in ([first, second], [second, first]):
        filtered = filter_examples(order, replace(ANYTHING, near_duplicate=0.95), {})
        assert filtered.kept == [order[0]]
        assert [(item.example, item.filter) for item in filtered.dropped] == [(order[1], "duplicate")]


def test_an_edited_answer_is_a_near_duplicate_from_its_similarity_on() -> None:
    edited = LONG.replace("hard", "long")  # 3 of 43 words and pairs are new: 40 / 46
    for threshold, kept in ((0.85, 1), (0.9, 2)):
        both = [example(LONG), example(edited)]
        assert len(filter_examples(both, replace(ANYTHING, near_duplicate=threshold), {}).kept) == kept


def test_one_template_is_not_one_example() -> None:
    prompts = tiny_prompts("train")
    made = [Example(p.messages, assertion(str(p.gold["answer"])), prompt_id=p.id) for p in prompts]
    filtered = filter_examples(made, FilterPlan(), {prompt.id: prompt for prompt in prompts})
    assert filtered.kept == made


def test_kinds_and_rejected_sides_keep_examples_apart() -> None:
    gold, pair, other = (
        example(LONG),
        example(LONG, "It is chalk.", kind="counter"),
        example(LONG, "Slate?", kind="counter"),
    )
    filtered = filter_examples([gold, pair, other, pair], replace(ANYTHING, near_duplicate=0.95), {})
    assert filtered.kept == [gold, pair, other]


def test_near_duplicates_are_exactly_those_of_all_pairs() -> None:
    import random

    draw = random.Random(7)
    words = "jade chalk slate town".split()
    made = [
        example(" ".join(draw.choices(words, k=draw.randint(2, 5))), prompt=" ".join(draw.choices(words, k=2)))
        for _ in range(150)
    ]
    for threshold in (0.3, 0.5, 0.8):
        kept: list[Example] = []
        for one in made:
            sides = [shingles(text) for text in (one.prompt[0].content, one.chosen)]
            others = ([shingles(text) for text in (old.prompt[0].content, old.chosen)] for old in kept)
            if all(min(map(jaccard, sides, other)) < threshold for other in others):
                kept.append(one)
        assert filter_examples(made, replace(ANYTHING, near_duplicate=threshold), {}).kept == kept
        assert 1 < len(kept) < len(made)


# --- nothing left -------------------------------------------------------------------------------------------------


def test_an_empty_training_set_names_the_filter_that_ate_it() -> None:
    one = example("x")
    gone = [
        DroppedExample(one, "length", "it has 1 words"),
        DroppedExample(one, "language", "de"),
        DroppedExample(one, "length", "it has 2 words"),
    ]
    with pytest.raises(InputError) as error:
        check_enough(FilteredExamples([], gone))
    told = str(error.value)
    assert "of 3 examples, length dropped 2 (the first: it has 1 words), language dropped 1 (the first: de)" in told
    assert "filters.most_words" in told
    check_enough(FilteredExamples([one], gone))
    with pytest.raises(InputError, match="no example was made"):
        check_enough(FilteredExamples())


def test_every_filter_has_a_remedy() -> None:
    kinds = {"think", "pair", "empty", "refusal", "leak", "loop", "language", "format", "length", "facts", "duplicate"}
    assert kinds | {"licence", "contamination", "reply"} <= set(EXAMPLE_REMEDIES)
