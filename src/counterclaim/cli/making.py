"""Verbs that need a model: generate, score, run, tiny, judge-cards, serve."""
