"""TensorBoard: the loss at every step, and at every epoch each layer's angle to back-propagation's update.

python examples/log_tensorboard.py && tensorboard --logdir logs
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.tensorboard import SummaryWriter

import plausible
from plausible.data import load

torch.manual_seed(0)
digits = load("digits")
train, held_out = digits.train, digits.validation
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
learner = plausible.bind(model, "fa", cross_entropy)

step = 0
with SummaryWriter("logs") as writer:
    for _ in range(3):
        for rows in torch.randperm(len(train)).split(64):
            optimizer.zero_grad()
            outcome = learner.learn(train.x[rows], train.y[rows])
            optimizer.step()
            writer.add_scalar("loss", outcome.loss, step)
            step += 1
        for layer, found in plausible.alignment(learner, held_out.x[:64], held_out.y[:64]).items():
            for measure, value in found.items():
                writer.add_scalar(f"{measure}/{layer}", value, step)
