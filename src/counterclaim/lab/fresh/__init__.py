"""Fresh prompts: written by an independent generator, held clear of what is known, and compared with it."""

from __future__ import annotations

from counterclaim.lab.fresh.whole import FreshPlan, preview, write_prompts

__all__ = ["FreshPlan", "preview", "write_prompts"]
