"""Networks of spiking neurons from and to other packages, by way of the neuromorphic intermediate representation (NIR).

A NIR graph states differential equations. Who runs it makes difference equations of them, with steps of dt seconds, and
packages differ in how. Here every node with a time constant τ becomes, with u = v − v_leak and β = 1 − dt / τ,

    u ← β u + (1 − β) R I                          LI, whose output is v
    z = H(u − (v_threshold − v_leak))              LIF: and then, at the end of the same step,
    u ← v_reset − v_leak  where z = 1              what the node says,
    u ← β u − (v_threshold − v_leak) z             or, in place of β u in the next step, with a soft reset

so all of it starts at v = v_leak. I and IF are u ← u + dt R I, with the same spikes; CubaLI and CubaLIF are two in a
row, the synapse (τ_syn, w_in) first, and the membrane meets the current that the synapse has in this step. β is forward
Euler's, which snnTorch, Norse and SpikingJelly read and write; with ``exact`` it is exp(−dt / τ), the solution for a
current that is constant over the step, which is also Nengo's.

Currents that meet at a node are added, and pass through the graph within a step. An edge that closes a cycle, as seen
from the output, carries what its source sent in the step before, and at rest nothing.

Source: Pedersen et al. (2024), Neuromorphic intermediate representation, Nature Communications 15, 8122.
"""

try:
    import nir as _installed  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "plausible.models.nir speaks with other packages through the package nir, which is not installed: "
        "pip install 'plausible[nir]'",
        name="nir",
    ) from error

from plausible.models.nir.read import from_nir
from plausible.models.nir.write import to_nir

__all__ = ["from_nir", "to_nir"]
