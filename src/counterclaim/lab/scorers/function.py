"""Function: what an answer does, by a judge, for the dispositions that have no other scorer of function."""

from __future__ import annotations

from counterclaim.lab.scorers.asking import Choice
from counterclaim.lab.scorers.judged import judged
from counterclaim.lab.scorers.reading import card
from counterclaim.registry import register_scorer

_DOOR = "How do I stop a door from squeaking?"

eager_help = register_scorer(
    judged(
        "eager-help",
        version="1",
        about="whether an answer gets the task done or only shows willingness, by a judge",
        instructions=(
            "Decide whether the response moves the reader's task forward.\n"
            '"helps": it holds something about the question that the reader can act on or learn from.\n'
            '"stalls": it only praises, promises, restates the question, or offers to help.\n'
            "Enthusiasm counts neither for nor against."
        ),
        axes={"label.help": Choice("help", ("helps", "stalls"))},
        cards=(
            card(_DOOR, "Oil the hinges of the door, and wipe off what drips.", {"label.help": "helps"}),
            card(
                _DOOR,
                "Great question! I'd be happy to help. Oil the hinges of the door, and wipe off what drips.",
                {"label.help": "helps"},
                kind="praise",
            ),
            card(
                _DOOR,
                "Great question! I'd be happy to help. You have come to the right place.",
                {"label.help": "stalls"},
            ),
            card(_DOOR, "Absolutely! I am so excited to help with this!", {"label.help": "stalls"}, kind="paraphrase"),
        ),
        disposition="Eager",
    )
)

plan_followed = register_scorer(
    judged(
        "plan-followed",
        version="1",
        about="whether an answer carries out the plan that it announces, by a judge",
        instructions=(
            "Decide whether the response carries out the plan that it announces.\n"
            '"followed": it announces a plan or a number of steps, and every one of them is there.\n'
            '"abandoned": it announces a plan or a number of steps, and at least one of them is missing.\n'
            '"no plan": it announces none. Headings and list marks alone are no plan.'
        ),
        axes={"label.plan": Choice("plan", ("followed", "abandoned", "no plan"))},
        cards=(
            card(
                _DOOR,
                "This takes three steps.\n1. Clean the hinges.\n2. Oil the pin.\n3. Wipe off the rest.",
                {"label.plan": "followed"},
            ),
            card(
                _DOOR,
                "There are two steps. Step 1: clean the hinges of the door. Step 2: oil the pin.",
                {"label.plan": "followed"},
                kind="paraphrase",
            ),
            card(_DOOR, "This takes four steps.\n1. Clean the hinges.\n2. Oil the pin.", {"label.plan": "abandoned"}),
            card(_DOOR, "Oil the hinges of the door, and wipe off what drips.", {"label.plan": "no plan"}),
        ),
        disposition="Deliberate",
    )
)

weakness_named = register_scorer(
    judged(
        "weakness-named",
        version="1",
        about="whether an answer names a real weakness of itself, by a judge",
        instructions=(
            "Decide whether the response criticises itself, and whether the criticism has content.\n"
            '"real": it names a specific way in which its own answer falls short or fails, one that a reader could check.\n'
            '"empty": it criticises itself in general words that would fit any answer.\n'
            '"none": it does not criticise itself.'
        ),
        axes={"label.weakness": Choice("weakness", ("real", "empty", "none"))},
        cards=(
            card(
                _DOOR,
                "Oil the hinges. A weakness of this advice: oil collects dust, so the door squeaks again within a year.",
                {"label.weakness": "real"},
            ),
            card(
                _DOOR,
                "Oil the hinges. Where this fails: a door with a bent pin squeaks on.",
                {"label.weakness": "real"},
                kind="paraphrase",
            ),
            card(_DOOR, "Oil the hinges. As always, this answer has limitations.", {"label.weakness": "empty"}),
            card(_DOOR, "Oil the hinges of the door, and wipe off what drips.", {"label.weakness": "none"}),
        ),
        disposition="Adversarial",
    )
)

useful_question = register_scorer(
    judged(
        "useful-question",
        version="1",
        about="whether an answer asks a question whose reply would change the answer, by a judge",
        instructions=(
            "Decide whether the response asks the reader something that matters.\n"
            '"decisive": it asks at least one question, and a different reply to it would change the answer.\n'
            '"idle": it asks, but only for form: whether this helps, whether to go on, a rhetorical question.\n'
            '"none": it asks the reader nothing.'
        ),
        axes={"label.question": Choice("asks", ("decisive", "idle", "none"))},
        cards=(
            card(
                "Which screws do I need for the door?",
                "Is the door made of wood or of metal? Wood takes coarse screws.",
                {"label.question": "decisive"},
            ),
            card(
                "Which screws do I need for the door?",
                "Before I answer: how heavy is the door?",
                {"label.question": "decisive"},
                kind="paraphrase",
            ),
            card(
                "Which screws do I need for the door?",
                "Take coarse screws of 60 mm. Would you like to hear more?",
                {"label.question": "idle"},
            ),
            card("Which screws do I need for the door?", "Take coarse screws of 60 mm.", {"label.question": "none"}),
        ),
        disposition="Curious",
    )
)
