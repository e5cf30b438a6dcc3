"""Fine-tuning on the critical steps alone: the exact gradient, without the work that cannot change it.

Reading order: `trainer` (the entry point, `trainer.train`), `examples` (token ids and weights), `packing` and
`prefix_tree` (how an optimizer step is laid out in rows), `exact` (which work may be left out), `model`, `attention`
and `last_layer` (the network), `loss`, `pairs` and `dpo` (preferences), `loop` (one Ray Train worker), `checkpoint`
(the state to resume from), `export` (the Hugging Face directory).
"""
