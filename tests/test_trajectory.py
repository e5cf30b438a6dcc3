"""The rows of the pipeline: a selection's weights, what is refused, and the way through Parquet and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_ray.trajectory import SELECTION_SCHEMA, Selection, selection_from_row, selections_to_table

WEIGHTED = st.dictionaries(st.integers(0, 50), st.floats(0, 1, exclude_min=True), max_size=12)


def selection(**fields: object) -> Selection:
    return Selection.model_validate({"trajectory_id": "t", "method": "m", "ratio": 0.3} | fields)


@given(weights=WEIGHTED, present=st.booleans())
def test_weights_come_back_from_arrow_as_they_were(weights: dict[int, float], present: bool) -> None:
    steps = sorted(weights)
    row = selection(steps=steps, weights=[weights[step] for step in steps] if present else None)
    (back,) = (selection_from_row(found) for found in selections_to_table([row]).to_pylist())
    assert back == row
    assert back.weight_of() == (weights if present else dict.fromkeys(steps, 1.0))
    assert selections_to_table([row]).schema == SELECTION_SCHEMA


@pytest.mark.parametrize(
    ("weights", "told"),
    [((1.0,), "one weight per step"), ((1.0, 0.0), "in (0, 1]"), ((1.0, 1.5), "in (0, 1]"),
     ((1.0, float("nan")), "in (0, 1]")],
)  # fmt: skip
def test_weights_that_fit_no_step_or_lie_outside_are_refused(weights: tuple[float, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told.replace("(", r"\(").replace("]", r"\]")):
        selection(steps=(0, 3), weights=weights)
