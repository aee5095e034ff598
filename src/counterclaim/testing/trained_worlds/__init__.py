"""Planted studies on tiny real models, drawn many times: what ``worlds`` does with made-up answers, with trained ones.

The truth of a world holds by construction, since what the tiny models were taught is known (``models.tiny.domain``). A draw
is a replication: other prompts, other sampling seeds, other training seeds and folds, all derived from the world's name and
the draw's number.
"""

from counterclaim.testing.trained_worlds.drawing import draw, tally
from counterclaim.testing.trained_worlds.world import TrainedWorld, trained_worlds

__all__ = ["TrainedWorld", "draw", "tally", "trained_worlds"]
