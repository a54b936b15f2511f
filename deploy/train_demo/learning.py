"""Training loop of all demo models, with an exponential moving average (EMA) of the weights."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

# Draws the images of a step and returns the loss.
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
    """Train a model for `steps` steps; return the model with averaged weights, in evaluation mode.

    Args:
        rate: maximum learning rate. It rises during the first tenth of the steps, then falls.
        decay: weight decay.
        most_gradient: maximum norm of the gradients (clipping).
        memory: decay of the moving average.
    """
    mean = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(memory), use_buffers=True
    )
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    for step in range(steps):
        loss = loss_of(model, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), most_gradient)
        optimizer.step()
        schedule.step()
        mean.update_parameters(model)
        if step % 100 == 99:
            seconds = time.monotonic() - started
            say(f"step {step + 1} of {steps}, loss {loss.item():.4f}, {seconds:.0f} s")
    trained: nn.Module = mean.module
    return trained.eval()
