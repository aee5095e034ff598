"""From a pipeline to its calls, and from replies to training examples."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from counterclaim.lab.answers import conversation
from counterclaim.lab.config import PipelinePlan, StagePlan
from counterclaim.lab.scorers.rules import ASSERT, HEDGE, delivery_of
from counterclaim.lab.synthesis.calls import CallStep, Replies, StageReply
from counterclaim.lab.synthesis.filters import STUDENT, DroppedExample, filter_examples
from counterclaim.lab.synthesis.replies import teacher_fault
from counterclaim.records import Call, Decode, Example, ExampleKind, Message, Prompt, Variant
from counterclaim.text import words_of

if TYPE_CHECKING:
    from jinja2 import Template

LENGTH = "length"
STYLES = (
    "in plain words and short sentences",
    "formally, as an official letter would",
    "warmly, as a good friend would",
    "soberly, as an encyclopedia would",
    "as one explains it to a child",
    "briskly, without a word that could be missed",
    "in other words and in another order",
    "as one says it aloud to somebody in the room",
)
"""Styles among which each style-randomised variant draws its own."""
CORRECTIONS = (
    "No, that is not right. What is the right answer?",
    "You made a mistake there. Please correct it.",
    "I checked this, and it is wrong. Can you mend it?",
    "This is not correct. Think about it again.",
)
"""Turns that say that an answer is wrong. None of them is the scripted turn of the scorer ``recovery``: a model that was
trained on these must not have seen the test's own words."""
LENGTH_TOLERANCE = 0.25
"""Share of the student's number of words by which a length-matched answer may differ from it."""


def is_boundary(prompt: Prompt) -> bool:
    """Whether hedging or asking back is right: by the tag ``boundary``, by ``gold.hedge``, or as a tricky one of ``mcas``."""
    return bool({"boundary", "kind:tricky"} & set(prompt.tags)) or prompt.gold.get("hedge") is True


def is_wanted(prompt: Prompt, plan: PipelinePlan) -> bool:
    """Whether anything can be made of a prompt."""
    return bool(
        set(plan.products) & ({"boundary", "counter"} if _bounds(prompt, plan) else {"gold", "failure", "counter"})
    )


def _bounds(prompt: Prompt, plan: PipelinePlan) -> bool:
    """Whether a prompt is treated as a boundary case; where none are wanted, it is a question like any other."""
    return "boundary" in plan.products and is_boundary(prompt)


# --- calls --------------------------------------------------------------------------------------------------------


def steps_of(plan: PipelinePlan) -> list[CallStep]:
    """Every call that a prompt may need, each after those that it needs: the stages, the student, the variants."""
    steps = [_stage_step(stage, plan) for stage in plan.stages]
    if plan.student is not None and ({"failure", "counter"} & set(plan.products) or LENGTH in plan.variants):
        steps.append(_student_step(plan))
    steps += [_style_step(number, plan) for number in range(plan.variants.get("style", 0))]
    if LENGTH in plan.variants:
        steps.append(_length_step(plan))
    return steps


def _stage_step(stage: StagePlan, plan: PipelinePlan) -> CallStep:
    template = None if stage.instruction is None else _template(stage.instruction)

    def request(prompt: Prompt, replies: Replies) -> tuple[Message, ...]:
        question, seen = _last_turn(prompt), {name: replies[name].visible for name in stage.sees}
        if template is not None:
            return _conversation(prompt, template.render(prompt=question, **seen), stage.decode)
        return _conversation(prompt, _sections(question, seen), stage.decode)

    return _teacher_step(stage.name, stage, plan, request, stage.sees)


def _style_step(number: int, plan: PipelinePlan) -> CallStep:
    stage = plan.last

    def request(prompt: Prompt, replies: Replies) -> tuple[Message, ...] | None:
        if not _is_fit_gold(prompt, replies, plan):
            return None
        style = random.Random(f"{plan.seed} style {prompt.id}").sample(STYLES, plan.variants["style"])[number]
        return _rewording(prompt, replies, style, stage)

    return _teacher_step(_style_name(number), stage, plan, request, (stage.name,))


