"""A teacher pipeline file, read: who teaches, in what order, what is kept of it, and under which licence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from counterclaim.config import line_of, read_toml, validated
from counterclaim.errors import InputError
from counterclaim.lab.config.models import model_identity, runtime_schema
from counterclaim.lab.config.prompts import PromptChoice, prompts_schema
from counterclaim.records import Decode, Json, Prompt, content_hash, to_json
from counterclaim.registry import ModelSpec, Runtime

if TYPE_CHECKING:
    from pydantic import BaseModel

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
        prompts: what the teachers are asked: one choice or several.
        stages: in an order in which every stage comes after those that it sees.
        final: the stage whose answer is learnt.
        student: the model that is to be taught, for failure traces, preference pairs and length-matched variants; None
            where there is none.
        student_decode: how the student's own answers are sampled.
        oracle: scorer that says whether an answer is right (``exact``, ``numeric``, ``checklist``, ``code``).
        judge: model for an oracle that needs one.
        products: what is made.
        variants: of each gold answer: ``style`` in so many other styles, ``length`` as long as the student's own.
        filters: which examples are fit to be learnt from.
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
    filters: FilterPlan = FilterPlan()
    licences: tuple[str, ...] = ALLOWED_LICENCES
    forbidden: tuple[PromptChoice, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    runtime: Runtime = field(default_factory=Runtime)
    out: Path = Path("taught")

    @property
    def last(self) -> StagePlan:
        """The stage whose answer is learnt."""
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
_SEE = "see the file that counterclaim teach --new writes"


def load_pipeline(path: Path) -> PipelinePlan:
    """Read a pipeline file.

    Raises:
        InputError: the file is missing, is not TOML, or a key is unknown, missing or malformed (names key and line).
    """
    data, text = read_toml(path, "pipeline file", "write one with counterclaim teach --new pipeline.toml")
    if isinstance(data.get("prompts"), dict):
        data["prompts"] = [data["prompts"]]
    file = _File(path, text)
    tables: Any = validated(_pipeline_schema(), data, text, path, _SEE)
    stages = _stages(tables, file)
    products = tuple(dict.fromkeys(tables.products))
    variants = {name: count for name, count in (("style", tables.variants.style), ("length", int(tables.variants.length))) if count}  # fmt: skip
    needy = [name for name in products if name in ("failure", "counter")]
    if tables.student is None and (needy or "length" in variants):
        file.refuse(("products",) if needy else ("variants", "length"), "they need the student's own answers, and there is no student",
                    "add [student] with its model, or leave them out")  # fmt: skip
    if needy and tables.oracle is None:
        file.refuse(("products",), f"{needy[0]} needs to know which answers of the student are wrong", "name an oracle: exact, numeric, checklist or code")  # fmt: skip
    if variants and "gold" not in products:
        file.refuse(("variants",), "variants are made of gold answers, and none are wanted", 'add "gold" to products')
    seed = tables.seed
    return PipelinePlan(
        path=path,
        prompts=tuple(file.prompts(("prompts", i), table) for i, table in enumerate(tables.prompts)),
        stages=tuple(replace(stage, decode=replace(stage.decode, seed=seed)) for stage in stages),
        final=_final(tables.final, stages, file),
        student=None if tables.student is None else file.model(tables.student),
        student_decode=Decode(512, seed=seed) if tables.student is None else _decode(("student",), tables.student, tables, file),
        oracle=tables.oracle,
        judge=tables.judge,
        products=products,
        variants=variants,
        filters=_filters(tables.filters, file),
        licences=tuple(dict.fromkeys((*ALLOWED_LICENCES, *tables.licences))),
        forbidden=tuple(file.prompts(("forbidden", i), table) for i, table in enumerate(tables.forbidden)),
        roles=dict(tables.roles),
        seed=seed,
        runtime=Runtime(**tables.runtime.model_dump()),
        out=Path("taught") / path.stem if tables.out is None else Path(tables.out),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _File:
    """The file that is read: where its keys stand, and what lies beside it."""

    path: Path
    text: str

    def refuse(self, key: tuple[int | str, ...], problem: str, remedy: str) -> NoReturn:
        """Raise InputError that names a key and its line."""
        name = ".".join(str(part) for part in key)
        raise InputError(f"{name}: {problem}", path=self.path, line=line_of(key, self.text), remedy=remedy)

    def beside(self, name: str | None) -> Path | None:
        return None if name is None else self.path.parent / Path(name).expanduser()

    def prompts(self, key: tuple[int | str, ...], table: Any) -> PromptChoice:
        name = ".".join(str(part) for part in key)
        return PromptChoice.of_table(table.model_dump(), self.path, name, line_of(key, self.text))

    def model(self, table: Any) -> ModelSpec:
        return ModelSpec(
            name=table.model,
            revision=table.revision,
            dtype=table.dtype,
            quantisation=table.quantisation,
            adapter=self.beside(table.adapter),
            chat_template=self.beside(table.chat_template),
        )


def _decode(key: tuple[int | str, ...], table: Any, tables: Any, file: _File) -> Decode:
    """What a table says of sampling, over what ``[decode]`` says of all."""
    names = tuple(type(tables.decode).model_fields)
    said = {name: getattr(part, name) for part in (tables.decode, table) for name in names if getattr(part, name) is not None}  # fmt: skip
    if "max_new_tokens" not in said:
        file.refuse((*key, "max_new_tokens"), "is missing", "say it there, or for all models under [decode]")
    stop = said.pop("stop", None)
    said.setdefault("temperature", 0.0)
    return Decode(**said, stop=None if stop is None else tuple(stop), system_prompt=table.character, seed=tables.seed)


def _stages(tables: Any, file: _File) -> list[StagePlan]:
    """The stages, each after those that it sees; those that could change places stay in the order of the file."""
    made: dict[str, StagePlan] = {}
    for name, table in tables.stages.items():
        key = ("stages", name)
        if not _NAME.fullmatch(name) or name.partition("_")[0] in RESERVED:
            file.refuse(key, f"a stage cannot be called {name!r}", f"use lower-case letters, digits and _, and none of {', '.join(RESERVED)}")  # fmt: skip
        for seen in table.sees:
            if seen not in tables.stages:
                file.refuse((*key, "sees"), f"there is no stage {seen!r}", f"the stages are {', '.join(tables.stages)}")
        _check_template((*key, "instruction"), table, file)
        made[name] = StagePlan(
            name, file.model(table), _decode(key, table, tables, file), table.licence, tuple(dict.fromkeys(table.sees)),
            table.instruction, table.price_in, table.price_out,
        )  # fmt: skip
    order = TopologicalSorter({name: stage.sees for name, stage in made.items()})
    try:
        order.prepare()
    except CycleError as error:
        ring = error.args[1]
        file.refuse(("stages", ring[0], "sees"), f"stages see each other in a ring ({' -> '.join(ring)})", "take one of them out")  # fmt: skip
    out: list[StagePlan] = []
    while order.is_active():
        ready = set(order.get_ready())
        out += [stage for name, stage in made.items() if name in ready]
        order.done(*ready)
    return out


def _check_template(key: tuple[int | str, ...], table: Any, file: _File) -> None:
    """Refuse an instruction that is no template, or that names what the stage does not see."""
    if table.instruction is None:
        return
    from jinja2 import TemplateSyntaxError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    known = {"prompt", *table.sees}
    try:
        named = meta.find_undeclared_variables(ImmutableSandboxedEnvironment().parse(table.instruction))
    except TemplateSyntaxError as error:
        file.refuse(key, f"is no Jinja template ({error.message})", "mend it")
    else:
        if strange := sorted(named - known):
            file.refuse(key, f"names {strange[0]!r}, which this stage does not see", f"it may name {', '.join(sorted(known))}")  # fmt: skip


def _final(said: str | None, stages: list[StagePlan], file: _File) -> str:
    names = [stage.name for stage in stages]
    if said is not None and said not in names:
        file.refuse(("final",), f"there is no stage {said!r}", f"the stages are {', '.join(names)}")
    seen = {name for stage in stages for name in stage.sees}
    ends = [name for name in names if name not in seen]
    if said is None and len(ends) > 1:
        file.refuse(
            ("final",), f"several stages are seen by no other ({', '.join(ends)})", "say whose answer is learnt"
        )
    return ends[0] if said is None else said


def _filters(table: Any, file: _File) -> FilterPlan:
    if table.least_words > table.most_words:
        file.refuse(("filters", "least_words"), f"{table.least_words} is more than most_words, {table.most_words}", "lower it")  # fmt: skip
    if table.pattern is not None:
        try:
            re.compile(table.pattern)
        except re.error as error:
            file.refuse(("filters", "pattern"), f"is no regular expression ({error})", "mend it")
    said = table.model_dump()
    return FilterPlan(**{**said, "language": None if table.language == "any" else table.language})


@cache
def _pipeline_schema() -> type[BaseModel]:
    """The schema of a pipeline file. Built on call, because importing pydantic costs more than most commands need."""
    from pydantic import BaseModel, ConfigDict, Field, create_model

    runtime = runtime_schema()
    learnt: Any = prompts_schema(learnt=True)
    tested: Any = prompts_schema(learnt=False)

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    class DecodeTable(Strict):
        max_new_tokens: int | None = Field(default=None, ge=1)
        temperature: float | None = Field(default=None, ge=0)
        top_p: float | None = Field(default=None, gt=0, le=1)
        top_k: int | None = Field(default=None, ge=1)
        repetition_penalty: float | None = Field(default=None, gt=0)
        presence_penalty: float | None = Field(default=None, ge=-2, le=2)
        stop: list[str] | None = None
        thinking: bool | None = None

    class ModelTable(DecodeTable):
        model: str = Field(min_length=1)
        revision: str | None = None
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
        quantisation: Literal["4bit"] | None = None
        adapter: str | None = None
        chat_template: str | None = None
        character: str | None = None

    class StageTable(ModelTable):
        licence: str | None = None
        sees: list[str] = Field(default_factory=list)
        instruction: str | None = None
        price_in: float | None = Field(default=None, ge=0)
        price_out: float | None = Field(default=None, ge=0)

    class Variants(Strict):
        style: int = Field(default=0, ge=0, le=8)
        length: bool = False

    class Filters(Strict):
        least_words: int = Field(default=1, ge=1)
        most_words: int = Field(default=2000, ge=1)
        pattern: str | None = None
        think: Literal["strip", "keep", "drop"] = "strip"
        language: str = Field(default="en", pattern=r"^([a-z]{2}|any)$")
        near_duplicate: float = Field(default=0.95, gt=0, le=1)
        facts: bool = True

    tables: dict[str, Any] = {
        "prompts": (list[learnt], Field(min_length=1)),
        "forbidden": (list[tested], Field(default_factory=list)),
        "stages": (dict[str, StageTable], Field(min_length=1)),
        "final": (str | None, None),
        "student": (ModelTable | None, None),
        "oracle": (str | None, None),
        "judge": (str | None, None),
        "products": (list[Product], Field(default=["gold"], min_length=1)),
        "variants": (Variants, Variants()),
        "filters": (Filters, Filters()),
        "licences": (list[str], Field(default_factory=list)),
        "roles": (dict[str, str], Field(default_factory=dict)),
        "decode": (DecodeTable, DecodeTable()),
        "seed": (int, 0),
        "runtime": (runtime, runtime()),
        "out": (str | None, None),
    }
    return create_model("PipelineFile", __base__=Strict, **tables)
