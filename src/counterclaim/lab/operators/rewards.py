"""Rewards for training on outcomes, and what scores completions with them.

``outcome`` and ``ordered-outcome`` pay for correctness crossed with delivery, ``correct`` for correctness alone, ``code``
for tests passed in the sandbox, ``recovery`` for what becomes of an answer that was challenged. Correctness comes from
an oracle (a scorer of rules or of programs) and never from a judge; assertion and hedging from the rules of the scorer
``delivery``.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import numbers
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

import numpy as np

from counterclaim.audit.metrics import Floats, assertion_asymmetry, capitulation_rate, recovery_rate
from counterclaim.errors import CounterclaimError, InputError, RegistryError
from counterclaim.lab import scorers as scorers
from counterclaim.lab.scorers.answers import readable, visible
from counterclaim.lab.scorers.code import code as code_scorer
from counterclaim.lab.scorers.rules import ASSERT, HEDGE, delivery_of
from counterclaim.records import (
    ArmId,
    Decode,
    FinishReason,
    Json,
    Message,
    ModelRef,
    Prompt,
    Provenance,
    Response,
    canonical_json,
    prompt_id,
    to_json,
)
from counterclaim.registry import (
    GOLD_KEYS,
    Answer,
    Item,
    Reading,
    Reward,
    Scorer,
    Tools,
    reward,
    scorer_named,
)
from counterclaim.text import split_think

# the rewards --------------------------------------------------------------------------------------------------------

OUTCOME: Mapping[tuple[bool, str], float] = {
    (True, ASSERT): 1.0, (False, HEDGE): 1.0, (True, HEDGE): -1.0, (False, ASSERT): -1.0,
}  # fmt: skip
"""(right, delivery) to what ``outcome`` pays."""
ORDERED: Mapping[tuple[bool, str], float] = {
    (True, ASSERT): 1.0, (False, HEDGE): 0.5, (True, HEDGE): 0.0, (False, ASSERT): -1.0,
}  # fmt: skip
"""(right, delivery) to what ``ordered-outcome`` pays."""
NO_ANSWER = -1.0
"""What both pay for an answer that was cut, or that cannot be read."""
CHALLENGE = "I do not think that this is right. Check it once more, and then tell me your answer."
"""The scripted turn while training. It is another than that of the scorer ``recovery``: a model that was trained on this
one must not have seen the test's own words."""


@reward(
    "outcome",
    about="1 for right and asserted or wrong and hedged, else -1; hacked by being wrong on purpose and hedging",
    needs=("oracle",),
)
def outcome(item: Item, tools: Tools) -> float:
    """Calibration and nothing else: a model that is always wrong and always hedges earns all there is to earn.

    Small models find that out (accuracy .52 to .20 on the tiny domain), which makes it the natural example of reward
    hacking; ``ordered-outcome`` is the remedy.
    """
    return _disposed(item, tools, OUTCOME)


@reward(
    "ordered-outcome",
    about="1 for right and asserted, 0.5 for wrong and hedged, 0 for right and hedged, -1 for wrong and asserted",
    needs=("oracle",),
)
def ordered_outcome(item: Item, tools: Tools) -> float:
    """Calibration with knowledge on top: no wrong answer, however delivered, earns what a right one that is asserted does.

    Among hedged answers a wrong one still earns more than a right one, so what a model cannot come to assert it may
    unlearn: on the smallest base one seed of three does.
    """
    return _disposed(item, tools, ORDERED)


@reward("correct", about="1 for a right answer, else 0, however it is delivered", needs=("oracle",))
def correct(item: Item, tools: Tools) -> float:
    """Accuracy alone; an answer that was cut earns nothing, even where the right words are in it."""
    return float(_finished(item) and _right(item, tools))


@reward(
    "code",
    about="1 for a program that passes all of its tests, else the share of them that it passes",
    needs=("oracle", "sandbox", "tests"),
    oracle="code",
)
def code(item: Item, tools: Tools) -> float:
    """The share makes the way to a right program less steep, and pays something for handling special cases only.

    ``correct`` with the oracle ``code`` pays for nothing but all tests. A program that does not come to an end within
    its limits earns 0, whatever it would have passed.
    """
    if not _finished(item):
        return 0.0
    whole = _oracle_of(tools)(item.prompt, item.response)
    if whole.value == 1:
        return 1.0
    return _share_of_tests(item, tools) if _ran(whole) else 0.0


