"""The backend on a tiny model of each family: batches, order, resume, budgets, penalties, stop strings, memory."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import hf_models
from counterclaim.errors import ModelError
from counterclaim.lab.models import open_model
from counterclaim.lab.models.hf import open_hf
from counterclaim.lab.models.hf.batching import Footprint, plan
from counterclaim.lab.models.hf.devices import is_out_of_memory
from counterclaim.lab.models.hf.model import HfModel
from counterclaim.records import CONTROL, Decode, FinishReason, Message, Provenance, Response
from counterclaim.registry import Answer, Ask, ModelSpec, Runtime

GREEDY = Decode(12)
SAMPLED = Decode(12, temperature=1.0, seed=5)
WORDS = "the mill by the river turns seed into oil and sells it in town every other day of the week".split()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny model."""

    @cache
    def folder(family: str) -> Path:
        return hf_models.save(tmp_path_factory.mktemp(family), family)

    return folder


@pytest.fixture(scope="session")
def opened(folders: Callable[[str], Path]) -> Callable[..., HfModel]:
    """A family's tiny model, opened once for each batch size."""

    @cache
    def model(family: str, batch_size: int | None = None) -> HfModel:
        made = open_hf(ModelSpec(str(folders(family))), Runtime(device="cpu", batch_size=batch_size))
        assert isinstance(made, HfModel)
        return made

    return model


def asks(n: int = 9) -> list[Ask]:
    """Questions of very different lengths."""
    return [
        Ask(f"prompt {i}", (Message("user", f"{i}: " + " ".join(WORDS[: 1 + 5 * i % 17])),), i % 2) for i in range(n)
    ]


def answers(model: HfModel, wanted: list[Ask], decode: Decode, done: Any = ()) -> dict[int, Answer]:
    got = [pair for batch in model.answer(wanted, decode, done) for pair in batch]
    assert len(dict(got)) == len(got), "an answer was given twice"
    return dict(got)


def test_a_model_opens_by_name_through_the_registry(folders: Callable[[str], Path]) -> None:
    model = open_model(ModelSpec(str(folders("llama"))))
    assert answers(model, asks(2), GREEDY)  # type: ignore[arg-type]
    model.close()


@pytest.mark.parametrize("family", hf_models.FAMILIES)
@pytest.mark.parametrize("decode", [GREEDY, SAMPLED, replace(SAMPLED, top_p=0.8), replace(SAMPLED, top_k=7)])
def test_a_batch_equals_single_rows_in_any_order(family: str, decode: Decode, opened: Callable[..., HfModel]) -> None:
    single = answers(opened(family, 1), asks(), decode)
    assert answers(opened(family, 4), asks(), decode) == single
    assert answers(opened(family), asks(), decode) == single
    turned = answers(opened(family, 4), asks()[::-1], decode)
    assert {8 - index: answer for index, answer in turned.items()} == single


@pytest.mark.parametrize("family", hf_models.FAMILIES)
def test_greedy_answers_are_those_of_plain_generate(family: str, opened: Callable[..., HfModel]) -> None:
    model = opened(family, 4)
    got = answers(model, asks(4), GREEDY)
    for index, ask in enumerate(asks(4)):
        turns = [{"role": "user", "content": ask.messages[0].content}]
        ids = model.tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=False
        )
        tokens = model.network.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, do_sample=False)
        new = tokens[0, ids.shape[1] :].tolist()
        assert got[index].text == model.tokenizer.decode(new, skip_special_tokens=True).rstrip("\ufffd")
        assert (got[index].n_tokens, got[index].prompt_tokens) == (len(new), ids.shape[1])


@pytest.mark.parametrize("family", hf_models.FAMILIES)
@pytest.mark.parametrize("decode", [GREEDY, SAMPLED, replace(SAMPLED, stop=("e", "\x00"), presence_penalty=0.5)])
def test_every_smaller_budget_is_a_prefix(family: str, decode: Decode, opened: Callable[..., HfModel]) -> None:
    model = opened(family, 4)
    long = answers(model, asks(), replace(decode, max_new_tokens=32))
    for budget in (1, 8, 31):
        for index, answer in answers(model, asks(), replace(decode, max_new_tokens=budget)).items():
            cut = as_response(long[index], replace(decode, max_new_tokens=32), model).cut_to(budget)
            assert (cut.text, cut.n_tokens, cut.token_chars) == (answer.text, answer.n_tokens, answer.token_chars)
            assert cut.finish_reason is answer.finish_reason


def as_response(answer: Answer, decode: Decode, model: HfModel) -> Response:
    return Response(
        "p", CONTROL, 0, answer.text, answer.finish_reason, Provenance.RECORDED, decode, model.ref,
        answer.n_tokens, prompt_tokens=answer.prompt_tokens, token_chars=answer.token_chars,
    )  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "qwen3_5"])
