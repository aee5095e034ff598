"""Models by name: transformers, OpenAI-compatible endpoints, tiny ones that are trained here."""
