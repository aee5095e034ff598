"""Fresh prompts: good and bad generators through the whole of it, resumes, budgets, roles, and a study that asks them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import write_rows
from counterclaim.errors import BudgetSpent, InputError
from counterclaim.lab import prompts as promptsets
from counterclaim.lab.answers import Progress
from counterclaim.lab.config import PromptChoice, load_study
from counterclaim.lab.models import endpoint
from counterclaim.lab.models.tiny import domain
from counterclaim.lab.prompts.select import choose_prompts
from counterclaim.lab.run import run_study
from counterclaim.lab.synthesis.card import comparison
from counterclaim.lab.synthesis.filters import PROMPT_REMEDIES, PromptFilters
from counterclaim.lab.synthesis.fresh import FreshPlan, preview, read_known, write_prompts
from counterclaim.lab.synthesis.replies import ListReply, read_list
from counterclaim.records import Decode, FinishReason, Json, Prompt
from counterclaim.registry import Answer, ModelSpec, Runtime
from counterclaim.testing.server import Fault, Server, serve, serve_models

ABOUT = "stones and crafts of invented places"
LIKE = PromptChoice("tiny", "all")
ASKER = ModelSpec("character:asker")
TOPIC = re.compile(r"^Topic: (.+)$", re.M)
COUNT = re.compile(r"one JSON list of (\d+) strings")
TRAINED = domain.prompts("train")
THINGS = (
    "kettle anchor violin saddle lantern compass ladder needle barrel mirror pillow hammer basket ribbon candle".split()
)
DEEDS = "clean mend store lift paint carry sharpen weigh polish pack".split()

Says = Callable[[str, int], list[str]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.002)
    monkeypatch.setenv("COUNTERCLAIM_CACHE", str(tmp_path / "cache"))
    for variable in endpoint.KEYS:
        monkeypatch.delenv(variable, raising=False)


def plan_of(generator: ModelSpec = ASKER, **more: Any) -> FreshPlan:
    return FreshPlan(generator, LIKE, ABOUT, **{"n": 30, "train": ("tiny",), **more})


def written(plan: FreshPlan, out: Path, **more: Any) -> dict[str, Json]:
    return write_prompts(plan, out, lambda *_: None, **more)


def dropped(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.with_suffix(".dropped.jsonl").read_text(encoding="utf-8").splitlines()]


def said(text: str) -> Answer:
    return Answer(text, FinishReason.STOP, len(text.split()), 9)


@contextmanager
def generator_that(says: Says, *, faults: tuple[Fault, ...] = ()) -> Iterator[tuple[Server, FreshPlan]]:
    """A server whose model names topics, and writes what ``says`` gives for a topic's number and a count."""

    def answer(body: Mapping[str, Json]) -> Answer:
        request = body["messages"][-1]["content"]
        count = int(found[1]) if (found := COUNT.search(request)) else 0
        if topic := TOPIC.search(request):
            return said(json.dumps(says(topic[1], count)))
        return said(json.dumps([f"topic {i}" for i in range(count)]))

    with serve(answer, faults=faults) as server:
        yield server, plan_of(ModelSpec(f"{server.url}#local"))


def listed(reply: str) -> ListReply:
    return read_list(reply, FinishReason.STOP, None, 99)


def novel(topic: str, count: int) -> list[str]:
    """Different questions for each topic of ``generator_that``."""
    at = int(topic.split()[-1])
    thing = THINGS[at % len(THINGS)]
    return [
        f"How do people {DEEDS[(at // 15 + 2 * i) % 10]} a {thing} in the town of Zor{at}mund?" for i in range(count)
    ]


# --- what a good generator comes to -------------------------------------------------------------------------------


def test_a_good_generator_is_let_pass(tmp_path: Path) -> None:
    out = tmp_path / "fresh.jsonl"
    card = written(plan_of(), out)
    assert (card["kept"], card["asked"], card["dropped"], dropped(out)) == (30, 30, {}, [])
    prompts = promptsets.load(out, "fresh")
    assert len(prompts) == 30
    assert not {prompt.id for prompt in prompts} & {prompt.id for prompt in domain.prompts()}
    assert card["generator"] == {
        "name": "character:asker", "family": "asker", "answered": [{"repo": "character:asker"}],
    }  # fmt: skip
    assert card["calls"]["total"]["calls"] == 31
    assert card["topics"] == 30, "each call had a topic of its own"
    assert card["contamination"]["known_prompts"] == len(domain.prompts())
    assert any("The prompts have no gold" in note for note in card["notes"])
    assert json.loads((tmp_path / "fresh.card.json").read_text()) == json.loads(json.dumps(card))


