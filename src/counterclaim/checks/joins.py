"""Do things belong together: answers to prompts, golds to prompts, quoted numbers to records, test to training data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from counterclaim import stats
from counterclaim.audit.evidence import Arm, Evidence
from counterclaim.audit.metrics import Floats
from counterclaim.audit.probing import ProbeResult
from counterclaim.checks.findings import conclusion, how_to_pass, needs_responses, not_run, with_probe
from counterclaim.errors import InputError
from counterclaim.records import Estimate, Json, Outcome
from counterclaim.registry import Finding, check
from counterclaim.text import content_words
from counterclaim.wording import listing, percent, with_interval

SAMPLE = 150  # rows compared per join; enough to tell a join from a shuffle many times over
SEARCHED = 2_000  # rows among which a better partner is looked for
DISPLACED = 0.2
MISPLACED = 0.05  # a larger part that surely fits another row is no accident of wording (0-2 % in well-joined files)
STRICT = 0.999
SAME = 0.01  # fresh rows that may equal a training row by chance: a few answers to different prompts are alike
ENOUGH = 30


@check(
    "alignment",
    group="ruler",
    question="Do responses belong to their prompts, and golds to the prompts that they are joined with?",
    must_fail=("shuffled_gold", "shuffled_answers", "partly_shuffled"),
    must_pass=("clean", "null"),
)
def alignment(evidence: Evidence) -> Finding:
    """FAIL when texts share no more words than if joined at random, and clearly fit other rows instead."""
    if missing := needs_responses(evidence, "whether answers fit their prompts"):
        return missing
    pairing = evidence.pairing if len(evidence.pair) == 2 else None
    counted = ""
    if pairing is not None:
        lost = pairing["only_control"] + pairing["only_treated"]
        counted = f"{pairing['paired']} prompts paired, {lost} answered by one arm only. "
    joins: list[tuple[str, Join]] = []
    for arm in () if evidence.generated else evidence.pair:  # generated answers are joined to what was asked
        rows = [(evidence.prompts[r.prompt_id].text, r.text) for r in arm.responses if r.text]
        joins.append((f"{arm.name} answers and their prompts", _join(rows)))
    joins.append(("golds and their prompts", _gold_join(evidence)))
    joined = [(what, join.excess) for what, join in joins if join.excess.estimate is not None]
    n = sum(len(arm) for arm in evidence.pair)
    details: dict[str, Json] = {} if pairing is None else {"pairing": pairing}
    if not joined and evidence.generated:
        because = (
            f"{counted}Every answer was generated from its prompt; golds share too few words with prompts to compare."
        )
        return Finding(Outcome.PASS, because, n=n, details=details)
    if not joined:
        by_id = any(not prompt.messages for prompt in evidence.prompts.values())
        why = "the rows are joined by id and hold no prompt text" if by_id else "the texts are too short to compare"
        because = f"{counted}Nothing shows that answers belong to their prompts: {why}."
        how = "Map the prompt and response columns (--map prompt=COLUMN,response=COLUMN)."
        return Finding(Outcome.NOT_RUN, because, how, n=n, details=details)
    remedy = "Join on the content of the prompt, not on position or a bare id, and score again."
    for what, join in joins:
        low, high = join.excess.low, join.excess.high
        if low is not None and high is not None and low <= 0 and high < 0.06 and join.displaced >= DISPLACED:
            because = (
                f"{counted}The {what} share no more words than a random join would (excess {with_interval(join.excess)}), "
                f"and {percent(join.displaced)} of them clearly fit another row: they are joined wrongly."
            )
            return Finding(Outcome.FAIL, because, remedy, estimate=join.excess, n=n, details=details)
        if join.excess.estimate is None:
            continue
        misplaced = stats.wilson(round(join.displaced * join.excess.n), join.excess.n, STRICT)
        if misplaced.low is not None and misplaced.low > MISPLACED:
            because = (
                f"{counted}{percent(join.displaced)} of the {what} clearly fit another row, "
                f"at least {percent(misplaced.low)} with near certainty: part of the rows is joined wrongly."
            )
            return Finding(Outcome.FAIL, because, remedy, estimate=misplaced, n=n, details=details)
    unsure = [what for what, e in joined if e.low is None or e.low <= 0]
    weakest = min((e for _, e in joined), key=lambda e: e.low if e.low is not None else -math.inf)
    common: dict[str, Json] = {"estimate": weakest, "n": n, "details": details}
    if unsure:
        because = f"{counted}Whether {listing(unsure)} belong together cannot be told from their words."
        return Finding(Outcome.INCONCLUSIVE, because, "Read a few pairs in the table yourself.", **common)
    if pairing is not None and pairing["paired"] < 0.8 * (
        pairing["paired"] + max(pairing["only_control"], pairing["only_treated"])
    ):
        because = f"{counted}The paired prompts may be a biased selection."
        return Finding(Outcome.WARN, because, "Answer the same prompts with both arms.", **common)
    names = listing(what for what, _ in joined)
    because = f"{counted}{names[0].upper()}{names[1:]} fit far better than a shuffled join."
    return Finding(Outcome.PASS, because, **common)


@dataclass(frozen=True, slots=True)
class Join:
    """How well two columns of texts fit row by row.

    Attributes:
        excess: mean share of the left text's content words found in its partner, minus the same for random partners.
        displaced: share of rows whose left text clearly fits another row's partner (of those that could be found:
            scaled up where only some of the rows were searched). Texts that fit nothing in particular, such as
            one-letter answers or one template filled in many times, are not displaced.
    """

    excess: Estimate
    displaced: float = 0.0


def _join(rows: Sequence[tuple[str, str]]) -> Join:
    random = np.random.default_rng(0)
    searched = rows if len(rows) <= SEARCHED else [rows[i] for i in sorted(random.choice(len(rows), SEARCHED, False))]
    left, right = ([content_words(row[side]) for row in searched] for side in (0, 1))
    # a text of two or three content words fits half of everything
    usable = [i for i, (a, b) in enumerate(zip(left, right, strict=True)) if len(a) >= 3 and len(b) >= 3]
    if len(usable) > SAMPLE:
        usable = sorted(int(i) for i in random.choice(usable, SAMPLE, replace=False))
    if len(usable) < ENOUGH or len({searched[i][0] for i in usable}) < ENOUGH / 2:
        return Join(Estimate.undefined("too few texts that are long enough"))
    shares = _shared([left[i] for i in usable], right)
    own = shares[np.arange(len(usable)), usable]
    others = shares.copy()
    others[np.arange(len(usable)), usable] = -1.0
    chance = (shares.sum(axis=1) - own) / (shares.shape[1] - 1)
    top = np.sort(others, axis=1)[:, -2:]
    stands_out = (top[:, 1] - own >= 0.2) & (top[:, 1] - top[:, 0] >= 0.1)
    found = len(searched) / len(rows)
    return Join(stats.paired_mean(own - chance, STRICT), min(1.0, float(stands_out.mean()) / found))


def _shared(left: Sequence[set[str]], right: Sequence[set[str]]) -> Floats:
    """Share of each left text's words, weighted by rarity among the right texts, found in each right text: (l, r)."""
    from scipy.sparse import csr_array

    vocabulary = {word: i for i, word in enumerate(sorted(set().union(*left)))}

    def matrix(texts: Sequence[set[str]]) -> csr_array:
        columns = [[vocabulary[word] for word in sorted(text) if word in vocabulary] for text in texts]
        starts = np.cumsum([0, *map(len, columns)])
        flat = np.array([i for row in columns for i in row], dtype=np.int64)
        return csr_array((np.ones(len(flat)), flat, starts), shape=(len(texts), len(vocabulary)))

    a, b = matrix(left), matrix(right)
    rarity = np.log1p(len(right) / (1.0 + np.asarray(b.sum(axis=0)).ravel()))
    whole = np.maximum(a @ rarity, 1e-12)
    weighted = csr_array((rarity[a.indices], a.indices, a.indptr), shape=a.shape)
    return np.asarray((weighted @ b.T).toarray() / whole[:, None], dtype=np.float64)


