from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterclaim.errors import InputError, RecordError
from counterclaim.records import (
    CONTROL,
    TREATED,
    ArmId,
    CheckResult,
    Claim,
    Decode,
    Estimate,
    FinishReason,
    Guard,
    Message,
    ModelRef,
    Outcome,
    Prompt,
    Provenance,
    Quote,
    Response,
    Score,
    canonical_json,
    claim_from_json,
    content_hash,
    prompt_from_json,
    prompt_id,
    response_from_json,
    score_from_json,
    to_json,
)

texts = st.text(max_size=30)
words = st.text("abcxyz.-_é", min_size=1, max_size=8)
numbers = st.floats(-1e6, 1e6, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-100, 100) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
maybe = st.none()
decodes = st.builds(
    Decode,
    max_new_tokens=maybe | st.integers(1, 10_000),
    temperature=maybe | st.floats(0, 2),
    top_p=maybe | st.floats(0, 1),
    top_k=maybe | st.integers(0, 100),
    seed=maybe | st.integers(0, 99),
    stop=maybe | st.lists(texts, max_size=3).map(tuple),
    system_prompt=maybe | texts,
    thinking=maybe | st.booleans(),
)
models = st.builds(ModelRef, repo=maybe | words, revision=maybe | words, adapter_hash=maybe | words)
prompts = st.builds(
    Prompt,
    id=words,
    messages=st.lists(st.builds(Message, words, texts), max_size=3).map(tuple),
    split=st.sampled_from(["train", "dev", "test", "fresh"]),
    gold=st.dictionaries(words, json_values, max_size=2),
    tags=st.lists(words, max_size=3).map(tuple),
)


doses = st.floats(allow_nan=False, allow_infinity=False)
derived: dict[str, Any] = {"budget": maybe | st.integers(0, 10_000), "turn": maybe | words}
arms = st.builds(ArmId, words, **derived) | st.builds(ArmId, st.just("dose"), doses, **derived)


@given(arms)
def test_an_arm_is_read_as_it_was_written(arm: ArmId) -> None:
    assert ArmId.parse(str(arm)) == arm


@pytest.mark.parametrize(
    ("text", "arm"),
    [
        ("control", CONTROL), ("dose:0.5", ArmId("dose", 0.5)), ("treated@512", ArmId("treated", budget=512)),
        ("treated@512/recovery", ArmId("treated", budget=512, turn="recovery")), ("dose:1e-05", ArmId("dose", 1e-5)),
        ("dose:half", ArmId("dose:half")), ("dose:nan", ArmId("dose:nan")), ("control@low", ArmId("control@low")),
        ("control@0512", ArmId("control@0512")), ("control@" + "9" * 5000, ArmId("control@" + "9" * 5000)),
    ],
)  # fmt: skip
def test_an_arm_is_one_word_on_disk(text: str, arm: ArmId) -> None:
    assert (ArmId.parse(text), str(arm)) == (arm, text)


@pytest.mark.parametrize("fields", [{"name": "a/b"}, {"name": "treated", "dose": 0.5}, {"name": "dose:0.5"}])
def test_an_arm_that_would_be_read_as_another_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        ArmId(**fields)


@st.composite
def responses(draw: st.DrawFn) -> Response:
    reason = draw(st.sampled_from(FinishReason))
    return Response(
        draw(words),
        draw(arms),
        draw(st.integers(0, 9)),
        draw(maybe | texts),
        reason,
        None if reason is FinishReason.UNKNOWN else draw(st.sampled_from(Provenance)),
        draw(decodes),
        draw(models),
        draw(maybe | st.integers(0, 99)),
        draw(words),
        draw(texts) if reason is FinishReason.ERROR else None,
    )


@st.composite
def scores(draw: st.DrawFn) -> Score:
    value = draw(maybe | numbers | words)
    return Score(
        draw(words), draw(arms), 0, draw(words), draw(words), value,
        draw(words) if value is None else None, draw(maybe | texts),
    )  # fmt: skip


claims = st.builds(
    Claim,
    metric=words,
    direction=st.sampled_from(["increase", "decrease"]),
    margin=st.floats(1e-6, 10),
    guards=st.lists(st.builds(Guard, words, st.floats(0, 1), st.sampled_from(["higher", "lower"])), max_size=2).map(
        tuple
    ),
    required=st.lists(words, max_size=2).map(tuple),
    alpha=st.floats(1e-6, 0.5),
    seeds=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    quotes=st.lists(st.builds(Quote, arms, words, numbers, maybe | st.integers(1, 9)), max_size=2).map(tuple),
    same_construct=st.lists(st.lists(words, min_size=2, max_size=3).map(tuple), max_size=2).map(tuple),
    looked_at=maybe | st.integers(1, 50),
    thresholds_chosen_on=maybe | st.sampled_from(["train", "test"]),
    roles=st.dictionaries(words, words, max_size=2),
)


def through_disk(record: Any) -> Any:
    return json.loads(json.dumps(to_json(record), allow_nan=False))


@settings(max_examples=60, deadline=None)
@given(prompts)
def test_a_prompt_survives_json(prompt: Prompt) -> None:
    assert prompt_from_json(through_disk(prompt)) == prompt


