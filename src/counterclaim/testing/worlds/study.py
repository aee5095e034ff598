"""From a few arrays per arm to an Evidence: answers with texts, finish reasons, token counts, settings and scores.

A planted world is a :class:`Study` that has been changed in one place. Unchanged, it is a valid comparison: same prompts, same
settings, same scorers, every answer finished and scored, wrong answers hedged more often than right ones in both
arms, and a treatment that moves ``coverage`` by the effect and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Literal

import numpy as np
import numpy.typing as npt

from counterclaim.audit.evidence import Evidence
from counterclaim.audit.metrics import Floats
from counterclaim.audit.probing import ProbeResult
from counterclaim.records import (
    CONTROL,
    TREATED,
    ArmId,
    Claim,
    Decode,
    FinishReason,
    Guard,
    Json,
    ModelRef,
    Prompt,
    Provenance,
    Quote,
    Response,
    Score,
)
from counterclaim.testing.worlds.questions import ASIDES, CLAIMS, Kind, Question, pool_size, question
from counterclaim.text.overlap import OverlapReport

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

Direction = Literal["increase", "decrease"]

TOKENS_PER_WORD = 1.3
BUDGET = 512
ACCURACY = 0.58
NOISE = 0.12
FLICKER = 0.03
DECODE = Decode(BUDGET, temperature=0.0, top_p=1.0, seed=0, thinking=False, chat_template="plain-chat-1")
BASE = ModelRef("example/base-1b", "r1", "bfloat16")
TUNED = replace(BASE, adapter_hash="adapter-a")
CHECKLIST_JUDGE = "checklist-judge@1#prompt-a,temperature=0"
DELIVERY_JUDGE = "delivery-judge@1#prompt-a,temperature=0"
ORACLE = "exact-match@1"
GUARDS = (Guard("accuracy", 0.1),)
CALIBRATED = (0.9, 0.6)
"""P(assert | right), P(assert | wrong) of an arm that hedges more often when it is wrong."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a world is drawn from.

    Attributes:
        rng: the only source of chance.
        n: prompts.
        effect: size of the true (or apparent) change, >= 0, in the target metric's unit.
        severity: how bad the planted fault is, 0 to 1.
    """

    rng: np.random.Generator
    n: int
    effect: float
    severity: float


@dataclass(slots=True)
class Axis:
    """Scores of one draft on one axis, by position.

    Attributes:
        values: numbers or labels; None where the scorer failed.
        scorer: one for all, or one per position.
        raw: what the judge replied, where that is kept.
    """

    values: Sequence[float | str | None]
    scorer: str | Sequence[str]
    raw: Sequence[str] | None = None


@dataclass(slots=True)
class Draft:
    """Answers of one arm and one replicate to every prompt, before they become records.

    Attributes:
        arm: name of the arm.
        coverage: float (n,): share of the checklist that an answer covers.
        correct: bool (n,): whether the answer is right.
        asserts: bool (n,): whether it is asserted rather than hedged.
        asides: int (n,): how many sentences beyond the claims it has.
        axes: what was scored; filled by ``Study.score``.
        texts: the answers; filled by ``Study.write``, empty until then.
        cut: bool (n,): whether the budget ended the answer.
        endings_kept: whether the harness wrote down why answers ended, and their token counts.
        answered: bool (n,): which prompts this draft answers at all.
        decode: settings of every answer.
        model: what answered.
        replicate: seed of the arm.
        sample: sample index of all of these answers.
        silent: usual axes on which these answers are not scored.
    """

    arm: str
    coverage: Floats
    correct: Bools
    asserts: Bools
    asides: Ints
    cut: Bools
    answered: Bools
    axes: dict[str, Axis] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    decode: Decode = DECODE
    model: ModelRef = BASE
    replicate: str = ""
    sample: int = 0
    silent: tuple[str, ...] = ()
    endings_kept: bool = True

    def twin(self, arm: str, **changes: object) -> Draft:
        """A copy under another name, with its own arrays."""
        copy = replace(
            self, arm=arm, coverage=self.coverage.copy(), correct=self.correct.copy(), asserts=self.asserts.copy(),
            asides=self.asides.copy(), cut=self.cut.copy(), answered=self.answered.copy(), axes=dict(self.axes),
            texts=list(self.texts),
        )  # fmt: skip
        return replace(copy, **changes)  # type: ignore[arg-type]  # names are checked by dataclasses.replace


class Study:
    """A comparison under construction.

    Args:
        knobs: size, effect, severity and the source of chance.
        metric: the claim's target.
        direction: claimed direction.
        margin: smallest change that matters.
        guards: what must not be lost.
        shift: by how much the treatment moves coverage.
        accuracy_shift: by how much it moves accuracy.
        accuracy: share of right answers of the control arm.
        base: mean coverage of the easiest prompts of the control arm; the hardest have 0.35 less.
        asserts: P(assert | right), P(assert | wrong) of control and of treated.
        noise: sd of coverage of one prompt and arm.
        kind: kind of questions.
    """

    def __init__(
        self,
        knobs: Knobs,
        *,
        metric: str = "coverage",
        direction: Direction = "increase",
        margin: float = 0.05,
        guards: tuple[Guard, ...] = (),
        shift: float = 0.0,
        accuracy_shift: float = 0.0,
        accuracy: float = ACCURACY,
        base: float = 0.6,
        asserts: tuple[tuple[float, float], tuple[float, float]] = (CALIBRATED, CALIBRATED),
        noise: float = NOISE,
        kind: Kind = "repair",
    ) -> None:
        self.rng, self.n = knobs.rng, knobs.n
        self.accuracy, self.base, self.noise = accuracy, base, noise
        chosen = self.rng.choice(pool_size(kind), self.n, replace=False)
        self.questions: list[Question] = [question(kind, int(index)) for index in chosen]
        self.golds: list[Mapping[str, Json]] = [q.prompt.gold for q in self.questions]
        self.hardness = self.rng.random(self.n)
        self.claim = Claim(metric, direction, margin, guards=guards)
        self.control = self.draft(CONTROL.name, asserts=asserts[0])
        self.treated = self.draft(TREATED.name, shift=shift, accuracy_shift=accuracy_shift, asserts=asserts[1])
        self.treated.model = TUNED
        self.more: list[Draft] = []
        self.overlap: OverlapReport | None = None
        self.train_sample: list[str] = []
        self.cards: Sequence[Mapping[str, Json]] = ()
        self.probing: ProbeResult | None = None

    def draft(
        self,
        arm: str,
        *,
        shift: float | Floats = 0.0,
        accuracy_shift: float = 0.0,
        asserts: tuple[float, float] = CALIBRATED,
        asides: float = 5.0,
        replicate: int | None = None,
    ) -> Draft:
        """One arm's answers: coverage and correctness follow the prompt's hardness, chance and the shifts."""
        rng, n = self.rng, self.n
        coverage = self.base - 0.35 * self.hardness + self.noise * rng.standard_normal(n) + shift
        correct = self.hardness + FLICKER * rng.standard_normal(n) < self.accuracy + accuracy_shift
        return Draft(
            arm=arm,
            coverage=np.clip(coverage, 0.01, 0.99).round(4),
            correct=correct,
            asserts=rng.random(n) < np.where(correct, *asserts),
            asides=self.lengths(asides),
            cut=np.zeros(n, dtype=bool),
            answered=np.ones(n, dtype=bool),
            model=BASE if arm == CONTROL.name else TUNED,
            replicate="" if replicate is None else str(replicate),
            sample=replicate or 0,
        )

    def lengths(self, mean: float) -> Ints:
        """How many asides the answers have: int (n,), log-normal around ``mean``, at most ``ASIDES``."""
        drawn = mean * np.exp(0.3 * self.rng.standard_normal(self.n))
        return np.clip(np.rint(drawn), 0, ASIDES).astype(np.int64)

    @property
    def drafts(self) -> list[Draft]:
        """Every draft, control first."""
        return [self.control, self.treated, *self.more]

    def add(self, draft: Draft) -> Draft:
        """Take in another arm, or another replicate of an arm."""
        self.more.append(draft)
        return draft

    def write(self, draft: Draft) -> None:
        """Put the answers into words: an opener, right or wrong claims in the covered share, asides."""
        if draft.texts:
            return
        shown = np.rint(draft.coverage * CLAIMS).astype(int)
        ranks = self.rng.random((self.n, CLAIMS)).argsort(axis=1).argsort(axis=1)
        covered = (ranks < shown[:, None]).tolist()
        order = self.rng.random((self.n, ASIDES)).argsort(axis=1).tolist()
        tone = self.rng.integers(len(_ASSERTING), size=self.n).tolist()
        for i, q in enumerate(self.questions):
            opener = (_ASSERTING if draft.asserts[i] else _HEDGING)[tone[i]]
            body = [q.claims[k] if right else q.wrong[k] for k, right in enumerate(covered[i])]
            rest = [q.asides[k] for k in order[i][: int(draft.asides[i])]]
            draft.texts.append(" ".join([opener.format(q.restate), *body, *rest]))

    def cut(self, draft: Draft, budget: int) -> None:
        """End every answer of a draft after ``budget`` tokens, and say so in its settings."""
        self.write(draft)
        keep = int(budget / TOKENS_PER_WORD)
        for i, text in enumerate(draft.texts):
            words = text.split(" ")
            if n_tokens(len(words)) > budget:
                draft.cut[i] = True
                draft.texts[i] = " ".join(words[:keep])
        draft.decode = replace(draft.decode, max_new_tokens=budget)

    def length_quantile(self, draft: Draft, share: float) -> int:
        """The token budget that ``share`` of a draft's answers fit into."""
        self.write(draft)
        lengths = [n_tokens(text.count(" ") + 1) for text in draft.texts]
        return int(np.quantile(lengths, share))

    def score(self, draft: Draft) -> None:
        """Fill in the usual axes, where the world has not done so: coverage, correct and delivery."""
        delivery = ["assert" if x else "hedge" for x in draft.asserts.tolist()]
        usual = {
            "coverage": Axis(draft.coverage.tolist(), CHECKLIST_JUDGE),
            "correct": Axis(draft.correct.astype(float).tolist(), ORACLE),
            "delivery": Axis(delivery, DELIVERY_JUDGE),
        }
        draft.axes = {**{name: axis for name, axis in usual.items() if name not in draft.silent}, **draft.axes}

    def evidence(self, draws: int) -> Evidence:
        """The records of everything drafted; ``draws`` is the number of resamples that checks may take."""
        prompts: dict[str, Prompt] = {}
        for q, gold in zip(self.questions, self.golds, strict=True):
            prompts[q.prompt.id] = q.prompt if gold is q.prompt.gold else replace(q.prompt, gold=gold)
        responses: list[Response] = []
        scores: list[Score] = []
        ids = [q.prompt.id for q in self.questions]
        for draft in self.drafts:
            self.write(draft)
            self.score(draft)
            responses += _responses(draft, ids)
            scores += _scores(draft, ids)
        return Evidence(
            self.claim,
            prompts,
            responses,
            scores,
            sources=[_source(draft) for draft in self.drafts],
            overlap=self.overlap,
            train_sample=self.train_sample,
            cards=self.cards,
            probing=self.probing,
            draws=draws,
        )

    def quote(self, arm: str, metric: str, value: float) -> None:
        """Let the claim state a number about an arm."""
        self.claim = replace(self.claim, quotes=(*self.claim.quotes, Quote(ArmId.parse(arm), metric, value, self.n)))


