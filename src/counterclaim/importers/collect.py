"""Rows on their way to records: identity, sample numbers, shared settings, scores and notes.

Every importer feeds one Collector; what pairing later relies on (ids by content, unique samples) is kept here once.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from counterclaim.errors import InputError
from counterclaim.importers.imported import Imported, ImportRequest, Source
from counterclaim.importers.reading import InputFile
from counterclaim.importers.values import MISSING, as_float, finish_reason, is_number, shown, split_system
from counterclaim.records import (
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

Key = tuple[str, int]
"""(prompt id, sample): one response of the arm that is being read."""

CORRECT_NAMES = ("exact_match", "acc", "pass@1", "pass_at_1", "accuracy", "em", "quasi_exact_match", "extractive_match")
"""Metrics that say right or wrong when all their values are 0 or 1, the most usual first."""


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
        request: what the user asked.
    """

    def __init__(self, file: InputFile, importer: Importer, request: ImportRequest) -> None:
        self.file = file
        self.format = importer.name
        self.request = request
        self.prompts: dict[str, Prompt] = {}
        self.responses: list[Response] = []
        self.scores: list[Score] = []
        self.quotes: list[Quote] = []
        self.created: str | None = None
        self.cards: list[Json] = []
        self.second_answers: tuple[int, int] | None = None
        self.no_generation = False
        self._named_ids = importer.ids == "shared"
        self._ids_repeat = importer.ids != "row"
        self._notes: dict[str, None] = {}
        self._counts: Counter[str] = Counter()
        self._lines: dict[tuple[str, str, int], int] = {}
        self._next: Counter[tuple[str, str]] = Counter()
        self._declared: dict[Key, int] = {}
        self._id_lines: dict[tuple[str, str], int] = {}
        self._seeds: dict[str, set[str]] = {}
        self._first_id: dict[str, str | None] = {}
        self._decodes: dict[tuple[tuple[str, Any], ...], Decode] = {}
        self._models: dict[tuple[tuple[str, Any], ...], ModelRef] = {}
        self._metrics: dict[str, list[tuple[Key, float | None, str, str | None, str | None]]] = {}

    def note(self, sentence: str) -> None:
        """Keep a sentence for the user, once."""
        self._notes[sentence] = None

    def count(self, sentence: str) -> None:
        """Keep a sentence with ``{n}`` in it, to be told once with how often it happened."""
        self._counts[sentence] += 1

    def fail(self, problem: str, line: int | None = None, remedy: str | None = None) -> InputError:
        """An InputError that points into this file."""
        return InputError(problem, path=self.file.path, line=line, remedy=remedy)

    def add(self, item: AnswerRow) -> Key:
        """Record one answer; returns what its scores are joined by.

        Raises:
            InputError: the row cannot be told apart from another one, or names no question.
        """
        turns, system = split_system(item.turns) if item.turns else ((), None)
        pid = sys.intern(self._identity(item, turns))
        seed = item.seed or ""
        replicate = sys.intern("/".join(part for part in (self.request.replicate, seed) if part))
        sample = self._sample(item, pid, seed)
        if seed:
            # Seeds may share sample numbers; until the file has been read, a running number keeps them apart.
            self._seeds.setdefault(seed, set()).add(pid)
            declared, sample = sample, self._next[pid, "every seed"]
            self._next[pid, "every seed"] += 1
            self._declared[pid, sample] = declared
        self._keep_prompt(item, pid, turns)
        reason, provenance, error = self._ending(item)
        decode = dict(item.decode)
        if system is not None:
            decode.setdefault("system_prompt", system)
        self.responses.append(
            Response(
                prompt_id=pid,
                arm=self.request.arm,
                sample=sample,
                text=item.text,
                finish_reason=reason,
                finish_provenance=provenance,
                decode=self._decode(decode),
                model=self._model(item.model),
                n_tokens=item.n_tokens,
                replicate=replicate,
                error=error,
            )
        )
        return pid, sample

    def score(
        self,
        key: Key,
        axis: str,
        value: float | str | None,
        scorer: str,
        *,
        unscored: str = MISSING,
        evidence: str | None = None,
    ) -> None:
        """Record one score; without a value it is unscored for the reason given."""
        pid, sample = key
        self.scores.append(
            Score(
                prompt_id=pid,
                arm=self.request.arm,
                sample=sample,
                scorer=sys.intern(scorer),
                axis=sys.intern(axis),
                value=value,
                unscored=unscored if value is None else None,
                evidence=evidence,
            )
        )

    def metric(
        self,
        key: Key,
        name: str,
        value: float | None,
        scorer: str,
        *,
        unscored: str | None = None,
        evidence: str | None = None,
    ) -> None:
        """Hold back a harness's metric until all its values are known (``settle`` then names its axis)."""
        self._metrics.setdefault(name, []).append((key, value, sys.intern(scorer), unscored, evidence))

    def settle(
        self, *, right_or_wrong: Iterable[str] = CORRECT_NAMES, aliases: Mapping[str, str] = {}
    ) -> dict[str, str]:
        """Turn the metrics held back into scores.

        The first of ``right_or_wrong`` whose values are all 0 or 1 becomes ``correct``, every other metric
        ``score.NAME`` (``aliases`` renames first).

        Returns:
            metric name -> axis.
        """
        chosen = next(
            (
                name
                for name in right_or_wrong
                if any(row[1] is not None for row in self._metrics.get(name, ()))
                and all(row[1] in (0.0, 1.0, None) for row in self._metrics[name])
            ),
            None,
        )
        axes = {name: "correct" if name == chosen else f"score.{aliases.get(name, name)}" for name in self._metrics}
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
        return Imported(
            source=Source(
                path=str(self.file.path),
                format=self.format,
                sha256=self.file.sha256,
                bytes=self.file.size,
                rows=rows,
                created=self.created,
                second_answers=self.second_answers,
            ),
            prompts=self.prompts,
            responses=self.responses,
            scores=self.scores,
            quotes=self.quotes,
            notes=list(self._notes),
            cards=self.cards,
            no_generation=self.no_generation,
        )

    def _identity(self, item: AnswerRow, turns: tuple[Message, ...]) -> str:
        if self.request.pair_by == "id" or (not turns and self._named_ids):
            if item.source_id is not None:
                return f"id:{item.source_id}"
            if self.request.pair_by == "id":
                raise self.fail(
                    "the row has no id, and pairing by id was asked for",
                    item.line,
                    "map the column that names the question with --map id=COLUMN",
                )
        if turns:
            return prompt_id(turns)
        if not self.request.need_pairs:
            return f"id:{item.source_id}" if item.source_id is not None else f"row:{item.line}"
        raise self.fail(
            "the row has no prompt, and rows are paired by the content of the prompt",
            item.line,
            "map it with --map prompt=COLUMN, or say with --pair-by id that ids name the same question in both files",
        )

    def _sample(self, item: AnswerRow, pid: str, seed: str) -> int:
        if item.sample is None:
            if item.source_id is not None and not self._ids_repeat:
                before = self._id_lines.setdefault((item.source_id, seed), item.line)
                if before != item.line:
                    raise self.fail(
                        f"the id {shown(item.source_id)} is already on line {before}",
                        item.line,
                        "remove one, or number repeated answers in a `sample` column",
                    )
            sample = self._next[pid, seed]
            self._next[pid, seed] += 1
            if sample:
                first = self._first_id.get(pid)
                if item.source_id is not None and first is not None and first != item.source_id:
                    self.count("{n} rows repeat the prompt of another id and are read as further samples of it")
                elif not self._ids_repeat:
                    self.count("{n} rows repeat an earlier prompt and are numbered as its samples in file order")
        else:
            sample = item.sample
            if sample < 0:
                raise self.fail(f"the sample number is {sample}, and samples count from 0", item.line)
        before = self._lines.setdefault((pid, seed, sample), item.line)
        if before != item.line:
            raise self.fail(
                f"sample {sample} of this prompt is already on line {before}",
                item.line,
                "remove one, or give each repeated answer its own number in the `sample` column",
            )
        return sample

    def _keep_prompt(self, item: AnswerRow, pid: str, turns: tuple[Message, ...]) -> None:
        known = self.prompts.get(pid)
        if known is None:
            tags = () if item.source_id is None else (f"source-id:{item.source_id}",)
            self.prompts[pid] = Prompt(pid, turns, item.split, dict(item.gold), tags)
            self._first_id[pid] = item.source_id
            return
        if item.gold and known.gold and dict(known.gold) != dict(item.gold):
            self.count("{n} rows give another gold than an earlier row with the same prompt; the first is kept")
        if known.split != item.split:
            raise self.fail(f"the prompt is in split {known.split!r} on an earlier row and in {item.split!r} here", item.line)  # fmt: skip
        if turns and known.messages and prompt_id(known.messages) != prompt_id(turns):
            self.count("{n} rows give another prompt text than an earlier row with the same id; the first is kept")

    def _ending(self, item: AnswerRow) -> tuple[FinishReason, Provenance | None, str | None]:
        if item.error is not None:
            return FinishReason.ERROR, Provenance.RECORDED, item.error
        reason = finish_reason(item.finish)
        if reason is None:
            self.count(f"{{n}} rows end for the reason {_braceless(shown(item.finish))}, which is read as unknown")
            reason = FinishReason.UNKNOWN
        if reason is FinishReason.UNKNOWN:
            return reason, None, None
        return reason, Provenance.RECORDED, "recorded as an error" if reason is FinishReason.ERROR else None

    def _decode(self, given: Mapping[str, Any]) -> Decode:
        key = tuple(sorted(given.items(), key=lambda pair: pair[0]))
        known = self._decodes.get(key)
        if known is None:
            known = self._decodes[key] = Decode(**{"max_new_tokens": None, **given})
        return known

    def _model(self, given: Mapping[str, Any]) -> ModelRef:
        key = tuple(sorted(given.items(), key=lambda pair: pair[0]))
        known = self._models.get(key)
        if known is None:
            known = self._models[key] = ModelRef(**given)
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