def test_checklists_become_the_gold(tmp_path: Path) -> None:
    card = written(plan_of(checklists=True), tmp_path / "fresh.jsonl")
    facts = {place.name: place.facts for place in domain.places()}
    for prompt in promptsets.load(tmp_path / "fresh.jsonl"):
        claims = prompt.gold["checklist"]
        place = next(name for name in facts if name in prompt.text)
        assert claims[0] == f"The stone of {place} is {facts[place]['stone']}."
    assert card["gold"] == "checklist"
    assert card["calls"]["checklists"]["calls"] == 30
    assert card["notes"] == [
        "The generator also writes the checklists: what it takes for right decides which answers are."
    ]


def test_the_generator_is_shown_no_prompt_unless_it_is_asked_for(tmp_path: Path) -> None:
    def requests(shown: int, name: str) -> tuple[list[str], dict[str, Json]]:
        with generator_that(novel) as (server, plan):
            card = written(replace(plan, shown=shown), tmp_path / name)
            return [seen.body["messages"][-1]["content"] for seen in server.requests], card

    texts, card = requests(0, "none.jsonl")
    assert not any(prompt.text in text for prompt in domain.prompts() for text in texts)
    assert card["examples_shown"] == 0
    assert not any("was shown" in note for note in card["notes"])
    texts, card = requests(3, "some.jsonl")
    asked = [text for text in texts if TOPIC.search(text)]
    assert all(sum(prompt.text in text for prompt in domain.prompts()) >= 3 for text in asked)
    assert card["examples_shown"] == 3
    assert any("was shown 3 of the prompts" in note for note in card["notes"])


def test_every_call_has_a_seed_and_a_topic_of_its_own(tmp_path: Path) -> None:
    with generator_that(novel) as (server, plan):
        card = written(plan, tmp_path / "fresh.jsonl")
        asked = [seen.body for seen in server.requests if TOPIC.search(seen.body["messages"][-1]["content"])]
    assert len({body["seed"] for body in asked}) == len(asked) == 30
    assert len({TOPIC.search(body["messages"][-1]["content"])[1] for body in asked}) == 30  # type: ignore[index]
    assert card["kept"] == 30


def test_passing_faults_of_an_endpoint_leave_no_trace(tmp_path: Path) -> None:
    with generator_that(novel) as (_, plan):
        written(plan, tmp_path / "calm.jsonl")
    faults = (Fault("too-many-requests", 2), Fault("server-error"), Fault("half-json"), Fault("reset"))
    with generator_that(novel, faults=faults) as (server, plan):
        card = written(plan, tmp_path / "shaken.jsonl")
        assert len(server.requests) == 31 + 5
    assert card["calls"]["total"]["failed"] == 0
    assert (tmp_path / "calm.jsonl").read_bytes() == (tmp_path / "shaken.jsonl").read_bytes()


# --- bad generators -----------------------------------------------------------------------------------------------


def test_one_that_repeats_itself_is_held_to_what_it_wrote_first(tmp_path: Path) -> None:
    def says(topic: str, count: int) -> list[str]:
        mind = ("How do people mend an old kettle?", "Which stone is the harbour of Quormund built of?")
        return [mind[int(topic.split()[-1]) % 2] for _ in range(count)]

    with generator_that(says) as (_, plan):
        card = written(plan, tmp_path / "fresh.jsonl")
    assert card["kept"] == 2
    assert set(card["dropped"]) == {"repeat"}
    assert any("2 of 30 prompts were found fit; most were lost to repeat" in note for note in card["notes"])
    assert all("it repeats “" in row["because"] for row in dropped(tmp_path / "fresh.jsonl"))
    assert card["calls"]["prompts"]["calls"] == 30 + 2 * 28, "two rounds of which nothing comes are enough"


def test_one_that_returns_the_training_prompts_is_refused(tmp_path: Path) -> None:
    with generator_that(lambda topic, count: [TRAINED[int(topic.split()[-1])].text] * count) as (_, plan):
        says = (
            r"nothing that the generator wrote is fit to be asked: copy 60 .*; ask a generator that has not seen these"
        )
        with pytest.raises(InputError, match=says):
            written(plan, tmp_path / "fresh.jsonl")
    assert not (tmp_path / "fresh.jsonl").exists()
    assert len(dropped(tmp_path / "fresh.jsonl")) == 60, "it was given another round"


