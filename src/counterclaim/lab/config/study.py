"""The study file: a claim, and the models, prompts, settings and scorers with which it is put to the test."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from annotated_types import Ge, MinLen

from counterclaim.config import After, Before, Beside, ClaimFile, TableError, read_toml, table, to_claim, validated
from counterclaim.lab.config.common import (
    Count,
    Dtype,
    ModelTable,
    PromptChoice,
    RuntimeTable,
    SamplingTable,
    Seeds,
    decode_of,
    model_identity,
)
from counterclaim.lab.config.edits import CustomPlan, Edit, FiveSteps, SidecarPlan, SteerPlan, TemperPlan
from counterclaim.lab.config.pipeline import load_pipeline
from counterclaim.lab.config.reported import ReportedTable
from counterclaim.lab.config.training import TunePlan, with_recipe
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
from counterclaim.registry import ModelSpec, Runtime, load_plugins

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
        dose: by how much that is done; the dose of an adapter is that of the model.
        placebo: whether the operator's placebo is fitted instead.

    Raises:
        InputError: the name is empty, or holds one of the marks of derived arms.
    """

    name: str
    model: ModelSpec
    decode: Decode
    change: Change | None = None
    dose: float = 1.0
    placebo: bool = False

    @property
    def id(self) -> ArmId:
        """The arm under which its answers are filed."""
        return ArmId.parse(self.name)

    def __post_init__(self) -> None:
        if not self.name.strip() or {"@", "/"} & set(self.name):
            raise TableError(
                f"an arm cannot be called {self.name!r}: @ and / stand for budgets and for scripted next turns",
                remedy="give it a name without them",
            )

    @property
    def applied(self) -> float:
        """The dose of what changes the model: of an adapter, or of any other operator."""
        return self.model.dose if self.change is None or isinstance(self.change, TunePlan) else self.dose

    def at(self, dose: float) -> ArmPlan:
        """The arm with another dose."""
        if isinstance(self.change, TunePlan):
            return replace(self, model=replace(self.model, dose=dose))
        return replace(self, dose=dose)


@table
class DecodeTable(SamplingTable):
    """``[decode]``: how answers are sampled, in every arm alike.

    Attributes:
        max_new_tokens: token budget. Take it large: smaller ones are cut from the same answers
        samples: answers per prompt, arm and seed
        seeds: sampling seeds. Each is a replicate of every arm, and the check `seeds` asks whether the effect holds over them
    """

    max_new_tokens: Count = field()  # required here
    temperature: Annotated[float, Ge(0)] = 0.0
    samples: Count = 1
    seeds: Seeds = (0,)


@table
class ArmTable(ModelTable):
    """``[control]``, ``[treatment]`` or ``[arms.NAME]``: where an arm differs from what the study says of all.

    Attributes:
        raw: put the text to the model as it is, without a chat template
        system_prompt: system prompt; one that a prompt brings along comes after it
        dose: by how much the adapter is scaled: 1 as it was trained, 0.5 half of it, 0 the model without it
        tune: train an adapter
        temper: scale attention heads
        steer: add a direction, or take one out
        sidecar: hedge, or ask again, where a probe has little confidence
        operator: an operator of a plug-in
    """

    raw: bool | None = None
    system_prompt: str | None = None
    dose: float | None = None
    tune: Annotated[TunePlan, Before(with_recipe)] | None = None
    temper: TemperPlan | None = None
    steer: SteerPlan | None = None
    sidecar: SidecarPlan | None = None
    operator: CustomPlan | None = None

    def __post_init__(self) -> None:
        named = [name for name in OPERATOR_TABLES if getattr(self, name) is not None]
        if len(named) > 1:
            raise TableError(
                f"{' and '.join(named)} are both there, and an arm is changed by one operator",
                remedy="make them arms of their own; an adapter that was trained before can be named with adapter",
            )
        if self.tune is not None and self.adapter is not None:
            raise TableError(
                "an adapter is named, and another is to be trained",
                remedy="merge the first into the model and name that, or leave one of them out",
            )
        if self.dose is not None and self.tune is None and self.adapter is None:
            raise TableError(
                "there is no adapter to be scaled", key=("dose",),
                remedy="name one with adapter, or tune; an operator's dose stands in its own table",
            )  # fmt: skip

    @property
    def change(self) -> Change | None:
        """What an operator does to the arm's model."""
        return self.tune or self.temper or self.steer or self.sidecar or self.operator

    def plan(self, name: str, study: StudyFile) -> ArmPlan:
        """What the tables say of the arm: its own keys, over what the study says of all."""
        model = ModelSpec(
            name=self.model or study.model,
            revision=self.revision or (study.revision if self.model is None else None),
            dtype=self.dtype or study.dtype,
            quantisation=self.quantisation or study.quantisation,
            adapter=self.adapter,
            chat_template=self.chat_template,
            raw=study.raw if self.raw is None else self.raw,
            dose=1.0 if self.dose is None else self.dose,
        )
        change = self.change
        dose = 1.0 if change is None or isinstance(change, TunePlan) else change.dose
        return ArmPlan(name, model, decode_of(study.decode, self, system_prompt=self.system_prompt), change, dose)


