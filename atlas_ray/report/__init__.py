"""The report: what a run directory says, as `report.md`, one self-contained `report.html`, and `report.png`.

`data.py` reads the run directory. `comparisons.py`, `results.py`, `verification.py`, `training.py`, `selections.py` and
`setting.py` turn it into sentences and tables, and `content.py` puts them in order. `markdown.py` and `html.py` write
them. `charts.py`, `explorer.py` and `view.py` prepare what only the page has; `drawings.py` draws pictures. An
experiment of many runs has its own report: `experiment.py` and the modules that its name begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report import html, markdown
from atlas_ray.report.comparisons import model_comparisons
from atlas_ray.report.content import content
from atlas_ray.report.data import read
from atlas_ray.report.drawings import picture
from atlas_ray.report.results import result_table
from atlas_ray.report.setting import setting
from atlas_ray.report.verification import verification_table
from atlas_ray.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["checkpoint_tokenizer", "model_comparisons", "result_table", "verification_table", "write_report"]


def write_report(
    config: PipelineConfig, store: Store, cards: Mapping[str, EnvironmentCard] | None = None
) -> tuple[str, str]:
    """Write the report from what the run directory holds; what it lacks is said in it.

    `report.png` is written once a model has been evaluated.

    Args:
        config: of the run.
        store: its run directory.
        cards: of the environments to report on; None asks the registry for those evaluated.

    Returns:
        The paths of report.md and report.html.

    Raises:
        StoreError: a file in the run directory is malformed or of the first edition, or the report cannot be written.
        ConfigError: an evaluated environment is unknown.
    """
    data = read(config, store, cards)
    said = content(data, setting(store, data))
    if data.models:
        store.write_bytes(picture(said.rows, data.cards, said.curves), "report.png")
    return (
        store.write_text(markdown.render(said), "report.md"),
        store.write_text(html.render(said, data, checkpoint_tokenizer(store)), "report.html"),
    )


def checkpoint_tokenizer(store: Store) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a checkpoint in the run directory; None without one.

    It needs no download, and training made its masks with it.
    """
    from atlas_ray.models import load_tokenizer

    for name in store.names("checkpoints") if store.is_local else ():
        if store.exists("checkpoints", name, "tokenizer.json"):
            return load_tokenizer(store.path("checkpoints", name))
    return None
