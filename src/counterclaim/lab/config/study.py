"""The study file: a claim, and the models, prompts, settings and scorers with which it is put to the test."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from counterclaim.config import read_toml, to_claim, validated
from counterclaim.config.claim import claim_schema
from counterclaim.errors import InputError
from counterclaim.lab.config.edits import Edit, FiveSteps, SidecarPlan, edit_schemas, to_edit, to_steps
from counterclaim.lab.config.models import model_identity, runtime_schema
from counterclaim.lab.config.pipeline import load_pipeline
from counterclaim.lab.config.prompts import Doses, PromptChoice, prompts_schema
from counterclaim.lab.config.reported import reported_schema
from counterclaim.lab.config.training import TunePlan, to_tune, tune_schema
from counterclaim.records import (
    CONTROL,
    DO_NOTHING,
    PLACEBO,
    PROMPT_BASELINE,
    TREATED,
    ArmId,
    Claim,
    Decode,
    Json,
    content_hash,
    to_json,
)
from counterclaim.registry import ModelSpec, Runtime

if TYPE_CHECKING:
    from pydantic import BaseModel


Change = TunePlan | Edit
"""What an operator does to the model of an arm."""


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm: which model, treated how, sampled how.

    Attributes:
        name: of the arm.
        model: who answers; of an arm that an operator changes, the model that it starts from.
        decode: how it is sampled.
        change: what an operator does to the model; None where nothing is to be done, or not any more.
        dose: by how much that is done.
        lessons: hash of what the operator learns from; ``""`` until that is known.
        fit_seed: seed of the operator's fit, once that is made.
        first_sample: by how much its samples are shifted, so that those of several fits do not collide.

    Raises:
        InputError: the name is empty, or holds one of the marks by which derived arms are told apart.
    """

    name: str
    model: ModelSpec
    decode: Decode
    change: Change | None = None
    dose: float = 1.0
    lessons: str = ""
    fit_seed: int | None = None
    first_sample: int = 0

    @property
    def id(self) -> ArmId:
        """The arm under which its answers are filed."""
        return ArmId.parse(self.name)

    def __post_init__(self) -> None:
        if not self.name.strip() or {"@", "/"} & set(self.name):
            raise InputError(
                f"an arm cannot be called {self.name!r}: @ and / stand for budgets and for scripted next turns",
                remedy="give it a name without them",
            )


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """A study file, read.

    Attributes:
        path: the file.
        claim: what is claimed; settings in which the treatment differs by the file's own word are in ``varies``.
        prompts: what is asked.
        arms: ``control`` first, ``treated`` second, then the others.
        samples: answers per prompt, arm and seed.
        seeds: sampling seeds; each is a replicate of every arm.
        scorers: what scores, as ``--with`` takes it.
        judge: model that judges, for scorers that need one.
        validate_judge: whether the judge's known-answer cards are run.
        budgets: smaller token budgets, cut from the same answers.
        unsafe_local: run code that a model wrote without the sandbox.
        function: measure what trained arms do beside what they sound like: self-verification and recovery.
        steps: the five steps that a sidecar's probe has to pass beside the arms; None where nobody asked.
        runtime: how models are run.
        train_data: the treated arm's training data.
        out: run folder.
    """

    path: Path
    claim: Claim
    prompts: PromptChoice
    arms: tuple[ArmPlan, ...]
    samples: int
    seeds: tuple[int, ...]
    scorers: tuple[str, ...]
    judge: str | None
    validate_judge: bool
    budgets: tuple[int, ...]
    unsafe_local: bool
    function: bool
    steps: FiveSteps | None
    runtime: Runtime
    train_data: Path | None
    out: Path


