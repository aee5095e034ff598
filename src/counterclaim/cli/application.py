"""The application that every verb joins, the options that several share, and how errors leave."""

from __future__ import annotations

import os
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from counterclaim import __version__
from counterclaim.errors import CounterclaimError

BAD_INPUT = 2
INTERRUPTED = 130
GRACE_S = 10.0
"""Seconds for which one of several training processes that is not the first keeps an error to itself: what stops it has most
often stopped the first too, which says so and ends; the launcher then ends this one, and the user reads one sentence."""
DEBUG = "COUNTERCLAIM_DEBUG"
STOPPED = "counterclaim: interrupted; what the run folder holds is kept, and the same command goes on from there."

VERBS = {
    **dict.fromkeys(("audit", "check", "report", "claim", "profile"), "counterclaim.cli.judging"),
    **dict.fromkeys(("run", "probe-suite", "generate", "score", "tiny", "judge-cards"), "counterclaim.lab.cli.making"),
    "demo": "counterclaim.lab.cli.suite",
    "teach": "counterclaim.lab.cli.teach",
    "fresh": "counterclaim.lab.cli.fresh",
    **dict.fromkeys(("capture", "attribute"), "counterclaim.lab.cli.capture"),
    "probe": "counterclaim.lab.cli.probe",
    "export-tempered": "counterclaim.lab.cli.editing",
    "replicate": "counterclaim.lab.cli.replicate",
    **dict.fromkeys(("worlds", "kit", "serve", "serve-tiny"), "counterclaim.testing.cli"),
    "list": "counterclaim.testing.listing",
}
"""Verb to the module that registers it, in the order of --help: a verb imports what it needs and nothing else."""


class Verbs(TyperGroup):
    """The verbs, each imported when it is named; all of them for --help."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return list(VERBS)

    def get_command(self, ctx: typer.Context, name: str) -> Any:  # type: ignore[override]
        if name in VERBS and name not in self.commands:
            import_module(VERBS[name])
            self.commands.update(typer.main.get_group(app).commands)
        command: Any = super().get_command(ctx, name)
        if command is not None and all(param.name != "plugins" for param in command.params):
            command.params.append(_plugins_option())
        return command


def _load_plugins(files: list[Path]) -> None:
    if files:
        from counterclaim.registry import load_plugins

        load_plugins(files)


_Plugins = Annotated[
    list[Path],
    typer.Option(
        "--plugins", callback=_load_plugins, is_eager=True, expose_value=False, metavar="FILE",
        help="A Python file with checks, scorers or other plug-ins of your own; repeat.",
    ),
]  # fmt: skip


def _plugins_option() -> Any:
    """``--plugins``, which every verb has: the files are loaded before anything else is read."""
    alone = typer.Typer(add_completion=False)

    @alone.command()
    def _(plugins: _Plugins = []) -> None: ...  # noqa: B006

    return typer.main.get_command(alone).params[0]


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Tries to refute a claim about a language model's behaviour before a reviewer does.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]
Format = Annotated[
    str | None,
    typer.Option("--format", help="Format of the files; detected when left out (counterclaim list formats)."),
]
Mapping = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="field=column, repeated or joined by commas: prompt=question,response=text,correct=passed."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another study in the run folder.")]
Rows = Annotated[str | None, typer.Option("--rows", help="Key of the list of rows inside a JSON file.")]
SameConstruct = Annotated[
    list[str] | None,
    typer.Option("--same-construct", help="Labels that claim to measure one thing, for example correct,factual."),
]


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"counterclaim {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every error on purpose is one sentence and exit code 2."""
    warnings.showwarning = _show_warning
    try:
        app()
    except SystemExit as exit:
        if exit.code == INTERRUPTED:  # typer has swallowed the Ctrl-C, and its exit says nothing
            print(STOPPED, file=sys.stderr)
        raise
    except CounterclaimError as error:
        _complain(str(error))
    except KeyboardInterrupt:
        print(STOPPED, file=sys.stderr)
        sys.exit(INTERRUPTED)
    except MemoryError:
        _complain("out of memory; audit fewer rows at once.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BAD_INPUT)
    except Exception as error:  # a bug of ours: one sentence all the same, and the traceback for whoever asks for it
        if os.environ.get(DEBUG):
            raise
        _complain(
            f"this is a bug in counterclaim, not in your input ({type(error).__name__}: {error}); "
            f"set {DEBUG}=1 to see the traceback, and report it."
        )


def _complain(sentence: str) -> NoReturn:
    """One sentence on standard error, then exit."""
    if os.environ.get("RANK", "0") != "0":  # one of several processes
        time.sleep(GRACE_S)
    _say(sentence)
    sys.exit(BAD_INPUT)


def _say(sentence: str) -> None:
    """One sentence on standard error, control characters of a terminal taken out."""
    print("counterclaim: " + "".join(c if c.isprintable() else "�" for c in sentence), file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    """A warning of ours as one sentence, and those of others as Python shows them."""
    if category.__module__.startswith("counterclaim."):
        _say(str(message))
    else:
        _shown_by_python(message, category, *rest)


_shown_by_python = warnings.showwarning