OPERATOR_TABLES = ("tune", "temper", "steer", "sidecar", "operator")
"""Tables of operators that an arm can have; ``operator`` is for those of plug-ins."""


@table
class ScoreTable:
    """``[score]``: how answers are scored.

    Attributes:
        scorers: names as `--with` takes them, or TOML files of your own rubrics
        judge: the model that judges, named like any other
        validate_judge: run the judge's known-answer cards first
        budgets: smaller token budgets at which the answers are scored too
        function: for trained arms, measure also self-verification and, where there is an oracle, recovery: form beside function
        unsafe_local: run programs without the sandbox, with resource limits only; the page says so
    """

    scorers: Annotated[tuple[str, ...], MinLen(1)]
    judge: str | None = None
    validate_judge: bool = True
    budgets: Annotated[tuple[int, ...], After(lambda budgets: tuple(sorted(budgets)))] = ()
    function: bool = True
    unsafe_local: bool = False


@table
class StudyFile(ClaimFile):
    """A whole study file: a claim file with more tables.

    Attributes:
        model: a hub repository, a folder, `tiny:NAME`, `world:NAME/ARM`, or `URL#model` of an endpoint
        revision: commit, branch or tag of the repository
        dtype: `auto`, `float32`, `bfloat16` or `float16`
        quantisation: `4bit`, on a GPU
        raw: put the text to the model as it is, without a chat template
        plugins: files with checks, scorers, metrics, operators or rewards of your own
        out: run folder; `runs/` and the file's name without `.toml` when not set
        train_data: the treated arm's training data, to look for test prompts in
        prompts: what is asked
        decode: how answers are sampled
        control: what is done to the model that the treatment is compared with
        treatment: what is done to the model
        arms: further arms by name
        pipeline: the five steps of the sidecar's probe
        score: how answers are scored
        runtime: how models are run
        reported: what somebody reported for this very study
    """

    model: Annotated[str, MinLen(1)]
    revision: str | None = None
    dtype: Dtype = "auto"
    quantisation: Literal["4bit"] | None = None
    raw: bool = False
    plugins: tuple[Annotated[Path, Beside()], ...] = ()
    out: Path | None = None
    train_data: Annotated[Path, Beside()] | None = None
    prompts: PromptChoice
    decode: DecodeTable
    control: ArmTable = ArmTable()
    treatment: ArmTable
    arms: dict[str, ArmTable] = field(default_factory=dict)
    pipeline: FiveSteps | None = None
    score: ScoreTable
    runtime: RuntimeTable = RuntimeTable()
    reported: tuple[ReportedTable, ...] = ()

    def __post_init__(self) -> None:
        if self.control.change is not None:
            raise TableError(
                "the control is what the treatment is compared with, and is not changed here",
                key=("control", self.control.change.operator),
                remedy="train it in a study of its own, and name its adapter under [control]",
            )
        for name, arm in self.arms.items():
            _check_name(name)
            if arm.change is not None and (arm.change.doses or arm.change.placebo):
                raise TableError(
                    "doses and placebo are those of the treatment, and this is another arm",
                    key=("arms", name, arm.change.operator),
                    remedy="leave them out; a further arm with the same table and another dose shares its fits",
                )
        if self.pipeline is not None and self.treatment.sidecar is None:
            raise TableError(
                "the five steps are those of a sidecar's probe, and the treatment has none", key=("pipeline",),
                remedy="add [treatment.sidecar], or leave [pipeline] out",
            )  # fmt: skip
        self._check_arms(self.plans())

    def _check_arms(self, arms: Sequence[ArmPlan]) -> None:
        control, treated = arms[:2]
        if control.model == treated.model and control.decode == treated.decode and treated.change is None:
            raise TableError(
                "the treatment is the control: no setting differs between them",
                key=("treatment",),
                remedy="add to [treatment] what is done, for example tune, temper, steer, sidecar, system_prompt or adapter",
            )
        for arm in arms:
            if isinstance(arm.change, TunePlan) and arm.model.raw:
                raise TableError(
                    "examples are conversations, and prompts are put to the model raw",
                    key=(*_table_of(arm.name), "tune"),
                    remedy="leave raw out, and name a chat_template where the model has none",
                )
        greedy = all(not arm.decode.temperature for arm in arms)
        if greedy and (len(self.decode.seeds) > 1 or self.decode.samples > 1):
            raise TableError(
                "several seeds or samples are asked for, and greedy decoding gives the same answer every time",
                key=("decode",),
                remedy="set decode.temperature above 0, or ask for one",
            )
        most = min(arm.decode.max_new_tokens or 0 for arm in arms)
        if too_large := [budget for budget in self.score.budgets if not 0 < budget < most]:
            raise TableError(
                f"{too_large[0]} is not smaller than the {most} tokens with which answers are generated",
                key=("score", "budgets"),
                remedy="name smaller budgets, or raise decode.max_new_tokens",
            )

    def plans(self) -> tuple[ArmPlan, ...]:
        """The arms: control first, treated second, then the others, and those that the treatment's operator brings along."""
        treated = self.treatment.plan(TREATED.name, self)
        arms = [self.control.plan(CONTROL.name, self), treated]
        arms += [table.plan(name, self) for name, table in self.arms.items()]
        change = treated.change
        if change is None:
            return tuple(arms)
        more = []
        for dose in change.doses:
            if dose == treated.applied:
                continue  # the treated arm itself
            name = DO_NOTHING.name if dose == 0 else f"dose:{dose:g}"
            fits = replace(change, seeds=change.seeds[:1]) if dose == 0 else change
            more.append(replace(treated.at(dose), name=name, change=fits))
        if change.placebo:
            more.append(replace(treated, name=PLACEBO.name, placebo=True))
        if taken := [arm.name for arm in more if arm.name in self.arms]:
            raise TableError(
                f"treatment.{change.operator} brings an arm of this name along",
                key=("arms", taken[0]),
                remedy=f"leave it out under [arms], or under the doses and placebo of [treatment.{change.operator}]",
            )
        return (*arms, *more)


