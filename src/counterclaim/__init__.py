"""Counterclaim tries to refute a claim about a language model's behaviour before a reviewer does."""

__version__ = "0.1.0"
