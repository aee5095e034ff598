"""Prompts: files of several formats, and the sets that ship with the package."""
