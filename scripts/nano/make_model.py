"""Make the nano model's folder with random weights: what `swift pt` starts from.

python -m scripts.nano.make_model --tokenizer build/nano/tokenizer --out build/nano/random
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, GenerationConfig, Qwen2Config, Qwen2ForCausalLM


def configuration(vocabulary: int, **changes: Any) -> Qwen2Config:
    """3.9 M parameters: 7.8 MB in bfloat16, with the output layer tied to the embeddings."""
    settings: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 192,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 576,
        "max_position_embeddings": 1024,
    }
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    return Qwen2Config(**(settings | changes), rope_parameters=rope, tie_word_embeddings=True, initializer_range=0.04, dtype="float32")


def make_model(tokenizer_folder: Path, out: Path, *, seed: int = 0, **changes: Any) -> Qwen2ForCausalLM:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    end, turn = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    config = configuration(len(tokenizer), **changes)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = None, turn, end
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=[turn, end], pad_token_id=end, do_sample=False)
    model.save_pretrained(out)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tokenizer_folder / file, out / file)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, default=Path("build/nano/tokenizer"), help="folder of make_tokenizer.py")
    parser.add_argument("--out", type=Path, default=Path("build/nano/random"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = make_model(args.tokenizer, args.out, seed=args.seed)
    print(f"{args.out}: {sum(p.numel() for p in model.parameters()):,} parameters")


if __name__ == "__main__":
    main()
