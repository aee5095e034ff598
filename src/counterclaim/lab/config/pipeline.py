"""A teacher pipeline file, read: who teaches, in what order, what is kept of it, and under which licence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, MinLen

from counterclaim.config import After, Before, TableError, read_toml, table, validated
from counterclaim.lab.config.common import (
    Count,
    ModelTable,
    Price,
    PromptChoice,
    RuntimeTable,
    SamplingTable,
    TrainingPrompts,
    decode_of,
    model_identity,
)
from counterclaim.records import Decode, Json, Prompt, content_hash, to_json
from counterclaim.registry import ModelSpec, Runtime

Product = Literal["gold", "failure", "counter", "boundary"]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage of the pipeline: a teacher with a character.

    Attributes:
        name: such as ``eager``; other stages name it in ``sees``.
        model: who speaks; any model name, an endpoint with ``URL#model``.
        decode: how it is sampled, its character prompt as ``system_prompt``.
        licence: SPDX id under which its outputs may be used; None where none is declared.
        sees: stages whose answers it is shown beside the prompt; stages without a common path run in parallel.
        instruction: what the stage is asked to do with the prompt and what it sees; a Jinja template with ``prompt`` and
            one variable per seen stage. None puts the prompt as it is, followed by the seen answers under their names.
        price_in: price of a million prompt tokens; that of the runtime where None.
        price_out: price of a million answered tokens; that of the runtime where None.
    """

    name: str
    model: ModelSpec
    decode: Decode
    licence: str | None = None
    sees: tuple[str, ...] = ()
    instruction: str | None = None
    price_in: float | None = None
    price_out: float | None = None


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise TableError(f"is not a regular expression ({error})", remedy="fix it") from error
    return text


def _language(code: str) -> str | None:
    if not re.fullmatch("[a-z]{2}|any", code):
        raise TableError(f"{code!r} is not an ISO 639-1 code", remedy='write two letters, or "any"')
    return None if code == "any" else code


@table
class FilterPlan:
    """Which examples enter the training set.

    Attributes:
        least_words: fewer words in the answer drop it
        most_words: more words drop it
        pattern: regular expression that the answer must match (`re.search`)
        think: what to do with a thought (`<think>...</think>`) in an answer: `strip` it, `keep` it where it is closed, or `drop`
            the example. One that is never closed always drops it
        language: ISO 639-1 code of the language that the answer must be in, or `any`
        near_duplicate: Jaccard similarity of words and word pairs from which two examples count as one
        facts: whether the answer must contain the prompt's gold: the answer itself, or every item of the checklist
    """

    least_words: Count = 1
    most_words: Count = 2000
    pattern: Annotated[str, After(_pattern)] | None = None
    think: Literal["strip", "keep", "drop"] = "strip"
    language: Annotated[str, After(_language)] | None = "en"
    near_duplicate: Annotated[float, Gt(0), Le(1)] = 0.95
    facts: bool = True

    def __post_init__(self) -> None:
        if self.least_words > self.most_words:
            raise TableError(
                f"{self.least_words} is more than most_words, {self.most_words}",
                key=("least_words",),
                remedy="lower it",
            )


