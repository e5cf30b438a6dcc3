"""Write a selection as training data of other trainers: trajectories with their steps marked, or step preferences.

`agenttraj`, `messages`, `axolotl` and `skyrl` (token ids) hold trajectories; `dpo` (TRL, axolotl), `llamafactory`,
`pivot` (NeMo-Gym) and `verl` hold the better and the worse action at critical steps, out of rollouts.
"""

from __future__ import annotations

from argparse import ArgumentParser

from atlas_ray.cli.command import Command, Request


def arguments(parser: ArgumentParser) -> None:
    from atlas_ray.selection.export import FORMATS, PREFERENCE_FORMATS, TOKENS

    formats = (*FORMATS, TOKENS, *PREFERENCE_FORMATS)
    parser.add_argument("--format", choices=formats, required=True, help="of the file")
    parser.add_argument("--selection", default="llm", help="whose steps are trained on [llm]")
    parser.add_argument("--output", metavar="FILE", help="[export/<selection>.<format> in the run directory]")


def work(request: Request) -> None:
    from atlas_ray.formats.messages import AXOLOTL_DATASET
    from atlas_ray.formats.preferences import AXOLOTL_DPO, LLAMAFACTORY_DATASET
    from atlas_ray.pipeline import selections
    from atlas_ray.selection.export import SUFFIXES

    run, options = request.run(ray=False), request.options
    suffix = SUFFIXES.get(options.format, "jsonl")
    path = options.output or run.store.path("export", f"{options.selection}.{options.format}.{suffix}")
    print(selections.export(run, options.selection, options.format, path))
    configs = {
        "axolotl": ("axolotl's config", AXOLOTL_DATASET), "dpo": ("axolotl's config", AXOLOTL_DPO),
        "llamafactory": ("LLaMA-Factory's dataset_info.json", LLAMAFACTORY_DATASET),
    }  # fmt: skip
    if options.format in configs:
        reader, lines = configs[options.format]
        print(f"{reader} reads it with:\n{lines.format(path=path)}", end="")


COMMAND = Command(
    "export", __doc__, ("atlas-ray export --config runs/quickstart/config.yaml --format axolotl --selection critical",),
    work, ("select", "train"), arguments,
)  # fmt: skip