@pytest.mark.parametrize("decode", [GREEDY, SAMPLED])
def test_a_resumed_run_repeats_no_finished_batch_and_gives_identical_answers(
    family: str, decode: Decode, opened: Callable[..., HfModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(family, 4)
    whole = list(model.answer(asks(), decode))
    assert [len(batch) for batch in whole] == [4, 4, 1]
    kept = dict(whole[0]) | dict(whole[1][:2])  # killed while the second batch was being written
    sizes: list[int] = []
    generate = model.network.generate
    monkeypatch.setattr(
        model.network,
        "generate",
        lambda input_ids, **rest: (sizes.append(len(input_ids)), generate(input_ids, **rest))[1],
    )
    rest = list(model.answer(asks(), decode, done=set(kept)))
    assert sizes == [4, 1], "the finished batch is skipped, the broken one is run whole"
    assert rest == [whole[1][2:], whole[2]]
    assert list(model.answer(asks(), decode, done=range(9))) == []


def test_samples_of_one_prompt_differ_and_equal_keys_share_their_numbers(opened: Callable[..., HfModel]) -> None:
    turn = (Message("user", "Say anything."),)
    wanted = [Ask("a", turn, 0), Ask("a", turn, 1), Ask("b", turn, 0), Ask("a", turn, 0)]
    got = answers(opened("llama", 4), wanted, SAMPLED)
    assert len({got[0].text, got[1].text, got[2].text}) == 3
    assert got[3] == got[0]
    assert answers(opened("llama", 4), wanted, replace(SAMPLED, seed=6))[0] != got[0]


def test_what_only_the_checkpoint_asks_for_does_not_leak(folders: Callable[[str], Path], tmp_path: Path) -> None:
    folder = hf_models.save(tmp_path / "model", "llama")
    file = folder / "generation_config.json"
    loud = {
        "do_sample": True, "temperature": 3.0, "top_k": 2, "top_p": 0.1, "repetition_penalty": 2.0, "max_length": 25,
        "no_repeat_ngram_size": 1, "min_new_tokens": 30, "suppress_tokens": [7], "num_beams": 3,
    }  # fmt: skip
    file.write_text(json.dumps(json.loads(file.read_text()) | loud))
    quiet = open_hf(ModelSpec(str(folders("llama"))), Runtime(device="cpu"))
    for decode in (GREEDY, SAMPLED):
        assert answers(open_hf(ModelSpec(str(folder)), Runtime(device="cpu")), asks(), decode) == answers(  # type: ignore[arg-type]
            quiet,  # type: ignore[arg-type]
            asks(),
            decode,
        )


def test_finish_reasons_and_token_counts(opened: Callable[..., HfModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("llama", 4)
    got = answers(model, asks(), replace(SAMPLED, max_new_tokens=200, temperature=2.0))
    ended = [answer for answer in got.values() if answer.finish_reason is FinishReason.STOP]
    assert ended, "of 9 rows of 200 nearly random tokens some end"
    assert all(answer.token_chars and answer.token_chars[-1] == 0 for answer in ended)
    assert {answer.n_tokens for answer in got.values() if answer.finish_reason is FinishReason.LENGTH} <= {200}
    for answer in got.values():
        assert answer.token_chars is not None
        assert answer.text is not None
        assert (len(answer.token_chars), sum(answer.token_chars)) == (answer.n_tokens, len(answer.text))


def test_an_end_token_of_the_generation_settings_ends_an_answer(
    opened: Callable[..., HfModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[torch.Tensor] = []
    model, generate = opened("llama", 4), opened("llama", 4).network.generate
    monkeypatch.setattr(model.network, "generate", lambda **rest: made.append(generate(**rest)) or made[0])
    answers(model, asks(1), replace(GREEDY, max_new_tokens=1))
    first = int(made[0][0, -1])
    folder = hf_models.save(tmp_path / "model", "llama")
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": [first, 3]}))
    answer = answers(open_hf(ModelSpec(str(folder)), Runtime(device="cpu")), asks(1), GREEDY)[0]  # type: ignore[arg-type]
    assert (answer.finish_reason, answer.n_tokens) == (FinishReason.STOP, 1)


def test_a_stop_string_ends_a_row_and_leaves_the_others(opened: Callable[..., HfModel]) -> None:
    model = opened("qwen3", 4)
    plain = answers(model, asks(), replace(SAMPLED, max_new_tokens=24))
    letter = next(c for c in sorted("".join(a.text or "" for a in plain.values())) if c.isalpha() and c.isascii())
    got = answers(model, asks(), replace(SAMPLED, max_new_tokens=24, stop=(letter,)))
    for index, answer in plain.items():
        assert answer.text is not None
        if letter in answer.text:
            assert got[index].text == answer.text[: answer.text.index(letter)]
            assert got[index].finish_reason is FinishReason.STOP
        else:
            assert got[index] == answer
    assert got != plain


def test_penalties_do_not_depend_on_padding(opened: Callable[..., HfModel]) -> None:
    for decode in (replace(GREEDY, repetition_penalty=1.6), replace(SAMPLED, presence_penalty=4.0)):
        single = answers(opened("llama", 1), asks(), decode)
        assert answers(opened("llama", 4), asks(), decode) == single
        off = replace(decode, repetition_penalty=None, presence_penalty=None)
        assert single != answers(opened("llama", 1), asks(), off)


def test_progress_counts_every_token_once(folders: Callable[[str], Path]) -> None:
    made: list[int] = []
    model = open_hf(ModelSpec(str(folders("llama"))), Runtime(device="cpu", batch_size=4, progress=made.append))
    got = answers(model, asks(), replace(SAMPLED, max_new_tokens=60, temperature=2.0))  # type: ignore[arg-type]
    assert sum(made) == sum(answer.n_tokens or 0 for answer in got.values())
    assert made[0] == 4


class Scarce:
    """Lets ``generate`` fail as if memory ran out whenever a batch has more rows than fit."""

    def __init__(self, model: HfModel, fits: int, error: Exception) -> None:
        self.generate, self.fits, self.error = model.network.generate, fits, error
        self.tried: list[int] = []

    def __call__(self, input_ids: torch.Tensor, **rest: Any) -> Any:
        self.tried.append(len(input_ids))
        if len(input_ids) > self.fits:
            raise self.error
        return self.generate(input_ids=input_ids, **rest)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
]


def test_running_out_of_memory_is_recognised_on_every_device() -> None:
    assert all(is_out_of_memory(error) for error in OUT_OF_MEMORY)
    assert not any(
        is_out_of_memory(error) for error in (RuntimeError("index out of range"), ValueError("out of memory"))
    )


def test_a_batch_that_does_not_fit_is_halved(opened: Callable[..., HfModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened("llama", 8)
    want = answers(model, asks(18), SAMPLED)
    scarce = Scarce(model, 4, OUT_OF_MEMORY[0])
    monkeypatch.setattr(model.network, "generate", scarce)
    assert answers(model, asks(18), SAMPLED) == want
    assert scarce.tried[:3] == [8, 4, 4]
    assert scarce.tried.count(8) <= 2, "what is as large as a batch that failed is not tried again"

    first = dict(next(iter(model.answer(asks(18), SAMPLED))))
    resumed = answers(model, asks(18), SAMPLED, done=set(first))
    assert first | resumed == want


def test_a_row_that_does_not_fit_alone_is_an_error_record(
    opened: Callable[..., HfModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened("llama", 2)
    monkeypatch.setattr(model.network, "generate", Scarce(model, 0, MemoryError()))
    got = answers(model, asks(3), GREEDY)
    assert {answer.finish_reason for answer in got.values()} == {FinishReason.ERROR}
    assert all("even alone; allow fewer new tokens" in str(answer.error) for answer in got.values())


@pytest.mark.parametrize("decode", [GREEDY, SAMPLED, replace(SAMPLED, top_p=0.8)])
def test_a_row_whose_numbers_fail_is_an_error_record_and_the_others_go_on(
    decode: Decode, opened: Callable[..., HfModel]
) -> None:
    model = opened("llama", 4)
    want = answers(model, asks(4), decode)
    steps = 0

    def fail_in_the_first_row(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if steps == 3:
            output[0] = math.nan
        return output

    handle = model.network.lm_head.register_forward_hook(fail_in_the_first_row)
    try:
        got = answers(model, asks(4), decode)
    finally:
        handle.remove()
    (failed,) = [index for index, answer in got.items() if answer.error is not None]
    assert got[failed].text is None
    assert "computed no numbers (NaN)" in str(got[failed].error)
    assert {index: answer for index, answer in got.items() if index != failed} == {
        index: answer for index, answer in want.items() if index != failed
    }


def test_other_failures_are_not_taken_for_a_lack_of_memory(
    opened: Callable[..., HfModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened("llama", 2)
    monkeypatch.setattr(model.network, "generate", Scarce(model, 0, RuntimeError("index out of range")))
    with pytest.raises(RuntimeError, match="index out of range"):
        answers(model, asks(3), GREEDY)


def test_a_prompt_that_does_not_fit_the_context_is_an_error_record(opened: Callable[..., HfModel]) -> None:
    long = Ask("long", (Message("user", "mill " * 115),))
    model = opened("llama", 4)
    got = answers(model, [*asks(3), long], GREEDY)
    assert [got[i].finish_reason for i in range(3)] == [FinishReason.LENGTH] * 3
    assert got[3].text is None
    assert got[3].prompt_tokens is not None
    left = hf_models.CONTEXT - got[3].prompt_tokens
    assert (
        f"12 new ones are allowed, together more than the 256 of the model's context; allow at most {left} new"
        in str(got[3].error)
    )
    fits = answers(model, [long], replace(GREEDY, max_new_tokens=left))
    assert fits[0].n_tokens == left
    assert answers(model, [*asks(3), long], GREEDY, done={3}).keys() == {0, 1, 2}
    with pytest.raises(ModelError, match="none of the 1 prompts can be answered; the first: the prompt has"):
        answers(model, [long], GREEDY)
    assert answers(model, [], GREEDY) == {}


@pytest.mark.parametrize(
    ("decode", "said"),
    [
        (Decode(None), "the number of tokens that an answer may have is not set; give max_new_tokens"),
        (Decode(0), "max_new_tokens is 0"),
        (Decode(4, temperature=-1), "temperature is -1"),
        (Decode(4, temperature=1, top_p=1.5), "top_p is 1.5"),
        (Decode(4, repetition_penalty=0), "repetition_penalty is 0"),
        (Decode(4, stop=("",)), "a stop string is empty"),
    ],
)
def test_settings_without_sense_are_refused(decode: Decode, said: str, opened: Callable[..., HfModel]) -> None:
    with pytest.raises(ModelError, match=said):
        opened("llama", 4).answer(asks(1), decode)


def test_the_thinking_switch_reaches_the_template(opened: Callable[..., HfModel]) -> None:
    model = opened("llama", 4)
    plain, off, on = (answers(model, asks(2), replace(GREEDY, thinking=value)) for value in (None, False, True))
    assert on == plain
    assert off[0].prompt_tokens is not None
    assert plain[0].prompt_tokens is not None
    assert off[0].prompt_tokens > plain[0].prompt_tokens


def test_a_template_without_the_thinking_switch_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = hf_models.save(tmp_path / "model", "llama", chat_template=hf_models.PLAIN_TEMPLATE)
    model = open_hf(ModelSpec(str(folder)), Runtime(device="cpu"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            answers(model, asks(2), replace(GREEDY, thinking=False))  # type: ignore[arg-type]
    assert [r.message for r in caplog.records if "thinking switch" in r.message] == [
        f"The chat template of {folder} has no thinking switch: `thinking` changes nothing."
    ]


def test_a_conversation_that_the_template_refuses_is_an_error_record(tmp_path: Path) -> None:
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}" + (
        hf_models.TEMPLATE
    )
    folder = hf_models.save(tmp_path / "model", "llama", chat_template=template)
    model = open_hf(ModelSpec(str(folder)), Runtime(device="cpu"))
    system = Ask("s", (Message("system", "Be brief."), Message("user", "Why?")))
    got = answers(model, [*asks(1), system], GREEDY)  # type: ignore[arg-type]
    assert got[0].error is None
    assert "no system role here" in str(got[1].error)


def test_missing_kernels_of_hybrid_models_are_told_in_one_line(
    folders: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    from transformers.integrations import hub_kernels

    model = open_hf(ModelSpec(str(folders("qwen3_5"))), Runtime(device="cpu"))
    hub_kernels.logger.warning_once.cache_clear()
    from counterclaim.lab.models.hf import loading

    loading._ONE_LINE_ON_KERNELS._said = False
    answers(model, asks(2), GREEDY)  # type: ignore[arg-type]
    lines = [record.message for record in caplog.records if "kernels" in record.message]
    assert len(lines) == 1, lines


def test_batches_are_planned_by_length_and_memory() -> None:
    needs = Footprint(room=10_000, cached=1, computed=1, row=0, most_rows=16)
    lengths = {i: 10 * (i % 50 + 1) for i in range(100)}
    batches = plan(lengths, 100, needs)
    assert sorted(row for batch in batches for row in batch) == list(range(100))
    assert [lengths[row] for batch in batches for row in batch] == sorted(lengths.values(), reverse=True)
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) <= needs.rows(longest, 100)
        assert len(batch) * (2 * longest + 100) <= 10_000
    assert len(batches[0]) < len(batches[-2]) <= 16
    assert [len(batch) for batch in plan(lengths, 100, needs, rows=33)] == [33, 33, 33, 1]
    assert plan({7: 10**9}, 1, needs) == [[7]], "what is surely too large is tried alone, and fails by itself"


@pytest.fixture(autouse=True)
def _no_leaked_threads() -> Iterator[None]:
    yield
    assert torch.get_num_threads() == 1
