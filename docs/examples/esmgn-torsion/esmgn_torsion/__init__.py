"""A pretext task for esmgn."""

from esmgn_core import ComponentSpec, Kind, hookimpl


@hookimpl
def esmgn_components() -> list[ComponentSpec]:
    """Components of this plugin."""
    summary = "Twist backbone torsions at random and predict the twists"
    return [ComponentSpec(Kind.PRETEXT, "torsion", "esmgn_torsion.task:TorsionDenoising", summary)]
