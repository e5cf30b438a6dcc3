"""`report.html`: one file that opens from disk and asks no host for anything.

Everything is rendered by jinja2 with autoescape on. The one script is the explorer's; a content security policy names
it by its hash and forbids all others. Drawings are HTML and SVG in the page's own colours, so that they follow dark and
light and stay small.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from atlas_ray.report import explorer, selections
from atlas_ray.report.content import Content
from atlas_ray.report.data import RunData
from atlas_ray.report.training import training_runs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def render(content: Content, data: RunData, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    """The page; with a tokenizer it shows loss masks on the real tokens."""
    environment = Environment(
        loader=PackageLoader("atlas_ray.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    explored = explorer.payload(data, content.figures, tokenizer)
    script = files("atlas_ray.report").joinpath("templates/explorer.js").read_text()
    return environment.get_template("report.html.j2").render(
        content=content,
        data=data,
        training=training_runs(data),
        colors=list(selections.colors(content.figures).values()),
        explored=explored,
        explorer_data=Markup(explorer.embed(explored)),  # noqa: S704 - JSON without a character that ends its element
        explorer_script=Markup(script),  # noqa: S704 - our own file
        explorer_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        config_yaml=yaml.safe_dump(data.config.model_dump(mode="json"), sort_keys=False),
    )
