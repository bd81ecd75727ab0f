"""What is timed: a training step of each rule, of plain back-propagation, and of the ``biotorch`` package.

All contenders of one model start from copies of one module and learn one batch.
"""

import contextlib
import copy
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer

import plausible
from plausible.models import build

PLAIN = "plain"
"""Back-propagation as one writes it without any package: what all others are measured against."""

AGAIN = "plain again"
"""The same once more: its ratio to the first is the noise of the measurement."""

PEER = "biotorch"

PEER_MODES = {"backprop": "backpropagation", "fa": "fa", "usf": "usf", "frsf": "frsf", "brsf": "brsf", "dfa": "dfa"}
"""The rules that biotorch has too, with its names for them."""


def _images(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(shape)


class Decoder(nn.Module):
    """GPT-2's blocks, from (N, T) words to the logits of the next one, of ten."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2Model

        self.body = GPT2Model(GPT2Config(vocab_size=512, n_positions=128, n_embd=384, n_layer=6, n_head=6,
                                         resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))  # fmt: skip
        self.leave = nn.Linear(384, 10)

    def forward(self, words: Tensor) -> Tensor:
        return self.leave(self.body(words).last_hidden_state[:, -1])


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "mlp-64": (lambda: build("mlp", shape=(1, 28, 28), classes=10, width=1024, depth=2), _images(64, 1, 28, 28)),
    "mlp-512": (lambda: build("mlp", shape=(1, 28, 28), classes=10, width=1024, depth=2), _images(512, 1, 28, 28)),
    "lenet-64": (lambda: build("lenet", shape=(3, 32, 32), classes=10), _images(64, 3, 32, 32)),
    "resnet18-16": (lambda: torchvision.models.resnet18(num_classes=10), _images(16, 3, 32, 32)),
    "resnet18-64": (lambda: torchvision.models.resnet18(num_classes=10), _images(64, 3, 32, 32)),
    "resnet50-16": (lambda: torchvision.models.resnet50(num_classes=10), _images(16, 3, 64, 64)),
    "vit-8": (
        lambda: torchvision.models.VisionTransformer(64, 8, 6, 6, 384, 1536, num_classes=10), _images(8, 3, 64, 64)
    ),
    "gpt2-4": (Decoder, lambda: torch.randint(512, (4, 128))),
}  # fmt: skip
"""By name and batch size: how the model is made, and a batch of its inputs."""


@dataclass(frozen=True)
class Contender:
    """One training step, in two parts.

    Attributes:
        learn: set the gradients to None and fill them.
        optimizer: its ``step`` is the second part; the rule's own hooks run there.
        state: what lies in memory between steps: weights, feedback.
    """

    learn: Callable[[], object]
    optimizer: Optimizer
    state: list[Tensor]


class Stable:
    """Makes the contenders of one model, all alike except for the rule.

    Args:
        model: a key of :data:`MODELS`.
    """

    def __init__(self, model: str) -> None:
        torch.manual_seed(0)
        make, inputs = MODELS[model]
        self.original, self.x = make(), inputs()
        self.y = torch.randint(10, self.x.shape[:1])

    def plain(self) -> Contender:
        """``loss(model(x), y).backward()``."""
        model, optimizer = self._model()

        def learn() -> None:
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(self.x), self.y).backward()

        return Contender(learn, optimizer, list(model.state_dict().values()))

    def ours(self, rule: str) -> Contender:
        """``learner.learn(x, y)``."""
        model, optimizer = self._model()
        learner = plausible.bind(model, rule, F.cross_entropy, example=self.x, optimizer=optimizer)

        def learn() -> None:
            optimizer.zero_grad(set_to_none=True)
            learner.learn(self.x, self.y)

        state = [value for value in learner.state_dict().values() if isinstance(value, Tensor)]
        return Contender(learn, optimizer, state)

    def peer(self, rule: str) -> Contender:
        """biotorch's ``BioModule``, trained as its own trainer does it (version 0.0.16 runs without a patch)."""
        from biotorch.module.biomodule import BioModule

        # dfa hooks its layers in a way that torch will give up one day.
        warnings.filterwarnings("ignore", "Using a non-full backward hook", FutureWarning)
        mode = PEER_MODES[rule]
        with contextlib.redirect_stdout(io.StringIO()):
            model = BioModule(copy.deepcopy(self.original), mode=mode, output_dim=10)
        optimizer = _optimizer(model)

        def learn() -> None:
            optimizer.zero_grad(set_to_none=True)
            # Only dfa looks at what comes besides the input.
            output = model(self.x, targets=self.y, loss_function=F.cross_entropy)
            F.cross_entropy(output, self.y).backward()

        return Contender(learn, optimizer, list(model.state_dict().values()))

    def _model(self) -> tuple[nn.Module, Optimizer]:
        model = copy.deepcopy(self.original)
        return model, _optimizer(model)


def versions() -> dict[str, str]:
    """Of the packages that matter here; a package that is not installed is left out."""
    found = {}
    for package in ("plausible", "torch", "torchvision", PEER):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _optimizer(model: nn.Module) -> Optimizer:
    # The learning rate is small so that many steps on one batch leave all numbers of ordinary size:
    # arithmetic with denormal numbers takes longer.
    return SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9, weight_decay=1e-4)
