"""Methods that let a model play: who plays, and how.

What is played is the methods' own: rollouts from every step (`methods/value.py`), failed episodes and what follows the
expert's step in them (`methods/verified.py`).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from atlas_ray.config import Playing
from atlas_ray.roster import RosterEntry
from atlas_ray.section import Section
from atlas_ray.selection.method import Method, SelectionContext


class SamplingOptions(Section):
    """Episodes are played as `evaluate` says (length of a reply, calls per step, when to give up), but sample."""

    model: str | None = None
    """Who plays, named as in `evaluate.models`; None: the model that tuning starts from."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature."""


class SamplingMethod(Method):
    """A method whose `Options` are `SamplingOptions`."""

    def player(self, context: SelectionContext) -> tuple[RosterEntry, Playing]:
        """Who plays, and how."""
        name = self.options.model
        entry = context.roster.start() if name is None else context.roster.entry(name)
        playing = context.config.evaluate.playing
        return entry, playing.model_copy(update={"temperature": self.options.temperature})

    def depends_on(self, context: SelectionContext) -> Any:
        """The model that plays, how it plays, and the environments with their experts."""
        entry, playing = self.player(context)
        return {
            "policy": entry.player_key(context.config.engine), "playing": playing.fingerprint(),
            "environments": dict(context.environment_versions),
        }  # fmt: skip
