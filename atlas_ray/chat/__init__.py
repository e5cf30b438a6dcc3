"""Chat templates and tokens: what a model is given before a step, what it must write there, and the loss mask.

Training, scoring and inference all tokenise here, so a step has the same tokens everywhere. `template.py` asks the
chat template, `encoding.py` makes ids and spans, `conversation.py` is the growing conversation of a rollout, and
`show.py` prints a trajectory with its loss mask (`python -m atlas_ray.chat --show RUN_DIR`). No ray, no torch.
"""

from atlas_ray.chat.conversation import Conversation
from atlas_ray.chat.encoding import Encoded, Row, encode, encode_all, loss_mask
from atlas_ray.chat.show import main
from atlas_ray.chat.template import end_of_turn

__all__ = ["Conversation", "Encoded", "Row", "encode", "encode_all", "end_of_turn", "loss_mask", "main"]