def load_study(path: Path) -> StudyPlan:
    """Read a study file.

    Raises:
        InputError: the file is missing, is not TOML, or a key is unknown, missing or malformed (names key and line).
    """
    data, text = read_toml(path, "study file", "copy one from counterclaim run --new study.toml")
    tables: Any = validated(_study_schema(), data, text, path, "see the file that counterclaim run --new writes")
    arms = [_arm(CONTROL.name, tables.control, tables, path), _arm(TREATED.name, tables.treatment, tables, path)]
    if taken := sorted({CONTROL.name, TREATED.name} & set(tables.arms)):
        raise InputError(
            f"arms.{taken[0]}: there is an arm of this name already",
            path=path,
            remedy="the two arms of the claim are said under [control] and [treatment]; call this one something else",
        )
    for name in tables.arms:
        _special_name(name, path)
    arms += [_arm(name, table, tables, path) for name, table in tables.arms.items()]
    arms += _brought_along(arms, tables.treatment, path)
    if arms[0].change is not None:
        raise InputError(
            f"control.{arms[0].change.operator}: the control is what the treatment is compared with, and is not changed here",
            path=path,
            remedy="train it in a study of its own, and name its adapter under [control]",
        )
    if arms[0].model == arms[1].model and arms[0].decode == arms[1].decode and arms[1].change is None:
        raise InputError(
            "the treatment is the control: no setting differs between them",
            path=path,
            remedy="say under [treatment] what is done, for example tune, temper, steer, sidecar, system_prompt or adapter",
        )
    greedy = all(not arm.decode.temperature for arm in arms)
    if greedy and (len(tables.decode.seeds) > 1 or tables.decode.samples > 1):
        raise InputError(
            "several seeds or samples were asked for, and greedy decoding gives the same answer every time",
            path=path,
            remedy="set decode.temperature above 0, or ask for one",
        )
    if repeated := [seed for seed in tables.decode.seeds if tables.decode.seeds.count(seed) > 1]:
        raise InputError(
            f"decode.seeds: {repeated[0]} stands there twice, and each seed is one replicate",
            path=path,
            remedy="name different seeds, or ask for more samples",
        )
    most = min(arm.decode.max_new_tokens or 0 for arm in arms)
    if too_large := [budget for budget in tables.score.budgets if not 0 < budget < most]:
        raise InputError(
            f"score.budgets: {too_large[0]} is not smaller than the {most} tokens with which answers are generated",
            path=path,
            remedy="name smaller budgets, or raise decode.max_new_tokens",
        )
    claim = to_claim(tables, path)
    if isinstance(arms[1].change, SidecarPlan) and claim.thresholds_chosen_on is None:
        claim = replace(claim, thresholds_chosen_on="train")  # the only place where a sidecar chooses it
    claim = replace(claim, roles={**_roles(tables), **_teachers(arms[1]), **claim.roles})
    return StudyPlan(
        path=path,
        claim=replace(claim, varies=_varied(claim.varies, arms[0], arms[1])),
        prompts=PromptChoice.of_table(tables.prompts.model_dump(), path, "prompts"),
        arms=tuple(arms),
        samples=tables.decode.samples,
        seeds=tuple(tables.decode.seeds),
        scorers=tuple(_beside(path, item) if item.endswith(".toml") else item for item in tables.score.scorers),
        judge=tables.score.judge,
        validate_judge=tables.score.validate_judge,
        budgets=tuple(sorted(tables.score.budgets)),
        unsafe_local=tables.score.unsafe_local,
        function=tables.score.function,
        steps=_steps(tables.pipeline, arms[1], path),
        runtime=Runtime(**tables.runtime.model_dump()),
        train_data=None if tables.train_data is None else Path(_beside(path, tables.train_data)),
        out=Path("runs") / path.stem if tables.out is None else Path(tables.out),
    )


def _steps(table: Any, treated: ArmPlan, path: Path) -> FiveSteps | None:
    if table is None:
        return None
    if not isinstance(treated.change, SidecarPlan):
        raise InputError(
            "pipeline: the five steps are those of a sidecar's probe, and the treatment has none",
            path=path,
            remedy="add [treatment.sidecar], or leave [pipeline] out",
        )
    return to_steps(table, path)


