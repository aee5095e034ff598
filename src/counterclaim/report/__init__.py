"""A run folder turned into pages."""
