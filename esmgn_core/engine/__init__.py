"""The training engine: plain PyTorch, one process or many under torchrun."""
