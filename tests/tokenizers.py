"""Tokenizers for tests: small ones of each kind in use, with chat templates written from their documented formats.

`tokenizer` is the byte-level BPE that the tiny models of other tests have; `of_kind` is for what differs between kinds.
"""

from __future__ import annotations

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' "
    "+ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
)
FORGETFUL = (  # drops earlier assistant turns, as templates of thinking models do with earlier thoughts
    "{% for m in messages %}{% if m['role'] == 'user' or loop.last %}{{ '<|im_start|>' + m['role'] + '\n' "
    "+ m['content'] + '<|im_end|>' + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL}

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eot_id|>", "<s>", "</s>", "[INST]", "[/INST]",
]  # fmt: skip
_TEXT = [
    "Thought: The goal needs 2 planks. I have none, so I get 1 oak logs.\nAction: get 1 oak logs",
    "Crafting commands:\ncraft 4 oak planks using 1 oak logs\n\nGoal: craft oak planks.\nGot 1 oak logs",
    "You are in a room. There is a red ball 1 2 steps in front of you. Available actions: turn left, turn right",
]


@cache
def tokenizer(template: str) -> PreTrainedTokenizerFast:
    """A tokenizer with one of `TEMPLATES`, or with the template text given."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(
            vocab_size=600,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    end = {"llama3": "<|eot_id|>", "mistral": "</s>"}.get(template, "<|im_end|>")
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=end,
        pad_token="<|endoftext|>",
        chat_template=TEMPLATES.get(template, template),
    )


QWEN3 = (  # thoughts before the user's last turn are dropped, answers of tools are no such turn
    "{% if tools %}{{ '<|im_start|>system\n# Tools\n<tools>' }}{% for t in tools %}{{ '\n' + t | tojson }}{% endfor %}"
    '{{ \'\n</tools>\nCall one as <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\n\' }}{% endif %}'
    "{% set ns = namespace(asked=-1) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{% set said = m['content'] %}{% set thought = '' %}"
    "{% if m['reasoning_content'] is string %}{% set thought = m['reasoning_content'].strip('\n') %}"
    "{% elif m['role'] == 'assistant' and '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{% if m['role'] == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + said + '\n</tool_response>' }}"
    "{% else %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.index0 > ns.asked and (loop.last or thought) %}"
    "{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}{{ said }}{% for c in m['tool_calls'] or [] %}"
    "{{ ('\n' if said or not loop.first else '') + '<tool_call>\n{\"name\": \"' + c.function.name "
    '+ \'", "arguments": \' '
    "+ c.function.arguments | tojson + '}\n</tool_call>' }}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
QWEN3_2507 = QWEN3.replace(  # of the models that only think: the prompt begins the thought
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}",
    "{{ '<think>\n' }}",
)
QWEN35 = (  # the prompt begins the thought or ends it, and calls are XML
    QWEN3.replace("{% endif %}{% endif %}", "{% else %}{{ '<think>\n' }}{% endif %}{% endif %}").replace(
        '{"name": "\' + c.function.name + \'", "arguments": \' + c.function.arguments | tojson + \'}\n',
        "<function=' + c.function.name + '>\n' }}{% for k, v in c.function.arguments.items() %}{{ '<parameter=' + k "
        "+ '>\n' + (v if v is string else v | tojson) + '\n</parameter>\n' }}{% endfor %}{{ '</function>\n",
    )
)
GLM = (  # a turn ends where the next one begins, and only the turns after the user's last one show their thoughts
    "{{ '[gMASK]<sop>' }}{% set ns = namespace(asked=-1) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set ns.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{{ '\n<think>' }}"
    "{% if loop.index0 > ns.asked and m['reasoning_content'] %}{{ m['reasoning_content'] | trim }}{% endif %}"
    "{{ '</think>' }}{% if m['content'] | trim %}{{ '\n' + m['content'] | trim }}{% endif %}"
    "{% else %}{{ '\n' + m['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '\n<think></think>' }}{% endif %}{% endif %}"
)
QWEN25 = (  # brings a system turn of its own
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}" + CHATML
)
GEMMA3 = (  # a system text stands before the first user turn's
    "{{ '<bos>' }}{% set ns = namespace(before='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set ns.before = m['content'] + '\n\n' %}{% else %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' + ns.before + m['content'] | trim "
    "+ '<end_of_turn>\n' }}{% set ns.before = '' %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
GEMMA = (
    "{{ '<bos>' }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else 'user') + '\n' + m['content'] | trim "
    "+ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
ZEPHYR = (  # the headers are plain text
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PHI3 = (  # its control tokens swallow the white space after them
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
VICUNA = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ASSISTANT: ' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
MISTRAL3 = (  # the system text stands in the last user turn, while that is the last turn
    "{{ '<s>' }}{% set ns = namespace(system='') %}{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set ns.system = m['content'] + '\n\n' %}"
    "{% elif m['role'] == 'user' %}{{ '[INST] ' + (ns.system if loop.last else '') + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + '</s>' }}{% endif %}{% endfor %}"
)
LLAMA31 = (  # shows the date
    "{{ '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: ' "
    "+ strftime_now('%d %b %Y %H:%M:%S') + '\n<|eot_id|>' }}"
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' "
    "+ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
HARMONY = (  # a reply names its channels, and the last one ends otherwise than earlier ones and has its analysis
    "{% for m in messages %}{% if m['thinking'] and loop.last %}"
    "{{ '<|start|>assistant<|channel|>analysis<|message|>' + m['thinking'] + '<|end|>' }}{% endif %}"
    "{{ '<|start|>' + m['role'] + ('<|channel|>final' if m['role'] == 'assistant' else '') "
    "+ '<|message|>' + m['content'] + ('<|return|>' if m['role'] == 'assistant' and loop.last else '<|end|>') }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"
)
R1 = (  # asks for a reply within a thought that it does not show afterwards
    "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|User|>' + m['content'] }}"
    "{% else %}{{ '<|Assistant|>' + m['content'].split('</think>')[-1] + '</s>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}"
)
KEEPS_HISTORY = {
    "chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA, "zephyr": ZEPHYR, "phi3": PHI3,
    "vicuna": VICUNA, "llama31": LLAMA31, "qwen2.5": QWEN25, "gemma3": GEMMA3,
}  # fmt: skip
REWRITES_HISTORY = {"qwen3": QWEN3, "harmony": HARMONY, "forgetful": FORGETFUL, "r1": R1}
THINKS = {"qwen3": QWEN3, "qwen3-2507": QWEN3_2507, "qwen3.5": QWEN35, "r1": R1, "glm": GLM}
_NAMED = KEEPS_HISTORY | REWRITES_HISTORY | THINKS
KINDS = ("byte-level", "split", "metaspace", "metaspace-first", "prepend", "wordpiece", "unigram")
"""GPT-2's, that of Qwen and Llama 3 (which split by a rule), sentencepiece's in three forms, BERT's, and a Unigram
model."""

_CONTROL = [
    *SPECIAL, "<bos>", "<start_of_turn>", "<end_of_turn>", "<|start|>", "<|channel|>",
    "<|message|>", "<|return|>", "<|User|>", "<|Assistant|>",
]  # fmt: skip
_SPLIT = Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


@cache
def of_kind(kind: str, template: str, *, texts: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """A tokenizer of one of `KINDS` with one of the named templates, or with the text given.

    Args:
        kind: of the tokenizer.
        template: its name, or its text.
        texts: more texts to train on, with their line breaks.
    """
    name = next((name for name, text in _NAMED.items() if template in (name, text)), "")
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    alphabet = sorted(set("".join(_TEXT)) | set("".join(chr(code) for code in range(33, 127))) | {"\n", "▁"})
    common = {"vocab_size": 700, "show_progress": False, "initial_alphabet": alphabet}
    trainer = trainers.BpeTrainer(special_tokens=["<unk>"], **common)
    if kind in ("byte-level", "split"):
        core = Tokenizer(models.BPE())
        rule = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "byte-level")
        core.pre_tokenizer = rule if kind == "byte-level" else pre_tokenizers.Sequence(
            [pre_tokenizers.Split(_SPLIT, behavior="isolated"), rule]
        )  # fmt: skip
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(**common | {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()})
    elif kind.startswith("metaspace") or kind == "unigram":
        if kind == "unigram":
            core = Tokenizer(models.Unigram())
            trainer = trainers.UnigramTrainer(special_tokens=["<unk>"], unk_token="<unk>", **common)
        scheme = "first" if kind == "metaspace-first" else "always"
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        core.decoder = decoders.Metaspace(prepend_scheme=scheme)
    elif kind == "prepend":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    elif kind == "wordpiece":
        core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        core.normalizer = normalizers.BertNormalizer(lowercase=True)
        core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        core.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]"], **common)
    # Sentencepiece's vocabularies have no piece that holds a line break and more.
    lines = [line for text in _TEXT for line in text.split("\n")]
    core.train_from_iterator([*(_TEXT if kind in ("byte-level", "split") else lines), *texts], trainer)
    swallows = [f"<|{role}|>" for role in ("user", "assistant", "system", "end")] if name == "phi3" else []
    core.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in _CONTROL])
    core.add_tokens([AddedToken(text, special=False, normalized=False) for text in ("<think>", "</think>")])
    core.add_special_tokens([AddedToken(text, rstrip=True, normalized=False) for text in swallows])
    if name.startswith("qwen3"):
        core.add_tokens(["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"])
    if name == "glm":
        core.add_special_tokens(["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"])
    if "<|end|>" not in swallows:
        core.add_special_tokens([AddedToken("<|end|>", normalized=False)])
    ends = {
        "llama3": "<|eot_id|>", "llama31": "<|eot_id|>", "glm": "<|user|>",
        **dict.fromkeys(("chatml", "qwen2.5", "qwen3", "qwen3-2507", "qwen3.5"), "<|im_end|>"),
    }  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=ends.get(name, "</s>"), pad_token="<|endoftext|>",
        unk_token={"wordpiece": "[UNK]", "byte-level": None, "split": None}.get(kind, "<unk>"),
        chat_template=_NAMED.get(template, template),
    )  # fmt: skip