def _brought_along(arms: Sequence[ArmPlan], table: Any, path: Path) -> list[ArmPlan]:
    """The arms that an operator brings along: other doses of what it fits, and a placebo."""
    treated = arms[1]
    if treated.change is None:
        return []
    operator, _, doses = _changed(table, path, "treatment")
    made = []
    for dose in doses.others:
        if dose == _dose(treated):
            continue  # the treated arm itself
        name = DO_NOTHING.name if dose == 0 else f"dose:{dose:g}"
        change = replace(treated.change, seeds=treated.change.seeds[:1]) if dose == 0 else treated.change
        made.append(replace(_with_dose(treated, dose), name=name, change=change))
    if doses.placebo:
        made.append(replace(treated, name=PLACEBO.name, change=replace(treated.change, placebo=True)))
    if taken := [arm.name for arm in made if arm.name in {other.name for other in arms}]:
        raise InputError(
            f"arms.{taken[0]}: treatment.{operator} brings an arm of this name along",
            path=path,
            remedy=f"leave it out under [arms], or under the doses and placebo of [treatment.{operator}]",
        )
    return made


def _dose(arm: ArmPlan) -> float:
    """By how much an operator's change is applied; an adapter's dose is that of the model."""
    return arm.model.dose if isinstance(arm.change, TunePlan) else arm.dose


def _with_dose(arm: ArmPlan, dose: float) -> ArmPlan:
    if isinstance(arm.change, TunePlan):
        return replace(arm, model=replace(arm.model, dose=dose))
    return replace(arm, dose=dose)


def _changed(table: Any, path: Path, where: str) -> tuple[str, Change, Doses]:
    """What the one operator's table of an arm says: the table's name, the change, and its doses."""
    named = [name for name in OPERATOR_TABLES if getattr(table, name) is not None]
    if len(named) > 1:
        raise InputError(
            f"{where}: {' and '.join(named)} are both there, and an arm is changed by one operator",
            path=path,
            remedy="make them arms of their own; an adapter that was trained before can be named with adapter",
        )
    operator = named[0]
    read: Callable[..., tuple[Change, Doses]] = to_tune if operator == "tune" else partial(to_edit, operator)
    return operator, *read(getattr(table, operator), path, f"{where}.{operator}")


OPERATOR_TABLES = ("tune", "temper", "steer", "sidecar", "operator")
"""Tables of operators that an arm can have; ``operator`` is for those of plug-ins."""


SPECIAL_ARMS = (DO_NOTHING.name, PLACEBO.name, PROMPT_BASELINE.name)


def _special_name(name: str, path: Path) -> None:
    """Raise InputError where an arm's name is nearly, and not quite, one that a check looks for."""
    near = difflib.get_close_matches(name.lower().replace("_", "-"), SPECIAL_ARMS, n=1, cutoff=0.75)
    if near and name not in SPECIAL_ARMS:
        raise InputError(f"no check looks at an arm called {name!r}", path=path, remedy=f"did you mean {near[0]!r}?")
    tag, mark, dose = name.partition(":")
    if mark and tag == "dose":
        try:
            float(dose)
        except ValueError as error:
            raise InputError(
                f"the arm {name!r} does not name a number", path=path, remedy="name dose arms like dose:0.5"
            ) from error


def _roles(tables: Any) -> dict[str, str]:
    """Who answers and who judges, as far as the names of the models tell; the file's own [roles] go before it."""
    filled = {"student": tables.model, "judge": tables.score.judge}
    return {role: name.rpartition("#")[2].removeprefix("tiny:") for role, name in filled.items() if name is not None}


def _teachers(treated: ArmPlan) -> dict[str, str]:
    """Who made what the treated arm learns, where a pipeline file or the card of a training set says it.

    Reading a pipeline file shows at once whether it can be used; a folder is looked at when it is learnt from.
    """
    data = treated.change.data if isinstance(treated.change, TunePlan) else None
    if data is not None and data.suffix == ".toml":
        pipeline = load_pipeline(data)
        return {**pipeline.roles, **{f"teacher:{stage.name}": stage.model.name for stage in pipeline.stages}}
    try:
        card = {} if data is None else json.loads((data / "card.json").read_text(encoding="utf-8"))
        said: dict[str, list[str]] = {
            role: models for role, models in card.get("roles", {}).items() if role != "student"
        }
        return {
            **{role: models[0] for role, models in said.items() if role in ("prompt_writer", "checklist_author")},
            **{f"teacher:{number}": model for number, model in enumerate(said.get("teacher", ()), 1)},
        }
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return {}


