"""A whole series: which studies, in which order, and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from counterclaim import __version__, registry
from counterclaim import folder as store
from counterclaim.errors import CounterclaimError, InputError
from counterclaim.lab.answers import Progress
from counterclaim.lab.config import Chapter, Series, TunePlan, load_pipeline, load_series
from counterclaim.lab.models import tiny
from counterclaim.lab.operators.builtin import check_installed
from counterclaim.lab.run import outline
from counterclaim.lab.studies import EXAMPLES, find_study
from counterclaim.lab.suite.chapter import STEPS, described, run_chapter
from counterclaim.lab.suite.page import render_series
from counterclaim.lab.suite.running import Task, Watch, run_tasks
from counterclaim.lab.workers import cores
from counterclaim.records import Json

SHIPPED = EXAMPLES / "series"

JSON, PAGE = "series.json", "report.html"


def shipped() -> dict[str, tuple[Path, str]]:
    """Series files that come with the package: name to file and what it is about, which is its first line."""
    out = {}
    for file in sorted(SHIPPED.glob("*.toml")):
        first = file.read_text(encoding="utf-8").partition("\n")[0]
        out[file.stem] = (file, first.removeprefix("#").strip())
    return out


def find(name: Path) -> Path:
    """A study or series file: the file itself, or one that comes with the package and has that name.

    Raises:
        InputError: there is no such file.
    """
    known = shipped()
    return known[str(name)][0] if not name.is_file() and str(name) in known else find_study(name, list(known))


def run_series(
    series: Series, folder: Path, watch: Watch, *, jobs: int | None = None, overwrite: bool = False
) -> dict[str, Json]:
    """Run every study of a series in a folder of its own, then write ``series.json`` and the page.

    Killed at any moment and run again, it goes on where it stopped. A study that cannot be run does not keep the others
    from it.

    Args:
        series: the file, read.
        folder: where; study NAME goes to ``folder/NAME``.
        watch: called with how far each study is.
        jobs: studies at once; one for each core where the file says that they may run together, else one.
        overwrite: replace other studies in these folders.

    Raises:
        InputError: something in one of the files, or the folder, cannot be used; found out before any study is begun.
        ModelError: a library is missing; found out before, too.

    Returns:
        what ``series.json`` holds: ``title``, ``told``, ``arcs``, ``paper``, ``version``, and under ``chapters`` for each
        study its claim, verdict, effect, what naive protocols say, what was expected and reported, and where it lies.
    """
    _check_figures(series)
    _check_installed(series.chapters)
    for chapter in series.chapters:
        outline(chapter.plan)
    _check_free(series, folder)
    with store.locked(folder):
        tasks = _tasks(series, folder, overwrite)
        many = jobs or (cores() if series.together else 1)
        outcomes = dict(run_tasks(tasks, min(many, len(tasks)), watch))
        summary: dict[str, Json] = store.rounded(
            {
                "title": series.title,
                "told": list(series.told),
                "arcs": [{"name": arc.name, "told": arc.told} for arc in series.arcs],
                "paper": series.paper,
                "version": __version__,
                "chapters": [_chapter(chapter, outcomes) for chapter in series.chapters],
            }
        )
        store.write_new(folder / JSON, store.dump(summary), overwrite=True)
        store.write_new(folder / PAGE, render_series(summary), overwrite=True)
    if bugs := [outcome for outcome in outcomes.values() if isinstance(outcome, Exception) and _is_bug(outcome)]:
        raise bugs[0]  # once what the other studies found is kept
    return summary


def _check_figures(series: Series) -> None:
    """Raise InputError where a study is shown by a picture that nothing draws."""
    for chapter in series.chapters:
        named, known = f"{chapter.name}: figure {chapter.figure!r}", sorted(check.name for check in registry.checks())
        if chapter.figure == STEPS and chapter.plan.steps is None:
            raise InputError(
                f"{named} shows the five steps of a probe, and the study has none",
                path=series.path,
                remedy="name a check, or leave it out",
            )
        if chapter.figure not in ("", STEPS, *known):
            meant = get_close_matches(chapter.figure, known, 1)
            raise InputError(
                f"{named} is no check{f'; did you mean {meant[0]}?' if meant else ''}",
                path=series.path,
                remedy="see counterclaim list checks",
            )


def _check_installed(chapters: Sequence[Chapter]) -> None:
    """Raise ModelError where a library is missing that one of the studies needs: nobody waits for half of them to learn it."""
    if any(isinstance(arm.change, TunePlan) for chapter in chapters for arm in chapter.plan.arms):
        check_installed()
    for name in {name for chapter in chapters for name in _models(chapter)}:
        tiny.folder_of(name)


def _check_free(series: Series, folder: Path) -> None:
    """Raise InputError where the folder holds anything but runs of the series' studies and no page of a series."""
    if (folder / JSON).exists() or not folder.is_dir():
        return
    ours = {store.LOCK_FILE, *(chapter.name for chapter in series.chapters)}
    if other := sorted(entry.name for entry in folder.iterdir() if entry.name not in ours):
        raise InputError(
            f"the folder holds something else than a series: {other[0]}", path=folder, remedy="choose another --out"
        )


