"""A study of one's own, end to end with planted models: resumed, rescored, refused, judged."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from counterclaim import experiment, study
from counterclaim.errors import InputError
from counterclaim.experiment import Answering, Scoring, Watchers
from counterclaim.records import Decode
from counterclaim.registry import ModelSpec, Runtime
from counterclaim.spec import ArmPlan, PromptChoice, load_study
from counterclaim.store import read_run

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
instruments = ["checklist", "delivery", "svr"]
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
    judged = study.run(load_study(study_file(tmp_path)), tmp_path / "run")
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
    study.check(tmp_path / "run")
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_run_again_it_generates_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    plan = load_study(study_file(tmp_path))
    study.run(plan, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    made: list[int] = []
    watchers = Watchers(
        answers=lambda tally: made.append(tally.done - tally.kept), scores=lambda tally: made.append(tally.done)
    )
    study.run(plan, tmp_path / "run", watchers)
    assert made == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_an_untouched_claim_is_confirmatory_and_a_changed_one_is_not(tmp_path: Path) -> None:
    study.run(load_study(study_file(tmp_path)), tmp_path / "run")
    changed = study_file(tmp_path, STUDY.replace("margin = 0.02", "margin = 0.2"))
    judged = study.run(load_study(changed), tmp_path / "run")
    assert judged.verdict["status"] == "exploratory"
    assert "changed after answers had been generated" in judged.verdict["status_because"]
    again = study.run(load_study(study_file(tmp_path)), tmp_path / "run")
    assert again.verdict["status"] == "confirmatory", "the claim that was written down first"


def test_another_study_is_not_written_over(tmp_path: Path) -> None:
    study.run(load_study(study_file(tmp_path)), tmp_path / "run")
    before = records_of(tmp_path / "run")
    other = load_study(study_file(tmp_path, STUDY.replace("limit = 60", "limit = 50")))
    with pytest.raises(InputError, match="holds another study"):
        study.run(other, tmp_path / "run")
    assert records_of(tmp_path / "run") == before
    study.run(other, tmp_path / "run", overwrite=True)
    assert len(read_run(tmp_path / "run").prompts) == 50


def test_a_new_instrument_scores_beside_the_old_ones_which_do_not_score_again(tmp_path: Path) -> None:
    study.run(load_study(study_file(tmp_path)), tmp_path / "run")
    read: list[str] = []
    more = study_file(tmp_path, STUDY.replace('"svr"', '"svr", "length"'))
    watchers = Watchers(scores=lambda tally: read.append(tally.instrument))
    study.run(load_study(more), tmp_path / "run", watchers)
    assert set(read) == {"length"}
    assert {score.axis for score in read_run(tmp_path / "run").scores} >= {"score.svr", "score.n_words", "coverage"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"svr"', '"svrr"', "there is no instrument 'svrr'"),
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
        study.run(load_study(file), tmp_path / "run", Watchers(answers=lambda tally: asked.append(1)))
    assert says in str(caught.value)
    assert asked == []


SLOW = """
import sys, time
from pathlib import Path
from counterclaim import study, experiment
from counterclaim.spec import load_study
from counterclaim.experiment import Watchers

def slowly(tally):
    print(tally.done, flush=True)
    time.sleep(0.3)

study.run(load_study(Path(sys.argv[1])), Path(sys.argv[2]), Watchers(answers=slowly, scores=slowly))
"""


def test_killed_at_three_random_moments_it_ends_with_identical_records(tmp_path: Path) -> None:
    file = study_file(tmp_path)
    study.run(load_study(file), tmp_path / "whole")
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
        study.check(tmp_path / "killed")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=env, timeout=120)
    assert records_of(tmp_path / "killed") == records_of(tmp_path / "whole")
    same = [verdict_of(tmp_path / name) for name in ("killed", "whole")]
    for verdict in same:
        del verdict["status_because"]  # it tells when the claim was written down
    assert same[0] == same[1]


# one arm at a time ----------------------------------------------------------------------------------------------


def answered(tmp_path: Path, arm: str) -> Path:
    folder = tmp_path / arm
    asked = Answering(
        (ArmPlan(arm, ModelSpec(f"world:clean/{arm}"), Decode(512)),),
        experiment.choose_prompts(PromptChoice("world:clean", "test", limit=60)),
    )
    experiment.generate_run(folder, asked, Runtime(), Watchers())
    return folder


def test_arms_made_one_by_one_are_scored_and_audited(tmp_path: Path) -> None:
    from counterclaim.intake import Options, Wanted, import_study

    wanted = Scoring(["checklist", "svr"], judge="world:judge")
    folders = {arm: answered(tmp_path, arm) for arm in ("control", "treated")}
    for folder in folders.values():
        with pytest.raises(InputError, match="no claim to judge"):
            study.check(folder)
        table = experiment.score_run(folder, wanted, Runtime(), Watchers())["scores"]
        assert {row["axis"] for row in table} == {"coverage", "correct", "score.svr"}
        assert all(row["mean"]["n"] == 60 for row in table)
    files = {arm: [folder] for arm, folder in folders.items()}
    records = import_study(files, Wanted(metric="coverage", margin=0.02), Options())
    assert study.judge(records).verdict["verdict"] == "SUPPORTED"


def test_scoring_again_keeps_other_instruments_and_takes_changed_golds(tmp_path: Path) -> None:
    folder = answered(tmp_path, "control")
    experiment.score_run(folder, Scoring(["svr"]), Runtime(), Watchers())
    experiment.score_run(folder, Scoring(["length"]), Runtime(), Watchers())
    assert {score.axis for score in read_run(folder).scores} == {"score.svr", "score.n_words"}
    with pytest.raises(InputError, match="code needs the tests of each prompt"):
        experiment.score_run(folder, Scoring(["code"]), Runtime(), Watchers())
    experiment.score_run(folder, Scoring(["exact"]), Runtime(), Watchers())

    def right() -> set[str]:
        return {made.prompt_id for made in read_run(folder).scores if made.axis == "correct" and made.value == 1}

    assert right() == set()
    answer = read_run(folder).responses[7]
    assert answer.text is not None
    prompt = read_run(folder).prompts[answer.prompt_id]
    golds = tmp_path / "golds.jsonl"
    golds.write_text(json.dumps({"prompt": prompt.text, "answer": " ".join(answer.text.split()[:4])}) + "\n")
    read: list[int] = []
    watchers = Watchers(scores=lambda tally: read.append(tally.done))
    experiment.score_run(folder, Scoring(["exact"]), Runtime(), watchers, golds=str(golds))
    assert right() == {prompt.id}
    assert read == [60], "the other 59 were kept"


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="not a run folder"):
        answered(tmp_path, "control")
    assert (tmp_path / "control" / "thesis.tex").read_text() == "mine"
