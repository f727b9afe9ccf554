"""Published weights: import, export and verification.

A layout is an entry ``[layout.NAME]`` in a ``registry.toml`` with the components in a file and the prefixes
of their tensors. ``layouts`` compares files with layouts, ``read`` and ``convert`` read and write files,
``catalogue`` and ``verify`` handle files by name.
"""
