"""Lightning by manual optimisation: the module holds the learner, and its `training_step` steps the optimiser.

python examples/lightning_loop.py
"""

import pytorch_lightning as L
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import plausible
from plausible.data import load


class Digits(L.LightningModule):
    def __init__(self, rule: str = "kolen-pollack", lr: float = 2e-3):
        super().__init__()
        self.automatic_optimization = False
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
        self.learner = plausible.bind(model, rule, cross_entropy, optimizer=self.optimizer)

    def configure_optimizers(self):
        return self.optimizer

    def training_step(self, batch, index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        outcome = self.learner.learn(*batch)  # where self.manual_backward(loss) stood
        self.clip_gradients(optimizer, gradient_clip_val=1.0, gradient_clip_algorithm="norm")
        optimizer.step()
        self.log("train_loss", outcome.loss, prog_bar=True)

    def validation_step(self, batch, index):
        x, y = batch
        self.log("accuracy", (self.learner(x).argmax(1) == y).float().mean(), prog_bar=True)


def loader(split, shuffle=False):
    return DataLoader(TensorDataset(split.x, split.y), batch_size=64, shuffle=shuffle)


if __name__ == "__main__":
    L.seed_everything(0)
    digits = load("digits")
    module = Digits()
    trainer = L.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(module, loader(digits.train, shuffle=True), loader(digits.validation))
    trainer.save_checkpoint("digits.ckpt")  # weights, feedback and the optimiser's state
    (found,) = trainer.validate(module, loader(digits.test))
