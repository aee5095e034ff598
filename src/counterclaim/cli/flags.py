"""How flags are read: each either gives a value or one sentence that says how to write it."""

from __future__ import annotations

from typing import Any, TypeVar

from counterclaim.errors import InputError

T = TypeVar("T", bound=str)


def mapping_of(items: list[str] | None) -> dict[str, str]:
    from counterclaim.importers import parse_mapping

    return parse_mapping(items or [])


def groups_of(items: list[str] | None) -> tuple[tuple[str, ...], ...]:
    groups = tuple(tuple(part.strip() for part in item.split(",") if part.strip()) for item in items or ())
    for group in groups:
        if len(group) < 2:
            raise InputError("--same-construct names one label only", remedy="name two or more: --same-construct A,B")
    return groups


def assignment(flag: str, item: str) -> tuple[str, str]:
    name, mark, value = item.partition("=")
    if not mark or not name.strip() or not value.strip():
        raise InputError(f"{flag} {item!r} is not NAME=VALUE", remedy=f"write it like {flag} name=value")
    return name.strip(), value.strip()


def guard_of(item: str) -> tuple[str, float | None]:
    if "=" not in item:
        return item, None
    name, value = assignment("--guard", item)
    try:
        allowed = float(value)
    except ValueError:
        allowed = -1.0
    if not 0 <= allowed < float("inf"):
        raise InputError(
            f"--guard {item!r}: the allowed loss is not a number ≥ 0", remedy="write --guard accuracy=0.02"
        )
    return name, allowed


def choice(flag: str, value: str | None, allowed: tuple[T, ...]) -> T | None:
    for option in allowed:
        if value == option:
            return option
    if value is None:
        return None
    raise InputError(f"{flag} {value!r} is not one of {', '.join(allowed)}", remedy="choose one of them")


def positive(flag: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < float("inf"):
        raise InputError(f"{flag} {value:g} is not a positive number", remedy="fractions, not percent: 0.05")
    return value


def share(flag: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < 1:
        raise InputError(f"{flag} {value:g} does not lie between 0 and 1", remedy="for example 0.01 or 0.95")
    return value


def counts_of(pair: tuple[str, str], paired: str | None, cut: list[str]) -> Any:
    from counterclaim.audit.effect import ArmCounts, Counts

    found = dict(_k_of_n("--counts", item) for item in pair)
    if set(found) != {"control", "treated"}:
        raise InputError("--counts does not name control and treated", remedy="--counts control=40/120 treated=55/120")
    cuts = dict(_k_of_n("--cut", item) for item in cut)
    for name, (_, n) in cuts.items():
        if name not in found or n != found[name][1]:
            raise InputError(f"--cut {name} does not fit --counts", remedy="use the same arm names and the same n")
    arms = {name: ArmCounts(k, n, cuts[name][0] if name in cuts else None) for name, (k, n) in found.items()}
    control, treated = arms["control"], arms["treated"]
    if paired is None:
        return Counts(control, treated)
    name, value = assignment("--paired", paired)
    low = max(0, control.k + treated.k - control.n)
    high = min(control.k, treated.k)
    if name != "both" or not value.isdigit() or control.n != treated.n or not low <= int(value) <= high:
        raise InputError(
            f"--paired {paired!r} does not fit the counts",
            remedy=f"both arms need the same n, and both=K with K from {low} to {high}",
        )
    return Counts(control, treated, int(value))


def _k_of_n(flag: str, item: str) -> tuple[str, tuple[int, int]]:
    name, value = assignment(flag, item)
    k, mark, n = value.partition("/")
    if not mark or not k.isdigit() or not n.isdigit() or not 0 <= int(k) <= int(n) or int(n) == 0:
        raise InputError(f"{flag} {item!r} is not ARM=K/N with K ≤ N", remedy=f"write it like {flag} control=40/120")
    return name, (int(k), int(n))


def numbers_of(flag: str, text: str | None) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        numbers = (0,)
    if any(number < 1 for number in numbers):
        raise InputError(f"{flag} {text!r} is not a list of whole numbers ≥ 1", remedy=f"write it like {flag} 512,1024")
    return numbers


def counted(flag: str, item: str) -> tuple[str, int | None]:
    """``NAME`` or ``NAME=COUNT``."""
    if "=" not in item:
        return item, None
    name, count = assignment(flag, item)
    if not count.isdigit() or int(count) < 1:
        raise InputError(
            f"{flag} {item!r}: the count is not a whole number ≥ 1", remedy=f"write it like {flag} {name}=3"
        )
    return name, int(count)
