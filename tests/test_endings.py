"""Inference of how answers ended: arithmetic from tokens, and measured error rates from text."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from counterclaim.importers import endings
from counterclaim.importers.endings import Inference, describe_inference, infer_finish, storage_clip
from counterclaim.records import CONTROL, ArmId, Decode, FinishReason, ModelRef, Provenance, Response
from counterclaim.text import estimate_tokens, piece_ends
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


# --- what it takes: both sides of each threshold ------------------------------------------------------------


@pytest.mark.parametrize(("share", "below"), [(0.69, True), (0.71, False)])
def test_answers_of_seven_tenths_of_a_stated_budget_may_have_filled_it(share: float, below: bool) -> None:
    """The estimate of tokens is that loose; what is shorter by it cannot have come near the budget."""
    texts = arm("prose", 60, 1, mean_words=100, spread=0.2)
    budget = round(max(map(estimate_tokens, texts)) / share)
    assert ("well below the budget" in describe_inference(responses(texts, budget=budget)).sentence) is below


@pytest.mark.parametrize(("share", "doubt"), [(0.24, False), (0.26, True)])
def test_no_tokenizer_needs_four_times_the_tokens(share: float, doubt: bool) -> None:
    """Below a quarter of the budget even a pile-up of broken ends is no ceiling; above it may be another tokenizer's."""
    texts, truth, _ = cut_arm("markdown", 100, 5, 0.5)
    found = reasons(responses(texts, budget=round(max(map(estimate_tokens, texts)) / share)))
    assert LENGTH not in found
    assert found.count(UNKNOWN) == (62 if doubt else 0)
    assert sum(truth) == 50


def at_one_ceiling(broken: int, whole: int = 60) -> list[str]:
    """Answers of about equal length, so many of which break off, above shorter ones that end as answers do."""
    short = arm("prose", 100, 4, mean_words=50, spread=0.2)
    long = [text[:500].rpartition(" ")[0] for text in arm("prose", broken + whole, 3, mean_words=150, spread=0.05)]
    return short + [f"{text} and the" if i < broken else f"{text} town." for i, text in enumerate(long)]


def judged(
    monkeypatch: pytest.MonkeyPatch, evidence: float, posterior: tuple[float, ...], budget: int | None = None
) -> Counter[FinishReason]:
    """How 12 broken answers among 72 are called where the mixture says this."""
    said = endings._Mixture(evidence, np.array(posterior))
    monkeypatch.setattr(endings._Mixture, "of", lambda *_: said)
    return Counter(reasons(responses(at_one_ceiling(12), budget=budget))[100:])


@pytest.mark.parametrize(("odds", "cut"), [(990.0, 0), (1010.0, 12)])
def test_an_arm_has_cuts_only_if_they_make_its_endings_a_thousand_times_the_likelier(
    monkeypatch: pytest.MonkeyPatch, odds: float, cut: int
) -> None:
    assert judged(monkeypatch, math.log(odds), (0.0, 0.0, 0.0, 0.0, 1.0))[LENGTH] == cut


@pytest.mark.parametrize(
    ("chance", "label"), [(0.81, LENGTH), (0.79, UNKNOWN), (0.5, UNKNOWN), (0.21, UNKNOWN), (0.19, STOP)]
)
def test_an_ending_is_called_only_where_four_in_five_chances_say_so(
    monkeypatch: pytest.MonkeyPatch, chance: float, label: FinishReason
) -> None:
    found = judged(monkeypatch, 99.0, (0.0, 0.0, 0.0, 0.0, chance))
    assert found[label] == (72 if label is STOP else 12)


@pytest.mark.parametrize(("chance", "unknown"), [(0.21, 12), (0.19, 0)])
def test_far_below_the_budget_what_might_be_cut_is_in_doubt(
    monkeypatch: pytest.MonkeyPatch, chance: float, unknown: int
) -> None:
    found = judged(monkeypatch, 99.0, (0.0, 0.0, 0.0, 0.0, chance), budget=250)
    assert found == Counter({STOP: 72 - unknown, UNKNOWN: unknown})


@pytest.mark.parametrize(("broken", "whole", "cut"), [(15, 5, False), (17, 5, True), (18, 10, False), (21, 10, True)])
def test_broken_ends_are_in_doubt_until_there_are_too_many_of_them_to_be_chance(
    broken: int, whole: int, cut: bool
) -> None:
    found = describe_inference(responses(at_one_ceiling(broken, whole)))
    assert (found.cut, found.unknown) == ((broken, 0) if cut else (0, broken))
    assert found.pile_up is cut


