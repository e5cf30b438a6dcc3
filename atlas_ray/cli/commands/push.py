"""Push a run to the Hugging Face Hub: the tuned model, and its selections as a data set, with cards.

The token is HF_TOKEN, or that of `hf auth login`; it is neither shown nor stored. What the Hub has already is not sent
again. With --dry-run: print files, sizes and cards; nothing is asked of the Hub.
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run directory, such as runs/quickstart")
    parser.add_argument("--to", metavar="OWNER/NAME", required=True, help="of the model; the data set is called alike")
    parser.add_argument(
        "--what", metavar="PIECES", default="model,selections", help="of model, adapter, selections [%(default)s]"
    )
    parser.add_argument("--model", metavar="NAME", help="whose weights [of the first selection of train.selections]")
    parser.add_argument("--private", action="store_true", help="new repositories are private")
    parser.add_argument("--dry-run", action="store_true", help="print files, sizes and cards; send nothing")


def work(request: Request) -> None:
    from atlas_ray.pipeline.push import Push
    from atlas_ray.pipeline.run import finished_run

    asked = request.options
    pieces = [piece.strip() for piece in asked.what.split(",")]
    for parcel in Push(finished_run(asked.run), asked.to, pieces, asked.model).parcels():
        if asked.dry_run:
            sizes = parcel.sizes()
            lines = [f"  {size:>14,}  {name}" for name, size in sizes.items()]
            print("\n".join([f"{parcel.address}: {len(sizes)} files, {sum(sizes.values()):,} bytes", *lines]))
            print(f"\n{parcel.card}")
        else:
            sent = parcel.send(private=asked.private)
            print(f"{parcel.address}: {'pushed' if sent.is_new else 'nothing to send'}, {sent.url}")


COMMAND = Command(
    "push", __doc__,
    ("atlas-ray push runs/quickstart --to me/textcraft-agent --dry-run",
     "atlas-ray push runs/quickstart --to me/textcraft-agent --private --what model,selections"),
    work, arguments=arguments,
)  # fmt: skip
