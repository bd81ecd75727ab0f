"""MLflow, with a local database: the same numbers, with the rule's options as parameters of the run.

python examples/log_mlflow.py && mlflow ui --backend-store-uri sqlite:///mlflow.db
"""

import dataclasses
import os

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import plausible
from plausible.data import load

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would report how it is used
import mlflow

torch.manual_seed(0)
digits = load("digits")
train, held_out = digits.train, digits.validation
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
learner = plausible.bind(model, "fa", cross_entropy)

mlflow.set_tracking_uri("sqlite:///mlflow.db")
mlflow.set_experiment("digits")
step = 0
with mlflow.start_run(run_name=learner.rule.name):
    mlflow.log_params(dataclasses.asdict(learner.rule))
    for _ in range(3):
        for rows in torch.randperm(len(train)).split(64):
            optimizer.zero_grad()
            outcome = learner.learn(train.x[rows], train.y[rows])
            optimizer.step()
            mlflow.log_metric("loss", outcome.loss.item(), step=step)
            step += 1
        for layer, found in plausible.alignment(learner, held_out.x[:64], held_out.y[:64]).items():
            mlflow.log_metrics({f"{measure}/{layer}": value for measure, value in found.items()}, step=step)
