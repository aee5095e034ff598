"""Several studies on one self-contained page: what a naive comparison would have said, and what is left of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from counterclaim.records import Json
from counterclaim.report.figures import draw
from counterclaim.report.html import page_of
from counterclaim.report.page import glossary_of, glyph_of, meaning
from counterclaim.report.words import cleaned, estimate_line, number, one_line, p_value, signed

_WORDS: Sequence[tuple[str, str, str]] = (
    (r"SFT", "SFT", "supervised fine-tuning: the model learns to give the answers that it is shown"),
    (r"DPO", "DPO", "the model learns to prefer the better of two answers that it is shown"),
    (r"reward", "reward", "the model tries, each try is paid by what came of it, and it learns to do what pays (GRPO)"),
    (r"system prompt", "system prompt", "a sentence that the model is given before every question"),
    (r"λ", "λ", "how much is left of what an attention head says: 1 is all of it, 0.5 is half"),
    (
        r"\d+/\d+/\d+/\d+",
        "60/6/29/5",
        "counts of answers: right and asserted, right and hedged, wrong and asserted, wrong and hedged",
    ),
    (r"HumanEval", "HumanEval", "164 small programming tasks; pass@1 is the share solved at the first try"),
    (r"\bprobe", "probe", "a classifier that reads the inner state of a model, and changes nothing about it"),
    (r"cross-validat", "cross-validation", "trained on one part of the answers and tried on the rest of them, in turn"),
)

_PROTOCOLS: Mapping[str, str] = {
    "mean_test_positive": "two means compared",
    "single_seed_positive": "one seed",
    "cv_only_positive": "cross-validation",
    "best_threshold_positive": "the best threshold",
}


def render_series(suite: Mapping[str, Json]) -> str:
    """The page of a series.

    Args:
        told: what ``series.json`` holds.
    """
    suite = cleaned(suite)
    chapters = [_chapter(at, chapter) for at, chapter in enumerate(suite["chapters"])]
    return page_of(
        "series.html.j2",
        {
            "title": one_line(suite["title"]),
            "told": [one_line(part) for part in suite["told"]],
            "paper": one_line(suite["paper"]),
            "version": one_line(suite["version"]),
            "n": len(chapters),
            "n_believed": sum(bool(chapter["believed"]) for chapter in chapters),
            "n_standing": sum(chapter["word"] == "SUPPORTED" for chapter in chapters),
            "has_paper": any(chapter["paper"] for chapter in chapters),
            "words": _words(chapters),
            "arcs": [
                {
                    "name": one_line(arc["name"]),
                    "told": one_line(arc["told"]),
                    "chapters": [chapter for chapter in chapters if chapter["arc"] == one_line(arc["name"])],
                }
                for arc in suite["arcs"]
            ],
        },
    )


def _words(chapters: Sequence[Mapping[str, Json]]) -> list[tuple[str, str]]:
    """The verdicts of a page and the terms that its claims use, each with one plain line."""
    sentences = [
        chapter[key] for chapter in chapters for key in ("claim", "metric", "lesson", "paper", "because", "truth")
    ]
    sentences += [line for chapter in chapters for line in (*chapter["naive"], *chapter["believed"])]
    sentences += [number["found"] for chapter in chapters for number in chapter["reported"]]
    sentences += ["system prompt" for chapter in chapters if chapter["instead"]]
    verdicts = dict.fromkeys(chapter["word"] for chapter in chapters)
    suite = [(word, means) for word in verdicts if (means := meaning(word))]
    suite += [(term, means) for found, term, means in _WORDS if re.search(found, " ".join(sentences))]
    return suite + glossary_of(sentences)


def believed_by(naive: Mapping[str, Json] | None) -> list[str]:
    """The naive protocols that would have taken a claim for true, in words."""
    return [words for name, words in _PROTOCOLS.items() if naive is not None and naive.get(name)]


def _chapter(at: int, chapter: Mapping[str, Json]) -> dict[str, Json]:
    word = chapter["verdict"] or "NOT RUN"
    naive, effect = chapter.get("naive"), chapter.get("effect")
    return {
        "name": one_line(chapter["name"]),
        "anchor": f"study-{at}",
        "arc": one_line(chapter["arc"]),
        "claim": one_line(chapter["claim"]),
        "word": word,
        "style": word.lower().replace(" ", "-"),
        "glyph": glyph_of(word),
        "because": _typeset(chapter["error"] or chapter["because"]),
        "as_expected": chapter["as_expected"],
        "expected": " or ".join(chapter["expected"]),
        "truth": one_line(chapter["truth"]),
        "in_short": one_line(chapter["in_short"]) if chapter["as_expected"] else "",
        "lesson": one_line(chapter["lesson"]) if chapter["as_expected"] else "",
        "metric": "" if effect is None else one_line(effect["metric"]).replace("_", " "),
        "naive": _naive(naive),
        "believed": believed_by(naive),
        "picture": draw(chapter["figure"], f"series-{at}") if chapter.get("figure") else None,
        "instead": [_instead(arm) for arm in chapter.get("instead", ())],
        "paper": _typeset(chapter["paper"]),
        "reported": [_reported(number) for number in chapter["reported"]],
        "page": f"{quote(chapter['run'])}/report.html" if effect is not None else "",
        "effect": "" if effect is None else estimate_line(effect["difference"], difference=True),
    }


def _naive(naive: Mapping[str, Json] | None) -> list[str]:
    """What is reported without an audit, a number each."""
    if naive is None:
        return []
    sentences = []
    if naive["difference"] is not None:
        p = naive["p"]
        bound = "" if p is None else ", p < 0.0001" if p < 0.0001 else f", p = {p_value(p)}"
        sentences.append(f"{signed(round(naive['difference'], 3))}{bound}")
    if naive["cv_auc"] is not None:
        sentences.append(f"cross-validated AUC {number(round(naive['cv_auc'], 3))}")
    return sentences


def _instead(arm: Mapping[str, Json]) -> dict[str, str]:
    return {
        "said": one_line(arm["system_prompt"]),
        "change": estimate_line(arm["difference"], difference=True) or "undefined",
    }


def _reported(given: Mapping[str, Json]) -> dict[str, str]:
    return {"claim": one_line(given["claim"]), "found": _typeset(given["found"]), "note": one_line(given["note"])}


def _typeset(numbers: Json) -> str:
    """Numbers in plain characters, with arrows and minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "−", one_line(numbers).replace("->", "→"))


def summary(chapters: Sequence[Mapping[str, Json]]) -> list[dict[str, str]]:
    """The table of a series in words, a row for each study: ``arc``, ``claim``, ``naive``, ``verdict``, ``in_short``, ``paper``."""
    rows = []
    for at, chapter in enumerate(chapters):
        shown = _chapter(at, chapter)
        rows.append(
            {
                "arc": shown["arc"],
                "claim": shown["claim"],
                "naive": ("would be believed: " if shown["believed"] else "") + "; ".join(shown["naive"]),
                "verdict": shown["word"],
                "in_short": shown["in_short"],
                "paper": shown["paper"],
            }
        )
    return rows
