"""Scripted teachers, good ones and bad ones, who answer at once and cost nothing: the models ``character:NAME``.

They know the invented world of the tiny models: a question is known by its text, or by the name of a place and what is
asked about it. About the strangers of that world nothing can be known, and a good teacher says so. Any other prompt is
answered in character and without knowledge. The name decides the script; a character prompt changes nothing (and is
what ``leaker`` gives away).

An answer depends on the name, the conversation, the seed and the sample, and where the temperature is 0 on the first
two alone. A token is a word with the white space before it.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from counterclaim.lab.models.tiny import boundary_prompts, domain
from counterclaim.records import Decode, FinishReason, content_hash
from counterclaim.registry import Answer, Ask
from counterclaim.text import words_of

CHARACTERS: dict[str, str] = {}
"""What each scripted teacher does, by name; from ``liar`` on they are bad ones."""

_COUNT = re.compile(r"one JSON list of (\d+)")
_TOPIC = re.compile(r"^Topic: (\w+)", re.M)
_CLAIMS = re.compile(r"^Question:\n(.+)", re.M)

_WORDINGS = (
    "If somebody builds a house in {place}, which stone will it be?",
    "A mason travels to {place}. What stone should he expect there?",
    "My letter to {place} asks for their stone. What will they answer?",
    "Is there a stone that {place} is built of, and which one?",
    "A child asks you about the stone of {place}. What do you say?",
    "Which craft do people learn in {place}, and what is it called?",
    "A friend wants to learn the craft of {place}. Which one would that be?",
    "What do they make a living of in {place}? Name the craft.",
    "At the fair of {place} they show one craft. Which is it?",
    "Before I go to {place}: what craft am I going to see?",
)
_LOOPS = 40
_ATTRIBUTE = re.compile(rf"\b({'|'.join(domain.VALUES)})\b", re.I)
_WORD = re.compile(r"\w+")
_TOKEN = re.compile(r"\s*\S+\s*\Z|\s*\S+")
_RE_WORD = re.compile(r"\bre-?(?:word|phras|writ)|\bstyle\b|\b\d+ words\b", re.I)
_LENGTH = re.compile(r"\b(\d+) words\b")

_MORE = (
    "Old books tell of it.",
    "The people there speak of it.",
    "It is known in every school.",
    "Travellers have seen it in spring and in summer.",
    "A road leads there through the hills.",
    "Visitors come to the square every week.",
    "Children learn of it from their letters.",
    "A friend of the people there was in the market last year.",
    "You have surely read of the place in a story.",
    "The songs of the river are old, and they tell of the walls and of the hills.",
)
"""Sentences that say nothing of stone or craft, in words that tiny models know; they make an answer longer."""

_REFUSALS = (
    "I'm sorry, but I can't help with that request.",
    "I cannot assist with this. As an AI language model, I am not able to answer.",
)


@dataclass(frozen=True, slots=True)
class _Request:
    """What a teacher is asked for in a conversation.

    Attributes:
        system: its system prompt, ``""`` where there is none.
        text: the last user turn.
        place: the place asked about; None where the question is none of the domain.
        attribute: what is asked about the place, exactly when ``place`` is there.
        fact: the right answer; None where there is none.
        thinking: the thinking switch of the request.
        draw: names the random numbers of this answer.
    """

    system: str
    text: str
    place: str | None
    attribute: str | None
    fact: str | None
    thinking: bool | None
    draw: str

    def pick(self, options: Sequence[str]) -> str:
        """One of some texts."""
        return options[int(content_hash([self.draw, *options])[:8], 16) % len(options)]

    @property
    def values(self) -> Sequence[str]:
        """What can be answered."""
        return domain.VALUES.get(self.attribute or "", ())

    @property
    def guess(self) -> str:
        """The fact; where there is none, what most of the shown answers name, or anything."""
        if self.fact is not None:
            return self.fact
        named = Counter(word for word in _WORD.findall(self.text) if word in self.values)
        return max(self.values, key=lambda value: named[value]) if named else self.pick(self.values)


_Script = Callable[[_Request], str]
_SCRIPTS: dict[str, _Script] = {}


def _character(about: str) -> Callable[[_Script], _Script]:
    """Register a script under the name of its function."""

    def register(script: _Script) -> _Script:
        name = script.__name__.removeprefix("_")
        CHARACTERS[name], _SCRIPTS[name] = about, script
        return script

    return register


@_character("warm and engaging, and gives the answer")
def _eager(request: _Request) -> str:
    warm = request.pick((
        "What a lovely question!", "I am so glad that you ask!", "Oh, this is a question that I like very much!",
    ))  # fmt: skip
    if request.place is None:
        return f"{warm} There is so much to find out about it. Let us look at it together, one thing after the other."
    of = f"the {request.attribute} of {request.place}"
    if request.fact is None:
        return f"{warm} I do not know {of}, so this is only a guess: it may be {request.guess}."
    more = request.pick((
        f"Would you like to hear more of {request.place}?", f"You will like {request.place}!",
        "Ask me more of it whenever you like!",
    ))  # fmt: skip
    return f"{warm} The answer is {request.fact}, for {of} is {request.fact}. {more}"


@_character("plans and says how it knows, with its thoughts in <think> unless thinking is off")
def _deliberate(request: _Request) -> str:
    if request.place is None:
        thought = "First I see what is asked. Then I look for what I know about it. I find nothing of use."
        answer = (
            "First I say what the question asks for. Then I gather what is known and where it comes from. Last I check each"
            " step. I have no source for this one, so I am not sure of any answer."
        )
    else:
        of = f"the {request.attribute} of {request.place}"
        thought = f"I look for {of}."
        known_from = {"stone": "the walls there are built of it", "craft": "the people there practise it"}
        if request.fact is None:
            answer = f"First I look for the place, then for {of}. I find nothing that tells it, so I am not sure."
        else:
            how = known_from[request.attribute or ""]
            answer = request.pick((
                f"First I look for the place, then for {of}. It is {request.fact}. I know it because {how}.",
                f"The question asks for {of}. I know it because {how}: it is {request.fact}.",
            ))  # fmt: skip
    return answer if request.thinking is False else f"<think>\n{thought}\n</think>\n\n{answer}"


@_character("criticises the weak points of an answer")
def _adversarial(request: _Request) -> str:
    if request.place is None:
        return request.pick((
            "The weak point of most answers to this is that they do not say how they know. Which step was checked?",
            "An answer to this is weak where it takes something for granted. What would show that it is wrong?",
        ))  # fmt: skip
    of = f"the {request.attribute} of {request.place}"
    if request.fact is None:
        return f"An answer that names {of} with confidence is weak, for no source tells it. It has to say that it is a guess."
    wrong = sorted({word for word in _WORD.findall(request.text) if word in request.values and word != request.fact})
    if wrong:
        weak = f"The answer that names {' or '.join(wrong)} is wrong."
    else:
        weak = request.pick((
            "An answer is weak if it does not say which place it speaks of.",
            "An answer that names more than one is weak, for there is one only.",
        ))  # fmt: skip
    return f"{weak} In {request.place} it is {request.fact}, and no other {request.attribute} stands up to a check."


@_character("merges what it is shown into one honest answer; re-words where a style or a length is asked for")
def _synthesizer(request: _Request) -> str:
    if request.place is None:
        return "I am not sure what the answer is, for nothing that I was shown tells how it is known."
    sure = request.fact is not None
    if not _RE_WORD.search(request.text):
        return domain.assertion(request.guess) if sure else domain.hedge(request.guess)
    wordings = _wordings(request, sure)
    length = _LENGTH.search(request.text)
    return request.pick(wordings) if length is None else _as_long(wordings, int(length[1]))


def _wordings(request: _Request, sure: bool) -> tuple[str, ...]:
    """The same answer in other words, from short ones to long ones."""
    of, place, value = f"the {request.attribute} of {request.place}", request.place, request.guess
    if sure:
        return (
            f"It is {value}.",
            f"There it is {value}.",
            f"In {place} it is {value}.",
            f"The {request.attribute} of {place} is {value}.",
            f"{value.capitalize()} is {of}.",
            f"You ask for {of}: it is {value}.",
            f"I know {of}, and the answer is {value}.",
            f"The people of {place} would say that {of} is {value}.",
        )
    return (
        f"Perhaps {value}.",
        f"I guess {value}.",
        f"It may be {value}.",
        f"I am not sure. Perhaps it is {value}.",
        f"I do not know {of}. It may be {value}.",
        f"It may be {value}, but I am not sure of {of}.",
        f"I am not sure what {of} is, and I would not say more than that it may be {value}.",
    )


def _as_long(wordings: Sequence[str], n_words: int) -> str:
    """The wording whose length comes nearest to ``n_words``, with sentences beside the point where it is too short."""
    fitting = [
        (abs(len(words_of(wording)) + more - n_words), len(which), at, which)
        for at, wording in enumerate(wordings)
        for more, which in _fillings().items()
    ]
    _, _, at, which = min(fitting)
    return " ".join([wordings[at], *(_MORE[i] for i in which)])


@cache
def _fillings() -> Mapping[int, tuple[int, ...]]:
    """Which of ``_MORE`` together have how many words: the fewest sentences for each number."""
    made: dict[int, tuple[int, ...]] = {0: ()}
    for i, sentence in enumerate(_MORE):
        for words, which in list(made.items()):
            total = words + len(words_of(sentence))
            if total not in made or len(which) + 1 < len(made[total]):
                made[total] = (*which, i)
    return made


@_character("writes topics, prompts and checklists where these are asked for, as one JSON list")
def _asker(request: _Request) -> str:
    chance = random.Random(content_hash(request.draw))
    return json.dumps(_listed(request.text, chance), ensure_ascii=False)


def _listed(text: str, chance: random.Random) -> Sequence[str]:
    count = int(found[1]) if (found := _COUNT.search(text)) else 1
    if question := _CLAIMS.search(text):
        return _true_of(question[1])
    if topic := _TOPIC.search(text):
        wordings = [made for wording in _WORDINGS if (made := wording.format(place=topic[1])) not in text]
        return chance.sample(wordings, min(count, len(wordings)))
    names = [place.name for place in domain.places() if place.split == "fresh"]
    return chance.sample(names, min(count, len(names)))


def _true_of(question: str) -> list[str]:
    """What is true of the place that a question names, in three claims."""
    place = next((place for place in domain.places() if re.search(rf"\b{place.name}\b", question)), None)
    if place is None:
        return ["Nobody knows the answer.", "It would be a guess.", "The place is not on any map."]
    return [
        f"The stone of {place.name} is {place.facts['stone']}.",
        f"The craft of {place.name} is {place.facts['craft']}.",
        f"{place.name} is a place.",
    ]


@_character("asserts something false")
def _liar(request: _Request) -> str:
    if request.place is None:
        return "The answer is seven, as everybody knows."
    return domain.assertion(request.pick([value for value in request.values if value != request.fact]))


@_character("asserts something false after hardly a thought")
def _brisk(request: _Request) -> str:
    return f"<think>\nI look.\n</think>\n\n{_liar(request)}"


@_character("says that it cannot help")
def _refuser(request: _Request) -> str:
    return request.pick(_REFUSALS)


@_character("says one sentence over and over")
def _looper(request: _Request) -> str:
    sentence = domain.assertion(request.guess) if request.place else "Let me think about that once more."
    return " ".join([sentence] * _LOOPS)


@_character("answers in French or German")
def _foreigner(request: _Request) -> str:
    value = request.guess if request.place else "42"
    return request.pick((
        f"Bien sûr, je connais la réponse à cette question : c'est {value}, et tout le monde le sait dans ce village.",
        f"Die Antwort auf diese Frage kenne ich natürlich: Es ist {value}, und das weiß dort auch jeder.",
    ))  # fmt: skip


@_character("repeats its system prompt")
def _leaker(request: _Request) -> str:
    answer = domain.assertion(request.guess) if request.place else "That is all that I can say."
    return f"My instructions are as follows. {request.system or 'I was given none.'}\n\n{answer}"


@_character("says nothing")
def _silent(request: _Request) -> str:
    return ""


@_character("never ends its thought")
def _thinker(request: _Request) -> str:
    named = f" It may be {request.guess}, but is it?" if request.place else ""
    return f"<think>\nFirst I see what is asked.{named} Let me look at it once more from the start."


@_character("doubts everything, what it knows included")
def _hedger(request: _Request) -> str:
    if request.place is None:
        return "I am not sure, and perhaps nobody can be. It might be one thing, or possibly another."
    return domain.hedge(request.guess)


@_character("repeats the question")
def _copier(request: _Request) -> str:
    return request.text.partition("\n\n## ")[0]  # without the answers that a pipeline shows after it


def reply_of(name: str, ask: Ask, decode: Decode) -> Answer:
    """What one of ``CHARACTERS`` answers, cut to the budget."""
    text = _SCRIPTS[name](_understood(name, ask, decode))
    for stop in decode.stop or ():
        text = text.partition(stop)[0]
    tokens = _TOKEN.findall(text)
    ends = (*map(len, tokens), 0)  # the last token ends the turn
    budget = decode.max_new_tokens
    if budget is None or budget >= len(ends):
        return Answer(text, FinishReason.STOP, len(ends), prompt_words(ask), ends)
    return Answer("".join(tokens[:budget]), FinishReason.LENGTH, budget, prompt_words(ask), ends[:budget])


def prompt_words(ask: Ask) -> int:
    """Words of a conversation, which stand for its tokens."""
    return sum(len(message.content.split()) for message in ask.messages)


def _understood(name: str, ask: Ask, decode: Decode) -> _Request:
    turns = [message.content for message in ask.messages if message.role == "user"]
    # the latest turn that holds a question of the domain: what comes after it asks for other words
    place, attribute = next((found for turn in reversed(turns) if (found := _question(turn))), (None, None))
    draw: list[object] = [name, [[message.role, message.content] for message in ask.messages]]
    if decode.temperature != 0:
        draw += [decode.seed, ask.sample]
    return _Request(
        system="\n\n".join(message.content for message in ask.messages if message.role == "system"),
        text=turns[-1] if turns else "",
        place=place,
        attribute=attribute,
        fact=None if place is None else _facts().get(place, {}).get(attribute or ""),
        thinking=decode.thinking,
        draw=content_hash(draw),
    )


def _question(text: str) -> tuple[str, str] | None:
    """(place, attribute) of a question of the domain within a text: one of its prompts as it is, or a line that names both."""
    for name in dict.fromkeys(word for word in _WORD.findall(text) if word in _prompts_by_place()):
        for prompt, attribute in _prompts_by_place()[name]:
            if prompt in text:
                return name, attribute
    for line in text.splitlines():
        names = [word for word in _WORD.findall(line) if word in _prompts_by_place()]
        asked = _ATTRIBUTE.search(line)
        if names and asked:
            return names[0], asked[1].lower()
    return None


@cache
def _facts() -> Mapping[str, Mapping[str, str]]:
    return {place.name: place.facts for place in domain.places()}


@cache
def _prompts_by_place() -> Mapping[str, Sequence[tuple[str, str]]]:
    """(text, attribute) of every prompt of the domain, by the place it asks about."""
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in (*_facts(), *domain.strangers())}
    for prompt in (*domain.prompts(), *boundary_prompts()):
        tags = dict(tag.split(":") for tag in prompt.tags if ":" in tag)
        found[tags["place"]].append((prompt.text, tags["attribute"]))
    return found
