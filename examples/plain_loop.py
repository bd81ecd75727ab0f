"""Plain PyTorch: momentum, clipping, a schedule and accumulation over two batches, as they ever were.

python examples/plain_loop.py
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import plausible
from plausible.data import load

EPOCHS, ACCUMULATE = 3, 2

torch.manual_seed(0)
digits = load("digits")
batches = DataLoader(TensorDataset(digits.train.x, digits.train.y), batch_size=32, shuffle=True, drop_last=True)

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=EPOCHS)
learner = plausible.bind(model, "kolen-pollack", cross_entropy, optimizer=optimizer)

for epoch in range(EPOCHS):
    for i, (x, y) in enumerate(batches, 1):
        loss = learner.learn(x, y).loss  # where loss = cross_entropy(model(x), y); loss.backward() stood
        if i % ACCUMULATE == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    scheduler.step()
    print(f"epoch {epoch}: loss {loss:.3f}")

model = plausible.release(learner).eval()
with torch.no_grad():
    accuracy = (model(digits.test.x).argmax(1) == digits.test.y).float().mean().item()
print(f"test accuracy {accuracy:.3f}")
