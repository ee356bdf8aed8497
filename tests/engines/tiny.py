"""Models of two layers and a byte-level tokenizer, made on the spot: what the engine's tests run on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from swift.data.sample import Sample

WORDS = "the cat sat on the mat and the dog said hello world to a tree of green leaves while Observation: nothing moved"


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and a few merges, so that words are several tokens long and characters may be split."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<end>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=specials, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>", pad_token="<pad>")


def tiny_model(kind: str = "qwen2", *, seed: int = 0, length: int = 256, vocabulary: int = 300) -> PreTrainedModel:
    torch.manual_seed(seed)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": length,
        "initializer_range": 0.3,  # random weights of the usual size repeat one token for ever
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    made = {
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**shape)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**shape)),
        "mistral": lambda: MistralForCausalLM(MistralConfig(**shape, sliding_window=8)),
    }
    return made[kind]().eval()


class PlainTemplate:
    """The contract's methods over plain text: message after message, one a line."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stop_ids: Sequence[int] = (), stop_texts: Sequence[str] = ()):
        self.tokenizer, self.stop_ids, self.stop_texts = tokenizer, frozenset(stop_ids), tuple(stop_texts)

    def prompt(self, sample: Sample) -> list[int]:
        messages = sample.messages[:-1] if sample.messages[-1].role == "assistant" else sample.messages
        text = "".join(f"{message.content}\n" for message in messages)
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def asks(*texts: str) -> list[Sample]:
    return [Sample.of(("user", text)) for text in texts]
