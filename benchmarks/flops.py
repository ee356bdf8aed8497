"""Arithmetic of a training step, and what this machine's matrix unit does at best: `python -m benchmarks.flops` measures the latter."""

from __future__ import annotations

import importlib.metadata
import json
import time
from typing import Any


def per_token(config: dict[str, Any], *, train_type: str, context: float) -> float:
    """Floating point operations that one token of training takes by the model's shape; what is computed again is not counted.

    config: config.json of a Qwen2-shaped model. context: mean length of the row a token is in; it sees half of it. Full fine-tuning has
    three products for each weight (forward, to the input, to the weight), LoRA two, since the base needs no gradient; attention three.
    The adapters' own products (under 1 %) are left out. The output layer is counted for every token.
    """
    hidden, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    attention = hidden * head * (heads + 2 * config["num_key_value_heads"]) + heads * head * hidden
    weights = layers * (attention + 3 * hidden * config["intermediate_size"]) + config["vocab_size"] * hidden
    products = 3 if train_type == "full" else 2
    return products * 2 * weights + 3 * layers * 2 * heads * head * context  # two products of 2 operations, half of the places each


def matrix_peak() -> dict[str, Any]:
    """TFLOP/s of one large square product in bfloat16 on random data; of a small one in float32 where there is no GPU."""
    import torch

    gpu = torch.cuda.is_available()
    side, device, dtype, rounds = (8192, "cuda", torch.bfloat16, 20) if gpu else (512, "cpu", torch.float32, 5)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    if gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(rounds):
        a @ b
    if gpu:
        torch.cuda.synchronize()
    took = (time.perf_counter() - start) / rounds
    name = torch.cuda.get_device_name() if gpu else "CPU"
    versions = {package: importlib.metadata.version(package) for package in ("torch", "transformers", "peft")}
    return {"device": name, "side": side, "tflops": 2 * side**3 / took / 1e12, "versions": versions}


if __name__ == "__main__":
    print(json.dumps(matrix_peak()))
