"""Conversion of ESM-2 from and to published files, which also hold unused heads and constants.

Source: the files of fair-esm 2.0.0 (facebookresearch/esm).
"""

import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from esmgn_core.weights import common_length, count_blocks, state_dict
from esmgn_esm2.language_head import LanguageHead
from esmgn_esm2.model import rotary_frequencies

_OWN = "model."
_FREQUENCIES = ".self_attn.rot_emb.inv_freq"
_DECODER = "lm_head.weight"
_PREFIX = re.compile(r"^encoder\.(sentence_encoder\.)?")
_USUAL_HEADS = 20


class PublishedESM2(nn.Module):
    """Mapping of ESM-2's tensors to those of published files, named as in fair-esm without prefixes."""

    settings: Any

    @classmethod
    def published_settings(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any] | None:
        """The size of ESM-2 in a published file; ``None`` if tensors are missing."""
        num_layers = count_blocks(tensors, "layers")
        embed_dim = common_length(tensors, r"(layers\.\d+\.\w+_layer_norm|emb_layer_norm_after)\.weight")
        if not num_layers or not embed_dim:
            return None
        half_head = common_length(tensors, r"layers\.\d+" + re.escape(_FREQUENCIES)) or embed_dim
        # Without rotary frequencies nothing but the contact head depends on the number of heads.
        contacts = tensors.get("contact_head.regression.weight", torch.empty(1, 0)).shape[-1]
        stated = (embed_dim // (2 * half_head), contacts // num_layers, _USUAL_HEADS)
        heads = next((heads for heads in stated if heads and embed_dim % (2 * heads) == 0), 1)
        return {"num_layers": num_layers, "embed_dim": embed_dim, "attention_heads": heads}

    def from_published(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Split tensors into the state dict and the unused heads and constants.

        The decoder of the language-model head is in neither if it equals the embedding:
        :meth:`to_published` writes it from the embedding.
        """
        own = self.state_dict()
        ours = {_OWN + name: tensor for name, tensor in tensors.items() if _OWN + name in own}
        unused = {name: tensor for name, tensor in tensors.items() if _OWN + name not in own}
        if _is_tied(tensors):
            del unused[_DECODER]
        return ours, unused

    def to_published(self, state: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a published file.

        Tensors that ``unused`` lacks are filled in: constants are computed, and heads, which the encoder does
        not use, are zeros.
        """
        weights = {name.removeprefix(_OWN): tensor for name, tensor in state.items()}
        embedding, num_layers = weights["embed_tokens.weight"], self.settings.num_layers
        embed_dim, num_heads = self.settings.embed_dim, self.settings.attention_heads
        frequencies = rotary_frequencies(embed_dim // num_heads)
        filled = {f"layers.{number}{_FREQUENCIES}": frequencies.clone() for number in range(num_layers)}
        filled["contact_head.regression.weight"] = embedding.new_zeros(1, num_layers * num_heads)
        filled["contact_head.regression.bias"] = embedding.new_zeros(1)
        with torch.device("meta"):
            head = LanguageHead(embed_dim).state_dict()
        filled |= {f"lm_head.{name}": embedding.new_zeros(tensor.shape) for name, tensor in head.items()}
        filled[_DECODER] = embedding
        return {name: unused.get(name, tensor) for name, tensor in filled.items()} | weights

    @classmethod
    def unpack_published(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """The state dict of a file of fair-esm, or of a file with the same names, in float32."""
        # The largest models may be stored in half precision.
        return {_PREFIX.sub("", name): _single(value) for name, value in state_dict(content).items()}

    def pack_published(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """The content of a file of fair-esm."""
        arguments = Namespace(
            encoder_layers=self.settings.num_layers,
            encoder_embed_dim=self.settings.embed_dim,
            encoder_attention_heads=self.settings.attention_heads,
            token_dropout=True,
        )
        model = {
            ("encoder." if name.startswith("lm_head.") else "encoder.sentence_encoder.") + name: tensor
            for name, tensor in tensors.items()
        }
        return {"cfg": {"model": arguments}, "model": model}


def _single(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _is_tied(tensors: Mapping[str, Tensor]) -> bool:
    decoder, embedding = tensors.get(_DECODER), tensors.get("embed_tokens.weight")
    return decoder is not None and embedding is not None and torch.equal(decoder, embedding)
