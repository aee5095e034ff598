"""The verb ``probe``: does a probe read a label on its training items, on fresh ones, and if not, why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.flags import positive, share
from counterclaim.cli.show import plain, print_json, show_checks, table_of, terminal
from counterclaim.errors import InputError
from counterclaim.lab.cli.show import watching


@app.command(
    epilog="Example: `counterclaim probe --train chef.npz --train-labels chef.jsonl:correct --fresh fresh.npz "
    "--fresh-labels fresh.jsonl:correct`"
)
def probe(
    train: Annotated[
        Path, typer.Option(help="Features that the probe is fitted on: .npz, .npy, .safetensors, a captured folder.")
    ],
    train_labels: Annotated[
        str, typer.Option(help="FILE:KEY, the label of every row: a JSON or npz key, a column, RUN:correct=1.")
    ],
    fresh: Annotated[Path | None, typer.Option(help="Features of items that were used for nothing else.")] = None,
    fresh_labels: Annotated[str | None, typer.Option(help="FILE:KEY, their labels.")] = None,
    key: Annotated[str | None, typer.Option(help="Name of the array or block in both files (X).")] = None,
    label_threshold: Annotated[
        float | None, typer.Option(help="Labels are scores, and one of at least this is positive.")
    ] = None,
    C: Annotated[
        list[float] | None,
        typer.Option("--C", help="Inverse strength of the L2 penalty; repeat. The first is the probe (1.0, 0.1)."),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Folds of the cross-validation.")] = 5,
    splits: Annotated[int, typer.Option(min=1, help="Random splits into folds.")] = 20,
    permutations: Annotated[int, typer.Option(min=0, help="Label shuffles of each null.")] = 1_000,
    level: Annotated[float, typer.Option(help="Level of the intervals.")] = 0.95,
    seed: Annotated[int, typer.Option(min=0, help="Of splits, shuffles and the bootstrap.")] = 0,
    second_labels: Annotated[
        str | None, typer.Option(help="FILE:KEY, another label of the same construct for the fresh items.")
    ] = None,
    second_threshold: Annotated[
        float | None, typer.Option(help="Threshold of --second-labels, where they are scores.")
    ] = None,
    style: Annotated[
        Path | None, typer.Option(help="Style features of the fresh answers (length, hedges, …), row by row.")
    ] = None,
    cut: Annotated[str | None, typer.Option(help="FILE:KEY, whether the token budget cut each fresh answer.")] = None,
    as_json: Json = False,
) -> None:
    """Fit a linear probe on your features and try to refute that it reads the label.

    Cross-validation over many splits with its permutation null; AUC on fresh items with its interval; a gate with an honest
    threshold and with a peeked one; whether fresh items can be told from training items; and why the probe fails, if it does.
    """
    from counterclaim.lab.probing.features import load_features, same_model
    from counterclaim.lab.probing.labels import joined, load_labels, matched, row_order, scored
    from counterclaim.lab.probing.probe import probe_report

    share("--level", level)
    strengths = tuple(dict.fromkeys(C or (1.0, 0.1)))
    for strength in strengths:
        positive("--C", strength)
    if (fresh is None) != (fresh_labels is None):
        raise InputError(
            f"--fresh{'' if fresh is None else '-labels'} is missing",
            remedy="give both, or neither for cross-validation alone",
        )
    for flag, value in (("--second-labels", second_labels), ("--style", style), ("--cut", cut)):
        if value is not None and fresh is None:
            raise InputError(
                f"{flag} is about fresh items, and there are none", remedy="give --fresh and --fresh-labels"
            )
    training, labels = joined(load_features(train, key), load_labels(train_labels, label_threshold))
    more: dict[str, Any] = {}
    if fresh is not None and fresh_labels is not None:
        tested = load_features(fresh, key)
        same_model(training, tested)
        truth = matched(tested, load_labels(fresh_labels, label_threshold))
        kept = scored(truth)
        more = {"fresh": tested.rows(kept), "fresh_labels": truth.rows(kept)}
        if second_labels is not None:
            more["second_labels"] = matched(tested, load_labels(second_labels, second_threshold)).rows(kept)
        if style is not None:
            styles = load_features(style)
            at = row_order(tested, styles.ids, len(styles.x), styles.source)
            more["style"] = (styles if at is None else styles.rows(at)).rows(kept).x
        if cut is not None:
            ended = matched(tested, load_labels(cut)).rows(kept).score
            more["cut"] = [None if value != value else bool(value) for value in ended]
    with watching(quiet=as_json) as watchers:
        found = probe_report(
            training, labels, C=strengths, splits=splits, folds=folds, permutations=permutations, seed=seed, level=level,
            watch=watchers.part, **more,
        )  # fmt: skip
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    """One screen: what was fitted, a table by C, failure modes, checks."""
    console = terminal()
    train, fresh = found["train"], found["fresh"]
    size = f"{train['n']} training items, {train['n_pos']} positive, {train['d']:,} features"
    there = "no fresh items" if fresh is None else f"{fresh['n']} fresh items, {fresh['n_pos']} positive"
    console.print(plain(f"{size}; {there}\n"))
    table = table_of("", *(f"C {row['C']:g}" for row in found["C"]), "")
    for name, cell in _ROWS:
        by_C = [cell(row) for row in found["C"]]
        if any(by_C):
            table.add_row(name, *by_C, "")
    console.print(table)
    console.print()
    if fresh is None:
        console.print("Cross-validation alone supports no claim: give --fresh and --fresh-labels.\n")
    else:
        if found["excludes_auc_above"] is not None:
            top, bar = found["excludes_auc_above"], found["bars"]["fresh_auc"]
            console.print(f"These fresh items exclude an AUC above {top:.3f}; the bar is {bar:g}.")
        console.print(plain(f"Fresh items are told from training items with AUC {_estimate(found['c2st_auc'])}.\n"))
    for mode in found["taxonomy"]:
        console.print(f"[bold]{mode['mode']}[/]")
        console.print(plain(f"  {mode['because']}"))
    if found["taxonomy"]:
        console.print()
    elif any(check["check"] == "fresh" and check["outcome"] == "FAIL" for check in found["checks"]):
        console.print("No failure mode that was looked for explains why the probe fails on fresh items.\n")
    show_checks(console, found["checks"], needs="--json says what each would need")


def _estimate(estimate: dict[str, Any] | None) -> str:
    if estimate is None:
        return ""
    if estimate["estimate"] is None:
        return f"undefined: {estimate['reason']}"
    interval = "" if estimate["low"] is None else f" [{estimate['low']:.3f}, {estimate['high']:.3f}]"
    return f"{estimate['estimate']:.3f}{interval}"


def _spread(row: dict[str, Any]) -> str:
    cv = row["cv_auc"]
    return f"{cv['min']:.3f} to {cv['max']:.3f}"


def _shuffled(row: dict[str, Any]) -> str:
    cv = row["cv_auc"]
    return (
        ""
        if cv["permutation_p"] is None
        else f"{cv['null_mean']:.3f} ± {cv['null_sd']:.3f}, p {cv['permutation_p']:.2g}"
    )


def _gate(row: dict[str, Any], name: str) -> str:
    gate = row[name]
    if gate is None or gate["threshold"] is None:
        return ""
    return f"at {gate['threshold']:.3f}, keeps {gate['p_assert_correct']:.2f}"


def _peeked(row: dict[str, Any]) -> str:
    gate = row["asymmetry_peeked"]
    return "" if gate is None else "none keeps enough" if gate["estimate"] is None else f"{gate['estimate']:.3f}"


def _at_bar(row: dict[str, Any]) -> str:
    gate = row["asymmetry_peeked"]
    return "" if gate is None or not gate["permutations"] else f"{gate['null_p_at_bar']:.1%} of draws"


_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("AUC, cross-validated", lambda row: f"{row['cv_auc']['mean']:.3f}"),
    ("  between splits", _spread),
    ("  labels shuffled", _shuffled),
    ("AUC, fresh (DeLong)", lambda row: _estimate(row["fresh_auc"])),
    ("AUC, fresh (bootstrap)", lambda row: _estimate(row["fresh_auc_bootstrap"])),
    ("asymmetry, honest", lambda row: _estimate(row["asymmetry_honest"])),
    ("  threshold", lambda row: _gate(row, "asymmetry_honest")),
    ("asymmetry, peeked", _peeked),
    ("  threshold", lambda row: _gate(row, "asymmetry_peeked")),
    ("  reached when shuffled", _at_bar),
)
