"""A study of one's own, end to end with planted models: resumed, rescored, refused, judged."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from counterclaim import audit
from counterclaim.audit.intake import Options
from counterclaim.errors import InputError, ModelError
from counterclaim.folder import Journal, locked, read_run
from counterclaim.lab.answers import AnswerRequest, Progress, cut_to_budgets
from counterclaim.lab.config import ArmPlan, PromptChoice, load_study
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.run import run_study
from counterclaim.lab.scorers.scoring import ScoringRequest
from counterclaim.lab.steps import generate_run, import_answers, score_run
from counterclaim.records import ArmId, Decode, FinishReason, ModelRef, Prompt, Provenance, Response
from counterclaim.registry import Answer, Ask, ModelSpec, Runtime, backend

RECORDS = ("prompts.jsonl", "responses.jsonl", "scores.jsonl", "extras.json")

STUDY = """\
model = "world:clean/control"

[prompts]
set = "world:clean"
limit = 60

[decode]
max_new_tokens = 512

[treatment]
model = "world:clean/treated"

[score]
scorers = ["checklist", "delivery", "svr"]
judge = "world:judge"

[target]
metric = "coverage"
direction = "increase"
margin = 0.02

[[guards]]
metric = "accuracy"
allowed_loss = 0.1
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / "cache"))


def study_file(tmp_path: Path, text: str = STUDY) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return file


def records_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in RECORDS if (folder / name).exists()}


def verdict_of(folder: Path) -> Any:
    return json.loads((folder / "verdict.json").read_text())


