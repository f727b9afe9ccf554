"""The parts of torch-geometric in use; the one place that imports it.

Raises:
    PluginError: on import, when torch-geometric is missing or does not fit.
"""

import warnings

from esmgn_core.errors import PluginError

try:
    with warnings.catch_warnings():
        # It calls torch.jit.script while it is imported, which recent versions of torch warn of.
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.nn import (
            GATConv,
            GATv2Conv,
            GCNConv,
            GINConv,
            GINEConv,
            MessagePassing,
            RGCNConv,
            SAGEConv,
            TransformerConv,
        )
        from torch_geometric.nn.models.dimenet import (
            BesselBasisLayer,
            Envelope,
            InteractionPPBlock,
            OutputPPBlock,
        )
        from torch_geometric.nn.models.schnet import GaussianSmearing, InteractionBlock
        from torch_geometric.utils import scatter
except ImportError as error:
    raise PluginError(
        f"the structure encoders pyg_* need torch-geometric, which cannot be imported: {error}",
        "install it: pip install 'esmgn[pyg]'",
        "encoders that do without it: esmgn list struct",
    ) from error

__all__ = [
    "BesselBasisLayer",
    "Envelope",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GINEConv",
    "GaussianSmearing",
    "InteractionBlock",
    "InteractionPPBlock",
    "MessagePassing",
    "OutputPPBlock",
    "RGCNConv",
    "SAGEConv",
    "TransformerConv",
    "scatter",
]
