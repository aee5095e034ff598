"""Do test prompts, or near copies of them, occur in training data?

Two questions per prompt, over training rows that are streamed once:

* *containment*: the share of the prompt's word n-grams that occur anywhere in the training data. It catches
  verbatim copies, copies inside longer texts, and copies with other case or punctuation (words are normalised).
* *near-duplicate Jaccard*: the similarity of the prompt and the most similar single training row, over their
  words and word pairs (Broder 1997). It catches rows with every tenth or twentieth word changed, which break
  n-grams. Candidates come from MinHash LSH; the similarity reported is exact.

What many prompts share (an instruction prefix, a template) says nothing about one of them, and is left out.

And one question per set (``two_sample_auc``): can a classifier tell these texts from those?
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from counterclaim.errors import RecordError
from counterclaim.records import Estimate, Json
from counterclaim.stats import WIDENED, auc, delong, widen_auc
from counterclaim.text import HashedWords, Hashes, Numbers, hash_words, words_of

MOST_TEXTS = 1_000
"""Texts of one set that are looked at to tell two sets apart."""
FOLDS = 5
SHUFFLES = 50
"""Label shuffles whose AUCs say how far chance moves that of two sets: their standard deviation is known to a tenth."""
_ONE_SUBJECT, _ONE_SUBJECT_SHARE = 10, 0.05
# At most this number of texts, or this share of the smaller set, are of one subject because they share a word.

_BATCH_CHARS = 1 << 20  # texts hashed at once: larger batches fall out of the processor's cache
_COMMON_SHARE = 0.02  # an n-gram in this share of the prompts (at least 3 of them) is boilerplate
_COMMON_LEAST = 3
_FEW = 4  # own n-grams
_PHRASE = 5  # words; shorter prompts must be a whole line of a row, longer ones may stand inside a line
_PERMUTATIONS = 128
_LSH_SLACK = 0.75  # the LSH threshold as a share of the wanted Jaccard: misses at that Jaccard are then < 1e-3
_FILTER_BITS = 22
_FILTER_SLACK = 0.6
_LEAST_SHINGLES = 5


@dataclass(frozen=True, slots=True)
class PromptOverlap:
    """What the training data holds of one prompt.

    Attributes:
        containment: share (0-1) of the prompt's n-grams found anywhere in the training data; for a prompt of
            fewer than n words, 1 if the whole prompt was found and 0 if not; 0 for a prompt without words.
        containment_row: 0-based training row that holds the most of them, None if no row holds any.
        row_containment: the share that this one row holds.
        jaccard: exact Jaccard similarity (0-1) with the most similar training row among those that reach the
            threshold; 0 where none does.
        jaccard_row: that row, None where none reaches the threshold.
        n_ngrams: how many n-grams the prompt has, boilerplate left out.
        thin: whether leaving out boilerplate left so few n-grams that finding them says little: two questions made
            from one template may share them. Only near-duplication counts for such a prompt.
    """

    containment: float = 0.0
    containment_row: int | None = None
    row_containment: float = 0.0
    jaccard: float = 0.0
    jaccard_row: int | None = None
    n_ngrams: int = 0
    thin: bool = False


@dataclass(frozen=True, slots=True)
class OverlapReport:
    """Overlap of a set of prompts with training data.

    Attributes:
        n_training_rows: how many training rows were read.
        n: words per n-gram.
        jaccard: the near-duplicate threshold that was used.
        n_boilerplate: distinct n-grams left out because many prompts share them.
        prompts: what was found, for every prompt id.
    """

    n_training_rows: int
    n: int
    jaccard: float
    n_boilerplate: int
    prompts: Mapping[str, PromptOverlap]

    def hits(self, containment: float = 0.5) -> list[str]:
        """Ids of contaminated prompts, the worst first.

        A prompt counts if one training row alone holds ``containment`` of its n-grams, or is a near-duplicate.
        Half of the 8-grams in one row is never chance; a mosaic of many rows can be.
        """
        found = {
            key: max(item.row_containment, item.jaccard)
            for key, item in self.prompts.items()
            if (item.row_containment >= containment and not item.thin) or item.jaccard >= self.jaccard
        }
        return sorted(found, key=lambda key: (-found[key], key))

    def to_json(self) -> dict[str, Json]:
        """Plain JSON, the inverse of ``from_json``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """A report from ``to_json``'s output. Raises RecordError if a key is missing or unknown."""
        try:
            prompts = {key: PromptOverlap(**item) for key, item in value["prompts"].items()}
            return cls(**{**value, "prompts": prompts})
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"this is no overlap report: {error}") from error


