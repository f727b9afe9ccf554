"""The names of torch-geometric that the plugin uses. No other module imports torch-geometric.

Raises:
    PluginError: on import, if torch-geometric is missing or of an unsupported version.
"""

import warnings

from esmgn_core.errors import PluginError

try:
    with warnings.catch_warnings():
        # Its import calls torch.jit.script, which recent versions of torch deprecate.
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric import nn as pyg
        from torch_geometric.nn.models import dimenet, schnet
        from torch_geometric.utils import coalesce, scatter
except ImportError as error:
    raise PluginError(
        f"the structure encoders pyg_* need torch-geometric, which cannot be imported: {error}",
        "install it: pip install 'esmgn[pyg]'",
        "or choose another encoder: esmgn list struct",
    ) from error

__all__ = ["coalesce", "dimenet", "pyg", "scatter", "schnet"]
