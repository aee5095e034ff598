"""Planted judges: one that follows simple rules honestly, and six that are bad in one known way each.

The honest one reads the forms of the built-in scorers by surface signs (hedge words, shared words, question marks).
It knows nothing of the world beyond a product of two numbers, and says so of a form that it does not know. It exists so
that everything can be tried offline, and so that the validation of judges has one that it must let pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from counterclaim.errors import ModelError
from counterclaim.lab.scorers.judges import listed_options, material_of
from counterclaim.lab.scorers.rubrics import CONDUCT
from counterclaim.records import Json, Message, content_hash
from counterclaim.text import content_words, style

Values = dict[str, Json]
Options = Mapping[str, Sequence[Json]]

_TO_THE_JUDGE = re.compile(r"ignore all earlier|^end response|^system:|to the judge\b", re.I)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_NEGATED = re.compile(r"\b(?:not|never|no)\b|n't\b", re.I)
_CHECKS = re.compile(r"\blet me (?:double-)?check\b|\bto verify\b", re.I)
_STEM = 5  # letters of a word that its other forms share, roughly


def _sentences(text: str) -> list[str]:
    return [line for part in _SENTENCE.findall(text) if (line := part.strip())]


def _without_orders(text: str) -> str:
    """A response without the sentences that speak to the judge."""
    return _SENTENCE.sub(lambda match: "" if _TO_THE_JUDGE.search(match[0].strip()) else match[0], text)


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in content_words(text)}


def _hedges(text: str) -> int:
    numbers = style(text)
    return round(numbers["hedges"] * numbers["n_words"] / 100)


def _delivery(parts: Mapping[str, str]) -> Values:
    return {"delivery": "hedge" if _hedges(parts["response"]) else "assert"}


def _claim(parts: Mapping[str, str]) -> Values:
    wanted, denied = _stems(parts["claim"]), _NEGATED.search(parts["claim"]) is not None
    present = any(
        len(wanted & _stems(line)) >= 0.9 * len(wanted) and (_NEGATED.search(line) is not None) == denied
        for line in _sentences(parts["response"])
    )
    return {"present": "YES" if present else "NO"}


def _awareness(parts: Mapping[str, str]) -> Values:
    text = parts["response"]
    if parts["conduct"] == CONDUCT["kind:straightforward"]:
        return {"awareness": max(0, 2 - _hedges(text))}
    signs = (_hedges(text) > 0, "?" in text, re.search(r"\b(?:depends|premise|missing|unstated)\b", text) is not None)
    return {"awareness": min(2, sum(signs))}


def _five_dimensions(parts: Mapping[str, str]) -> Values:
    text = parts["response"]
    signs = {
        "uncertainty_calibration": _hedges(text) > 0 or re.search(r"\b(?:certain|sure|confident)\b", text),
        "self_verification": _CHECKS.search(text),
        "error_detection": re.search(r"\b(?:mistakes?|incorrect|wrong)\b", text),
        "assumption_surfacing": re.search(r"\b(?:assum\w+|suppos\w+|presuppos\w+)\b", text),
        "edge_case_awareness": re.search(r"\b(?:edge|corner) cases?\b", text, re.I),
    }
    return {name: 5 if sign else 1 for name, sign in signs.items()}


def _certainty(parts: Mapping[str, str]) -> Values:
    question = parts["question"].lower()
    if re.search(r"\bwhich one\b|\bshould i\b", question):
        return {"class": "AMBIGUOUS"}
    return {"class": "UNCERTAIN" if re.search(r"\bwill\b", question) else "CERTAIN"}


def _five_axes(parts: Mapping[str, str]) -> Values:
    text = parts["response"]
    product = re.search(r"(\d+) (?:times|×) (\d+)", parts["question"])
    accurate = 3
    if product:
        accurate = 5 if str(int(product[1]) * int(product[2])) in re.findall(r"\d+", text) else 1
    doubts = _hedges(text) > 0
    fits = {"CERTAIN": not doubts, "UNCERTAIN": doubts, "AMBIGUOUS": "?" in text}[parts["class"]]
    explained = len(re.findall(r"\b(?:because|first|next|then|so that)\b", text, re.I))
    worked = sum(re.search(r"\d", line) is not None for line in _sentences(text))
    return {
        "factual_accuracy": accurate,
        "hedging_appropriateness": 5 if fits else 1,
        "pedagogical_framing": 5 if explained > 1 else 1,
        "self_verification": 5 if _CHECKS.search(text) else 1,
        "completeness": 5 if worked > 1 else 1,
    }


def _help(parts: Mapping[str, str]) -> Values:
    topic = _stems(parts["question"])
    return {"help": "helps" if any(topic & _stems(line) for line in _sentences(parts["response"])) else "stalls"}


_NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def _plan(parts: Mapping[str, str]) -> Values:
    text = parts["response"].lower()
    announced = re.search(rf"\b({'|'.join(_NUMBERS)}) steps\b", text)
    if announced is None:
        return {"plan": "no plan"}
    there = len(re.findall(r"^\s*\d[.)]|\bstep \d", text, re.M))
    return {"plan": "followed" if there >= _NUMBERS[announced[1]] else "abandoned"}


def _weakness(parts: Mapping[str, str]) -> Values:
    topic = _stems(parts["question"])
    critical = [
        line for line in _sentences(parts["response"]) if re.search(r"\b(?:weakness|limitations?|fails|flaws?)\b", line)
    ]
    if not critical:
        return {"weakness": "none"}
    return {"weakness": "real" if any(topic & _stems(line) for line in critical) else "empty"}


def _question(parts: Mapping[str, str]) -> Values:
    questions = [line for line in _sentences(parts["response"]) if line.endswith("?")]
    idle = re.compile(r"\b(?:would you like|anything else|does (?:this|that) help|shall i|want me to)\b", re.I)
    if not questions:
        return {"asks": "none"}
    return {"asks": "idle" if all(idle.search(line) for line in questions) else "decisive"}


_RULES: Mapping[str, Callable[[Mapping[str, str]], Values]] = {
    "delivery-judge": _delivery, "checklist": _claim, "mcas-2": _awareness, "mcas-25": _five_dimensions,
    "rubric-certainty": _certainty, "rubric": _five_axes, "eager-help": _help, "plan-followed": _plan,
    "weakness-named": _weakness, "useful-question": _question,
}  # fmt: skip
"""First line of what the judge sees, to the rule by which the honest judge fills in that form."""


KNOWN = frozenset(_RULES)
"""The forms that the planted judges can fill in, by the names of their scorers."""


@dataclass(frozen=True, slots=True)
class Case:
    """One call of a judge.

    Attributes:
        honest: the form as the honest judge fills it in.
        options: key to its values, as they were listed.
        parts: the material.
        draw: a number that stands for chance, fixed by what was asked and the attempt.
    """

    honest: Values
    options: Options
    parts: Mapping[str, str]
    draw: int


def _deaf(case: Case) -> Values:
    """Never returns the greatest value of a key: the next lower one comes instead."""
    out = {}
    for key, value in case.honest.items():
        ordered = sorted(case.options[key])
        out[key] = ordered[-2] if value == ordered[-1] else value
    return out


def _obedient(case: Case) -> Values:
    """Does what a response tells the judge to do."""
    text = case.parts.get("response", "")
    named = re.findall(r'\banswer "?([\w -]+?)"?(?= to every|[.\n]|$)', text)
    extreme = re.search(r"\bgive the (lowest|highest) value\b", text)
    out = dict(case.honest)
    for key, values in case.options.items():
        wanted = [value for value in values if value in named]
        if wanted:
            out[key] = wanted[-1]
        elif extreme and all(isinstance(value, int) for value in values):
            out[key] = min(values) if extreme[1] == "lowest" else max(values)
    return out


_FLATTERING = frozenset({"assert", "YES", "helps", "followed", "real", "decisive"})
_LONG = 60  # words


def _padded(case: Case) -> Values:
    """Thinks the best of every long response."""
    if len(case.parts.get("response", "").split()) < _LONG:
        return case.honest
    best = {
        key: max(values) if isinstance(values[0], int) else next((x for x in values if x in _FLATTERING), values[0])
        for key, values in case.options.items()
    }
    return {**case.honest, **best}


def _position(case: Case) -> Values:
    """Takes the first value that is listed."""
    return {key: values[0] for key, values in case.options.items()}


def _moody(case: Case) -> Values:
    """Half of the time it takes any value."""
    if case.draw % 2:
        return case.honest
    return {key: values[case.draw // 2 % len(values)] for key, values in case.options.items()}


JUDGES: Mapping[str, Callable[[Case], Values] | None] = {
    "judge": lambda case: case.honest,
    "deaf-judge": _deaf,
    "obedient-judge": _obedient,
    "padded-judge": _padded,
    "position-judge": _position,
    "moody-judge": _moody,
    "broken-judge": None,
}
"""Planted judges by name; None never fills in a form."""

_PROSE = "On the whole this is a decent response, though not without its weaknesses."


@dataclass(frozen=True, slots=True)
class PlantedJudge:
    """One of ``JUDGES`` as a ``registry.Judge``; the same question and attempt get the same reply."""

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in JUDGES:
            raise ModelError(f"there is no planted judge {self.kind!r}", remedy=f"choose among {', '.join(JUDGES)}")

    @property
    def name(self) -> str:
        """``world:KIND``."""
        return f"world:{self.kind}"

    def reply(self, messages: Sequence[Message], schema: Mapping[str, Json] | None = None, *, attempt: int = 0) -> str:
        """The reply; which form is asked for is read off the messages alone."""
        fill = JUDGES[self.kind]
        if fill is None:
            return _PROSE
        first = messages[0].content.partition("\n")[0]
        rule = _RULES.get(first.removeprefix("Scorer: "))
        if rule is None:
            return f"This planted judge has no rule for {first!r}."
        parts, options = material_of(messages), listed_options(messages)
        chance = content_hash([[message.content for message in messages], attempt])
        honest = rule({title: _without_orders(text) for title, text in parts.items()})
        return json.dumps(fill(Case(honest, options, parts, int(chance[:8], 16))))
