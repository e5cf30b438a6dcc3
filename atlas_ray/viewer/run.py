"""What the live view knows of one run, and how it keeps up with the run directory.

A refresh looks at sizes and times of files and reads again what has changed. A file that is torn or malformed is a line
of `problems`, and what was read of it before stays; the next change is a new try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from atlas_ray.config import PipelineConfig
from atlas_ray.config_files import made_from
from atlas_ray.errors import StoreError
from atlas_ray.hashing import content_hash
from atlas_ray.report.data import STAGES, VERIFICATION, RunData, assembled, has_table, read_models, selection_names
from atlas_ray.report.explorer import comparable_in, episode_side, trajectory_row
from atlas_ray.report.selections import classes
from atlas_ray.report.under_way import UnderWay
from atlas_ray.selection.compare import Figures, figures, shapes_of
from atlas_ray.store import Store
from atlas_ray.trajectory import Selection, Trajectory
from atlas_ray.viewer.index import EpisodeIndex, SelectionIndex, TrajectoryIndex, keys_in
from atlas_ray.viewer.rows import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FIGURES_OF = 2_000
"""Trajectories that the figures about selections are made of, at even distances where a run has more."""
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems call the time of the last change."""


class ViewedRun:
    """A run directory that is looked at again and again.

    Attributes are replaced as wholes, so another thread may read them at any time.

    Args:
        url: of the run directory.
        name: what the page calls it.

    Raises:
        StoreError: the protocol of the URL is unknown.
    """

    def __init__(self, url: str, name: str) -> None:
        self.store, self.name = Store(url), name
        self.config: PipelineConfig | None = None
        self.selections: dict[str, SelectionIndex] = {}
        self.trajectories: TrajectoryIndex | None = None
        self.episodes: Rows | None = None
        self.figures: list[Figures] = []
        """Of each environment and of all; empty without selections."""
        self.data: RunData | None = None
        self.lines: list[str] = []
        """What is under way."""
        self.reading: str | None = None
        """The part that is being read."""
        self.problems: dict[str, str] = {}
        """What could not be read, by part."""
        self.versions: dict[str, str] = {}
        """By part: the state of the files that it was read from."""
        self._episode_index = EpisodeIndex(self.store)
        self._under_way = UnderWay(self.store)
        self._sampled: tuple[list[Trajectory], dict[str, list[Selection]]] = ([], {})
        """The trajectories of the figures, without their messages, and what the selections chose in them."""

    # --- keeping up ----------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Read again whatever has changed, except for the figures about selections."""
        with self._part("run directory"):
            stamps = self._stamps()
            self._read("config", self._read_config, stamps["config"])
            if self.config is None:
                return  # its line says why, and nothing else can be read
            self._read("selections", self._read_selections, stamps["config"], stamps["selections"])
            own = (stamps["trajectories"], stamps["selections"])
            self._read("trajectories", self._read_trajectories, *own)
            self._read("sample", self._read_sample, stamps["config"], *own)
            self._read("episodes", self._read_episodes, stamps["episodes"], stamps["results"])
            self._read("report", self._assemble, stamps["config"], stamps["results"], stamps["logs"], *own)
            self.versions = self.versions | {"results": stamps["results"]}
        with self._part("under way"):
            self.lines = list(self._under_way.lines())

    def refresh_figures(self) -> None:
        """Compute the figures about selections again, if these have changed; takes seconds."""
        self._read("figures", self._compute_figures, self.versions.get("sample", ""))

    def _read(self, part: str, read: Callable[[], None], *stamps: str) -> None:
        version = content_hash(stamps)
        if self.versions.get(part) != version:
            self.reading = part
            with self._part(part):
                read()
            self.reading = None
            self.versions = self.versions | {part: version}

    @contextmanager
    def _part(self, part: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a run directory holds, the page goes on and says what is wrong
            text = " ".join(str(error).split()) or type(error).__name__
            self.problems = self.problems | {part: text[:500]}
        else:
            self.problems = {name: text for name, text in self.problems.items() if name != part}

    def _stamps(self) -> dict[str, str]:
        """The states of the files of every part."""
        if not self.store.exists("config.yaml"):
            raise StoreError(f"{self.store.url}: no run directory yet (it has no config.yaml)")
        names = self.store.names
        chosen = [("selections", name) for name in names("selections")]
        played = [file for model in names("evaluation") for file in self._files("evaluation", model)]
        logs: list[tuple[str, ...]] = [("metrics",), *((stage,) for stage in (*STAGES, VERIFICATION))]
        logs += [(VERIFICATION, model) for model in names(VERIFICATION) if not model.endswith(".json")]
        parts = {
            "config": [file for file in self._files() if file[0].endswith("config.yaml")],
            "trajectories": self._files("trajectories"),
            "selections": [
                file for folder in chosen for each in (folder, (*folder, "trajectories")) for file in self._files(*each)
            ],
            "episodes": [file for file in played if file[0].endswith(".jsonl")],
            "results": [file for file in played if file[0].endswith("results.json")],
            "logs": [file for folder in logs for file in self._files(*folder)],
        }  # fmt: skip
        return {name: content_hash(files) for name, files in parts.items()}

    def _files(self, *folder: str) -> list[list[str]]:
        """Name, size and time of every file of a folder; what is being written beside its target is none."""
        if not self.store.exists(*folder):
            return []
        found = self.store.fs.ls(self.store.path(*folder), detail=True)
        return sorted(
            [str(info["name"]), str(info["size"]), next((str(info[name]) for name in _TIMES if name in info), "")]
            for info in found
            if info["type"] == "file" and not str(info["name"]).rpartition("/")[2].startswith(".")
        )

    # --- parts ---------------------------------------------------------------------------------------------------
    def _read_config(self) -> None:
        text = self.store.read_text("config.yaml")
        self.config = made_from(yaml.safe_load(text) or {}, None, self.store.path("config.yaml"))
        self.data = self.data or assembled(self.config, self.store, [], {}, {}, {})

    def _read_selections(self) -> None:
        names = selection_names(self._known_config(), self.store)
        self.selections = {name: SelectionIndex(self.store, name) for name in names}

    def _read_trajectories(self) -> None:
        if has_table(self.store, "trajectories"):
            self.trajectories = TrajectoryIndex(self.store, self.selections)

    def _read_episodes(self) -> None:
        wrong = self._episode_index.read_on()
        finished = [
            name for name in self.store.names("evaluation") if self.store.exists("evaluation", name, "results.json")
        ]
        self.episodes = self._episode_index.rows({model: self._counted_keys(model) for model in finished})
        if wrong:
            raise StoreError(f"{len(wrong)} rows are left out; {wrong[0]}")

    def _read_sample(self) -> None:
        if self.trajectories is None:
            return
        sample = self.trajectories.sample(FIGURES_OF)
        rows = {name: index.among([each.trajectory_id for each in sample]) for name, index in self.selections.items()}
        self._sampled = sample, rows

    def _compute_figures(self) -> None:
        sample, rows = self._sampled
        self.figures = figures(rows, shapes_of(sample, None)) if rows else []

    def _assemble(self) -> None:
        sample, rows = self._sampled
        config = self._known_config()
        models = read_models(
            config, self.store, lambda name: self._episode_index.counted(name, self._counted_keys(name))
        )
        self.data = assembled(config, self.store, sample, rows, models)

    def _known_config(self) -> PipelineConfig:
        assert self.config is not None  # it is read before every other part
        return self.config

    def _counted_keys(self, model: str) -> set[str]:
        return keys_in(self.store.read_json("evaluation", model, "results.json"))

    # --- what the page asks for ----------------------------------------------------------------------------------
    @property
    def classes(self) -> dict[str, str]:
        """The CSS class of every selection."""
        return classes(self.figures[-1]) if self.figures else {}

    def trajectory(self, identity: str, *, tokens: bool = False) -> dict[str, Any]:
        """A trajectory with the picks of every selection, as the report draws it.

        Args:
            identity: its id.
            tokens: with its tokens and their loss mask, where the run has a tokenizer.

        Raises:
            StoreError: it is not there, or has changed since.
        """
        with self._steady():
            found = None if self.trajectories is None else self.trajectories.whole(identity)
            picks = {name: {identity: row} for name, index in self.selections.items() if (row := index.of(identity))}
        if found is None:
            raise StoreError(f"{self.name} has no trajectory {identity!r}")
        comparable = comparable_in(self.figures[-1]) if self.figures else set()
        tokenizer = self._tokenizer if tokens else None
        return trajectory_row(self._known_data(), found, picks, self.classes, comparable, tokenizer)

    def _known_data(self) -> RunData:
        if self.data is None:
            raise StoreError(f"{self.name} is still being read; ask again")
        return self.data

    @contextmanager
    def _steady(self) -> Iterator[None]:
        """A file that is replaced or cut off while a row of it is read is an error that says so."""
        try:
            yield
        except (OSError, ValueError) as error:  # Arrow's and pydantic's are among them
            raise StoreError(f"{self.name} has changed while it was read; ask again ({error})") from error

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        from atlas_ray.report import checkpoint_tokenizer

        found = checkpoint_tokenizer(self.store)
        if found is None:
            raise StoreError(f"{self.name} has no checkpoint yet, so there is no tokenizer to show the loss mask with")
        return found

    def episode(self, key: str) -> dict[str, Any]:
        """An episode as the report draws it, with its task.

        Raises:
            StoreError: it is not there.
        """
        rows = self.episodes
        number = None if rows is None else rows.where("key", key)
        if rows is None or number is None:
            raise StoreError(f"{self.name} has no episode {key!r}")
        with self._steady():
            episode = self._episode_index.whole(rows, number)
        side = episode_side(self._known_data(), episode.model, episode)
        return side | {"env": episode.env, "split": episode.split, "task": episode.task, "seed": episode.seed}