def _chapter(chapter: Chapter, outcomes: Mapping[str, dict[str, Json] | Exception]) -> dict[str, Json]:
    outcome = outcomes[chapter.name]
    if isinstance(outcome, dict):
        return {**outcome, "error": None}
    error = f"a bug in counterclaim ({type(outcome).__name__}: {outcome})" if _is_bug(outcome) else str(outcome)
    return {**described(chapter), "verdict": None, "as_expected": False, "error": error or type(outcome).__name__}


def _is_bug(outcome: Exception) -> bool:
    return not isinstance(outcome, CounterclaimError | OSError | MemoryError)


def _tasks(series: Series, folder: Path, overwrite: bool) -> list[Task]:
    """Tiny models first, each once; then the studies, those with most to fit first, so that the last ones are short."""
    needs = {chapter.name: _models(chapter) for chapter in series.chapters}
    models = dict.fromkeys(name for names in needs.values() for name in sorted(names) if not tiny.is_trained(name))
    tasks = [Task(f"{tiny.SCHEME}{name}", partial(_ensure, name)) for name in models]
    for chapter in sorted(series.chapters, key=lambda chapter: -_fits(chapter)):
        work = partial(_run, series.path, chapter.name, folder / chapter.name, overwrite)
        waits_for = frozenset(f"{tiny.SCHEME}{name}" for name in needs[chapter.name] if name in models)
        tasks.append(Task(chapter.name, work, waits_for, frozenset(map(str, _taught(chapter)))))
    return tasks


def _run(path: Path, name: str, folder: Path, overwrite: bool, watchers: Progress) -> dict[str, Json]:
    """A study by the name that it has in a file: a plan as it was read cannot be sent to another process."""
    chapter = next(chapter for chapter in load_series(path).chapters if chapter.name == name)
    return run_chapter(chapter, folder, watchers, overwrite=overwrite)


def _ensure(name: str, watchers: Progress) -> dict[str, Json]:
    return {"folder": str(tiny.ensure(name, watchers.part))}


def _models(chapter: Chapter) -> set[str]:
    """Tiny models that a study opens."""
    plan = chapter.plan
    named = [arm.model.name for arm in plan.arms]
    if plan.steps is not None and plan.steps.second_model is not None:
        named.append(plan.steps.second_model)
    for file in _pipelines(chapter):
        pipeline = load_pipeline(file)
        named += [] if pipeline.student is None else [pipeline.student.name]
    return {name.removeprefix(tiny.SCHEME) for name in named if name.startswith(tiny.SCHEME)}


def _pipelines(chapter: Chapter) -> list[Path]:
    changes = [arm.change for arm in chapter.plan.arms]
    files = {change.data for change in changes if isinstance(change, TunePlan) and change.data is not None}
    return sorted(file for file in files if file.suffix == ".toml")


def _taught(chapter: Chapter) -> list[Path]:
    """Folders of the training sets that are made for a study; two studies may share one, and it is made once."""
    return [load_pipeline(file).out for file in _pipelines(chapter)]


def _fits(chapter: Chapter) -> int:
    """How much a study has to fit, roughly: stages of every seed of every arm."""
    changes = [arm.change for arm in chapter.plan.arms[1:] if arm.change is not None]
    return sum(len(change.seeds) * (len(change.stages) if isinstance(change, TunePlan) else 1) for change in changes)
