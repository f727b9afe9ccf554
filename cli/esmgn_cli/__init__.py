"""The ``esmgn`` program: one module per command, composed from the registry's names."""
