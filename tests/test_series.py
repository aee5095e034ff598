"""Series of studies: the file, the order of work, one process or several, and what the page and the exit code say."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from counterclaim import folder as store
from counterclaim.errors import CounterclaimError, InputError, ModelError
from counterclaim.lab import suite as series
from counterclaim.lab.answers import Progress
from counterclaim.lab.config import Series, is_series, load_series, load_study
from counterclaim.lab.run import run_study
from counterclaim.lab.suite.chapter import run_chapter
from counterclaim.lab.suite.page import believed_by, render_series, summary
from counterclaim.lab.suite.running import FAILED, Task, run_tasks
from counterclaim.lab.suite.whole import _tasks
from counterclaim.records import VerdictOutcome

STUDY = """\
model = "world:WORLD/control"

[prompts]
set = "world:WORLD"
limit = 60

[decode]
max_new_tokens = 512

[treatment]
model = "world:WORLD/treated"

[score]
scorers = ["checklist", "delivery"]
judge = "world:judge"

[target]
metric = "coverage"
direction = "increase"
margin = 0.02
"""

SERIES = """\
title = "Two claims"
together = true
told = "What stands?"

[[arcs]]
name = "First"

[[studies]]
study = "clean.toml"
arc = "First"
claim = "Coverage rises."
expected = ["SUPPORTED"]
in_short = "by more than <i>chance</i>"
because = "It does, by construction."
lesson = "Some <b>claims</b> stand."
paper = "It rose to 0.5."
reported = ["clean.toml:before"]

[[studies]]
study = "null.toml"
arc = "First"
claim = "Coverage rises here, too."
expected = ["REFUTED", "INCONCLUSIVE"]
"""

REPORTED = """
[[reported]]
id = "before"
claim = "Coverage rose."
metric = "coverage"
direction = "increase"
means = { control = 0.4, treated = 0.5, n = 100 }
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / "cache"))


def series_file(tmp_path: Path, text: str = SERIES) -> Path:
    (tmp_path / "clean.toml").write_text(STUDY.replace("WORLD", "clean") + REPORTED)
    (tmp_path / "null.toml").write_text(STUDY.replace("WORLD", "null"))
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return file


def silent(name: str, what: str, done: int | None, total: int | None) -> None:
    pass


# the file -------------------------------------------------------------------------------------------------------