# --- the parts, each by its definition ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("The mill turns.", "complete"),
        ("The mill turns and the", "broken"),
        ("The mill turns seed into oil all day long by the river", "open_prose"),
        ("It is this one:\nThe old mill town", "open_short"),
        ("It is this one:\nOne two three four five", "open_short"),
        ("It is this one:\nOne two three four five six", "open_prose"),
        ("Some of them.\n- one thing of many other good things", "open_line"),
        ("Some of them.\n3) one thing of many other good things", "open_line"),
        # among lines that have no end of sentence either, so the last one need not
        ("Roses bloom\nviolets grow\nsugar melts\nso do all of us when the day is done", "open_line"),
        ("Roses bloom\nviolets grow\nso do all of us when the day is done", "open_prose"),
        ("Roses bloom.\nviolets grow\nsugar melts\nsnow falls.\nso do all of us when the day is done", "open_prose"),
        ("Roses bloom.\nviolets grow\nsugar melts\nsnow falls\nso do all of us when the day is done", "open_line"),
    ],
)
def test_an_ending_is_put_into_the_state_that_it_shows(text: str, state: str) -> None:
    assert endings.STATES[endings._state(text)] == state


def test_only_the_last_ten_lines_tell_whether_lines_have_ends_here() -> None:
    last = "so do all of us when the day is done"
    ten = ["it grows."] * 5 + ["it grows"] * 5
    assert endings.STATES[endings._state("\n".join(["it grows"] * 9 + ten + [last]))] == "open_prose"
    assert endings.STATES[endings._state("\n".join(["it grows."] * 9 + ten[1:] + ["it grows", last]))] == "open_line"


def test_final_answers_are_short_or_short_and_given_again() -> None:
    """12 tokens; 48 where three say the same; under a stated budget few against it, too, or ended."""
    texts = ["a", "b", *["c"] * 3, *["d"] * 3, "e", "e"]
    sizes = np.array([12.0, 12.6, *[48.0] * 3, *[48.3] * 3, 20.0, 20.0])
    unended = np.full(10, 3)
    short = endings._closed_form(texts, sizes, unended, None)
    assert short.tolist() == [True, False, *[True] * 3, *[False] * 5]
    assert endings._closed_form(texts, sizes, unended, 36).tolist() == [True, *[False] * 9]
    assert endings._closed_form(texts, sizes, unended, 35).tolist() == [False] * 10
    assert endings._closed_form(texts, sizes, np.zeros(10, int), 35).tolist() == short.tolist()


@pytest.mark.parametrize(
    ("n", "at_top", "length", "clip"),
    [(40, 3, 60, 60), (40, 2, 60, None), (100, 5, 60, 60), (100, 4, 60, None), (40, 3, 40, 40), (40, 3, 39, None)],
)
def test_texts_were_clipped_where_three_and_one_in_twenty_end_at_one_length(
    n: int, at_top: int, length: int, clip: int | None
) -> None:
    texts = [f"{i:03} It turns seed into oil the whole day long at the mill" * 3 for i in range(at_top)]
    texts = [text[:length] for text in texts] + [f"It is {i}." for i in range(n - at_top)]
    assert storage_clip(texts) == clip


def test_texts_of_one_length_that_end_as_answers_do_were_not_clipped() -> None:
    whole = [f"The answer to the question that was asked here is {i:03}." for i in range(6)]
    assert storage_clip(whole) is None
    for ended, clip in ((2, len(whole[0])), (3, None)):
        texts = whole[:ended] + [
            f"The answer to the question that was asked here is{i:03}ab"[: len(whole[0])] for i in range(6 - ended)
        ]
        assert storage_clip(texts) == clip
    assert storage_clip([whole[0][:-4] + "then"] * 9 + ["It is."]) is None, "equal texts share a length"


