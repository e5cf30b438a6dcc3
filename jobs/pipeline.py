"""The whole pipeline: `atlas-ray pipeline` as a script for `ray job submit`.

collect -> (warm-up) -> select -> train -> evaluate -> report; the line itself is in atlas_ray/cli/commands/pipeline.py.
"""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.main import main

main(["pipeline", *sys.argv[1:]])
