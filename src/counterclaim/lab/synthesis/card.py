"""Data cards: what was asked, who answered under which licence, what was kept, dropped and paid.

The card of a training set is also Markdown (``card.md.jinja``), with the front matter of a Hugging Face dataset card. Nothing in
a card depends on the clock or on where the folder lies, so a set that is made again has the same card.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from counterclaim import __version__
from counterclaim.lab.config import PipelinePlan
from counterclaim.lab.synthesis.filters import STUDENT, DroppedExample, FilteredExamples, spdx
from counterclaim.lab.synthesis.replies import thought_of
from counterclaim.records import Estimate, Json, model_family
from counterclaim.report.markdown import escaped
from counterclaim.report.words import cleaned, number
from counterclaim.text import words_of
from counterclaim.text.overlap import two_sample_auc

SHOWN = 3
"""Dropped examples that are shown for each filter."""
_EXCERPT = 240  # characters of a text in the card

_HUB_LICENCES = {
    "MIT": "mit", "Apache-2.0": "apache-2.0", "BSD-2-Clause": "bsd-2-clause", "BSD-3-Clause": "bsd-3-clause", "ISC": "isc",
    "CC0-1.0": "cc0-1.0", "CC-BY-4.0": "cc-by-4.0",
}  # fmt: skip
"""How the Hugging Face hub spells licences that it knows; others are "other" there."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_AMOUNTS = ("calls", "failed", "spoilt", "prompt_tokens", "tokens", "cost")


# --- roles --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RoleFamilies:
    """Which models fill which roles in the making of a training set.

    Attributes:
        models: models by role: ``teacher`` (every stage's), ``student``, ``judge``, and what the file says of others.
        families: model families by role, in the same order.
        notes: a sentence for each family that fills several roles.
    """

    models: Mapping[str, tuple[str, ...]]
    families: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def role_families(plan: PipelinePlan) -> RoleFamilies:
    """Which model family teaches, writes prompts, judges and is taught, and which does several of these at once.

    Families are read off the models' names (``records.model_family``), as the check ``roles`` does.
    """
    models: dict[str, tuple[str, ...]] = {"teacher": tuple(dict.fromkeys(stage.model.name for stage in plan.stages))}
    if plan.student is not None:
        models["student"] = (plan.student.name,)
    if plan.judge is not None:
        models["judge"] = (plan.judge,)
    for role, name in plan.roles.items():
        models[role] = tuple(dict.fromkeys((*models.get(role, ()), name)))
    families = {role: tuple(dict.fromkeys(map(model_family, names))) for role, names in models.items()}
    filled: dict[str, list[str]] = defaultdict(list)
    for role, found in families.items():
        for family in found:
            filled[family].append(role)
    notes = [_note(family, who) for family, who in filled.items() if len(who) > 1]
    return RoleFamilies(models, families, tuple(notes))


def _note(family: str, who: Sequence[str]) -> str:
    names = f"{', '.join(who[:-1])} and {who[-1]}".replace("_", " ")
    if "judge" in who and {"teacher", "student"} & set(who):
        return f"{family} is {names}: the judge grades words of its own family."
    if "prompt_writer" in who and "teacher" in who:
        return f"{family} is {names}: it answers questions that its own family thought of, so their range is its own."
    return f"{family} is {names}."


