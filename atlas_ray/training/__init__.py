"""Fine-tuning on the critical steps alone, exactly and without work that cannot change the gradient.

Reading order: `examples` (what is trained on), `packing` (what a step holds and where), `model`, `attention` and
`last_layer` (the network without the work it can skip), `loss`, `loop` (one Ray Train worker), `checkpoint` (what a
killed run goes on from), `export` (the Hugging Face directory), `run` (the entry point: `run.train`).
"""
