"""Answers of every arm to every prompt, resumable at any moment."""
