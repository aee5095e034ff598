"""Draw the pictures of docs/second-look.md from the files that were released with arXiv 2604.11867.

    python scripts/second_look_pictures.py RELEASED [FOLDER]

RELEASED is the folder with the files; FOLDER (docs/images when left out) is where the pictures go. The pictures are those of the
reports: figure data in, the drawer's SVG out, with the part of the pages' style that a picture needs. A background of its own and
a dark set of colours let it be read wherever it is shown. The same files give the same bytes.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.resources import files
from pathlib import Path

from counterclaim import audit, importers
from counterclaim.audit.intake import AuditRequest, Options, import_study
from counterclaim.audit.metrics import CELLS
from counterclaim.lab.replicate.published import published
from counterclaim.lab.replicate.table import claim_table
from counterclaim.records import Json
from counterclaim.report.figures import draw

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
HALF = 0.5
"""Coverage from which the judged answers are labelled right."""


def figures(released: Path) -> dict[str, Json]:
    """Name of a picture to what is drawn on it."""
    return {
        "second-look-labels": _labels(released / "judge_v4_step16.json"),
        "second-look-endings": _endings(released / "eval_baseline.json", released / "eval_full_ddv2.json"),
        "second-look-heads": _heads(released / "path_b_attribution_gemma4.json"),
        "second-look-areas": _areas(),
    }


def _labels(judged: Path) -> Json:
    """The 2×2 as it was published, and with the ties on the other side."""
    as_published = audit.profile(judged, Options())["cells"]
    answers: dict[tuple[str, int], dict[str, Json]] = {}
    for score in importers.load(judged, arm="control").scores:
        answers.setdefault((score.prompt_id, score.sample), {})[score.axis] = score.value
    strict = dict.fromkeys(CELLS, 0)
    for axes in answers.values():
        strict[("h" if axes["delivery"] == "hedge" else "c") + ("r" if axes["coverage"] > HALF else "w")] += 1
    arms = [("right: coverage ≥ 0.5", as_published), ("right: coverage > 0.5", strict)]
    return {
        "kind": "table2x2", "rows": ["right", "wrong"], "cols": ["assert", "hedge"],
        "arms": [{"name": name, "cells": [[c["cr"], c["hr"]], [c["cw"], c["hw"]]]} for name, c in arms],
    }  # fmt: skip


def _endings(control: Path, treated: Path) -> Json:
    """How long the answers of both arms are, as the check on cut answers draws it."""
    records = import_study({"control": [control], "treated": [treated]}, AuditRequest(metric="score"), Options())
    return next(check["figure"] for check in audit.judge(records).checks if check["check"] == "truncation")


def _heads(file: Path) -> Json:
    """Every head's d, framed where it is beyond what the largest of as many reaches one time in twenty."""
    numbers = published(file)
    listed = json.loads(file.read_text(encoding="utf-8"))["all_heads_ranked_by_cohen_d"]
    value = {(row["layer"], row["head"]): row["cohen_d"] for row in listed}
    layers, heads = range(1 + max(layer for layer, _ in value)), range(1 + max(head for _, head in value))
    return {
        "kind": "heatmap", "label": "How much louder each head is in confident wrong answers", "ylabel": "head", "xlabel": "layer",
        "bound": numbers["null"]["q95"], "rows": [str(head) for head in heads], "cols": [str(layer) for layer in layers],
        "values": [[value.get((layer, head)) for layer in layers] for head in heads],
    }  # fmt: skip


def _areas() -> Json:
    """The claims that a probe does not reach 0.63 on fresh prompts: settled where the interval lies in the shaded part."""
    names = {
        ("paper-gemma4-sidecar", "fresh"): "Gemma, C 0.1", ("paper-gemma4-sidecar", "fresh-C1"): "Gemma, C 1",
        ("paper-gemma4-sidecar", "fresh-last-four"): "Gemma, last four layers",
        ("paper-smollm2-sidecar", "fresh"): "SmolLM2, C 1", ("paper-smollm2-sidecar", "fresh-C0.1"): "SmolLM2, C 0.1",
    }  # fmt: skip
    claims = {(row["study"], row["id"]): row for row in claim_table("paper").to_json()["claims"]}
    rows = [
        {
            "name": name, **{end: claims[key]["estimate"][end] for end in ("estimate", "low", "high")},
            "bar": 0.5 + claims[key]["margin"], "rule": "at most", "passed": True if claims[key]["word"] == "supported" else None,
        }
        for key, name in names.items()
    ]  # fmt: skip
    return {"kind": "gates", "label": "AUC on fresh prompts", "rows": rows, "line": 0.5}


def picture(figure: Json, name: str) -> str:
    """A figure as an SVG file that brings its own style."""
    inline = draw(figure, name)
    assert inline is not None, name
    sheet = (files("counterclaim.report") / "templates" / "style.css").read_text(encoding="utf-8")
    colours = sheet[: sheet.index("* {")]
    classes = sheet[sheet.index(".figure text") : sheet.index("@media (max-width")]
    size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', inline)
    assert size is not None, name
    width, height = float(size[1]), float(size[2])
    frame = f'viewBox="-12 -10 {width + 24:g} {height + 20:g}" width="{(width + 24) * 1.5:g}"'
    style = (
        f"{colours}svg {{ font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif; }}\n"
        f".paper {{ fill: var(--card); }}\n{classes.strip()}\n"
    )
    head, _, rest = inline.replace(size[0], frame).partition(">")
    return (
        f'{head} xmlns="http://www.w3.org/2000/svg"><style>\n{style}</style>\n'
        f'<rect class="paper" x="-12" y="-10" width="{width + 24:g}" height="{height + 20:g}"/>{rest}\n'
    )


def main() -> None:
    released = Path(sys.argv[1])
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures(released).items():
        (folder / f"{name}.svg").write_text(picture(figure, name), encoding="utf-8")
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