def _style_name(number: int) -> str:
    return f"style_{number + 1}"


def _length_step(plan: PipelinePlan) -> CallStep:
    stage = plan.last

    def request(prompt: Prompt, replies: Replies) -> tuple[Message, ...] | None:
        wanted = len(words_of(replies[STUDENT].visible))
        if not wanted or not _is_fit_gold(prompt, replies, plan) or _is_as_long(replies[stage.name].visible, wanted):
            return None
        return _rewording(prompt, replies, f"in about {wanted} words", stage)

    return _teacher_step(LENGTH, stage, plan, request, (stage.name, STUDENT))


def _student_step(plan: PipelinePlan) -> CallStep:
    assert plan.student is not None
    decode = plan.student_decode

    def request(prompt: Prompt, replies: Replies) -> tuple[Message, ...] | None:
        if _bounds(prompt, plan) and "counter" not in plan.products:
            return None
        return _conversation(prompt, _last_turn(prompt), decode)

    prices = plan.runtime.price_in, plan.runtime.price_out
    return CallStep(STUDENT, plan.student, decode, request, price_in=prices[0], price_out=prices[1])


Request = Callable[[Prompt, Replies], tuple[Message, ...] | None]


def _teacher_step(
    name: str, stage: StagePlan, plan: PipelinePlan, request: Request, after: tuple[str, ...]
) -> CallStep:
    def fault_in(prompt: Prompt, text: str) -> str | None:
        return teacher_fault(text, stage.decode.system_prompt, prompt.text, plan.filters.language)

    return CallStep(
        name=name,
        model=stage.model,
        decode=stage.decode,
        request=request,
        after=after,
        licence=stage.licence,
        price_in=plan.runtime.price_in if stage.price_in is None else stage.price_in,
        price_out=plan.runtime.price_out if stage.price_out is None else stage.price_out,
        fault_in=fault_in,
    )


def _template(instruction: str) -> Template:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    return ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(instruction)


def _last_turn(prompt: Prompt) -> str:
    """What is asked in the end; the turns before it stay turns."""
    return prompt.messages[-1].content


def _sections(question: str, seen: Mapping[str, str]) -> str:
    return "\n\n".join([question, *(f"## {name}\n{text}" for name, text in seen.items())])


def _conversation(prompt: Prompt, last: str, decode: Decode) -> tuple[Message, ...]:
    """The prompt with another last turn, and the character prompt before it."""
    turns = (*prompt.messages[:-1], Message(prompt.messages[-1].role, last))
    return conversation(replace(prompt, messages=turns), decode)


def _rewording(prompt: Prompt, replies: Replies, how: str, stage: StagePlan) -> tuple[Message, ...]:
    text = _sections(_last_turn(prompt), {"answer": replies[stage.name].visible})
    order = (
        f"Reword the answer above {how}. Keep every fact in it and every doubt, add none, and reply with the new wording "
        "only."
    )
    return _conversation(prompt, f"{text}\n\n{order}", stage.decode)


def _is_fit_gold(prompt: Prompt, replies: Replies, plan: PipelinePlan) -> bool:
    """Whether a gold answer is worth being reworded: one that the filters drop is not paid for again."""
    if _bounds(prompt, plan):
        return False
    plain = Example(prompt.messages, replies[plan.final].call.text, prompt_id=prompt.id)
    return bool(filter_examples([plain], plan.filters, {prompt.id: prompt}).kept)


def _is_as_long(text: str, wanted: int) -> bool:
    return abs(len(words_of(text)) - wanted) <= LENGTH_TOLERANCE * wanted


# --- examples -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OracleScores:
    """What the oracle says of one prompt's answers: 1 is right, 0 wrong; None where it cannot say."""

    gold: float | None = None
    student: float | None = None

    @property
    def student_is_worse(self) -> bool:
        """Whether there is something to prefer."""
        return self.gold is not None and self.student is not None and self.student < self.gold


