"""The base of every section of the configuration: closed, frozen, documented field by field, with a fingerprint.

A section lives beside the component it configures. Every field counts in the fingerprint unless its declaration says
otherwise, so a new option cannot be forgotten in a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict
from pydantic.fields import FieldInfo

from atlas_ray.hashing import content_hash

Mark = Literal["runtime-only", "names units"]
_Value = TypeVar("_Value")

RuntimeOnly = Annotated[_Value, "runtime-only"]
"""A field that says how work is done, never what comes of it: concurrency, ports, replicas, time-outs."""
NamesUnits = Annotated[_Value, "names units"]
"""A field that says which results are wanted; each of them has a key of its own, which this field is no part of."""


class Section(BaseModel):
    """A group of options."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    def determinants(self) -> dict[str, Any]:
        """The values that determine a result, as JSON: all but those marked otherwise where they are declared."""
        fields = type(self).model_fields
        return {name: _plain(getattr(self, name)) for name in fields if mark_of(fields[name]) is None}

    def fingerprint(self) -> str:
        """Hash of `determinants`."""
        return content_hash(self.determinants())

    @classmethod
    def open_sections(cls) -> Mapping[str, type[Section]]:
        """Sections that are not declared as fields because plugins bring them, by name."""
        return {}


def mark_of(field: FieldInfo) -> Mark | None:
    """How a field is marked; None for one that counts in the fingerprint."""
    marks: list[Mark] = [item for item in field.metadata if item in ("runtime-only", "names units")]
    return marks[0] if marks else None


def section_of(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, also where it may be None; None for a plain value."""
    is_union = get_origin(field.annotation) in (Union, UnionType)
    options = get_args(field.annotation) if is_union else (field.annotation,)
    return next((each for each in options if isinstance(each, type) and issubclass(each, Section)), None)


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo, tuple[Mark, ...]]]:
    """Every plain field under a section: dotted name, field, and the marks on the way to it."""
    yield from _leaves(section, prefix, ())


def _leaves(
    section: type[Section], prefix: str, above: tuple[Mark, ...]
) -> Iterator[tuple[str, FieldInfo, tuple[Mark, ...]]]:
    for name, field in section.model_fields.items():
        own = mark_of(field)
        marks = (*above, own) if own else above
        inner = section_of(field)
        if inner is None:
            yield prefix + name, field, marks
        else:
            yield from _leaves(inner, f"{prefix}{name}.", marks)
    for name, inner in section.open_sections().items():
        yield from _leaves(inner, f"{prefix}{name}.", above)


def _plain(value: Any) -> Any:
    """A field's value as JSON."""
    if isinstance(value, Section):
        return value.determinants()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
