"""The trained model for other runtimes: as ONNX and as a program of `torch.export`, with a batch of any size.

python examples/export_model.py
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import plausible
from plausible.data import load

torch.manual_seed(0)
digits = load("digits")
model = nn.Sequential(
    nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(),
    nn.Linear(32, 10),
)  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
learner = plausible.bind(model, "dfa", cross_entropy, example=digits.train.x[:2])
for _ in range(3):
    for rows in torch.randperm(len(digits.train)).split(64):
        optimizer.zero_grad()
        learner.learn(digits.train.x[rows], digits.train.y[rows])
        optimizer.step()

plain = plausible.release(learner).eval()  # first take the rule off: what is exported is the model alone
example, batch = (digits.test.x[:2],), {0: torch.export.Dim.DYNAMIC}
program = torch.export.export(plain, example, dynamic_shapes=(batch,))
torch.export.save(program, "digits.pt2")
torch.onnx.export(plain, example, "digits.onnx", dynamic_shapes=(batch,), external_data=False, verbose=False)
