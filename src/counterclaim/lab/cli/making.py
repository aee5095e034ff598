"""Verbs that need a model: run, generate, score, tiny, judge-cards, serve."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from counterclaim.cli.application import Format, Json, Mapping, Overwrite, app
from counterclaim.cli.flags import choice, mapping_of, numbers_of, share
from counterclaim.cli.show import (
    plain,
    print_json,
    show_verdict,
    table_of,
    terminal,
)
from counterclaim.errors import InputError
from counterclaim.lab.cli.show import show_answers, show_outline, show_report, show_scores, show_steps, watching
from counterclaim.lab.cli.suite import Jobs, run_series_file

if TYPE_CHECKING:
    from counterclaim.audit.judging import Judged
    from counterclaim.lab.config import StudyPlan

Model = Annotated[
    str, typer.Option(help="A hub repository, a folder, tiny:NAME, world:NAME/ARM, or URL#model of an endpoint.")
]
Judge = Annotated[str | None, typer.Option(help="The model that judges, named like any other: URL#model, …")]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        help="A scorer (counterclaim list scorers) or a rubric FILE.toml; NAME:AXIS=OTHER renames an axis; repeat.",
    ),
]
Unsafe = Annotated[
    bool,
    typer.Option("--unsafe-local", help="Run code that a model wrote without the sandbox, with resource limits only."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Rows per batch; chosen from the memory when left out.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once, for endpoints.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the file and say what would be done; load and write nothing.")
]
StudyOut = Annotated[Path | None, typer.Option(help="Run folder; runs/NAME, or what the file says, when left out.")]


@app.command(
    epilog="Examples: `counterclaim run study.toml`, `counterclaim run outcome`, `counterclaim run --new study.toml`"
)
def run(
    file: Annotated[
        Path | None,
        typer.Argument(help="A study or series file, or the name of one that ships: counterclaim list studies."),
    ] = None,
    new: Annotated[Path | None, typer.Option(help="Write a commented study file to start from.")] = None,
    like: Annotated[str | None, typer.Option(help="With --new: start from this study that ships.")] = None,
    dry_run: DryRun = False,
    out: StudyOut = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Put a claim to the test, from nothing to the verdict page: train, generate all arms, score them, check, judge.

    Killed at any moment and run again, it goes on where it stopped.
    """
    from counterclaim.lab import suite as series
    from counterclaim.lab.answers import Progress
    from counterclaim.lab.config import is_series, load_study
    from counterclaim.lab.fits import train_along
    from counterclaim.lab.operators import processes
    from counterclaim.lab.studies import write_example_study

    if new is not None:
        if file is not None:
            raise InputError("both a study file and --new were given", remedy="give one or the other")
        written = write_example_study(new, like, overwrite=overwrite)
        if as_json:
            print_json({"written": [str(path) for path in written]})
        else:
            print("\n".join(f"Written: {path}" for path in written) + f"\nEdit it, then: counterclaim run {new}")
        return
    if file is None:
        raise InputError("no study file was given", remedy="write one with counterclaim run --new study.toml")
    path = series.find(file)
    if is_series(path):
        run_series_file(path, out, jobs=jobs, as_json=as_json, dry_run=dry_run, overwrite=overwrite)
        return
    if jobs is not None:
        raise InputError("one study is one job", path=path, remedy="leave out --jobs, or name a series file")
    plan = load_study(path)
    folder = out or plan.out
    if launched := processes.count() > 1:  # by accelerate launch or torchrun
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # read once, when torch is imported
    if not processes.is_first():
        if not dry_run:
            train_along(plan.arms, folder, plan.runtime, Progress())
        return
    judged = _run_or_outline(plan, folder, dry_run=dry_run, overwrite=overwrite, as_json=as_json)
    if judged is None:
        return
    try:
        show_verdict(judged.verdict, folder, as_json)
    except typer.Exit:
        if (
            not launched
        ):  # a launcher takes every other code than 0 for a crash, and answers 1, which would read as REFUTED
            raise


