"""The loop that all models learn in: one step after the other, with a moving average of the weights."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

# The loss of a step, in which its pictures are drawn.
Loss = Callable[[nn.Module, int], Tensor]


def fit(
    model: nn.Module,
    loss_of: Loss,
    steps: int,
    *,
    rate: float,
    decay: float = 5e-4,
    most_gradient: float = 10.0,
    memory: float = 0.995,
    say: Callable[[str], None] = print,
) -> nn.Module:
    """Train a model for so many steps; return the moving average of its weights, ready to be used.

    Args:
        rate: of learning, at its highest: it rises for a tenth of the steps and falls for the rest.
        decay: of weights.
        most_gradient: what the norm of all gradients is cut to.
        memory: how much of the average a step leaves as it was.
    """
    mean = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(memory), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    begun = time.monotonic()
    for step in range(steps):
        loss = loss_of(model, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), most_gradient)
        optimizer.step()
        schedule.step()
        mean.update_parameters(model)
        if step % 100 == 99:
            spent = time.monotonic() - begun
            say(f"step {step + 1} of {steps}, loss {loss.item():.4f}, {spent:.0f} s")
    trained: nn.Module = mean.module
    return trained.eval()
