"""What is known already: the prompts that fresh ones should be like, and what was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from counterclaim import folder as store
from counterclaim.errors import InputError
from counterclaim.lab import prompts as promptsets
from counterclaim.lab.config import PromptChoice
from counterclaim.lab.fresh.sieve import Known
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.synthesis import examples
from counterclaim.records import Example, Json, Message, Prompt, prompt_id


def read_known(like: Sequence[Prompt], sources: Iterable[str]) -> Known:
    """Everything that fresh prompts are held against.

    Args:
        like: the prompts that they should be like.
        sources: of training: a training set (a folder of ``counterclaim teach``, or a file in a format of TRL), a file
            of prompts, a run folder, or the name of a prompt set, whose train split is meant.

    Raises:
        InputError: a source cannot be read, or holds nothing that was asked.
    """
    prompts = {prompt.id: prompt for prompt in like if prompt.messages}
    questions: list[str] = []
    trained_on: list[str] = []
    roles: dict[str, str] = {}
    for source in sources:
        path = Path(source).expanduser()
        if not path.exists():
            found = choose_prompts(PromptChoice(source, "train"))
            asked = [prompt.text for prompt in found]
        elif (path / "study.json").is_file():
            found, asked, said = _of_run(path)
            roles |= said
        else:
            learnt = _examples(path)
            roles |= _roles_of_card(path)
            found = [_question(example) for example in learnt] if learnt else list(promptsets.load(path))
            asked = [prompt.text for prompt in found]
            trained_on += map(_whole, learnt)
        if not asked:
            raise InputError(
                "it holds no training prompts", path=path, remedy="name the training set, or prompts of a train split"
            )
        prompts |= {prompt.id: prompt for prompt in found if prompt.messages}
        questions += asked
    against = "the training prompts" if questions else "the prompts they should be like"
    compared = questions or [prompt.text for prompt in prompts.values()]
    return Known(tuple(prompts.values()), tuple(trained_on), tuple(dict.fromkeys(compared)), against, roles)


def _of_run(folder: Path) -> tuple[list[Prompt], list[str], dict[str, str]]:
    """Every prompt of a run, the questions that its treated arm learnt from, and its roles."""
    run = store.read_run(folder)
    sampled: list[str] = run.extras.get("train_sample", [])
    prompts = [*run.prompts.values(), *(Prompt.of_text(text, split="train") for text in sampled)]
    asked = sampled or [prompt.text for prompt in prompts if prompt.split == "train" and prompt.messages]
    return prompts, asked, dict((run.study.get("claim") or {}).get("roles", {}))


def _examples(path: Path) -> list[Example]:
    """The examples of a training set; none where it is a file of prompts.

    Raises:
        InputError: it is neither (what is said is why it is no training set).
    """
    try:
        return examples.load(path)
    except InputError:
        if path.is_dir():
            raise
        try:
            promptsets.load(path)
        except InputError:
            pass
        else:
            return []
        raise


def _roles_of_card(path: Path) -> dict[str, str]:
    """Who taught, as the card of a training-set folder says; the student's own words count too."""
    card = path / "card.json"
    if not card.is_file():
        return {}
    try:
        roles: Mapping[str, Json] = json.loads(card.read_text(encoding="utf-8"))["roles"]
        return {f"{role}:{i}": str(model) for role, models in roles.items() for i, model in enumerate(models)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"cannot be read ({error})", path=card, remedy="make the training set again") from error


def _question(example: Example) -> Prompt:
    """What is asked in an example, without its system prompt."""
    messages = tuple(message for message in example.prompt if message.role != "system") or example.prompt
    return Prompt(prompt_id(messages), messages, "train")


def _whole(example: Example) -> str:
    turns: tuple[Message, ...] = example.prompt
    return "\n\n".join([*(turn.content for turn in turns), example.chosen, example.rejected or ""])
