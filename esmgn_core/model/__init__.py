"""The joint encoder: its parts, inputs and tensors."""
