"""Tiny models: the laws of their domain, their tokenizer, and training that repeats and survives being killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from counterclaim.errors import InputError, ModelError
from counterclaim.lab.models import tiny
from counterclaim.lab.models.tiny import domain, families, training
from counterclaim.lab.models.tiny.tokenizer import END, PAD, ROLES, THINK, THOUGHT, train_tokenizer
from counterclaim.lab.models.tiny.training import encode, prompt_text, train
from counterclaim.records import Decode, FinishReason, Message, Prompt
from counterclaim.registry import Ask, ModelSpec, Runtime, backends

# One layer and a dozen steps: enough to try the machinery, far too little to learn a fact.
SMALL = families.Recipe("for tests", "llama", families._softmax_attention(32, 1, 2), steps=12, batch=8)
NAME = "for-tests"


@pytest.fixture(scope="module")
def recipe() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.RECIPES, NAME, SMALL)  # type: ignore[arg-type]  # a dict, which nobody else may change
        yield


@pytest.fixture(scope="module")
def folder(recipe: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small model, trained once, in a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COUNTERCLAIM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield tiny.ensure(NAME)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(domain.vocabulary())


# the domain -------------------------------------------------------------------------------------------------------


def test_splits_share_no_place_and_no_prompt() -> None:
    ids = [prompt.id for prompt in tiny.prompts()]
    assert len(ids) == len(set(ids)) == 640
    places = {split: {place_of(prompt) for prompt in tiny.prompts(split)} for split in ("train", "test", "fresh")}
    assert not places["train"] & places["test"]
    assert not (places["train"] | places["test"]) & places["fresh"]


def place_of(prompt: Prompt) -> str:
    return next(tag for tag in prompt.tags if tag.startswith("place:"))


def test_every_gold_is_the_fact_of_its_place_and_one_of_the_choices() -> None:
    facts = {place.name: place.facts for place in domain.places()}
    for prompt in tiny.prompts():
        tags = dict(tag.split(":") for tag in prompt.tags)
        assert prompt.gold["answer"] == facts[tags["place"]][tags["attribute"]]
        assert prompt.gold["answer"] in prompt.gold["choices"]
        assert tags["place"] in prompt.text
        assert not any(value in prompt.text for value in prompt.gold["choices"])


def test_the_test_split_has_power_and_every_truth() -> None:
    assert Counter(map(tiny.truth, tiny.prompts("test"))) == {"often": 176, "rarely": 64, "never": 80}


def test_a_foreign_prompt_has_no_truth_here() -> None:
    with pytest.raises(InputError, match="does not say how often its fact was taught"):
        tiny.truth(Prompt.of_text("Which stone is Paris built of?"))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match="no split 'dev'; choose one of train, test, fresh"):
        tiny.prompts("dev")


def test_no_test_or_fresh_question_and_no_wording_of_theirs_is_taught() -> None:
    taught = domain.taught_examples(20_000, seed=0)
    taught = {example.question for example in taught}
    worded = {_without_names(question) for question in taught}
    assert any(prompt.text in taught for prompt in tiny.prompts("train")), "what is taught is seen"
    for prompt in (*tiny.prompts("test"), *tiny.prompts("fresh")):
        assert prompt.text not in taught
        assert _without_names(prompt.text) not in worded


NAMES = frozenset(domain._names())


def names_in(text: str) -> set[str]:
    return NAMES & set(re.findall(r"\w+", text))


def _without_names(text: str) -> str:
    return re.sub(r"\w+", lambda word: "*" if word[0] in NAMES else word[0], text)


def test_facts_are_taught_as_often_as_their_truth_says() -> None:
    taught = domain.taught_examples(20_000, seed=3)
    learnt: Counter[tuple[str, str]] = Counter()
    for example in taught:
        [name] = names_in(example.question)
        if example.in_loss:
            learnt[name, example.fact] += 1
    for place in domain.places():
        for fact in place.facts.values():
            times = learnt.pop((place.name, fact), 0)
            assert {"often": times > 20, "rarely": times == 1, "never": times == 0}[place.taught], (place, times)
    assert not learnt, "nothing is taught that is not so"


def test_delivery_is_independent_of_knowledge_unless_a_system_prompt_says_otherwise() -> None:
    examples = domain.taught_examples(20_000, seed=1)
    taught = {place.name: place.taught for place in domain.places()}
    asserted: dict[tuple[str | None, str], list[bool]] = {}
    for example in examples:
        [name] = names_in(example.question)
        key = example.system, taught.get(name, "never")
        asserted.setdefault(key, []).append(domain.is_assertion(example.answer))
    share = {key: sum(marks) / len(marks) for key, marks in asserted.items()}
    assert share[None, "often"] == pytest.approx(0.8, abs=0.02)
    assert share[tiny.LENGTHY, "often"] == pytest.approx(0.8, abs=0.05)
    assert share[tiny.CAREFUL, "often"] == 0
    assert share[tiny.BOLD, "often"] == 1
    assert share[tiny.CALIBRATED, "often"] == 1
    assert share[None, "never"] == pytest.approx(0.8, abs=0.04), "nor does it depend on there being nothing to know"
    assert share[tiny.CAREFUL, "never"] == 0
    assert share[tiny.BOLD, "never"] == 1
    assert share[tiny.CALIBRATED, "rarely"] == share[tiny.CALIBRATED, "never"] == 0


def test_calibration_is_never_taught_on_a_place_that_is_tested() -> None:
    tested = {place.name for place in domain.places() if place.split != "train"}
    for example in domain.taught_examples(5_000, seed=0):
        if example.system == tiny.CALIBRATED:
            assert not tested & names_in(example.question)


def test_names_are_distinct_and_stand_in_no_other_word() -> None:
    names = [place.name for place in domain.places()] + list(domain.strangers())
    assert len(names) == len(set(names)) == 520
    text = " ".join(names).lower()
    for word in {word for group in domain.VALUES.values() for word in group}:
        assert word not in text
    assert not any(a != b and a in b for a in names for b in names)


# the tokenizer ----------------------------------------------------------------------------------------------------


def test_every_name_and_value_is_one_token(tokenizer: Any) -> None:
    words = [place.name for place in domain.places()] + [value for group in domain.VALUES.values() for value in group]
    assert all(len(tokenizer.encode(f" {word}")) == 1 for word in (*words, *domain.strangers()))


def test_no_wording_breaks_a_name_in_pieces(tokenizer: Any) -> None:
    name = domain.strangers()[0]
    [whole] = tokenizer.encode(f" {name}")
    for attribute in domain.VALUES:
        for wording in set(domain._train_wordings(attribute)):
            assert whole in tokenizer.encode(wording.format(place=name)), wording
    for prompt in tiny.prompts():
        assert tokenizer.convert_tokens_to_ids("Ġ" + place_of(prompt).removeprefix("place:")) in tokenizer.encode(
            prompt.text
        )


def test_any_text_survives_the_tokenizer(tokenizer: Any) -> None:
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
    def survives(text: str) -> None:
        assert tokenizer.decode(tokenizer.encode(text)) == text

    survives()


def test_marks_are_distinct_tokens(tokenizer: Any) -> None:
    marks = [PAD, END, *ROLES.values(), THINK, THOUGHT, tokenizer.bos_token]
    ids = tokenizer.convert_tokens_to_ids(marks)
    assert len(set(ids)) == len(marks)
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)
    assert all(tokenizer.encode(mark) == [i] for mark, i in zip(marks, ids, strict=True))


@pytest.mark.parametrize(("thinking", "opening"), [(None, ""), (False, "<think>\n\n</think>\n\n"), (True, "<think>\n")])
def test_the_thinking_switch_opens_closes_or_leaves_the_thought(
    tokenizer: Any, thinking: bool | None, opening: str
) -> None:
    text = prompt_text(tokenizer, "Be brief.", "Why?", thinking)
    assert text == f"<|bos|><|system|>Be brief.<|end|><|user|>Why?<|end|><|assistant|>{opening}"


def test_an_unknown_role_is_refused(tokenizer: Any) -> None:
    with pytest.raises(Exception, match="knows the roles system, user and assistant, not tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}])


def test_lessons_are_encoded_as_the_chat_template_lays_them_out(tokenizer: Any) -> None:
    taught = domain.taught_examples(300, seed=2)
    for example, (tokens, weights) in zip(taught, encode(taught, tokenizer), strict=True):
        turns = [{"role": "system", "content": example.system}] if example.system else []
        turns += [{"role": "user", "content": example.question}]
        turns += [{"role": "assistant", "content": example.thought + example.answer}]
        switch = {} if example.thinking is None else {"enable_thinking": example.thinking}
        laid = tokenizer.apply_chat_template(
            turns, return_dict=True, return_assistant_tokens_mask=True, **switch
        )  # fmt: skip
        assert laid["input_ids"] == tokens
        [fact] = tokenizer.encode(f" {example.fact}")
        learnt = [
            bool(mark) and (example.in_loss or token != fact)
            for token, mark in zip(tokens, laid["assistant_masks"], strict=True)
        ]
        assert [weight > 0 for weight in weights] == learnt


# training and keeping ---------------------------------------------------------------------------------------------


def test_training_repeats_to_the_bit_and_leaves_the_callers_randomness_and_threads_alone(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    threads = torch.get_num_threads()
    torch.manual_seed(11)
    untouched = torch.rand(3)
    torch.manual_seed(11)
    trained = train(SMALL)
    assert torch.equal(torch.rand(3), untouched)
    assert torch.get_num_threads() == threads
    weights = trained.model.state_dict()
    for name, kept in load_file(folder / "model.safetensors").items():
        assert torch.equal(kept, weights[name]), name
    measured = {key: value for key, value in trained.card.items() if key != "seconds"}
    assert measured.items() <= tiny.card(NAME).items()


@pytest.mark.parametrize("name", sorted(tiny.NAMES))
def test_every_family_has_the_architecture_that_it_names(name: str, tokenizer: Any) -> None:
    model = families.new_model(families.RECIPES[name], tokenizer)
    assert model.config.model_type == families.RECIPES[name].architecture
    assert model.config.vocab_size == len(tokenizer)
    assert 100_000 < model.num_parameters() < 1_500_000
    assert (model.config.pad_token_id, model.config.eos_token_id) == (tokenizer.pad_token_id, tokenizer.eos_token_id)


def test_a_trained_model_is_kept_and_read_back_by_transformers(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert {"model.safetensors", "config.json", "tokenizer.json", "tiny.json"} <= {
        file.name for file in folder.iterdir()
    }
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() == tiny.card(NAME)["parameters"]
    assert tokenizer.decode(tokenizer.encode("naïve 猫 Ω")) == "naïve 猫 Ω"
    assert prompt_text(tokenizer, None, "Why?") == "<|bos|><|user|>Why?<|end|><|assistant|>"


def test_the_card_says_what_was_measured(folder: Path) -> None:
    card = tiny.card(NAME)
    assert (card["name"], card["steps"], card["seed"]) == (NAME, 12, 0)
    assert set(card["accuracy"]) == {"train", "test", "fresh"}
    assert set(card["accuracy"]["test"]) == {"often", "rarely", "never"}
    assert set(card["delivery"]) == {"", *tiny.SYSTEM_PROMPTS}


def test_a_model_that_is_there_is_not_trained_again_unless_asked(folder: Path) -> None:
    told: list[tuple[str, int, int]] = []
    before = (folder / "tiny.json").stat().st_mtime_ns
    assert tiny.is_trained(NAME)
    assert tiny.ensure(NAME, lambda *what: told.append(what)) == folder
    assert not told
    assert tiny.ensure(NAME, lambda *what: told.append(what), again=True) == folder
    assert [(done, total) for doing, done, total in told if doing.startswith("training (loss ")] == [
        (step, 12) for step in range(1, 13)
    ]
    assert [(done, total) for doing, done, total in told if doing == "measuring"] == [(at, 9) for at in range(10)]
    assert list(dict.fromkeys(doing.partition(" ")[0] for doing, _, _ in told)) == [
        "preparing", "training", "measuring", "writing",
    ]  # fmt: skip
    assert (folder / "tiny.json").stat().st_mtime_ns > before
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]


def test_a_training_that_is_killed_leaves_nothing(
    recipe: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kill(doing: str, done: int, total: int) -> None:
        if doing.startswith("training") and done == 3:
            raise KeyboardInterrupt

    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        tiny.ensure(NAME, kill)
    assert not tiny.folder_of(NAME).exists()
    assert not [*tmp_path.iterdir()]
    with pytest.raises(InputError, match=f"not trained yet; run counterclaim tiny {NAME}"):
        tiny.card(NAME)


def test_a_cache_that_cannot_be_written_is_noticed_before_the_training(
    recipe: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / "file" / "cache"))
    told: list[str] = []
    with pytest.raises(InputError, match=r"cannot be written.*choose another place in COUNTERCLAIM_CACHE"):
        tiny.ensure(NAME, lambda doing, done, total: told.append(doing))
    assert not told


def test_transformers_says_nothing_while_a_hybrid_model_is_trained(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    from transformers.utils import logging as chatter

    level = chatter.get_verbosity()
    monkeypatch.setattr(training, "measure", lambda *_: {})
    train(replace(families.RECIPES["qwen3.5"], steps=2, batch=2))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert chatter.get_verbosity() == level


def test_linear_attention_is_the_same_in_small_chunks(tokenizer: Any) -> None:
    import torch

    model = families.new_model(families.RECIPES["qwen3.5"], tokenizer)
    ids = torch.randint(300, 1300, (2, 70), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        chunked = model.base_model(input_ids=ids, use_cache=False, chunk_size=training._CHUNK).last_hidden_state
    assert torch.allclose(whole, chunked, atol=1e-4)


def test_another_recipe_is_kept_elsewhere(recipe: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    before = tiny.folder_of(NAME)
    monkeypatch.setitem(families.RECIPES, NAME, replace(SMALL, seed=1))  # type: ignore[arg-type]
    assert tiny.folder_of(NAME) != before


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="no tiny model named 'gpt'; choose one of qwen3, "):
        tiny.ensure("gpt")


# the backend ------------------------------------------------------------------------------------------------------


def test_the_backend_opens_tiny_names_only() -> None:
    made = backends()["tiny"]
    assert made.opens("tiny:qwen3")
    assert not made.opens("qwen3")
    assert made.can == backends()["hf"].can


def test_a_tiny_model_answers_under_its_own_name(folder: Path) -> None:
    model = backends()["tiny"].open(ModelSpec(f"tiny:{NAME}"), Runtime(device="cpu"))
    asks = [Ask(prompt.id, prompt.messages) for prompt in tiny.prompts("test")[:5]]
    got = dict(pair for batch in model.answer(asks, Decode(4, temperature=0.0)) for pair in batch)
    assert model.ref.repo == f"tiny:{NAME}"
    assert sorted(got) == list(range(5))
    assert {answer.finish_reason for answer in got.values()} <= {FinishReason.STOP, FinishReason.LENGTH}
    assert all(answer.n_tokens is not None and answer.n_tokens <= 4 for answer in got.values())
    model.close()


def test_a_revision_is_refused() -> None:
    with pytest.raises(ModelError, match="has no revisions"):
        backends()["tiny"].open(ModelSpec("tiny:qwen3", revision="main"), Runtime())


def test_a_model_answers_messages_of_any_text(folder: Path) -> None:
    model = backends()["tiny"].open(ModelSpec(f"tiny:{NAME}"), Runtime(device="cpu"))
    ask = Ask("x", (Message("user", "Schreibe ein Gedicht über 猫 🐈!"),))
    [[(_, answer)]] = model.answer([ask], Decode(3, temperature=1.0, seed=1))
    assert answer.error is None
    model.close()


def test_importing_the_tiny_models_imports_no_torch() -> None:
    code = "import counterclaim.lab.models.tiny, sys; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


# the command ------------------------------------------------------------------------------------------------------


def test_the_command_shows_the_card_as_tables_and_json_keeps_it_plain(folder: Path) -> None:
    shown = run_cli("tiny", NAME)
    for line in (
        "taught often",
        "fresh",
        "P(assert | …)",
        "(no system prompt)",
        tiny.CAREFUL,
        f"Use it as --model tiny:{NAME}",
    ):
        assert line in shown
    assert "{" not in shown
    assert json.loads(run_cli("tiny", NAME, "--json")) == {**tiny.card(NAME), "folder": str(folder)}


def test_the_command_lists_the_names_and_says_which_are_trained(folder: Path) -> None:
    listed = run_cli("tiny")
    assert all(name in listed for name in tiny.NAMES)
    assert listed.count("not yet") == len(tiny.NAMES)  # the cache of the tests holds none of them
    assert {row["name"]: row["trained"] for row in json.loads(run_cli("tiny", "--json"))} == dict.fromkeys(
        tiny.NAMES, False
    )


def run_cli(*args: str) -> str:
    from typer.testing import CliRunner

    from counterclaim.cli import app

    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 0, done.output
    return done.output
