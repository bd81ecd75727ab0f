"""Rules that send one signal from the output straight to every layer.

The graph is cut in front of each weight layer: what enters the layer is detached, so that no error crosses a
weight. What was cut is the root of a block, made of the weight layer before it and whatever normalises, bends
and pools its response. One backward pass from all roots then teaches every block with a signal of its own.

A skip connection is cut where it joins a root: whatever error comes back to a root from later blocks is
replaced by the root's own signal.
"""

import abc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.utils._pytree import tree_map

from plausible.core.attach import attach, device_of, evaluating, plain_forward, refuse_if_bound
from plausible.core.coverage import Coverage, check_reached, survey
from plausible.core.errors import ConfigurationError
from plausible.core.learner import Learner, differentiable
from plausible.core.products import Product
from plausible.core.rule import Inputs, Loss, Outcome, Rule, Teacher, require, tunable
from plausible.core.stands import RecurrentSite, UsesSite
from plausible.core.uses import Kept
from plausible.functional.layout import Layout, layout
from plausible.functional.random import generator, random_state, replayed


@dataclass(frozen=True, kw_only=True)
class BroadcastRule(Rule):
    """A rule that teaches every block by a signal of its own.

    Attributes:
        scale: multiplies the teaching signals.
        last_layer: "rule" sends the last hidden block the broadcast signal, like any other; "backprop" sends it
            the error through the output layer's own weight. The output layer's own update is exact either way.
        uncovered: what to do with a trainable module that the rule cannot teach. It is then taught within its
            block, by the ordinary gradient of the block's signal.
    """

    scale: float = tunable(1.0, 0.1, 10.0, log=True)
    last_layer: Literal["rule", "backprop"] = "rule"
    uncovered: Literal["error", "backprop"] = "error"

    needs_example: ClassVar[bool] = True
    """Whether what the rule keeps is shaped like the activity of the layers."""

    learns_feedback: ClassVar[bool] = False
    """Whether what :meth:`init` draws is trained by the user's optimiser."""

    anywhere: ClassVar[bool] = False
    """Whether the rule teaches weights outside of layers too: of recurrent nets, and in functions of a module's own."""

    retraces: ClassVar[bool] = False
    """Whether the rule repeats the forward pass: see :meth:`BroadcastLearner.retrace`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.scale > 0, self, "scale", "a teaching signal needs a positive scale")

    @abc.abstractmethod
    def teach(self, error: Tensor, state: "CutSite", like: Tensor) -> Tensor | None:
        """The teaching signal of the block that ends at ``like``, in its shape; None where there is none."""

    def message(self, error: Tensor, y: Teacher) -> Tensor:
        """What is broadcast: the error at the output, unless the rule sends something else."""
        return error

    def init(self, state: "CutSite", draw: Callable[[str], torch.Generator]) -> dict[str, Tensor]:
        """What the rule keeps for a block, by name; drawn on the CPU from ``draw(name)``."""
        return {}

    def cuts(self, coverage: Coverage) -> dict[str, nn.Module]:
        """The layers in front of which the graph is cut."""
        layers = dict(coverage.layers)
        if self.last_layer == "backprop":
            layers.popitem()
        return layers

    def signals(
        self, learner: "BroadcastLearner", x: Inputs, message: Tensor, roots: list["Root"]
    ) -> list[Tensor | None]:
        """The teaching signal of each root."""
        return [self.teach(message, root.site, root.end) for root in roots]

    def bind(self, model: nn.Module, loss: Loss, example: Inputs | None = None) -> "BroadcastLearner":
        """Bind to ``model`` in place.

        Raises:
            CoverageError: a trainable module that the rule cannot teach.
            ConfigurationError: no example, and the rule's feedback is shaped like the activity of the layers.
        """
        refuse_if_bound(model)
        if example is None and self.needs_example:
            raise ConfigurationError(
                f"{self.name}: its feedback matrices are shaped like the activity of the model's layers. "
                "Pass one batch of inputs, as plausible.bind(..., example=x)."
            )
        learner = self.learner(model, loss, survey(model, self, self.uncovered, example, anywhere=self.anywhere))
        if example is not None:
            learner.measure(example)
        return learner

    def learner(self, model: nn.Module, loss: Loss, coverage: Coverage) -> "BroadcastLearner":
        """What :meth:`bind` binds; a rule that keeps more than feedback has a learner of its own."""
        return BroadcastLearner(model, self, loss, coverage)


class Root(NamedTuple):
    """The end of a block: where the graph was cut.

    Attributes:
        site: the site that cut, in front of its layer.
        end: what entered that layer, with its graph.
        before: name of the weight layer that answered last before the cut.
        response: shape of its answer.
    """

    site: "CutSite"
    end: Tensor
    before: str
    response: torch.Size


@dataclass
class Cut:
    """Where one forward pass was cut.

    Attributes:
        roots: the ends of the blocks, in order.
        before, response: name and answer's shape of the layer that answered last.
        tracer: if set, nothing is cut, and each response passes through it, with its layer's name.
    """

    roots: list[Root] = field(default_factory=list)
    before: str = ""
    response: torch.Size = field(default_factory=torch.Size)
    tracer: Callable[[str, Tensor], Tensor] | None = None

    def take(self) -> list[Root]:
        """The roots recorded since the last call; the next pass starts afresh."""
        taken, self.roots = self.roots, []
        self.before, self.response = "", torch.Size()
        return taken


class CutSite(nn.Module):
    """Cuts the graph in front of one layer.

    Attributes:
        index: the place of its root among the roots; 0 follows the first layer.
        sizes: numbers in (a message, a block's end, the response of the layer before), per example, or per
            position where the output has the block's positions (tokens), each then taught by its own error.
        shared: how many leading dimensions message and block share: those of the example, or of the position.
        layout: where the examples are in the block's end.
        above: numbers in the end of the next block, or in the output, per example or position; one for each time that
            the site cut in a pass.
        called: whether a forward pass has come by yet.
    """

    def __init__(self, rule: BroadcastRule, name: str, cut: Cut) -> None:
        super().__init__()
        self.rule, self.name, self.cut = rule, name, cut
        self.index, self.shared, self.sizes = -1, 1, (0, 0, 0)
        self.above: list[int] = []
        self.layout = Layout()
        self.called = False

    def __getitem__(self, name: str) -> Tensor:
        """What the rule keeps for this block (``get_buffer`` costs as much as a small operator)."""
        kept = self._buffers.get(name)
        return self.get_parameter(name) if kept is None else kept

    def measure(self, index: int, root: Root, above: Tensor, output: Tensor, changed: Tensor) -> None:
        """Take the sizes from one batch, and draw what the rule keeps. ``changed`` is where the end is another if the
        first example is.

        Raises:
            ConfigurationError: the end does not keep the examples apart.
        """
        same = root.end.dim() == output.dim() and root.end.shape[:-1] == output.shape[:-1]
        self.index, self.shared = index, output.dim() - 1 if same else 1
        found = layout(changed, len(output))
        if found is None:
            raise ConfigurationError(
                f"{self.rule.name}: in front of {self.name!r}, where there is {tuple(root.end.shape)}, examples are "
                "not kept apart, so that none can be taught by its own error. Examples must not see each other in "
                "evaluation mode; or use a rule that goes back layer by layer, such as fa."
            )
        self.layout = found
        per = prod(output.shape[: self.shared])
        self.sizes = output.numel() // per, root.end.numel() // per, root.response.numel() // per
        self.above.append(above.numel() // per)
        for key, value in self.rule.init(self, partial(generator, self.rule.seed, self.name)).items():
            value = value.to(root.end)
            if self.rule.learns_feedback:
                self.register_parameter(key, nn.Parameter(value))
            else:
                self.register_buffer(key, value)

    def project(self, message: Tensor, matrix: Tensor, shape: torch.Size) -> Tensor:
        """``message`` through a dense ``matrix`` (numbers in a message, numbers in the result), in ``shape``.

        Raises:
            ConfigurationError: the layer is called on inputs of several sizes, and the matrix fits one.
        """
        numbers = prod(shape) // prod(message.shape[: self.shared])
        if matrix.shape[1] != numbers:
            raise ConfigurationError(
                f"{self.rule.name}: the feedback in front of {self.name!r} is for {matrix.shape[1]} numbers, and the "
                f"block there has the shape {tuple(shape)}. Each block keeps one size: pass an example of the size "
                "to be learned from, and give every size of input a layer of its own."
            )
        signal = message.flatten(self.shared) @ matrix.to(message.dtype)
        return signal.reshape(shape) if self.shared > 1 else self.layout.join(signal, shape)

    def run(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The layer's response to a detached ``x``; records ``x`` as the end of a block."""
        return self._respond((x,), lambda x: plain_forward(layer, x), lambda: plain_forward(layer, x))

    def answer(self, product: Product, kept: Kept | None, plain: Callable[[], Tensor]) -> Tensor:
        """The same, where a weight outside of a layer meets activity; see :class:`plausible.core.stands.Stand`."""
        return self._respond(product.others, lambda *others: product.run(_itself, *others), plain)

    def _respond(
        self, ends: tuple[Tensor, ...], detached: Callable[..., Tensor], plain: Callable[[], Tensor]
    ) -> Tensor:
        cut = self.cut
        if not self.called:  # assigning to a module's attribute costs as much as a small layer
            self.called = True
        if cut.tracer is not None:
            return cut.tracer(self.name, plain())
        for x in ends:
            if x.requires_grad and not any(root.end is x for root in cut.roots):
                cut.roots.append(Root(self, x, cut.before, cut.response))
        response = detached(*(x.detach() for x in ends))
        cut.before, cut.response = self.name, response.shape
        return response


class BroadcastLearner(Learner):
    """One backward pass from the ends of all blocks."""

    rule: BroadcastRule

    def __init__(self, model: nn.Module, rule: BroadcastRule, loss: Loss, coverage: Coverage) -> None:
        super().__init__(model, rule, loss)
        self.coverage = coverage
        self.cut = Cut()
        self._random_state = random_state(device_of(model))
        self.feedback = nn.ModuleDict()
        made: dict[int, CutSite] = {}  # by weight, where one is used in several functions

        def make(
            name: str, weight: Tensor, scale: float, made_of: tuple[str, ...], *, computed: bool = False
        ) -> CutSite:
            if id(weight) not in made:
                made[id(weight)] = self._site(name)
            return made[id(weight)]

        for name, layer in rule.cuts(coverage).items():
            attach(layer, make(name, layer.get_parameter("weight"), 1.0, (name,)))
        for name, layer in coverage.recurrent.items():
            attach(layer, RecurrentSite(layer, name, make))
        for name, within in coverage.uses.items():
            attach(model.get_submodule(name), UsesSite(model, name, within, make))

    def _site(self, name: str) -> CutSite:
        site = self.feedback[name.replace(".", "/") or "model"] = CutSite(self.rule, name, self.cut)
        return site

    def measure(self, example: Inputs) -> None:
        """Run one batch, in evaluation mode, to see the shapes of the blocks; draw the feedback. It is run once more
        with another first example, to see where that is."""
        output, roots = self._shown(example)
        _, others = self._shown(_with_another_first(example, len(output)))
        above = [*(root.end for root in roots[1:]), output] if roots else []
        for index, (root, other, end) in enumerate(zip(roots, others, above, strict=True)):
            root.site.measure(index, root, end, output, root.end != other.end)

    def _shown(self, example: Inputs) -> tuple[Tensor, list[Root]]:
        with evaluating(self.model), torch.enable_grad():
            output = differentiable(self.rule, self(example))
        return output, self.cut.take()

    def forward(self, x: Inputs) -> Any:
        """The model's output; nothing is remembered of passes that are not learned from."""
        self.cut.take()
        return super().forward(x)

    def retrace(self, x: Inputs, tracer: Callable[[str, Tensor], Tensor]) -> None:
        """Repeat the last forward pass, random numbers included and buffers untouched, in forward-mode
        differentiation: ``tracer`` gets each layer's name and response, and gives the response that goes on."""
        buffers = {f"model.{name}": buffer.clone() for name, buffer in self.model.named_buffers()}
        self.cut.tracer = tracer
        try:
            with replayed(device_of(self.model), self._random_state), torch.no_grad(), warnings.catch_warnings():
                # torch scripts some formulas of its own on first use, and warns that it should not.
                warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
                with forward_ad.dual_level():
                    functional_call(self, buffers, (x,))
        finally:
            self.cut.tracer = None

    def _learn(self, x: Inputs, y: Teacher) -> Outcome:
        if self.rule.retraces:
            self._random_state = random_state(device_of(self.model))
        output = differentiable(self.rule, self(x))
        roots = self.cut.take()
        self._check_measured(roots)
        loss = self.loss(output, y)
        (error,) = torch.autograd.grad(loss, output)
        error = self.wire("error", error, "teacher", "output")
        message = self.rule.message(error, y)
        if message is not error:  # another word of the teacher's
            message = self.wire("message", message, "teacher", "output")
        signals = self.rule.signals(self, x, message, roots)
        ends, grads = [output], [error]
        for root, signal in zip(roots, signals, strict=True):
            if signal is not None:
                signal = self.wire(f"{root.site.name}.teach", signal, "output", root.before)
                signal = signal.to(root.end.dtype)  # a model may enter autocast by itself, and leave it at the output
                root.end.register_hook(partial(_instead, signal))
                ends.append(root.end)
                grads.append(signal)
        torch.autograd.backward(ends, grads)
        if self.context.iteration == 0:
            check_reached(self.coverage, self.rule)
        return Outcome(loss.detach(), output.detach())

    def _check_measured(self, roots: list[Root]) -> None:
        for root in roots:
            if self.rule.needs_example and root.site.index < 0:
                raise ConfigurationError(
                    f"{self.rule.name}: there is no feedback for the block in front of {root.site.name!r}, because the "
                    "example, in evaluation mode, showed none there. The input may require a gradient (detach it), or "
                    "the model may branch differently in training (give both branches the same dropped tensor)."
                )

    def sites(self) -> list[CutSite]:
        """Those that end a block, and keep its feedback."""
        return [site for site in self.feedback.values() if isinstance(site, CutSite) and site.index >= 0]

    def report(self) -> dict[str, Any]:
        """See :meth:`Learner.report`."""
        cuts = self.rule.cuts(self.coverage)
        last = list(self.coverage.layers)[-1:]
        return {
            "covered": [name for name in self.coverage.covered if name in cuts or name not in self.coverage.layers],
            "exact": self.coverage.exact,
            "backprop": [name for name in last if name not in cuts] + self.coverage.passed,
            "note": "Within a block (from one weight layer to the next) the gradient of the block's signal is exact.",
        }

    def __getstate__(self) -> dict[str, Any]:
        self.cut.take()  # a graph can be neither copied nor pickled
        return super().__getstate__()


def _with_another_first(example: Inputs, n: int) -> Any:
    """The last of n examples stands for the first too."""

    def change(t: Any) -> Any:
        return torch.cat([t[-1:], t[1:]]) if isinstance(t, Tensor) and t.dim() and len(t) == n else t

    return tree_map(change, example)


def _itself(weight: Tensor) -> Tensor:
    return weight


def _instead(signal: Tensor, arrived: Tensor) -> Tensor:
    return signal
