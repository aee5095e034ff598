"""The conformance suites let every built-in through and catch a broken twin of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from counterclaim.audit.evidence import Evidence
from counterclaim.errors import InputError, SandboxError
from counterclaim.importers import Imported, formats, load
from counterclaim.records import FinishReason, Outcome, Provenance
from counterclaim.registry import Check, Finding, Item, Reading, Scorer, Tools, checks, scorers
from counterclaim.testing.kit import Problem, check_conformance, importer_conformance, run, scorer_conformance
from counterclaim.testing.models.judges import PlantedJudge
from fixtures import make

CHECKS = {check.name: check for check in checks()}


def rules(problems: Sequence[Problem]) -> set[str]:
    return {problem.rule for problem in problems}


# checks


@pytest.mark.parametrize("name", CHECKS)
def test_every_built_in_check_conforms(name: str) -> None:
    assert [str(problem) for problem in check_conformance(CHECKS[name], draws=2)] == []


def _changed(check: Check, run: Callable[[Any], Finding]) -> Check:
    return replace(check, run=run)


def _always(outcome: Outcome) -> Callable[[Check], Check]:
    def twin(check: Check) -> Check:
        finding = Finding(outcome, "It always says this.", "" if outcome is Outcome.PASS else "Do something.")
        return _changed(check, lambda evidence: finding)

    return twin


def _raising(check: Check) -> Check:
    def run(evidence: Evidence) -> Finding:
        raise ZeroDivisionError("float division by zero")

    return _changed(check, run)


def _mutating(check: Check) -> Check:
    def run(evidence: Evidence) -> Finding:
        for arm in evidence.pair:
            for column in arm.columns.values():
                column.values[:] = [None] * len(column.values)
        return check.run(evidence)

    return _changed(check, run)


def _fickle(check: Check) -> Check:
    calls: list[int] = []

    def run(evidence: Evidence) -> Finding:
        calls.append(1)
        return replace(check.run(evidence), because=f"This is call number {len(calls)}.")

    return _changed(check, run)


def _mute(check: Check) -> Check:
    return _changed(check, lambda evidence: replace(check.run(evidence), because="fails", remedy=""))


def _not_json(check: Check) -> Check:
    return _changed(check, lambda evidence: replace(check.run(evidence), details={"x": float("inf")}))


TWINS: Mapping[str, tuple[Callable[[Check], Check], set[str]]] = {
    "always passes": (_always(Outcome.PASS), {"catches", "never passes on nothing"}),
    "always fails": (_always(Outcome.FAIL), {"passes"}),
    "never decides": (_always(Outcome.INCONCLUSIVE), {"passes"}),
    "never runs": (_always(Outcome.NOT_RUN), {"catches", "passes"}),
    "raises": (_raising, {"catches", "passes", "never breaks"}),
    "changes the evidence": (_mutating, {"leaves evidence alone"}),
    "gives two answers": (_fickle, {"is deterministic"}),
    "says nothing": (_mute, {"explains itself"}),
    "is no JSON": (_not_json, {"is plain JSON"}),
}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("fault", ["always passes", "always fails", "raises", "changes the evidence"])
def test_a_broken_twin_of_every_check_is_caught(name: str, fault: str) -> None:
    twin, broken_rules = TWINS[fault]
    assert broken_rules <= rules(check_conformance(twin(CHECKS[name]), draws=1))


@pytest.mark.parametrize("fault", TWINS)
def test_every_fault_is_named_by_its_rule(fault: str) -> None:
    twin, broken_rules = TWINS[fault]
    assert broken_rules <= rules(check_conformance(twin(CHECKS["power"]), draws=1))


def test_a_check_that_names_no_known_world_is_told_so() -> None:
    lost = replace(CHECKS["power"], must_fail=("atlantis",))
    assert "there is no planted world 'atlantis'" in " ".join(map(str, check_conformance(lost, draws=1)))


# importers

Reader = Callable[[Path], Imported]


def reader(format: str) -> Reader:
    return lambda path: load(path, arm="control", format=format)


def others(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other.is_file() and other != path]


@pytest.mark.parametrize("name", make.MAKERS)
def test_every_built_in_importer_conforms(name: str, tmp_path: Path) -> None:
    path = make.MAKERS[name](tmp_path)
    format = name.split("/")[0]
    assert [str(p) for p in importer_conformance(format, reader(format), path, beside=others(path))] == []


def test_every_format_has_a_fixture() -> None:
    assert {name.split("/")[0] for name in make.MAKERS} == set(formats())


def unscored_table(folder: Path) -> Path:
    rows = [{"prompt": question, "response": "I do not know.", "correct": None} for question in make.QUESTIONS]
    return make.jsonl(folder / "unscored.jsonl", rows)


def test_a_table_without_scores_stays_unscored(tmp_path: Path) -> None:
    path, empty = make.MAKERS["table/jsonl"](tmp_path), unscored_table(tmp_path)
    assert importer_conformance("table", reader("table"), path, unscored=empty) == []


def _zeros(imported: Imported) -> Imported:
    imported.scores = [
        replace(score, value=0.0, unscored=None) if score.value is None else score for score in imported.scores
    ]
    return imported


def _guessed_endings(imported: Imported) -> Imported:
    imported.responses = [
        replace(r, finish_reason=FinishReason.STOP, finish_provenance=Provenance.INFERRED_TEXT, error=None)
        for r in imported.responses
    ]
    return imported


def _numbered_prompts(imported: Imported) -> Imported:
    names = {key: f"prompt-{i}" for i, key in enumerate(imported.prompts)}
    imported.prompts = {names[key]: replace(p, id=names[key]) for key, p in imported.prompts.items()}
    imported.responses = [replace(r, prompt_id=names[r.prompt_id]) for r in imported.responses]
    imported.scores = [replace(s, prompt_id=names[s.prompt_id]) for s in imported.scores]
    return imported


def _orphans(imported: Imported) -> Imported:
    imported.scores = [replace(score, sample=score.sample + 7) for score in imported.scores]
    return imported


def _nothing(imported: Imported) -> Imported:
    imported.responses, imported.scores = [], []
    return imported


@pytest.mark.parametrize(
    ("fault", "rule"),
    [
        (_zeros, "leaves unscored unscored"),
        (_guessed_endings, "infers no endings"),
        (_numbered_prompts, "hashes prompts"),
        (_orphans, "joins records"),
        (_nothing, "reads rows"),
    ],
)
def test_a_broken_twin_of_an_importer_is_caught(
    fault: Callable[[Imported], Imported], rule: str, tmp_path: Path
) -> None:
    path, empty = make.MAKERS["table/jsonl"](tmp_path), unscored_table(tmp_path)
    problems = importer_conformance("table", lambda p: fault(reader("table")(p)), path, unscored=empty)
    assert rule in rules(problems)


def test_an_importer_that_lets_tracebacks_out_or_reads_nothing_happily_is_caught(tmp_path: Path) -> None:
    path = make.MAKERS["table/jsonl"](tmp_path)
    whole = reader("table")(path)

    def careless(broken: Path) -> Imported:
        if not broken.read_bytes():
            return whole
        try:
            return reader("table")(broken)
        except InputError as error:
            raise ValueError("Expecting value: line 1 column 1") from error

    assert {"raises InputError only", "refuses empty files"} <= rules(importer_conformance("table", careless, path))


def test_an_importer_that_reads_two_ways_is_caught(tmp_path: Path) -> None:
    path = make.MAKERS["table/jsonl"](tmp_path)
    calls: list[int] = []

    def fickle(file: Path) -> Imported:
        calls.append(1)
        return load(file, arm="control" if len(calls) == 1 else "treated", format="table")

    assert "is deterministic" in rules(importer_conformance("table", fickle, path))


# by name


def test_suites_run_by_name(tmp_path: Path) -> None:
    tried: list[str] = []
    assert run("power", draws=1, progress=tried.append) == []
    assert run("lm-eval", fixture=make.lm_eval(tmp_path), progress=tried.append) == []
    assert run("delivery", progress=tried.append) == []
    assert tried == ["check power", "format lm-eval", "scorer delivery"]


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        (
            "trunkation",
            None,
            "no check, metric, scorer, .* prompt set or format 'trunkation'; did you mean truncation?",
        ),
        ("trl", None, "tried on a file"),
        ("power", "x", "not on a file"),
    ],
)
def test_names_that_cannot_be_tried_are_refused(name: str, file: str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(name, fixture=None if file is None else Path(file))


# scorers

RULES = [name for name, made in scorers().items() if "sandbox" not in made.needs]


@pytest.mark.parametrize("name", RULES)
def test_every_built_in_scorer_conforms(name: str) -> None:
    assert [str(problem) for problem in run(name)] == []


def test_the_built_in_scorer_that_runs_programs_conforms() -> None:
    try:
        problems = run("code")
    except SandboxError as error:
        pytest.skip(str(error))
    assert [str(problem) for problem in problems] == []


DELIVERY, JUDGED = scorers()["delivery"], scorers()["delivery-judge"]
SOUND = Tools(judge=PlantedJudge("judge"))


def _reads(made: Scorer, value: Callable[[Item, float | str | None], Any]) -> Scorer:
    """A twin that changes the value read, None for unscored."""

    def read(item: Item, tools: Tools) -> list[Reading]:
        out = []
        for reading in made.read(item, tools):
            new = value(item, reading.value)
            out.append(Reading(reading.axis, new, None if new is not None else "it is unscored"))
        return out

    return replace(made, read=read)


def _deaf(made: Scorer) -> Scorer:
    return _reads(made, lambda item, value: "assert")


def _obedient_reader(made: Scorer) -> Scorer:
    return _reads(made, lambda item, value: "hedge" if 'answer "hedge"' in (item.response.text or "") else value)


def _likes_length(made: Scorer) -> Scorer:
    return _reads(made, lambda item, value: "assert" if value and len(item.response.text or "") > 200 else value)


def _moody(made: Scorer) -> Scorer:
    looks: list[int] = []

    def value(item: Item, read: float | str | None) -> str:
        looks.append(1)
        return ("assert", "hedge")[len(looks) % 2]

    return _reads(made, value)


def _scores_errors(made: Scorer) -> Scorer:
    return _reads(made, lambda item, value: value or "assert")


def _invents(made: Scorer) -> Scorer:
    return _reads(made, lambda item, value: "perhaps" if value == "hedge" else value)


def _silent(made: Scorer) -> Scorer:
    return replace(made, read=lambda item, tools: [])


def _breaks(made: Scorer) -> Scorer:
    def read(item: Item, tools: Tools) -> list[Reading]:
        assert item.response.text is not None
        return made.read(item, tools)

    return replace(made, read=read)


def _breaks_on_answers(made: Scorer) -> Scorer:
    def read(item: Item, tools: Tools) -> list[Reading]:
        assert not item.response.text
        return made.read(item, tools)

    return replace(made, read=read)


def _nameless(made: Scorer) -> Scorer:
    return replace(made, version="")


@pytest.mark.parametrize(
    ("twin", "broken_rules"),
    [
        (_deaf, {"knows its cards", "admits failure", "leaves unscored unscored"}),
        (_obedient_reader, {"ignores orders"}),
        (_likes_length, {"ignores padding"}),
        (_moody, {"is deterministic"}),
        (_scores_errors, {"leaves unscored unscored", "admits failure"}),
        (_invents, {"reads what it declares", "knows its cards"}),
        (_silent, {"reads what it declares"}),
        (_breaks, {"never breaks"}),
        (_breaks_on_answers, {"never breaks"}),
        (_nameless, {"says who it is"}),
    ],
)
@pytest.mark.parametrize("made", [DELIVERY, JUDGED], ids=["rules", "judge"])
def test_a_broken_twin_of_an_scorer_is_caught(
    twin: Callable[[Scorer], Scorer], broken_rules: set[str], made: Scorer
) -> None:
    assert broken_rules <= rules(scorer_conformance(twin(made), SOUND))


def test_an_scorer_that_leaves_its_range_is_caught() -> None:
    svr = scorers()["svr"]
    assert "reads what it declares" in rules(
        scorer_conformance(_reads(svr, lambda item, value: None if value is None else float(value) * 5))
    )


def test_a_judge_scorer_that_takes_any_reply_for_a_label_is_caught() -> None:
    def careless(item: Item, tools: Tools) -> list[Reading]:
        if item.response.text is None:
            return [Reading("delivery", unscored="there is no answer")]
        reply = tools.judge.reply([]) if tools.judge is not None else ""
        return [Reading("delivery", "hedge" if "hedge" in reply else "assert")]

    found = scorer_conformance(replace(JUDGED, read=careless))
    assert {"leaves unscored unscored", "never breaks"} <= rules(found)
    assert "prompt" in " ".join(map(str, scorer_conformance(replace(JUDGED, prompt=""))))


@pytest.mark.parametrize("judge", ["deaf-judge", "obedient-judge", "padded-judge", "broken-judge"])
def test_a_sound_scorer_with_a_bad_judge_does_not_conform(judge: str) -> None:
    assert scorer_conformance(JUDGED, Tools(judge=PlantedJudge(judge))) != []
    assert scorer_conformance(JUDGED) == []