def test_a_series_lists_studies_and_a_study_does_not(tmp_path: Path) -> None:
    file = series_file(tmp_path)
    assert is_series(file)
    assert not is_series(tmp_path / "clean.toml")
    (tmp_path / "half.toml").write_text(SERIES.partition("[[studies]]")[0])
    with pytest.raises(InputError, match="studies: is missing"):
        load_series(tmp_path / "half.toml")
    assert is_series(tmp_path / "half.toml")
    read = load_series(file)
    assert [chapter.name for chapter in read.chapters] == ["clean", "null"]
    assert read.chapters[0].expected == {VerdictOutcome.SUPPORTED}
    assert read.chapters[0].plan == load_study(tmp_path / "clean.toml")
    assert [number.id for number in read.chapters[0].numbers] == ["before"]
    assert read.out == Path("runs/mine")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('study = "null.toml"', 'study = "none.toml"', "there is no such study file"),
        ('study = "null.toml"', 'study = "clean.toml"', "two files are called clean.toml"),
        ('arc = "First"\nclaim = "Coverage rises here', 'arc = "Second"\nclaim = "Coverage rises here', "no arc 'Second'"),
        ("[[studies]]", '[[arcs]]\nname = "First"\n\n[[studies]]', "arcs.1.name: 'First' is there already"),
        ('"REFUTED", "INCONCLUSIVE"', '"PERHAPS"', "expected"),
        ("clean.toml:before", "clean.toml:after", "names no number that was reported"),
        ("together = true", "togethr = true", "togethr: there is no such key; did you mean together?"),
        ('because = "It does', 'figure = 3\nbecause = "It does', "line 14: studies.0.figure"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_series_file_is_said(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SERIES
    with pytest.raises(InputError, match=re.escape(said)):
        load_series(series_file(tmp_path, SERIES.replace(old, new)))


@pytest.mark.parametrize(
    ("figure", "said"),
    [
        ("truncaton", "clean: figure 'truncaton' is no check; did you mean truncation"),
        ("steps", "clean: figure 'steps' shows the five steps of a probe, and the study has none"),
    ],
)
def test_a_picture_that_nothing_draws_is_refused_before_any_study_is_begun(
    tmp_path: Path, figure: str, said: str
) -> None:
    file = series_file(tmp_path, SERIES.replace('because = "It does', f'figure = "{figure}"\nbecause = "It does', 1))
    with pytest.raises(InputError, match=re.escape(said)):
        series.run_series(load_series(file), tmp_path / "run", silent, jobs=1)
    assert not (tmp_path / "run").exists()


def test_every_series_that_ships_can_be_read_and_its_studies_can_be_run() -> None:
    from counterclaim.lab.run import outline

    assert "three-arcs" in series.shipped()
    for file, about in series.shipped().values():
        read = load_series(file)
        assert about
        for chapter in read.chapters:
            assert chapter.expected, chapter.name
            assert all((chapter.because, chapter.lesson)), chapter.name
            assert outline(chapter.plan)["answers"] > 0


def test_the_three_arcs_hold_each_verdict_three_families_and_a_sentence_beside_every_arm() -> None:
    chapters = load_series(series.find(Path("three-arcs"))).chapters
    assert {word for chapter in chapters for word in chapter.expected} == set(VerdictOutcome)
    models = {arm.model.name for chapter in chapters for arm in chapter.plan.arms}
    models |= {chapter.plan.steps.second_model or "" for chapter in chapters if chapter.plan.steps}
    assert {"tiny:qwen3", "tiny:gemma4", "tiny:llama"} <= models
    assert all("prompt-baseline" in {arm.name for arm in chapter.plan.arms} for chapter in chapters)


def test_every_number_that_is_told_of_the_paper_is_one_that_it_reported() -> None:
    for chapter in load_series(series.find(Path("three-arcs"))).chapters:
        told = set(re.findall(r"[-+]?\d+(?:\.\d+)?", chapter.paper))
        reported = set(re.findall(r"[-+]?\d+(?:\.\d+)?", " ".join(number.found for number in chapter.numbers)))
        assert told <= reported, chapter.name
        assert bool(told) == bool(chapter.reported), chapter.name


# the order of work ----------------------------------------------------------------------------------------------


def _note(file: Path, name: str, watchers: Progress) -> dict[str, Any]:
    began = time.time()
    time.sleep(0.3)
    store.write_new(file.parent / f"{name}.json", json.dumps([began, time.time()]))
    watchers.part("noting", 1, 1)
    return {"name": name}


def _fail(name: str, watchers: Progress) -> dict[str, Any]:
    raise InputError(f"{name} is broken")


def _spans(tmp_path: Path) -> dict[str, tuple[float, float]]:
    return {file.stem: tuple(json.loads(file.read_text())) for file in tmp_path.glob("*.json")}


@pytest.mark.parametrize("jobs", [1, 2])
def test_needs_come_first_and_what_two_hold_is_not_used_at_once(tmp_path: Path, jobs: int) -> None:
    note = partial(_note, tmp_path / "x")
    tasks = [
        Task("model", partial(note, "model")),
        Task("a", partial(note, "a"), frozenset({"model"}), frozenset({"set"})),
        Task("b", partial(note, "b"), frozenset({"model"}), frozenset({"set"})),
        Task("broken", partial(_fail, "broken")),
        Task("after", partial(note, "after"), frozenset({"broken"})),
    ]
    seen: list[tuple[str, str]] = []
    outcomes = dict(run_tasks(tasks, jobs, lambda name, what, done, total: seen.append((name, what))))
    spans = _spans(tmp_path)
    assert set(spans) == {"model", "a", "b"}
    assert spans["model"][1] <= min(spans["a"][0], spans["b"][0])
    assert spans["a"][1] <= spans["b"][0] or spans["b"][1] <= spans["a"][0]
    assert isinstance(outcomes["after"], InputError)
    assert str(outcomes["after"]) == "broken is broken."
    assert outcomes["a"] == {"name": "a"}
    assert ("a", "done") in seen
    assert {name for name, what in seen if what == FAILED} == {"broken", "after"}


def _be_killed(watchers: Progress) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def test_where_the_system_kills_a_process_every_study_that_is_left_says_so(tmp_path: Path) -> None:
    note = partial(_note, tmp_path / "x")
    tasks = [Task("killed", _be_killed), Task("after", partial(note, "after"), frozenset({"killed"}))]
    tasks += [Task(name, partial(note, name), holds=frozenset({"one"})) for name in "abcdef"]
    last: dict[str, str] = {}
    outcomes = dict(run_tasks(tasks, 2, lambda name, what, done, total: last.update({name: what})))
    assert outcomes.keys() == {task.name for task in tasks}
    assert "killed a process, most likely for want of memory" in str(outcomes["after"])
    assert isinstance(outcomes["f"], CounterclaimError)
    assert (last["killed"], last["f"]) == (FAILED, FAILED)


def test_two_jobs_run_beside_each_other(tmp_path: Path) -> None:
    note = partial(_note, tmp_path / "x")
    dict(run_tasks([Task(name, partial(note, name)) for name in "abcd"], 2, silent))
    spans = sorted(_spans(tmp_path).values())
    assert any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def test_models_are_made_once_and_before_the_studies_that_open_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from counterclaim.lab.models import tiny

    monkeypatch.setattr(tiny, "is_trained", lambda name: name == "llama")
    tasks = {task.name: task for task in _tasks(load_series(series.find(Path("three-arcs"))), Path("runs"), False)}
    assert {name for name in tasks if name.startswith("tiny:")} == {"tiny:qwen3", "tiny:gemma4"}
    assert tasks["temper"].needs == {"tiny:gemma4"}
    assert tasks["imitation"].needs == {"tiny:qwen3"}
    assert tasks["uniform-hedge"].holds == tasks["reward-hacking"].holds != frozenset()


# what comes of it -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Series, Path, dict[str, Any]]:
    tmp_path = tmp_path_factory.mktemp("series")
    read = load_series(series_file(tmp_path))
    return read, tmp_path / "run", series.run_series(read, tmp_path / "run", silent, jobs=2)


def test_each_study_is_judged_as_by_itself(told: tuple[Series, Path, dict[str, Any]], tmp_path: Path) -> None:
    read, folder, found = told
    assert found["chapters"][0]["verdict"] == "SUPPORTED"
    assert all(chapter["as_expected"] for chapter in found["chapters"])
    alone = run_study(read.chapters[0].plan, tmp_path / "alone")
    held = json.loads((folder / "clean" / "verdict.json").read_text())
    assert {**held, "status_because": ""} == {**alone.verdict, "status_because": ""}  # which tells the time
    assert json.loads((folder / "series.json").read_text()) == found


def test_run_again_it_ends_with_the_same(told: tuple[Series, Path, dict[str, Any]]) -> None:
    read, folder, found = told
    again = series.run_series(read, folder, silent, jobs=1)
    timeless = [[{**chapter, "seconds": 0} for chapter in one["chapters"]] for one in (found, again)]
    assert timeless[0] == timeless[1]


def test_the_page_holds_every_claim_and_escapes_what_it_shows(told: tuple[Series, Path, dict[str, Any]]) -> None:
    _, folder, found = told
    page = (folder / "report.html").read_text()
    assert "Coverage rises." in page
    assert "Coverage rises here, too." in page
    assert "Some &lt;b&gt;claims&lt;/b&gt; stand." in page
    assert "0.4 → 0.5" in page  # what was reported
    assert 'href="clean/report.html"' in page
    assert "<script" not in page
    assert page.count("<figure>") == 2
    assert render_series(found) == page


def test_the_page_says_what_its_words_mean_and_names_its_parts(told: tuple[Series, Path, dict[str, Any]]) -> None:
    found = told[2]
    page = render_series(found)
    assert "<dt>SUPPORTED</dt>" in page
    assert "<dt>INVALID</dt>" not in page  # which no claim of this page is
    assert page.count("<h3") == 2
    assert page.count('<th scope="col">') == 4
    clean, null = found["chapters"]
    unpaired = render_series({**found, "chapters": [{**clean, "paper": "", "run": "a #1"}, null]})
    assert unpaired.count('<th scope="col">') == 3
    assert 'colspan="3"' in unpaired
    assert 'href="a%20%231/report.html"' in unpaired


def test_what_a_naive_comparison_says_stands_beside_the_verdict(told: tuple[Series, Path, dict[str, Any]]) -> None:
    clean, null = told[2]["chapters"]
    assert believed_by(clean["naive"]) == ["two means compared"]
    assert believed_by(null["naive"]) == []
    assert clean["naive"]["difference"] == pytest.approx(clean["effect"]["difference"]["estimate"], abs=1e-6)
    rows = summary(told[2]["chapters"])
    assert rows[0]["naive"].startswith("would be believed: +")
    assert rows[0]["paper"] == "It rose to 0.5."
    assert [row["in_short"] for row in rows] == ["by more than <i>chance</i>", ""]
    assert "by more than &lt;i&gt;chance" in render_series(told[2])


def test_another_verdict_than_the_expected_one_is_told_and_its_lesson_is_not(tmp_path: Path) -> None:
    read = load_series(series_file(tmp_path, SERIES.replace('["SUPPORTED"]', '["INVALID"]')))
    chapter = run_chapter(read.chapters[0], tmp_path / "run", Progress())
    assert not chapter["as_expected"]
    page = render_series({
        "title": "x", "told": [], "arcs": [{"name": "First", "told": ""}], "paper": "", "version": "0",
        "chapters": [{**chapter, "error": None}],
    })  # fmt: skip
    assert "This file expects INVALID here" in page
    assert "by more than" not in page
    assert "claims&lt;/b&gt; stand" not in page


def test_a_system_prompt_beside_the_treatment_is_told(tmp_path: Path) -> None:
    file = series_file(tmp_path)
    (tmp_path / "clean.toml").write_text(
        STUDY.replace("WORLD", "clean") + '\n[arms.prompt-baseline]\nsystem_prompt = "Be careful."\n' + REPORTED
    )
    chapter = run_chapter(load_series(file).chapters[0], tmp_path / "run", Progress())
    (arm,) = chapter["instead"]
    assert (arm["arm"], arm["system_prompt"]) == ("prompt-baseline", "Be careful.")
    assert arm["difference"]["n"] == 60


def test_a_name_is_found_beside_a_folder_of_that_name_and_one_that_is_not_known_is_answered_with_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("three-arcs", "sidecar", "mine"):
        Path(name).mkdir()
    assert series.find(Path("three-arcs")).is_file()
    assert series.find(Path("sidecar")).is_file()
    for name, said in (
        ("mine", "is a folder, not a study file"),
        ("three-arc", "there is no such study file; did you mean three-arcs"),
        ("sidecarr", "there is no such study file; did you mean sidecar"),
        ("xyzzy.toml", "there is no such study file; counterclaim list studies"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            series.find(Path(name))


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run" / "clean").mkdir(parents=True)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=re.escape("something else than a series: notes.txt")):
        series.run_series(load_series(series_file(tmp_path)), tmp_path / "run", silent, jobs=1)
    assert sorted(path.name for path in (tmp_path / "run").rglob("*")) == ["clean", "notes.txt"]


def test_a_study_that_cannot_be_used_is_refused_before_any_is_begun(tmp_path: Path) -> None:
    file = series_file(tmp_path)
    (tmp_path / "null.toml").write_text(STUDY.replace("WORLD", "null").replace('"coverage"', '"elegance"'))
    with pytest.raises(InputError, match="elegance"):
        series.run_series(load_series(file), tmp_path / "run", silent, jobs=1)
    assert not (tmp_path / "run").exists()


def test_a_study_that_breaks_does_not_keep_the_others(
    tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    file = series_file(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "null").write_text("in the way")
    code, out, err = run_cli("run", str(file), "--out", str(tmp_path / "run"), "--jobs", "1", "--json")
    assert code == 2, err
    clean, null = json.loads(out)["chapters"]
    assert (clean["verdict"], clean["error"]) == ("SUPPORTED", None)
    assert null["verdict"] is None
    assert "a file stands where the run folder should go" in null["error"]


@pytest.mark.parametrize("other", ["run/study.json", "run/report.html", "run"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, other: str) -> None:
    held = tmp_path / other
    held.parent.mkdir(exist_ok=True)
    held.write_text("mine")
    with pytest.raises(InputError, match="choose another --out"):
        series.run_series(load_series(series_file(tmp_path)), tmp_path / "run", silent, jobs=1)
    assert held.read_text() == "mine"


def test_two_do_not_work_in_one_folder_at_once(tmp_path: Path) -> None:
    with store.locked(tmp_path / "run"), pytest.raises(InputError, match="another process is at work"):
        series.run_series(load_series(series_file(tmp_path)), tmp_path / "run", silent, jobs=1)


def test_what_is_not_installed_is_said_before_any_study_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from counterclaim.lab.operators import builtin

    monkeypatch.setattr(builtin.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=re.escape("pip install 'counterclaim[train]'")):
        series.run_series(load_series(series.find(Path("three-arcs"))), tmp_path / "run", silent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [MemoryError(), ZeroDivisionError("division by nought")])
def test_what_the_others_found_is_kept_whatever_breaks_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def work(chapter: Any, *rest: Any, **more: Any) -> dict[str, Any]:
        if chapter.name == "null":
            raise error
        return run_chapter(chapter, *rest, **more)

    monkeypatch.setattr("counterclaim.lab.suite.whole.run_chapter", work)
    read = load_series(series_file(tmp_path, SERIES.replace('expected = ["REFUTED", "INCONCLUSIVE"]\n', "")))
    with pytest.raises(ZeroDivisionError) if isinstance(error, ZeroDivisionError) else nullcontext():
        series.run_series(read, tmp_path / "run", silent, jobs=1)
    clean, null = json.loads((tmp_path / "run" / "series.json").read_text())["chapters"]
    assert (clean["verdict"], null["verdict"]) == ("SUPPORTED", None)
    assert type(error).__name__ in null["error"]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "NOT RUN" in page
    assert "This file expects" not in page


@pytest.mark.parametrize(("expected", "code"), [('["SUPPORTED"]', 0), ('["INVALID"]', 1)])
def test_the_exit_code_says_whether_verdicts_are_the_expected_ones(
    tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]], expected: str, code: int
) -> None:
    file = series_file(tmp_path, SERIES.replace('["SUPPORTED"]', expected))
    found, out, _ = run_cli("run", str(file), "--out", str(tmp_path / "run"), "--jobs", "1")
    assert found == code
    assert "Coverage rises" in out
    assert ("came out SUPPORTED, and the file expects INVALID" in " ".join(out.split())) == bool(code)


def test_headings_are_shown_as_they_are_written_and_columns_only_where_they_hold_something(
    tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]
) -> None:
    text = SERIES.replace('"First"', '"First [/bold] part"').replace('paper = "It rose to 0.5."\n', "")
    code, out, err = run_cli("run", str(series_file(tmp_path, text)), "--out", str(tmp_path / "run"), "--jobs", "1")
    assert code == 0, err
    assert "First [/bold] part" in out.splitlines()
    assert "what the paper found" not in out


def test_a_dry_run_tells_every_study_and_writes_nothing(
    tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli("run", "three-arcs", "--dry-run")
    assert code == 0, err
    assert " ".join(out.split()).count(" arms, ") == 11
    assert not (tmp_path / "runs").exists()


def test_jobs_are_for_series(tmp_path: Path, run_cli: Callable[..., tuple[int, str, str]]) -> None:
    series_file(tmp_path)
    code, _, err = run_cli("run", str(tmp_path / "clean.toml"), "--jobs", "2")
    assert code == 2
    assert "one study is one job" in err
