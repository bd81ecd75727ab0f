"""Accelerate: prepare first, bind what was prepared; `accumulate`, clipping and the optimiser stay, `backward` goes.

python examples/accelerate_loop.py                  or: accelerate launch examples/accelerate_loop.py
"""

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import plausible
from plausible.data import load

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
set_seed(0)
digits = load("digits")
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
batches = DataLoader(TensorDataset(digits.train.x, digits.train.y), batch_size=32, shuffle=True)
model, optimizer, batches = accelerator.prepare(model, optimizer, batches)


def loss(output, y):  # accelerator.backward would divide
    return cross_entropy(output, y) / accelerator.gradient_accumulation_steps


# On several processes the prepared model is torch's DistributedDataParallel, whose gradients are averaged. The hooks
# go to torch's own optimiser, which Accelerate steps only after the last batch of an accumulation.
learner = plausible.bind(model, "kolen-pollack", loss, optimizer=optimizer.optimizer)

for epoch in range(3):
    for x, y in batches:
        with accelerator.accumulate(model):
            outcome = learner.learn(x, y)  # where accelerator.backward(loss) stood
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    accelerator.print(f"epoch {epoch}: loss {outcome.loss * accelerator.gradient_accumulation_steps:.3f}")

model = accelerator.unwrap_model(plausible.release(learner))
accelerator.save(model.state_dict(), "model.safetensors", safe_serialization=True)