def _table_of(arm: str) -> tuple[str, ...]:
    """The table of an arm in the study file."""
    return {CONTROL.name: ("control",), TREATED.name: ("treatment",)}.get(arm, ("arms", arm))


SPECIAL_ARMS = (DO_NOTHING.name, PLACEBO.name, PROMPT_BASELINE.name)


def _check_name(name: str) -> None:
    """Raise TableError where an arm's name is taken, or nearly, and not quite, one that a check looks for."""
    key = ("arms", name)
    if name in (CONTROL.name, TREATED.name):
        raise TableError(
            "there is an arm of this name already", key=key,
            remedy="the two arms of the claim stand under [control] and [treatment]; call this one something else",
        )  # fmt: skip
    near = difflib.get_close_matches(name.lower().replace("_", "-"), SPECIAL_ARMS, n=1, cutoff=0.75)
    if near and name not in SPECIAL_ARMS:
        raise TableError(f"no check looks at an arm called {name!r}", key=key, remedy=f"did you mean {near[0]!r}?")
    tag, mark, dose = name.partition(":")
    if mark and tag == "dose":
        try:
            float(dose)
        except ValueError as error:
            raise TableError(
                f"the arm {name!r} does not name a number", key=key, remedy="name dose arms like dose:0.5"
            ) from error


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
        steps: the five steps that a sidecar's probe has to pass beside the arms; None where there are none.
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
    file = read_study(path)
    load_plugins(file.plugins)
    arms, score = file.plans(), file.score
    return StudyPlan(
        path=path,
        claim=_claim(file, arms, path),
        prompts=file.prompts,
        arms=arms,
        samples=file.decode.samples,
        seeds=file.decode.seeds,
        scorers=tuple(_beside(path, name) if name.endswith(".toml") else name for name in score.scorers),
        judge=score.judge,
        validate_judge=score.validate_judge,
        budgets=score.budgets,
        unsafe_local=score.unsafe_local,
        function=score.function,
        steps=file.pipeline,
        runtime=file.runtime.runtime(),
        train_data=file.train_data,
        out=Path("runs") / path.stem if file.out is None else file.out,
    )