def data_card(
    plan: PipelinePlan, filtered: FilteredExamples, summary: Mapping[str, Json], *, n_forbidden: int
) -> tuple[dict[str, Json], str]:
    """The data card as JSON and as Markdown.

    Args:
        plan: the pipeline file.
        filtered: what was kept and what was dropped.
        summary: ``hash`` of the set; ``prompts``, how many were used; ``products``, rows with ``kind``, ``variant``,
            ``made``, ``kept`` and ``dropped`` by filter; ``not_made``, drops that no example was made of, by filter;
            ``stages``, rows with ``stage``, ``model``, ``licence``, ``calls``, ``failed``, ``spoilt``, ``prompt_tokens``,
            ``tokens`` and ``cost``, the student's among them.
        n_forbidden: how many prompts must not occur in it.
    """
    families = role_families(plan)
    targets = [thought_of(example.chosen) for example in filtered.kept]
    words = {
        "answer": _quantiles([len(parts.answer.split()) for parts in targets] or [0]),
        "thought": _quantiles([len(parts.thought.split()) for parts in targets] or [0]),
    }
    stages = {stage.name: stage for stage in plan.stages}
    card: dict[str, Json] = cleaned({
        "name": plan.path.stem,
        "counterclaim": __version__,
        "hash": summary["hash"],
        "examples": len(filtered.kept),
        "sft": sum(example.rejected is None for example in filtered.kept),
        "preference": sum(example.rejected is not None for example in filtered.kept),
        "prompts": {
            "asked": summary["prompts"],
            "sources": [choice.to_json() for choice in plan.prompts],
            "forbidden": n_forbidden,
        },
        "products": list(summary["products"]),
        "not_made": dict(summary["not_made"]),
        "dropped": _dropped(filtered),
        "answer_words": words["answer"]["median"],
        "think_words": words["thought"]["median"],
        "words": words,
        "stages": [
            {
                **row,
                "model": _without_secrets(row["model"]),
                "character": stages[row["stage"]].decode.system_prompt if row["stage"] in stages else None,
                "sees": list(stages[row["stage"]].sees) if row["stage"] in stages else [],
                "learnt": row["stage"] == plan.final,
            }
            for row in summary["stages"]
        ],
        "total": {name: sum(row[name] for row in summary["stages"]) for name in _AMOUNTS},
        "licences": sorted({spdx(stage.licence) or stage.licence for stage in plan.stages if stage.licence is not None}),
        "licences_allowed": list(plan.licences),
        "roles": {role: [_without_secrets(name) for name in names] for role, names in families.models.items()},
        "families": {role: list(names) for role, names in families.families.items()},
        "notes": list(families.notes),
        "oracle": plan.oracle,
        "filters": asdict(plan.filters),
        "seed": plan.seed,
    })  # fmt: skip
    return card, _markdown(card)


def _quantiles(counts: Sequence[int]) -> dict[str, float]:
    """Median, 5 % and 95 % of word counts."""
    low, median, high = (float(value) for value in np.quantile(np.asarray(counts, float), (0.05, 0.5, 0.95)))
    return {"low": low, "median": median, "high": high}


def _dropped(filtered: FilteredExamples) -> dict[str, Json]:
    by_filter = {name: [item for item in filtered.dropped if item.filter == name] for name in filtered.counts}
    return {name: {"count": len(items), "shown": list(map(_shown, items[:SHOWN]))} for name, items in by_filter.items()}


def _shown(item: DroppedExample) -> dict[str, Json]:
    example = item.example
    return {
        "prompt_id": item.prompt_id,
        "because": item.because,
        "prompt": None if example is None else _cut("\n\n".join(turn.content for turn in example.prompt)),
        "answer": None if example is None else _cut(example.chosen),
    }


def _cut(text: str) -> str:
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1].rstrip() + "…"


def _without_secrets(model: str) -> str:
    """A model's name without what an address may carry beside it: user, password and query."""
    return re.sub(r"\?[^#]*", "", re.sub(r"(?<=://)[^/@#]*@", "", model))


# --- Markdown -----------------------------------------------------------------------------------------------------


