"""The notebooks run from their folder, and print what is stored in them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each cell with code prints."""
    return [
        "".join(output.get("text") or output["data"]["text/plain"] for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


async def run_all(notebooks: dict[str, nbformat.NotebookNode]) -> None:
    """Run notebooks side by side, each in a kernel of its own."""
    clients = [
        NotebookClient(each, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}})
        for each in notebooks.values()
    ]
    await asyncio.gather(*(client.async_execute() for client in clients))


@pytest.fixture(scope="module")
def run() -> dict[str, nbformat.NotebookNode]:
    """The notebooks, run; a cell that raises is an error."""
    notebooks = {path.name: nbformat.read(path, as_version=4) for path in NOTEBOOKS}
    asyncio.run(run_all(notebooks))
    return notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.name))
def test_a_notebook_prints_what_is_stored_in_it(path: Path, run):
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    assert printed(run[path.name]) == printed(stored)
    assert any(printed(stored))


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 3
