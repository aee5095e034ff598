"""Verbs that make prompts: fresh."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from counterclaim.cli.application import Json, app
from counterclaim.cli.flags import assignment
from counterclaim.cli.show import plain, print_json, table_of, terminal
from counterclaim.errors import InputError
from counterclaim.lab.cli.show import part_watch

_ROLES = ("teacher", "student", "judge")


@app.command(
    epilog='Example: `counterclaim fresh --generator http://127.0.0.1:8000/v1#model --like prompts.jsonl --about "questions on '
    'cooking technique" --train taught/ --role student=Qwen/Qwen3-0.6B --out fresh.jsonl`'
)
def fresh(
    generator: Annotated[str, typer.Option(help="Who writes them: URL#model of an endpoint, or any other model.")],
    like: Annotated[str, typer.Option(help="Prompts of the same domain, a file or a set, which they must not copy.")],
    out: Annotated[Path, typer.Option(help="File of prompts to write; its card and what was dropped lie beside it.")],
    about: Annotated[
        str | None, typer.Option(help="The domain in one sentence: all that the generator knows of it.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many prompts are wanted.")] = 200,
    show_examples: Annotated[
        int, typer.Option(min=0, help="Show the generator this many of --like; what it writes is then less fresh.")
    ] = 0,
    train: Annotated[
        list[str] | None,
        typer.Option(help="Training set, prompts, run folder or prompt set that they must not occur in; repeat."),
    ] = None,
    checklists: Annotated[
        bool, typer.Option("--checklists", help="Have three to five required claims written for each prompt.")
    ] = False,
    checklist_author: Annotated[str | None, typer.Option(help="Who writes these; the generator when left out.")] = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="ROLE=MODEL: the teacher, student or judge that the generator must be independent of; repeat."
        ),
    ] = None,
    same_family: Annotated[
        bool, typer.Option("--same-family", help="Go on where the generator is of a teacher's or the student's family.")
    ] = False,
    language: Annotated[str, typer.Option(help="ISO 639-1 code of the prompts' language, or any.")] = "en",
    temperature: Annotated[float, typer.Option(min=0, help="Of the generator; 0 repeats itself most.")] = 1.0,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, help="Token budget of one reply; those that reach it are lost.")
    ] = 4096,
    seed: Annotated[int, typer.Option(help="Sampling seed.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once, for endpoints.")] = 8,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds before a request to an endpoint counts as failed.")
    ] = 120.0,
    most_tokens: Annotated[
        int | None, typer.Option(min=1, help="Stop cleanly when this many tokens have been billed.")
    ] = None,
    most_cost: Annotated[float | None, typer.Option(min=0, help="Stop cleanly at this cost; needs the prices.")] = None,
    price_in: Annotated[float, typer.Option(min=0, help="Price of a million prompt tokens, of any model.")] = 0.0,
    price_out: Annotated[float, typer.Option(min=0, help="Price of a million answered tokens.")] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and count calls; ask no model.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")] = False,
    as_json: Json = False,
) -> None:
    """Have fresh prompts written by an independent generator, for the split fresh of a study.

    Copies of the training data and of the prompts they should be like are dropped, and a classifier says whether they are
    fresh: different from training, yet of the same world. Killed at any moment and run again, it goes on where it stopped.
    """
    from counterclaim.lab.config import PromptChoice
    from counterclaim.lab.synthesis.fresh import FreshPlan, preview, write_prompts
    from counterclaim.records import Decode
    from counterclaim.registry import ModelSpec, Runtime

    if out.suffix != ".jsonl":
        raise InputError("--out is no .jsonl file", path=out, remedy="call it, for example, fresh.jsonl")
    plan = FreshPlan(
        generator=ModelSpec(generator),
        like=PromptChoice(like, "all"),
        about=about or "",
        n=n,
        shown=show_examples,
        train=tuple(train or ()),
        checklists=checklists or checklist_author is not None,
        author=None if checklist_author is None else ModelSpec(checklist_author),
        roles=_roles(role or []),
        same_family=same_family,
        language=None if language == "any" else language,
        decode=Decode(max_new_tokens, temperature=temperature, seed=seed),
        runtime=Runtime(
            concurrency=concurrency, timeout_s=timeout, most_tokens=most_tokens, most_cost=most_cost, price_in=price_in,
            price_out=price_out,
        ),
    )  # fmt: skip
    if dry_run:
        planned = preview(plan)
        if as_json:
            print_json(planned)
        else:
            _show_planned(planned)
        return
    with part_watch(quiet=as_json) as watch:
        card = write_prompts(plan, out, watch, overwrite=overwrite)
    if as_json:
        print_json(card)
    else:
        _show_card(card, out)


def _roles(texts: list[str]) -> dict[str, str]:
    """Models by role, numbered where a role is filled several times."""
    roles: dict[str, str] = {}
    for text in texts:
        name, model = assignment("--role", text)
        if name.partition(":")[0] not in _ROLES:
            raise InputError(f"--role {text!r}: there is no role {name!r}", remedy=f"the roles are {', '.join(_ROLES)}")
        roles[f"{name}:{len(roles)}" if name in roles else name] = model
    return roles


def _show_planned(planned: dict[str, Any]) -> None:
    """The calls, the known prompts, and a request."""
    console = terminal()
    compared = planned["compared_with"]
    console.print(plain(
        f"{planned['n']:,} prompts in about {planned['calls']:,} calls ({planned['calls_at_most']:,} at most), none of them a "
        f"copy of {planned['known']:,} known prompts, and compared with {compared['n']:,} of {compared['what']}."
    ))  # fmt: skip
    for role, family in planned["roles"].items():
        console.print(plain(f"{role.replace('_', ' ')}: {family}"))
    _show_notes(console, planned["notes"])
    console.print(plain(f"\nA request:\n\n{planned['request']}\n"))
    console.print("No model was asked and nothing was written.")


def _show_card(card: dict[str, Any], out: Path) -> None:
    """Prompts kept and dropped, whether they are fresh, and what the calls cost."""
    console = terminal()
    total = card["calls"]["total"]
    console.print(plain(
        f"{card['kept']:,} of {card['asked']:,} prompts kept ({card['written']:,} written on {card['topics']} topics) by "
        f"{card['generator']['name']}"
    ))  # fmt: skip
    if card["dropped"]:
        table = table_of("dropped", "n")
        for reason, count in card["dropped"].items():
            table.add_row(reason, f"{count:,}")
        console.print(table)
    facts = table_of("", "prompts", "words (5 % to 95 %)", "questions", "commonest openers")
    for name in ("fresh", "known"):
        of_set, words = card["facts"][name], card["facts"][name]["words"]
        openers = ", ".join(f"{opener['words']} {opener['share']:.0%}" for opener in of_set["openers"])
        facts.add_row(
            name, f"{of_set['n']:,}", f"{words['median']:g} ({words['low']:g} to {words['high']:g})",
            f"{of_set['questions']:.0%}", plain(openers),
        )  # fmt: skip
    console.print(facts)
    console.print(plain(card["c2st"]["says"]))
    contamination = card["contamination"]
    console.print(plain(
        f"{contamination['copies_dropped']:,} copies of {contamination['known_prompts']:,} known prompts and "
        f"{contamination['training_examples']:,} training examples were dropped."
    ))  # fmt: skip
    console.print(plain(
        f"{total['calls']:,} calls, {total['prompt_tokens']:,} tokens in, {total['tokens']:,} out, cost {total['cost']:.4g}"
    ))  # fmt: skip
    _show_notes(console, card["notes"])
    stem = out.name.removesuffix(".jsonl")
    console.print(plain(
        f"\nPrompts: {out}\nCard: {out.with_name(f'{stem}.card.json')}\nDropped: {out.with_name(f'{stem}.dropped.jsonl')}\n"
        f'In a study: [prompts] file = "{out.name}"  split = "fresh"'
    ))  # fmt: skip


def _show_notes(console: Any, notes: list[str]) -> None:
    for note in notes:
        console.print(plain(f"note: {note}"))
