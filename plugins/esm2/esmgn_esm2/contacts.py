"""Contacts of residues from the attention of ESM-2.

Source: Rao et al. 2021 (doi 10.1101/2020.12.15.422761), as in fair-esm 2.0.0.
"""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from esmgn_core.errors import WeightsError
from esmgn_core.weights import load_file, state_dict
from esmgn_esm2.checkpoint import files_of

_WEIGHT, _BIAS = "contact_head.regression.weight", "contact_head.regression.bias"


class ContactHead(nn.Module):
    """Probabilities of contacts: logistic regression on the corrected attention of all heads.

    Args:
        num_maps: layers x heads.
    """

    def __init__(self, num_maps: int) -> None:
        super().__init__()
        self.regression = nn.Linear(num_maps, 1)
        self.requires_grad_(requires_grad=False)

    def forward(self, attention: Tensor) -> Tensor:
        """Probabilities float [L, L] from attention maps [layers, heads, L, L] of one sequence.

        Maps are made symmetric, and the product of their row and column means is subtracted (average product
        correction).
        """
        maps = attention.flatten(0, 1)
        maps = maps + maps.transpose(1, 2)
        rows, columns = maps.sum(2, keepdim=True), maps.sum(1, keepdim=True)
        corrected = maps - rows * columns / maps.sum((1, 2), keepdim=True)
        logits: Tensor = self.regression(corrected.movedim(0, -1)).squeeze(-1)
        return logits.sigmoid()


def fill_contact_head(head: ContactHead, path: Path) -> None:
    """Load the regression from the weights of ESM-2, or from the file of fair-esm beside them.

    Raises:
        WeightsError: there is no regression, or it is of a model of another size.
    """
    beside = path.with_name(f"{path.stem}-contact-regression.pt")
    extras = path.with_name("extras.safetensors")
    places = [*files_of(path), *(file for file in (beside, extras) if file.is_file())]
    for file in places:
        state: dict[str, Any] = state_dict(load_file(file))
        weights = [name for name in state if name == _WEIGHT or name.endswith(f".{_WEIGHT}")]
        if len(weights) != 1:
            continue
        weight, bias = state[weights[0]], state.get(weights[0].removesuffix(_WEIGHT) + _BIAS)
        if weight.shape != head.regression.weight.shape or bias is None:
            raise WeightsError(f"the contact head in {file} is of a model of another size")
        head.regression.weight.data.copy_(weight)
        head.regression.bias.data.copy_(bias)
        return
    raise WeightsError(
        f"weights in {path} have no contact head (seq.contact_head = true)",
        f"fair-esm keeps it in a separate file: download it to {beside}",
        "or use a folder of transformers, which has it: --set seq.weights=FOLDER",
    )
