"""The names of torch-geometric that the plugin uses. No other module imports torch-geometric."""

import warnings

with warnings.catch_warnings():
    # Its import calls torch.jit.script, which recent versions of torch deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric import nn as pyg
    from torch_geometric.nn.models import dimenet, schnet
    from torch_geometric.utils import coalesce, scatter

__all__ = ["coalesce", "dimenet", "pyg", "scatter", "schnet"]