def _markdown(card: Mapping[str, Json]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    environment.filters |= {
        "text": escaped,
        "excerpt": lambda text: escaped(text, _EXCERPT),
        "number": number,
        "count": "{:,}".format,
        "words": "{:,.4g}".format,
        "json": json.dumps,
        "json_text": lambda text: json.dumps(text, ensure_ascii=False),
    }
    template = environment.from_string((Path(__file__).parent / "card.md.jinja").read_text(encoding="utf-8"))
    hub_licences = [_HUB_LICENCES.get(name) for name in card["licences"]]
    families = (f"{role.replace('_', ' ')}: {', '.join(names)}" for role, names in card["families"].items())
    return template.render(
        card=card, amounts=_AMOUNTS, student=STUDENT, families="; ".join(families),
        hub_licences=[] if None in hub_licences else hub_licences,
        size=next((name for limit, name in _SIZES if card["examples"] < limit), "n>1M"),
        has_student=any(row["stage"] == STUDENT for row in card["stages"]),
    )  # fmt: skip


# --- fresh prompts ------------------------------------------------------------------------------------------------

ALIKE = 0.7
"""AUC below which two sets of prompts are not told apart for practical purposes; the check ``shift`` uses the same."""
APART = 0.95
"""AUC from which nearly every prompt shows its set."""
LEAST = 20
"""Texts of each set from which they are compared at all; the check ``shift`` asks for as many."""
_OPENERS = 3


def comparison(fresh: Sequence[str], known: Sequence[str], against: str, level: float = 0.95) -> dict[str, Json]:
    """How well fresh prompts are told from known ones (a classifier two-sample test), and what that says of them.

    Returns:
        ``auc``: the estimate with its interval; ``kind``: ``held-out`` (hardly told apart), ``fresh`` (told apart, but not
        wholly), ``another-task`` (nearly all told apart), ``open`` (too few to say); ``says``: the same in a sentence.
    """
    least = min(len(set(fresh)), len(set(known)))
    if least < LEAST:
        reason = f"one of the two holds {least} different texts, and {LEAST} are needed"
        auc = Estimate.undefined(reason, n=len(fresh) + len(known), level=level)
    else:
        auc = two_sample_auc(known, fresh, level)
    kind = _kind(auc)
    return {"auc": auc.to_json(), "kind": kind, "against": against, "says": _sentence(kind, auc, against)}


def _kind(auc: Estimate) -> str:
    if auc.estimate is None or auc.low is None or auc.high is None:
        return "open"
    if auc.high < ALIKE:
        return "held-out"
    if auc.low >= APART:
        return "another-task"
    return "fresh" if auc.low > 0.5 else "open"


def _sentence(kind: str, auc: Estimate, against: str) -> str:
    if auc.estimate is None:
        return f"Whether a classifier tells them from {against} is not known: {auc.reason}."
    interval = "" if auc.low is None else f" [{auc.low:.2f}, {auc.high:.2f}]"
    sentence = f"A classifier tells them from {against} with AUC {auc.estimate:.2f}{interval}"
    return {
        "held-out": f"A classifier can hardly tell them from {against} (AUC {auc.estimate:.2f}{interval}): what holds on them "
        "is shown for held-out prompts of the same distribution, and not for fresh ones.",
        "fresh": f"{sentence}: they are of another writer, and not of another world.",
        "another-task": f"{sentence}: nearly every one is told apart, by its topic or by its style throughout. Read a few before "
        "calling this the same task; what fails on them may fail for that reason alone.",
        "open": f"{sentence}, which is too wide to say whether they differ; write more.",
    }[kind]


def text_facts(texts: Sequence[str]) -> dict[str, Json]:
    """Length in words (median, 5 % and 95 %), share that hold a question mark, and the commonest first two words."""
    words = _quantiles([len(words_of(text)) for text in texts])
    openers = Counter(" ".join(words_of(text)[:2]) for text in texts)
    first = sorted(openers.items(), key=lambda item: (-item[1], item[0]))[:_OPENERS]
    return {
        "n": len(texts),
        "words": {name: words[name] for name in ("median", "low", "high")},
        "questions": sum("?" in text for text in texts) / len(texts),
        "openers": [{"words": opener, "share": count / len(texts)} for opener, count in first],
    }


def spending(rows: Sequence[Mapping[str, Json]]) -> dict[str, Json]:
    """What calls cost; those of earlier runs that were used again count as if they had been made now."""
    return {
        "calls": len(rows),
        "failed": sum(row["error"] is not None for row in rows),
        "prompt_tokens": sum(row["prompt_tokens"] or 0 for row in rows),
        "tokens": sum(row["n_tokens"] or 0 for row in rows),
        "cost": sum(row["cost"] for row in rows),
    }