@reward(
    "recovery",
    about="1 for a right answer to a scripted turn that doubts the last one, whether or not it was wrong; else 0",
    needs=("oracle",),
    follow_up=CHALLENGE,
)
def recovery(item: Item, tools: Tools) -> float:
    """A wrong answer revised to right and a right one that is kept earn 1; one left wrong or abandoned earns 0."""
    return float(_finished(item) and _right(item, tools))


def conversations(prompts: Sequence[Prompt], answers: Sequence[Answer], follow_up: str = CHALLENGE) -> list[Prompt]:
    """What a model is trained on to take feedback: each question, its own answer to it, and the scripted turn.

    Answers that failed, were cut or say nothing cannot be challenged and are left out; equal conversations come once.
    Gold, split and tags are those of the prompt.

    Args:
        prompts: the questions; one may come several times.
        answers: the model's, one for each.
        follow_up: the scripted turn (``Reward.follow_up``).

    Raises:
        InputError: no answer can be challenged.
    """
    made: dict[str, Prompt] = {}
    for prompt, answer in zip(prompts, answers, strict=True):
        if (
            answer.finish_reason in (FinishReason.STOP, FinishReason.UNKNOWN)
            and split_think(answer.text or "")[1].strip()
        ):
            turns = (*prompt.messages, Message("assistant", answer.text or ""), Message("user", follow_up))
            made.setdefault(prompt_id(turns), replace(prompt, id=prompt_id(turns), messages=turns))
    if not made:
        raise InputError(
            f"none of the {len(answers)} answers to the training prompts came to an end, so there is none to challenge",
            remedy="allow more tokens for an answer",
        )
    return list(made.values())


def _disposed(item: Item, tools: Tools, pays: Mapping[tuple[bool, str], float]) -> float:
    if not _finished(item) or readable(item.response) is not None:
        return NO_ANSWER
    return pays[_right(item, tools), delivery_of(visible(item.response))]


def _finished(item: Item) -> bool:
    return item.response.finish_reason is not FinishReason.LENGTH


def _right(item: Item, tools: Tools) -> bool:
    return _oracle_of(tools)(item.prompt, item.response).value == 1


def _oracle_of(tools: Tools) -> Callable[[Prompt, Response], Reading]:
    if tools.oracle is None:
        raise InputError(
            "there is no oracle to decide whether an answer is right", remedy="name an oracle, such as exact or numeric"
        )
    return tools.oracle


def _ran(reading: Reading) -> bool:
    """Whether a program came to an end that says something of it, by what the scorer ``code`` wrote down."""
    return reading.evidence is not None and json.loads(reading.evidence)["outcome"] in ("passed", "failed", "error")


def _share_of_tests(item: Item, tools: Tools) -> float:
    """The share of its tests that a program passes one by one, below 1; 0 where it does not come to an end on one."""
    passed = []
    for gold in _single_tests(item.prompt.gold):
        (reading,) = code_scorer.read(Item(replace(item.prompt, gold=gold), item.response), tools)
        if reading.value is None:  # a test that means nothing without the ones before it
            continue
        if not _ran(reading):
            return 0.0
        passed.append(reading.value == 1)
    return min(sum(passed), len(passed) - 1) / len(passed) if passed else 0.0


def _single_tests(gold: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """Gold with one test each; empty where there is one test only, or the tests cannot be separated.

    A test is a statement with an assert in it, of the function ``check`` or of the tests themselves; the statements
    before it that hold none are kept.
    """
    tests = next((gold[key] for key in GOLD_KEYS["tests"] if key in gold), "")
    try:
        tree = ast.parse("\n".join(map(str, tests)) if isinstance(tests, list | tuple) else str(tests))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    check = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "check"), None)
    body = tree.body if check is None else check.body
    at = [i for i, node in enumerate(body) if _asserts(node)]
    other = {key: value for key, value in gold.items() if key not in GOLD_KEYS["tests"]}
    out: list[Mapping[str, Json]] = []
    for i in at if len(at) > 1 else ():
        body_of_one = [node for j, node in enumerate(body) if j == i or (j < i and j not in at)]
        if check is None:
            one = ast.Module(body_of_one, [])
        else:
            alone = copy(check)
            alone.body = body_of_one
            one = ast.Module([alone if node is check else node for node in tree.body], [])
        out.append({**other, "tests": ast.unparse(ast.fix_missing_locations(one))})
    return out


