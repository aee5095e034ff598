"""The data card of a training set: what was asked, who answered under which licence, what was kept, dropped and paid.

The Markdown opens with the front matter of a Hugging Face dataset card. Nothing in it depends on the clock or on where
the folder lies, so a set that is made again has the same card.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice

import numpy as np

from counterclaim import __version__
from counterclaim.lab.config import PipelinePlan
from counterclaim.lab.synthesis.filters import Dropped, Filtered
from counterclaim.lab.synthesis.gates import STUDENT, roles, spdx
from counterclaim.lab.synthesis.replies import thought_of
from counterclaim.records import Json
from counterclaim.report.markdown import escaped
from counterclaim.report.words import cleaned, number

SHOWN = 3
"""Dropped examples that are shown for each filter."""
_EXCERPT = 240  # characters of a text in the card

_HUB_LICENCES = {
    "MIT": "mit", "Apache-2.0": "apache-2.0", "BSD-2-Clause": "bsd-2-clause", "BSD-3-Clause": "bsd-3-clause", "ISC": "isc",
    "CC0-1.0": "cc0-1.0", "CC-BY-4.0": "cc-by-4.0",
}  # fmt: skip
"""How the Hugging Face hub spells licences that it knows; others are "other" there."""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_KINDS = {
    "gold": "a teacher's answer",
    "failure": "the student's own mistake, and its correction",
    "counter": "preference pair: the teacher's answer before the student's own",
    "boundary": "a question where hedging or asking back is right",
}
_VARIANTS = {"plain": "", "style": ", in another style", "length": ", as long as the student's own answer"}


def data_card(
    plan: PipelinePlan, filtered: Filtered, summary: Mapping[str, Json], *, n_forbidden: int
) -> tuple[dict[str, Json], str]:
    """The data card as JSON and as Markdown.

    Args:
        plan: the pipeline file.
        filtered: what was kept, and everything that was dropped.
        summary: ``hash`` of the set; ``prompts``, how many were asked; ``products``, rows with ``kind``, ``variant``,
            ``made``, ``kept`` and ``dropped`` by filter; ``not_made``, drops that no example was made of, by filter;
            ``stages``, rows with ``stage``, ``model``, ``licence``, ``calls``, ``failed``, ``spoilt``, ``prompt_tokens``,
            ``tokens`` and ``cost``, the student's among them.
        n_forbidden: how many prompts the set was held clear of.
    """
    card = cleaned(_card(plan, filtered, summary, n_forbidden))
    return card, _markdown(card)


def _card(plan: PipelinePlan, filtered: Filtered, summary: Mapping[str, Json], n_forbidden: int) -> dict[str, Json]:
    who = roles(plan)
    learnt = [thought_of(example.chosen) for example in filtered.kept]
    words = {
        "answer": _quantiles([parts.answer for parts in learnt]),
        "thought": _quantiles([parts.thought for parts in learnt]),
    }
    stages = {stage.name: stage for stage in plan.stages}
    return {
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
        "total": {
            name: sum(row[name] for row in summary["stages"])
            for name in ("calls", "failed", "spoilt", "prompt_tokens", "tokens", "cost")
        },
        "licences": sorted({spdx(stage.licence) or stage.licence for stage in plan.stages if stage.licence is not None}),
        "licences_allowed": list(plan.licences),
        "roles": {role: [_without_secrets(name) for name in names] for role, names in who.models.items()},
        "families": {role: list(names) for role, names in who.families.items()},
        "notes": list(who.notes),
        "oracle": plan.oracle,
        "filters": asdict(plan.filters),
        "seed": plan.seed,
    }  # fmt: skip


def _quantiles(texts: Sequence[str]) -> dict[str, float]:
    """Words between white space, as the check ``compression`` counts them: median, 5 % and 95 %; 0 without texts."""
    counts = [float(len(text.split())) for text in texts] or [0.0]
    low, median, high = (float(value) for value in np.quantile(counts, (0.05, 0.5, 0.95)))
    return {"low": low, "median": median, "high": high}


def _dropped(filtered: Filtered) -> dict[str, Json]:
    return {
        name: {
            "count": count,
            "shown": [_shown(item) for item in islice((x for x in filtered.dropped if x.filter == name), SHOWN)],
        }
        for name, count in filtered.counts.items()
    }


def _shown(item: Dropped) -> dict[str, Json]:
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
    parts = [
        _front_matter(card),
        f"# {escaped(card['name'])}",
        f"{card['examples']:,} training examples ({card['sft']:,} for SFT, {card['preference']:,} preference pairs), made by "
        f"teachers in stages from {card['prompts']['asked']:,} prompts with Counterclaim {escaped(card['counterclaim'])}. "
        f"SHA-256 over what is learnt: `{card['hash']}`.",
        "## What was asked",
        _asked(card),
        "## Who answered",
        _who(card),
        "## What is in it",
        _products(card),
        "## What was left out",
        _left_out(card),
        "## What it took",
        _spent(card),
        "## How to load it",
        _loading(card),
        "## What to know before training on it",
        _caveats(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Mapping[str, Json]) -> str:
    known = [_HUB_LICENCES[name] for name in card["licences"] if name in _HUB_LICENCES]
    lines = ["---"]
    if known and len(known) == len(card["licences"]):
        lines += [f"license: {known[0]}"] if len(known) == 1 else ["license:", *(f"- {name}" for name in known)]
    else:
        lines += ["license: other", f"license_name: {json.dumps(' AND '.join(card['licences']))}"]
    if card["filters"]["language"] is not None:
        lines += ["language:", f"- {card['filters']['language']}"]
    size = next((name for limit, name in _SIZES if card["examples"] < limit), "n>1M")
    lines += ["task_categories:", "- text-generation", "size_categories:", f"- {size}"]
    lines += [
        "tags:",
        "- synthetic",
        "- counterclaim",
        f"pretty_name: {json.dumps(card['name'], ensure_ascii=False)}",
        "---",
    ]
    return "\n".join(lines)


def _asked(card: Mapping[str, Json]) -> str:
    rows = [
        [
            escaped(source["source"]), escaped(source["split"] or "all"), escaped(", ".join(source["tags"])) or "—",
            number(source["limit"]),
        ]
        for source in card["prompts"]["sources"]
    ]  # fmt: skip
    held = (
        f"{card['prompts']['forbidden']:,} test prompts must not occur in it, and no example asks one of them, as far as "
        "words can tell."
    )
    return f"{_table(('source', 'split', 'tags', 'at most'), rows)}\n\n{held}"


def _who(card: Mapping[str, Json]) -> str:
    rows = [
        [
            escaped(row["stage"]) + (" (its answer is learnt)" if row["learnt"] else ""), escaped(row["model"]),
            escaped(row["licence"] or ("not declared: its words are not learnt" if row["stage"] == STUDENT else "not declared")),
            escaped(", ".join(row["sees"])) or "—", escaped(row["character"], _EXCERPT) or "—",
        ]
        for row in card["stages"]
    ]  # fmt: skip
    filled = "; ".join(f"{role.replace('_', ' ')}: {', '.join(names)}" for role, names in card["families"].items())
    told = [f"Model families by role: {escaped(filled)}."]
    told += [f"**{escaped(note)}**" for note in card["notes"]] or ["No family fills two roles."]
    allowed = ", ".join(card["licences_allowed"])
    told.append(f"Licences whose words could enter: {escaped(allowed)}. Words under any other were refused.")
    return f"{_table(('stage', 'model', 'licence', 'sees', 'character'), rows)}\n\n" + "\n\n".join(told)


def _products(card: Mapping[str, Json]) -> str:
    rows = [
        [
            escaped(f"{_KINDS.get(row['kind'], row['kind'])}{_VARIANTS.get(row['variant'], '')}"),
            f"{escaped(row['kind'])} / {escaped(row['variant'])}", number(row["made"]), number(row["kept"]),
        ]
        for row in card["products"]
    ]  # fmt: skip
    lengths = [
        [name, *(f"{card['words'][key][at]:,.4g}" for at in ("low", "median", "high"))]
        for name, key in (("answer", "answer"), ("thought before it", "thought"))
    ]
    return (
        f"{_table(('what', 'kind / variant', 'made', 'kept'), rows)}\n\nWords of what is to be learnt:\n\n"
        f"{_table(('', '5 %', 'median', '95 %'), lengths)}"
    )


def _left_out(card: Mapping[str, Json]) -> str:
    if not card["dropped"]:
        return "Nothing."
    parts = [
        _table(("filter or gate", "dropped"), ([escaped(k), number(v["count"])] for k, v in card["dropped"].items()))
    ]
    for name, group in card["dropped"].items():
        lines = [f"- {_one_drop(item)}" for item in group["shown"]]
        parts.append(f"**{escaped(name)}**, the first {len(lines)} of {group['count']:,}:\n\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _one_drop(item: Mapping[str, Json]) -> str:
    told = f"prompt {escaped(item['prompt_id'] or 'without an id')}: {escaped(item['because'])}"
    if item["answer"] is None:
        return told
    return f"{told}<br>asked: {escaped(item['prompt'])}<br>answer: {escaped(item['answer'])}"


def _spent(card: Mapping[str, Json]) -> str:
    names = ("calls", "failed", "spoilt", "prompt_tokens", "tokens", "cost")
    rows = [[escaped(row["stage"]), *(number(row[name]) for name in names)] for row in card["stages"]]
    rows.append(["all", *(number(card["total"][name]) for name in names)])
    return _table(("stage", "calls", "failed", "spoilt", "tokens shown", "tokens said", "cost"), rows)


def _loading(card: Mapping[str, Json]) -> str:
    trainers = [name for name, rows in (("DPOTrainer", card["preference"]), ("SFTTrainer", card["sft"])) if rows]
    lines = ["from datasets import load_from_disk", f"from trl import {', '.join(trainers)}"]
    if card["sft"]:
        lines += [
            "",
            'sft = load_from_disk("datasets/sft")  # columns prompt and completion, as turns',
            "SFTTrainer(model, train_dataset=sft).train()",
        ]
    if card["preference"]:
        lines += [
            "",
            'pairs = load_from_disk("datasets/preference")  # columns prompt, chosen and rejected',
            "DPOTrainer(model, train_dataset=pairs, processing_class=tokenizer).train()",
        ]
    code = "\n".join(lines)
    return f"In the folder of this card:\n\n```python\n{code}\n```\n\n`examples.jsonl` holds every example with who said what on the way to it."


def _caveats(card: Mapping[str, Json]) -> str:
    told = [
        "Everything to be learnt was written by models. Filters look at form, language, repetition, refusals and, where the "
        "prompts have golds, at the facts that these name; whether the rest of an answer is true, nobody has looked at.",
        "Test prompts are recognised by their words: the same question in wholly other words would not be.",
    ]
    if any(row["stage"] == STUDENT for row in card["stages"]):
        told.append(
            "The student's own words stand in it only as the worse side of a pair, or as the mistake before its correction: "
            "train on completions, not on the turns before them."
        )
    return "\n".join(f"- {item}" for item in told)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [columns, ["---"] * len(columns), *rows])