def _beside(path: Path, name: str) -> str:
    """A file that the study file names, found from the study file's own folder."""
    return str(path.parent / Path(name).expanduser())


def _arm(name: str, table: Any, tables: Any, path: Path) -> ArmPlan:
    """What the tables say of one arm: its own keys, over what the study says of all."""
    said = {key: value for key, value in table.model_dump().items() if value is not None}
    model = ModelSpec(
        name=said.get("model", tables.model),
        revision=said.get("revision", tables.revision if "model" not in said else None),
        dtype=said.get("dtype", tables.dtype),
        quantisation=said.get("quantisation", tables.quantisation),
        adapter=None if "adapter" not in said else Path(_beside(path, said["adapter"])),
        chat_template=None if "chat_template" not in said else Path(_beside(path, said["chat_template"])),
        raw=said.get("raw", tables.raw),
        dose=said.get("dose", 1.0),
    )
    change, doses = None, Doses()
    if any(getattr(table, operator) is not None for operator in OPERATOR_TABLES):
        operator, change, doses = _changed(table, path, _where(name))
        if (doses.others or doses.placebo) and name != TREATED.name:
            raise InputError(
                f"{_where(name)}.{operator}: doses and placebo are those of the treatment, and this is another arm",
                path=path,
                remedy="leave them out; a further arm with the same table and another dose shares its fits",
            )
    tune = change if isinstance(change, TunePlan) else None
    if tune is not None and model.adapter is not None:
        raise InputError(
            f"{_where(name)}: an adapter is named, and another is to be trained",
            path=path,
            remedy="merge the first into the model and name that, or leave one of them out",
        )
    if tune is not None and model.raw:
        raise InputError(
            f"{_where(name)}.tune: examples are conversations, and prompts are put to the model raw",
            path=path,
            remedy="leave raw out, and name a chat_template where the model has none",
        )
    if "dose" in said and tune is None and model.adapter is None:
        raise InputError(
            f"{_where(name)}.dose: there is no adapter to be scaled",
            path=path,
            remedy="name one with adapter, or tune; an operator's dose stands in its own table",
        )
    shared = {key: value for key, value in tables.decode.model_dump().items() if key not in ("samples", "seeds")}
    own = {key: value for key, value in said.items() if key in shared or key == "system_prompt"}
    settings = {**shared, **own}
    stop = settings.pop("stop")
    return ArmPlan(
        name, model, Decode(**settings, stop=None if stop is None else tuple(stop)), change, dose=doses.treated
    )


def _where(arm: str) -> str:
    """The table of an arm in the study file."""
    return {CONTROL.name: "control", TREATED.name: "treatment"}.get(arm, f"arms.{arm}")


def _varied(stated: tuple[str, ...], control: ArmPlan, treated: ArmPlan) -> tuple[str, ...]:
    """Settings that are the treatment itself: those that the file states, and those in which its two arms differ."""
    differ = [
        item.name
        for part in ("decode", "model")
        for item in fields(getattr(control, part))
        if item.name in _SETTINGS and getattr(getattr(control, part), item.name) != getattr(getattr(treated, part), item.name)
    ]  # fmt: skip
    template = ["chat_template"] if control.model.raw != treated.model.raw else []
    return tuple(dict.fromkeys((*stated, *differ, *template)))


_SETTINGS = frozenset({item.name for item in fields(Decode)} - {"seed"} | {"dtype", "quantisation"})


def arms_hash(arms: tuple[ArmPlan, ...], samples: int, seeds: tuple[int, ...], prompt_ids: list[str]) -> str:
    """SHA-256 over everything in a plan that determines the answers; files count by their content.

    Raises:
        InputError: an adapter or a chat template is missing or cannot be read.
    """
    plans: list[Json] = []
    for arm in arms:
        plan: list[Json] = [arm.name, model_identity(arm.model), to_json(arm.decode)]
        if arm.change is not None:
            plan += [change_hash(arm), list(arm.change.seeds), arm.dose]
        plans.append(plan)
    return content_hash([plans, samples, list(seeds), prompt_ids])