def scan(
    prompts: Mapping[str, str],
    training_texts: Iterable[str],
    *,
    n: int = 8,
    jaccard: float = 0.8,
    progress: Callable[[int], None] | None = None,
) -> OverlapReport:
    """Look for prompts in training data.

    Memory is bounded by the prompts and one batch of rows (about 1 MB of text, or one longer row), whatever the
    number of rows; the training data is read once, as a stream. Measured with 1,000 prompts and 300,000 rows of
    1 kB on two cores shared with other work: 8,300 rows a second (two minutes for a million), 205 MB at the peak.

    Args:
        prompts: prompt text by id.
        training_texts: one text per training row; row numbers count from 0.
        n: words per n-gram. Eight words rarely repeat by chance (unlike 4-5), and one changed word in sixteen
            still leaves about half of the n-grams (unlike 13, which needs thirteen words unchanged in a row).
        jaccard: Jaccard similarity from which a row is a near-duplicate.
        progress: called with the number of rows read after every batch.

    Raises:
        ValueError: if n is below 2 or jaccard is not within (0, 1].
    """
    if n < 2:
        raise ValueError("n counts from 2")
    if not 0 < jaccard <= 1:
        raise ValueError("a Jaccard threshold lies in (0, 1]")
    grams = _GramIndex(prompts, n)
    twins = _TwinIndex(prompts, jaccard)
    n_rows = 0
    for batch in _batches(training_texts):
        words = hash_words(batch)
        grams.look(words, n_rows)
        twins.look(words, n_rows)
        n_rows += len(batch)
        if progress is not None:
            progress(n_rows)
    found = {key: grams.found(i) | twins.found(i) for i, key in enumerate(prompts)}
    return OverlapReport(
        n_rows, n, jaccard, grams.n_boilerplate, {key: PromptOverlap(**item) for key, item in found.items()}
    )


def two_sample_auc(a: Sequence[str], b: Sequence[str], level: float = 0.95) -> Estimate:
    """How well a classifier tells two sets of texts apart: a two-sample test (Lopez-Paz and Oquab 2017).

    Cross-validated AUC of a linear classifier on hashed words and word pairs, 0.5 where the texts could be of one source, 1
    where each shows its set. It knows words and not what they mean, so an AUC near 0.5 says that the same things are said in
    the same words, and one near 1 may be another topic as well as another style.

    Its interval is DeLong's, widened by what out-of-fold scores share (``stats.widen_auc``). On noise, two sets of 30 texts
    of 12 words drawn from 300, it covers 0.5 in 97 % of 200 draws, and DeLong's alone in
    89.5 % (``python scripts/measure_text_shift.py --draws 200``).

    Texts on one subject stay in one fold, because a name that several of them share gives their set away and says nothing of
    the next subject: with five questions on each of 40 places a side, of the same wordings, the AUC would be 0.99. Two
    texts are taken for one subject where the rarest word that each shares with others is the same.

    Args:
        a: texts of the first set; equal ones count once, and of more than ``MOST_TEXTS`` some are drawn.
        b: texts of the second set, likewise; a text from it should score higher.
        level: of the interval.

    Returns:
        The AUC; undefined where a set has fewer than ``FOLDS`` different texts, or they are of too few subjects.
    """
    from sklearn import config_context
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold

    random = np.random.default_rng(0)

    def some(texts: Sequence[str]) -> list[str]:
        unique = sorted(set(texts))
        if len(unique) <= MOST_TEXTS:
            return unique
        return [unique[i] for i in sorted(random.choice(len(unique), MOST_TEXTS, replace=False))]

    first, second = some(a), some(b)
    texts, smaller = [*first, *second], min(len(first), len(second))
    n, method = len(texts), WIDENED
    if smaller < FOLDS:
        return Estimate.undefined(f"a set has fewer than {FOLDS} different texts", n=n, level=level, method=method)
    labels = np.array([0] * len(first) + [1] * len(second))
    subjects = _subjects(texts, max(_ONE_SUBJECT, int(_ONE_SUBJECT_SHARE * smaller)))
    folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(texts, labels, subjects))
    if any(len(set(labels[rest])) < 2 for rest, _ in folds):
        return Estimate.undefined("the texts of a set are of too few subjects", n=n, level=level, method=method)
    features = HashingVectorizer(n_features=2**14, ngram_range=(1, 2)).transform(texts)
    features = features[:, np.unique(features.indices)]  # columns without a word cost time, and change nothing
    # the dual solver works on the few rows instead of the many columns: 70 times faster at 600 prompts
    model = LogisticRegression(
        C=10.0, max_iter=1_000, class_weight="balanced", solver="liblinear", dual=True, random_state=0
    )

    def scores_of(marks: Numbers) -> NDArray[np.float64]:
        """Out-of-fold decision values (n,)."""
        out = np.empty(n)
        for rest, held_out in folds:
            out[held_out] = model.fit(features[rest], marks[rest]).decision_function(features[held_out])
        return out

    fold = np.empty(n, np.int64)
    for at, (_, held_out) in enumerate(folds):
        fold[held_out] = at
    with config_context(assume_finite=True, skip_parameter_validation=True):  # which take longer than these fits
        null = [auc(scores_of(marks), marks == 1) for marks in _shuffles(labels, fold, subjects)]
    plain = delong(scores_of(labels), labels == 1, level)
    assert plain.estimate is not None
    return widen_auc(plain, plain.estimate, float(np.std(np.array(null, float))), len(second), len(first))


