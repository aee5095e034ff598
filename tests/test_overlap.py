"""Contamination: planted copies must be found, topical neighbours must not."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from counterclaim import stats
from counterclaim.errors import RecordError
from counterclaim.records import Estimate
from counterclaim.text import overlap
from counterclaim.text.overlap import OverlapReport, scan, two_sample_auc

TOPICS = 8


def vocabulary(topic: int) -> list[str]:
    rng = random.Random(topic)
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(150)]


SMALL = ["the", "a", "of", "to", "and", "in", "is", "that", "for", "with", "as", "on", "how", "what", "do", "you"]
WORDS = [vocabulary(topic) for topic in range(TOPICS)]


def question(rng: random.Random, n_words: int, topic: int) -> str:
    words = [rng.choice(SMALL) if rng.random() < 0.45 else rng.choice(WORDS[topic]) for _ in range(n_words)]
    return " ".join(words).capitalize() + "?"


def edited(rng: random.Random, text: str, share: float) -> str:
    words = text.split()
    for at in rng.sample(range(len(words)), max(1, round(share * len(words)))):
        words[at] = "".join(rng.choices("aeioubdgklmnprst", k=7))
    return " ".join(words)


def prompts(n: int, seed: int, low: int = 15, high: int = 60) -> dict[str, str]:
    rng = random.Random(seed)
    return {f"p{i}": question(rng, rng.randint(low, high), i % TOPICS) for i in range(n)}


def clean_rows(n: int, seed: int, words: int = 80) -> list[str]:
    rng = random.Random(1000 + seed)
    return [question(rng, rng.randint(words // 2, 2 * words), rng.randrange(TOPICS)) for _ in range(n)]


def test_each_kind_of_copy_is_found_and_points_at_its_row() -> None:
    rng = random.Random(5)
    texts = prompts(40, seed=1)
    ids = list(texts)
    rows = clean_rows(300, seed=1)
    plant = {
        "p0": texts["p0"],
        "p1": texts["p1"].upper().replace(" ", " -- "),
        "p2": f"{question(rng, 200, 3)}\n\nUser: {texts['p2']}\nAssistant: {question(rng, 100, 3)}",
        "p3": edited(rng, texts["p3"], 0.05),
        "p4": f"“{texts['p4']}”",
    }
    for text in plant.values():
        rows.insert(rng.randrange(len(rows)), text)
    where = {key: rows.index(text) for key, text in plant.items()}
    report = scan(texts, iter(rows))
    assert report.n_training_rows == len(rows)
    assert set(report.hits()) == set(plant)
    for key in ("p0", "p1", "p2", "p4"):
        assert report.prompts[key].containment == report.prompts[key].row_containment == 1.0, key
        assert report.prompts[key].containment_row == where[key]
    for key in ("p0", "p1", "p3", "p4"):
        assert report.prompts[key].jaccard >= 0.8
        assert report.prompts[key].jaccard_row == where[key]
    assert report.prompts["p2"].jaccard_row is None
    assert all(report.prompts[key].containment < 0.2 for key in ids if key not in plant)


def test_miss_and_false_alarm_rates() -> None:
    """800 prompts: half planted with 5 % of the words changed, half only with neighbours of the same topics."""
    rng = random.Random(7)
    texts = prompts(800, seed=2)
    planted = {key for i, key in enumerate(texts) if i % 2 == 0}
    copies = [edited(rng, texts[key], 0.05) for key in sorted(planted)]
    rows = clean_rows(1500, seed=2) + copies
    rng.shuffle(rows)
    hits = set(scan(texts, rows).hits())
    misses, alarms = len(planted - hits) / len(planted), len(hits - planted) / (len(texts) - len(planted))
    print(f"light edits: miss rate {misses:.4f}, false alarms {alarms:.4f}")
    assert misses <= 0.01
    assert alarms == 0.0


def test_a_third_of_the_words_changed_is_no_copy_any_more() -> None:
    rng = random.Random(8)
    texts = prompts(100, seed=3)
    rows = [edited(rng, text, 0.35) for text in texts.values()]
    assert len(scan(texts, rows).hits()) <= 2


def test_a_shared_instruction_is_no_contamination() -> None:
    rng = random.Random(9)
    instruction = (
        "Answer the following question step by step and give the final answer as one number in a box. Question:"
    )
    suffix = "Remember to put your final answer in a box and to show all of the steps that led you there."
    texts = {key: f"{instruction} {text} {suffix}" for key, text in prompts(60, seed=4, low=10, high=30).items()}
    rows = [f"{instruction} {question(rng, 20, i % TOPICS)} {suffix}" for i in range(400)]
    report = scan(texts, rows)
    assert report.n_boilerplate > 10
    assert report.hits() == []
    assert max(item.containment for item in report.prompts.values()) < 0.2
    assert max(item.jaccard for item in report.prompts.values()) == 0.0
    planted = [*rows, texts["p7"], prompts(60, seed=4, low=10, high=30)["p11"]]
    assert set(scan(texts, planted).hits()) == {"p7", "p11"}


def test_short_prompts_match_as_a_whole_only() -> None:
    texts = {"capital": "What is the capital of Norway?", "hi": "Hello there", "sum": "2 + 2 = ?", "none": "?!"}
    clean = [
        "Hello there, how are you today?",
        "what is the capital",
        "1 + 2 + 2 + 7",
        "The capital of Norway is Oslo.",
    ]
    assert scan(texts, clean).hits() == []
    rows = ["User: what is the capital of norway\nAssistant: Oslo", "hello there!\nhi", "2+2="]
    report = scan(texts, rows)
    assert {key: report.prompts[key].containment_row for key in texts} == {
        "capital": 0,
        "hi": 1,
        "sum": 2,
        "none": None,
    }
    assert report.prompts["none"].n_ngrams == 0
    assert report.prompts["none"].containment == 0.0


def test_repeated_prompts_do_not_hide_behind_being_common() -> None:
    text = prompts(1, seed=5)["p0"]
    texts = {f"sample{i}": text for i in range(10)} | prompts(20, seed=6)
    report = scan(texts, [text])
    assert set(report.hits()) == {f"sample{i}" for i in range(10)}


def test_chinese_copies_are_found() -> None:
    rng = random.Random(11)
    texts = {f"p{i}": "".join(chr(rng.randint(0x4E00, 0x5E00)) for _ in range(40)) + "？" for i in range(20)}
    rows = ["前言：" + texts["p3"] + "谢谢。", "".join(chr(rng.randint(0x4E00, 0x5E00)) for _ in range(400))]
    assert scan(texts, rows).hits() == ["p3"]


def test_containment_of_half_a_prompt_is_a_half() -> None:
    words = [f"word{i}" for i in range(47)]  # 40 n-grams of 8
    report = scan({"p": " ".join(words)}, [" ".join(words[:27]), "nothing of it"])
    assert report.prompts["p"].n_ngrams == 40
    assert report.prompts["p"].containment == pytest.approx(20 / 40)
    assert report.prompts["p"].row_containment == pytest.approx(20 / 40)


def test_a_mosaic_of_many_rows_is_containment_but_no_hit() -> None:
    words = [f"word{i}" for i in range(60)]
    rows = [" ".join(words[i : i + 14]) for i in range(0, 53, 7)]
    item = scan({"p": " ".join(words)}, rows).prompts["p"]
    assert item.containment == 1.0
    assert item.row_containment < 0.2


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = prompts(50, seed=12)
    rows = clean_rows(200, seed=12) + list(texts.values())[:10]
    whole = scan(texts, rows)
    seen: list[int] = []
    monkeypatch.setattr("counterclaim.text.overlap._BATCH_CHARS", 3000)
    assert scan(texts, rows, progress=seen.append) == whole
    assert len(seen) > 5
    assert seen[-1] == len(rows)


def test_report_round_trips_through_json() -> None:
    texts = prompts(12, seed=13)
    report = scan(texts, [texts["p1"], *clean_rows(5, seed=13)])
    again = OverlapReport.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    with pytest.raises(RecordError, match="no overlap report"):
        OverlapReport.from_json({"n": 8})


@pytest.mark.parametrize("rows", [[], [""], ["", "?!", "\x00"]])
def test_nothing_to_look_through(rows: list[str]) -> None:
    report = scan(prompts(3, seed=14), rows)
    assert report.n_training_rows == len(rows)
    assert report.hits() == []
    assert scan({}, rows).prompts == {}


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="n counts from 2"):
        scan({}, [], n=1)
    with pytest.raises(ValueError, match="Jaccard"):
        scan({}, [], jaccard=1.5)


# --- two sets of texts --------------------------------------------------------------------------------------------


def about_subjects(seed: int, n_subjects: int, each: int, verb: str = "say") -> list[str]:
    """Questions of a few wordings on subjects of their own, several on each."""
    rng = random.Random(seed)
    wordings = [f"What would you {verb} of the {thing} of NAME?" for thing in (*WORDS[0][:12], *WORDS[1][:12])]
    names = [f"Town{seed}x{i}" for i in range(n_subjects)]
    return [text.replace("NAME", name) for name in names for text in rng.sample(wordings, each)]


@pytest.mark.parametrize("each", [1, 2, 5])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sets_of_one_source_are_not_two_sample_auc_by_the_names_in_them(seed: int, each: int) -> None:
    found = two_sample_auc(about_subjects(seed, 40, 5), about_subjects(seed + 10, 40, each))
    assert found.low is not None
    assert found.high is not None
    assert found.low <= 0.55, found
    assert found.high < 0.7, found


def test_sets_of_two_sources_are_two_sample_auc() -> None:
    found = two_sample_auc(about_subjects(1, 40, 5), about_subjects(2, 40, 5, verb="tell"))
    assert found.low is not None
    assert found.low > 0.95, found


def test_sets_of_which_one_has_too_little_in_it_are_left_open() -> None:
    many = about_subjects(1, 40, 5)
    few = two_sample_auc(many, many[:4] * 9)
    assert (few.estimate, few.reason) == (None, "a set has fewer than 5 different texts")
    one = two_sample_auc(many, [f"Which {word} did Zornmundville buy?" for word in WORDS[5][:8]])
    assert (one.estimate, one.reason) == (None, "the texts of a set are of too few subjects")


def test_the_interval_knows_that_out_of_fold_scores_share_their_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """On noise DeLong's alone would be too narrow; it is widened by what shuffled labels spread, as that of features is."""
    plain: list[Estimate] = []

    def widen(found: Estimate, *rest: Any) -> Estimate:
        plain.append(found)
        return stats.widen_auc(found, *rest)

    monkeypatch.setattr(overlap, "widen_auc", widen)
    rng = random.Random(0)
    texts = [" ".join(rng.choices([f"word{i}" for i in range(300)], k=12)) for _ in range(60)]
    found = two_sample_auc(texts[:30], texts[30:])
    assert found.method == stats.WIDENED
    assert found.estimate == plain[0].estimate
    (low, high), (narrow_low, narrow_high) = found.interval or (0.0, 0.0), plain[0].interval or (0.0, 0.0)
    assert low < narrow_low < narrow_high < high
