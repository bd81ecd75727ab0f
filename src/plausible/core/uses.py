"""Weights that a module uses in functions of its own, rather than in a layer: where, and how to stand in their place.

Attention projects with ``F.linear``, GPT-2 with ``torch.addmm``, a standardised convolution computes its weight first.
An example, run once, shows which modules do so (:func:`find_uses`); while such a module's forward runs, and only then,
:class:`Watch` sees every function of torch that is called, knows which tensors are weights, and lets somebody answer
where a weight meets activity. What is computed from weights alone is a weight.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, get_overridable_functions
from torch.utils._pytree import tree_leaves

from plausible.core.attach import layer_type
from plausible.core.products import PRODUCTS, Product
from plausible.functional.asymmetric import Feedback


def _functions(*names: str) -> frozenset[Callable[..., Any]]:
    homes = (Tensor, torch, F)
    return frozenset(found for name in names for home in homes if (found := getattr(home, name, None)) is not None)


SHAPING = _functions(
    "chunk", "split", "split_with_sizes", "unbind", "t", "transpose", "permute", "reshape", "view", "unflatten",
    "flatten", "squeeze", "unsqueeze", "contiguous", "narrow", "movedim", "swapaxes", "__getitem__", "to", "float",
    "type_as",
) | {
    Tensor.T.__get__, Tensor.mT.__get__,  # pyright: ignore[reportAttributeAccessIssue]
    torch.ops.aten.numpy_T, torch.ops.aten.mT,  # as torch.compile calls them
}  # fmt: skip
"""What changes a weight's shape or type, and no number: the feedback weight goes through it too."""

MIXING = _functions(
    "tensordot", "inner", "addbmm", "addmv", "kron", "chain_matmul", "einsum", "scaled_dot_product_attention"
)
"""What multiplies in other ways than :data:`PRODUCTS` knows; einsum, where it multiplies by several weights at once."""

SCALING = _functions(
    "mul", "mul_", "__mul__", "__rmul__", "__imul__", "multiply", "div", "__truediv__", "addcmul", "lerp", "layer_norm",
    "batch_norm", "group_norm", "instance_norm", "rms_norm", "prelu",
)  # fmt: skip
"""What scales each number by one other."""

# torch's own attention, which asks for modes before anything else, and then hides from them what it calls.
_attention = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**F.__dict__, "has_torch_function": lambda tensors: False},
    "multi_head_attention_forward",
    F.multi_head_attention_forward.__defaults__,
)


Kept = Callable[[Feedback], Tensor]
"""Given what a Parameter is exchanged for, gives it in the shape in which the Parameter is used."""


class Weight(NamedTuple):
    """A tensor that is a weight.

    Attributes:
        tensor: it.
        names: of the Parameters that it is made of.
        kept: what made it of one Parameter, if that was a change of shape alone; None for what is computed.
        path: the calls of modules in which it was computed; None for a Parameter.
    """

    tensor: Tensor
    names: tuple[str, ...]
    kept: Kept | None
    path: tuple[int, ...] | None = None


def parameter(tensor: Tensor, name: str) -> Weight:
    """A weight that is a Parameter."""
    return Weight(tensor, (name,), lambda feedback: feedback(tensor))


Answer = Callable[[Product, Weight, Callable[[], Any]], Any]
"""Gets the product, its weight, and what the function itself would answer."""


def constants(module: nn.Module) -> Iterator[tuple[tuple[nn.Module, str], Tensor]]:
    """What a weight may be computed with, and still be a weight: buffers, and Parameters that are not trained. Each
    with its owner, and its name there."""
    for owner in module.modules():
        for name, tensor in (*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)):
            if not tensor.requires_grad:
                yield (owner, name), tensor


