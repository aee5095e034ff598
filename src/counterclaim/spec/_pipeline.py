"""A teacher pipeline file, read: who teaches, in what order, what is kept of it, and under which licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from counterclaim.records import Decode
from counterclaim.registry import ModelSpec, Runtime
from counterclaim.spec._choices import PromptChoice

Product = Literal["gold", "failure", "counter", "boundary"]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage of the pipeline: a teacher with a character.

    Attributes:
        name: such as ``eager``; other stages name it in ``sees``.
        model: who speaks; any model name, an endpoint with ``URL#model``.
        decode: how it is sampled, its character prompt as ``system_prompt``.
        licence: SPDX id under which its outputs may be used; None where nobody declared one.
        sees: stages whose answers it is shown beside the prompt; stages without a common path run in parallel.
        instruction: what the stage is asked to do with the prompt and what it sees; a Jinja template with ``prompt`` and
            one variable per seen stage. None puts the prompt as it is, followed by the seen answers under their names.
    """

    name: str
    model: ModelSpec
    decode: Decode
    licence: str | None = None
    sees: tuple[str, ...] = ()
    instruction: str | None = None


@dataclass(frozen=True, slots=True)
class FilterPlan:
    """Which examples are fit to be learnt from.

    Attributes:
        least_words: fewer words in the answer drop it.
        most_words: more words drop it.
        pattern: regular expression that the answer must match (``re.search``); None for any.
        think: what to do with a thought (``<think>...</think>``) in an answer: take it out, keep it where it is closed,
            or drop the example. One that is never closed always drops it.
        language: ISO 639-1 code of the language that the answer must be in; None for any.
        near_duplicate: Jaccard similarity of words and word pairs from which two examples count as one.
        facts: whether the answer must contain what the prompt's gold says: the answer itself, or every item of the
            checklist.
    """

    least_words: int = 1
    most_words: int = 2000
    pattern: str | None = None
    think: Literal["strip", "keep", "drop"] = "strip"
    language: str | None = "en"
    near_duplicate: float = 0.95
    facts: bool = True


ALLOWED_LICENCES = ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC")
"""Licences whose outputs may enter a training set without being named; others must be named in the file."""


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """A pipeline file, read.

    Attributes:
        path: the file.
        prompts: what the teachers are asked.
        stages: in an order in which every stage comes after those that it sees.
        final: the stage whose answer is learnt.
        student: the model that is to be taught, for failure traces, preference pairs and length-matched variants; None
            where there is none.
        student_decode: how the student's own answers are sampled.
        oracle: instrument that says whether an answer is right (``exact``, ``numeric``, ``checklist``, ``code``).
        judge: model for an oracle that needs one.
        products: what is made.
        variants: of each gold answer: ``style`` in so many other styles, ``length`` as long as the student's own.
        filters: which examples are fit to be learnt from.
        licences: SPDX ids (or ``LicenseRef-...``) whose outputs may enter the training set.
        forbidden: prompt sets and files, with their splits, whose prompts must not occur in it.
        roles: model families by role, as far as the file says more than its stages do.
        runtime: concurrency, prices and budget.
        out: folder of the training set.
    """

    path: Path
    prompts: PromptChoice
    stages: tuple[StagePlan, ...]
    final: str
    student: ModelSpec | None = None
    student_decode: Decode = field(default_factory=lambda: Decode(512))
    oracle: str | None = None
    judge: str | None = None
    products: tuple[Product, ...] = ("gold",)
    variants: Mapping[str, int] = field(default_factory=dict)
    filters: FilterPlan = FilterPlan()
    licences: tuple[str, ...] = ALLOWED_LICENCES
    forbidden: tuple[PromptChoice, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    runtime: Runtime = field(default_factory=Runtime)
    out: Path = Path("taught")
