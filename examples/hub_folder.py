"""A model in the Hugging Face hub's folder format, and beside it what is needed to learn on: the feedback, the clock.

python examples/hub_folder.py
"""

import json
from pathlib import Path

import torch
from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.functional import cross_entropy

import plausible
from plausible.data import load

FOLDER = Path("digits-kolen-pollack")


class Net(nn.Module, PyTorchModelHubMixin):
    def __init__(self, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def forward(self, x):
        return self.layers(x)


def bind(model):
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return plausible.bind(model, "kolen-pollack", cross_entropy, optimizer=optimizer), optimizer


torch.manual_seed(0)
digits = load("digits")
model = Net(width=48)
learner, optimizer = bind(model)
for rows in torch.randperm(len(digits.train)).split(64):
    optimizer.zero_grad()
    learner.learn(digits.train.x[rows], digits.train.y[rows])
    optimizer.step()

model.save_pretrained(FOLDER)  # config.json, model.safetensors; the keys are the plain model's, bound or not
feedback = {key: value for key, value in learner.state_dict().items() if key.startswith("feedback.")}
save_file(feedback, FOLDER / "feedback.safetensors")
(FOLDER / "clock.json").write_text(json.dumps(learner.get_extra_state()))

again = Net.from_pretrained(FOLDER)  # whoever only wants the model needs nothing of ours
learning_on, _ = bind(again)
learning_on.load_state_dict(load_file(FOLDER / "feedback.safetensors"), strict=False)
learning_on.set_extra_state(json.loads((FOLDER / "clock.json").read_text()))