def test_the_edge_of_the_ceiling_is_below_what_breaks_off_and_passes_strays_over() -> None:
    cut = np.full(20, 400.0)
    short = np.linspace(50, 200, 180)
    broken = np.r_[np.ones(20, bool), np.zeros(180, bool)]
    edge = 400 * math.exp(-3 / math.sqrt(400))
    assert endings._zone_edge(np.r_[cut, short], broken) == pytest.approx(edge)
    strays = np.r_[np.full(2, 900.0), cut, short[2:]]  # one in a hundred is longer than the ceiling
    assert endings._zone_edge(strays, np.r_[np.zeros(2, bool), broken[:-2]]) == pytest.approx(edge)
    fewer = endings._zone_edge(strays[:199], np.r_[np.zeros(2, bool), broken[:-3]])
    assert fewer > 700, "two of 199 are more than one in a hundred"
    three = np.r_[np.full(3, 900.0), cut, short[3:]]
    assert endings._zone_edge(three, np.r_[np.zeros(3, bool), broken[:-3]]) > 700
    long = np.full(10, 10_000.0)  # never narrower than an eighth
    assert endings._zone_edge(long, np.ones(10, bool)) == pytest.approx(10_000 * math.exp(-0.12))


def test_the_fitted_edge_is_four_robust_deviations_below_the_median() -> None:
    logs = np.array([5.9, 5.95, 6.0, 6.05, 6.2])
    assert math.log(endings._fitted_edge(np.exp(logs))) == pytest.approx(6.0 - 4 * 1.4826 * 0.05)
    assert math.log(endings._fitted_edge(np.full(5, 400.0))) == pytest.approx(math.log(400) - 4 * 0.015)


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("seen", [(3, 1, 0, 2, 6), (20, 0, 0, 0, 1), (0, 0, 4, 9, 2)])
@pytest.mark.parametrize("reference", [(0, 0, 0, 0, 0), (60, 3, 2, 0, 1)])
def test_the_evidence_is_that_of_a_mixture_against_finished_endings_alone(
    stopped: bool, seen: tuple[int, ...], reference: tuple[int, ...]
) -> None:
    """Said once more with scipy's laws: beta-binomial and Dirichlet-multinomial, against a multinomial for each share."""
    from scipy.stats import betabinom, dirichlet_multinomial, multinomial

    texts = arm("prose", 12, 2, mean_words=60)
    counts, below = np.array(seen, float), np.array(reference, float)
    found = endings._Mixture.of(texts, counts, below, stopped)
    a, b = (1.0, 4.0) if stopped else (0.4, 40.0)
    a, b = a + below[4], b + below[:4].sum()
    alpha = np.array([2.0, 0.4, 0.4, 0.2]) + below[:4]
    n, others = sum(seen), sum(seen[:4])
    none_cut = betabinom.pmf(seen[4], n, a, b) * dirichlet_multinomial.pmf(seen[:4], alpha, others)
    cut = endings._cut_rates(texts)
    whole = np.append(alpha / alpha.sum() * b / (a + b), a / (a + b))
    shares = np.linspace(0.005, 0.995, 100)
    some_cut = np.mean([multinomial.pmf(seen, n, s * cut + (1 - s) * whole) for s in shares])
    assert found.evidence == pytest.approx(math.log(some_cut / none_cut), rel=1e-6)
    # the posterior is Bayes' rule at the share that it leads to
    share = ((counts * found.posterior).sum() + 0.5) / (n + 1)
    assert found.posterior == pytest.approx(share * cut / (share * cut + (1 - share) * whole), abs=1e-3)


