"""torch's recurrent layers and cells, written out step by step, so that each product of a weight can be answered for.

The fused kernels of ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU`` carry the error back through the forward weights, and let
nobody in between. The equations are those of torch's documentation; ``linear(name, x)`` is the product with the weight
and bias of that name, such as ``ih_l0`` for W_ih of the first layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from plausible.core.attach import unattached

Product = Callable[[str, Tensor], Tensor]

RECURRENT: tuple[type[nn.Module], ...] = (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)


FUSED: tuple[type[nn.Module], ...] = (nn.RNNBase, nn.RNNCellBase)
"""Computed in kernels of their own, which no mode of torch's sees."""


def recurrent_type(module: nn.Module) -> type[nn.Module] | None:
    """The entry of :data:`RECURRENT` whose mathematics ``module`` does, with weights of its own, or None."""
    own = all(name in module._parameters for name in getattr(module, "_flat_weights_names", ("weight_ih", "weight_hh")))
    plain = unattached(type(module))
    return next((base for base in RECURRENT if own and issubclass(plain, base) and plain.forward is base.forward), None)


def recurrent_weights(net: nn.Module) -> list[str]:
    """The names of a recurrent layer's weights, within it."""
    return [name for name, p in net.named_parameters(recurse=False) if p.dim() == 2]


def run(module: nn.Module, linear: Product, *args: Any, **kwargs: Any) -> Any:
    """What the module's own forward returns, computed with ``linear``."""
    if isinstance(module, nn.RNNCellBase):
        return _cell(module, linear, *args, **kwargs)
    assert isinstance(module, nn.RNNBase)
    return _layers(module, linear, *args, **kwargs)


def _cell(cell: nn.RNNCellBase, linear: Product, input: Tensor, hx: Any = None) -> Any:
    alone = input.dim() == 1
    x = input.unsqueeze(0) if alone else input
    many = isinstance(cell, nn.LSTMCell)
    if hx is None:
        hx = (x.new_zeros(len(x), cell.hidden_size),) * (2 if many else 1)
    else:
        hx = tuple(h.unsqueeze(0) if alone else h for h in (hx if many else (hx,)))
    state = _step(cell, linear("ih", x), lambda h: linear("hh", h), hx)
    found = tuple(h.squeeze(0) if alone else h for h in state)
    return found if many else found[0]


def _step(
    module: Any, drive: Tensor, back: Callable[[Tensor], Tensor], state: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """One step: ``drive`` is W_ih x + b_ih, ``back`` is h ↦ W_hh h + b_hh."""
    if isinstance(module, (nn.LSTM, nn.LSTMCell)):
        h, c = state
        i, f, g, o = (drive + back(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c
    (h,) = state
    if isinstance(module, (nn.GRU, nn.GRUCell)):
        (r, z, n), (br, bz, bn) = drive.chunk(3, -1), back(h).chunk(3, -1)
        z = torch.sigmoid(z + bz)
        n = torch.tanh(n + torch.sigmoid(r + br) * bn)
        return ((1 - z) * n + z * h,)
    return ((torch.relu if module.nonlinearity == "relu" else torch.tanh)(drive + back(h)),)


def _layers(net: nn.RNNBase, linear: Product, input: Any, hx: Any = None) -> Any:
    lengths = packed = None
    if isinstance(input, PackedSequence):
        packed, (x, lengths) = input, pad_packed_sequence(input)  # the batch in its own order, and so are the states
        alone = False
    else:
        alone = input.dim() == 2
        x = input.unsqueeze(1) if alone else input.transpose(0, 1) if net.batch_first else input  # (T, N, n)
    many = isinstance(net, nn.LSTM)
    directions = 2 if net.bidirectional else 1
    if hx is not None and alone:
        hx = _each(hx, lambda h: h.unsqueeze(1))
    last: list[tuple[Tensor, ...]] = []
    for layer in range(net.num_layers):
        outputs = []
        for direction in range(directions):
            k, name = layer * directions + direction, f"_l{layer}{'_reverse' if direction else ''}"
            if hx is None:
                width = net.proj_size or net.hidden_size
                state = (x.new_zeros(x.shape[1], width), x.new_zeros(x.shape[1], net.hidden_size))[: 1 + many]
            else:
                state = tuple(h[k] for h in (hx if many else (hx,)))
            found, state = _through(net, linear, name, x, state, lengths, reverse=bool(direction))
            outputs.append(found)
            last.append(state)
        x = torch.cat(outputs, -1) if directions == 2 else outputs[0]
        if net.dropout and layer < net.num_layers - 1:
            x = F.dropout(x, net.dropout, net.training)
    ends = tuple(torch.stack([state[part] for state in last]) for part in range(1 + many))
    if packed is not None:
        x = x if packed.sorted_indices is None else x[:, packed.sorted_indices]
        rows = torch.cat([x[t, :n] for t, n in enumerate(packed.batch_sizes.tolist())])
        x = PackedSequence(rows, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
    elif alone:
        x, ends = x.squeeze(1), tuple(h.squeeze(1) for h in ends)
    elif net.batch_first:
        x = x.transpose(0, 1)
    return x, (ends if many else ends[0])


def _through(
    net: Any, linear: Product, name: str, x: Tensor, state: tuple[Tensor, ...], lengths: Tensor | None, *, reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One layer in one direction over x (T, N, n): responses (T, N, m), and the last state."""
    drives = linear(f"ih{name}", x)
    responses = []
    for t in reversed(range(len(x))) if reverse else range(len(x)):
        new = _step(net, drives[t], lambda h: linear(f"hh{name}", h), state)
        if net.proj_size:
            new = (linear(f"hr{name}", new[0]), *new[1:])
        if lengths is None:
            state = new
            responses.append(new[0])
        else:  # a sequence that is over, or has not begun in reverse, keeps its state
            going = (t < lengths).to(x.device).unsqueeze(-1)
            state = tuple(torch.where(going, a, b) for a, b in zip(new, state, strict=True))
            responses.append(new[0] * going)
    return torch.stack(responses[::-1] if reverse else responses), state


def _each(hx: Any, change: Callable[[Tensor], Tensor]) -> Any:
    return tuple(change(h) for h in hx) if isinstance(hx, tuple) else change(hx)
