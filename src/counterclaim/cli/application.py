"""The application that every verb joins, the options that several share, and how errors leave."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from counterclaim import __version__
from counterclaim.errors import CounterclaimError

BAD_INPUT = 2
INTERRUPTED = 130
GRACE_S = 10.0
"""Seconds for which one of several training processes that is not the first keeps an error to itself: what stops it has most
often stopped the first too, which says so and ends; the launcher then ends this one, and the user reads one sentence."""
DEBUG = "COUNTERCLAIM_DEBUG"
STOPPED = "counterclaim: interrupted; what the run folder holds is kept, and the same command goes on from there."


class Verb(NamedTuple):
    """A verb before it is imported: the module that registers it, its group in --help, and what it does, in a line."""

    module: str
    panel: str
    about: str


JUDGE, MAKE, READ, TRUST = "Judge results", "Make results", "Read models", "Trust this tool"
VERBS = {
    "audit": Verb("cli.judging", JUDGE, "Give a verdict on a claim, from two sets of results."),
    "check": Verb("cli.judging", JUDGE, "Redo checks, verdict and pages of a run folder."),
    "report": Verb("cli.judging", JUDGE, "Redraw the pages of a run folder, without running a check."),
    "claim": Verb("cli.judging", JUDGE, "Write a claim file, or freeze one before the test."),
    "profile": Verb("cli.judging", JUDGE, "How often one set of results is right, and how often it asserts."),
    "replicate": Verb("lab.cli.replicate", JUDGE, "Judge reported numbers by what they can support."),
    "run": Verb("lab.cli.making", MAKE, "Run a study file, from nothing to the verdict."),
    "demo": Verb("lab.cli.suite", MAKE, "Eleven claims about tiny models in minutes, offline."),
    "probe-suite": Verb(
        "lab.cli.making", MAKE, "Put a sidecar's probe through five steps, then the sidecar to the test."
    ),
    "teach": Verb("lab.cli.teach", MAKE, "Make a training set from teachers, with provenance."),
    "fresh": Verb("lab.cli.fresh", MAKE, "Have fresh prompts written by an independent generator."),
    "generate": Verb("lab.cli.making", MAKE, "Answer prompts with a model, as complete records."),
    "score": Verb("lab.cli.making", MAKE, "Score the answers of a run folder or of a file."),
    "tiny": Verb("lab.cli.making", MAKE, "Train a tiny real model on a made-up domain."),
    "export-tempered": Verb("lab.cli.editing", MAKE, "Write a model folder with an edit folded into its weights."),
    "capture": Verb("lab.cli.capture", READ, "Save hidden states and heads of a run's answers."),
    "attribute": Verb("lab.cli.capture", READ, "Which attention heads tell two cohorts of answers apart."),
    "probe": Verb("lab.cli.probe", READ, "Fit a linear probe and try to refute that it reads what it should."),
    "worlds": Verb("testing.cli", TRUST, "How often the verdict is wrong where the truth is known."),
    "kit": Verb("testing.cli", TRUST, "Test a check, scorer or any other plug-in, built-in ones too."),
    "judge-cards": Verb("lab.cli.making", TRUST, "Measure a judge on answers whose scores are known."),
    "list": Verb("testing.listing", TRUST, "List formats, metrics, checks, scorers and more by name."),
    "serve": Verb("testing.cli", TRUST, "Serve a model on this machine as an OpenAI-compatible endpoint."),
    "serve-tiny": Verb("testing.cli", TRUST, "Serve every tiny model and scripted teacher as one endpoint."),
}
"""Every verb in the order of --help, which imports none of them; a verb that is named imports what it needs and nothing else."""


class _NoBoolTypes:
    """Help of a command without the type of its flags, which take no value."""

    def get_params(self, ctx: Any) -> list[Any]:
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


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


class _Command(_NoBoolTypes, TyperCommand):
    """A verb."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.params.append(_plugins_option())


class Verbs(_NoBoolTypes, TyperGroup):
    """The verbs by name, each imported when it or its own help is requested."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        not_imported = {
            name: TyperCommand(name, help=verb.about, rich_help_panel=verb.panel) for name, verb in VERBS.items()
        }
        self.commands = {**not_imported, **self.commands}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] in VERBS:
            import_verb(args[0])
            self.commands.update(typer.main.get_group(app).commands)
        return super().resolve_command(ctx, args)


def import_verb(name: str) -> None:
    """Import the module in which a verb registers itself."""
    import_module(f"counterclaim.{VERBS[name].module}")


class Application(typer.Typer):
    """A ``Typer`` whose commands stand in ``VERBS``."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Register a function as the verb ``name``, or as the one of its own name."""

        def register(function: Any) -> Any:
            verb = VERBS[name or function.__name__]
            known: dict[str, Any] = {"cls": _Command, "short_help": verb.about, "rich_help_panel": verb.panel}
            return super(Application, self).command(name, **known, **settings)(function)

        return register


app = Application(
    cls=Verbs,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
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
PairBy = Annotated[
    str, typer.Option(help="prompt: rows are paired by the content of the prompt; id: by the ids that the files give.")
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


def main(run: Callable[[], Any] | None = None) -> None:
    """Run the command line, or another one of ours; every error on purpose is one sentence and exit code 2."""
    warnings.showwarning = _show_warning
    try:
        (run or app)()
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


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning of ours as one sentence, and those of others as Python shows them."""
    if category.__module__.startswith("counterclaim."):
        _say(str(message))
    else:
        _shown_by_python(message, category, filename, lineno, file, line)


_shown_by_python = warnings.showwarning
