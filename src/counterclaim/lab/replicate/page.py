"""What reported numbers can support, claim by claim, as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby

from counterclaim.records import Json
from counterclaim.report.figures import draw
from counterclaim.report.html import page_of
from counterclaim.report.words import cleaned, estimate_line, one_line, p_span

_STYLES: Mapping[str, tuple[str, str]] = {
    "supported": ("pass", "✓"), "refuted": ("fail", "✕"), "inconclusive": ("warn", "?"), "not recomputable": ("not-run", "·"),
}  # fmt: skip
_CLAIMED: Mapping[str, str] = {
    "increase": "{0} rises; {1:g} would matter", "decrease": "{0} falls; {1:g} would matter",
    "none": "{0} does not move by {1:g} either way", "no-increase": "{0} does not rise by {1:g}",
    "no-decrease": "{0} does not fall by {1:g}",
}  # fmt: skip


def render_replication(table: Mapping[str, Json]) -> str:
    """The page of a table of claims.

    Args:
        table: ``ClaimTable.to_json()``.
    """
    table = cleaned(table)
    claims = [_claim(at, claim) for at, claim in enumerate(table["claims"])]
    arcs = [{"title": title, "claims": list(group)} for title, group in groupby(claims, key=lambda claim: claim["arc"])]
    artifacts = table["artifacts"]
    return page_of(
        "replicated.html.j2",
        {
            "title": one_line(table["title"]),
            "tally": [
                {"word": word, "count": count, "style": _STYLES[word][0]} for word, count in table["words"].items()
            ],
            "n": len(claims),
            "taken_back": [one_line(name) for name in table["taken_back"]],
            "arcs": arcs,
            "folder": "" if artifacts is None else one_line(artifacts["folder"]),
            "used": [] if artifacts is None else list(artifacts["used"].values()),
            "unused": [] if artifacts is None else list(artifacts["unused"].items()),
        },
    )


def _claim(at: int, claim: Mapping[str, Json]) -> dict[str, Json]:
    style, glyph = _STYLES[claim["word"]]
    area = claim["metric"] == "auc"
    facts = [
        ("reported", claim["reported"]),
        (
            "concluded",
            _CLAIMED[claim["direction"]].format("auc, from 0.5," if area else claim["metric"], claim["margin"]),
        ),
    ]
    facts += [
        (name, text)
        for name, text in (
            ("interval", estimate_line(claim["estimate"], difference=not area)),
            ("at the narrowest", estimate_line(claim["narrowest"], difference=not area)),
            ("p", p_span(claim["p_range"])),
            ("would settle it", claim["settles"]),
            ("assumes", claim["assumes"]),
            ("said since", claim["beside"]),
        )
        if text
    ]  # fmt: skip
    return {
        "arc": claim["arc"], "id": one_line(f"{claim['study']}: {claim['id']}"), "claim": one_line(claim["claim"]), "style": style,
        "glyph": glyph, "word": claim["word"], "because": one_line(claim["because"]),
        "facts": [(name, one_line(text)) for name, text in facts], "picture": _picture(at, claim) or "",
        "artifacts": [_artifact(found) for found in claim["artifacts"]],
    }  # fmt: skip


def _picture(at: int, claim: Mapping[str, Json]) -> str | None:
    """The widest interval beside chance and the margin: by regions for a claimed change, on a plain line for a claimed none."""
    estimate = claim["estimate"]
    if not estimate or estimate["low"] is None:
        return None
    chance = 0.5 if claim["metric"] == "auc" else 0.0
    sign = -1 if claim["direction"].endswith("decrease") else 1
    ends = {end: estimate[end] for end in ("estimate", "low", "high")}
    if claim["direction"] in ("increase", "decrease"):
        figure = {
            "kind": "interval",
            **ends,
            "zero": chance,
            "margin": claim["margin"],
            "direction": sign,
            "label": claim["metric"],
        }
    else:
        label = f"{claim['metric']}, distance from {chance:g}" if chance else claim["metric"]
        row = {"name": "reported", **{end: value - chance for end, value in ends.items()}}
        figure = {"kind": "forest", "label": label, "rows": [row], "margin": sign * claim["margin"]}
    return draw(figure, f"claim-{at}")


def _artifact(found: Mapping[str, Json]) -> dict[str, Json]:
    style = {True: "pass", False: "fail", None: "not-run"}[found["agrees"]]
    numbers = (
        f"{found['what']}: paper {found['paper']}, artefact {found['artifact']} (n = {found['n']}, {found['file']})"
        if found["artifact"]
        else ""
    )
    return {"style": style, "word": found["word"], "numbers": one_line(numbers), "because": one_line(found["because"])}
