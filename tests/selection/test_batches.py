"""How errors travel through a stage's tables. (The stages themselves: `test_run.py`.)"""

from __future__ import annotations

import pytest

from atlas_ray.errors import AtlasError, BudgetError, EndpointError, SelectionError
from atlas_ray.selection.batches import CALLS, output_table, stop_table, stopped
from atlas_ray.selection.summary import Calls
from atlas_ray.trajectory import SELECTION_SCHEMA, Selection


class ForeignError(AtlasError):
    """An error of another package, whose class the driver does not know by name."""


@pytest.mark.parametrize(
    ("error", "kind"),
    [(BudgetError("spent"), BudgetError), (EndpointError("refused"), EndpointError),
     (ForeignError("no licence"), SelectionError)],
)  # fmt: skip
def test_an_error_that_ends_the_run_arrives_with_its_class_and_text(error: AtlasError, kind: type[AtlasError]) -> None:
    found = stopped(stop_table(error))
    assert type(found) is kind
    assert str(found) == str(error)


def test_selections_are_no_error_and_keep_their_calls() -> None:
    rows = [Selection(trajectory_id="a", method="m", ratio=0.3, error="timeout: late")]
    table = output_table(rows, [Calls(made=2, latencies_s=[0.5])])
    assert stopped(table) is None
    assert table.drop_columns([CALLS]).schema == SELECTION_SCHEMA
    assert '"made": 2' in table[CALLS].to_pylist()[0]
