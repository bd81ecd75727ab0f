"""W&B, offline: the same numbers in a folder below wandb/, which `wandb sync` may send later. No account is needed.

python examples/log_wandb.py
"""

import torch
import wandb
from torch import nn
from torch.nn.functional import cross_entropy

import plausible
from plausible.data import load

torch.manual_seed(0)
digits = load("digits")
train, held_out = digits.train, digits.validation
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
learner = plausible.bind(model, "fa", cross_entropy)

with wandb.init(project="plausible", mode="offline", config={"rule": learner.rule.name, "lr": 2e-3}) as run:
    for _ in range(3):
        for rows in torch.randperm(len(train)).split(64):
            optimizer.zero_grad()
            outcome = learner.learn(train.x[rows], train.y[rows])
            optimizer.step()
            run.log({"loss": outcome.loss.item()})
        angles = plausible.alignment(learner, held_out.x[:64], held_out.y[:64])
        run.log({f"{measure}/{layer}": value for layer, found in angles.items() for measure, value in found.items()})
