"""Every registered rule on the small nets that it can teach; no rule is named anywhere here."""

import pytest
from contract_tools import Case, teachable

from plausible.core import registry


@pytest.fixture(params=registry.names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(
    params=[(name, net) for name in registry.names() for net in teachable(name)],
    ids=lambda p: f"{p[0]}-{p[1].__name__}",
)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(*request.param)


@pytest.fixture
def small(name: str) -> Case:
    """For what does not depend on the net."""
    nets = teachable(name)
    assert nets, f"{name} can be bound to none of the nets of this suite: widen SHAPES"
    return Case(name, nets[0])
