"""Published files of weights: what they hold, and the way from them to this package and back.

A layout is an entry ``[layout.NAME]`` of a ``registry.toml``: which components a file holds, and below which
prefixes. ``layouts`` joins what the components know of their own tensors and compares files with it, ``read``
and ``convert`` read and write files, ``catalogue`` and ``verify`` are about files that have a name.
"""
