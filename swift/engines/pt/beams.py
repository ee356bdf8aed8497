"""num_beams above 1 through transformers' own generate, one sample at a time: no padding, its own stop texts and its own seed."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from swift.engines.pt.decode import input_device
from swift.engines.pt.request import Request


@torch.inference_mode()
def beam_search(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, requests: list[Request]) -> None:
    """Fill the answers of one sample's n requests, best beam first."""
    first = requests[0]
    device = input_device(model)
    prompt = torch.tensor([first.prompt], device=device)
    stops = [*first.text.keep, *first.text.drop]
    draws = first.choice.temperature > 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(first.randomness.getrandbits(63))
        output = model.generate(  # type: ignore[operator]
            prompt,
            attention_mask=torch.ones_like(prompt),
            num_beams=first.asked.num_beams,
            num_return_sequences=len(requests),
            length_penalty=first.asked.length_penalty,
            max_new_tokens=first.limit,
            eos_token_id=sorted(first.stop_ids) or None,
            pad_token_id=min(first.stop_ids, default=0),
            repetition_penalty=first.choice.repetition_penalty,
            do_sample=draws,
            temperature=first.choice.temperature if draws else None,
            top_k=first.choice.top_k if draws else None,
            top_p=first.choice.top_p if draws else None,
            stop_strings=stops or None,
            tokenizer=tokenizer if stops else None,
        )
    for request, ids in zip(requests, output[:, prompt.shape[1] :].tolist(), strict=True):
        for token in ids:
            if request.finish_reason is None:  # behind the end stands padding
                request.take(token)
        request.finish_reason = request.finish_reason or "stop"
