"""The report: what a run directory says, as `report.md` and one self-contained `report.html`.

`data.py` reads, `findings.py` and `overview.py` conclude, `view.py`, `explorer.py` and `charts.py` prepare,
`markdown.py` and `html.py` write; `picture.py` draws the result for a README.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from atlas_ray.config import PipelineConfig
from atlas_ray.environments.contract import EnvironmentCard
from atlas_ray.report import data, html, markdown
from atlas_ray.report.picture import picture
from atlas_ray.report.setting import setting
from atlas_ray.store import Store

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["picture", "write_report"]


def write_report(
    config: PipelineConfig, store: Store, cards: Mapping[str, EnvironmentCard] | None = None
) -> tuple[str, str]:
    """Write `report.md` and `report.html` from what the run directory holds; what it lacks is said in them.

    Args:
        config: of the run.
        store: its run directory.
        cards: of the environments to report on; None asks the registry for those evaluated.

    Returns:
        The paths of report.md and report.html.

    Raises:
        StoreError: a file in the run directory is malformed, or the report cannot be written.
    """
    read = data.read(config, store, cards)
    about = setting(store, read)
    return (
        store.write_text(markdown.render(read, about), "report.md"),
        store.write_text(html.render(read, about, _tokenizer(store)), "report.html"),
    )


def _tokenizer(store: Store) -> PreTrainedTokenizerBase | None:
    """That of a checkpoint in the run directory: the one the masks were made with, and no download."""
    from atlas_ray.models import load_tokenizer

    for name in store.names("checkpoints") if store.is_local else ():
        if store.exists("checkpoints", name, "tokenizer.json"):
            return load_tokenizer(store.path("checkpoints", name))
    return None
