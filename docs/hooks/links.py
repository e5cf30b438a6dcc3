"""Lets pages keep their links into the repository: what lies outside docs/ and is linked becomes part of the site.

README.md is the front page; other files stand under `source/` by their path. So the same link works in a checkout and
on the site. A list that follows a text without a blank line is one here too, as in CommonMark.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ALWAYS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages of the site whether or not another page links to them."""
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LIST_AFTER_TEXT = re.compile(r"^(?![-*] |\d+\. |#| |\||$)(.+)\n(?=[-*] )", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's files that are linked, and those that they link to."""
    pages = (path_of(file.src_uri) for file in files.documentation_pages())
    waiting = [*ALWAYS, *(path for path in pages if (ROOT / path).is_file())]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(uri_of(path)) is None:
            files.append(_added(path, config))
        if path.endswith(".md"):
            text = (ROOT / path).read_text()
            found = {target for _, target, _ in _linked(text, path)} - seen
            waiting += sorted(found)
            seen |= found
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links to where their files stand on the site."""
    del config, files
    here = page.file.src_uri
    for link, target, anchor in _linked(markdown, path_of(here)):
        place = posixpath.relpath(uri_of(target), posixpath.dirname(here) or ".")
        markdown = markdown.replace(f"]({link})", f"]({place}{anchor})")
    parts = re.split(r"(^```.*?^```[^\n]*$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LIST_AFTER_TEXT.sub(r"\1\n\n", part) for part in parts)


def uri_of(path: str) -> str:
    """Where a file of the repository stands on the site, as mkdocs names its source."""
    if path == "README.md":
        return "index.md"
    if path.endswith(".ipynb"):
        path = path.removesuffix(".ipynb") + ".md"
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}"


def path_of(uri: str) -> str:
    """Inverse of `uri_of`; for a notebook's page the name that it would have in its folder."""
    if uri == "index.md":
        return "README.md"
    return uri.removeprefix("source/") if uri.startswith("source/") else f"docs/{uri}"


def _added(path: str, config: MkDocsConfig) -> File:
    return File.generated(config, uri_of(path), abs_src_path=str(ROOT / path))


def _linked(markdown: str, path: str) -> Iterator[tuple[str, str, str]]:
    """Link, file in the repository and anchor, of every link to a file that is there."""
    for link in _LINK.findall(_FENCED.sub("", markdown)):
        name, hash_, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), name))
        if name and "://" not in name and os.path.isfile(ROOT / target):
            yield link, target, hash_ + anchor
