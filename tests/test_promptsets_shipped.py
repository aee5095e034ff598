"""The sets that ship: complete, clean, split without leaks, and not told apart by their lengths."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from counterclaim.errors import InputError
from counterclaim.lab import prompts as promptsets
from counterclaim.lab.scorers.oracles import read_exact
from counterclaim.records import Prompt, prompt_id
from counterclaim.text.overlap import scan

DATA = Path(promptsets.__file__).parent / "data"
CONTENT = ("cooking", "mcas", "recovery")
TRAPS = ("trap:calibration", "trap:false-premise", "trap:underspecified")
HARMLESS_SHARE = 0.5  # of a prompt's words and word pairs: the same question in other words shares more


def tagged(prompt: Prompt, prefix: str) -> list[str]:
    return [tag for tag in prompt.tags if tag.startswith(prefix)]


def own_id(prompt: Prompt) -> str:
    return tagged(prompt, "source-id:")[0]


def texts_of(prompt: Prompt) -> list[str]:
    """The prompt and every text of its gold."""
    texts = [prompt.text]
    for value in prompt.gold.values():
        texts += value if isinstance(value, list) else [value]
    return texts


def answers_of(prompt: Prompt) -> list[str]:
    answer = prompt.gold.get("answer", [])
    return [answer] if isinstance(answer, str) else answer


def faults_of_text(text: str, *, sentence: bool = True) -> list[str]:
    found = {
        "not NFC": unicodedata.normalize("NFC", text) != text,
        "double space": "  " in text,
        "outer space": text != text.strip(),
        "no ordinary characters": not re.fullmatch(r"[ -~°]*", text),
        "no end": sentence and not text.endswith((".", "?", "!")),
        "space before a mark": bool(re.search(r" [,;:?!]| \.(?!\.)", text)),
        "small first letter": sentence and text[:1].islower(),
        "word twice": bool(re.search(r"\b(\w+) \1\b", text, re.IGNORECASE)),
    }
    return [name for name, is_so in found.items() if is_so]


def leaks(prompts: Iterable[Prompt]) -> list[str]:
    """Ids of test and fresh prompts that train holds, and of fresh prompts that test holds, in nearly the same words."""
    prompts = tuple(prompts)
    seen: list[str] = []
    found: list[str] = []
    for split in ("train", "test", "fresh"):
        mine = {own_id(prompt): prompt.text for prompt in prompts if prompt.split == split}
        found += scan(mine, seen, n=5, jaccard=HARMLESS_SHARE).hits(containment=0.4) if seen else []
        seen += mine.values()
    return found


def auc_of_length(inside: Sequence[Prompt], outside: Sequence[Prompt], length: Callable[[str], int]) -> float:
    labels = [1] * len(inside) + [0] * len(outside)
    return float(roc_auc_score(labels, [length(prompt.text) for prompt in (*inside, *outside)]))


def auc_of_words(inside: Sequence[Prompt], outside: Sequence[Prompt]) -> float:
    """AUC of a bag-of-words classifier on prompts that it has not seen (five folds)."""
    labels = [1] * len(inside) + [0] * len(outside)
    counts = CountVectorizer().fit_transform([prompt.text for prompt in (*inside, *outside)])
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(LogisticRegression(max_iter=1000), counts, labels, cv=folds, method="decision_function")
    return float(roc_auc_score(labels, scores))


def words(text: str) -> int:
    return len(text.split())


def test_every_set_has_its_file_and_every_file_its_set() -> None:
    assert {file.stem for file in DATA.glob("*.jsonl")} == set(promptsets.SETS)
    assert all(about.endswith(".") for about in promptsets.SETS.values())
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in readme for name in promptsets.SETS)


@pytest.mark.parametrize("name", promptsets.SETS)
def test_the_readme_counts_what_is_there(name: str) -> None:
    row = re.search(
        rf"^\| `{name}` \| (\d+) \| (\d+) \| (\d+) \|", (DATA / "README.md").read_text("utf-8"), re.MULTILINE
    )
    assert row is not None
    splits = Counter(prompt.split for prompt in promptsets.shipped(name))
    assert tuple(map(int, row.groups())) == (splits["train"], splits["test"], splits["fresh"])


def test_splits_and_kinds_have_their_sizes() -> None:
    mcas = promptsets.shipped("mcas")
    counts = Counter((prompt.split, *tagged(prompt, "kind:")) for prompt in mcas)
    for kind in ("kind:tricky", "kind:straightforward"):
        assert [counts[split, kind] for split in ("train", "test", "fresh")] == [20, 30, 16]
    assert sum(counts.values()) == len(mcas) == 132
    cooking = Counter(prompt.split for prompt in promptsets.shipped("cooking"))
    assert [cooking[split] for split in ("train", "test", "fresh")] == [12, 24, 12]
    assert len(promptsets.shipped("recovery")) == 32


def test_traps_are_balanced_in_every_split() -> None:
    for split in ("train", "test", "fresh"):
        traps = Counter(trap for p in promptsets.shipped("mcas", split) for trap in tagged(p, "trap:"))
        assert set(traps) == set(TRAPS)
        assert max(traps.values()) - min(traps.values()) <= 1
    for prompt in promptsets.shipped("mcas"):
        assert len(tagged(prompt, "trap:")) == ("kind:tricky" in prompt.tags)


def test_fresh_asks_about_other_domains_and_techniques() -> None:
    for name, prefix in (("mcas", "domain:"), ("cooking", "technique:")):
        of_split = {
            split: {
                tag for prompt in promptsets.shipped(name) if prompt.split == split for tag in tagged(prompt, prefix)
            }
            for split in ("train", "test", "fresh")
        }
        assert not of_split["fresh"] & (of_split["train"] | of_split["test"])
        assert all(len(tagged(prompt, prefix)) == 1 for prompt in promptsets.shipped(name))


def test_every_prompt_has_the_gold_of_its_set() -> None:
    for prompt in promptsets.shipped("mcas"):
        wanted = {"why", "answer"} if "kind:straightforward" in prompt.tags else {"why"}
        assert set(prompt.gold) == wanted
    for prompt in promptsets.shipped("recovery"):
        assert set(prompt.gold) == {"answer"}
    for prompt in promptsets.shipped("cooking"):
        assert set(prompt.gold) == {"checklist"}
        claims = prompt.gold["checklist"]
        assert 3 <= len(claims) <= 5, own_id(prompt)
        assert len(set(claims)) == len(claims)
        for claim in claims:
            assert claim.rstrip(".").lower() not in prompt.text.lower()
            assert claim.count(". ") == 0, "one claim is one sentence"
            assert 4 <= words(claim) <= 20, claim


def test_no_prompt_gives_its_answer_away() -> None:
    for name in ("mcas", "recovery"):
        for prompt in promptsets.shipped(name):
            chosen_from = own_id(prompt) == "source-id:mcas/opposite-of-ancient"
            for answer in answers_of(prompt):
                given = re.search(rf"\b{re.escape(answer)}\b", prompt.text, re.IGNORECASE)
                assert not given or chosen_from, own_id(prompt)


@pytest.mark.parametrize("name", CONTENT)
def test_texts_are_clean(name: str) -> None:
    for prompt in promptsets.shipped(name):
        for text in texts_of(prompt):
            assert not faults_of_text(text, sentence=text not in answers_of(prompt)), text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Cafe\u0301 or tea?", "not NFC"), ("Two  spaces?", "double space"), ("Ends in space? ", "outer space"),
        ("A “curly” quote?", "no ordinary characters"), ("Without an end", "no end"), ("A gap , here.", "space before a mark"),
        ("small start.", "small first letter"), ("Is the the word double?", "word twice"),
    ],
)  # fmt: skip
def test_a_fault_in_a_text_is_seen(text: str, fault: str) -> None:
    assert fault in faults_of_text(text)


def test_ids_and_prompts_are_unique_over_sets_and_splits() -> None:
    every = [prompt for name in CONTENT for prompt in promptsets.shipped(name)]
    assert len({prompt.id for prompt in every}) == len({own_id(prompt) for prompt in every}) == len(every)
    for prompt in every:
        assert prompt.id == prompt_id(prompt.messages)
        assert re.fullmatch(r"source-id:(cooking|mcas|recovery)/[a-z0-9-]+", own_id(prompt))


def test_no_prompt_is_asked_again_in_another_split() -> None:
    every = [prompt for name in promptsets.SETS for prompt in promptsets.shipped(name)]
    assert len({prompt.id for prompt in every}) == len(every)
    assert leaks(every) == []


def test_a_prompt_asked_again_in_another_split_is_seen() -> None:
    every = [prompt for name in CONTENT for prompt in promptsets.shipped(name)]
    victim = next(prompt for prompt in every if prompt.split == "train")
    copies = (victim.text, victim.text.replace(" my ", " our "), victim.text.replace(" to ", " for ").upper())
    for copy in copies:
        planted = Prompt.of_text(copy, split="fresh", tags=("source-id:planted",))
        assert leaks([*every, planted]) == ["source-id:planted"]


@pytest.mark.parametrize("length", [len, words])
def test_length_does_not_tell_kinds_or_splits_apart(length: Callable[[str], int]) -> None:
    """Chance is 0.5; a rule that asks for the longer prompt gets at most three of four pairs right."""
    kinds = [promptsets.shipped("mcas", tags=[f"kind:{kind}"]) for kind in ("tricky", "straightforward")]
    assert abs(auc_of_length(*kinds, length) - 0.5) < 0.1
    for split in ("train", "test", "fresh"):
        tricky, plain = ([p for p in kind if p.split == split] for kind in kinds)
        assert abs(auc_of_length(tricky, plain, length) - 0.5) < 0.2
    for name in ("mcas", "cooking"):
        fresh, test = promptsets.shipped(name, "fresh"), promptsets.shipped(name, "test")
        assert abs(auc_of_length(fresh, test, length) - 0.5) < 0.25


def test_words_tell_fresh_from_test_and_say_little_of_kinds() -> None:
    for name in ("mcas", "cooking"):
        assert auc_of_words(promptsets.shipped(name, "fresh"), promptsets.shipped(name, "test")) > 0.8
        assert auc_of_words(promptsets.shipped(name, "test"), promptsets.shipped(name, "train")) < 0.6
    kinds = [promptsets.shipped("mcas", tags=[f"kind:{kind}"]) for kind in ("tricky", "straightforward")]
    assert auc_of_words(*kinds) < 0.75


def test_prompts_of_unlike_length_are_told_apart() -> None:
    short = [Prompt.of_text("Why?" * i) for i in range(1, 5)]
    long = [Prompt.of_text("Why is it so? " * i) for i in range(3, 7)]
    assert auc_of_length(long, short, len) > 0.9


def test_a_set_is_cut_by_split_and_tags() -> None:
    tricky = promptsets.shipped("mcas", "test", ["kind:tricky", "trap:false-premise"])
    assert len(tricky) == 10
    assert all(prompt.split == "test" and "trap:false-premise" in prompt.tags for prompt in tricky)
    assert promptsets.shipped("mcas") == promptsets.shipped("mcas", None, ())


def test_wrong_names_are_refused_with_the_right_ones() -> None:
    with pytest.raises(InputError, match="'mcass' ships with the package; did you mean 'mcas'"):
        promptsets.shipped("mcass")
    with pytest.raises(InputError, match="no split 'validation'; choose among train, dev, test, fresh"):
        promptsets.shipped("mcas", "validation")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no prompt is in the split 'dev'; there are prompts in train, test, fresh"):
        promptsets.shipped("mcas", "dev")
    with pytest.raises(InputError, match=r"has the tags kind:easy; its tags are domain:astronomy, .*kind:tricky"):
        promptsets.shipped("mcas", tags=["kind:easy"])


def test_the_exact_oracle_reads_every_short_answer_and_no_shrug() -> None:
    for prompt in promptsets.shipped("recovery"):
        for answer in answers_of(prompt):
            assert read_exact(prompt, f"I worked it out, and I get {answer}.")[0], own_id(prompt)
        assert not read_exact(prompt, "I am sorry, I do not know.")[0]
