"""Logs that inspect_ai itself has written, run with its mock model, read as what they hold."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from counterclaim.importers import detect, load

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("inspect_ai") is None, reason="inspect_ai is a development dependency"
)

LONG = "The bells of the old tower were cast in spring and hung in autumn. " * 20

# In a process of its own: warnings of inspect_ai and its libraries, raised whenever their garbage is collected,
# would otherwise fail whichever test runs then. Usage is given so that the mock loads no tokenizer to count with.
WRITE_LOGS = """
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import includes, match
from inspect_ai.solver import generate, system_message

folder, long = sys.argv[1:]
said = [("It is 4", "stop"), ("Mars and", "max_tokens"), ("It is 5", "stop"), (long, "content_filter")]

def answers():
    for text, stop in said:
        output = ModelOutput.from_content("mockllm/model", text, stop_reason=stop)
        output.usage = ModelUsage(input_tokens=3, output_tokens=len(text.split()), total_tokens=9)
        yield output

task = Task(
    dataset=[Sample(id="a", input="What is two and two?", target="4"), Sample(id="b", input=long, target="Mars")],
    solver=[system_message("Be brief."), generate()],
    scorer=[includes(), match()],
    epochs=2,
)
for kind in ("eval", "json"):
    model = get_model("mockllm/model", custom_outputs=list(answers()), memoize=False)
    (log,) = eval(task, model=model, log_dir=folder, log_format=kind, display="none", max_samples=1, max_tokens=64)
    assert log.status == "success", log.error
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    done = subprocess.run(
        [sys.executable, "-c", WRITE_LOGS, str(folder), LONG],
        capture_output=True, text=True, timeout=120, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("suffix", ["eval", "json"])
def test_a_log_of_inspect_itself(logs: Path, suffix: str) -> None:
    (path,) = logs.glob(f"*.{suffix}")
    assert detect(path) == "inspect"
    got = load(path, arm="control")
    assert {prompt.text for prompt in got.prompts.values()} == {"What is two and two?", LONG}
    by_text = {response.text: response for response in got.responses}
    assert {text: str(response.finish_reason) for text, response in by_text.items()} == {
        "It is 4": "stop", "Mars and": "length", "It is 5": "stop", LONG: "filter",
    }  # fmt: skip
    assert by_text["It is 4"].n_tokens == 3
    assert {response.decode.max_new_tokens for response in got.responses} == {64}
    assert {response.decode.system_prompt for response in got.responses} == {"Be brief."}
    assert sorted(response.sample for response in got.responses) == [0, 0, 1, 1]
    right = {score.key: float(score.value or 0) for score in got.scores if score.axis == "correct"}
    assert right[by_text["It is 4"].key] == 1.0
    assert right[by_text["It is 5"].key] == 0.0
    assert {score.axis for score in got.scores} == {"correct", "score.match"}
    stated = {quote.metric: quote.value for quote in got.quotes}
    assert stated["correct"] == pytest.approx(sum(right.values()) / len(right))
    assert got.source.created is not None
