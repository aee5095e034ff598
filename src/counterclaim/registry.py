"""The extension points: one decorator for each kind of thing that a plug-in may add, and how plug-ins are found.

Checks, metrics, importers, scorers, operators, backends, rewards and prompt sets that ship with the package register through the same decorators
as those of others. The functions that list or look up import the built-in modules of their kind, and the plug-ins.

A plug-in package names its module under the entry-point group ``counterclaim.plugins``; importing the module registers what it
holds. A plug-in can also be a loose Python file: ``--plugins FILE`` at the command line, or ``load_plugins([FILE])``.
"""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.metadata import entry_points
from pathlib import Path
from threading import Lock, RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, get_args

from counterclaim.errors import InputError, RecordError, RegistryError
from counterclaim.records import (
    CheckResult,
    Decode,
    Estimate,
    Example,
    FinishReason,
    Group,
    Json,
    Message,
    ModelRef,
    Outcome,
    Prompt,
    Response,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from counterclaim.importers import Collector, InputFile

    Floats = npt.NDArray[np.float64]

GROUP = "counterclaim.plugins"
"""The entry-point group under which an installed package names its plug-in module."""

_NAME = re.compile(r"[a-z][a-z0-9@._-]*(:NAME)?")


# kinds ------------------------------------------------------------------------------------------------------------


class _Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=_Named)
F = TypeVar("F", bound=Callable[..., Any])


class _Kind(Generic[T]):
    """Everything that is registered of one kind.

    Attributes:
        noun: what one of them is called in messages.
        built_in: modules that register the built-in ones when they are imported; ``module:function`` is also called. Strings,
            because the registry lies below all of them.
        entries: what is registered so far, by name.
        plugged: name to the plug-in that brought it; built-in ones are not in it.
    """

    def __init__(self, noun: str, *built_in: str) -> None:
        self.noun, self.built_in = noun, built_in
        self.entries: dict[str, T] = {}
        self.plugged: dict[str, str] = {}

    def add(self, made: T, function: Callable[..., Any]) -> T:
        """Register one; ``function`` is what was decorated, whose module tells built-in and plugged in apart."""
        ours = getattr(function, "func", function).__module__.startswith("counterclaim.")
        if _loading and not ours:
            self.load_built_in()  # so that of two equal names the plug-in's is refused
        if not _NAME.fullmatch(made.name):
            raise RegistryError(f"{self.noun} name {made.name!r} is not lower-case-with-hyphens")
        if made.name in self.entries:
            article = "an" if self.noun[0] in "aeiou" else "a"
            raise RegistryError(f"{article} {self.noun} named {made.name!r} is registered already")
        self.entries[made.name] = made
        if _loading and not ours:
            self.plugged[made.name] = _loading[-1]
        return made

    def load_built_in(self) -> None:
        for home in self.built_in:
            module, _, function = home.partition(":")
            loaded = import_module(module)
            if function:
                getattr(loaded, function)()

    def all(self) -> dict[str, T]:
        """By name: the built-in ones first, then those of plug-ins."""
        self.load_built_in()
        load_plugins()
        return dict(self.entries)

    def named(self, name: str) -> T:
        found = self.all()
        if name not in found:
            raise InputError(f"there is no {self.noun} {name!r}", remedy=f"choose among {', '.join(sorted(found))}")
        return found[name]


# checks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says; the registry adds the check's name, its group and whether it was required.

    Args are those of ``CheckResult``.
    """

    outcome: Outcome
    because: str
    remedy: str = ""
    estimate: Estimate | None = None
    n: int = 0
    n_unscored: int = 0
    evidence: tuple[str, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict)
    figure: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A registered check.

    Attributes:
        name: how it is called on the page and in ``--require``.
        group: ruler, effect, cost or transfer.
        question: what it asks, in one sentence.
        run: the function; it takes an Evidence and returns a Finding.
        must_fail: planted worlds in which it must not pass.
        must_pass: planted worlds in which it must pass.
    """

    name: str
    group: Group
    question: str
    run: Callable[[Any], Finding]
    must_fail: tuple[str, ...]
    must_pass: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.must_fail or not self.must_pass:
            raise RegistryError(
                f"check {self.name!r} names no planted world that it must catch and one that it must pass"
            )

    def __call__(self, evidence: Any, *, required: bool = False) -> CheckResult:
        """Run the check; results that lack what it reads make it NOT_RUN, any other exception is an ERROR, never a PASS."""
        try:
            finding = self.run(evidence)
        except InputError as error:  # the results lack what the check reads
            remedy = error.remedy or "give results that hold what is missing"
            finding = Finding(Outcome.NOT_RUN, str(error), f"{remedy[0].upper()}{remedy[1:]}.")
        except Exception as error:  # a check that breaks must not take the others with it, nor pass
            finding = Finding(
                Outcome.ERROR,
                f"The check itself broke: {type(error).__name__}: {error}",
                "Report this with the run folder; the other checks are not affected.",
            )
        return CheckResult(
            check=self.name,
            group=self.group,
            outcome=finding.outcome,
            because=finding.because,
            remedy=finding.remedy,
            estimate=finding.estimate,
            required=required,
            n=finding.n,
            n_unscored=finding.n_unscored,
            evidence=finding.evidence,
            details=finding.details,
            figure=finding.figure,
        )


