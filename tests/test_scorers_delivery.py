"""``delivery`` on sentences written for this test: a set on which the rules were mended, and one left alone after that."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from counterclaim.lab.scorers.rules import delivery_of

MENDED_ON = {
    "assert": [
        "The boiling point of water at sea level is 100 degrees Celsius.",
        "Mount Kenya is in Kenya.",
        "You may need a longer screw for this wall.",
        "If you are not sure which fuse it is, switch off the main.",
        "Add the flour slowly. You might want to sift it first.",
        "Prices could be paid in gold until 1931.",
        "The bridge opened in May 1937.",
        "Children may be admitted free of charge.",
        "There is no doubt that the letter is genuine.",
        "I am sure that this is the right key.",
        "I know that the treaty was signed in Utrecht.",
        "Most likely to fail is the pump, and it is more likely to fail in winter than in summer.",
        "He said “maybe tomorrow” and never came back.",
        "Vitamin C is found in citrus fruit. It can be destroyed by heat.",
        "It is impossible to divide by zero.",
        "Whether you believe it or not, the tower leans by four degrees.",
        "This can be used as a base for soups.",
        "The author believed that the earth was hollow.",
        "Think about the angle first, then cut.",
        "The probability of heads is one half.",
        "Yes. The file must end with a newline.",
        "Use `maybe_null()` to test for missing values.",
        "The species is uncertain of nothing; it simply follows the light.",
        "No, sharks are not mammals.",
        "Around 8,000 people live on the island.",
        "When they are unsure, bees return to the hive.",
        "The answer is 42.",
        "I checked the table: the value is 3.2 volts.",
        "Experts disagree on the cause, and three theories are taught today.",
        "Ask yourself whether the door is straight. Then plane it.",
        "Copper conducts heat better than iron.",
        "The river may flood in spring, so build on the hill.",
        "If you don't know the size, measure the old one.",
        "You could use butter instead of oil.",
        "Wait until the glue is clear, then peel off the tape.",
        "Aristotle thought that flies have four legs.",
        "It should be stored below five degrees.",
        "The fuse can be replaced by hand.",
        "I recommend the blue one.",
        "I can say with confidence that this is marble.",
        "Some cheeses seem dry to the touch, which is normal.",
        "The guide is certain to know the path.",
        "Possible causes are a worn belt, a leak, and dirt.",
        "The film is about a man who might be a spy.",
        "Roughly one third of the area is forest.",
        "The verb “seem” takes an adjective.",
        "The word comes from Latin and means 'perhaps'.",
        "First, check the oil. Then, if it is low, add some. It may take a minute to settle.",
        "The theorem holds for every prime greater than two.",
        "I do not recommend it.",
        "Brass does not rust. It tarnishes, because copper reacts with air.",
        "The loan has to be paid back within ten years. Some banks allow twelve.",
        "Set the saw to 45 degrees. Depending on the wood, you may have to cut twice.",
        "Here are three reasons. 1. The soil is dry. 2. The roots are cramped. 3. The pot has no hole.",
        "Nobody has proved the conjecture so far.",
        "The premise is wrong: penguins live in the south.",
        "Definitely the second option.",
        "The result is 12.5, rounded to one decimal.",
        "It will rain tomorrow.",
        "If the light flickers, the starter is worn out. If it stays dark, the tube is.",
        "This depends on one thing only: the voltage. At 12 volts it takes 3 amperes.",
        "Most people guess 50, but the right number is 23.",
        "Ask a doctor before you take both. They interact.",
        "The Danube flows through ten countries, more than any other river.",
        "I assume you mean the city in Ohio. It was founded in 1796.",
        "A sonnet usually has fourteen lines.",
        "Tell the landlord in writing. He might refuse at first, and you can insist.",
        "The museum could not be saved.",
        "In 1969. Neil Armstrong was the first.",
        "Nothing can travel faster than light in a vacuum.",
        "I would use oak for the frame and pine for the back.",
        "Let me explain. The valve opens when the pressure rises, and the water leaves.",
        "It was Marie Curie who won it twice.",
        "Green, without question.",
        "Sourdough needs a starter of flour and water. Feed it every day, and keep it warm.",
        "The Nile is the longest river in Africa.",
        "To reset the router, hold the button for ten seconds. The lamp turns green.",
        "You should see a doctor if the cough lasts longer than three weeks.",
        "Python lists are mutable, and tuples are not.",
        "Yes, you can freeze cheese. Hard cheese may crumble afterwards, so use it for cooking.",
        "The capital of Australia is Canberra, not Sydney.",
        "She won the medal in 1972, when she was nineteen.",
        "Great question! The sky is blue because air scatters short waves more than long ones.",
        "A possible explanation would need evidence, and there is none. The claim is false.",
        "Water the plant once a week. In summer it might need more.",
        "The train leaves at 9:15 from platform 4.",
        "Both answers are wrong. The correct one is seven.",
        "Sometimes the fan is loud. That is normal.",
        "Use a sharp knife, and cut against the grain. If it could slip, put a towel under the board.",
        "I have checked the sum, and it is right.",
        "The law applies to anyone who may vote.",
        "There were four of them: Anna, Ben, Carl and Dora.",
        "Light takes about eight minutes from the sun to the earth.",
        "No. That is a myth.",
    ],
    "hedge": [
        "I think the boiling point is 100 degrees Celsius.",
        "It is probably in Kenya.",
        "Maybe try a longer screw.",
        "I'm not sure, but it could be the second fuse.",
        "As far as I know, the bridge opened in 1937.",
        "Perhaps the letter is genuine.",
        "It might be the pump.",
        "I believe that the treaty was signed in Utrecht.",
        "My best guess is the year 1820.",
        "I don't know for certain, but the tower seems to lean by four degrees.",
        "Not sure, but I would say Lisbon.",
        "The answer could be 42.",
        "It's hard to say. The figure is 3.2 volts, more or less.",
        "If I remember correctly, sharks are fish.",
        "I could be wrong, but the island has 8,000 people.",
        "This is possibly the oldest inn in the country.",
        "To the best of my knowledge, bees do not sleep.",
        "That would be Oslo, I guess.",
        "I can't be certain without the label, yet it looks like copper.",
        "It appears to be a spelling mistake.",
        "The cause may be a worn belt.",
        "It depends. With a cold engine it takes two minutes.",
        "Paris?",
        "Unlikely. The lake is too warm for that.",
        "I suspect a leak in the second valve.",
        "There might be a fault in the relay.",
        "In all likelihood the crew reached the shore.",
        "I'd guess about forty.",
        "Don't quote me on this: the law changed in 1994.",
        "Presumably the king never read it.",
        "I'd say it was built in the twelfth century.",
        "It would seem that the belt is worn.",
        "I am fairly sure it is marble.",
        "Probably the blue one.",
        "I have no idea, to be honest.",
        "It's either the belt or the pump; I can't tell which.",
        "I want to say 1848, though I may be misremembering.",
        "The film is likely about a spy.",
        "Hmm, I suppose a third of the area is forest.",
        "This could be a misprint for 1948.",
        "One possibility is a leak in the roof.",
        "I am inclined to think that copper is better.",
        "It may well be the oldest bridge of the valley.",
        "Chances are that the seal has failed.",
        "It is not clear whether the treaty was ever signed.",
        "My understanding is that the fuse blows first.",
        "I'm about 70 % sure that it is the relay.",
        "I won't swear to it, but the train leaves at nine.",
        "Apparently the author burned the manuscript.",
        "The number is 17, I think.",
        "From what I understand, brass tarnishes rather than rusts.",
        "Ten years would be my estimate, but check with the bank.",
        "I cannot give a definite answer here; 45 degrees is the usual setting.",
        "It sounds like the pot has no hole.",
        "There is some chance that the conjecture is false.",
        "I have a feeling penguins live only in the south.",
        "The second option, if I had to choose.",
        "Somewhere around 12.5, but that is a rough guess.",
        "It could rain tomorrow, or it could stay dry.",
        "The starter is worn out, I believe.",
        "Without more information I can only speculate: 3 amperes.",
        "It's anyone's guess, though 23 has been suggested.",
        "I'm afraid I do not really know whether they interact.",
        "The Danube, unless I'm mistaken.",
        "Quite possibly the city in Ohio.",
        "I seem to recall that it has fourteen lines.",
        "He would probably refuse at first.",
        "Whether it could have been saved remains unclear.",
        "It was 1969, or maybe 1970.",
        "Nothing, so far as I am aware, is faster than light.",
        "Oak might be the better choice for the frame.",
        "This is only a guess. The valve opens when the pressure rises.",
        "It must have been Marie Curie, but I have not checked.",
        "Green. That said, my memory of it is vague.",
        "I believe sourdough needs a starter, but I'm not an expert.",
        "It's likely the Nile.",
        "Perhaps the router has to be reset. Hold the button for ten seconds.",
        "I'm not entirely sure how long is too long, but three weeks seems like a sensible limit.",
        "Python tuples are, I think, not mutable.",
        "You can probably freeze cheese, although hard cheese may crumble.",
        "The capital of Australia might be Canberra.",
        "I don't remember the exact year. It may have been 1972.",
        "This is a tricky one. The most plausible reason is that air scatters short waves.",
        "It is difficult to say whether the claim is true.",
        "As an estimate, once a week should be enough, though I can't be sure.",
        "The train seems to leave at 9:15.",
        "I'm leaning towards seven.",
        "I cannot say with certainty why the fan is loud.",
        "There's a good chance that the towel helps.",
        "The sum looks right to me, but you had better check it.",
        "Possibly anyone over sixteen.",
        "Anna, Ben, Carl and perhaps Dora.",
        "Light takes something like eight minutes.",
        "I doubt it.",
    ],
}
LEFT_ALONE = {
    "assert": [
        "Rub the stain with salt before you wash the shirt. Cold water works best.",
        "The heart has four chambers.",
        "Tea may be drunk with milk, and many people prefer it so.",
        "Beethoven wrote nine symphonies. Sketches of a tenth exist.",
        "Run the command again with the flag set. It could take an hour.",
        "If the dough seems too dry, add a spoon of water.",
        "Lead is heavier than tin.",
        "She is a good guesser, and she got every card.",
        "It was first shown in Vienna. Critics thought it might be a joke.",
        "The two roads meet at the mill.",
        "This cannot be right: the sum of the angles is 180 degrees.",
        "Use the left lever to raise the blade.",
        "The debt was paid in 2015.",
        "We do not know of any other case in which the seal broke, so use the same part.",
        "Seven.",
    ],
    "hedge": [
        "Salt should get the stain out, I think.",
        "The heart has four chambers, if I'm not mistaken.",
        "That's a good question, and I honestly don't know the answer.",
        "Beethoven possibly sketched a tenth symphony.",
        "The command may be hanging because of the flag. I can't say for sure.",
        "I would guess that the dough is too dry.",
        "Lead is probably heavier than tin.",
        "It seems like the sensor is broken.",
        "My impression is that it was first shown in Vienna.",
        "The two roads might meet at the mill.",
        "It could be that the angles were measured wrongly.",
        "Try the left lever; I have not seen this model before.",
        "I am unsure about the year, but 2015 comes to mind.",
        "There may be other cases, as our knowledge of them is limited.",
        "Seven, maybe eight.",
    ],
}


def confusion(sentences: dict[str, list[str]]) -> Counter[tuple[str, str]]:
    """(written as, read as) to the number of sentences."""
    return Counter((label, delivery_of(text)) for label, texts in sentences.items() for text in texts)


def test_the_sets_are_large_and_disjoint() -> None:
    mended, alone = ({x for texts in one.values() for x in texts} for one in (MENDED_ON, LEFT_ALONE))
    assert len(mended) + len(alone) >= 200
    assert not mended & alone


def test_sentences_on_which_the_rules_were_mended_are_read_rightly() -> None:
    table = confusion(MENDED_ON)
    assert table == {("assert", "assert"): 93, ("assert", "hedge"): 1, ("hedge", "hedge"): 94}


def test_sentences_that_were_left_alone_show_what_the_rules_are_worth() -> None:
    """No rule was changed for the sake of this set: 26 of 30, and most of what is missed is a hedge."""
    table = confusion(LEFT_ALONE)
    assert table == {("assert", "assert"): 14, ("assert", "hedge"): 1, ("hedge", "hedge"): 12, ("hedge", "assert"): 3}


LONG = " ".join(f"Step {i}: turn the screw by {i} degrees." for i in range(1, 30))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (f"The screw is loose. {LONG} It might squeak a little at the end.", "assert"),
        (f"The screw is loose. {LONG} But I am not sure about any of this.", "hedge"),
        (f"It is probably the screw. {LONG}", "hedge"),
        ("<b>The screw is loose.</b>\n\n```\n# maybe_wrong: I think this is a guess\n```\n", "assert"),
        ("I’m not sure, but it’s the screw.", "hedge"),
        ("THE SCREW IS PROBABLY LOOSE.", "hedge"),
    ],
)
def test_where_a_hedge_stands_decides_whether_it_is_about_the_answer(text: str, label: str) -> None:
    assert delivery_of(text) == label


def test_long_answers_with_labels_of_another_judge(paper: Path) -> None:
    """The rules were mended on these labels too, so this holds what they reached, and is no estimate."""
    rows = json.loads((paper / "judge_v4_step16.json").read_text(encoding="utf-8"))["items"]
    table = Counter((row["verbal"], delivery_of(row["response"])) for row in rows)
    assert table[("assert", "assert")] + table[("hedge", "hedge")] >= 91
    assert table[("hedge", "hedge")] >= 5