@settings(max_examples=100, deadline=None)
@given(responses())
def test_a_response_survives_json_with_and_without_a_cache(response: Response) -> None:
    row = through_disk(response)
    assert response_from_json(row) == response
    cache: dict[str, Any] = {}
    first, second = response_from_json(row, cache), response_from_json(row, cache)
    assert first == second == response
    assert first.decode is second.decode
    assert first.model is second.model


@settings(max_examples=60, deadline=None)
@given(scores())
def test_a_score_survives_json(score: Score) -> None:
    assert score_from_json(through_disk(score)) == score


@settings(max_examples=100, deadline=None)
@given(claims)
def test_a_claim_and_its_hash_survive_json(claim: Claim) -> None:
    again = claim_from_json(through_disk(claim))
    assert again == claim
    assert again.hash == claim.hash


def test_the_hash_of_a_claim_never_changes_between_versions() -> None:
    # locks on users' disks hold this value: a change of it turns every confirmatory study into an exploratory one
    claim = Claim("accuracy", "increase", 0.05, (Guard("coverage", 0.02),))
    assert claim.hash == "20ccc4f4f60d4d2959630b76b34969ca4068065083a8a9848e4ff31380a47321"


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "coverage"}, {"direction": "decrease"}, {"margin": 0.06}, {"guards": (Guard("coverage", 0.03),)},
        {"required": ("seeds",)}, {"alpha": 0.02}, {"level": 0.9}, {"seeds": (1,)}, {"looked_at": 2},
        {"thresholds_chosen_on": "train"}, {"varies": ("temperature",)}, {"roles": {"judge": "x"}},
        {"same_construct": (("a", "b"),)}, {"quotes": (Quote(TREATED, "accuracy", 0.5),)},
    ],
)  # fmt: skip
def test_every_field_of_a_claim_is_in_its_hash(change: dict[str, Any]) -> None:
    claim = Claim("accuracy", "increase", 0.05)
    assert replace(claim, **change).hash != claim.hash


def response(**change: Any) -> Response:
    fields: dict[str, Any] = {
        "prompt_id": "p", "arm": CONTROL, "sample": 0, "text": "x", "finish_reason": FinishReason.STOP,
        "finish_provenance": Provenance.RECORDED, "decode": Decode(None), "model": ModelRef(),
    }  # fmt: skip
    return Response(**{**fields, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"finish_reason": FinishReason.UNKNOWN},
        {"finish_provenance": None},
        {"finish_reason": FinishReason.ERROR},
        {"error": "time-out"},
        {"sample": -1},
    ],
)
def test_a_response_keeps_its_invariants(change: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        response(**change)


@pytest.mark.parametrize(("value", "unscored"), [(None, None), (1.0, "no reply"), (math.nan, None), (math.inf, None)])
def test_a_score_is_a_finite_value_or_a_reason(value: float | None, unscored: str | None) -> None:
    with pytest.raises(RecordError):
        Score("p", CONTROL, 0, "i", "correct", value, unscored)


@pytest.mark.parametrize(
    "change", [{"margin": 0.0}, {"margin": -1.0}, {"margin": math.nan}, {"alpha": 0.0}, {"level": 1.0}]
)
def test_a_claim_keeps_its_invariants(change: dict[str, Any]) -> None:
    with pytest.raises(RecordError):
        replace(Claim("accuracy", "increase", 0.05), **change)


def test_an_estimate_is_finite_or_says_why() -> None:
    with pytest.raises(RecordError, match="finite"):
        Estimate(math.nan, 0.0, 1.0, 0.95, "t", 3)
    with pytest.raises(RecordError, match="says why"):
        Estimate(0.5, None, None, 0.95, "t", 3)
    undefined = Estimate.undefined("no answers")
    assert undefined.interval is None
    assert undefined.to_json()["reason"] == "no answers"
    assert "reason" not in Estimate(0.5, 0.1, 0.9, 0.95, "t", 3).to_json()


def test_a_check_result_says_what_the_contract_says() -> None:
    result = CheckResult("clip", "ruler", Outcome.PASS, "Fine.", details={"arms": {}}, figure={"kind": "bars"})
    assert set(result.to_json()) == {
        "check", "group", "outcome", "estimate", "because", "remedy", "required", "n", "n_unscored", "evidence", "arms",
    }  # fmt: skip
    assert result.to_record()["figure"] == {"kind": "bars"}


def test_canonical_json_has_one_spelling() -> None:
    assert canonical_json({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    with pytest.raises(RecordError):
        canonical_json({"x": math.nan})


def test_a_prompt_is_known_by_its_content_not_its_spelling() -> None:
    composed, decomposed = "caf\u00e9\r\nok ", "cafe\u0301\nok"
    assert prompt_id([Message("user", composed)]) == prompt_id([Message("user", decomposed)])
    assert prompt_id([Message("user", "a")]) != prompt_id([Message("system", "a")])
    assert prompt_id([Message("user", "ab")]) != prompt_id([Message("user", "a"), Message("user", "b")])
    assert Prompt.of_text("a").id == prompt_id([Message("user", "a")])


def test_records_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        response().text = "y"  # type: ignore[misc]  # that it cannot be set is the point


def test_an_input_error_is_one_sentence_with_place_and_remedy() -> None:
    error = InputError("is empty", path="a.jsonl", line=3, remedy="fill it")
    assert str(error) == "a.jsonl, line 3: is empty; fill it."
    assert (
        str(InputError("there is no such set", remedy="did you mean tiny?"))
        == "there is no such set; did you mean tiny?"
    )
