"""A loop as timm's train.py has it: its models, optimisers, schedules, clipping and moving average of the weights.

python examples/timm_loop.py
"""

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, accuracy, dispatch_clip_grad
from torch.nn.functional import cross_entropy, interpolate

import plausible
from plausible.data import load

EPOCHS, BATCH = 4, 64

torch.manual_seed(0)
digits = load("digits")
train, test = (interpolate(split.x / digits.train.x.max(), scale_factor=4) for split in (digits.train, digits.test))

model = timm.create_model("test_resnet", num_classes=10, in_chans=1)  # random weights; nothing is downloaded
optimizer = create_optimizer_v2(model, opt="adamw", lr=5e-3, weight_decay=0.02)
steps = len(train) // BATCH
scheduler, epochs = create_scheduler_v2(
    optimizer, "cosine", num_epochs=EPOCHS, warmup_epochs=1, step_on_epochs=False, updates_per_epoch=steps
)
ema = ModelEmaV3(model, decay=0.9)  # before binding, so that the average is a plain model
learner = plausible.bind(model, "usf", cross_entropy, example=train[:2], optimizer=optimizer)

update = 0
for epoch in range(EPOCHS):
    for rows in torch.randperm(len(train)).split(BATCH)[:steps]:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):  # bfloat16 needs no scaler of the loss
            outcome = learner.learn(train[rows], digits.train.y[rows])  # where NativeScaler()(loss, …) stood
        dispatch_clip_grad(model.parameters(), 1.0, mode="norm")
        optimizer.step()
        update += 1
        scheduler.step_update(update)
        ema.update(model, step=update)
    print(f"epoch {epoch}: loss {outcome.loss:.3f}, learning rate {optimizer.param_groups[0]['lr']:.1e}")

model = plausible.release(learner)
with torch.no_grad():
    (top1,) = accuracy(ema.module.eval()(test), digits.test.y)
print(f"test accuracy of the average {float(top1):.1f} %")