def test_a_study_goes_from_nothing_to_a_confirmatory_verdict(tmp_path: Path) -> None:
    judged = run_study(load_study(study_file(tmp_path)), tmp_path / "run")
    assert judged.verdict["verdict"] == "SUPPORTED"
    assert judged.verdict["status"] == "confirmatory"
    outcome = {check["check"]: check["outcome"] for check in judged.verdict["checks"]}
    for name in ("truncation", "decode-parity", "judge-parity", "judge-cards", "unscored", "parser", "content"):
        assert outcome[name] == "PASS", name
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "study.json", "prompts.jsonl", "responses.jsonl", "scores.jsonl", "extras.json", "checks.jsonl", "verdict.json",
        "report.html", "report.md", "junit.xml", "verdict.sarif",
    }  # fmt: skip
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    audit.check(tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_run_again_it_generates_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    plan = load_study(study_file(tmp_path))
    run_study(plan, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    made: list[int] = []
    watchers = Progress(
        answers=lambda tally: made.append(tally.done - tally.kept), scores=lambda tally: made.append(tally.done)
    )
    run_study(plan, tmp_path / "run", watchers)
    assert made == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_an_untouched_claim_is_confirmatory_and_a_changed_one_is_not(tmp_path: Path) -> None:
    run_study(load_study(study_file(tmp_path)), tmp_path / "run")
    changed = study_file(tmp_path, STUDY.replace("margin = 0.02", "margin = 0.2"))
    judged = run_study(load_study(changed), tmp_path / "run")
    assert judged.verdict["status"] == "exploratory"
    assert "changed after answers had been generated" in judged.verdict["status_because"]
    again = run_study(load_study(study_file(tmp_path)), tmp_path / "run")
    assert again.verdict["status"] == "confirmatory", "the claim that was written down first"


def test_another_study_is_not_written_over(tmp_path: Path) -> None:
    run_study(load_study(study_file(tmp_path)), tmp_path / "run")
    before = records_of(tmp_path / "run")
    other = load_study(study_file(tmp_path, STUDY.replace("limit = 60", "limit = 50")))
    with pytest.raises(InputError, match="holds another study: what differs is the prompts, the samples, the seeds"):
        run_study(other, tmp_path / "run")
    warmer = STUDY.replace("max_new_tokens = 512", "max_new_tokens = 500")
    with pytest.raises(
        InputError, match=r"differs is control\.decode\.max_new_tokens, treated\.decode\.max_new_tokens"
    ):
        run_study(load_study(study_file(tmp_path, warmer)), tmp_path / "run")
    assert records_of(tmp_path / "run") == before
    run_study(other, tmp_path / "run", overwrite=True)
    assert len(read_run(tmp_path / "run").prompts) == 50


def test_a_new_scorer_scores_beside_the_old_ones_which_do_not_score_again(tmp_path: Path) -> None:
    run_study(load_study(study_file(tmp_path)), tmp_path / "run")
    read: list[str] = []
    more = study_file(tmp_path, STUDY.replace('"svr"', '"svr", "length"'))
    watchers = Progress(scores=lambda tally: read.append(tally.scorer))
    run_study(load_study(more), tmp_path / "run", watchers)
    assert set(read) == {"length"}
    assert {score.axis for score in read_run(tmp_path / "run").scores} >= {"score.svr", "score.n_words", "coverage"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"svr"', '"svrr"', "there is no scorer 'svrr'"),
        ('"checklist", ', "", "needs coverage"),
        ('judge = "world:judge"\n', "", "checklist asks a judge, and none was named"),
        ('"svr"', '"svr", "delivery-judge"', "both read delivery"),
        ('metric = "coverage"', 'metric = "covrage"', "did you mean 'coverage'"),
        ('set = "world:clean"', 'set = "world:cleen"', "no planted world"),
        ('set = "world:clean"', 'file = "nowhere.jsonl"', "nowhere.jsonl"),
        ('"svr"]', '"svr"]\nbudgets = [600]', "score.budgets: 600 is not smaller"),
        ("[target]", '[test]\nrequired_checks = ["sedes"]\n\n[target]', "checks that do not exist: sedes"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_generated(
    tmp_path: Path, old: str, new: str, says: str
) -> None:
    file = study_file(tmp_path, STUDY.replace(old, new, 1))
    asked: list[int] = []
    with pytest.raises(InputError) as caught:
        run_study(load_study(file), tmp_path / "run", Progress(answers=lambda tally: asked.append(1)))
    assert says in str(caught.value)
    assert asked == []


SLOW = """
import sys, time
from pathlib import Path
from counterclaim.lab.run import run_study
from counterclaim.lab.config import load_study
from counterclaim.lab.answers import Progress

def slowly(tally):
    print(tally.done, flush=True)
    time.sleep(0.3)

run_study(load_study(Path(sys.argv[1])), Path(sys.argv[2]), Progress(answers=slowly, scores=slowly))
"""


def test_killed_at_three_random_moments_it_ends_with_identical_records(tmp_path: Path) -> None:
    file = study_file(tmp_path)
    run_study(load_study(file), tmp_path / "whole")
    chance = random.Random(0)
    command = [sys.executable, "-c", SLOW, str(file), str(tmp_path / "killed")]
    env = {**os.environ, "COUNTERCLAIM_CACHE": str(tmp_path / "other-cache")}
    kills = 0
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
        kills += process.returncode == -signal.SIGKILL
    assert kills == 3
    assert not (tmp_path / "killed" / "verdict.json").exists()
    with pytest.raises(InputError, match="not finished"):
        audit.check(tmp_path / "killed")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env, timeout=120)
    assert records_of(tmp_path / "killed") == records_of(tmp_path / "whole")
    same = [verdict_of(tmp_path / name) for name in ("killed", "whole")]
    for verdict in same:
        del verdict["status_because"]  # it tells when the claim was written down
    assert same[0] == same[1]


# one arm at a time ----------------------------------------------------------------------------------------------


def answered(tmp_path: Path, arm: str) -> Path:
    folder = tmp_path / arm
    asked = AnswerRequest(
        (ArmPlan(arm, ModelSpec(f"world:clean/{arm}"), Decode(512)),),
        choose_prompts(PromptChoice("world:clean", "test", limit=60)),
    )
    generate_run(folder, asked, Runtime(), Progress())
    return folder


def test_arms_made_one_by_one_are_scored_and_audited(tmp_path: Path) -> None:
    from counterclaim.audit.intake import AuditRequest, Options, import_study

    wanted = ScoringRequest(["checklist", "svr"], judge="world:judge")
    folders = {arm: answered(tmp_path, arm) for arm in ("control", "treated")}
    for folder in folders.values():
        with pytest.raises(InputError, match="no claim to judge"):
            audit.check(folder)
        table = score_run(folder, wanted, Runtime(), Progress())["scores"]
        assert {row["axis"] for row in table} == {"coverage", "correct", "score.svr"}
        assert all(row["mean"]["n"] == 60 for row in table)
    files = {arm: [folder] for arm, folder in folders.items()}
    verdict = audit.judge(import_study(files, AuditRequest(metric="coverage", margin=0.02), Options())).verdict
    assert verdict["verdict"] == "SUPPORTED"
    assert {check["check"]: check["outcome"] for check in verdict["checks"]}["judge-cards"] == "PASS"


def test_scoring_again_keeps_other_scorers_and_takes_changed_golds(tmp_path: Path) -> None:
    folder = answered(tmp_path, "control")
    score_run(folder, ScoringRequest(["svr"]), Runtime(), Progress())
    score_run(folder, ScoringRequest(["length"]), Runtime(), Progress())
    assert {score.axis for score in read_run(folder).scores} == {"score.svr", "score.n_words"}
    with pytest.raises(InputError, match="code needs the tests of each prompt"):
        score_run(folder, ScoringRequest(["code"]), Runtime(), Progress())
    score_run(folder, ScoringRequest(["exact"]), Runtime(), Progress())

    def right() -> set[str]:
        return {made.prompt_id for made in read_run(folder).scores if made.axis == "correct" and made.value == 1}

    assert right() == set()
    answer = read_run(folder).responses[7]
    assert answer.text is not None
    prompt = read_run(folder).prompts[answer.prompt_id]
    golds = tmp_path / "golds.jsonl"
    golds.write_text(json.dumps({"prompt": prompt.text, "answer": " ".join(answer.text.split()[:4])}) + "\n")
    read: list[int] = []
    watchers = Progress(scores=lambda tally: read.append(tally.done))
    score_run(folder, ScoringRequest(["exact"]), Runtime(), watchers, golds=str(golds))
    assert right() == {prompt.id}
    assert read == [60], "the other 59 were kept"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        answered(tmp_path, "control")
    assert (tmp_path / "control" / "thesis.tex").read_text() == "mine"


# models that change, and fail -----------------------------------------------------------------------------------

FAILS: set[str] = set()
REVISION = ["r1"]
QUESTIONS = [Prompt.of_text(f"Question {i}?", gold={"answer": "yes"}) for i in range(5)]


class Moody:
    """Says yes; fails on the questions in ``FAILS``; is of the revision that ``REVISION`` says."""

    chat_template: str | None = "t"

    def __init__(self, name: str) -> None:
        self.ref = ModelRef(name, REVISION[0])

    def answer(
        self, asks: Sequence[Ask], decode: Decode, done: Container[int] = ()
    ) -> Iterator[list[tuple[int, Answer]]]:
        for i, ask in enumerate(asks):
            if i in done:
                continue
            asked = ask.messages[-1].content
            text = f"Yes. So much for {asked}"
            failed = Answer(None, FinishReason.ERROR, error="it broke")
            whole = Answer(text, FinishReason.STOP, n_tokens=len(text), token_chars=(1,) * len(text))
            yield [(i, failed if asked in FAILS else whole)]

    def close(self) -> None:
        """Nothing is held."""


@backend("moody", about="a model of these tests", can=("generate",), opens=lambda name: name.startswith("moody:"))
def moody(spec: ModelSpec, runtime: Runtime) -> Moody:
    return Moody(spec.name)


@pytest.fixture(autouse=True)
def _good_mood() -> Iterator[None]:
    yield
    FAILS.clear()
    REVISION[0] = "r1"


def generated(folder: Path, name: str = "control", prompts: Sequence[Prompt] = QUESTIONS, **spec: Any) -> Any:
    asked = AnswerRequest((ArmPlan(name, ModelSpec("moody:a", **spec), Decode(64)),), prompts)
    return generate_run(folder, asked, Runtime(), Progress())


def scored(folder: Path, *scorers: str, golds: str | None = None, **wanted: Any) -> Any:
    return score_run(folder, ScoringRequest(scorers, **wanted), Runtime(), Progress(), golds=golds)


def test_an_answer_that_was_mended_is_scored_again(tmp_path: Path) -> None:
    FAILS.add("Question 2?")
    generated(tmp_path / "run")
    scored(tmp_path / "run", "svr", budgets=(4,))
    assert len([made for made in read_run(tmp_path / "run").scores if made.unscored]) == 2
    FAILS.clear()
    generated(tmp_path / "run")
    scored(tmp_path / "run", "svr", budgets=(4,))
    records = read_run(tmp_path / "run")
    assert [answer.error for answer in records.responses if answer.error] == []
    assert len(records.scores) == 10
    assert [made.unscored for made in records.scores if made.unscored] == []


def test_scores_of_budgets_stay_where_they_are_not_asked_for_again(tmp_path: Path) -> None:
    generated(tmp_path / "run")
    scored(tmp_path / "run", "svr", budgets=(4,))
    scored(tmp_path / "run", "svr")
    assert {str(made.arm) for made in read_run(tmp_path / "run").scores} == {"control", "control@4"}
    generated(tmp_path / "run")
    assert {str(made.arm) for made in read_run(tmp_path / "run").scores} == {"control", "control@4"}


def test_scores_that_rest_on_golds_that_changed_are_dropped_and_that_is_said(tmp_path: Path) -> None:
    generated(tmp_path / "run")
    scored(tmp_path / "run", "exact")
    golds = tmp_path / "golds.jsonl"
    golds.write_text("".join(json.dumps({"prompt": q.text, "answer": "no"}) + "\n" for q in QUESTIONS))
    notes = scored(tmp_path / "run", "svr", golds=str(golds))["notes"]
    assert {made.axis for made in read_run(tmp_path / "run").scores} == {"score.svr"}
    assert "5 scores of other scorers rested on golds that have changed" in notes[0]


def test_generating_again_keeps_golds_scores_and_the_judges_cards(tmp_path: Path) -> None:
    bare = [Prompt(q.id, q.messages) for q in QUESTIONS]
    generated(tmp_path / "run", prompts=bare)
    golds = tmp_path / "golds.jsonl"
    golds.write_text("".join(json.dumps({"prompt": q.text, "answer": "yes"}) + "\n" for q in QUESTIONS))
    scored(tmp_path / "run", "exact", golds=str(golds))
    scored(tmp_path / "run", "delivery-judge", judge="world:judge")
    before = records_of(tmp_path / "run")
    generated(tmp_path / "run", prompts=bare)
    assert "extras.json" in before
    assert records_of(tmp_path / "run") == before


def test_an_axis_on_which_nothing_was_scored_is_a_row_of_the_table(tmp_path: Path) -> None:
    generated(tmp_path / "run")
    table = scored(tmp_path / "run", "exact", "recovery")["scores"]
    (row,) = [row for row in table if row["axis"] == "revised"]
    assert (row["mean"]["estimate"], row["unscored"]) == (None, 5)
    assert "the scripted next turn was not put to the model" in row["mean"]["reason"]


def spelt(arm: str, text: str | None, *, ends: bool = True, n_tokens: int | None = None) -> Response:
    """An answer of one token a letter."""
    return Response(
        QUESTIONS[0].id, ArmId.parse(arm), 0, text, FinishReason.STOP, Provenance.RECORDED, Decode(64), ModelRef("m"),
        n_tokens=len(text or "") if n_tokens is None else n_tokens,
        token_chars=(1,) * len(text) if ends and text is not None else None,
    )  # fmt: skip


def test_a_next_turn_is_cut_only_where_the_answer_before_it_is_whole(tmp_path: Path) -> None:
    long, short = spelt("control", "yes it is"), spelt("treated", "yes")
    turns = [spelt("control/recovery", "no, sorry"), spelt("treated/recovery", "no, sorry")]
    made = {str(r.arm): r.text for r in cut_to_budgets([long, short, *turns], [4])}
    assert made["control@4"] == "yes "
    assert "control@4/recovery" not in made, "at 4 tokens the model would have been told something else"
    assert (made["treated@4"], made["treated@4/recovery"]) == ("yes", "no, ")


def test_one_answer_that_cannot_be_cut_is_an_error_record_and_all_of_them_are_refused() -> None:
    whole, bare = spelt("control", "yes it is"), replace(spelt("control", "no never", ends=False), sample=1)
    filtered = replace(spelt("control", None), sample=2, n_tokens=None, finish_reason=FinishReason.FILTER)
    cut = cut_to_budgets([whole, bare, filtered], [4])[3:]
    assert [(r.text, r.finish_reason) for r in cut] == [
        ("yes ", FinishReason.LENGTH), (None, FinishReason.ERROR), (None, FinishReason.FILTER),
    ]  # fmt: skip
    assert cut[1].error is not None
    assert "where its tokens end" in cut[1].error
    with pytest.raises(InputError, match=r"answers of control cannot be cut to 4 tokens.*--token-ends"):
        cut_to_budgets([bare, filtered], [4])
    assert len(cut_to_budgets([bare], [32])) == 2, "it is whole within 32 tokens"


ASKED = """\
model = "moody:a"

[prompts]
file = "prompts.jsonl"

[decode]
max_new_tokens = 64

[treatment]
model = "moody:b"

[score]
scorers = ["exact", "svr"]

[target]
metric = "accuracy"
direction = "increase"
margin = 0.02
"""


def asked_study(tmp_path: Path, text: str = ASKED, gold: str = "yes") -> Any:
    rows = "".join(json.dumps({"prompt": q.text, "answer": gold}) + "\n" for q in QUESTIONS)
    (tmp_path / "prompts.jsonl").write_text(rows)
    return run_study(load_study(study_file(tmp_path, text)), tmp_path / "run").verdict


def test_what_measures_the_claim_cannot_be_changed_unnoticed(tmp_path: Path) -> None:
    assert asked_study(tmp_path)["status"] == "confirmatory"
    beside = asked_study(tmp_path, ASKED.replace('"svr"', '"length"'))
    assert beside["status"] == "confirmatory", "the claim does not rest on svr"
    other = asked_study(tmp_path, ASKED.replace('"exact"', '"numeric"'))
    assert other["status"] == "exploratory"
    assert "the scorers that measure the claim were changed" in other["status_because"]
    golds = asked_study(tmp_path, gold="no")
    assert "the golds that measure the claim were changed" in golds["status_because"]
    assert asked_study(tmp_path)["status"] == "confirmatory", "what was written down first"


def test_a_study_that_is_scored_again_by_other_scorers_is_exploratory(tmp_path: Path) -> None:
    asked_study(tmp_path)
    notes = scored(tmp_path / "run", "length")["notes"]
    assert "counterclaim check" in notes[-1]
    assert audit.check(tmp_path / "run").verdict["status"] == "confirmatory"
    scored(tmp_path / "run", "numeric")
    verdict = audit.check(tmp_path / "run").verdict
    assert verdict["status"] == "exploratory"
    assert "scored again" in verdict["status_because"]
    assert asked_study(tmp_path)["status"] == "confirmatory", "the study file's own scorers"
    golds = tmp_path / "golds.jsonl"
    golds.write_text("".join(json.dumps({"prompt": q.text, "answer": "no"}) + "\n" for q in QUESTIONS))
    scored(tmp_path / "run", "svr", golds=str(golds))
    assert read_run(tmp_path / "run").study["status"] == "exploratory", "the scores of the claim are gone"


def test_a_study_that_is_scored_again_has_no_verdict_until_it_is_checked_again(tmp_path: Path) -> None:
    asked_study(tmp_path)
    run = tmp_path / "run"
    made = ("checks.jsonl", "verdict.json", "report.html", "report.md", "junit.xml", "verdict.sarif")
    assert all((run / name).exists() for name in made)
    scored(run, "length")
    assert [name for name in made if (run / name).exists()] == []
    with pytest.raises(InputError, match=r"verdict\.json.* is missing"):
        audit.report(run)
    audit.check(run)
    assert all((run / name).exists() for name in made)


def test_a_study_that_replaces_another_begins_without_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the first answer, the folder holds nothing that was made from the old one."""
    asked_study(tmp_path)
    run = tmp_path / "run"
    (run / "notes.txt").write_text("mine")

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("counterclaim.lab.answers.generate", stopped)
    plan = load_study(study_file(tmp_path, ASKED.replace("max_new_tokens = 64", "max_new_tokens = 65")))
    with pytest.raises(KeyboardInterrupt):
        run_study(plan, run, overwrite=True)
    left = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert left == {"notes.txt", "study.json", "prompts.jsonl", "answers.journal"}
    with pytest.raises(InputError, match="not finished"):
        audit.report(run)


def test_a_run_does_not_go_on_with_a_model_that_has_changed(tmp_path: Path) -> None:
    FAILS.add("Question 3?")
    generated(tmp_path / "run")
    before = records_of(tmp_path / "run")
    FAILS.clear()
    REVISION[0] = "r2"
    with pytest.raises(ModelError, match="its revision was r1 and is r2"):
        generated(tmp_path / "run")
    assert records_of(tmp_path / "run") == before
    REVISION[0] = "r1"
    generated(tmp_path / "run")
    assert {answer.model.revision for answer in read_run(tmp_path / "run").responses} == {"r1"}


def test_an_adapter_is_known_by_its_content_and_not_by_its_place(tmp_path: Path) -> None:
    adapter, template = tmp_path / "adapter", tmp_path / "chat.jinja"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "adapter_config.json").write_text("{}")
    template.write_text("{{ messages }}")
    generated(tmp_path / "run", adapter=adapter, chat_template=template)
    adapter = adapter.rename(tmp_path / "moved")
    generated(tmp_path / "run", adapter=adapter, chat_template=template)
    (adapter / "adapter_model.safetensors").write_bytes(b"trained again")
    with pytest.raises(InputError, match="holds another study"):
        generated(tmp_path / "run", adapter=adapter, chat_template=template)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    template.write_text("{{ messages[0] }}")
    with pytest.raises(InputError, match="holds another study"):
        generated(tmp_path / "run", adapter=adapter, chat_template=template)
    with pytest.raises(InputError, match=r"nowhere: cannot be read \(No such file"):
        generated(tmp_path / "run", adapter=tmp_path / "nowhere", chat_template=template)


# the folder -----------------------------------------------------------------------------------------------------


def test_killed_before_anything_was_asked_it_begins_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Journal(folder / "answers.journal", {"answers": "of another study"}).close()
    (folder / ".held").touch()
    (folder / ".study.json.4711").write_text('{"finished": fa')
    generated(folder)
    assert {path.name for path in folder.iterdir()} == {
        "study.json", "prompts.jsonl", "responses.jsonl", "scores.jsonl",
    }  # fmt: skip


def test_a_users_own_files_are_never_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        generated(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.glob("*.*")} == {"prompts.jsonl": "mine"}


def test_no_second_process_comes_in_even_to_replace_what_is_there(tmp_path: Path) -> None:
    generated(tmp_path / "run")
    before = records_of(tmp_path / "run")
    asked = AnswerRequest((ArmPlan("control", ModelSpec("moody:b"), Decode(64)),), QUESTIONS)
    with locked(tmp_path / "run"):
        with pytest.raises(InputError, match="another process is at work"):
            generate_run(tmp_path / "run", asked, Runtime(), Progress(), overwrite=True)
        with pytest.raises(InputError, match="another process is at work"):
            scored(tmp_path / "run", "svr")
        with pytest.raises(InputError, match="another process is at work"):
            asked_study(tmp_path)
    assert records_of(tmp_path / "run") == before
    generate_run(tmp_path / "run", asked, Runtime(), Progress(), overwrite=True)


def test_what_is_refused_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        generated(tmp_path / "run", adapter=tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()


def test_places_that_cannot_be_are_told_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File name too long"):
        generated(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match="File name too long"):
        scored(tmp_path / ("x" * 300), "svr")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a file stands where the run folder should go"):
        generated(tmp_path / "file")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "study.json").write_text("[]")
    with pytest.raises(InputError, match="is not what a study is"):
        generated(tmp_path / "odd")
    for source, says in (("What is the capital of France? " * 9, "no prompts called 'What"), ("a.b" * 99, "too long")):
        with pytest.raises(InputError, match=says):
            choose_prompts(PromptChoice(source))


def test_stopped_while_it_is_finished_no_score_passes_for_that_of_a_newer_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FAILS.add("Question 2?")
    asked_study(tmp_path)
    FAILS.clear()
    whole = Path.replace
    for name in ("responses.jsonl", "prompts.jsonl", "study.json"):

        def stopped(path: Path, target: Path, last: str = name) -> Path:
            if target.name == last:
                raise KeyboardInterrupt
            return whole(path, target)

        monkeypatch.setattr(Path, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            asked_study(tmp_path)
        monkeypatch.undo()
        asked_study(tmp_path)
        assert [made.unscored for made in read_run(tmp_path / "run").scores if made.unscored] == []


# answers of other harnesses ---------------------------------------------------------------------------------------


def test_answers_of_another_harness_are_taken_in_once_and_scored(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {i} + 1?", "response": f"It is {i + (i % 3 > 0)}."} for i in range(9)]
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows)))
    golds = [{"prompt": row["prompt"], "answer": str(i + 1)} for i, row in enumerate(rows)]
    (tmp_path / "golds.jsonl").write_text("\n".join(map(json.dumps, golds)))
    for scorers in (["numeric"], ["length"]):
        import_answers(tmp_path / "answers.jsonl", tmp_path / "run", Options())
        score_run(tmp_path / "run", ScoringRequest(scorers), Runtime(), Progress(), golds=str(tmp_path / "golds.jsonl"))
    scored = read_run(tmp_path / "run").scores
    assert sum(made.value == 1 for made in scored if made.axis == "correct") == 6
    assert {made.axis for made in scored} == {"correct", "score.n_words"}
    (tmp_path / "answers.jsonl").write_text(json.dumps(rows[0]))
    with pytest.raises(InputError, match="holds something else"):
        import_answers(tmp_path / "answers.jsonl", tmp_path / "run", Options())


def test_a_judge_that_fails_its_cards_is_told_beside_its_scores(tmp_path: Path) -> None:
    folder = answered(tmp_path, "control")
    bad = score_run(folder, ScoringRequest(["checklist"], judge="world:deaf-judge"), Runtime(), Progress())
    assert any("Do not trust these scores: world:deaf-judge must not score with checklist" in n for n in bad["notes"])
    mute = score_run(folder, ScoringRequest(["checklist"], judge="world:broken-judge"), Runtime(), Progress())
    assert any("left 120 of 120 readings unscored" in note for note in mute["notes"])
    good = score_run(folder, ScoringRequest(["checklist"], judge="world:judge"), Runtime(), Progress())
    assert good["notes"] == []
