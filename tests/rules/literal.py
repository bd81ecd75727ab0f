"""Literal transcriptions in numpy, example by example, and the small nets they transcribe."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

Array = np.ndarray


def mlp(sizes: tuple[int, ...] = (5, 7, 6, 4), seed: int = 0) -> nn.Sequential:
    """Linear, tanh, linear, tanh, linear; float64."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.Tanh()]
    return nn.Sequential(*layers[:-1]).double()


def batch(n: int = 6, n_in: int = 5, classes: int = 4, seed: int = 1) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, n_in, generator=draw, dtype=torch.float64)
    return x, torch.randint(classes, (n,), generator=draw)


def linears(model: nn.Module) -> list[nn.Linear]:
    return [layer for layer in model.modules() if isinstance(layer, nn.Linear)]


def weights(model: nn.Module) -> tuple[list[Array], list[Array]]:
    """W and b of each linear layer."""
    layers = linears(model)
    return [m.weight.detach().numpy().copy() for m in layers], [m.bias.detach().numpy().copy() for m in layers]


def softmax(a: Array) -> Array:
    e = np.exp(a - a.max())
    return e / e.sum()


class Literal:
    """Forward pass of a tanh MLP with softmax and mean cross-entropy, one example after another.

    ``hidden(W, a, h, e)`` gives the error δ_l of each hidden layer, first to last, for one example, from its
    pre-activations a, activities h (h[0] is the input) and output error e.
    """

    def __init__(self, model: nn.Module, hidden: Callable[..., list[Array]]) -> None:
        self.W, self.b = weights(model)
        self.hidden = hidden

    def updates(self, x: Tensor, y: Tensor) -> list[tuple[Array, Array]]:
        """(∂W, ∂b) of each layer, summed over the batch, with e = (softmax − one-hot) / N."""
        N = len(x)
        total = [(np.zeros_like(W), np.zeros_like(b)) for W, b in zip(self.W, self.b, strict=True)]
        for example, label in zip(x.numpy(), y.numpy(), strict=True):
            h, a = [example], []
            for W, b in zip(self.W, self.b, strict=True):
                a.append(W @ h[-1] + b)
                h.append(np.tanh(a[-1]))
            e = softmax(a[-1])
            e[label] -= 1
            e /= N
            deltas = [*self.hidden(self.W, a, h, e), e]
            for (dW, db), delta, below in zip(total, deltas, h, strict=False):
                dW += np.outer(delta, below)
                db += delta
        return total


def slope(a: Array) -> Array:
    """tanh′."""
    return 1 - np.tanh(a) ** 2


def transported(B: list[Array]) -> Callable[..., list[Array]]:
    """δ_l = (B_{l+1} δ_{l+1}) ∘ φ′(a_l); B[l] in the shape of W[l], so B_{l+1} of the paper is its transpose."""

    def hidden(W: list[Array], a: list[Array], h: list[Array], e: Array) -> list[Array]:
        deltas = [e]
        for layer in range(len(W) - 1, 0, -1):
            deltas.insert(0, (B[layer].T @ deltas[0]) * slope(a[layer - 1]))
        return deltas[:-1]

    return hidden


def assert_updates(model: nn.Module, expected: list[tuple[Array, Array]]) -> None:
    for layer, (dW, db) in zip(linears(model), expected, strict=True):
        assert layer.weight.grad is not None and layer.bias.grad is not None
        np.testing.assert_allclose(layer.weight.grad.numpy(), dW, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(layer.bias.grad.numpy(), db, rtol=1e-10, atol=1e-14)


# --- a convolutional net, in loops ---------------------------------------------------------------------------------


def convnet(seed: int = 0) -> nn.Sequential:
    """Conv (1→2, 3×3), tanh, conv (2→3, 2×2), tanh, linear (27→4), for 6×6 images; float64."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(27, 4))
    return net.double()


def images(n: int = 3, seed: int = 2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, 6, 6, generator=draw, dtype=torch.float64), torch.randint(4, (n,), generator=draw)


def conv(x: Array, W: Array, b: Array) -> Array:
    """a[o, i, j] = b[o] + Σ_{c,p,q} W[o, c, p, q] x[c, i + p, j + q]."""
    n_out, C, P, Q = W.shape
    a = np.zeros((n_out, x.shape[1] - P + 1, x.shape[2] - Q + 1))
    for o, i, j in np.ndindex(a.shape):
        a[o, i, j] = b[o]
        for c, p, q in np.ndindex(C, P, Q):
            a[o, i, j] += W[o, c, p, q] * x[c, i + p, j + q]
    return a


def conv_down(delta: Array, B: Array, shape: tuple[int, ...]) -> Array:
    """δ_x[c, i + p, j + q] = Σ B[o, c, p, q] δ[o, i, j]."""
    down = np.zeros(shape)
    for o, i, j in np.ndindex(delta.shape):
        for c, p, q in np.ndindex(B.shape[1:]):
            down[c, i + p, j + q] += B[o, c, p, q] * delta[o, i, j]
    return down


def conv_update(delta: Array, x: Array, W: Array) -> Array:
    """∂W[o, c, p, q] = Σ_{i,j} δ[o, i, j] x[c, i + p, j + q]."""
    dW = np.zeros_like(W)
    for o, c, p, q in np.ndindex(W.shape):
        for i, j in np.ndindex(delta.shape[1:]):
            dW[o, c, p, q] += delta[o, i, j] * x[c, i + p, j + q]
    return dW


def assert_convnet_updates(model: nn.Sequential, before: nn.Sequential, B: list[Array], x: Tensor, y: Tensor) -> None:
    """``model.grad`` is what the loops give with feedback B[1] (second convolution) and B[2] (output layer).

    ``before`` has the weights that ``model`` had; B[0] is never used.
    """
    first, second, output = (before[k] for k in (0, 2, 5))
    W = [m.weight.detach().numpy() for m in (first, second, output)]
    b = [m.bias.detach().numpy() for m in (first, second, output)]
    sums = [np.zeros_like(w) for w in W]
    for example, label in zip(x.numpy(), y.numpy(), strict=True):
        a1 = conv(example, W[0], b[0])
        h1 = np.tanh(a1)
        a2 = conv(h1, W[1], b[1])
        h2 = np.tanh(a2)
        e = softmax(W[2] @ h2.ravel() + b[2])
        e[label] -= 1
        e /= len(x)
        delta2 = (B[2].T @ e).reshape(a2.shape) * slope(a2)
        delta1 = conv_down(delta2, B[1], a1.shape) * slope(a1)
        sums[0] += conv_update(delta1, example, W[0])
        sums[1] += conv_update(delta2, h1, W[1])
        sums[2] += np.outer(e, h2.ravel())
    for layer, expected in zip((model[0], model[2], model[5]), sums, strict=True):
        np.testing.assert_allclose(layer.weight.grad.numpy(), expected, rtol=1e-10, atol=1e-14)
