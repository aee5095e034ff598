"""Planted studies on tiny real models, drawn many times."""