class Watch(TorchFunctionMode):
    """Knows weights, and lets ``answer`` respond where one meets activity.

    Args:
        weights: the Parameters in question.
        constants: what a weight may be computed with and still be one, such as buffers.
        answer: what responds.
    """

    def __init__(self, weights: Sequence[Weight], constants: Sequence[Tensor], answer: Answer) -> None:
        super().__init__()
        self.weights, self.constants, self.answer = list(weights), list(constants), answer
        self.path: tuple[int, ...] = ()

    def find(self, tensor: Any) -> Weight | None:
        """The weight that ``tensor`` is. By identity alone, which torch.compile can follow."""
        for weight in self.weights:
            if weight.tensor is tensor:
                return weight
        return None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.multi_head_attention_forward:
            with self:
                return _attention(*args, **kwargs)
        handler = PRODUCTS.get(function)
        if handler is not None:
            product = handler(lambda t: self.find(t) is not None, *args, **kwargs)
            if product is not None and not all(self._fixed(x) for x in product.others):
                weight = self.find(product.weight)
                assert weight is not None
                return self.answer(product, weight, lambda: function(*args, **kwargs))
        response = function(*args, **kwargs)
        self._follow(function, args, kwargs, response)
        return response

    def _fixed(self, tensor: Tensor) -> bool:
        return any(tensor is constant for constant in self.constants)

    def _follow(self, function: Any, args: Any, kwargs: Any, response: Any) -> None:
        """Is the response a weight, or a constant?"""
        pieces = response if isinstance(response, (tuple, list)) else (response,)
        first = self.find(args[0]) if args else None
        if first is not None and first.kept is not None and function in SHAPING:
            for k, piece in enumerate(pieces):
                shaped = _shaped(first.kept, function, args[1:], kwargs, k if pieces is response else None)
                self.weights.append(Weight(piece, first.names, shaped, self.path))
            return
        made_of: list[Weight] = []
        for tensor in _tensors((*args, *kwargs.values())):
            weight = self.find(tensor)
            if weight is not None:
                made_of.append(weight)
            elif not self._fixed(tensor):
                return
        tensors = [piece for piece in pieces if isinstance(piece, Tensor)]
        if made_of:
            names = tuple(dict.fromkeys(name for weight in made_of for name in weight.names))
            self.weights += [Weight(tensor, names, None, self.path) for tensor in tensors]
        else:
            self.constants += tensors


def _shaped(kept: Kept, function: Any, args: Any, kwargs: Any, piece: int | None) -> Kept:
    def through(feedback: Feedback) -> Tensor:
        found = function(kept(feedback), *args, **kwargs)
        return found if piece is None else found[piece]

    return through


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


@dataclass(frozen=True)
class Use:
    """One product of a weight that is in no layer.

    Attributes:
        names: of the Parameters that the weight is made of.
        weight: as it stands in the product.
        computed: whether it is computed, rather than a Parameter in another shape.
        scale: see :class:`Product`.
        traced: see :class:`Within`.
    """

    names: tuple[str, ...]
    weight: Tensor
    computed: bool
    scale: float
    traced: bool


class Within(NamedTuple):
    """What one module does.

    Attributes:
        uses: in one call of it, in order.
        traced: whether torch.compile shows to modes all that its weights are made by.
    """

    uses: list[Use]
    traced: bool


@dataclass
class Uses:
    """What an example has shown.

    Attributes:
        within: by name of the module in whose forward it happens.
        mixed: names of the Parameters that meet activity in a way that nobody can answer for, and what does it.
        gains: names of the Parameters that scale activity, one number for one.
    """

    within: dict[str, Within] = field(default_factory=dict)
    mixed: dict[str, str] = field(default_factory=dict)
    gains: set[str] = field(default_factory=set)


@cache
def _traced(function: Any) -> bool:
    """Does torch.compile show calls of it to modes?"""
    known = {each for several in get_overridable_functions().values() for each in several}
    return function in known or isinstance(function, FunctionType)  # the latter by what they call


