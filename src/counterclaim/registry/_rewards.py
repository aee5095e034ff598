"""What a reward is: a function that says how good an answer is, for training on outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from counterclaim.errors import InputError, RegistryError
from counterclaim.registry._checks import check_name
from counterclaim.registry._scorers import Item, Need, Tools

Worth = Callable[[Item, Tools], float]


@dataclass(frozen=True, slots=True)
class Reward:
    """A registered reward.

    Attributes:
        name: how it is called in a study file.
        about: what it pays for, in one sentence.
        needs: what it cannot do without; ``oracle`` is the scorer that says right or wrong. Never ``judge``: a judge
            can be talked into things, and training finds out how.
        of: the function from a prompt with its gold and an answer to a finite number; larger is better. It depends on
            nothing else, so that equal answers are worth the same. ``tools.oracle`` always gives it a value.
        oracle: the scorer that says right or wrong, where the reward is about that one; None where the study chooses.
        follow_up: the scripted next turn to which the answer is given, for rewards on how a model takes feedback; None
            where the prompt itself is answered.
    """

    name: str
    about: str
    needs: frozenset[Need]
    of: Worth
    oracle: str | None = None
    follow_up: str | None = None


_REWARDS: dict[str, Reward] = {}


def reward(
    name: str, *, about: str, needs: tuple[Need, ...] = (), oracle: str | None = None, follow_up: str | None = None
) -> Callable[[Worth], Reward]:
    """Register a function from an ``Item`` and ``Tools`` to a number as a reward; arguments are those of ``Reward``.

    Raises:
        RegistryError: the name is malformed or taken, or the reward would ask a judge.
    """

    def register(function: Worth) -> Reward:
        check_name("reward", name, _REWARDS)
        if "judge" in needs:
            raise RegistryError(f"the reward {name!r} needs a judge, and rewards come from oracles and programs only")
        made = Reward(name, about, frozenset(needs), function, oracle, follow_up)
        _REWARDS[name] = made
        return made

    return register


def rewards() -> Mapping[str, Reward]:
    """All registered rewards by name."""
    return dict(_REWARDS)


def reward_named(name: str) -> Reward:
    """The reward of this name.

    Raises:
        InputError: there is none.
    """
    if name not in _REWARDS:
        raise InputError(f"there is no reward {name!r}", remedy=f"choose among {', '.join(sorted(_REWARDS))}")
    return _REWARDS[name]