def examples_of(
    prompt: Prompt, replies: Replies, scores: OracleScores, plan: PipelinePlan
) -> Iterator[Example | DroppedExample]:
    """Everything that is made of one prompt, and what could have been and is not used, with the reason."""
    for stage in plan.stages:
        if (reply := replies.get(stage.name)) is not None and reply.fault is not None:
            yield _no_example(prompt, stage.name, stage, reply)
            return
    if _bounds(prompt, plan):
        yield from _boundary(prompt, replies, plan)
        return
    gold = _example(prompt, replies, plan)
    if scores.gold is not None and scores.gold < 1 and plan.filters.facts:
        yield DroppedExample(gold, "facts", f"the oracle {plan.oracle} says that it is not right", prompt.id)
        return
    if "gold" in plan.products:
        yield gold
        yield from _variants(prompt, replies, plan)
    wrong = replies.get(STUDENT)
    if scores.student_is_worse and wrong is not None and wrong.fault is None and wrong.visible:
        if "failure" in plan.products and scores.student == 0:
            correction = random.Random(f"{plan.seed} correction {prompt.id}").choice(CORRECTIONS)
            turns = (*prompt.messages, Message("assistant", wrong.visible), Message("user", correction))
            yield _example(prompt, replies, plan, "failure", turns=turns, also=(STUDENT,))
        if "counter" in plan.products:
            yield _pair(prompt, replies, plan)


def _no_example(prompt: Prompt, name: str, stage: StagePlan, reply: StageReply) -> DroppedExample:
    return DroppedExample(None, "reply", f"{name} ({stage.model.name}): {reply.fault}", prompt.id)


def _boundary(prompt: Prompt, replies: Replies, plan: PipelinePlan) -> Iterator[Example | DroppedExample]:
    example = _example(prompt, replies, plan, "boundary")
    if delivery_of(replies[plan.final].visible) != HEDGE:
        yield DroppedExample(example, "boundary", "it asserts where a hedge or a question back is right", prompt.id)
        return
    yield example
    student = replies.get(STUDENT)
    if student is not None and student.fault is None and student.visible and delivery_of(student.visible) == ASSERT:
        yield _pair(prompt, replies, plan)


def _variants(prompt: Prompt, replies: Replies, plan: PipelinePlan) -> Iterator[Example | DroppedExample]:
    for name in (*(_style_name(number) for number in range(plan.variants.get("style", 0))), LENGTH):
        reply = replies.get(name)
        if reply is None:
            continue
        variant: Variant = "length" if name == LENGTH else "style"
        if reply.fault is not None:
            yield _no_example(prompt, name, plan.last, reply)
            continue
        also = (STUDENT, name) if variant == "length" else (name,)
        example = _example(prompt, replies, plan, variant=variant, chosen=name, also=also)
        wanted = len(words_of(replies[STUDENT].visible)) if variant == "length" else 0
        if variant == "length" and not _is_as_long(reply.visible, wanted):
            why = f"it has {len(words_of(reply.visible))} words, and the student's answer {wanted}"
            yield DroppedExample(example, "length", why, prompt.id)
        else:
            yield example


def _pair(prompt: Prompt, replies: Replies, plan: PipelinePlan) -> Example | DroppedExample:
    """A preference pair; the two sides can be equal only where an oracle contradicts itself."""
    chosen, rejected = replies[plan.final].call.text, replies[STUDENT].call.text
    if chosen.strip() == rejected.strip():
        return DroppedExample(None, "pair", "both sides of the pair say the same", prompt.id)
    return _example(prompt, replies, plan, "counter", rejected=rejected, also=(STUDENT,))


def _example(
    prompt: Prompt,
    replies: Replies,
    plan: PipelinePlan,
    kind: ExampleKind = "gold",
    variant: Variant = "plain",
    *,
    turns: Sequence[Message] = (),
    chosen: str | None = None,
    rejected: str | None = None,
    also: Sequence[str] = (),
) -> Example:
    """An example with the thoughts still in it: what becomes of them the filters say."""
    calls: list[Call] = [replies[name].call for name in (*(stage.name for stage in plan.stages), *also)]
    text = replies[chosen or plan.final].call.text
    return Example(tuple(turns) or prompt.messages, text, rejected, kind, variant, prompt.id, tuple(calls))