def _shuffles(labels: Numbers, fold: Numbers, subjects: Sequence[str]) -> Iterator[Numbers]:
    """Labels (n,) dealt anew among subjects of one fold that have equally many texts: folds keep their class counts."""
    rows: dict[str, list[int]] = {}
    for row, subject in enumerate(subjects):
        rows.setdefault(subject, []).append(row)
    alike: dict[tuple[int, int], list[list[int]]] = {}
    for of_subject in rows.values():
        alike.setdefault((int(fold[of_subject[0]]), len(of_subject)), []).append(of_subject)
    random = np.random.default_rng(1)
    blocks = [np.array(block) for block in alike.values()]
    for _ in range(SHUFFLES):
        out = labels.copy()
        for block in blocks:
            out[block] = labels[random.permutation(block)]
        yield out


def _subjects(texts: Sequence[str], most: int) -> list[str]:
    """What each text is about: its rarest word that another has too, and no more than ``most`` have; else the text itself."""
    vocabularies = [set(words_of(text)) for text in texts]
    spread = Counter(word for words in vocabularies for word in words)
    shared = [[word for word in words if 2 <= spread[word] <= most] for words in vocabularies]
    return [
        min(words, key=lambda word: (spread[word], -len(word), word)) if words else f"text {i}"
        for i, words in enumerate(shared)
    ]


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_CHARS:
            yield batch
            batch, size = [], 0
    yield from [batch] if batch else []


class _HashFilter:
    """A bitmap that lets through every wanted hash and few others: one look-up instead of a binary search."""

    def __init__(self, wanted: Hashes) -> None:
        """``wanted``: sorted, distinct."""
        self.wanted = wanted
        self._bits = np.zeros(1 << _FILTER_BITS, bool)
        self._bits[self._slot(wanted)] = True

    def positions(self, hashes: Hashes) -> Numbers:
        """Indices into ``hashes`` that are wanted, increasing."""
        maybe: Numbers = np.flatnonzero(self._bits[self._slot(hashes)])
        return maybe[self.wanted[self.indices(hashes[maybe])] == hashes[maybe]] if len(maybe) else maybe

    def indices(self, hashes: Hashes) -> Numbers:
        """Where each hash is, or would be, among the wanted ones."""
        return np.minimum(np.searchsorted(self.wanted, hashes), len(self.wanted) - 1)

    @staticmethod
    def _slot(hashes: Hashes) -> Hashes:
        return hashes >> np.uint64(64 - _FILTER_BITS)


