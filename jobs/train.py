"""Fine-tune on the critical steps of each of train.selections, after a warm-up where the config asks for one.

With --dry-run: print parameters, memory per GPU, tokens, FLOPs and expected hours instead; needs no weights, no Ray.
"""

import sys

del sys.path[0]  # this folder: its select.py is not the standard library's

from atlas_ray.cli.job import guarded, run_job_with
from atlas_ray.cli.options import parse_args_with, parser_for
from atlas_ray.pipeline import stages
from atlas_ray.pipeline.run import Run


def train(run: Run) -> None:
    stages.warm_up(run)
    stages.train(run, run.config.train.selections)
    print(f"checkpoints in {run.store.path('checkpoints')}")


def main() -> None:
    parser = parser_for(__doc__ or "")
    parser.add_argument("--dry-run", action="store_true", help="print what training would take")
    parser.add_argument("--gpu", default="a100-80gb", metavar="NAME", help="GPU of the dry run [%(default)s]")
    parser.add_argument(
        "--mean-tokens", type=int, default=2048, metavar="N",
        help="tokens of a trajectory in the dry run, where none is collected yet [%(default)s]",
    )  # fmt: skip
    config, chosen = parse_args_with(parser)
    if chosen.dry_run:
        from atlas_ray.training.dry_run import dry_run  # brings torch along

        print(dry_run(config, chosen.gpu, chosen.mean_tokens))
    else:
        run_job_with(parser, lambda run, _: train(run))


guarded(main)