_ASSERTING = ("Here is {}.", "This is {}.", "In short, this is {}.", "Look at {}.")
_HEDGING = (
    "I am not certain, but perhaps this is {}.",
    "I am not sure, but this might be {}.",
    "It is possibly this, though I am unsure, {}.",
    "Maybe I am wrong about {}.",
)


def n_tokens(words: int) -> int:
    """Tokens of an answer of this many words."""
    return math.ceil(words * TOKENS_PER_WORD)


def _responses(draft: Draft, ids: list[str]) -> list[Response]:
    return [
        Response(
            prompt_id=prompt,
            arm=ArmId.parse(draft.arm),
            sample=draft.sample,
            text=text,
            finish_reason=_ending(draft, cut),
            finish_provenance=Provenance.RECORDED if draft.endings_kept else None,
            decode=draft.decode,
            model=draft.model,
            n_tokens=_length(draft, text, cut),
            replicate=draft.replicate,
        )
        for prompt, text, cut, answered in zip(
            ids, draft.texts, draft.cut.tolist(), draft.answered.tolist(), strict=True
        )
        if answered
    ]


def _ending(draft: Draft, cut: bool) -> FinishReason:
    if not draft.endings_kept:
        return FinishReason.UNKNOWN
    return FinishReason.LENGTH if cut else FinishReason.STOP


def _length(draft: Draft, text: str, cut: bool) -> int | None:
    if not draft.endings_kept:
        return None
    return draft.decode.max_new_tokens if cut else n_tokens(text.count(" ") + 1)


def _scores(draft: Draft, ids: list[str]) -> list[Score]:
    out = []
    arm = ArmId.parse(draft.arm)
    for name, axis in draft.axes.items():
        scorers = [axis.scorer] * len(ids) if isinstance(axis.scorer, str) else axis.scorer
        raw: Sequence[str | None] = axis.raw or [None] * len(ids)
        rows = zip(ids, axis.values, scorers, raw, draft.answered.tolist(), strict=True)
        out += [
            Score(p, arm, draft.sample, by, name, value, "judge error" if value is None else None, reply)
            for p, value, by, reply, answered in rows
            if answered
        ]
    return out


def _source(draft: Draft) -> dict[str, Json]:
    name = f"{draft.arm}{f'-{draft.replicate}' if draft.replicate else ''}.jsonl"
    digest = sha256("\n".join(draft.texts).encode()).hexdigest()
    return {
        "arm": draft.arm, "path": name, "format": "jsonl", "rows": len(draft.texts), "sha256": digest, "created": None,
        "no_generation": False,
    }  # fmt: skip