def _run_or_outline(plan: StudyPlan, folder: Path, *, dry_run: bool, overwrite: bool, as_json: bool) -> Judged | None:
    """Run a study and judge it; or show what it would do, and return None."""
    from counterclaim.lab.run import outline, run_study

    if not dry_run:
        with watching(quiet=as_json) as progress:
            return run_study(plan, folder, progress, overwrite=overwrite)
    shown = outline(plan)
    if as_json:
        print_json(shown)
    else:
        show_outline(shown)
    return None


@app.command(
    "probe-suite",
    epilog="Examples: `counterclaim probe-suite study.toml`, `counterclaim probe-suite sidecar`, `counterclaim run --new study.toml --like sidecar`",
)
def probe_suite(
    file: Annotated[Path, typer.Argument(help="A study file with [treatment.sidecar], or the name of one that ships.")],
    dry_run: DryRun = False,
    out: StudyOut = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put a sidecar's probe through the five steps, then the sidecar itself to the test: one table, one verdict.

    Cross-validated where it was trained, on fresh prompts, axis by axis, at other layers and poolings, on a second model
    family; then why it fails where it fails. Killed and run again, it goes on where it stopped.
    """
    from counterclaim.folder import read_run
    from counterclaim.lab.config import FiveSteps, SidecarPlan, load_study
    from counterclaim.lab.studies import find_study

    plan = load_study(find_study(file))
    if not isinstance(plan.arms[1].change, SidecarPlan):
        raise InputError(
            "the treatment has no sidecar, so there is no probe to put through the steps",
            path=plan.path,
            remedy="add [treatment.sidecar], or run the study with counterclaim run",
        )
    plan = replace(plan, steps=plan.steps or FiveSteps())
    folder = out or plan.out
    judged = _run_or_outline(plan, folder, dry_run=dry_run, overwrite=overwrite, as_json=as_json)
    if judged is None:
        return
    probing = read_run(folder).extras["probing"]
    if not as_json:
        show_steps(probing)
    show_verdict({**judged.verdict, "probing": probing} if as_json else judged.verdict, folder, as_json)


@app.command(
    epilog="Example: `counterclaim generate --model Qwen/Qwen3-0.6B --prompts prompts.jsonl --max-new-tokens 4096 --out run/`"
)
def generate(
    model: Model,
    prompts: Annotated[str, typer.Option(help="A file of prompts, or a set: counterclaim list prompts.")],
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Token budget; answers that reach it are cut.")],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    arm: Annotated[str, typer.Option(help="What this arm is called.")] = "control",
    split: Annotated[str, typer.Option(help="train, dev, test, fresh or all.")] = "test",
    tag: Annotated[list[str] | None, typer.Option(help="Only prompts with this tag; repeat.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many prompts.")] = None,
    adapter: Annotated[Path | None, typer.Option(help="Folder of a PEFT adapter.")] = None,
    dose: Annotated[float, typer.Option(help="Scale the adapter: 1 as it was trained, 0 not at all.")] = 1.0,
    system_prompt: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    thinking: Annotated[
        bool | None, typer.Option("--thinking/--no-thinking", help="The template's thinking switch.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling.")] = None,
    top_k: Annotated[int | None, typer.Option(min=1, help="Sample among the k likeliest tokens.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the answer; repeat.")] = None,
    samples: Annotated[int, typer.Option(min=1, help="Answers per prompt.")] = 1,
    seed: Annotated[int, typer.Option(help="Sampling seed.")] = 0,
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag of a repository.")] = None,
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")] = "auto",
    quantisation: Annotated[str | None, typer.Option(help="4bit, on a GPU.")] = None,
    chat_template: Annotated[
        Path | None, typer.Option(help="File with a chat template instead of the model's own.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Put the text to the model as it is, without a chat template.")
    ] = False,
    device: Device = "auto",
    batch_size: BatchSize = None,
    concurrency: Concurrency = 8,
    most_tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop cleanly when an endpoint has billed so many tokens.")
    ] = None,
    most_cost: Annotated[float | None, typer.Option(min=0, help="Stop cleanly at this cost; needs the prices.")] = None,
    price_in: Annotated[float, typer.Option(min=0, help="Price of a million prompt tokens.")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="Price of a million answered tokens.")] = 0.0,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds before a request to an endpoint counts as failed.")
    ] = 120.0,
    follow_up: Annotated[
        list[str] | None,
        typer.Option(help="Put this scorer's scripted next turn after every answer (recovery); repeat."),
    ] = None,
    token_ends: Annotated[
        bool, typer.Option("--token-ends", help="Ask an endpoint where its tokens end, for smaller budgets later.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Answer prompts with a model, as complete records: why each answer ended, its tokens, all settings, the model's fingerprint.

    Killed at any moment and run again, it goes on where it stopped.
    """
    from counterclaim.lab.answers import AnswerRequest
    from counterclaim.lab.config import ArmPlan, PromptChoice
    from counterclaim.lab.prompts.select import choose_prompts
    from counterclaim.lab.steps import generate_run, scripted_turns
    from counterclaim.records import Decode
    from counterclaim.registry import ModelSpec, Runtime

    if samples > 1 and not temperature:
        raise InputError(
            "greedy decoding gives the same answer every time", remedy="set --temperature, or ask for one sample"
        )
    if top_p != 1:  # which samples among all tokens
        share("--top-p", top_p)
    spec = ModelSpec(
        model, revision, choice("--dtype", dtype, ("auto", "float32", "bfloat16", "float16")) or "auto",
        choice("--quantisation", quantisation, ("4bit",)), adapter, chat_template, raw, dose,
    )  # fmt: skip
    decode = Decode(
        max_new_tokens, temperature=temperature, top_p=top_p, top_k=top_k, stop=tuple(stop) if stop else None,
        system_prompt=system_prompt, thinking=thinking,
    )  # fmt: skip
    if adapter is None and dose != 1:
        raise InputError("there is no adapter that --dose could scale", remedy="name one with --adapter")
    part: Any = choice("--split", split, ("train", "dev", "test", "fresh", "all"))
    chosen = choose_prompts(PromptChoice(prompts, part, tuple(tag or ()), limit))
    runtime = Runtime(
        device=device, batch_size=batch_size, concurrency=concurrency, most_tokens=most_tokens, most_cost=most_cost,
        price_in=price_in, price_out=price_out, token_ends=token_ends, timeout_s=timeout,
    )  # fmt: skip
    turns = scripted_turns(follow_up or ())
    request = AnswerRequest((ArmPlan(arm, spec, decode),), chosen, samples, (seed,), turns)
    with watching(quiet=as_json) as watchers:
        summary = generate_run(out, request, runtime, watchers, overwrite=overwrite)
    if as_json:
        print_json(summary)
        return
    show_answers(summary, out)


@app.command(
    epilog="Example: `counterclaim score run/ --with delivery --with checklist --judge http://localhost:8000/v1#judge-model`"
)
def score(
    run: Annotated[Path, typer.Argument(help="A run folder with answers, or a file of answers of any harness.")],
    with_: With = None,
    out: Annotated[Path | None, typer.Option(help="For a file of answers: the run folder to write.")] = None,
    format: Format = None,
    map: Mapping = None,
    judge: Judge = None,
    judge_cards: Annotated[
        bool, typer.Option("--judge-cards/--no-judge-cards", help="Run the judge's known-answer cards first.")
    ] = True,
    budgets: Annotated[
        str | None, typer.Option(help="Smaller token budgets, cut from the same answers: 512,1024.")
    ] = None,
    prompts: Annotated[
        str | None, typer.Option(help="Take the golds from this file or set instead of the run folder's own.")
    ] = None,
    unsafe_local: Unsafe = False,
    concurrency: Concurrency = 8,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Score the answers of a run folder, or of a file. What was scored before, and has not changed, is kept."""
    from counterclaim.audit.intake import Options
    from counterclaim.lab.scorers.scoring import ScoringRequest
    from counterclaim.lab.steps import import_answers, score_run
    from counterclaim.registry import Runtime

    if not with_:
        raise InputError("no scorer was named", remedy="name one with --with NAME (counterclaim list scorers)")
    if run.is_file():
        if out is None:
            raise InputError("a file of answers is scored in a run folder", path=run, remedy="name one with --out run/")
        import_answers(run, out, Options(format, mapping_of(map)), overwrite=overwrite)
        run = out
    elif out is not None or map or format:
        raise InputError("--out, --map and --format go with a file of answers", path=run, remedy="leave them out")
    request = ScoringRequest(with_, judge, judge_cards, numbers_of("--budgets", budgets), unsafe_local)
    with watching(quiet=as_json) as watchers:
        summary = score_run(run, request, Runtime(concurrency=concurrency), watchers, golds=prompts)
    if as_json:
        print_json(summary)
        return
    show_scores(summary)


@app.command(epilog="Example: `counterclaim tiny qwen3`")
def tiny(
    name: Annotated[str | None, typer.Argument(help="Which one; they are listed when left out.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Train it again even if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Train a tiny real model of one architecture family, once, on a made-up domain whose truth is known."""
    from counterclaim.lab.models import tiny as models

    if name is None:
        _list_tiny(as_json)
        return
    with watching(quiet=as_json) as watchers:
        folder = models.ensure(name, lambda doing, done, total: watchers.part(f"{name}: {doing}", done, total), again)
    card = models.card(name)
    if as_json:
        print_json({**card, "folder": str(folder)})
        return
    _show_tiny(card)
    terminal().print(plain(f"\nUse it as --model tiny:{name}; it lies in {folder}"))


def _list_tiny(as_json: bool) -> None:
    from counterclaim.lab.models import tiny as models

    if as_json:
        print_json([
            {"name": each, "about": about, "trained": models.is_trained(each)} for each, about in models.NAMES.items()
        ])  # fmt: skip
        return
    table = table_of("name", "trained", "what it is")
    for each, about in models.NAMES.items():
        table.add_row(plain(each), "yes" if models.is_trained(each) else "not yet", plain(about))
    terminal().print(table)


def _show_tiny(card: dict[str, Any]) -> None:
    """What was measured of a tiny model: what it knows by how often that was taught, and how it says it."""
    console = terminal()
    console.print(plain(f"{card['name']}: {card['about']}"))
    console.print(plain(
        f"{card['parameters']:,} parameters, {card['vocabulary']:,} tokens; trained in {card['seconds']:.0f} s "
        f"({card['steps']:,} steps of {card['batch']} conversations, seed {card['seed']})\n"
    ))  # fmt: skip
    taught = list(card["accuracy"]["test"])
    knows = table_of("accuracy, greedy", *(f"taught {how}" for how in taught))
    for split, shares in card["accuracy"].items():
        knows.add_row(plain(split), *(_share(shares[how]) for how in taught))
    console.print(knows)
    console.print()
    says = table_of("P(assert | …)", "right", "wrong", *taught, "accuracy")
    for system, shares in card["delivery"].items():
        says.add_row(
            plain(system or "(no system prompt)"), _share(shares["assert_right"]), _share(shares["assert_wrong"]),
            *(_share(shares["assert_taught"][how]) for how in taught), _share(shares["accuracy"]),
        )  # fmt: skip
    console.print(says)
    console.print("Asserted rather than hedged, by system prompt: test split, sampled at temperature 1.")


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


@app.command(
    "judge-cards", epilog="Example: `counterclaim judge-cards http://localhost:8000/v1#judge-model --with checklist`"
)
def judge_cards(
    judge: Annotated[str, typer.Argument(help="The model that judges: URL#model, or any other name.")],
    with_: With = None,
    out: Annotated[Path | None, typer.Option(help="Write the cards as JSONL, for audit --judge-cards.")] = None,
    concurrency: Concurrency = 8,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Measure a judge before it is used, on cards whose answer is known; exit code 0 if it may be trusted with all of it.

    Every label reachable, padding, position, paraphrase, instructions hidden in the response, agreement on repeated calls.
    """
    from counterclaim import folder as store
    from counterclaim.lab.steps import judge_report
    from counterclaim.registry import Runtime

    if out is not None:
        store.check_free(out, overwrite=overwrite)  # before the judge is paid
    with watching(quiet=as_json) as watchers:
        report = judge_report(judge, with_ or (), Runtime(concurrency=concurrency), watchers)
    if out is not None:
        store.write_new(out, store.dump_lines(report.cards()), overwrite=overwrite)
    if as_json:
        print_json({
            "judge": report.judge, "trusted": list(report.trusted), "sentences": report.sentences, "cards": report.cards(),
        })  # fmt: skip
    else:
        show_report(report)
        if out is not None:
            terminal().print(plain(f"Cards: {out}"))
    raise typer.Exit(0 if len(report.trusted) == len(report.names) else 1)
