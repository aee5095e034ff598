"""Scores of every answer by every instrument that was asked for."""
