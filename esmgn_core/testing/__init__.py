"""Conformance tests for plugin authors: one call tests a component against its contract.

>>> from esmgn_core import Kind
>>> check_component(Kind.FUSE, "serial")  # claims that cannot be judged
[]

An ``AssertionError`` names the component and the claim that failed. The example proteins and the example
graph are also for tests of your own.
"""

from esmgn_core.testing.check import check_class, check_component
from esmgn_core.testing.examples import ExampleGraph, example_batch, example_proteins
from esmgn_core.testing.plugin import check_plugin

__all__ = [
    "ExampleGraph",
    "check_class",
    "check_component",
    "check_plugin",
    "example_batch",
    "example_proteins",
]
