"""`report.md`: the report without drawings and transcripts; for terminals, diffs and pull requests."""

from __future__ import annotations

from collections.abc import Iterable

from atlas_ray.report.content import Content
from atlas_ray.report.tables import escape, to_markdown


def render(content: Content) -> str:
    """The report as GitHub-flavoured Markdown; text from data is escaped."""
    parts = [f"# {escape(content.title)}", *map(escape, content.headline), _bullets(content.notes)]
    if content.missing:
        parts += ["**Missing from this run**", _bullets(content.missing)]
    for section in content.sections:
        parts += [f"## {section.title}", *map(escape, section.sentences)]
        for block in section.blocks:
            parts += [f"### {block.title}" if block.title else "", escape(block.explanation or "")]
            parts.append(to_markdown(block.table).rstrip())
    parts += ["## Run it again", "```bash\n" + "\n".join(content.setting.commands) + "\n```"]
    parts.append(f"{content.setting.versions_line()}. Written {content.setting.written}.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)
