"""Teachers in stages, and what is learnt from them.

    prompts ─> stages ─> replies ─> examples ─> filters ─> gates ─> training set

``stages`` asks, ``products`` makes examples of what was answered, ``filters`` and ``gates`` say which may be learnt from,
``card`` tells how the set came to be, ``whole`` does all of it for a pipeline file.
"""

from __future__ import annotations

from counterclaim.lab.synthesis.whole import preview, teach, write_example

__all__ = ["preview", "teach", "write_example"]
