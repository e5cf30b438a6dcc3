"""Fine-tune on the critical steps of each of train.selections, after a warm-up where there is one.

With --dry-run: print parameters, memory per GPU, tokens, FLOPs and expected hours instead; needs no weights, no Ray.
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print what training would take")
    parser.add_argument("--gpu", default="a100-80gb", metavar="NAME", help="GPU of the dry run [%(default)s]")
    parser.add_argument(
        "--mean-tokens", type=int, default=2048, metavar="N",
        help="tokens of a trajectory in the dry run, where none is collected yet [%(default)s]",
    )  # fmt: skip


def work(request: Request) -> None:
    if request.options.dry_run:
        from atlas_ray.training.dry_run import dry_run

        print(dry_run(request.config, request.options.gpu, request.options.mean_tokens))
        return
    from atlas_ray.pipeline import stages

    run = request.run()
    stages.warm_up(run)
    stages.train(run, run.config.train.selections)
    print(f"checkpoints in {run.store.path('checkpoints')}")


COMMAND = Command(
    "train", __doc__, ("atlas-ray train --config paper --dry-run --gpu h100", "atlas-ray train --train.lora.rank 32"),
    work, ("train", "track"), arguments,
)  # fmt: skip
