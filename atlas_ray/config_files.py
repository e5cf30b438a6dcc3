"""Reading a configuration: YAML files, those on board by their names, and dotted options laid over them.

What the options are is in `config.py`.
"""

from __future__ import annotations

import copy
import posixpath
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from atlas_ray import plugins
from atlas_ray.config import PipelineConfig, explain
from atlas_ray.errors import ConfigError
from atlas_ray.section import Section, section_of


def load(path: str | None, overrides: dict[str, Any] | None = None) -> PipelineConfig:
    """Read a YAML file and lay dotted overrides (`{"train.epochs": 1}`) over it.

    Raises:
        ConfigError: the file is missing or malformed, an option is unknown, or a value has the wrong type.
    """
    return made_from({} if path is None else read_yaml(path), overrides, path or "(command line)")


def shipped() -> list[str]:
    """Names of the configurations that come with atlas-ray (`quickstart`, `recipes/endpoint`), sorted.

    They are the files of `configs/`, in a checkout as in an installed package.
    """
    folder = _shipped_folder()
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def _shipped_folder() -> Path:
    from importlib.resources import files  # here: most commands read no file

    return Path(str(files("atlas_ray"))) / "configs"


def read_yaml(path: str) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: of a file; where there is none, the name of one that is `shipped`, also as `configs/NAME.yaml`.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    name = posixpath.normpath(path).removeprefix("configs/").removesuffix(".yaml")
    file = _shipped_folder() / f"{name}.yaml" if not Path(path).is_file() and name in shipped() else Path(path)
    try:
        values = yaml.safe_load(file.read_text()) or {}
    except OSError as error:
        raise ConfigError(
            f"config {path}: {error.strerror}; give a YAML file or a name{plugins.nearest(name, shipped())}"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config {path}: no valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"config {path}: expected a mapping of sections, found {type(values).__name__}")
    return values


def made_from(values: dict[str, Any], overrides: dict[str, Any] | None, where: str) -> PipelineConfig:
    """The configuration of sections as a YAML file has them, with dotted overrides laid over them.

    Args:
        values: the sections; they are left as they are.
        overrides: dotted options.
        where: what an error names.

    Raises:
        ConfigError: an option is unknown, or a value has the wrong type.
    """
    values = copy.deepcopy(values)
    for dotted, value in (overrides or {}).items():
        node = values
        *parents, leaf = dotted.split(".")
        for name in parents:
            if not isinstance(node.get(name), dict):
                node[name] = {}
            node = node[name]
        node[leaf] = value
    try:
        return PipelineConfig.model_validate(values)
    except ConfigError as error:
        raise ConfigError(f"config {where}: {error}") from error
    except ValidationError as error:
        raise ConfigError(f"config {where}: {explain(error)}{_meant(error)}; see --help") from error


def _meant(error: ValidationError) -> str:
    """The option that an unknown one was meant to be, for the end of a message."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "extra_forbidden":
        return ""
    section: type[Section] | None = PipelineConfig
    *parents, wrong = (str(part) for part in first["loc"])
    for name in parents:
        field = section.model_fields.get(name) if section else None
        section = section_of(field) if field else None
    close = get_close_matches(wrong, section.model_fields, 1) if section else []
    return f"; did you mean {'.'.join([*parents, *close])}?" if close else ""
