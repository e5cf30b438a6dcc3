"""The cards of what is pushed to the Hub: README.md of a tuned model or adapter, and of a data set of selections.

A card says what was tuned on what, the results with their intervals, the commands, and the versions of environments and
packages. It holds no time of its own, so the same run gives the same card. What is pushed is in `pipeline/push.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from atlas_ray import __version__
from atlas_ray.report.comparisons import headline
from atlas_ray.report.content import RESULTS
from atlas_ray.report.data import RunData
from atlas_ray.report.results import layout, with_groups
from atlas_ray.report.selections import summary_table
from atlas_ray.report.setting import Setting
from atlas_ray.report.tables import escape, table, to_markdown
from atlas_ray.report.text import facts
from atlas_ray.roster import RosterEntry

PAPER = "https://arxiv.org/abs/2503.02197"
_TAGS = ["atlas-ray", "agent", "critical-steps"]
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True)
class Origin:
    """Where a pushed model comes from, as far as the Hub knows of it."""

    base: str | None
    """The base model's id."""
    licence: str | None
    """Of the base model."""
    datasets: tuple[str, ...]
    """Ids of the data sets that it was tuned on."""


def model_card(
    data: RunData, setting: Setting, entry: RosterEntry, repository: str, origin: Origin, *, adapter: bool
) -> str:
    """The card of a model.

    Args:
        data: its run.
        setting: of the run.
        entry: the model.
        repository: where it goes.
        origin: what it was made from.
        adapter: whether the adapter goes there, in place of the whole model.
    """
    metadata = {
        "base_model": origin.base,
        "base_model_relation": ("adapter" if adapter else "finetune") if origin.base else None,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "license": origin.licence,
        "datasets": list(origin.datasets),
        "tags": _TAGS,
    }
    base = origin.base or "a model that is not on the Hub"
    said = f"{base}, tuned with atlas-ray {_tuned_on(data, entry)}."
    if data.config.train.warmup is not None and entry.kind == "tuned":
        said += " Tuning started from the run's warm-up, which learned all steps of other trajectories."
    package, loader = ("peft", "AutoPeftModelForCausalLM") if adapter else ("transformers", "AutoModelForCausalLM")
    use = f'```python\nfrom {package} import {loader}\n\nmodel = {loader}.from_pretrained("{repository}")\n```'
    if not adapter:
        use += f"\n\n```bash\natlas-ray evaluate --config atlas-ray.yaml --evaluate.models {repository}\n```"
    return _card(metadata, repository, [said, use, *_results(data), *_made(data, setting, entry)])


def selections_card(data: RunData, setting: Setting, repository: str, folders: Mapping[str, str]) -> str:
    """The card of a data set of trajectories and the critical steps that were selected in them.

    Args:
        data: the run.
        setting: of the run.
        repository: where it goes.
        folders: of the Parquet files in it, by the name that they have on the Hub.
    """
    metadata = {
        "task_categories": ["text-generation"],
        "configs": [
            {"config_name": name, "data_files": f"{folder}/*.parquet"} for name, folder in sorted(folders.items())
        ],
        "tags": _TAGS,
    }
    counts = Counter(each.env for each in data.trajectories.values())
    where = ", ".join(f"{count} of {env}" for env, count in sorted(counts.items()))
    said = (
        f"Agents' trajectories ({where}) and the critical steps that atlas-ray "
        f"selected in them, as in [ATLAS]({PAPER}). A selection's row names its trajectory by `trajectory_id`; `steps` "
        "are numbers of the assistant's turns whose `step` is set in `messages`, `weights` their weights in the loss."
    )
    use = (
        "```bash\n"
        f"atlas-ray collect --collect.source hf://datasets/{repository}/{folders['trajectories']}\n"
        "```\n\n"
        "```python\nfrom datasets import load_dataset\n\n"
        f'trajectories = load_dataset("{repository}", "trajectories")\n```'
    )
    parts = [said, use]
    if data.selections:
        parts += ["## Selections", to_markdown(summary_table(data, data.figures())).rstrip()]
    return _card(metadata, repository, [*parts, *_made(data, setting, None)])


def _card(metadata: Mapping[str, Any], title: str, parts: Sequence[str]) -> str:
    known = {name: value for name, value in metadata.items() if value}
    text = "\n\n".join([f"# {title.partition('/')[2]}", *parts])
    return without_passwords(f"---\n{yaml.safe_dump(known, sort_keys=False)}---\n\n{text}\n")


def without_passwords(text: str) -> str:
    """The text without names and passwords in its URLs (`https://me:secret@host`)."""
    return _PASSWORD.sub("", text)


def _tuned_on(data: RunData, entry: RosterEntry) -> str:
    if entry.selection is None:
        return "on all steps of some of its run's trajectories"
    learned = data.phrase_of(entry.selection)
    method = data.method_of(entry.selection)
    stand_in = ", whose selector was a stand-in" if data.is_stand_in(entry.selection) else ""
    made = f"selection `{entry.selection}` by method `{method}`{stand_in}, seed {entry.seed}"
    return f"on {learned} ([ATLAS]({PAPER}); {made})"


def _results(data: RunData) -> list[str]:
    if not data.models:
        return ["## Results", "No model of the run was evaluated."]
    rows = with_groups(
        [model.results for model in data.models.values()], data.cards, lambda name: data.models[name].episodes
    )
    said = [escape(sentence) for sentence in headline(data)] if data.tuned else []
    return ["## Results", *said, to_markdown(layout(rows, data.cards)).rstrip(), escape(RESULTS)]


def _made(data: RunData, setting: Setting, entry: RosterEntry | None) -> list[str]:
    """Training in figures, versions and commands."""
    parts = ["## How it was made"]
    trained = next((unit for unit in data.units if unit.stage == "train" and entry and unit.name == _unit(entry)), None)
    if trained is not None:
        parts.append(escape(f"Training: {facts(trained.facts)}."))
    if data.cards:
        options = data.config.environments
        rows = [
            [name, str(card.version), card.metric.replace("_", " "), str(card.max_rounds), str(options.get(name) or "")]
            for name, card in sorted(data.cards.items())
        ]
        header = ["environment", "version", "metric", "rounds at most", "options"]
        parts.append(to_markdown(table(header, rows, words=(0, 2, 4))).rstrip())
    parts.append(f"Packages where it was pushed: atlas-ray {__version__}, {setting.versions_line()}.")
    commands = dict.fromkeys(unit.command for unit in data.units if unit.command)
    again = "atlas-ray pipeline --config atlas-ray.yaml   # the same run, from the configuration in this repository"
    return [*parts, "```bash\n" + "\n".join([*commands, again]) + "\n```"]


def _unit(entry: RosterEntry) -> str | None:
    return None if entry.directory is None else entry.directory.rstrip("/").rpartition("/")[2]
