"""Tiny random models of real architectures with a tokenizer of their own, written to a folder as any checkpoint is."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT = ["hello world, how are you today?", "one two three four five six seven", "the quick brown fox jumps over the lazy dog", "你好，世界"]
SHAPE = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
ARCHITECTURES = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"tie_word_embeddings": True}),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}),
}


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer with chatml's markers; whatever text is written can be read back."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    raw.train_from_iterator(TEXT, trainer)
    tok = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tok.chat_template = CHATML
    return tok


def model(architecture: str = "llama", *, vocab_size: int = 400, seed: int = 0, **changes: object) -> PreTrainedModel:
    config_class, model_class, own = ARCHITECTURES[architecture]
    torch.manual_seed(seed)
    config = config_class(**{"vocab_size": vocab_size, "max_position_embeddings": 512, **SHAPE, **own, **changes})
    return model_class(config).eval()


def save(folder: Path, architecture: str = "llama", **changes: object) -> Path:
    """A checkpoint folder; `AutoTokenizer` and `AutoModelForCausalLM` load it offline."""
    tok = tokenizer()
    made = model(architecture, vocab_size=len(tok), **changes)
    made.generation_config.eos_token_id = tok.eos_token_id
    made.config.eos_token_id = tok.eos_token_id
    made.config.bos_token_id = None
    made.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


def chat_rows(path: Path, number: int = 24) -> Path:
    """Short conversations of differing lengths."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"say {n} " + "please " * (n % 5)},
                {"role": "assistant", "content": f"{n} " * (1 + n % 4)},
            ]
        }
        for n in range(number)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
