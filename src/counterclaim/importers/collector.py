"""Rows on their way to records: identity, sample numbers, shared settings, scores and notes.

Every importer feeds one Collector; what pairing later relies on (ids by content, unique samples) is kept here once.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from counterclaim.errors import InputError
from counterclaim.importers.files import InputFile
from counterclaim.importers.values import (
    MISSING,
    as_float,
    as_name,
    finish_reason,
    is_missing,
    is_number,
    shown,
    split_system,
    truth,
)
from counterclaim.records import (
    LABELS,
    ArmId,
    Decode,
    FinishReason,
    Json,
    Message,
    ModelRef,
    Prompt,
    Provenance,
    Quote,
    Response,
    Score,
    Split,
    prompt_id,
)
from counterclaim.registry import Importer

T = TypeVar("T", Decode, ModelRef)
Key = tuple[str, int]
"""(prompt id, sample): one response of the arm that is being read."""

CORRECT_NAMES = ("exact_match", "acc", "pass@1", "pass_at_1", "accuracy", "em", "quasi_exact_match", "extractive_match")
"""Metrics that say right or wrong when all their values are 0 or 1, the most usual first."""

_NO_PROMPT = "map it with --map prompt=COLUMN, or say with --pair-by id that ids name the same question in both files"


@dataclass(frozen=True)
class ImportRequest:
    """How one file is to be read; arguments of ``load``."""

    arm: ArmId
    mapping: Mapping[str, str] = field(default_factory=dict)
    rows: str | None = None
    pair_by: Literal["prompt", "id"] = "prompt"
    replicate: str = ""
    need_pairs: bool = True


@dataclass(frozen=True)
class Source:
    """Which bytes the records came from.

    Attributes:
        path: the file, as the user named it (for a folder: the file that was taken from it).
        format: name of the importer that read it.
        sha256: of the file's bytes, 64 hex digits.
        bytes: size of the file.
        rows: rows (samples, documents) that became responses.
        created: ISO 8601 time recorded inside the file or its harness's metadata; None where there is none.
        second_answers: how many prompts of the rows the file answers once more beside them, and how many of these
            second answers differ; None where it holds none.
    """

    path: str
    format: str
    sha256: str
    bytes: int
    rows: int
    created: str | None = None
    second_answers: tuple[int, int] | None = None


@dataclass
class Imported:
    """One file as records.

    Attributes:
        quotes: numbers that the file states about itself, under the name of the axis they are the mean of.
        notes: sentences on what was noticed or decided while reading.
        cards: what a judge returned on its known-answer cards, where the source kept that.
        no_generation: nothing was generated (log-likelihood tasks), so nothing can have been cut.
    """

    source: Source
    prompts: dict[str, Prompt]
    responses: list[Response]
    scores: list[Score]
    quotes: list[Quote] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    cards: list[Json] = field(default_factory=list)
    no_generation: bool = False


@dataclass
class AnswerRow:
    """One answer as an importer found it; everything a format may leave out has a default."""

    line: int
    text: str | None
    turns: tuple[Message, ...] | None = None
    source_id: str | None = None
    sample: int | None = None
    finish: Json = None
    error: str | None = None
    n_tokens: int | None = None
    seed: str | None = None
    decode: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, str | None] = field(default_factory=dict)
    gold: Mapping[str, Json] = field(default_factory=dict)
    split: Split = "test"


class Collector:
    """Builds the records of one file and one arm.

    Args:
        file: the file that is read.
        importer: what reads it; it says what ids name.
        request: how the user wants it read.
    """

    def __init__(self, file: InputFile, importer: Importer, request: ImportRequest) -> None:
        self.file = file
        self.importer = importer
        self.request = request
        self.prompts: dict[str, Prompt] = {}
        self.responses: list[Response] = []
        self.scores: list[Score] = []
        self.quotes: list[Quote] = []
        self.cards: list[Json] = []
        self.created: str | None = None
        self.second_answers: tuple[int, int] | None = None
        self.no_generation = False
        self._notes: dict[str, None] = {}
        self._counts: Counter[str] = Counter()
        self._lines: dict[tuple[str, str, int], int] = {}
        self._next: Counter[tuple[str, str]] = Counter()
        self._declared: dict[Key, int] = {}
        self._id_lines: dict[tuple[str, str], int] = {}
        self._seeds: dict[str, set[str]] = {}
        self._first_id: dict[str, str | None] = {}
        self._shared: dict[Any, Any] = {}
        self._metrics: dict[str, list[tuple[Key, float | None, str, str | None, str | None]]] = {}

    # what importers call

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        self._notes[sentence] = None

    def count(self, sentence: str) -> None:
        """Keep a sentence with ``{n}`` in it, to be shown once with how often it happened."""
        self._counts[sentence] += 1

    def fail(self, problem: str, line: int | None = None, remedy: str | None = None) -> InputError:
        """An InputError that points into this file."""
        return self.file.fail(problem, line, remedy)

    def add(self, row: AnswerRow) -> Key:
        """Record one answer; returns what its scores are joined by.

        Raises:
            InputError: the row repeats another one, or names no question.
        """
        turns, system = split_system(row.turns) if row.turns else ((), None)
        pid = sys.intern(self._identity(row, turns))
        seed = row.seed or ""
        replicate = sys.intern("/".join(part for part in (self.request.replicate, seed) if part))
        sample = self._sample(row, pid, seed)
        if seed:
            # Seeds may share sample numbers; until the file has been read, a running number keeps them apart.
            self._seeds.setdefault(seed, set()).add(pid)
            declared, sample = sample, self._next[pid, "every seed"]
            self._next[pid, "every seed"] += 1
            self._declared[pid, sample] = declared
        self._keep_prompt(row, pid, turns)
        reason, provenance, error = self._ending(row)
        settings = {"max_new_tokens": None, **({} if system is None else {"system_prompt": system}), **row.decode}
        self.responses.append(
            Response(
                pid, self.request.arm, sample, row.text, reason, provenance,
                decode=self._one(Decode, settings), model=self._one(ModelRef, row.model),
                n_tokens=row.n_tokens, replicate=replicate, error=error,
            )
        )  # fmt: skip
        return pid, sample

    def score(
        self, key: Key, axis: str, value: float | str | None, scorer: str, *,
        unscored: str = MISSING, evidence: str | None = None,
    ) -> None:  # fmt: skip
        """Record one score; without a value it is unscored for the reason given."""
        pid, sample = key
        reason = unscored if value is None else None
        scorer, axis = sys.intern(scorer), sys.intern(axis)
        self.scores.append(Score(pid, self.request.arm, sample, scorer, axis, value, reason, evidence))

    def cell(
        self, key: Key, axis: str, column: str, cell: Json, *,
        line: int, scorer: str, from_text: bool = False, evidence: str | None = None,
    ) -> None:  # fmt: skip
        """Record what one cell says on one axis: ``correct``, ``delivery``, ``coverage``, ``score.*`` or ``label.*``.

        An empty cell, and ``{"error": REASON}``, is unscored; NaN written as a number is refused, as it may be anything.

        Raises:
            InputError: the cell holds no value of that axis; the sentence names line, column and value.
        """
        value: float | str | None = None
        unscored = MISSING
        if isinstance(cell, dict) and isinstance(cell.get("error"), str):
            unscored = cell["error"] or "error"
        elif is_missing(cell, from_text=from_text):
            pass
        elif axis == "correct":
            value = self._right_or_wrong(column, cell, line)
        elif axis == "delivery" or axis.startswith("label."):
            value = self._label(axis, column, cell, line)
        else:
            value = self.number(column, cell, line)
            if axis == "coverage" and not 0 <= value <= 1:
                problem = f"column {column!r} holds {shown(cell)}, and coverage is a share between 0 and 1"
                raise self.fail(problem, line, "divide it, or map the column as score.NAME")
        self.score(key, axis, value, scorer, unscored=unscored, evidence=evidence)

    def number(self, column: str, cell: Json, line: int) -> float:
        """A cell as a finite number.

        Raises:
            InputError: it is none, or NaN or infinite.
        """
        number = as_float(cell)
        if number is None:
            problem = f"column {column!r} holds {shown(cell)}, which is not a number"
            raise self.fail(problem, line, "leave it empty where there is no score, or map the column as label.NAME")
        self._finite(column, number, line)
        return number

    def metric(
        self, key: Key, name: str, value: float | None, scorer: str, *,
        unscored: str | None = None, evidence: str | None = None,
    ) -> None:  # fmt: skip
        """Keep a harness's metric back until all its values are known (``settle`` then names its axis)."""
        self._metrics.setdefault(name, []).append((key, value, sys.intern(scorer), unscored, evidence))

    def settle(self, right_or_wrong: Iterable[str] = CORRECT_NAMES) -> dict[str, str]:
        """Turn the metrics kept back into scores.

        The first of ``right_or_wrong`` whose values are all 0 or 1 becomes ``correct``, every other metric
        ``score.NAME``.

        Returns:
            metric name -> axis.
        """
        values = {name: {row[1] for row in rows} for name, rows in self._metrics.items()}
        binary = (
            name for name in right_or_wrong if {0.0, 1.0} & values.get(name, set()) and values[name] <= {0.0, 1.0, None}
        )
        chosen = next(binary, None)
        axes = {name: "correct" if name == chosen else f"score.{name}" for name in self._metrics}
        if chosen is not None and chosen != "correct":
            self.note(f"the metric {chosen!r} is read as correct")
        for name, rows in self._metrics.items():
            for key, value, scorer, unscored, evidence in rows:
                self.score(key, axes[name], value, scorer, unscored=unscored or MISSING, evidence=evidence)
        self._metrics.clear()
        return axes

    def quote(self, metric: str, value: Json, n: int | None, where: str) -> None:
        """Record a number that the file states about itself."""
        number = as_float(value) if is_number(value) and not isinstance(value, bool) else None
        if number is not None and math.isfinite(number):
            self.quotes.append(Quote(self.request.arm, metric, number, n, f"{self.file.path.name}: {where}"))

    def finished(self) -> Imported:
        """The records of the file.

        Raises:
            InputError: no row became a response.
        """
        if not self.responses:
            raise self.fail("no result was found in the file", remedy="check that the run has ended")
        self._settle_seeds()
        for sentence, n in self._counts.items():
            self.note(sentence.format(n=f"{n:,}"))
        rows = sum(response.arm == self.request.arm for response in self.responses)
        unscored = {(s.prompt_id, s.sample) for s in self.scores if s.unscored and s.arm == self.request.arm}
        if unscored:
            self.note(f"{len(unscored):,} of {rows:,} rows have at least one axis without a score")
        if not self.scores:
            self.note("the file holds no scores, only answers")
        source = Source(
            str(self.file.path),
            self.importer.name,
            self.file.sha256,
            self.file.size,
            rows,
            self.created,
            self.second_answers,
        )
        return Imported(
            source,
            self.prompts,
            self.responses,
            self.scores,
            self.quotes,
            list(self._notes),
            self.cards,
            self.no_generation,
        )

    # cells

    def _finite(self, column: str, number: float, line: int) -> None:
        if not math.isfinite(number):
            name = "NaN" if math.isnan(number) else "an infinite number"
            problem = f"column {column!r} holds {name}, and {name} is not a score"
            raise self.fail(problem, line, "leave the cell empty where nothing was scored")

    def _right_or_wrong(self, column: str, cell: Json, line: int) -> float:
        value = truth(cell)
        if value is None:
            self._finite(column, as_float(cell) or 0.0, line)
            raise self.fail(
                f"column {column!r} holds {shown(cell)}, and correct has to be true/false or 0/1", line,
                f"map it as a score with --map score.{column}={column}, or name the right column with --map correct=COLUMN",
            )  # fmt: skip
        return value

    def _label(self, axis: str, column: str, cell: Json, line: int) -> str:
        if not isinstance(cell, str):
            self._finite(column, as_float(cell) or 0.0, line)
        label = str(cell).lower() if isinstance(cell, bool) else as_name(cell)
        if label is None:
            raise self.fail(f"column {column!r} holds {shown(cell)}, which is not a label", line)
        allowed = LABELS.get(axis)
        if allowed is None:
            return label
        if label.lower() not in allowed:
            problem = f"column {column!r} holds {shown(cell)}, and {axis} has to be {' or '.join(allowed)}"
            raise self.fail(problem, line, f"rename the labels, or map the column as label.{column}")
        return label.lower()

    # answers

    def _identity(self, row: AnswerRow, turns: tuple[Message, ...]) -> str:
        by_id = self.request.pair_by == "id"
        if row.source_id is not None and (by_id or (not turns and self.importer.ids == "shared")):
            return f"id:{row.source_id}"
        if by_id:
            problem = "the row has no id, and rows are paired by id (--pair-by id)"
            raise self.fail(problem, row.line, "map the column that names the question with --map id=COLUMN")
        if turns:
            return prompt_id(turns)
        if not self.request.need_pairs:
            return f"id:{row.source_id}" if row.source_id is not None else f"row:{row.line}"
        raise self.fail("the row has no prompt, and rows are paired by the content of the prompt", row.line, _NO_PROMPT)

    def _sample(self, row: AnswerRow, pid: str, seed: str) -> int:
        sample = self._counted(row, pid, seed) if row.sample is None else row.sample
        if sample < 0:
            raise self.fail(f"the sample number is {sample}, and samples count from 0", row.line)
        before = self._lines.setdefault((pid, seed, sample), row.line)
        if before != row.line:
            problem = f"sample {sample} of this prompt is already on line {before}"
            remedy = "remove one, or give each repeated answer its own number in the `sample` column"
            raise self.fail(problem, row.line, remedy)
        return sample

    def _counted(self, row: AnswerRow, pid: str, seed: str) -> int:
        """The sample number of a row that states none: how many rows of its prompt came before."""
        repeats = self.importer.ids != "row"
        if row.source_id is not None and not repeats:
            before = self._id_lines.setdefault((row.source_id, seed), row.line)
            if before != row.line:
                problem = f"the id {shown(row.source_id)} is already on line {before}"
                raise self.fail(problem, row.line, "remove one, or number repeated answers in a `sample` column")
        sample = self._next[pid, seed]
        self._next[pid, seed] += 1
        if sample:
            first = self._first_id.get(pid)
            if row.source_id is not None and first is not None and first != row.source_id:
                self.count("{n} rows repeat the prompt of another id and are read as further samples of it")
            elif not repeats:
                self.count("{n} rows repeat an earlier prompt and are numbered as its samples in file order")
        return sample

    def _keep_prompt(self, row: AnswerRow, pid: str, turns: tuple[Message, ...]) -> None:
        known = self.prompts.get(pid)
        if known is None:
            tags = () if row.source_id is None else (f"source-id:{row.source_id}",)
            self.prompts[pid] = Prompt(pid, turns, row.split, dict(row.gold), tags)
            self._first_id[pid] = row.source_id
            return
        if row.gold and known.gold and dict(known.gold) != dict(row.gold):
            self.count("{n} rows give another gold than an earlier row with the same prompt; the first is kept")
        if known.split != row.split:
            raise self.fail(f"the prompt is in split {known.split!r} on an earlier row and in {row.split!r} here", row.line)  # fmt: skip
        if turns and known.messages and prompt_id(known.messages) != prompt_id(turns):
            self.count("{n} rows give another prompt text than an earlier row with the same id; the first is kept")

    def _ending(self, row: AnswerRow) -> tuple[FinishReason, Provenance | None, str | None]:
        if row.error is not None:
            return FinishReason.ERROR, Provenance.RECORDED, row.error
        reason = finish_reason(row.finish)
        if reason is None:
            self.count(f"{{n}} rows end for the reason {_braceless(shown(row.finish))}, which is read as unknown")
            reason = FinishReason.UNKNOWN
        if reason is FinishReason.UNKNOWN:
            return reason, None, None
        return reason, Provenance.RECORDED, "recorded as an error" if reason is FinishReason.ERROR else None

    def _one(self, kind: Callable[..., T], given: Mapping[str, Any]) -> T:
        """A record of these fields, the same one for equal fields."""
        key = (kind, *sorted(given.items(), key=lambda pair: pair[0]))
        known: T | None = self._shared.get(key)
        if known is None:
            known = self._shared[key] = kind(**given)
        return known

    def _settle_seeds(self) -> None:
        """Number samples apart across seeds, or drop seeds that differ from prompt to prompt.

        A seed that a whole pass over the prompts shares is a replicate; one that every row has for itself is only
        how that row was sampled, and would make every row its own replicate.
        """
        if not self._seeds:
            return
        per_row = len(self.prompts) > 1 and all(len(pids) == 1 for pids in self._seeds.values())
        if per_row:
            self.note("every prompt has its own value in the column seed, so it is not read as a replicate")
        order: dict[str, list[tuple[str, int, int]]] = {}
        for index, response in enumerate(self.responses):
            declared = self._declared[response.prompt_id, response.sample]
            order.setdefault(response.prompt_id, []).append((response.replicate, declared, index))
        numbers: dict[Key, int] = {}
        for pid, answers in order.items():
            for number, (replicate, _, index) in enumerate(sorted(answers)):
                response = self.responses[index]
                numbers[pid, response.sample] = number
                self.responses[index] = replace(
                    response, sample=number, replicate=self.request.replicate if per_row else replicate
                )
        self.scores = [replace(score, sample=numbers[score.prompt_id, score.sample]) for score in self.scores]


def _braceless(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