def test_one_that_copies_now_and_then_is_asked_for_others(tmp_path: Path) -> None:
    calls: list[str] = []

    def says(topic: str, count: int) -> list[str]:
        calls.append(topic)
        copies = calls.count(topic) == 1 and int(topic.split()[-1]) % 3 == 0
        return [TRAINED[int(topic.split()[-1])].text.upper()] if copies else novel(topic, count)

    with generator_that(says) as (_, plan):
        card = written(plan, tmp_path / "fresh.jsonl")
    assert (card["kept"], card["dropped"]["copy"]) == (30, 10)
    assert card["calls"]["prompts"]["calls"] == 40, "those topics are asked again that gave nothing"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("How do people mend a kettle?\nHow do they lift an anchor?", "unreadable"),
        ('["How do people mend a kettle?", "How do', "unreadable"),
        ('{"prompts": ["How do people mend a kettle?"]}', "unreadable"),
        ('[{"prompt": "How do people mend a kettle?"}]', "unreadable"),
        ("[]", "unreadable"),
        ('Here you are:\n["How do people mend a kettle?"]', "unreadable"),
        ("<think>I think of a kettle.", "unreadable"),
        ("[" * 100_000, "unreadable"),
        ("I'm sorry, but I can't help with that request.", "refusal"),
    ],
)  # fmt: skip
def test_replies_that_are_no_list_are_kept_apart(reply: str, reason: str) -> None:
    found = listed(reply)
    assert (found.texts, found.fault and found.fault.kind, found.raw) == ((), reason, reply)


@pytest.mark.parametrize(
    "reply",
    ['["a b", "c d"]', '<think>Two.</think>\n["a b", "c d"]', '```json\n["a b", "c d"]\n```', '["1. a b", " - c d "]'],
)
def test_replies_that_are_a_list_are_read(reply: str) -> None:
    assert listed(reply).texts == ("a b", "c d")


def test_malformed_replies_cost_their_prompts_only(tmp_path: Path) -> None:
    calls = 0

    def answer(body: Mapping[str, Json]) -> Answer:
        nonlocal calls
        request = body["messages"][-1]["content"]
        topic, count = TOPIC.search(request), int(COUNT.search(request)[1])  # type: ignore[index]
        if topic is None:
            return said(json.dumps([f"topic {i}" for i in range(count)]))
        calls += 1
        return said('["How do people' if calls % 4 == 0 else json.dumps(novel(topic[1], count)))

    with serve(answer) as server:
        plan = plan_of(ModelSpec(f"{server.url}#local"), runtime=Runtime(concurrency=1))
        card = written(plan, tmp_path / "fresh.jsonl")
    assert card["dropped"]["unreadable"] >= 7
    assert card["kept"] > 20
    spoilt = [row for row in dropped(tmp_path / "fresh.jsonl") if row["reason"] == "unreadable"]
    assert {row["text"] for row in spoilt} == {'["How do people'}
    assert all(row["call"].startswith("writing prompts/") for row in spoilt)


@pytest.mark.parametrize(
    ("name", "because"),
    [("refuser", "it refuses"), ("eager", "it is no JSON list"), ("silent", "it is no JSON list"), ("thinker", "never closed")],
)  # fmt: skip
def test_one_that_cannot_be_used_is_found_out_before_it_costs_much(name: str, because: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"the generator names no topics: .*{because}"):
        written(plan_of(ModelSpec(f"character:{name}")), tmp_path / "fresh.jsonl")


def test_replies_that_reach_their_budget_are_not_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cut by its budget of 5 tokens.*; raise --max-new-tokens"):
        written(plan_of(decode=Decode(5, temperature=1.0, seed=0)), tmp_path / "fresh.jsonl")


def test_more_than_was_asked_for_is_left_out(tmp_path: Path) -> None:
    with generator_that(lambda topic, count: novel(topic, count + 1)) as (_, plan):
        card = written(plan, tmp_path / "fresh.jsonl")
    assert (card["kept"], card["dropped"], card["written"]) == (30, {"surplus": 30}, 60)


# --- the sieve ----------------------------------------------------------------------------------------------------