def change_hash(arm: ArmPlan) -> str:
    """SHA-256 over what determines an operator's fits beside their seeds: the model, the recipe, and what is learnt.

    What is learnt counts by its content (``lessons``) and not by where it lies. What an operator reads off the model's own
    answers depends on how they are sampled.
    """
    assert arm.change is not None
    recipe = change_json(arm.change)
    for key in ("seeds", "recipe", "data"):
        recipe.pop(key, None)
    for where in [*recipe.get("stages", ()), recipe.get("answers") or {}]:
        where.pop("prompts", None)
    sampled = arm.decode.thinking if isinstance(arm.change, TunePlan) else to_json(arm.decode)
    # an adapter is trained at full dose whatever is made of it later; any other operator reads the model as it is
    model = replace(arm.model, dose=1.0) if isinstance(arm.change, TunePlan) else arm.model
    return content_hash([model_identity(model), recipe, arm.lessons, sampled])


def change_json(change: Change) -> dict[str, Any]:
    """What an operator does to a model, as study.json spells it."""
    said: Any = to_json(replace(change, data=None) if isinstance(change, TunePlan) else change)
    data = {"data": str(change.data)} if isinstance(change, TunePlan) and change.data is not None else {}
    return {"operator": change.operator, **said, **data}


@cache
def _study_schema() -> type[BaseModel]:
    """The schema of a study file: that of a claim file with more tables."""
    from typing import Literal

    from pydantic import BaseModel, ConfigDict, Field, create_model

    Tune, runtime, edits = tune_schema(), runtime_schema(), edit_schemas()

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    class Sampling(Strict):
        top_p: float | None = Field(default=None, gt=0, le=1)
        top_k: int | None = Field(default=None, ge=1)
        repetition_penalty: float | None = Field(default=None, gt=0)
        presence_penalty: float | None = Field(default=None, ge=-2, le=2)
        stop: list[str] | None = None
        thinking: bool | None = None

    class DecodeTable(Sampling):
        max_new_tokens: int = Field(ge=1)
        temperature: float = Field(default=0.0, ge=0)
        samples: int = Field(default=1, ge=1)
        seeds: list[int] = Field(default=[0], min_length=1)

    class ArmTable(Sampling):
        model: str | None = None
        revision: str | None = None
        dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
        quantisation: Literal["4bit"] | None = None
        adapter: str | None = None
        chat_template: str | None = None
        raw: bool | None = None
        system_prompt: str | None = None
        max_new_tokens: int | None = Field(default=None, ge=1)
        temperature: float | None = Field(default=None, ge=0)
        dose: float | None = None

    operators: dict[str, Any] = {"tune": (Tune | None, None)}
    operators |= {name: (edits[name] | None, None) for name in OPERATOR_TABLES if name in edits}
    arm = create_model("ArmTable", __base__=ArmTable, **operators)

    class ScoreTable(Strict):
        scorers: list[str] = Field(min_length=1)
        judge: str | None = None
        validate_judge: bool = True
        budgets: list[int] = Field(default_factory=list)
        unsafe_local: bool = False
        function: bool = True

    more: dict[str, Any] = {
        "model": (str, ...),
        "revision": (str | None, None),
        "dtype": (Literal["auto", "float32", "bfloat16", "float16"], "auto"),
        "quantisation": (Literal["4bit"] | None, None),
        "raw": (bool, False),
        "out": (str | None, None),
        "train_data": (str | None, None),
        "prompts": (prompts_schema(learnt=False), ...),
        "decode": (DecodeTable, ...),
        "control": (arm, arm()),
        "treatment": (arm, ...),
        "arms": (dict[str, arm], Field(default_factory=dict)),  # type: ignore[valid-type]  # a class that is made on call
        "pipeline": (edits["pipeline"] | None, None),
        "score": (ScoreTable, ...),
        "runtime": (runtime, runtime()),
        "reported": (list[reported_schema()], Field(default_factory=list)),  # type: ignore[misc]  # of no part of the plan
    }
    return create_model("StudyFile", __base__=claim_schema(), **more)
