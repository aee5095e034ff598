"""An installed package that names a module under the entry-point group: what it registers is there for every verb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUG_IN = """
from counterclaim import Answer, Card, Prompt, Range, Reading, backend, scorer
from counterclaim.records import FinishReason, ModelRef

ASKED = Prompt.of_text("Who?")


@scorer(
    "shouting", version="1", about="whether an answer shouts", axes={"score.shouting": Range()}, measures="form",
    cards=[Card(ASKED, "ME!", {"score.shouting": 1.0}), Card(ASKED, "me", {"score.shouting": 0.0})],
)
def shouting(item, tools):
    if item.response.text is None:
        return [Reading("score.shouting", unscored="there is no text")]
    return [Reading("score.shouting", float(item.response.text.isupper()))]


class Parrot:
    ref = ModelRef("parrot")
    chat_template = "raw"

    def answer(self, asks, decode, done=()):
        yield [
            (i, Answer(ask.messages[-1].content.upper(), FinishReason.STOP, n_tokens=1))
            for i, ask in enumerate(asks) if i not in done
        ]

    def close(self):
        pass


@backend("parrot", about="says what it was asked, louder", can=("generate",), opens=lambda name: name.startswith("parrot:"))
def parrot(spec, runtime):
    return Parrot()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which a package with the plug-in is installed."""
    (tmp_path / "loud_plugin.py").write_text(PLUG_IN)
    info = tmp_path / "loud_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[counterclaim.plugins]\nloud = loud_plugin\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "COUNTERCLAIM_CACHE": str(tmp_path / "cache")}


def test_a_plugged_in_backend_generates_and_a_plugged_in_scorer_scores(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Is it so?"}\n')
    commands = (
        ["generate", "--model", "parrot:x", "--prompts", "prompts.jsonl", "--max-new-tokens", "9", "--out", "run"],
        ["score", "run", "--with", "shouting", "--json"],
        ["kit", "shouting"],
    )
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "counterclaim", *command],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    scores = (tmp_path / "run" / "scores.jsonl").read_text()
    assert '"axis": "score.shouting", "value": 1.0' in scores
