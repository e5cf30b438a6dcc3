"""The notebooks of docs/notebooks as pages: text, code, and the outputs that are stored in them.

`tests/docs/test_notebooks.py` runs them and compares what they print with what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDER = Path(__file__).parents[1] / "notebooks"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each notebook."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        text = "\n\n".join(_parts(json.loads(path.read_text()), path.name))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files


def _parts(notebook: dict[str, Any], name: str) -> Iterator[str]:
    head, *cells = notebook["cells"]
    yield "".join(head["source"])
    yield f"*The notebook is `docs/notebooks/{name}`.*"
    for cell in cells:
        source = "".join(cell["source"])
        yield source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```"
        shown = "".join(text for output in cell.get("outputs", ()) for text in _text(output)).rstrip()
        if shown:
            yield f"```text\n{shown}\n```"


def _text(output: dict[str, Any]) -> list[str]:
    """What an output prints: a stream, or the value of a cell's last line."""
    found: list[str] = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    return found
