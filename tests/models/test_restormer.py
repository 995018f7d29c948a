"""Restormer: attention between channels, and a map of the input's size."""

from __future__ import annotations

import pytest
import torch

from hounsfield.models.parts.channel_attention import ChannelAttention, ChannelNorm
from hounsfield.models.restormer import Options, build, rules, stride


@pytest.mark.parametrize("ndim", [2, 3])
def test_attention_is_the_formula_of_the_paper(ndim: int) -> None:
    """Softmax over the channels of a head of the cosines between their maps, times what each says."""
    torch.manual_seed(0)
    attention = ChannelAttention(32, ndim)
    x = torch.randn(2, 32, *(4, 6, 5)[:ndim])
    q, k, v = attention.near(attention.ask(x)).flatten(2).chunk(3, dim=1)
    heard = torch.zeros_like(v)
    for head in range(2):
        own = slice(16 * head, 16 * head + 16)
        cosine = torch.cosine_similarity(q[:, own, None], k[:, None, own], dim=-1)
        heard[:, own] = torch.einsum("bij,bjn->bin", cosine.softmax(-1), v[:, own])
    torch.testing.assert_close(attention(x), attention.tell(heard.reshape(x.shape)), atol=1e-5, rtol=1e-4)


def test_the_norm_keeps_what_is_bright() -> None:
    x = torch.randn(1, 16, 5, 5) + 3
    out = ChannelNorm(16, 2)(x)
    torch.testing.assert_close(out.var(dim=1, correction=0), torch.ones(1, 5, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(out.sign(), x.sign())


def test_a_network_learns_a_simple_change() -> None:
    torch.manual_seed(0)
    network = build(Options(width=16, strides=((2,),)), 1, 1, 2)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    x = torch.randn(4, 1, 16, 16)
    wanted = -0.5 * x
    losses = []
    for _ in range(40):
        loss = (network(x) - wanted).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.4 * losses[0]


def test_rules_keep_thick_slices_and_step_thrice_at_most() -> None:
    made = Options.parse(rules((16, 256, 256), (5.0, 1.0, 1.0)).changes, "rules")
    assert len(made.strides) == 3
    assert made.strides[0] == (1, 2, 2)
    assert stride(made, 3)[1:] == (8, 8)
