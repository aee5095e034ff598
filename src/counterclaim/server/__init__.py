"""A local server that speaks the OpenAI protocol over any model, and misbehaves on command."""