class _GramIndex:
    """N-grams of the prompts, and which of them were seen where."""

    def __init__(self, prompts: Mapping[str, str], n: int) -> None:
        self.n = n
        words = hash_words(prompts.values())
        count = len(prompts)
        sizes = np.bincount(words.row, minlength=count)
        sets, self._thin, self.n_boilerplate = _own_ngrams(words, count, n)
        self._of_size: dict[int, tuple[_HashFilter, Numbers, Numbers]] = {}
        starts = np.concatenate([[0], np.cumsum(sizes)])
        by_size: dict[int, list[tuple[int, Hashes]]] = {}
        for i, own in enumerate(sets):
            size = min(int(sizes[i]), n)
            if 0 < size < n:  # the whole text is its one n-gram
                whole = words.hashes[starts[i] : starts[i + 1]]
                own = HashedWords(whole, np.zeros(size, np.int64), np.zeros(size, np.int64)).ngrams(size)[0]
            if size:
                by_size.setdefault(size, []).append((i, own))
        for size, members in by_size.items():
            hashes = np.concatenate([own for _, own in members])
            owners = np.repeat([i for i, _ in members], [len(own) for _, own in members])
            order = np.argsort(hashes, kind="stable")
            distinct, first = np.unique(hashes[order], return_index=True)
            # owners[first[k]:first[k + 1]] are the prompts that hold the distinct n-gram k.
            self._of_size[size] = (_HashFilter(distinct), owners[order], np.append(first, len(hashes)))
        self._seen = {size: np.zeros(len(index[0].wanted), bool) for size, index in self._of_size.items()}
        self._total = np.zeros(count, np.int64)
        for _, owners, _ in self._of_size.values():
            self._total += np.bincount(owners, minlength=count)
        self._best = np.zeros(count, np.int64)
        self._best_row = np.full(count, -1, np.int64)
        self._contained: Numbers | None = None

    def look(self, words: HashedWords, first_row: int) -> None:
        """Take in a batch of training rows."""
        for size, (index, owners, bounds) in self._of_size.items():
            hashes, start = words.ngrams(size)
            hit = index.positions(hashes)
            if size < _PHRASE and len(hit):
                hit = hit[_whole_lines(words.line, start[hit], size)]
            if not len(hit):
                continue
            # Each n-gram counts once per row, for every prompt that holds it.
            pairs = np.unique(np.stack([words.row[start[hit]], index.indices(hashes[hit])]), axis=1)
            rows, grams = pairs[0], pairs[1]
            self._seen[size][grams] = True
            repeats = bounds[grams + 1] - bounds[grams]
            offsets = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            holders = owners[np.repeat(bounds[grams], repeats) + offsets]
            both, count = np.unique(np.stack([np.repeat(rows, repeats), holders]), axis=1, return_counts=True)
            for row, owner, n in zip(both[0], both[1], count, strict=True):
                if n > self._best[owner]:
                    self._best[owner], self._best_row[owner] = n, first_row + row

    def found(self, i: int) -> dict[str, Json]:
        """Containment of prompt ``i``."""
        if self._contained is None:
            self._contained = np.zeros(len(self._total), np.int64)
            for size, (_, owners, bounds) in self._of_size.items():
                seen = np.repeat(self._seen[size], np.diff(bounds))
                self._contained += np.bincount(owners[seen], minlength=len(self._total))
        total = max(int(self._total[i]), 1)
        return {
            "containment": int(self._contained[i]) / total,
            "containment_row": None if self._best_row[i] < 0 else int(self._best_row[i]),
            "row_containment": int(self._best[i]) / total,
            "n_ngrams": int(self._total[i]),
            "thin": self._thin[i],
        }


def _own_ngrams(words: HashedWords, count: int, n: int) -> tuple[list[Hashes], list[bool], int]:
    """Distinct n-grams of each text that are its own, whether few are left, and how many were left out as boilerplate.

    An n-gram is boilerplate if many texts share it, or if any of its words stands in such an n-gram: the last
    words of a shared prefix with the first of a question are weak evidence. A text that would be left with nothing
    keeps the latter, or else all it has.
    """
    hashes, start = words.ngrams(n)
    row = words.row[start]
    common = _common(hashes, row, count)
    shared = np.isin(hashes, common)
    covered = np.zeros(len(words.hashes) + 1, np.int64)
    np.add.at(covered, start[shared], 1)
    np.add.at(covered, start[shared] + n, -1)
    inside = np.concatenate([[0], np.cumsum(np.cumsum(covered)[:-1] > 0)])
    pure = inside[start + n] == inside[start]
    bounds = np.searchsorted(row, np.arange(count + 1))
    sets, thin = [], []
    for low, high in itertools.pairwise(bounds):
        mine = hashes[low:high]
        choices = (mine[pure[low:high]], mine[~shared[low:high]], mine)
        own = np.unique(next((choice for choice in choices if len(choice)), mine))
        sets.append(own)
        thin.append(len(own) < _FEW and bool(shared[low:high].any()))
    return sets, thin, len(common)


def _common(hashes: Hashes, row: Numbers, count: int) -> Hashes:
    """Hashes that occur in many of ``count`` texts; texts that are equal as a whole count once. Sorted."""
    bounds = np.searchsorted(row, np.arange(count + 1))
    distinct: dict[bytes, Hashes] = {}
    for low, high in itertools.pairwise(bounds):
        distinct.setdefault(hashes[low:high].tobytes(), np.unique(hashes[low:high]))
    least = max(_COMMON_LEAST, math.ceil(_COMMON_SHARE * len(distinct)))
    values, texts = np.unique(np.concatenate([*distinct.values(), hashes[:0]]), return_counts=True)
    return values[texts >= least]