_CHECKS = _Kind[Check]("check", "counterclaim.checks")


def check(
    name: str, *, group: Group, question: str, must_fail: tuple[str, ...], must_pass: tuple[str, ...]
) -> Callable[[Callable[[Any], Finding]], Check]:
    """Register a function from an ``Evidence`` to a ``Finding`` as a check; arguments are those of ``Check``.

    Raises:
        RegistryError: the name is malformed or taken, or the check names no world that it must catch or let pass.
    """
    return lambda run: _CHECKS.add(Check(name, group, question, run, must_fail, must_pass), run)


def checks() -> Iterator[Check]:
    """All checks in the order in which they are run: ruler, effect, cost, transfer."""
    order = get_args(Group)
    yield from sorted(_CHECKS.all().values(), key=lambda made: order.index(made.group))


# metrics ----------------------------------------------------------------------------------------------------------

Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity of one arm. A *mean* averages one number per answer; a *ratio* is a function of the four cells of a 2×2;
    an *auc* asks how well a score ranks right above wrong answers.

    Attributes:
        name: as it is written after ``--metric``.
        kind: ``mean``, ``ratio`` or ``auc``.
        axes: the score axes that it needs.
        better: whether higher or lower is better.
        fraction: whether its values lie in [0, 1] by definition.
        label: the label that counts: as 1 in a mean over a label axis, as the first column of a ratio's 2×2.
        per_answer: for a mean: the values of ``axes`` of one answer, in their order, to its number; None where it is the
            value of the only axis itself. An answer that lacks one of them is unscored.
        statistic: for a ratio: cell counts, float array (..., 4), to values (...,), NaN where undefined. Rows of the 2×2
            are right and wrong answers; columns are ``label`` of the second axis and the rest: (right and label, right and
            not, wrong and label, wrong and not).
        interval: for a ratio: cell counts (4 whole numbers) of independent answers and a level, to the estimate with its
            closed-form interval; None where prompts are resampled instead.
        about: what it is, in one sentence.
    """

    name: str
    kind: Literal["mean", "ratio", "auc"]
    axes: tuple[str, ...]
    better: Better = "higher"
    fraction: bool = True
    label: str | None = None
    per_answer: Callable[..., float] | None = None
    statistic: Callable[[Floats], Floats] | None = None
    interval: Callable[[tuple[int, int, int, int], float], Estimate] | None = None
    about: str = ""

    def __post_init__(self) -> None:
        if not self.axes:
            raise RegistryError(f"the metric {self.name!r} names no axis of scores to be made of")
        if self.kind == "ratio" and (len(self.axes) != 2 or self.axes[0] != "correct" or self.label is None):
            raise RegistryError(
                f"the ratio {self.name!r} needs the axes correct and one of labels, and the label that counts"
            )


_METRICS = _Kind[Metric]("metric", "counterclaim.audit.metrics")


def metric(
    name: str,
    *,
    about: str,
    axes: tuple[str, ...],
    kind: Literal["mean", "ratio"] = "mean",
    better: Better = "higher",
    fraction: bool = True,
    label: str | None = None,
    interval: Callable[[tuple[int, int, int, int], float], Estimate] | None = None,
) -> Callable[[F], F]:
    """Register a function as a metric, ``per_answer`` of a mean or ``statistic`` of a ratio, and leave it as it is.

    Arguments are those of ``Metric``.

    Raises:
        RegistryError: the name is malformed or taken, or a ratio lacks what makes its 2×2.
    """

    def register(function: F) -> F:
        parts: dict[str, Any] = {"per_answer" if kind == "mean" else "statistic": function, "interval": interval}
        _METRICS.add(Metric(name, kind, axes, better, fraction, label, about=about, **parts), function)
        return function

    return register


def metrics() -> Mapping[str, Metric]:
    """All metrics by name."""
    return _METRICS.all()


def built_in_metric(name: str) -> Metric:
    """A metric that ships; unlike ``metrics`` this loads no plug-ins, so modules may call it while they are imported."""
    _METRICS.load_built_in()
    return _METRICS.entries[name]


# importers --------------------------------------------------------------------------------------------------------

Sniff = Callable[["InputFile"], bool]
Parse = Callable[["InputFile", "Collector"], None]
Ids = Literal["row", "question", "shared"]


@dataclass(frozen=True, slots=True)
class Importer:
    """A registered importer.

    Attributes:
        name: what ``--format`` calls the format.
        about: which files it reads, in one line.
        sniff: whether a file is of this format, from its kind and first rows; raises nothing but InputError.
        read: hands every answer and score of the file to the collector; raises nothing but InputError, which
            ``Collector.fail`` makes.
        ids: what an id names. ``row``: one row, so that a second row with the same id is refused. ``question``: a
            question, so that rows with one id are samples of it. ``shared``: the same, and the whole field knows the
            question by this name (``HumanEval/3``), so that rows may be paired by it where the file gives no prompt.
    """

    name: str
    about: str
    sniff: Sniff
    read: Parse
    ids: Ids = "question"


_IMPORTERS = _Kind[Importer]("importer", "counterclaim.importers")


def importer(name: str, *, about: str, sniff: Sniff, ids: Ids = "question") -> Callable[[Parse], Importer]:
    """Register a function that reads files of one format as an importer; arguments are those of ``Importer``.

    Raises:
        RegistryError: the name is malformed or taken.
    """
    return lambda read: _IMPORTERS.add(Importer(name, about, sniff, read, ids), read)


def importers() -> Mapping[str, Importer]:
    """All importers by name."""
    return _IMPORTERS.all()


# scorers ----------------------------------------------------------------------------------------------------------

Need = Literal["judge", "sandbox", "oracle", "answer", "checklist", "tests"]
"""What a scorer cannot do without: a judge model, a sandbox, a scorer that says right or wrong, or gold."""
GOLD_KEYS: Mapping[Need, tuple[str, ...]] = {
    "answer": ("answer",), "checklist": ("checklist",), "tests": ("tests", "test", "test_list"),
}  # fmt: skip
"""Needs that are gold, and the keys of a prompt's gold under which each may stand."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read off one answer on one axis; exactly one of ``value`` and ``unscored``.

    Attributes:
        axis: ``correct``, ``delivery``, ``coverage``, ``revised``, ``score.NAME`` or ``label.NAME``.
        value: a number or a label.
        unscored: why there is none.
        evidence: the judge's raw reply, or what the program printed.
    """

    axis: str
    value: float | str | None = None
    unscored: str | None = None
    evidence: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.unscored is None):
            raise RecordError("a reading has exactly one of a value and a reason why there is none")


@dataclass(frozen=True, slots=True)
class Range:
    """A numeric axis: every value lies in [low, high]; None where there is no bound."""

    low: float | None = 0.0
    high: float | None = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to be scored.

    Attributes:
        prompt: the question with its gold.
        response: the answer.
        follow_up: the answer to the scorer's scripted next turn, where it has one.
    """

    prompt: Prompt
    response: Response
    follow_up: Response | None = None


