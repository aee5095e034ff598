"""Training sets and fresh prompts from models: ``teach`` and ``write_prompts`` are two recipes over one machine.

    requests ─> calls ─> replies ─> filters ─> file and data card

``calls`` asks, journals and resumes; ``replies`` says what can be wrong with a reply; ``filters`` drops what is not fit, each with
its reason; ``card`` describes the result. ``teach`` turns prompts into ``examples`` by way of ``products``, ``fresh`` makes prompts.
"""
