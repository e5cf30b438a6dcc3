"""Writes a small package with an environment or a selection method of one's own, which passes its tests at once.

What is written is in `templates/`: each file with `$name` and the like in place of the names.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib.resources import as_file, files
from pathlib import Path
from string import Template
from typing import Literal

from atlas_ray.errors import ConfigError

Kind = Literal["env", "method"]


def write(kind: Kind, name: str, parent: Path, taken: Collection[str]) -> Path:
    """Write the package `<parent>/<name>_<kind>`; returns its folder.

    Args:
        kind: what is added.
        name: of the environment or method.
        parent: an existing folder.
        taken: names that are registered.

    Raises:
        ConfigError: the name cannot be used, or the folder is there already or cannot be written.
    """
    if not (name.isidentifier() and name.isascii() and name.islower()):
        raise ConfigError(f"{name!r} is no name; use small letters, digits and '_', beginning with a letter")
    if name in taken:
        raise ConfigError(f"there is {name!r} already; choose another name than {', '.join(sorted(taken))}")
    module = f"{name}_{kind}"
    folder = parent / module
    values = {
        "name": name, "module": module, "distribution": module.replace("_", "-"),
        "class": "".join(part.capitalize() for part in name.split("_")) + {"env": "Env", "method": "Steps"}[kind],
    }  # fmt: skip
    try:
        folder.mkdir()
        with as_file(files("atlas_ray.cli") / "templates" / kind) as root:
            for template in sorted(root.rglob("*.in")):
                place = str(template.relative_to(root)).removesuffix(".in").replace("NAME", module)
                (folder / place).parent.mkdir(exist_ok=True)
                (folder / place).write_text(Template(template.read_text()).substitute(values))
    except FileExistsError as error:
        raise ConfigError(f"{folder} is there already; remove it, or choose another name or --to") from error
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}") from error
    return folder
