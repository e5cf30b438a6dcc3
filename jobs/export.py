"""Write a selection as training data of other trainers: AgentTraj-L, chat messages with weights, or axolotl's."""

import sys
from argparse import Namespace

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import run_job_with
from atlas_ray.cli.options import parser_for
from atlas_ray.formats.messages import AXOLOTL_DATASET
from atlas_ray.pipeline import selections
from atlas_ray.pipeline.run import Run
from atlas_ray.selection.export import FORMATS


def export(run: Run, options: Namespace) -> None:
    suffix = "json" if options.format == "agenttraj" else "jsonl"
    path = options.output or run.store.path("export", f"{options.selection}.{options.format}.{suffix}")
    print(selections.export(run, options.selection, options.format, path))
    if options.format == "axolotl":
        print(f"axolotl's config reads it with:\n{AXOLOTL_DATASET.format(path=path)}", end="")


parser = parser_for(__doc__ or "")
parser.add_argument("--format", choices=FORMATS, required=True, help="of the file")
parser.add_argument("--selection", default="llm", help="whose steps are trained on [llm]")
parser.add_argument("--output", metavar="FILE", help="[export/<selection>.<format> in the run directory]")
run_job_with(parser, export, needs_ray=lambda _: False)
