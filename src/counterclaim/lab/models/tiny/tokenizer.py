"""The tokenizer of the tiny models: byte-level BPE, in which every word of their domain is one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
THINK, THOUGHT = "<think>", "</think>"

CONTEXT = 4096  # tokens

CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- set empty_thought = '<think>\\n\\n</think>\\n\\n' -%}
{%- for message in messages -%}
  {%- if message.role not in ['system', 'user', 'assistant'] -%}
    {{- raise_exception('This model knows the roles system, user and assistant, not ' + message.role + '.') -}}
  {%- endif -%}
  {{- '<|' + message.role + '|>' -}}
  {%- if message.role == 'assistant' -%}
    {%- if enable_thinking is defined and enable_thinking is false and '</think>' not in message.content -%}
      {{- empty_thought -}}
    {%- elif '</think>' in message.content and not message.content.startswith('<think>') -%}
      {{- '<think>\\n' -}}
    {%- endif -%}
    {%- generation -%}{{- message.content + '<|end|>' -}}{%- endgeneration -%}
  {%- else -%}
    {{- message.content + '<|end|>' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|assistant|>' -}}
  {%- if enable_thinking is defined and enable_thinking is false -%}
    {{- empty_thought -}}
  {%- elif enable_thinking is defined and enable_thinking is true -%}
    {{- '<think>\\n' -}}
  {%- endif -%}
{%- endif -%}
"""
"""Turns between role marks and an end mark. ``enable_thinking`` false puts an empty thought before the answer, true opens
one for the model to fill; unset, the model answers at once."""


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer that keeps every word of ``texts`` whole and can encode any other text by its bytes."""
    from tokenizers import AddedToken, Regex, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(BPE())
    # Runs of line breaks stand alone, so that a prompt's tokens are a prefix of the whole conversation's.
    core.pre_tokenizer = Sequence([Split(Regex(r"\n+"), "isolated"), ByteLevel(add_prefix_space=False)])
    core.decoder = ByteLevelDecoder()
    special = [PAD, BOS, END, *ROLES.values()]
    trainer = BpeTrainer(
        vocab_size=1 << 15,  # never reached: merging ends when every word is whole
        min_frequency=1,
        special_tokens=special,
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([*texts, "\n\n"], trainer)
    core.add_tokens([AddedToken(THINK, normalized=False), AddedToken(THOUGHT, normalized=False)])
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(
        tokenizer_object=core,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES.values()),
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    return made
