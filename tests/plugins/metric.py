"""A metric: how long answers are, in units of ten words, from the axis that the scorer ``length`` reads."""

from counterclaim import metric


@metric("tens_of_words", about="the mean length of answers, in tens of words", axes=("score.length",), fraction=False)
def tens_of_words(length: float) -> float:
    return length / 10