def read_study(path: Path) -> StudyFile:
    """The tables of a study file, validated; recipes are laid under what it says itself.

    Raises:
        InputError: as ``load_study``.
    """
    data, text = read_toml(path, "study file", "copy one from counterclaim run --new study.toml")
    return validated(StudyFile, data, text, path, "see the file that counterclaim run --new writes")


def _claim(file: StudyFile, arms: Sequence[ArmPlan], path: Path) -> Claim:
    """The claim, with what the rest of the file says of it: roles, where thresholds are chosen, what varies."""
    claim = to_claim(file, path)
    control, treated = arms[:2]
    chosen_on = claim.thresholds_chosen_on
    if isinstance(treated.change, SidecarPlan) and chosen_on is None:
        chosen_on = "train"  # the only place where a sidecar chooses it
    named = {"student": file.model, "judge": file.score.judge}
    roles = {role: name.rpartition("#")[2].removeprefix("tiny:") for role, name in named.items() if name is not None}
    return replace(
        claim, thresholds_chosen_on=chosen_on, roles={**roles, **_teachers(treated), **claim.roles},
        varies=_varied(claim.varies, control, treated),
    )  # fmt: skip


def _teachers(treated: ArmPlan) -> dict[str, str]:
    """Who made the training set of the treated arm, where a pipeline file or the set's card names them.

    Reading a pipeline file shows at once whether it can be used; a folder is opened when training begins.
    """
    data = treated.change.data if isinstance(treated.change, TunePlan) else None
    if data is not None and data.suffix == ".toml":
        pipeline = load_pipeline(data)
        return {**pipeline.roles, **{f"teacher:{stage.name}": stage.model.name for stage in pipeline.stages}}
    try:
        card = {} if data is None else json.loads((data / "card.json").read_text(encoding="utf-8"))
        roles: dict[str, list[str]] = {
            role: models for role, models in card.get("roles", {}).items() if role != "student"
        }
        return {
            **{role: models[0] for role, models in roles.items() if role in ("prompt_writer", "checklist_author")},
            **{f"teacher:{number}": model for number, model in enumerate(roles.get("teacher", ()), 1)},
        }
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return {}


def _beside(path: Path, name: str) -> str:
    """A file that the study file names, found from the study file's own folder."""
    return str(path.parent / Path(name).expanduser())


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


def arms_hash(
    arms: Sequence[ArmPlan],
    samples: int,
    seeds: Sequence[int],
    prompt_ids: Sequence[str],
    training: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """SHA-256 over everything in a plan that determines the answers; files count by their content.

    ``training`` is the hash of what each arm's operator learns from.

    Raises:
        InputError: an adapter or a chat template is missing or cannot be read.
    """
    plans: list[Json] = []
    for arm in arms:
        plan: list[Json] = [arm.name, model_identity(arm.model), to_json(arm.decode)]
        if arm.change is not None:
            plan += [change_hash(arm, training.get(arm.name, "")), list(arm.change.seeds), arm.dose]
        plans.append(plan)
    return content_hash([plans, samples, list(seeds), list(prompt_ids)])


def change_hash(arm: ArmPlan, data_hash: str = "") -> str:
    """SHA-256 over what determines an operator's fits beside their seeds: the model, the recipe, and what it is fitted on.

    What it is fitted on counts by its content (``data_hash``) and not by its path. What an operator reads off the model's own
    answers depends on how they are sampled.
    """
    assert arm.change is not None
    recipe = change_json(arm)
    for key in ("seeds", "recipe", "data", "prompts"):
        recipe.pop(key, None)
    recipe.get("grpo", {}).pop("prompts", None)
    sampled = arm.decode.thinking if isinstance(arm.change, TunePlan) else to_json(arm.decode)
    # an adapter is trained at full dose whatever is made of it later; any other operator reads the model as it is
    model = replace(arm.model, dose=1.0) if isinstance(arm.change, TunePlan) else arm.model
    return content_hash([model_identity(model), recipe, data_hash, sampled])


_ARMS_BROUGHT_ALONG = ("dose", "doses", "scale", "scales", "placebo")


def change_json(arm: ArmPlan) -> dict[str, Any]:
    """What an operator does to the model of an arm, as study.json spells it: beside it the file names other arms and doses."""
    assert arm.change is not None
    plain = json.loads(json.dumps(to_json(arm.change), default=str))  # paths are strings there
    stated = {key: value for key, value in plain.items() if key not in _ARMS_BROUGHT_ALONG}
    return {"operator": arm.change.operator, **stated, "placebo": arm.placebo}
