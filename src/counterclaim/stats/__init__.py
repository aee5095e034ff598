"""Paired statistics: intervals, tests, equivalence, power."""
