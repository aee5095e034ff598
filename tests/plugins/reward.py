"""A reward: a right answer, the more so the fewer words it has."""

from counterclaim import Item, Tools, reward


@reward("right-and-brief", about="a right answer, the more so the fewer words it has; else 0", needs=("oracle",))
def right_and_brief(item: Item, tools: Tools) -> float:
    words = len(item.response.text.split())
    return tools.oracle(item.prompt, item.response).value / (1 + words / 100)