class Judge(Protocol):
    """A model that judges."""

    @property
    def name(self) -> str:
        """The model behind it, as it appears in the scorer's name."""

    def reply(self, messages: Sequence[Message], schema: Mapping[str, Json] | None = None, *, attempt: int = 0) -> str:
        """The raw reply.

        Args:
            messages: what the judge sees; nothing in it says which arm answered.
            schema: JSON schema of the reply; held to by servers that can, and part of the messages for those that cannot.
            attempt: 0 for the first call; another number asks again rather than taking a kept reply.

        Raises:
            ModelError: there is no reply to be had.
        """


@dataclass(frozen=True, slots=True)
class Tools:
    """What a scorer may use besides the item.

    Attributes:
        judge: for scorers that need one.
        sandbox: a pool that runs programs (``sandbox.Pool``), for scorers that need one.
        oracle: reads ``correct`` off an answer with the scorer that the study chose for it.
    """

    judge: Judge | None = None
    sandbox: Any = None
    oracle: Callable[[Prompt, Response], Reading] | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """A known answer: a response with undisputed scores.

    Attributes:
        prompt: the question with its gold.
        response: the answer.
        expects: axis to the value that must be read.
        follow_up: the answer to the scripted next turn.
        kind: what it tries: ``label``, ``padding``, ``position``, ``paraphrase``, ``orders``, ...
        tolerance: how far a number may be off.
    """

    prompt: Prompt
    response: str
    expects: Mapping[str, float | str]
    follow_up: str | None = None
    kind: str = "label"
    tolerance: float = 0.0


