"""What a check is and how it makes itself known."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from counterclaim.errors import InputError, RegistryError
from counterclaim.records import CheckResult, Estimate, Group, Json, Outcome

NAME = re.compile(r"[a-z][a-z0-9-]*")


def check_name(kind: str, name: str, taken: Container[str]) -> None:
    """Raise RegistryError where a name of something that is registered is malformed or taken."""
    if not NAME.fullmatch(name):
        raise RegistryError(f"{kind} name {name!r} is not lower-case-with-hyphens")
    if name in taken:
        article = "an" if kind[0] in "aeiou" else "a"
        raise RegistryError(f"{article} {kind} named {name!r} is registered already")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says; the registry adds the check's name, its group and whether it was required.

    Args are those of ``CheckResult``.
    """

    outcome: Outcome
    because: str
    remedy: str = ""
    estimate: Estimate | None = None
    n: int = 0
    n_unscored: int = 0
    evidence: tuple[str, ...] = ()
    details: Mapping[str, Json] = field(default_factory=dict)
    figure: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A registered check.

    Attributes:
        name: how it is called on the page and in ``--require``.
        group: ruler, effect, cost or transfer.
        question: what it asks, in one sentence.
        run: the function; it takes an Evidence and returns a Finding.
        must_fail: planted worlds in which it must not pass.
        must_pass: planted worlds in which it must pass.
    """

    name: str
    group: Group
    question: str
    run: Callable[[Any], Finding]
    must_fail: tuple[str, ...]
    must_pass: tuple[str, ...]

    def __call__(self, evidence: Any, *, required: bool = False) -> CheckResult:
        """Run the check; results that lack what it reads make it NOT_RUN, any other exception is an ERROR, never a PASS."""
        try:
            finding = self.run(evidence)
        except InputError as error:  # the results lack what the check reads
            remedy = error.remedy or "give results that hold what is missing"
            finding = Finding(Outcome.NOT_RUN, str(error), f"{remedy[0].upper()}{remedy[1:]}.")
        except Exception as error:  # a check that breaks must not take the others with it, nor pass
            finding = Finding(
                Outcome.ERROR,
                f"The check itself broke: {type(error).__name__}: {error}",
                "Report this with the run folder; the other checks are not affected.",
            )
        return CheckResult(
            check=self.name,
            group=self.group,
            outcome=finding.outcome,
            because=finding.because,
            remedy=finding.remedy,
            estimate=finding.estimate,
            required=required,
            n=finding.n,
            n_unscored=finding.n_unscored,
            evidence=finding.evidence,
            details=finding.details,
            figure=finding.figure,
        )


_CHECKS: dict[str, Check] = {}


def check(
    name: str, *, group: Group, question: str, must_fail: tuple[str, ...], must_pass: tuple[str, ...]
) -> Callable[[Callable[[Any], Finding]], Check]:
    """Register a function as a check.

    Raises:
        RegistryError: the name is malformed or taken, or the check names no world that it must catch or let pass.
    """

    def register(function: Callable[[Any], Finding]) -> Check:
        check_name("check", name, _CHECKS)
        if not must_fail or not must_pass:
            raise RegistryError(f"check {name!r} names no planted world that it must catch and one that it must pass")
        made = Check(name, group, question, function, must_fail, must_pass)
        _CHECKS[name] = made
        return made

    return register


def checks() -> Iterator[Check]:
    """All registered checks in the order in which they are run: ruler, effect, cost, transfer."""
    order = {"ruler": 0, "effect": 1, "cost": 2, "transfer": 3}
    yield from sorted(_CHECKS.values(), key=lambda item: order[item.group])
