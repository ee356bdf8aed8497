"""Inputs of the GPU measurements: a byte-level tokenizer, a model of a real shape with random weights, rows of instruction-like lengths.

Made here, from the standard library's own sources as text: no hub is asked. The speed of a step does not depend on the values of weights.
`python -m benchmarks.inputs FOLDER --size 7b` makes them, once; facts.json beside them says what they are.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WIDTH_OF_1_5B = dict(hidden_size=1536, intermediate_size=8960, num_attention_heads=12, num_key_value_heads=2, vocab_size=151936)
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": dict(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2),
    "4-layers": dict(num_hidden_layers=4, tie_word_embeddings=True, **WIDTH_OF_1_5B),
    "1.5b": dict(num_hidden_layers=28, tie_word_embeddings=True, **WIDTH_OF_1_5B),
    "7b": dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, vocab_size=152064
    ),
}
CHAT_TEMPLATE = (  # ChatML; `generation` marks what TRL may learn
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VOCABULARY = 8192
FACTS = "facts.json"


def texts(most: int) -> Iterator[str]:
    """Sources of the standard library, in the order of their names."""
    for path in sorted(Path(os.__file__).parent.glob("*.py"))[:most]:
        yield path.read_text(encoding="utf-8", errors="ignore")


def make_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet, marks = pre_tokenizers.ByteLevel.alphabet(), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=marks, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator(texts(160), trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = CHAT_TEMPLATE
    return made


def make_model(folder: Path, size: str, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0) -> int:
    """Write the model in bfloat16, made on the GPU where there is one; returns its number of parameters."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    shape = {"vocab_size": len(tokenizer), "tie_word_embeddings": False} | SHAPES[size]
    config = Qwen2Config(
        **shape, max_position_embeddings=131072, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None
    )
    config.rope_parameters = {"rope_type": "default", "rope_theta": 1_000_000.0}
    torch.manual_seed(seed)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def conversations(number: int, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows whose lengths are spread as an instruction set's are: many short ones, a long tail."""
    chance = random.Random(seed)
    words = [word for text in texts(60) for word in text.split()]
    for _ in range(number):
        asked = int(min(640, chance.lognormvariate(3.7, 0.8))) + 3
        answered = int(min(1600, chance.lognormvariate(4.5, 0.93))) + 5
        yield conversation(" ".join(chance.choices(words, k=asked)), " ".join(chance.choices(words, k=answered)))


def conversation(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def long_conversations(number: int, length: int, tokenizer: PreTrainedTokenizerFast, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of nearly `length` tokens each, never more."""
    chance = random.Random(seed)
    words = [word for text in texts(60) for word in text.split()]
    for _ in range(number):
        text = " ".join(chance.choices(words, k=length))
        ends = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        yield conversation("Go on.", text[: ends[length - 64][1]])  # room for the chat's marks


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def lengths_of(path: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Tokens of a file's rows. `context` is the mean over tokens of the length of the row that a token is in, which attention's cost follows."""
    chats = [json.loads(line)["messages"] for line in path.read_text(encoding="utf-8").splitlines()]
    rendered = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    lengths = [len(ids) for ids in tokenizer(rendered, add_special_tokens=False)["input_ids"]]
    return {
        "rows": len(lengths), "median": statistics.median(lengths), "mean": round(statistics.mean(lengths), 1), "longest": max(lengths),
        "context": round(sum(n * n for n in lengths) / sum(lengths), 1),
    }  # fmt: skip


def make_inputs(folder: Path, size: str, *, rows: int, long: int) -> None:
    """`model/`, rows.jsonl, and with `long` tokens long.jsonl; what is there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.loads((folder / FACTS).read_text()) if (folder / FACTS).is_file() else {}
    if "rows" in facts and (not long or facts.get("long", {}).get("asked") == long):
        return
    from transformers import AutoTokenizer

    if "parameters" not in facts:
        tokenizer = make_tokenizer()
        tokenizer.save_pretrained(folder / "model")
        facts |= {"size": size, "parameters": make_model(folder / "model", size, tokenizer)}
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    if "rows" not in facts:
        write(folder / "rows.jsonl", conversations(rows))
        facts["rows"] = lengths_of(folder / "rows.jsonl", tokenizer)
    if long and facts.get("long", {}).get("asked") != long:
        write(folder / "long.jsonl", long_conversations(8, long, tokenizer))
        facts["long"] = {"asked": long} | lengths_of(folder / "long.jsonl", tokenizer)
    (folder / FACTS).write_text(json.dumps(facts))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--size", choices=SHAPES, default="7b")
    asked.add_argument("--rows", type=int, default=2500)
    asked.add_argument("--long", type=int, default=0, metavar="TOKENS", help="also rows of that length")
    given = asked.parse_args()
    make_inputs(given.folder, given.size, rows=given.rows, long=given.long)


if __name__ == "__main__":
    main()
