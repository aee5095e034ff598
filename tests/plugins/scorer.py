"""A scorer: is an answer written in capitals?"""

from counterclaim import Card, Item, Prompt, Range, Reading, Tools, scorer

COLOUR = Prompt.of_text("Name a colour.")


@scorer(
    "shouting",
    version="1",
    about="whether an answer is written in capitals",
    axes={"score.shouting": Range(0, 1)},
    cards=(Card(COLOUR, "BLUE!", {"score.shouting": 1.0}), Card(COLOUR, "Blue.", {"score.shouting": 0.0})),
    measures="form",
)
def shouting(item: Item, tools: Tools) -> list[Reading]:
    if item.response.text is None:
        return [Reading("score.shouting", unscored="there is no text")]
    return [Reading("score.shouting", float(item.response.text.isupper()))]