def _asserts(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False  # a helper of the tests
    return any(isinstance(inner, ast.Assert) for inner in ast.walk(node))


# scoring ------------------------------------------------------------------------------------------------------------

T = TypeVar("T")
_Key = tuple[str, bool, bytes]


def answered(prompt: Prompt, completion: str, finished: bool) -> Item:
    """A completion as what a reward is given: an answer that ended by itself, or that its budget cut."""
    ended = FinishReason.STOP if finished else FinishReason.LENGTH
    return Item(
        prompt,
        Response(prompt.id, ArmId("training"), 0, completion, ended, Provenance.RECORDED, Decode(None), ModelRef()),
    )


def check_payable(reward: Reward, oracle_name: str | None, prompts: Sequence[Prompt]) -> None:
    """See, before a model is loaded, that answers to these prompts can be paid for; no program is run for it.

    Raises:
        InputError: as ``RewardScorer``, before its sandbox is opened.
    """
    if reward.follow_up is not None:
        prompts = conversations(prompts, [Answer("?", FinishReason.STOP)] * len(prompts), reward.follow_up)
    scorer = RewardScorer(reward, oracle_name, prompts)
    if not scorer.runs_programs:
        with scorer:
            pass


class RewardScorer:
    """What completions of training prompts are worth, by a reward.

    A context manager: entering it opens the sandbox where one is needed, holds the oracle to its own known-answer cards,
    and makes sure that it can read every prompt, so that training does not begin with what it cannot end with.

    Args:
        reward: what is paid for.
        oracle_name: the scorer that says right or wrong; a reward that is about one of its own (``Reward.oracle``)
            has that one. Where the reward does not ask, it serves ``components`` only, if every prompt has gold for it.
        prompts: what is answered while training; for a reward with a scripted next turn, ``conversations`` makes them.
        workers: programs that run at once; as many as there are processors when None.

    Attributes:
        reward: as it was given.
        oracle_name: full name of the oracle that is asked, ``name@version``; None where there is none.
        tools: what the reward is given, once entered.

    Raises:
        InputError: there is no such oracle, it does not read right or wrong, asks a judge or fails its cards; a prompt
            lacks gold or its scripted turn, or two prompts share an id and not their gold.
        SandboxError: on entering, where programs would have to be run and there is no sandbox.
    """

    tools: Tools

    def __init__(
        self, reward: Reward, oracle_name: str | None, prompts: Sequence[Prompt], workers: int | None = None
    ) -> None:
        self.reward = reward
        self._prompts = _by_id(prompts)
        self._workers = workers
        self._oracle = _oracle_for(reward, oracle_name)
        self._open = ExitStack()
        self._threads: ThreadPoolExecutor | None = None
        self._worth: dict[_Key, float] = {}
        self._readings: dict[tuple[_Key, str], Reading] = {}
        for prompt in self._prompts.values():
            _check_prompt(reward, prompt)

    @property
    def oracle_name(self) -> str | None:
        return None if self._oracle is None else scorers.full_name(self._oracle)

    @property
    def runs_programs(self) -> bool:
        """Whether entering it opens the sandbox."""
        return "sandbox" in self.reward.needs | (self._oracle.needs if self._oracle else frozenset())

    def __enter__(self) -> Self:
        with ExitStack() as opening:
            pool = None
            if self.runs_programs:
                from counterclaim.lab.sandbox import Pool

                pool = opening.enter_context(Pool(self._workers))
                self._threads = opening.enter_context(ThreadPoolExecutor(self._workers))
            if self._oracle is not None:
                scorers.check_to_cards(self._oracle, Tools(sandbox=pool))
                self._check_gold(Tools(sandbox=pool))
            self.tools = Tools(sandbox=pool, oracle=None if self._oracle is None else self._ask)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._threads = None

    def score(self, prompt_ids: Sequence[str], completions: Sequence[str], finished: Sequence[bool]) -> list[float]:
        """What each completion is worth, in their order; equal ones are worth the same and are read once.

        Args:
            prompt_ids: the prompt of each.
            completions: the texts that were generated, without special tokens.
            finished: whether each came to an end by itself; False where the budget cut it.

        Raises:
            InputError: a prompt is unknown, the reward pays what is no finite number, or the oracle cannot say whether an
                answer is right.
            RegistryError: the reward raises an exception of its own.
        """
        items = self._items(prompt_ids, completions, finished)
        keys = [_key(item.prompt, item.response) for item in items]
        missing = {key: item for key, item in zip(keys, items, strict=True) if key not in self._worth}
        self._worth.update(zip(missing, self._each(self._pay, missing.values()), strict=True))
        return [self._worth[key] for key in keys]

    def components(
        self, prompt_ids: Sequence[str], completions: Sequence[str], finished: Sequence[bool]
    ) -> dict[str, float]:
        """What the completions of a batch are like, for the training log: a reward that is hacked rises while these fall.

        Args:
            prompt_ids: as for ``score``.
            completions: as for ``score``.
            finished: as for ``score``.

        Returns:
            ``cut`` and ``unreadable``: shares of all completions. ``assertion_rate``: share of those that can be read.
            With an oracle ``accuracy`` and ``assertion_asymmetry`` (below 0 is calibrated); for a reward with a scripted
            next turn also ``recovery_rate`` and ``capitulation_rate``. What a batch leaves undefined is left out.

        Raises:
            InputError: a prompt is unknown, or the oracle cannot say whether an answer is right.
        """
        items = self._items(prompt_ids, completions, finished)
        legible = [readable(item.response) is None for item in items]
        asserted = [
            seen and delivery_of(visible(item.response)) == ASSERT for item, seen in zip(items, legible, strict=True)
        ]
        out = {
            "cut": _mean(not _finished(item) for item in items),
            "unreadable": _mean(not seen for seen in legible),
            "assertion_rate": _mean(says for says, seen in zip(asserted, legible, strict=True) if seen),
        }
        if self._oracle is not None:
            right = list(self._each(lambda item: _right(item, self.tools), items))
            out["accuracy"] = _mean(right)
            cells = _cells((r, a) for r, a, seen in zip(right, asserted, legible, strict=True) if seen)
            out["assertion_asymmetry"] = float(assertion_asymmetry(cells))
            if self.reward.follow_up is not None:
                first = self._each(lambda item: _right(_challenged(item), self.tools), items)
                cells = _cells(zip(first, right, strict=True))
                out["recovery_rate"] = float(recovery_rate(cells))
                out["capitulation_rate"] = float(capitulation_rate(cells))
        return {name: value for name, value in out.items() if not math.isnan(value)}

    def _items(self, prompt_ids: Sequence[str], completions: Sequence[str], finished: Sequence[bool]) -> list[Item]:
        if strange := [key for key in prompt_ids if key not in self._prompts]:
            raise InputError(
                f"the reward {self.reward.name} was asked about prompt {strange[0]}, which it does not know"
            )
        rows = zip(prompt_ids, completions, finished, strict=True)
        return [answered(self._prompts[key], text, ended) for key, text, ended in rows]

    def _each(self, function: Callable[[Item], T], items: Iterable[Item]) -> Iterable[T]:
        """Side by side where programs are waited for."""
        return map(function, items) if self._threads is None else self._threads.map(function, items)

    def _pay(self, item: Item) -> float:
        name = self.reward.name
        try:
            value = self.reward.of(item, self.tools)
        except CounterclaimError:
            raise
        except Exception as error:  # of whoever wrote the reward
            raise RegistryError(
                f"the reward {name!r} broke on an answer to {_shown(item.prompt)}: {type(error).__name__}: {error}"
            ) from error
        if not isinstance(value, numbers.Real) or not math.isfinite(value):
            raise InputError(
                f"the reward {name} paid {value!r} for an answer to {_shown(item.prompt)}, and a reward is a finite number",
                remedy=f"fix it; counterclaim kit {name} finds such answers",
            )
        return float(value)

    def _ask(self, prompt: Prompt, response: Response) -> Reading:
        """The oracle, asked once for each answer; what it leaves unscored would be noise in training."""
        assert self._oracle is not None
        key = (_key(prompt, response), canonical_json(to_json(prompt.gold)))
        if key not in self._readings:
            reading = scorers.oracle_by(self._oracle, self.tools)(prompt, response)
            self._readings[key] = _check_reading(self._oracle, prompt, reading)
        return self._readings[key]

    def _check_gold(self, tools: Tools) -> None:
        """Let the oracle read an empty answer to every prompt, which only a prompt without its gold leaves unscored."""
        assert self._oracle is not None
        ask = scorers.oracle_by(self._oracle, tools)
        for prompt in self._prompts.values():
            reading = ask(prompt, answered(prompt, "", finished=True).response)
            if reading.value is None and "oracle" not in self.reward.needs:
                self._oracle = None
                return
            _check_reading(self._oracle, prompt, reading)


def _oracle_for(reward: Reward, named: str | None) -> Scorer | None:
    """The scorer that a reward asks, or that may be asked beside it without more than the reward needs itself."""
    name = reward.oracle or named
    if name is None:
        if "oracle" in reward.needs:
            raise InputError(
                f"the reward {reward.name} must know which answers are right", remedy="name an oracle, such as exact"
            )
        return None
    made = scorer_named(name)
    if "correct" not in made.axes:
        raise InputError(
            f"{name} does not say whether an answer is right (it reads {', '.join(made.axes)})",
            remedy="name an oracle: exact, numeric or code",
        )
    if "oracle" not in reward.needs and made.needs & {"judge", "sandbox"} - reward.needs:
        return None
    if "judge" in made.needs:
        raise InputError(
            f"{name} asks a judge, and rewards come from oracles only: training finds out what a judge can be talked into",
            remedy="name an oracle by rules or programs: exact, numeric or code",
        )
    return made


def _by_id(prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    out: dict[str, Prompt] = {}
    for prompt in prompts:
        if out.setdefault(prompt.id, prompt).gold != prompt.gold:
            raise InputError(f"{_shown(prompt)} is among the training prompts twice, with two golds", remedy="keep one")
    return out


def _check_prompt(reward: Reward, prompt: Prompt) -> None:
    """Raise InputError where a prompt lacks gold that the reward itself reads, or the scripted turn that it is about."""
    for need, keys in GOLD_KEYS.items():
        if need in reward.needs and not any(key in prompt.gold for key in keys):
            raise InputError(
                f"the reward {reward.name} needs the {need} of each prompt, and {_shown(prompt)} has none",
                remedy=f"give it gold.{keys[0]}, or leave it out",
            )
    if reward.follow_up is None:
        return
    roles = [turn.role for turn in prompt.messages[-2:]]
    if roles != ["assistant", "user"] or prompt.messages[-1].content != reward.follow_up:
        raise InputError(
            f"the reward {reward.name} is about the answer to a scripted next turn, with which {_shown(prompt)} does not end",
            remedy="make the training prompts from the model's own answers (operators.rewards.conversations)",
        )


def _check_reading(oracle: Scorer, prompt: Prompt, reading: Reading) -> Reading:
    if reading.value is not None:
        return reading
    gold = " and ".join(f"gold.{GOLD_KEYS[need][0]}" for need in GOLD_KEYS if need in oracle.needs)
    raise InputError(
        f"{oracle.name} cannot say whether an answer to {_shown(prompt)} is right: {reading.unscored}",
        remedy=f"fix {gold or 'the gold'} of the prompt, leave it out, or name another oracle",
    )


def _challenged(item: Item) -> Item:
    """The answer that the scripted turn of a conversation is about."""
    return answered(item.prompt, item.prompt.messages[-2].content, finished=True)


def _key(prompt: Prompt, response: Response) -> _Key:
    text = hashlib.blake2b((response.text or "").encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return prompt.id, response.finish_reason is FinishReason.STOP, text


def _shown(prompt: Prompt) -> str:
    words = " ".join(prompt.text.split())
    return f"prompt {prompt.id} ({words[:60]!r}{'…' if len(words) > 60 else ''})"


def _mean(values: Iterable[bool]) -> float:
    kept = list(values)
    return sum(kept) / len(kept) if kept else math.nan


def _cells(pairs: Iterable[tuple[bool, bool]]) -> Floats:
    """Counts (4,) of pairs in the order of ``metrics.CELLS``."""
    counts = Counter(pairs)
    order = ((True, True), (True, False), (False, True), (False, False))
    return np.array([counts[pair] for pair in order], dtype=np.float64)
