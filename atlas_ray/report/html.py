"""`report.html`: one file that opens from disk and asks no host for anything.

Everything is rendered by jinja2 with autoescape on. The one script is the explorer's, behind what it draws with; a
content security policy names it by its hash and forbids all others. Drawings are HTML and SVG in the page's own
colours, so that they follow dark and light and stay small.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

import yaml
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from atlas_ray.report import explorer, selections
from atlas_ray.report.content import Content
from atlas_ray.report.data import RunData
from atlas_ray.report.training import training_runs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def environment(*packages: str) -> Environment:
    """What renders pages: with autoescape on, and the report's templates behind those of other packages."""
    return Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "atlas_ray.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def template(name: str, package: str = "atlas_ray.report") -> str:
    """A file among a package's templates, as it is: a style sheet or a script."""
    return files(package).joinpath("templates", name).read_text()


def render(content: Content, data: RunData, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
    """The page; with a tokenizer it shows loss masks on the real tokens."""
    explored = explorer.payload(data, content.figures, tokenizer)
    script = template("drawings.js") + template("explorer.js")
    page = environment().get_template("report.html.j2")
    return page.render(
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