def _gold_join(evidence: Evidence) -> Join:
    answers: dict[str, str] = {}
    for response in (r for arm in evidence.pair[:1] for r in arm.responses):
        answers.setdefault(response.prompt_id, response.text or "")
    prompts = [prompt for _, prompt in sorted(evidence.prompts.items()) if prompt.gold and prompt.messages]
    return _join([(_gold_text(p.gold), f"{p.text}\n{answers.get(p.id, '')}") for p in prompts])


def _gold_text(gold: Json) -> str:
    if isinstance(gold, str):
        return gold
    if isinstance(gold, dict):
        return " ".join(_gold_text(value) for key, value in gold.items() if key != "tests")
    if isinstance(gold, list | tuple):
        return " ".join(_gold_text(value) for value in gold)
    return ""


@check(
    "contamination",
    group="ruler",
    question="Do test prompts, or near-duplicates of them, occur in the training data of the treated arm?",
    must_fail=("leaky",),
    must_pass=("with_clean_training_data",),
)
def contamination(evidence: Evidence) -> Finding:
    """FAIL when many prompts were trained on, or when the effect does not stand on the others.

    A probe FAILs where more than one in a hundred of its fresh items have the features of a training item, or any has its id.
    """
    return with_probe(evidence, _trained_on(evidence), fresh_among_training)


