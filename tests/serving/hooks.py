"""Hooks of the schemathesis run: valid requests for text ask for a few tokens, as any length is an answer."""

from __future__ import annotations

import schemathesis

FEW = 4


@schemathesis.hook
def before_call(context, case, **kwargs):
    """Bound what a model generates; what is invalid stays so."""
    if case.path.endswith("/completions") and isinstance(case.body, dict):
        asked = case.body.get("max_tokens")
        if asked is None or (isinstance(asked, int) and not isinstance(asked, bool) and FEW < asked <= 1_000_000):
            case.body["max_tokens"] = FEW
