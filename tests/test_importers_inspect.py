"""Logs that inspect_ai itself has written, run with its mock model, read as what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from counterclaim.importers import detect, load

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is a development dependency")

LONG = "The bells of the old tower were cast in spring and hung in autumn. " * 20


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from inspect_ai import Task
    from inspect_ai import eval as run
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import includes, match
    from inspect_ai.solver import generate, system_message

    folder = tmp_path_factory.mktemp("logs")

    def answers() -> list[ModelOutput]:
        said: list[tuple[str, Literal["stop", "max_tokens", "content_filter"]]] = [
            ("It is 4", "stop"), ("Mars and", "max_tokens"), ("It is 5", "stop"), (LONG, "content_filter"),
        ]  # fmt: skip
        outputs = []
        for text, stop in said:
            output = ModelOutput.from_content("mockllm/model", text, stop_reason=stop)
            # Given, so that the mock does not load a tokenizer to count.
            output.usage = ModelUsage(input_tokens=3, output_tokens=len(text.split()), total_tokens=9)
            outputs.append(output)
        return outputs

    task = Task(
        dataset=[Sample(id="a", input="What is two and two?", target="4"), Sample(id="b", input=LONG, target="Mars")],
        solver=[system_message("Be brief."), generate()],
        scorer=[includes(), match()],
        epochs=2,
    )
    for kind in ("eval", "json"):
        model = get_model("mockllm/model", custom_outputs=answers(), memoize=False)
        run(task, model=model, log_dir=str(folder), log_format=kind, display="none", max_samples=1, max_tokens=64,
            log_level="error")  # fmt: skip
    return folder


@pytest.mark.parametrize("suffix", ["eval", "json"])
# Warnings of inspect_ai and its libraries while they write the log are not ours to judge.
@pytest.mark.filterwarnings("ignore")
def test_a_log_of_inspect_itself(logs: Path, suffix: str) -> None:
    (path,) = logs.glob(f"*.{suffix}")
    assert detect(path) == "inspect"
    got = load(path, arm="control")
    assert sorted(prompt.text[:11] for prompt in got.prompts.values()) == ["The bells o", "What is two"]
    assert any(prompt.text == LONG.strip() or prompt.text == LONG for prompt in got.prompts.values())
    by_text = {response.text: response for response in got.responses}
    assert {text: str(response.finish_reason) for text, response in by_text.items()} == {
        "It is 4": "stop", "Mars and": "length", "It is 5": "stop", LONG: "filter",
    }  # fmt: skip
    assert by_text["It is 4"].n_tokens == 3
    assert {response.decode.max_new_tokens for response in got.responses} == {64}
    assert {response.decode.system_prompt for response in got.responses} == {"Be brief."}
    assert sorted(response.sample for response in got.responses) == [0, 0, 1, 1]
    right = {score.key: score.value for score in got.scores if score.axis == "correct"}
    assert right[by_text["It is 4"].key] == 1.0
    assert right[by_text["It is 5"].key] == 0.0
    assert {score.axis for score in got.scores} == {"correct", "score.match"}
    stated = {quote.metric: quote.value for quote in got.quotes}
    assert stated["correct"] == pytest.approx(sum(right.values()) / len(right))  # type: ignore[arg-type]
    assert got.source.created is not None