Read = Callable[[Item, Tools], list[Reading]]


@dataclass(frozen=True, slots=True)
class Scorer:
    """A registered scorer.

    Attributes:
        name: how it is called in ``--with``.
        version: changes whenever a value could.
        about: what it reads, in one sentence.
        axes: axis to its labels, or to the range of its numbers.
        read: the function; it returns at most one reading per axis.
        cards: known answers; every label has one, every numeric axis two that differ.
        needs: what it cannot do without.
        measures: ``form`` (what the answer sounds like) or ``function`` (what it does).
        disposition: which of the seven dispositions it is about, or None.
        follow_up: the scripted next turn that is put to the model after its answer, or None.
        prompt: the judge's instructions; their hash is part of the scorer's full name.
    """

    name: str
    version: str
    about: str
    axes: Mapping[str, tuple[str, ...] | Range]
    read: Read
    cards: tuple[Card, ...]
    needs: frozenset[Need] = frozenset()
    measures: Literal["form", "function"] = "function"
    disposition: str | None = None
    follow_up: str | None = None
    prompt: str = ""

    def __post_init__(self) -> None:
        if not self.axes:
            raise RegistryError(f"scorer {self.name!r} reads no axis")
        for axis, allowed in self.axes.items():
            seen = {card.expects[axis] for card in self.cards if axis in card.expects}
            if isinstance(allowed, Range):
                if len(seen) < 2:
                    raise RegistryError(f"scorer {self.name!r} has no two cards that differ on {axis}")
                continue
            if missing := [label for label in allowed if label not in seen]:
                raise RegistryError(f"scorer {self.name!r} has no card for the label {missing[0]!r} of {axis}")
            if strange := sorted(str(label) for label in seen if label not in allowed):
                raise RegistryError(f"a card of scorer {self.name!r} expects {strange[0]!r}, no label of {axis}")


_SCORERS = _Kind[Scorer]("scorer", "counterclaim.lab.scorers:register_built_in")


def register_scorer(made: Scorer) -> Scorer:
    """Make a scorer known that was made without the decorator.

    Raises:
        RegistryError: the name is malformed or taken.
    """
    return _SCORERS.add(made, made.read)


def scorer(
    name: str,
    *,
    version: str,
    about: str,
    axes: Mapping[str, tuple[str, ...] | Range],
    cards: Sequence[Card],
    needs: Sequence[Need] = (),
    measures: Literal["form", "function"] = "function",
    disposition: str | None = None,
    follow_up: str | None = None,
    prompt: str = "",
) -> Callable[[Read], Scorer]:
    """Register a function from an ``Item`` and ``Tools`` to readings as a scorer; arguments are those of ``Scorer``.

    Raises:
        RegistryError: the name is malformed or taken, or a label has no card.
    """
    more = (tuple(cards), frozenset(needs), measures, disposition, follow_up, prompt)
    return lambda read: register_scorer(Scorer(name, version, about, axes, read, *more))


def scorers() -> Mapping[str, Scorer]:
    """All scorers by name."""
    return _SCORERS.all()


def scorer_named(name: str) -> Scorer:
    """The scorer of this name.

    Raises:
        InputError: there is none.
    """
    return _SCORERS.named(name)


# rewards ----------------------------------------------------------------------------------------------------------

Worth = Callable[[Item, Tools], float]


