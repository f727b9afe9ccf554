"""Published files of weights: what they hold, and the way from them to this package and back.

``entries`` states names and shapes, ``sizes`` reads a model's size off its tensors, ``naming`` has
our names and residue order, ``check`` compares, ``folder`` reads and writes files.
"""
