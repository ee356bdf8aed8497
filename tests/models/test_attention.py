"""The roads of variable-length attention give the same numbers."""

from functools import partial

import pytest
import torch

from swift.models import attention

LENGTHS = (5, 1, 9, 16)


def states(heads, kv_heads):
    torch.manual_seed(0)
    return [torch.randn(1, h, sum(LENGTHS), 8, requires_grad=True) for h in (heads, kv_heads, kv_heads)]


def segments(q, k, v, **options):
    cu = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)
    return attention.varlen_attention(torch.nn.Identity(), q, k, v, None, cu_seq_lens_q=cu, segment_lengths=LENGTHS, **options)[0]


@pytest.mark.parametrize("options", [{}, {"sliding_window": 4}, {"softcap": 5.0}, {"eager": True}, {"scaling": 0.3}])
def test_the_padded_road_equals_the_road_sample_by_sample(options):
    q, k, v = states(4, 2)
    one = partial(
        attention._one_segment, dropout=0.0, scaling=options.get("scaling"), window=options.get("sliding_window"),
        softcap=options.get("softcap"), eager=options.get("eager", False),
    )  # fmt: skip
    torch.testing.assert_close(attention._padded(one, q, k, v, list(LENGTHS)), segments(q, k, v, **options), rtol=1e-5, atol=1e-6)


def test_a_window_hides_what_lies_further_back():
    q, k, v = states(2, 2)
    near = segments(q, k, v, sliding_window=4)
    changed = v.detach().clone()
    changed[0, :, 15] += 1  # first token of the last sample, which has 16
    far = segments(q, k, changed, sliding_window=4)
    same = [t for t in range(sum(LENGTHS)) if torch.equal(near[0, t], far[0, t])]
    assert same == [*range(15), *range(19, 31)]


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 4])
def test_torchs_kernel_equals_the_road_sample_by_sample(window):
    q, k, v = states(4, 2)
    cuda = [x.detach().to("cuda", torch.bfloat16) for x in (q, k, v)]
    cu = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32, device="cuda")
    options = {"cu_seq_lens_q": cu, "segment_lengths": LENGTHS, "max_length_q": max(LENGTHS), "sliding_window": window}
    found = attention.varlen_attention(torch.nn.Identity(), *cuda, None, **options)[0]
    torch.testing.assert_close(found.float().cpu(), segments(q, k, v, sliding_window=window), rtol=2e-2, atol=2e-2)
