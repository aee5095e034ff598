"""Bad teachers, bad endpoints and bad luck, through the whole pipeline: what they spoil is dropped with the reason, and no more."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from counterclaim.errors import BudgetSpent, InputError
from counterclaim.lab.config import load_pipeline
from counterclaim.lab.models import endpoint
from counterclaim.lab.models.tiny import domain
from counterclaim.lab.synthesis.teach import teach
from counterclaim.records import FinishReason, Json
from counterclaim.registry import Answer
from counterclaim.testing.models import CHARACTER_SCHEME
from counterclaim.testing.server import Fault, Server, serve, serve_models

STAGES = ("eager", "deliberate", "adversarial", "synthesizer")
NAMES = tuple(CHARACTER_SCHEME + name for name in STAGES)
CHARACTER = "You are the keeper of a lighthouse who never tells a lie to any sailor."
QUIET = "lambda *_: None"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.002)
    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / "cache"))
    for variable in endpoint.KEYS:
        monkeypatch.delenv(variable, raising=False)


def pipeline(tmp_path: Path, models: Mapping[str, str] | None = None, *, limit: int = 8, more: str = "") -> Path:
    """A pipeline file with the four stages; ``models`` names others than the scripted teacher of the same name."""
    file = tmp_path / "pipeline.toml"
    text = f'[[prompts]]\nset = "tiny"\nlimit = {limit}\n\n[decode]\nmax_new_tokens = 400\n'
    for stage in STAGES:
        model = {**dict(zip(STAGES, NAMES, strict=True)), **(models or {})}[stage]
        text += f'\n[stages.{stage}]\nmodel = "{model}"\nlicence = "MIT"\ncharacter = "{CHARACTER}"\n'
        text += f"sees = {list(STAGES[:3])}\n" if stage == "synthesizer" else ""
    file.write_text(f"{text}\n{more}", encoding="utf-8")
    return file


def taught(file: Path, folder: Path) -> dict[str, Json]:
    return teach(load_pipeline(file), folder, lambda *_: None)


def rows(folder: Path, name: str = "examples.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def at(server: Server) -> dict[str, str]:
    """The four teachers behind a server."""
    return {stage: f"{server.url}#{name}" for stage, name in zip(STAGES, NAMES, strict=True)}


BAD = {
    "refuser": "it refuses",
    "looper": "it goes round in circles",
    "foreigner": "it is in another language than en",
    "leaker": "it tells its instructions",
    "silent": "there is no answer",
    "thinker": "its thought is never closed",
}


@pytest.mark.parametrize("stage", ["adversarial", "synthesizer"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_teacher_spoils_the_set_and_is_named(bad: str, stage: str, tmp_path: Path) -> None:
    file = pipeline(tmp_path, {stage: CHARACTER_SCHEME + bad})
    with pytest.raises(InputError) as refused:
        taught(file, tmp_path / "out")
    said = str(refused.value)
    assert f"no training example is left: of 8 examples, reply dropped 8 (the first: {stage}" in said
    assert BAD[bad] in said
    assert "another character prompt, model or token budget may help" in said
    dropped = rows(tmp_path / "out", "dropped.jsonl")
    assert len({row["prompt_id"] for row in dropped}) == 8
    assert all(CHARACTER_SCHEME + bad in row["because"] for row in dropped)
    assert not (tmp_path / "out" / "examples.jsonl").exists()


def test_good_teachers_are_let_pass(tmp_path: Path) -> None:
    summary = taught(pipeline(tmp_path), tmp_path / "out")
    assert (summary["examples"], summary["failed"], rows(tmp_path / "out", "dropped.jsonl")) == (8, 0, [])
    facts = {prompt.id: prompt.gold["answer"] for prompt in domain.prompts("train")}
    for row in rows(tmp_path / "out"):
        assert row["chosen"] == domain.assertion(facts[row["prompt_id"]])
        thought = next(call["text"] for call in row["provenance"] if call["stage"] == "deliberate")
        assert thought.startswith("<think>"), "provenance holds what was said"


def test_no_teacher_sees_the_thoughts_of_another(tmp_path: Path) -> None:
    with serve_models(NAMES, 0, (), 0.0) as server:
        taught(pipeline(tmp_path, at(server)), tmp_path / "out")
        seen = [str(seen.body["messages"]) for seen in server.requests if seen.body["model"] == NAMES[-1]]
    assert len(seen) == 8
    assert all("## deliberate" in text and "<think>" not in text for text in seen)


@pytest.mark.parametrize("bad", ["liar", "copier"])
def test_an_answer_without_the_fact_is_dropped_by_the_filter_of_facts(bad: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"of 8 examples, facts dropped 8 .*\n?.*gold answers of the prompts"):
        taught(pipeline(tmp_path, {"synthesizer": CHARACTER_SCHEME + bad}), tmp_path / "out")


def test_a_liar_among_the_first_is_put_right_by_the_last(tmp_path: Path) -> None:
    assert taught(pipeline(tmp_path, {"eager": CHARACTER_SCHEME + "liar"}), tmp_path / "out")["examples"] == 8


def test_a_hedger_makes_a_uniformly_hedged_set(tmp_path: Path) -> None:
    """Nothing here is wrong, so nothing is dropped: what it does to a student, the checks find."""
    assert taught(pipeline(tmp_path, {"synthesizer": CHARACTER_SCHEME + "hedger"}), tmp_path / "out")["examples"] == 8
    assert all(row["chosen"].startswith("I am not sure, but it may be ") for row in rows(tmp_path / "out"))


@pytest.mark.parametrize("stage", ["eager", "synthesizer"])
def test_a_reply_that_is_cut_by_its_budget_is_not_used(stage: str, tmp_path: Path) -> None:
    file = pipeline(tmp_path)
    file.write_text(file.read_text().replace(f"[stages.{stage}]", f"[stages.{stage}]\nmax_new_tokens = 3"))
    with pytest.raises(InputError, match=rf"{stage} \(character:{stage}\): it was cut by its budget of 3 tokens"):
        taught(file, tmp_path / "out")


def test_a_teacher_that_is_bad_now_and_then_costs_those_prompts_only(tmp_path: Path) -> None:
    def moody(body: Mapping[str, Json]) -> Answer:
        asked = body["messages"][-1]["content"]
        said = "I'm sorry, but I can't help with that." if "stone" in asked else "Gladly! Let us look at it together."
        return Answer(said, FinishReason.STOP, len(said.split()), 9)

    with serve(moody) as server:
        summary = taught(pipeline(tmp_path, {"eager": f"{server.url}#local"}, limit=12), tmp_path / "out")
    prompts = {prompt.id: prompt.text for prompt in domain.prompts("train")}
    kept = {row["prompt_id"] for row in rows(tmp_path / "out")}
    dropped = {row["prompt_id"] for row in rows(tmp_path / "out", "dropped.jsonl")}
    assert len(kept | dropped) == 12
    assert 0 < len(kept) == summary["examples"]
    assert all("stone" in prompts[prompt] for prompt in dropped)
    assert not any("stone" in prompts[prompt] for prompt in kept)
    unused = [row for row in summary["stages"] if row["stage"] == "synthesizer"]
    assert unused[0]["calls"] == len(kept), "nothing is paid for prompts that are lost"


def test_passing_faults_of_an_endpoint_leave_no_trace(tmp_path: Path) -> None:
    faults = [
        ("too-many-requests", 3), ("server-error", 2), ("unavailable", 1), ("half-json", 2), ("reset", 1),
    ]  # fmt: skip
    with serve_models(NAMES, 0, (), 0.0) as calm:
        taught(pipeline(tmp_path, at(calm)), tmp_path / "calm")
    with serve_models(NAMES, 0, faults, 0.0) as shaken:
        taught(pipeline(tmp_path, at(shaken)), tmp_path / "shaken")
        assert len(shaken.requests) == 4 * 8 + 9
    url = re.compile(rb"http://127\.0\.0\.1:\d+/v1")
    files = [url.sub(b"URL", (tmp_path / name / "examples.jsonl").read_bytes()) for name in ("calm", "shaken")]
    assert files[0] == files[1]


def test_calls_that_failed_are_made_again_by_a_rerun_and_no_others(tmp_path: Path) -> None:
    prompt = domain.prompts("train")[0]
    with serve_models(NAMES, 0, (), 0.0) as server:
        server.schedule = type(server.schedule)([Fault("server-error", times=None, marker=prompt.text)])
        file = pipeline(tmp_path, at(server))
        first = taught(file, tmp_path / "out")
        assert (first["examples"], first["failed"]) == (7, 3)
        (lost,) = rows(tmp_path / "out", "dropped.jsonl")
        assert lost["prompt_id"] == prompt.id
        assert "status 500" in lost["because"]
        server.schedule = type(server.schedule)([])
        before = len(server.requests)
        second = taught(file, tmp_path / "out")
        assert (second["examples"], second["failed"], len(server.requests) - before) == (8, 0, 4)
        taught(file, tmp_path / "whole")
    for name in ("examples.jsonl", "dropped.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_budget_that_is_spent_stops_it_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    with serve_models(NAMES, 0, (), 0.0) as server:
        file = pipeline(tmp_path, at(server), more="[runtime]\nmost_tokens = 600\nconcurrency = 2\n")
        with pytest.raises(BudgetSpent, match="of the 600 that were allowed"):
            taught(file, tmp_path / "out")
        asked = len(server.requests)
        assert 0 < asked < 32
        file.write_text(file.read_text().replace("most_tokens = 600", "most_tokens = 100000"))
        assert taught(file, tmp_path / "out")["examples"] == 8
        assert len(server.requests) == 32
        taught(file, tmp_path / "whole")
    assert (tmp_path / "out" / "examples.jsonl").read_bytes() == (tmp_path / "whole" / "examples.jsonl").read_bytes()


@pytest.fixture
def slow_server() -> Iterator[Server]:
    with serve_models(NAMES, 0, (), 0.02) as server:
        yield server


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_killed_midway_and_run_again_it_ends_with_the_same_bytes(
    slow_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = pipeline(tmp_path, at(slow_server), limit=30)
    code = "\n".join([
        "import sys", "from pathlib import Path", "from counterclaim.lab.config import load_pipeline",
        "from counterclaim.lab.synthesis.teach import teach", f"teach(load_pipeline(Path(sys.argv[1])), Path(sys.argv[2]), {QUIET})",
    ])  # fmt: skip

    folder, journal = tmp_path / "killed", tmp_path / "killed" / "calls.journal"
    kills = 0
    for wanted in (20, 70):  # lines of the journal at which it is killed
        monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / f"cache-{wanted}"))  # no help but from the journal
        process = subprocess.Popen([sys.executable, "-c", code, str(file), str(folder)])
        while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < wanted):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    assert not (folder / "examples.jsonl").exists()
    for name in ("killed", "whole"):
        monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / f"cache-{name}"))
        taught(file, tmp_path / name)
        if name == "killed":
            calls, at_once = 4 * 30, 8
            assert calls <= len(slow_server.requests) <= calls + 2 * at_once, "only what was under way is asked again"
    for name in ("examples.jsonl", "dropped.jsonl"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(rows(tmp_path / "whole")) == 30
