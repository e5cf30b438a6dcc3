"""atlas-ray: tune LLM agents on the steps that matter, on Ray.

The data flows left to right: collect -> select -> train -> evaluate -> report.
`cli/commands/pipeline.py` is that line; each stage is a sub-package here.
"""

__version__ = "0.2.0"