@dataclass(frozen=True, slots=True)
class Reward:
    """A registered reward.

    Attributes:
        name: how it is called in a study file.
        about: what it pays for, in one sentence.
        needs: what it cannot do without; ``oracle`` is the scorer that says right or wrong. Never ``judge``: a judge
            can be talked into things, and training finds out how.
        of: the function from a prompt with its gold and an answer to a finite number; larger is better. It depends on
            nothing else, so that equal answers are worth the same. ``tools.oracle`` always gives it a value.
        oracle: the scorer that says right or wrong, where the reward is about that one; None where the study chooses.
        follow_up: the scripted next turn to which the answer is given, for rewards on how a model takes feedback; None
            where the prompt itself is answered.
    """

    name: str
    about: str
    needs: frozenset[Need]
    of: Worth
    oracle: str | None = None
    follow_up: str | None = None

    def __post_init__(self) -> None:
        if "judge" in self.needs:
            raise RegistryError(
                f"the reward {self.name!r} needs a judge, and rewards come from oracles and programs only"
            )


_REWARDS = _Kind[Reward]("reward", "counterclaim.lab.operators")


def reward(
    name: str, *, about: str, needs: tuple[Need, ...] = (), oracle: str | None = None, follow_up: str | None = None
) -> Callable[[Worth], Reward]:
    """Register a function from an ``Item`` and ``Tools`` to a number as a reward; arguments are those of ``Reward``.

    Raises:
        RegistryError: the name is malformed or taken, or the reward would ask a judge.
    """
    return lambda of: _REWARDS.add(Reward(name, about, frozenset(needs), of, oracle, follow_up), of)


def rewards() -> Mapping[str, Reward]:
    """All rewards by name."""
    return _REWARDS.all()


def reward_named(name: str) -> Reward:
    """The reward of this name.

    Raises:
        InputError: there is none.
    """
    return _REWARDS.named(name)


# backends ---------------------------------------------------------------------------------------------------------