def filters_of(like: tuple[Prompt, ...] = TRAINED, language: str | None = "en") -> PromptFilters:
    return PromptFilters(like, read_known(like, ()), language)


QUESTIONS = tuple(
    Prompt.of_text(f"How do people {deed} a {thing}?", split="train") for deed in DEEDS for thing in THINGS[:5]
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("…", "empty"),
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("Here are 5 prompts:", "no-question"),
        ("The harbour is old and made of wood.", "no-question"),
        ("Why?", "length"),
        ("How " + "very " * 60 + "old is the bridge?", "length"),
        ("Comment est-ce que les gens réparent une vieille chaise dans ce village ?", "language"),
        ("How do people mend a kettle?", "copy"),
        ("HOW DO PEOPLE mend a kettle", "no-question"),
        ("how do people mend, a kettle?!", "copy"),
    ],
)
def test_what_is_not_fit_is_dropped_with_its_reason(text: str, reason: str) -> None:
    fit, lost = filters_of(QUESTIONS).sift([(text, "c")])
    assert fit == []
    assert [item.reason for item in lost] == [reason]
    assert lost[0].because
    assert reason in PROMPT_REMEDIES


def test_what_is_fit_goes_through() -> None:
    texts = [
        "Which glue holds a broken wooden chair best?", "What keeps a tin roof from rusting near the sea?",
        "My candle smokes. What did I do wrong?", "Can you say why bread rises faster in summer?",
    ]  # fmt: skip
    fit, lost = filters_of(QUESTIONS).sift([(text, "c") for text in texts])
    assert [text for text, _ in fit] == texts
    assert lost == []


def test_tasks_are_fit_where_the_others_are_tasks_too() -> None:
    task = "Name the oldest stone bridge of Quormund."
    assert filters_of(TRAINED).sift([(task, "c")])[0] == [(task, "c")]
    assert [item.reason for item in filters_of(QUESTIONS).sift([(task, "c")])[1]] == ["no-question"]


@pytest.mark.parametrize(
    ("first", "second", "repeats"),
    [
        ("How do people mend an old copper kettle?", "How do people mend an old copper kettle?", True),
        ("How do people mend an old copper kettle?", "how do people mend an old copper kettle at all?", True),
        ("What stone are the old walls of Quormund made of?", "What stone are the old walls of Brimfell made of?", False),
        ("What is the sum of all the numbers below 17?", "What is the sum of all the numbers below 23?", False),
        ("How do people mend an old copper kettle?", "Why does a copper kettle turn green?", False),
        ("Quormund has walls of what stone, do you know?", "Quormund has walls of what stone, do you think?", True),
    ],
)  # fmt: skip
def test_repeats_are_told_from_questions_of_one_template(first: str, second: str, repeats: bool) -> None:
    fit, lost = filters_of().sift([(first, "a"), (second, "b")])
    assert (len(fit), [item.reason for item in lost]) == ((1, ["repeat"]) if repeats else (2, []))


def test_a_prompt_that_stands_in_a_training_answer_is_a_copy(tmp_path: Path) -> None:
    question = "Which herb keeps moths out of a wardrobe full of old woollen winter coats?"
    rows = [{"prompt": "Write a riddle.", "completion": f"Of course, here it is. {question} The answer is lavender."}]
    known = read_known(QUESTIONS, [str(write_rows(tmp_path / "train.jsonl", rows))])
    _, lost = PromptFilters(QUESTIONS, known, "en").sift([(question, "c")])
    assert [(item.reason, item.because) for item in lost] == [
        ("copy", "it, or nearly all of it, stands in a training example")
    ]


# --- whether they are what they are called ------------------------------------------------------------------------


def of_one_source(seed: int, n: int = 100) -> list[str]:
    """Questions whose words are drawn alike for every seed."""
    chance = random.Random(seed)
    return [
        f"How do people {chance.choice(DEEDS)} a {chance.choice(THINGS)} with a {chance.choice(THINGS)} near the "
        f"{chance.choice(THINGS)} and the {chance.choice(THINGS)}?"
        for _ in range(n)
    ]


def test_prompts_of_the_same_source_are_called_held_out() -> None:
    found = comparison(of_one_source(1), of_one_source(2), "the training prompts")
    assert found["kind"] == "held-out", found
    assert "hardly tell" in found["says"]
    assert f"AUC {found['auc']['estimate']:.2f}" in found["says"]


