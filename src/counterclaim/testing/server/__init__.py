"""A local server that speaks the OpenAI protocol over any model, and misbehaves on command."""

from __future__ import annotations

from counterclaim.testing.server.faults import Fault
from counterclaim.testing.server.serving import Answerer, Seen, Server, serve

__all__ = ["Answerer", "Fault", "Seen", "Server", "serve"]