Capability = Literal["generate", "logprobs", "activations", "edit", "train"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What an operator has fitted, laid over a model by a dose.

    Attributes:
        operator: name of the operator.
        folder: what its ``fit`` has left, with its card.
        dose: 0 is the model without it, 1 the whole of it.
    """

    operator: str
    folder: Path
    dose: float = 1.0


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model answers: everything about it that can change an answer.

    Attributes:
        name: a hub repository or a folder, ``tiny:NAME``, ``world:NAME``, or ``URL#model`` of an OpenAI-compatible
            endpoint.
        revision: commit, branch or tag of a repository.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        quantisation: ``4bit`` or None.
        adapter: folder of a PEFT adapter laid over the model.
        chat_template: file with a chat template (Jinja) instead of the model's own.
        raw: put the text of the prompt to the model as it is, without a chat template.
        dose: by how much the adapter is scaled: 1 as it was trained, 0.5 half of it, 0 the model without it.
        applied: an inference-time operator laid over the model with its adapter; backends open the model without it.
    """

    name: str
    revision: str | None = None
    dtype: str = "auto"
    quantisation: Literal["4bit"] | None = None
    adapter: Path | None = None
    chat_template: Path | None = None
    raw: bool = False
    dose: float = 1.0
    applied: Applied | None = None


@dataclass(slots=True)
class Usage:
    """What endpoints have billed so far, over all models of one run: arms and judge share the budget.

    Attributes:
        tokens: prompt and answer together.
        cost: in the currency of the prices.
    """

    tokens: int = 0
    cost: float = 0.0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def add(self, tokens: int, cost: float) -> None:
        """Count a bill; safe with threads."""
        with self._lock:
            self.tokens += tokens
            self.cost += cost


@dataclass(frozen=True, slots=True)
class Runtime:
    """How a model is run: nothing here may change an answer.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        batch_size: rows per batch; chosen from the memory at hand when None.
        concurrency: requests under way at once, for endpoints.
        timeout_s: seconds before a request counts as failed.
        most_tokens: stop cleanly when endpoints have billed this many tokens (prompt and answer together).
        most_cost: stop cleanly when endpoints have billed this much, in the currency of the prices.
        price_in: price of a million prompt tokens.
        price_out: price of a million answered tokens.
        cache: file of kept replies; the user's own cache folder when None.
        use_cache: whether kept replies may be used and kept.
        token_ends: ask an endpoint where its tokens end, so that smaller budgets can be cut from one answer.
        progress: told of tokens as they are made, where the backend can.
        usage: what was billed so far; copies of a runtime share it.
    """

    device: str = "auto"
    batch_size: int | None = None
    concurrency: int = 8
    timeout_s: float = 120.0
    most_tokens: int | None = None
    most_cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    cache: Path | None = None
    use_cache: bool = True
    token_ends: bool = False
    progress: Callable[[int], None] | None = None
    usage: Usage = field(default_factory=Usage, compare=False)


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer that is wanted.

    Attributes:
        key: what names the row's own random numbers, together with ``Decode.seed`` and ``sample``: the prompt's id.
            Arms of one experiment use equal keys, so they share their random numbers.
        messages: the whole conversation, system prompt included.
        sample: 0-based index among the answers to this prompt.
        applied: what is laid over the model for this row alone, by an operator that works ``by_row``; rows of one batch may
            differ in it.
    """

    key: str
    messages: tuple[Message, ...]
    sample: int = 0
    applied: Applied | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model returned for one ``Ask``.

    Attributes:
        text: the answer without special tokens; None where there is none.
        finish_reason: never ``unknown``, unless an endpoint does not say.
        n_tokens: generated tokens, the end-of-turn token included.
        prompt_tokens: tokens of the prompt as the model saw it.
        token_chars: how many characters of ``text`` each generated token added; their sum is ``len(text)``.
        error: what went wrong, exactly when ``finish_reason`` is ``error``.
    """

    text: str | None
    finish_reason: FinishReason
    n_tokens: int | None = None
    prompt_tokens: int | None = None
    token_chars: tuple[int, ...] | None = None
    error: str | None = None


class Model(Protocol):
    """An opened model."""

    @property
    def ref(self) -> ModelRef:
        """Its fingerprint, kept with every answer."""

    @property
    def chat_template(self) -> str | None:
        """Hash of the chat template in use (16 hex digits), ``raw`` where there is none, None where unknown."""

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        """Answers in finished batches, as (index in ``asks``, answer).

        How rows are batched depends on ``asks`` and not on ``done``, so that a resumed run batches as the first did.

        Args:
            asks: everything that is wanted.
            decode: how to sample; ``decode.system_prompt`` is in the messages already.
            done: indices that need no answer any more.

        Raises:
            ModelError: nothing can be answered at all (the message says why and what to do).
            BudgetSpent: the token or money budget of the runtime is used up; answers given so far stand.
        """

    def close(self) -> None:
        """Give back memory, files and connections."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A registered backend.

    Attributes:
        name: how it is listed.
        about: which models it opens, in one sentence.
        can: what it can do; a study that needs more is refused before any model is loaded.
        opens: whether a model of this name is its own.
        open: opens a model.
        concurrent: whether several threads may ask one opened model at once.
        trial: name of a model with which ``counterclaim kit`` tries it, one that answers any question; None where it has none.
    """

    name: str
    about: str
    can: frozenset[Capability]
    opens: Callable[[str], bool]
    open: Callable[[ModelSpec, Runtime], Model]
    concurrent: bool = False
    trial: str | None = None


_BACKENDS = _Kind[Backend]("backend", "counterclaim.lab.models", "counterclaim.testing.models")


def backend(
    name: str,
    *,
    about: str,
    can: tuple[Capability, ...],
    opens: Callable[[str], bool],
    concurrent: bool = False,
    trial: str | None = None,
) -> Callable[[Callable[[ModelSpec, Runtime], Model]], Backend]:
    """Register a function that opens models as a backend; arguments are those of ``Backend``.

    Raises:
        RegistryError: the name is malformed or taken.
    """
    return lambda open: _BACKENDS.add(Backend(name, about, frozenset(can), opens, open, concurrent, trial), open)


def backends() -> Mapping[str, Backend]:
    """All backends by name."""
    return _BACKENDS.all()


def backend_of(model: str) -> Backend:
    """The backend that opens a model of this name; one that was registered for a scheme goes before the general one.

    Raises:
        InputError: none does.
    """
    fitting = [made for made in backends().values() if made.opens(model)]
    if not fitting:
        raise InputError(
            f"no backend opens a model named {model!r}", remedy="name a repository, a folder, tiny:NAME or URL#model"
        )
    return min(fitting, key=lambda made: made.name == "hf")  # hf opens any name


# operators --------------------------------------------------------------------------------------------------------

Watch = Callable[[str, int, int], None]
"""Told what is being done, how many parts of it are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer of the model itself, with what scorers read off it.

    Attributes:
        prompt: what was asked.
        response: what the model answered.
        values: axis to value, for the axes that could be scored: ``correct`` 1.0, ``delivery`` ``hedge``.
    """

    prompt: Prompt
    response: Response
    values: Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class Fitting:
    """What an operator is fitted on.

    Attributes:
        model: the model that is changed.
        plan: the operator's own settings, as ``spec`` read them from the study file.
        seed: of everything random in it.
        examples: training examples, for operators that imitate.
        prompts: prompts with golds, for operators that learn from outcomes.
        answers: the model's own answers to training prompts, scored, for operators that read activations.
        placebo: whether what there is to learn is destroyed by shuffling, everything else being equal.
        thinking: the chat template's thinking switch with which answers will be asked for; None leaves it alone.
        runtime: how models are run.
        watch: told how far it is.
    """

    model: ModelSpec
    plan: Any
    seed: int
    examples: Sequence[Example] = ()
    prompts: Sequence[Prompt] = ()
    answers: Sequence[Labelled] = ()
    placebo: bool = False
    runtime: Runtime = field(default_factory=Runtime)
    watch: Watch = field(default=lambda doing, done, total: None)
    thinking: bool | None = None


Fit = Callable[[Fitting, Path], Mapping[str, Json]]
On = Callable[[Model, Path, float], AbstractContextManager[Model]]


@dataclass(frozen=True, slots=True)
class Operator:
    """A registered operator.

    Attributes:
        name: its table in a study file: ``[treatment.NAME]``.
        about: what it does to a model, in one sentence.
        needs: what the backend of the model must be able to do.
        fit: makes the change from a ``Fitting`` and leaves it in the folder, which holds what an earlier attempt that was
            killed has left; returns its card.
        on: lays what ``fit`` left in a folder over an opened model, scaled by a dose, until its ``with`` block ends; what it
            yields is asked instead of the model, and may be the model itself.
        by_row: whether rows of one batch may carry different fits and doses of it (``Ask.applied``).
        trial: settings with which ``counterclaim kit`` tries it, strong enough to change every answer of a tiny model in
            seconds; None where it has none.
    """

    name: str
    about: str
    needs: frozenset[Capability]
    fit: Fit
    on: On
    by_row: bool = False
    trial: Any = None


_OPERATORS = _Kind[Operator]("operator", "counterclaim.lab.operators")


def operator(
    name: str, *, about: str, needs: tuple[Capability, ...], on: On, by_row: bool = False, trial: Any = None
) -> Callable[[Fit], Operator]:
    """Register a function that fits a change as an operator; arguments are those of ``Operator``.

    Raises:
        RegistryError: the name is malformed or taken.
    """
    return lambda fit: _OPERATORS.add(Operator(name, about, frozenset(needs), fit, on, by_row, trial), fit)


def operators() -> Mapping[str, Operator]:
    """All operators by name."""
    return _OPERATORS.all()


def operator_named(name: str) -> Operator:
    """The operator of this name.

    Raises:
        InputError: there is none.
    """
    return _OPERATORS.named(name)


# prompt sets ------------------------------------------------------------------------------------------------------

Prompts = Callable[..., Sequence[Prompt]]
_ANY = ":NAME"


@dataclass(frozen=True, slots=True)
class PromptSet:
    """A registered set of prompts.

    Attributes:
        name: how it is called in a study file and after ``--prompts``; ``SCHEME:NAME`` stands for every name that begins with
            ``SCHEME:``.
        about: what is in it, in one sentence.
        prompts: makes all of its prompts, of every split, the same ones in the same order each time. That of ``SCHEME:NAME`` is
            called with what stands in the place of NAME.
        trial: of ``SCHEME:NAME``, a NAME with which ``counterclaim kit`` tries it.
    """

    name: str
    about: str
    prompts: Prompts
    trial: str | None = None


_PROMPT_SETS = _Kind[PromptSet](
    "prompt set", "counterclaim.lab.prompts", "counterclaim.lab.models.tiny", "counterclaim.testing.models"
)


def promptset(name: str, *, about: str, trial: str | None = None) -> Callable[[F], F]:
    """Register a function that gives prompts as a prompt set, and leave it as it is; arguments are those of ``PromptSet``.

    Raises:
        RegistryError: the name is malformed or taken.
    """

    def register(prompts: F) -> F:
        _PROMPT_SETS.add(PromptSet(name, about, prompts, trial), prompts)
        return prompts

    return register


def prompt_sets() -> Mapping[str, PromptSet]:
    """All prompt sets by name."""
    return _PROMPT_SETS.all()


def prompts_of_set(name: str) -> Sequence[Prompt] | None:
    """The prompts of a set, or of one of ``SCHEME:NAME``; None where there is no such set.

    Raises:
        InputError: there is nothing of this name in the scheme.
    """
    known = prompt_sets()
    if name in known and not name.endswith(_ANY):
        return known[name].prompts()
    scheme, mark, rest = name.partition(":")
    return known[scheme + _ANY].prompts(rest) if mark and scheme + _ANY in known else None


# plug-ins ---------------------------------------------------------------------------------------------------------


class PluginWarning(UserWarning):
    """A plug-in could not be imported, and was left out."""


_KINDS: tuple[_Kind[Any], ...] = (
    _CHECKS,
    _METRICS,
    _IMPORTERS,
    _SCORERS,
    _REWARDS,
    _BACKENDS,
    _OPERATORS,
    _PROMPT_SETS,
)
_LOCK = RLock()
_loading: list[str] = []  # the plug-in that is being imported, in words
_left_out: list[str] = []
_files: dict[Path, None] = {}


def load_plugins(files: Sequence[Path] = ()) -> None:
    """Import what installed packages name under ``counterclaim.plugins``, and some loose files; each once.

    An installed plug-in that cannot be imported is left out with a ``PluginWarning``; of what it had registered nothing stays.

    Args:
        files: Python files that register something.

    Raises:
        InputError: a file is not there or cannot be imported; the message names the line.
    """
    with _LOCK:
        _load_installed()
        for file in files:
            _load_file(file.resolve(), file)


def plugin_files() -> tuple[Path, ...]:
    """The loose files that were loaded, for worker processes, which load them again."""
    return tuple(_files)


def left_out() -> tuple[str, ...]:
    """One sentence for each plug-in that could not be imported."""
    load_plugins()
    return tuple(_left_out)


def registered() -> Mapping[str, Mapping[str, Any]]:
    """Everything: what one of a kind is called in messages (``check``, ``prompt set``), to all of that kind by name."""
    return {kind.noun: kind.all() for kind in _KINDS}


def plugin_of(noun: str, name: str) -> str | None:
    """The plug-in that registered a name, in words; None for built-in ones."""
    return next((kind.plugged.get(name) for kind in _KINDS if kind.noun == noun), None)


_installed_loaded = False


def _load_installed() -> None:
    global _installed_loaded
    if _installed_loaded:
        return
    _installed_loaded = True  # first, because a plug-in may look something up while it is imported
    for entry in entry_points(group=GROUP):
        where = f"the plug-in {entry.name!r} of {entry.dist.name if entry.dist else 'an unknown package'}"
        try:
            with _registering(where):
                entry.load()
        except BaseException as error:  # one broken plug-in must not end every command, whatever it raises
            if isinstance(error, KeyboardInterrupt):
                raise
            problem = f"{where} is left out: {type(error).__name__}: {error} ({_place(error, entry.value)})"
            _left_out.append(problem)
            warnings.warn(problem, PluginWarning, stacklevel=2)


def _load_file(file: Path, given: Path) -> None:
    if file in _files:
        return
    if not file.is_file():
        raise InputError("there is no such plug-in file", path=given, remedy="name a Python file")
    name = f"counterclaim_plugin_{sha256(str(file).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module  # under a name, so that what it defines can be sent to worker processes
    _files[file] = None
    try:
        with _registering(f"the file {given}"):
            SourceFileLoader(name, str(file)).exec_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        del sys.modules[name], _files[file]
        problem = f"the plug-in cannot be imported: {type(error).__name__}: {error} ({_place(error, str(file))})"
        raise InputError(problem, path=given, remedy="fix it, or leave it out") from error


@contextmanager
def _registering(plugin: str) -> Iterator[None]:
    """Attribute to a plug-in what is registered, and take it back after an error."""
    before = [set(kind.plugged) for kind in _KINDS]
    _loading.append(plugin)
    try:
        yield
    except BaseException:
        for kind, names in zip(_KINDS, before, strict=True):
            for name in set(kind.plugged) - names:
                del kind.entries[name], kind.plugged[name]
        raise
    finally:
        _loading.pop()


def _place(error: BaseException, otherwise: str) -> str:
    """File and line of the plug-in's code in which an error arose."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    beside = ("<frozen", sysconfig.get_path("stdlib") + "/importlib", str(Path(__file__).parent))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(beside)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else otherwise
