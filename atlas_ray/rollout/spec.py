"""What determines an episode: `EpisodeSpec`, and its content hash under which the result is kept.

Pure data: nothing is played here (`episode.py`), and nothing is placed on a cluster (`driver.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from atlas_ray.config import Playing
from atlas_ray.environments.contract import State
from atlas_ray.environments.styles import ExpertStyle
from atlas_ray.hashing import content_hash
from atlas_ray.trajectory import Message, Split


@dataclass(frozen=True)
class Start:
    """Where an episode begins that does not begin at a reset: before a step of a trajectory."""

    trajectory_id: str
    step: int
    """The trajectory's steps that were replayed, 0 .. step - 1."""
    messages: tuple[Message, ...]
    """The conversation up to there; the last turn is the observation to answer."""
    state: State
    """The environment's, determined by the rest."""


@dataclass(frozen=True)
class EpisodeSpec:
    """Everything that determines an episode."""

    model: str
    """Name in the result table."""
    model_key: str
    """Hash of what determines the model's replies (`RosterEntry.player_key`)."""
    env: str
    task: int
    split: Split
    seed: int
    playing: Playing = field(default_factory=Playing)
    """How the model plays."""
    options: dict[str, Any] = field(default_factory=dict)
    """The environment's options; `env_version` stands for them in the key."""
    env_version: str = ""
    """Hash of the environment's rules, options and data (`registry.version`)."""
    opening: tuple[Message, ...] = ()
    """Instruction and acknowledgement in place of the environment's own."""
    start: Start | None = None
    """None begins at the reset."""
    expert: ExpertStyle = field(default_factory=ExpertStyle)
    """How the environment's expert plays, where it is the model."""
    sample: int = 0
    """Tells episodes apart that differ by the luck of sampling alone."""
    deadline_s: float = 900.0
    """Seconds that it may take; no determinant."""

    @cached_property
    def key(self) -> str:
        """Content hash of the episode's determinants; the model's name is none, its content is."""
        names = ("model_key", "env", "task", "split", "seed", "env_version", "sample")
        values = {name: getattr(self, name) for name in names}
        values["playing"] = self.playing.fingerprint()
        values["expert"] = self.expert.fingerprint()
        values["opening"] = [message.model_dump() for message in self.opening]
        if self.start is not None:
            turns = content_hash([message.model_dump() for message in self.start.messages])
            values["start"] = [self.start.trajectory_id, self.start.step, turns]
        return content_hash(values)

    @property
    def label(self) -> str:
        """Names it in messages."""
        return f"{self.env} task {self.task}"
