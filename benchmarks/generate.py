"""Generation: padded `generate` against the engine's running batch, in one run on the same prompts.

`python benchmarks/generate.py` on a CPU: the built-in nano model, 64 prompts of 8 to 400 tokens, each its own length of 16 to 256 new tokens;
`generate` gets all 64 padded until the longest is done. Answers are compared too. `--rounds 3` measures both in turns and gives the medians,
for a machine that others use; what others take does not count in the ratio of processor times.

`python benchmarks/generate.py --gpu [--size 7b] [--requests 256]` on a GPU: a random-weight model, prompts of 8 to 1,000 tokens, 256 new tokens
each (`--lengths own`: each its own length up to that); `generate` in batches of 64, the engine with 64 in the batch, its requests handed in
at once; then the time to the first token while 64 other answers run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen2Config

sys.path.insert(0, str(Path(__file__).parents[1]))

from swift.data.sample import Sample
from swift.engines.engine import Sampling
from swift.engines.pt.engine import PtEngine
from swift.nano import model_path

SHAPES = {
    "tiny": dict(
        hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, vocab_size=9000
    ),
    "1.5b": dict(
        hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12, num_key_value_heads=2, vocab_size=151936
    ),
    "7b": dict(
        hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4, vocab_size=152064
    ),
}


class Numbers:
    """A template whose prompts are given: a sample's text is the number of its prompt."""

    stop_ids, stop_texts = frozenset(), ()

    def __init__(self, prompts: list[list[int]]):
        self.prompts = prompts

    def prompt(self, sample: Sample) -> list[int]:
        return self.prompts[int(sample.messages[0].content)]


def padded(model: Any, prompts: list[list[int]], new: list[int]) -> list[list[int]]:
    """Until the longest is done; what is beyond a request's own length does not count."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    longest = max(new)
    out = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=longest, min_new_tokens=longest, do_sample=False, pad_token_id=0
    )
    return [row[:count] for row, count in zip(out[:, width:].tolist(), new, strict=True)]


def timed(work: Callable[[], list[list[int]]]) -> tuple[list[list[int]], float, float]:
    """Answers, seconds, and seconds of the processor."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start, busy = time.perf_counter(), time.process_time()
    answers = work()
    return answers, time.perf_counter() - start, time.process_time() - busy


def compare(
    model: PreTrainedModel, tokenizer: Any, prompts: list[list[int]], new: list[int], batch: int, warm: bool, rounds: int
) -> PtEngine:
    engine = PtEngine(model, Numbers(prompts), tokenizer, max_batch_size=batch)  # type: ignore[arg-type]
    samples = [Sample.of(("user", str(number))) for number in range(len(prompts))]
    sampling = [Sampling(max_new_tokens=count, temperature=0) for count in new]

    def plain() -> list[list[int]]:
        return [row for n in range(0, len(prompts), 64) for row in padded(model, prompts[n : n + 64], new[n : n + 64])]

    def batched() -> list[list[int]]:
        return [answer.token_ids for (answer,) in engine.generate(samples, sampling)]

    if warm:
        padded(model, prompts[:8], [4] * 8)
        engine.generate(samples, [Sampling(max_new_tokens=min(16, count), temperature=0) for count in new])
    else:
        engine.generate(samples[:1], Sampling(max_new_tokens=2, temperature=0))
    times: list[list[float]] = []
    for _ in range(rounds):
        engine._scheduler._room.forget()  # no prompt is known
        (theirs, *their_times), (ours, *our_times) = timed(plain), timed(batched)
        same = sum(a == b for a, b in zip(theirs, ours, strict=True))
        ratios = [a / b for a, b in zip(their_times, our_times, strict=True)]
        times.append([their_times[0], our_times[0], *ratios])
        print(
            f"{len(prompts)} requests, {sum(map(len, prompts)):,} prompt tokens, {sum(new):,} new tokens; {same} of {len(prompts)} answers equal"
        )
    their_time, our_time, ratio, busy_ratio = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"padded generate   {sum(new) / their_time:10,.0f} tokens/s  {their_time:8.2f} s")
    print(f"running batch     {sum(new) / our_time:10,.0f} tokens/s  {our_time:8.2f} s")
    print(f"ratio             {ratio:10.2f}")
    print(f"of processor time {busy_ratio:10.2f}", flush=True)
    return engine


def first_tokens(engine: PtEngine, count: int = 32) -> None:
    """A new request every 50 ms while 63 others run all the time."""
    over = threading.Event()

    def keep(number: int) -> None:
        while not over.is_set():
            for _ in engine.submit(Sample.of(("user", str(number))), Sampling(max_new_tokens=200, temperature=0)):
                if over.is_set():
                    break

    threads = [threading.Thread(target=keep, args=(number,), daemon=True) for number in range(63)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    waits = []
    for number in range(count):
        start = time.perf_counter()
        heard = threading.Event()
        slip = engine.submit(
            Sample.of(("user", str(100 + number))),
            Sampling(max_new_tokens=8, temperature=0, logprobs=True),
            listen=lambda _, heard=heard: heard.set(),
        )
        heard.wait(60)
        waits.append(time.perf_counter() - start)
        slip.cancel()
        time.sleep(0.05)
    over.set()
    waits.sort()
    median, late = statistics.median(waits), waits[int(0.95 * len(waits))]
    print(f"first text beside 63 running answers: median {median * 1e3:.0f} ms, 95 of 100 within {late * 1e3:.0f} ms")


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--gpu", action="store_true")
    words.add_argument("--size", choices=SHAPES, default="7b")
    words.add_argument("--requests", type=int, default=256)
    words.add_argument("--new", type=int, default=256)
    words.add_argument("--lengths", choices=("same", "own"), default="same")
    words.add_argument("--rounds", type=int, default=1)
    args = words.parse_args()
    chance = random.Random(0)
    tokenizer = AutoTokenizer.from_pretrained(model_path("swift/nano"))
    if not args.gpu:
        model = AutoModelForCausalLM.from_pretrained(model_path("swift/nano"), dtype=torch.float32).eval()
        model.generation_config.eos_token_id = None  # every answer to its length
        prompts = [[chance.randrange(10, 2200) for _ in range(chance.randint(8, 400))] for _ in range(64)]
        compare(model, tokenizer, prompts, [chance.randint(16, 256) for _ in prompts], 64, False, args.rounds)
        return
    config = Qwen2Config(**SHAPES[args.size], max_position_embeddings=2048, tie_word_embeddings=args.size != "7b", dtype="bfloat16")  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    lengths = [min(1000, max(8, int(chance.lognormvariate(5, 0.8)))) for _ in range(args.requests)]
    prompts = [[chance.randrange(10, 8000) for _ in range(length)] for length in lengths]
    new = [args.new if args.lengths == "same" else chance.randint(16, args.new) for _ in prompts]
    engine = compare(model, tokenizer, prompts, new, 64, True, args.rounds)
    first_tokens(engine)
    print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