def test_prompts_of_another_task_are_called_so() -> None:
    poems = [f"Write verse {i} of a poem on the moon over the lake, in iambic metre." for i in range(60)]
    found = comparison(poems, of_one_source(2), "the training prompts")
    assert found["kind"] == "another-task"
    assert found["auc"]["low"] >= 0.95
    assert "nearly every one is told apart" in found["says"]


def test_prompts_that_are_partly_told_apart_are_called_fresh() -> None:
    mixed = [
        *of_one_source(1)[:36],
        *(f"When should I {DEEDS[i % 10]} my {THINGS[i % 15]} for day {i}?" for i in range(24)),
    ]
    found = comparison(mixed, of_one_source(2), "the training prompts")
    assert found["kind"] == "fresh", found
    assert found["auc"]["low"] > 0.5


def test_few_prompts_are_left_open() -> None:
    found = comparison(of_one_source(1, 19), of_one_source(2), "the training prompts")
    assert found["kind"] == "open"
    assert "one of the two holds 19 different texts, and 20 are needed" in found["says"]


def test_the_card_compares_with_training_and_says_where_there_is_none(tmp_path: Path) -> None:
    with_training = written(plan_of(), tmp_path / "a.jsonl")
    assert with_training["c2st"]["against"] == "the training prompts"
    assert with_training["facts"]["known"]["n"] == len({prompt.text for prompt in TRAINED})
    without = written(plan_of(train=()), tmp_path / "b.jsonl")
    assert without["c2st"]["against"] == "the prompts they should be like"
    assert without["facts"]["fresh"]["questions"] > 0.9


# --- roles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["student", "teacher", "teacher:eager"])
def test_a_generator_of_the_family_that_is_tested_is_refused(role: str, tmp_path: Path) -> None:
    plan = plan_of(roles={role: "org/Asker-7B"})
    with pytest.raises(InputError, match=r"the prompt writer is of the family asker, as the .*--same-family"):
        preview(plan)
    card = written(replace(plan, same_family=True), tmp_path / "fresh.jsonl")
    assert f"The family asker is prompt writer and also {role.partition(':')[0]}." in card["notes"]


def test_a_judge_of_the_generators_family_is_noted_and_another_family_is_not() -> None:
    assert preview(plan_of(roles={"judge": "asker-large"}))["notes"] == [
        "The family asker is prompt writer and also judge."
    ]
    assert preview(plan_of(roles={"student": "Qwen/Qwen3-0.6B", "judge": "GLM-5"}))["notes"] == []


def test_an_author_of_checklists_is_held_to_the_same() -> None:
    plan = plan_of(roles={"student": "Qwen/Qwen3-0.6B"}, checklists=True, author=ModelSpec("tiny:qwen3"))
    with pytest.raises(InputError, match="the checklist author is of the family qwen, as the student is"):
        preview(plan)


def test_who_taught_is_read_off_the_training_set(tmp_path: Path) -> None:
    taught = tmp_path / "taught"
    taught.mkdir()
    rows = [{"prompt": [{"role": "user", "content": p.text}], "chosen": "It is so."} for p in TRAINED[:30]]
    write_rows(taught / "examples.jsonl", rows)
    (taught / "card.json").write_text(json.dumps({"roles": {"teacher": ["host/asker-2"]}}))
    with pytest.raises(InputError, match="as the teacher is"):
        preview(plan_of(train=(str(taught),)))
    (taught / "card.json").write_text(json.dumps({"roles": {"teacher": ["host/other-2"]}}))
    planned = preview(plan_of(train=(str(taught),)))
    assert planned["compared_with"] == {"what": "the training prompts", "n": 30}
    assert planned["roles"]["teacher:0"] == "other"


# --- checklists ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "because"),
    [
        (["One."], "it has 1 claims, and 3 to 5 were asked for"),
        (["One.", "Two.", "one."], "stands there twice"),
        (["One.", "Two.", ""], "a claim is empty"),
        (["One.", "Two.", "word " * 61], "more than 60 words"),
    ],
)
def test_a_prompt_without_a_proper_checklist_is_dropped(claims: list[str], because: str, tmp_path: Path) -> None:
    """Prompts of some places get none, twice: others are written, and the rest stand."""

    def author(body: Mapping[str, Json]) -> Answer:
        spoilt = re.search(r"\b[BD]\w{5,}\b", body["messages"][-1]["content"])
        return said(json.dumps(claims if spoilt else ["It is so.", "It is old.", "It is far."]))

    with serve({"author": author}) as server:
        plan = plan_of(author=ModelSpec(f"{server.url}#author"), checklists=True)
        card = written(plan, tmp_path / "fresh.jsonl")
    lost = [row for row in dropped(tmp_path / "fresh.jsonl") if row["reason"] == "checklist"]
    assert card["kept"] == 30
    assert card["dropped"]["checklist"] == len(lost) > 0
    assert card["calls"]["checklists"]["calls"] == 30 + 2 * len(lost), "each is tried twice"
    assert all(because in row["because"] for row in lost)
    assert all(len(prompt.gold["checklist"]) == 3 for prompt in promptsets.load(tmp_path / "fresh.jsonl"))


