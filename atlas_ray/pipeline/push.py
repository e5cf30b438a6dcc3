"""What is pushed of a run to the Hub: a tuned model or its adapter, and the selections as a data set, with cards.

A model goes to `owner/name`, a data set to `datasets/owner/name`. Both hold `atlas-ray.yaml`, the run's configuration
without its directory. Sending is in `atlas_ray/hub.py`, the cards' text in `report/card.py`.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from atlas_ray import hub, models
from atlas_ray.errors import ConfigError, StoreError
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.keys import Keys
from atlas_ray.pipeline.run import Run
from atlas_ray.report import card
from atlas_ray.report.data import RunData, has_table, read
from atlas_ray.report.setting import Setting, setting
from atlas_ray.roster import RosterEntry
from atlas_ray.store import Store

PIECES = ("model", "adapter", "selections")
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json")
"""Of a model that a push before has left: with others beside them they would be loaded, or mixed up."""
_ROWS = ("trajectories/*.parquet", "selections/*.parquet")
_ADAPTER_BASE = "base_model_name_or_path"
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True)
class Parcel:
    """The content of one repository."""

    repository: str
    kind: hub.Kind
    store: Store
    files: dict[str, str | bytes]
    """Contents, or paths in the store, by the path in the repository."""
    replaces: tuple[str, ...]
    """Files there that make way; see `hub.send`."""

    @property
    def address(self) -> str:
        """Where it goes, as the Hub writes it."""
        return f"{hub.DATASETS if self.kind == 'dataset' else hub.SCHEME}{self.repository}"

    @property
    def card(self) -> str:
        """The text of its README.md."""
        content = self.files["README.md"]
        assert isinstance(content, bytes)
        return content.decode()

    def sizes(self) -> dict[str, int]:
        """Bytes of every file."""
        return {
            name: len(content) if isinstance(content, bytes) else int(self.store.fs.size(content))
            for name, content in sorted(self.files.items())
        }

    def send(self, *, private: bool) -> hub.Sent:
        """Make the repository hold it.

        Raises:
            HubError: the Hub does not take it.
        """
        with tempfile.TemporaryDirectory() as scratch:
            files = {
                name: content if isinstance(content, bytes) else self._local(content, Path(scratch, str(number)))
                for number, (name, content) in enumerate(sorted(self.files.items()))
            }
            return hub.send(self.repository, self.kind, files, private=private, replaces=self.replaces)

    def _local(self, path: str, copy: Path) -> Path:
        if self.store.is_local:
            return Path(path)
        self.store.fs.get(path, str(copy))
        return copy


class Push:
    """What is to be pushed of a run.

    Args:
        run: a finished one.
        to: `owner/name`.
        pieces: some of `PIECES`.
        model: whose weights, named as in `evaluate.models`; None: of the first selection that was tuned on.

    Raises:
        ConfigError: a piece or the model is unknown, or cannot go there.
        StoreError: the run does not have it.
    """

    def __init__(self, run: Run, to: str, pieces: Sequence[str], model: str | None = None) -> None:
        if to.count("/") != 1:
            raise ConfigError(f"--to {to}: no name of a repository; give OWNER/NAME")
        if unknown := sorted(set(pieces) - set(PIECES)):
            raise ConfigError(f"--what {unknown[0]}: unknown; give some of {', '.join(PIECES)}, with commas")
        if {"model", "adapter"} <= set(pieces):
            raise ConfigError("--what model,adapter: both would be the content of one repository; push one of them")
        self._run, self._store, self._to, self._pieces, self._model = run, run.store, to, pieces, model

    def parcels(self) -> list[Parcel]:
        """One for each repository."""
        found = []
        if "selections" in self._pieces:
            found.append(self._selections())
        if "model" in self._pieces or "adapter" in self._pieces:
            found.append(self._weights(adapter="adapter" in self._pieces))
        return found

    @cached_property
    def _data(self) -> RunData:
        return read(self._run.config, self._store, stages.result_cards(self._run))

    @cached_property
    def _setting(self) -> Setting:
        return setting(self._store, self._data)

    def _weights(self, *, adapter: bool) -> Parcel:
        config, entry = self._run.config, self._entry()
        folder = ("checkpoints", Path(str(entry.directory)).name, *(["adapter"] if adapter else []))
        if adapter and not self._store.exists(*folder):
            raise StoreError(f"{self._store.path(*folder)}: no adapter (train.lora was off); push the model")
        base = models.published(config.model)
        if adapter and (base is None or (entry.kind == "tuned" and config.train.warmup is not None)):
            raise ConfigError("--what adapter: it belongs to a model that is not on the Hub; push the model, merged")
        files: dict[str, str | bytes] = {
            name: self._store.path(*folder, name)
            for name in self._store.names(*folder)
            if not name.startswith(".") and self._store.fs.isfile(self._store.path(*folder, name))
        }
        if adapter:
            about = self._store.read_json(*folder, "adapter_config.json") | {_ADAPTER_BASE: base}
            files["adapter_config.json"] = (json.dumps(about, indent=2, sort_keys=True) + "\n").encode()
        origin = card.Origin(base, models.licence(config.model), tuple(self._datasets()))
        text = card.model_card(self._data, self._setting, entry, self._to, origin, adapter=adapter)
        return Parcel(self._to, "model", self._store, files | self._described(text), _WEIGHTS)

    def _entry(self) -> RosterEntry:
        roster, config = Keys(self._run).roster, self._run.config
        if self._model is None:
            return roster.tuned(config.train.selections[0], config.training_seeds[0])
        entry = roster.entry(self._model)
        if entry.kind not in ("tuned", "warmup"):
            raise ConfigError(f"--model {self._model}: this run has not trained it; name a selection, or warmup")
        return entry

    def _datasets(self) -> list[str]:
        """Ids of the data sets that the run was tuned on, and of the one that goes along."""
        source = self._run.config.collect.source
        read_from = [hub.parse(source).id] if source.startswith(hub.SCHEME) else []
        return [*read_from, *([self._to] if "selections" in self._pieces else [])]

    def _selections(self) -> Parcel:
        folders = {"trajectories": "trajectories"}
        for name in self._data.selections:
            folders[name] = f"selections/{name}"
            if (own := self._store.trajectory_folder(name)) != "trajectories":
                folders[f"{name}_trajectories"] = own
        if not has_table(self._store, "trajectories"):
            raise StoreError(f"{self._store.url}: no trajectories to push; run `atlas-ray collect` first")
        files: dict[str, str | bytes] = {
            f"{folder}/{name}": self._store.path(folder, name)
            for folder in folders.values()
            for name in self._store.names(folder)
            if name.endswith(".parquet")
        }
        text = card.selections_card(self._data, self._setting, self._to, folders)
        return Parcel(self._to, "dataset", self._store, files | self._described(text), _ROWS)

    def _described(self, text: str) -> dict[str, str | bytes]:
        """The card, and the configuration as far as it differs from the defaults."""
        config = self._run.config.model_dump(mode="json", exclude={"run_dir"}, exclude_defaults=True)
        return {
            "README.md": text.encode(),
            "atlas-ray.yaml": _PASSWORD.sub("", yaml.safe_dump(config, sort_keys=False)).encode(),
        }