def fresh_among_training(result: ProbeResult) -> Finding:
    """Whether items that a probe is tested on are items that it was trained on."""
    found = result.overlap
    if found is None:
        return not_run("Fresh items were not compared with the training items.", "Run the study again.")
    same, named, n = found.same_features, found.same_id, found.n
    share = stats.wilson(max(same, named), n, result.level)
    text = f"{same} of {n} fresh items have the features of a training item, and {named} have the id of one"
    remedy = "Test on items that were used for nothing else; an AUC on training items shows what the probe memorised."
    if named or same / n > SAME:
        return Finding(Outcome.FAIL, f"{text}: they are not fresh.", remedy, share, n)
    if same:
        return Finding(Outcome.WARN, f"{text}.", remedy, share, n)
    return Finding(Outcome.PASS, f"{text}.", estimate=share, n=n)


def _trained_on(evidence: Evidence) -> Finding:
    report = evidence.overlap
    if report is None:
        return not_run(
            "No training data were given.",
            f"If the treated arm was trained, {how_to_pass(evidence, '--train-data FILE', 'train_data = FILE')}.",
        )
    hits = report.hits()
    leaked = frozenset(hits)
    n = len(evidence.prompts)
    estimate = stats.wilson(len(leaked), n, evidence.claim.level)
    common: dict[str, Json] = {"estimate": estimate, "n": n, "evidence": tuple(hits[:20])}
    if not leaked:
        because = f"None of {n} prompts occurs in {report.n_training_rows} training texts."
        return Finding(Outcome.PASS, because, **common)
    text = f"{len(leaked)} of {n} prompts ({percent(len(leaked) / n)}) occur in the {report.n_training_rows} training texts"
    remedy = "Take these prompts out of the test set (or out of the training data, and train again)."
    if len(evidence.pair) < 2 or len(leaked) / n > 0.05:
        return Finding(Outcome.FAIL, f"{text}.", remedy, **common)
    keep = tuple(np.array([r.prompt_id not in leaked for r in arm.responses]) for arm in evidence.pair)
    clean = evidence.effect_of(evidence.metric, keep=(keep[0], keep[1]))
    concluded = [conclusion(evidence, e) for e in (evidence.effect, clean)]
    text += f"; without them the effect is {with_interval(clean.difference)}"
    return Finding(Outcome.WARN if concluded[0] == concluded[1] else Outcome.FAIL, f"{text}.", remedy, **common)


@check(
    "ledger",
    group="ruler",
    question="Do the numbers that are quoted equal the numbers recomputed from the records?",
    must_fail=("misquoted",),
    must_pass=("well_quoted",),
)
def ledger(evidence: Evidence) -> Finding:
    """FAIL when a quoted value or n differs from the recomputed one by more than its rounding."""
    if missing := needs_responses(evidence, "what the numbers should be"):
        return missing
    wrong, right, unknown = [], [], []
    for quote in evidence.quotes:
        arm = evidence.arms.get(quote.arm)
        if arm is None:
            unknown.append(f"{quote.metric} of {quote.arm}")
            continue
        try:
            value, n = _recompute(evidence, arm, quote.metric)
        except InputError:
            unknown.append(f"{quote.metric} of {quote.arm}")
            continue
        name = f"{quote.arm} {quote.metric}"
        if value is None or abs(value - quote.value) > _rounding(quote.value):
            hint = " (fractions, not percent)" if value is not None and abs(quote.value / 100 - value) < 0.005 else ""
            got = "undefined" if value is None else f"{value:.4g}"
            wrong.append(f"{name} is quoted as {quote.value:g} by the {quote.source}, the records give {got}{hint}")
        elif quote.n is not None and quote.n != n:
            wrong.append(f"{name} is quoted with n = {quote.n}, the records hold {n}")
        else:
            right.append(name)
    n_quotes = len(wrong) + len(right)
    if wrong:
        remedy = "Correct the quoted number, or find the records that it was computed from."
        return Finding(Outcome.FAIL, f"{listing(wrong, 3)}.", remedy, n=n_quotes)
    if not right:
        return not_run(
            "Nothing is quoted that could be recomputed from these records.",
            "Quote the claim's numbers under [[quotes]] in the claim file (arm, metric, value, n).",
        )
    return Finding(Outcome.PASS, f"Recomputed and equal: {listing(right)}.", n=n_quotes)


def _recompute(evidence: Evidence, arm: Arm, name: str) -> tuple[float | None, int]:
    metric = evidence.metric_named(name)
    estimate = evidence.arm_estimate(metric, arm)
    return estimate.estimate, int(arm.scored(metric).sum())


def _rounding(value: float) -> float:
    """Half a unit in the last decimal that the number is quoted with, and at least a float's own noise."""
    decimals = len(repr(float(value)).partition(".")[2]) if "e" not in repr(float(value)) else 12
    return 0.5 * 10.0**-decimals + 1e-9 * max(1.0, abs(value))