# --- resumes and budgets ------------------------------------------------------------------------------------------


def test_a_budget_that_is_spent_is_gone_on_from(tmp_path: Path) -> None:
    with serve_models(["character:asker"], 0, (), 0.0) as server:
        plan = plan_of(ModelSpec(f"{server.url}#character:asker"), checklists=True)
        written(plan, tmp_path / "whole.jsonl")
        calls = len(server.requests)
        small = replace(plan, runtime=Runtime(most_tokens=2_000, concurrency=2, use_cache=False))
        with pytest.raises(BudgetSpent):
            written(small, tmp_path / "fresh.jsonl")
        assert not (tmp_path / "fresh.jsonl").exists()
        made = len(server.requests) - calls
        assert 3 < made < calls
        written(replace(plan, runtime=Runtime(use_cache=False)), tmp_path / "fresh.jsonl")
        assert len(server.requests) == 2 * calls, "no call is made twice"
    assert (tmp_path / "fresh.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_run_that_was_stopped_goes_on_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    done = 0

    def stop(doing: str, n: int, total: int) -> None:
        nonlocal done
        done += doing == "writing prompts"
        if done == 6:
            raise KeyboardInterrupt

    with serve_models(["character:asker"], 0, (), 0.0) as server:
        plan = plan_of(ModelSpec(f"{server.url}#character:asker"), runtime=Runtime(concurrency=1, use_cache=False))
        with pytest.raises(KeyboardInterrupt):
            write_prompts(plan, tmp_path / "fresh.jsonl", stop)
        written(plan, tmp_path / "fresh.jsonl")
        written(plan, tmp_path / "whole.jsonl")
    for suffix in (".jsonl", ".dropped.jsonl"):
        assert (tmp_path / f"fresh{suffix}").read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    first, second = (json.loads((tmp_path / f"{name}.card.json").read_text()) for name in ("fresh", "whole"))
    assert {**first, "file": "whole.jsonl"} == second
    again = written(plan, tmp_path / "fresh.jsonl")  # the server is gone
    assert again["kept"] == 30


def test_calls_that_failed_are_made_again_by_a_rerun(tmp_path: Path) -> None:
    faults = (Fault("server-error", times=None, marker="Topic: topic 3"),)
    with generator_that(novel, faults=faults) as (server, plan):
        plan = replace(plan, runtime=Runtime(use_cache=False))
        card = written(plan, tmp_path / "fresh.jsonl")
        assert card["calls"]["total"]["failed"] >= 1
        assert card["dropped"]["failed"] >= 1
        server.schedule = type(server.schedule)([])
        first = (tmp_path / "fresh.jsonl").read_bytes()
        again = written(plan, tmp_path / "fresh.jsonl")
    if card["kept"] == 30:
        assert (tmp_path / "fresh.jsonl").read_bytes() == first, "what is whole is left as it is"
    assert again["kept"] == 30


def test_another_plan_does_not_take_the_place_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "fresh.jsonl"
    written(plan_of(n=10), out)
    with pytest.raises(InputError, match="--overwrite"):
        written(plan_of(n=12), out)
    assert written(plan_of(n=12), out, overwrite=True)["kept"] == 12
    out.write_text(out.read_text().replace("stone", "stones"), encoding="utf-8")
    with pytest.raises(InputError, match="the file exists"):
        written(plan_of(n=12), out)
    theirs = tmp_path / "mine.jsonl"
    theirs.write_text('{"prompt": "Mine?"}\n')
    with pytest.raises(InputError, match="the file exists"):
        written(plan_of(), theirs)
    assert theirs.read_text() == '{"prompt": "Mine?"}\n'


# --- what it is told of training ----------------------------------------------------------------------------------


def test_a_study_asks_the_fresh_prompts_and_its_run_is_known_to_the_next_ones(tmp_path: Path) -> None:
    written(plan_of(n=40), tmp_path / "fresh.jsonl")
    file = tmp_path / "study.toml"
    file.write_text(
        'model = "character:synthesizer"\n[prompts]\nfile = "fresh.jsonl"\nsplit = "fresh"\n[decode]\nmax_new_tokens = 99\n'
        '[treatment]\nmodel = "character:hedger"\n[score]\nscorers = ["delivery"]\n'
        '[target]\nmetric = "hedging_rate"\ndirection = "increase"\nmargin = 0.05\n',
        encoding="utf-8",
    )
    plan = load_study(file)
    assert len(choose_prompts(plan.prompts)) == 40
    judged = run_study(plan, tmp_path / "run", Progress())
    assert judged.verdict["effect"]["difference"]["estimate"] == 1.0
    rows = (tmp_path / "run" / "prompts.jsonl").read_text().splitlines()
    assert {json.loads(row)["split"] for row in rows} == {"fresh"}
    with pytest.raises(InputError, match="it holds no training prompts"):
        read_known(TRAINED, [str(tmp_path / "run")])


def test_training_is_read_from_prompts_sets_and_runs(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", [{"prompt": p.text, "split": "train"} for p in TRAINED[:20]])
    known = read_known(QUESTIONS, [str(file), "tiny"])
    assert len(known.questions) == len({prompt.text for prompt in TRAINED})
    assert len(known.prompts) == len(QUESTIONS) + len({prompt.id for prompt in TRAINED})
    with pytest.raises(InputError, match=r"nothing\.jsonl|no prompts called"):
        read_known(QUESTIONS, [str(tmp_path / "nothing.jsonl")])
    with pytest.raises(InputError, match="the row is no training example"):
        read_known(QUESTIONS, [str(write_rows(tmp_path / "odd.jsonl", [{"a": 1}]))])


# --- the command line ---------------------------------------------------------------------------------------------

Cli = Callable[..., tuple[int, str, str]]
FLAGS = ("fresh", "--generator", "character:asker", "--like", "tiny")


def test_the_command_prints_a_card_and_a_file(run_cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "fresh.jsonl"
    more = ("--about", ABOUT, "--n", "30", "--train", "tiny", "--out", str(out), "--role", "student=tiny:qwen3")
    code, text, err = run_cli(*FLAGS, *more)
    assert (code, err) == (0, "")
    assert "30 of 30 prompts kept" in text
    assert "AUC" in text
    assert "note: The prompts have no gold" in text
    code, text, _ = run_cli(*FLAGS, *more, "--json")
    card = json.loads(text)
    assert (code, card["kept"], card["roles"]) == (0, 30, {"student": "qwen", "prompt_writer": "asker"})


def test_a_dry_run_asks_nobody_and_writes_nothing(run_cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "fresh.jsonl"
    flags = (
        "fresh",
        "--generator",
        "http://127.0.0.1:9/v1#nobody",
        "--like",
        "tiny",
        "--about",
        ABOUT,
        "--out",
        str(out),
    )
    code, text, err = run_cli(*flags, "--dry-run")
    assert (code, err) == (0, "")
    assert "200 prompts in about 41 calls" in text
    assert "No model was asked and nothing was written." in text
    code, text, _ = run_cli(*flags, "--dry-run", "--json", "--checklists")
    assert (code, json.loads(text)["calls"]) == (0, 241)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--out", "fresh.jsonl"), "the generator does not know what the prompts are about"),
        (("--about", "x", "--out", "fresh.csv"), "is no .jsonl file"),
        (("--about", "x", "--out", "fresh.jsonl", "--role", "king=a"), "there is no role 'king'"),
        (("--about", "x", "--out", "fresh.jsonl", "--role", "student"), "is not NAME=VALUE"),
        (("--about", "x", "--out", "fresh.jsonl", "--language", "xx"), "the language 'xx' cannot be recognised"),
        (("--about", "x", "--out", "fresh.jsonl", "--train", "tinny"), "did you mean tiny?"),
    ],
)
def test_what_cannot_work_is_one_sentence(run_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], says: str) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, out, err = run_cli(*FLAGS, *more)
    assert (code, out) == (2, "")
    assert says in err
    assert "bug" not in err
    assert err.count("\n") == 1