class _Survey(Watch):
    """Looks at everything, over all modules."""

    def __init__(self, model: nn.Module) -> None:
        weights = [parameter(p, name) for name, p in model.named_parameters() if p.requires_grad and p.dim() > 0]
        super().__init__(weights, [t for _, t in constants(model)], self.note)
        self.calls: list[tuple[str, nn.Module]] = []
        self.uses: dict[int, list[Use]] = {}
        self.mixed: dict[str, str] = {}
        self.gains: set[str] = set()
        self.seen: set[str] = set()
        self.untraced: set[int] = set()  # by id; all are kept, among the weights or the constants
        self.modes: tuple[bool, ...] = ()

    def note(self, product: Product, weight: Weight, plain: Callable[[], Any]) -> Any:
        """Of which call is this a use?"""
        self.seen.update(weight.names)
        if self.modes[-1] and not torch.is_grad_enabled():  # within the call: its gradient is not autograd's to find
            self.mixed.update(dict.fromkeys(weight.names, "a function with a backward pass of its own"))
            return plain()
        if product.weight.is_complex():
            self.mixed.update(dict.fromkeys(weight.names, "a product with a complex weight"))
            return plain()
        path = self.path
        _, module = self.calls[path[-1]]
        if not (layer_type(module) and module._parameters["weight"] is weight.tensor):  # a layer's own is no use
            if weight.path is not None:  # both computed and used in the call that is answerable
                path = tuple(a for a, b in zip(path, weight.path, strict=False) if a == b)
            use = Use(weight.names, weight.tensor.detach(), weight.kept is None, product.scale,
                      id(weight.tensor) not in self.untraced)  # fmt: skip
            self.uses.setdefault(path[-1], []).append(use)
        return plain()

    def _follow(self, function: Any, args: Any, kwargs: Any, response: Any) -> None:
        found = [(tensor, self.find(tensor)) for tensor in _tensors((*args, *kwargs.values()))]
        names = {name for _, weight in found if weight is not None for name in weight.names}
        before = len(self.weights), len(self.constants)
        super()._follow(function, args, kwargs, response)
        if not _traced(function) or any(id(tensor) in self.untraced for tensor, _ in found):
            made = [weight.tensor for weight in self.weights[before[0] :]] + self.constants[before[1] :]
            self.untraced.update(map(id, made))
        self.seen |= names
        if function in SCALING:
            self.gains |= names
        elif function is F.scaled_dot_product_attention:  # a mask may well be made of weights
            names = {name for tensor in args[:3] if (weight := self.find(tensor)) for name in weight.names}
        if function in MIXING and not all(weight is not None or self._fixed(tensor) for tensor, weight in found):
            self.mixed.update(dict.fromkeys(names, str(function.__name__)))

    def unseen(self, model: nn.Module, output: Any) -> set[str]:
        """The Parameters that no function of torch's has met, and that the output depends on all the same."""
        left = {n: p for n, p in model.named_parameters() if p.requires_grad and p.dim() > 1 and n not in self.seen}
        ends = [t.sum() for t in tree_leaves(output) if isinstance(t, Tensor) and t.requires_grad]
        if not (left and ends):
            return set()
        grads = torch.autograd.grad(ends, list(left.values()), allow_unused=True)
        return {name for name, grad in zip(left, grads, strict=True) if grad is not None}

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Within, calls of modules are counted. After a module's own hooks, which may compute a weight for it."""
        handles = []

        def enter(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: Any) -> None:
                self.path = (*self.path, len(self.calls))
                self.calls.append((name, module))
                self.modes = (*self.modes, torch.is_grad_enabled())  # off where a module is checkpointed

            return hook

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            self.path, self.modes = self.path[:-1], self.modes[:-1]

        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave, prepend=True))
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()


def find_uses(model: nn.Module, run: Callable[[], Any]) -> Uses:
    """Where ``model`` uses weights in functions of its own, as ``run``, which calls it on an example, shows."""
    survey = _Survey(model)
    with survey.watching(model):
        output = run()
    unseen = dict.fromkeys(survey.unseen(model, output), "something that no mode of torch's sees")
    found = Uses(mixed=survey.mixed | unseen, gains=survey.gains)
    for call, uses in sorted(survey.uses.items()):
        name, _ = survey.calls[call]
        before, traced = found.within.get(name, ([], True))
        found.within[name] = Within(_together(before, uses), traced and all(use.traced for use in uses))
    return found


def _together(before: list[Use], uses: list[Use]) -> list[Use]:
    """The uses of several calls of one module: each Parameter once, and what the call computed that computed most."""
    kept = {use.names: use for use in (*uses, *before) if not use.computed}
    computed = max(([use for use in each if use.computed] for each in (before, uses)), key=len)
    return [*kept.values(), *computed]


def parameters_of(within: Mapping[str, Within]) -> set[str]:
    """The names of all Parameters in use."""
    return {name for each in within.values() for use in each.uses for name in use.names}