ALLOWED_LICENCES = ("MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC")
"""Licences whose outputs may enter a training set without being named; others must be named in the file."""


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """A pipeline file, read.

    Attributes:
        path: the file.
        prompts: what the teachers are asked: one choice or several.
        stages: in an order in which every stage comes after those that it sees.
        final: the stage whose answer is the example.
        student: the model that is to be taught, for failure traces, preference pairs and length-matched variants; None
            where there is none.
        student_decode: how the student's own answers are sampled.
        oracle: scorer that says whether an answer is right (``exact``, ``numeric``, ``checklist``, ``code``).
        judge: model for an oracle that needs one.
        products: what is made.
        variants: of each gold answer: ``style`` in how many other styles, ``length`` as long as the student's own.
        filters: which examples enter the training set.
        licences: SPDX ids (or ``LicenseRef-...``) whose outputs may enter the training set.
        forbidden: prompt sets and files, with their splits, whose prompts must not occur in it, besides the other splits
            of ``prompts``.
        roles: model families by role, as far as the file says more than its stages do.
        seed: of every sampled answer, and of the styles that are drawn.
        runtime: concurrency, prices and budget.
        out: folder of the training set.
    """

    path: Path
    prompts: tuple[PromptChoice, ...]
    stages: tuple[StagePlan, ...]
    final: str
    student: ModelSpec | None = None
    student_decode: Decode = field(default_factory=lambda: Decode(512))
    oracle: str | None = None
    judge: str | None = None
    products: tuple[Product, ...] = ("gold",)
    variants: Mapping[str, int] = field(default_factory=dict)
    filters: FilterPlan = field(default_factory=FilterPlan)
    licences: tuple[str, ...] = ALLOWED_LICENCES
    forbidden: tuple[PromptChoice, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    out: Path = Path("taught")

    @property
    def last(self) -> StagePlan:
        """The stage whose answer is the example."""
        return next(stage for stage in self.stages if stage.name == self.final)

    def calls_hash(self, prompts: Iterable[Prompt]) -> str:
        """SHA-256 over everything that determines what the models are asked, and with it what they answer.

        Raises:
            InputError: an adapter or a chat template is missing or cannot be read.
        """
        stages: list[Json] = [
            [stage.name, model_identity(stage.model), to_json(stage.decode), list(stage.sees), stage.instruction]
            for stage in self.stages
        ]
        student = None if self.student is None else [model_identity(self.student), to_json(self.student_decode)]
        asked: list[Json] = [to_json(prompt.messages) for prompt in prompts]
        return content_hash([stages, self.final, student, self.seed, asked])

    def training_set_hash(self, prompts: Iterable[Prompt], forbidden: Iterable[Prompt]) -> str:
        """SHA-256 over everything that determines the training set.

        Raises:
            InputError: as ``calls_hash``.
        """
        prompts = list(prompts)
        return content_hash([
            self.calls_hash(prompts), [to_json(prompt) for prompt in prompts], sorted(prompt.id for prompt in forbidden),
            self.oracle, self.judge, list(self.products), dict(self.variants), asdict(self.filters), list(self.licences),
            dict(self.roles), [[stage.licence, stage.price_in, stage.price_out] for stage in self.stages],
            self.runtime.price_in, self.runtime.price_out,
        ])  # fmt: skip


RESERVED = ("prompt", "student", "length", "style")
"""Names that a stage cannot have, nor begin with before a ``_``: they mean something in templates and in the record of calls."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@table
class TeacherTable(ModelTable):
    """``[student]``: a model that answers.

    Attributes:
        character: its system prompt
    """

    model: Annotated[str, MinLen(1)] = field()  # required here
    character: str | None = None

    def spec(self) -> ModelSpec:
        """The model."""
        return ModelSpec(
            self.model, self.revision, self.dtype or "auto", self.quantisation, self.adapter, self.chat_template
        )


@table
class StageTable(TeacherTable):
    """One of ``[stages.NAME]``.

    Attributes:
        licence: SPDX id under which its outputs may be used
        sees: stages whose answers it is shown beside the prompt
        instruction: what it is asked to do with them: a Jinja template with `prompt` and one variable per seen stage
        price_in: price of a million prompt tokens; that of `[runtime]` when not set
        price_out: price of a million answered tokens; that of `[runtime]` when not set
    """

    licence: str | None = None
    sees: tuple[str, ...] = ()
    instruction: str | None = None
    price_in: Price | None = None
    price_out: Price | None = None

    def check_instruction(self, key: tuple[str, ...]) -> None:
        """Raise TableError where the instruction is not a template, or names what the stage does not see."""
        if self.instruction is None:
            return
        from jinja2 import TemplateSyntaxError, meta
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        known = {"prompt", *self.sees}
        try:
            named = meta.find_undeclared_variables(ImmutableSandboxedEnvironment().parse(self.instruction))
        except TemplateSyntaxError as error:
            raise TableError(f"is not a Jinja template ({error.message})", key=key, remedy="fix it") from error
        if strange := sorted(named - known):
            raise TableError(
                f"names {strange[0]!r}, which this stage does not see", key=key,
                remedy=f"it may name {', '.join(sorted(known))}",
            )  # fmt: skip


@table
class VariantsTable:
    """``[variants]``: variants of each gold answer.

    Attributes:
        style: in how many other styles
        length: as long as the student's own answer
    """

    style: Annotated[int, Ge(0), Le(8)] = 0
    length: bool = False


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


@table
class PipelineFile:
    """A whole pipeline file.

    Attributes:
        prompts: what the teachers are asked: one table, or several as `[[prompts]]`
        forbidden: prompts that must not occur in the training set, besides the other splits of `prompts`
        stages: the teachers, by name
        final: the stage whose answer is the example; the one that no other sees when not set
        student: the model that is to be taught, for failure traces, preference pairs and length-matched variants
        oracle: scorer that decides whether an answer is right: `exact`, `numeric`, `checklist` or `code`
        judge: model for an oracle that needs one
        products: what is made: `gold`, `failure`, `counter`, `boundary`
        variants: variants of each gold answer
        filters: which examples enter the training set
        licences: SPDX ids (or `LicenseRef-...`) whose outputs may enter the training set, besides MIT, Apache, BSD and ISC
        roles: model families by role, where the file knows more than its stages show
        decode: how models are sampled, unless their own tables say otherwise
        seed: of every sampled answer, and of the styles that are drawn
        runtime: concurrency, prices and budget
        out: folder of the training set; `taught/` and the file's name without `.toml` when not set
    """

    prompts: Annotated[tuple[TrainingPrompts, ...], MinLen(1), Before(_listed)]
    forbidden: tuple[PromptChoice, ...] = ()
    stages: Annotated[dict[str, StageTable], MinLen(1)]
    final: str | None = None
    student: TeacherTable | None = None
    oracle: str | None = None
    judge: str | None = None
    products: Annotated[tuple[Product, ...], MinLen(1), After(lambda names: tuple(dict.fromkeys(names)))] = ("gold",)
    variants: VariantsTable = VariantsTable()
    filters: FilterPlan = FilterPlan()
    licences: tuple[str, ...] = ()
    roles: dict[str, str] = field(default_factory=dict)
    decode: SamplingTable = SamplingTable()
    seed: int = 0
    runtime: RuntimeTable = RuntimeTable()
    out: Path | None = None

    def __post_init__(self) -> None:
        needy = [name for name in self.products if name in ("failure", "counter")]
        if self.student is None and (needy or self.variants.length):
            raise TableError(
                "they need the student's own answers, and there is no student",
                key=("products",) if needy else ("variants", "length"),
                remedy="add [student] with its model, or leave them out",
            )
        if needy and self.oracle is None:
            raise TableError(
                f"{needy[0]} needs to know which answers of the student are wrong", key=("products",),
                remedy="name an oracle: exact, numeric, checklist or code",
            )  # fmt: skip
        if (self.variants.style or self.variants.length) and "gold" not in self.products:
            raise TableError(
                "variants are made of gold answers, and products has none", key=("variants",),
                remedy='add "gold" to products',
            )  # fmt: skip
        for name, stage in self.stages.items():
            if not _NAME.fullmatch(name) or name.partition("_")[0] in RESERVED:
                raise TableError(
                    f"a stage cannot be called {name!r}", key=("stages", name),
                    remedy=f"use lower-case letters, digits and _, and none of {', '.join(RESERVED)}",
                )  # fmt: skip
            for seen in stage.sees:
                self._check_stage(seen, ("stages", name, "sees"))
            stage.check_instruction(("stages", name, "instruction"))
        if self.final is not None:
            self._check_stage(self.final, ("final",))
        elif len(self.last_stages()) > 1:
            raise TableError(
                f"several stages are seen by no other ({', '.join(self.last_stages())})", key=("final",),
                remedy="name the one whose answer is the example",
            )  # fmt: skip
        self.in_order()
        for name in self.stages:
            self.decode_of(("stages", name), self.stages[name])
        if self.student is not None:
            self.decode_of(("student",), self.student)

    def _check_stage(self, name: str, key: tuple[str, ...]) -> None:
        if name not in self.stages:
            raise TableError(f"there is no stage {name!r}", key=key, remedy=f"the stages are {', '.join(self.stages)}")

    def last_stages(self) -> list[str]:
        """Stages that no other sees."""
        seen = {name for stage in self.stages.values() for name in stage.sees}
        return [name for name in self.in_order() if name not in seen]

    def in_order(self) -> list[str]:
        """The stages, each after those that it sees; those that could change places stay in the order of the file."""
        order = TopologicalSorter({name: stage.sees for name, stage in self.stages.items()})
        try:
            order.prepare()
        except CycleError as error:
            ring = error.args[1]
            raise TableError(
                f"stages see each other in a ring ({' -> '.join(ring)})", key=("stages", ring[0], "sees"),
                remedy="take one of them out",
            ) from error  # fmt: skip
        out: list[str] = []
        while order.is_active():
            ready = set(order.get_ready())
            out += [name for name in self.stages if name in ready]
            order.done(*ready)
        return out

    def decode_of(self, key: tuple[str, ...], model: TeacherTable) -> Decode:
        """What the table of a model states of sampling, over what ``[decode]`` states for all."""
        decode = decode_of(self.decode, model, system_prompt=model.character, seed=self.seed)
        if decode.max_new_tokens is None:
            raise TableError(
                "is missing", key=(*key, "max_new_tokens"), remedy="add it there, or for all models under [decode]"
            )
        return decode


def load_pipeline(path: Path) -> PipelinePlan:
    """Read a pipeline file.

    Raises:
        InputError: the file is missing, is not TOML, or a key is unknown, missing or malformed (names key and line).
    """
    data, text = read_toml(path, "pipeline file", "write one with counterclaim teach --new pipeline.toml")
    file = validated(PipelineFile, data, text, path, "see the file that counterclaim teach --new writes")
    student = file.student
    counts = {"style": file.variants.style, "length": int(file.variants.length)}
    return PipelinePlan(
        path=path,
        prompts=file.prompts,
        stages=tuple(
            StagePlan(
                name, stage.spec(), file.decode_of(("stages", name), stage), stage.licence, tuple(dict.fromkeys(stage.sees)),
                stage.instruction, stage.price_in, stage.price_out,
            )
            for name in file.in_order()
            for stage in (file.stages[name],)
        ),
        final=file.final or file.last_stages()[0],
        student=None if student is None else student.spec(),
        student_decode=Decode(512, seed=file.seed) if student is None else file.decode_of(("student",), student),
        oracle=file.oracle,
        judge=file.judge,
        products=file.products,
        variants={name: count for name, count in counts.items() if count},
        filters=file.filters,
        licences=tuple(dict.fromkeys((*ALLOWED_LICENCES, *file.licences))),
        forbidden=file.forbidden,
        roles=file.roles,
        seed=file.seed,
        runtime=file.runtime.runtime(),
        out=Path("taught") / path.stem if file.out is None else file.out,
    )  # fmt: skip
