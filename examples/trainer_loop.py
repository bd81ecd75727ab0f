"""Hugging Face's Trainer: its `training_step` learns instead of calling `accelerator.backward`.

python examples/trainer_loop.py
"""

import torch
from torch.nn.functional import cross_entropy
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import plausible
from plausible.data import load


class PlausibleTrainer(Trainer):
    def __init__(self, learner: plausible.Learner, **options):
        super().__init__(model=learner.model, **options)
        self.learner = learner

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        with self.compute_loss_context_manager():
            return self.learner.learn(inputs, labels).loss


if __name__ == "__main__":
    torch.manual_seed(0)
    digits = load("digits").train
    images = (digits.x - digits.x.mean()) / digits.x.std()
    rows = [{"pixel_values": x, "labels": y} for x, y in zip(images, digits.y, strict=True)]
    config = ViTConfig(
        image_size=8, patch_size=2, num_channels=1, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, num_labels=10, initializer_range=0.2,
    )  # fmt: skip
    model = ViTForImageClassification(config)  # random weights; nothing is downloaded
    arguments = TrainingArguments(
        "vit-digits", max_steps=90, per_device_train_batch_size=16, gradient_accumulation_steps=2, learning_rate=3e-3,
        logging_steps=30, report_to="none", use_cpu=True, disable_tqdm=True,
    )  # fmt: skip

    def loss(output, labels):  # the Trainer sums over the batches of a step
        return cross_entropy(output.logits, labels) / arguments.gradient_accumulation_steps

    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate)
    learner = plausible.bind(model, "usf", loss, example={"pixel_values": images[:2]}, optimizer=optimizer)
    trainer = PlausibleTrainer(learner, args=arguments, train_dataset=rows, optimizers=(optimizer, None))
    trainer.train()
    plausible.release(learner).save_pretrained("vit-digits")  # config.json and model.safetensors
    again = ViTForImageClassification.from_pretrained("vit-digits")