def _whole_lines(line: Numbers, start: Numbers, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which runs of ``size`` words from ``start`` fill one line."""
    end = start + size - 1
    padded = np.concatenate([[-1], line, [-1]])  # word i is padded[i + 1]
    one = line[start] == line[end]
    fills: np.ndarray[Any, np.dtype[np.bool_]] = one & (padded[start] != line[start]) & (padded[end + 2] != line[end])
    return fills


class _TwinIndex:
    """Near-duplicates of prompts among training rows, by words and word pairs."""

    def __init__(self, prompts: Mapping[str, str], threshold: float) -> None:
        from datasketch import MinHashLSH

        self._threshold = threshold
        words = hash_words(prompts.values())
        count = len(prompts)
        pairs, start = words.ngrams(2)
        both = np.unique(np.stack([pairs, words.row[start].astype(np.uint64)]), axis=1)[0]
        values, texts = np.unique(both, return_counts=True)
        self._common = _HashFilter(values[texts > max(_COMMON_LEAST - 1, 0.2 * count)])
        self._lsh = MinHashLSH(threshold=max(0.1, _LSH_SLACK * threshold), num_perm=_PERMUTATIONS)
        self._sets: list[Hashes] = []
        shingles, row = self._shingles(words, pairs, start)
        bounds = np.searchsorted(row, np.arange(count + 1))
        for i, (low, high) in enumerate(itertools.pairwise(bounds)):
            own = np.unique(shingles[low:high])
            # Twins of one or two words are no evidence: too many rows are equal to them by chance.
            self._sets.append(own if len(own) >= _LEAST_SHINGLES else own[:0])
            if len(self._sets[-1]):
                self._lsh.insert(i, _minhash(self._sets[-1]))
        self._vocabulary = _HashFilter(np.unique(np.concatenate([*self._sets, shingles[:0]])))
        self._best = np.zeros(count)
        self._best_row = np.full(count, -1, np.int64)

    def look(self, words: HashedWords, first_row: int) -> None:
        """Take in a batch of training rows."""
        if not len(words.hashes) or not len(self._vocabulary.wanted):
            return
        pairs, start = words.ngrams(2)
        row = words.row[start]
        n_rows = int(words.row[-1]) + 1
        # |A & B| >= t |A | B| needs at least t of the row's own shingles among those of the prompts. Counted over
        # occurrences of word pairs, with slack for repeats, this sorts out nearly every row without MinHash.
        known = np.bincount(row[self._vocabulary.positions(pairs)], minlength=n_rows)
        common = np.bincount(row[self._common.positions(pairs)], minlength=n_rows)
        total = np.bincount(row, minlength=n_rows)
        survives = (known > 0) & (known >= _FILTER_SLACK * self._threshold * (total - common))
        kept = survives[words.row]
        rest = HashedWords(words.hashes[kept], words.row[kept], words.line[kept])
        shingles, row = self._shingles(rest, *rest.ngrams(2))
        for r in np.flatnonzero(survives):
            low, high = np.searchsorted(row, [r, r + 1])
            own = np.unique(shingles[low:high])
            if not len(own):
                continue
            for i in self._lsh.query(_minhash(own)):
                shared = len(np.intersect1d(own, self._sets[i], assume_unique=True))
                similarity = shared / (len(own) + len(self._sets[i]) - shared)
                if similarity >= self._threshold and similarity > self._best[i]:
                    self._best[i], self._best_row[i] = similarity, first_row + r

    def _shingles(self, words: HashedWords, pairs: Hashes, start: Numbers) -> tuple[Hashes, Numbers]:
        """Words and word pairs outside boilerplate, and their rows, sorted by row."""
        shared = np.zeros(len(pairs), bool)
        shared[self._common.positions(pairs)] = True
        inside = np.zeros(len(words.hashes), bool)
        inside[start[shared]] = inside[start[shared] + 1] = True
        shingles = np.concatenate([words.hashes[~inside], pairs[~shared]])
        row = np.concatenate([words.row[~inside], words.row[start[~shared]]])
        order = np.argsort(row, kind="stable")
        return shingles[order], row[order]

    def found(self, i: int) -> dict[str, Json]:
        """The nearest duplicate of prompt ``i``."""
        row = int(self._best_row[i])
        return {"jaccard": float(self._best[i]), "jaccard_row": None if row < 0 else row}


@cache
def _empty_sketch() -> Any:
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=int)


def _minhash(shingles: Hashes) -> Any:
    sketch = _empty_sketch().copy()  # a new one would draw its permutations again
    sketch.update_batch((shingles >> np.uint64(32)).tolist())
    return sketch