def test_the_rates_of_cut_endings_are_those_of_prefixes_beyond_the_first_third() -> None:
    texts = arm("prose", 8, 2, mean_words=60)
    every = [
        endings._state(text[:end]) for text in texts for end in piece_ends(text)[len(piece_ends(text)) // 3 : -1]
    ]  # fmt: skip
    expected = np.bincount(every, minlength=5) / len(every)
    found = endings._cut_rates(texts)
    assert found.sum() == pytest.approx(1.0)
    assert found == pytest.approx(expected, abs=0.06)
    assert found.min() > 0
    assert endings._cut_rates(["Yes."]) == pytest.approx(endings._cut_rates(["Yes."]), abs=0)


def counts_of(**states: int) -> np.ndarray:
    return np.array([states.get(name, 0) for name in endings.STATES], float)


@pytest.mark.parametrize(
    ("seen", "reference", "explained", "prose", "broken"),
    [
        (counts_of(complete=9), counts_of(complete=100), False, 0.5, 0.5),
        (counts_of(complete=9), counts_of(complete=94, broken=6), False, 0.5, 0.0),
        (counts_of(complete=9), counts_of(complete=95, broken=5), False, 0.5, 0.5),
        (counts_of(complete=9), counts_of(complete=94, open_prose=6), False, 0.0, 0.5),
        (counts_of(complete=9, open_prose=2), counts_of(complete=100), False, 0.5, 0.5),
        (counts_of(complete=9, open_prose=3), counts_of(complete=100), False, 0.0, 0.5),
        (counts_of(complete=9, open_prose=3), counts_of(complete=19), False, 0.0, 0.5),
        (counts_of(complete=9, open_prose=10), counts_of(complete=19), False, 0.5, 0.5),
        (counts_of(complete=9, open_prose=9), counts_of(complete=19), False, 0.0, 0.5),
        (counts_of(complete=9, open_prose=10), counts_of(complete=20), False, 0.0, 0.5),
        (counts_of(complete=9, open_prose=10), counts_of(), True, 0.0, 0.0),
    ],
)
def test_where_nothing_piles_up_only_what_finished_answers_do_not_do_is_in_doubt(
    seen: np.ndarray, reference: np.ndarray, explained: bool, prose: float, broken: float
) -> None:
    assert endings._doubt(seen, reference, explained).tolist() == [0.0, 0.0, 0.0, prose, broken]


def test_token_counts_decide_for_those_who_have_them_and_texts_for_the_others() -> None:
    whole = [f"It turns seed into oil at mill number {i}." for i in range(4)]
    assert describe_inference(responses(whole, tokens=[5, 6, None, None], budget=9)).basis == "tokens"
    assert describe_inference(responses(whole, tokens=[5, None, None, None], budget=9)).basis == "text"


@pytest.mark.parametrize(("at_top", "label"), [(1, UNKNOWN), (2, UNKNOWN), (3, STOP)])
def test_one_or_two_broken_answers_at_the_maximal_count_are_in_doubt(at_top: int, label: FinishReason) -> None:
    """Three of many would be a spike; here as many lie just below it, and they are taken for finished."""
    counts = [40] * at_top + [k for k in range(32, 40) for _ in range(4)]
    texts = [f"It turns seed number {i} into oil and the" for i in range(len(counts))]
    found = reasons(responses(texts, tokens=counts))
    assert set(found[:at_top]) == {label}
    assert set(found[at_top:]) == {STOP}


@pytest.mark.parametrize(
    ("n", "at_top", "just_below", "spike"),
    [(60, 3, 0, True), (60, 2, 0, False), (150, 3, 0, True), (151, 3, 0, False), (60, 7, 16, True), (60, 6, 16, False)],
)
def test_a_spike_stands_far_above_the_counts_below_it(n: int, at_top: int, just_below: int, spike: bool) -> None:
    counts = [100] * at_top + [92 + i % 8 for i in range(just_below)]
    counts += [20 + i % 60 for i in range(n - len(counts))]
    found = reasons(responses([None] * n, tokens=counts))
    assert found.count(LENGTH) == (at_top if spike else 0)


def test_a_spike_of_answers_that_mostly_end_complete_is_no_budget() -> None:
    counts = [50] * 8 + [20 + i for i in range(28)]
    for ended, label in ((4, LENGTH), (5, STOP)):
        texts = ["It turns." if i < ended else "It turns and the" for i in range(8)] + ["It turns."] * 28
        assert set(reasons(responses(texts, tokens=counts))[:8]) == {label}


@pytest.mark.parametrize(("broken", "of_the_cut"), [(12, True), (3, True), (2, False)])
def test_lengths_are_told_of_the_cut_answers_where_there_are_three(
    monkeypatch: pytest.MonkeyPatch, broken: int, of_the_cut: bool
) -> None:
    said = endings._Mixture(99.0, np.array([0.15, 0.0, 0.0, 0.0, 0.9]))
    monkeypatch.setattr(endings._Mixture, "of", lambda *_: said)
    texts = at_one_ceiling(broken)
    found = describe_inference(responses(texts))
    cut = texts[100 : 100 + broken]
    assert found.cut == broken
    for value, measure in ((found.cv_chars, len), (found.cv_tokens_est, estimate_tokens)):
        sizes = np.array([measure(text) for text in cut], float)
        own = pytest.approx(sizes.std() / sizes.mean())
        assert value == own if of_the_cut else value != own
    assert found.ceiling_chars == np.median([len(text) for text in cut])
    # what is expected to be wrong: one in ten of those called cut, three in twenty of those at the ceiling called finished
    finished = (found.expected_wrong - 0.1 * broken) / 0.15
    assert finished == pytest.approx(round(finished))
    assert 60 <= finished <= 160
