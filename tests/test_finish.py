"""Inference of how answers ended: arithmetic from tokens, and measured error rates from text."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from counterclaim.importers.endings import Inference, describe_inference, infer_finish
from counterclaim.records import CONTROL, ArmId, Decode, FinishReason, ModelRef, Provenance, Response
from simulated_arms import arm, cut_arm, split_tokens

LENGTH, STOP, UNKNOWN = FinishReason.LENGTH, FinishReason.STOP, FinishReason.UNKNOWN


def responses(
    texts: Sequence[str | None],
    *,
    budget: int | None = None,
    tokens: Sequence[int | None] | None = None,
    stop: tuple[str, ...] | None = None,
    name: str = "control",
) -> list[Response]:
    counts = tokens or [None] * len(texts)
    return [
        Response(f"p{i}", ArmId(name), 0, text, UNKNOWN, None, Decode(budget, stop=stop), ModelRef(), n_tokens=count)
        for i, (text, count) in enumerate(zip(texts, counts, strict=True))
    ]


def reasons(rows: Sequence[Response]) -> list[FinishReason]:
    return [row.finish_reason for row in infer_finish(rows)]


# --- what is never touched, and the labels ------------------------------------------------------------------


def test_recorded_reasons_are_never_touched() -> None:
    recorded = [
        Response("a", CONTROL, 0, "cut in the", LENGTH, Provenance.RECORDED, Decode(10), ModelRef(), n_tokens=2),
        Response("b", CONTROL, 0, "", FinishReason.ERROR, Provenance.RECORDED, Decode(10), ModelRef(), error="timeout"),
    ]
    assert infer_finish(recorded) == recorded
    assert describe_inference(recorded) == Inference()
    assert infer_finish([]) == []


def test_nothing_generated_cannot_be_cut() -> None:
    rows = infer_finish(responses([None, " B"]), no_generation=True)
    assert {(row.finish_reason, row.finish_provenance) for row in rows} == {(STOP, Provenance.INFERRED_TOKENS)}


def test_no_text_and_no_count_stays_unknown() -> None:
    assert reasons(responses([None, None])) == [UNKNOWN, UNKNOWN]
    assert describe_inference(responses([None, None])).basis == "none"


def test_description_is_the_same_before_and_after() -> None:
    rows = responses(cut_arm("markdown", 100, 0, 0.5)[0])
    assert describe_inference(rows) == describe_inference(infer_finish(rows))


def test_arms_and_budgets_are_judged_apart() -> None:
    short, _, _ = cut_arm("prose", 100, 1, 0.9, mean_words=120)
    long = arm("prose", 100, 2, mean_words=400, spread=0.2)
    rows = responses(short) + responses(long, name="treated")
    alone = reasons(responses(short)) + reasons(responses(long, name="treated"))
    assert reasons(rows) == alone
    assert LENGTH not in alone[100:]
    assert alone[:100].count(LENGTH) > 80
    assert "largest of 2 groups" in describe_inference(rows).sentence


# --- token counts -------------------------------------------------------------------------------------------


def test_tokens_against_a_stated_budget() -> None:
    rows = infer_finish(responses(["a b", "a b c", "a b c d"], budget=3, tokens=[2, 3, 4]))
    assert [row.finish_reason for row in rows] == [STOP, LENGTH, LENGTH]
    assert {row.finish_provenance for row in rows} == {Provenance.INFERRED_TOKENS}


@pytest.mark.parametrize("texts", [True, False])
def test_a_spike_at_the_maximal_count_is_a_budget(texts: bool) -> None:
    whole = arm("prose", 120, 3)
    budget = sorted(len(split_tokens(text)) for text in whole)[90]
    counts = [min(budget, len(split_tokens(text))) for text in whole]
    shown = ["".join(split_tokens(text)[:budget]) if texts else None for text in whole]
    found = reasons(responses(shown, tokens=counts))
    assert [label is LENGTH for label in found] == [count == budget for count in counts]
    inference = describe_inference(responses(shown, tokens=counts))
    assert inference.pile_up
    assert inference.ceiling_tokens == budget
    assert f"exactly {budget}" in inference.sentence


def test_counts_without_a_spike_and_short_answers_are_finished() -> None:
    whole = arm("prose", 120, 4)
    assert set(reasons(responses(whole, tokens=[len(split_tokens(text)) for text in whole]))) == {STOP}
    letters = arm("letters", 200, 0)
    assert set(reasons(responses(letters, tokens=[1] * 200))) == {STOP}


# --- text: false alarms -------------------------------------------------------------------------------------

CLEAN = (
    "prose", "markdown", "bare_lists", "tables", "code", "completions", "poems", "chinese", "emails", "chatty",
    "final_answers", "letters", "short_answers", "mixed",
)  # fmt: skip


@pytest.mark.parametrize("style", CLEAN)
def test_finished_answers_are_not_called_cut(style: str) -> None:
    """Two spreads of length and two sizes per style: no answer is called cut, few are in doubt."""
    counts: Counter[FinishReason] = Counter()
    for n, spread, seed in ((60, 0.05, 0), (150, 0.15, 1), (150, 0.5, 2), (60, 0.5, 3)):
        counts.update(reasons(responses(arm(style, n, seed, mean_words=100, spread=spread))))
    total = counts.total()
    print(f"{style:14} false cut {counts[LENGTH] / total:.4f}  unknown {counts[UNKNOWN] / total:.4f}")
    assert counts[LENGTH] == 0
    assert counts[UNKNOWN] <= 0.03 * total


def test_a_pile_up_below_a_stated_budget_may_be_another_tokenizers_ceiling() -> None:
    texts, truth, cut_at = cut_arm("markdown", 100, 5, 0.5)
    found = reasons(responses(texts, budget=2 * cut_at))
    assert LENGTH not in found
    assert sum(reason is UNKNOWN for reason, cut in zip(found, truth, strict=True) if cut) > 0.8 * sum(truth)


@pytest.mark.parametrize("stop", [None, ("\n\n",)])
def test_answers_cut_by_a_tiny_budget_are_no_final_answers(stop: tuple[str, ...] | None) -> None:
    sentence = "The oldest bridge across the river was built by the town's own masons and then rebuilt twice".split()
    cut = [" ".join(["So", *sentence[i % 3 : i % 3 + 12], f"by {i}"]) for i in range(60)]
    assert STOP not in reasons(responses(cut, budget=16, stop=stop))
    final = [f"The answer is {i}." for i in range(60)]
    assert set(reasons(responses(final, budget=16))) == {STOP}


def test_answers_far_below_a_stated_budget_are_finished() -> None:
    texts, _, cut_at = cut_arm("markdown", 100, 5, 0.5)
    assert set(reasons(responses(texts, budget=8 * cut_at))) == {STOP}
    assert "well below the budget" in describe_inference(responses(texts, budget=8 * cut_at)).sentence


def test_a_stop_string_makes_endings_without_punctuation_natural() -> None:
    texts = [text.rstrip(".!?") for text in arm("prose", 100, 6)]
    assert LENGTH not in reasons(responses(texts, stop=("\n\n", "Question:")))


# --- text: recall -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "share", "n", "recall", "silent"),
    [
        ("prose", 0.01, 1000, 0.70, 0.30),
        ("prose", 0.05, 200, 0.80, 0.15),
        ("prose", 0.50, 200, 0.85, 0.10),
        ("prose", 0.95, 200, 0.85, 0.10),
        ("markdown", 0.05, 200, 0.80, 0.20),
        ("markdown", 0.20, 200, 0.85, 0.15),
        ("markdown", 0.95, 200, 0.80, 0.10),
        ("code", 0.20, 200, 0.95, 0.05),
        ("emails", 0.50, 200, 0.80, 0.15),
        ("tables", 0.50, 200, 0.80, 0.10),
        ("chinese", 0.50, 200, 0.80, 0.15),
        ("completions", 0.50, 200, 0.60, 0.10),
        ("mixed", 0.05, 200, 0.75, 0.20),
        ("mixed", 0.50, 200, 0.80, 0.15),
        # Where finished answers end in a bare word too, an open ending is no evidence: said to be unknown.
        ("bare_lists", 0.50, 200, 0.15, 0.10),
        ("chinese", 0.95, 200, 0.00, 0.20),
    ],
)
def test_cut_answers_are_found_or_in_doubt(style: str, share: float, n: int, recall: float, silent: float) -> None:
    """Recall of answers cut at a hidden budget; ``silent`` bounds the share of them called finished."""
    counts: Counter[tuple[bool, FinishReason]] = Counter()
    for seed in range(1 if n > 500 else 2):
        texts, truth, _ = cut_arm(style, n, seed, share, mean_words=100)
        counts.update(zip(truth, reasons(responses(texts)), strict=True))
    n_cut = sum(count for (was_cut, _), count in counts.items() if was_cut)
    found, missed = counts[True, LENGTH] / n_cut, counts[True, STOP] / n_cut
    false = counts[False, LENGTH] / (counts.total() - n_cut)
    print(f"{style:12} share {share:.2f}  recall {found:.2f}  called finished {missed:.2f}  false cut {false:.3f}")
    assert found >= recall
    assert missed <= silent
    if share <= 0.5:
        assert false <= 0.10


def test_the_ceiling_and_how_surely_are_said() -> None:
    texts, truth, budget = cut_arm("markdown", 200, 7, 0.6, mean_words=250)
    rows = responses(texts)
    inference = describe_inference(rows)
    assert inference.basis == "text"
    assert inference.pile_up
    assert inference.ceiling_tokens == pytest.approx(budget, rel=0.2)
    assert inference.cv_chars is not None
    assert inference.cv_tokens_est is not None
    assert inference.cv_tokens_est < inference.cv_chars
    labels = reasons(rows)
    wrong = sum((label is LENGTH) != was for label, was in zip(labels, truth, strict=True) if label is not UNKNOWN)
    assert wrong <= 5 * inference.expected_wrong + 10
    assert inference.cut + inference.finished + inference.unknown == inference.n == 200
    assert f"{inference.cut} are called cut" in inference.sentence
    assert "expected to be wrong" in inference.sentence


# --- odd ends -----------------------------------------------------------------------------------------------


def test_a_storage_clip_is_told_from_a_cut() -> None:
    texts = [text[:400] for text in arm("prose", 80, 8)]
    at_clip = [len(text) == 400 for text in texts]
    assert 20 < sum(at_clip) < 80
    rows = responses(texts)
    assert [label is UNKNOWN for label in reasons(rows)] == at_clip
    inference = describe_inference(rows)
    assert inference.storage_clip_chars == 400
    assert "cut for storage" in inference.sentence


def test_a_lone_broken_long_answer_is_in_doubt() -> None:
    texts = arm("prose", 100, 9, spread=0.2)
    longest = max(range(100), key=lambda i: len(texts[i]))
    texts[longest] = texts[longest] + " And then there is the"
    labels = reasons(responses(texts))
    assert labels[longest] is UNKNOWN
    assert labels.count(STOP) == 99


def test_an_open_fence_far_below_the_ceiling_is_in_doubt() -> None:
    texts = arm("prose", 60, 10)
    shortest = min(range(60), key=lambda i: len(texts[i]))
    texts[shortest] = "Here:\n```python\ndef f(x):\n    return"
    labels = reasons(responses(texts))
    assert labels[shortest] is UNKNOWN
    assert labels.count(STOP) == 59


def test_an_empty_answer_is_in_doubt_unless_a_stop_string_explains_it() -> None:
    texts = [*arm("prose", 40, 11), "", " \n"]
    assert reasons(responses(texts))[-2:] == [UNKNOWN, UNKNOWN]
    assert reasons(responses(texts, stop=("\n",)))[-2:] == [STOP, STOP]


@pytest.mark.parametrize("name", ["eval_baseline.json", "eval_full_ddv2.json"])
def test_real_answers_cut_at_512_tokens(paper: Path, name: str) -> None:
    """100 answers generated at 512 new tokens; one of them ends far below the others, in a full sentence."""
    texts = [row["response"] for row in json.loads((paper / name).read_text(encoding="utf-8"))["rows"]]
    rows = infer_finish(responses(texts))
    labels = Counter(row.finish_reason for row in rows)
    assert labels[LENGTH] >= 95
    assert {row.finish_provenance for row in rows if row.finish_reason is LENGTH} == {Provenance.INFERRED_TEXT}
    for row, text in zip(rows, texts, strict=True):
        if len(text) < 1300:
            assert row.finish_reason is STOP
    inference = describe_inference(rows)
    assert inference.pile_up
    assert inference.ceiling_tokens == pytest.approx(512, rel=0.03)
    assert inference.cv_tokens_est is not None
    assert inference.cv_tokens_est < 0.02
    assert inference.storage_clip_chars is None
