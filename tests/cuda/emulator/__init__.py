"""CUDA C++ sources on the CPU: compiled by g++, run thread by thread, watched at every access.

``build`` compiles a source (or a copy of it with textual edits) into a shared library; the
``Module`` it returns launches kernels on NumPy arrays under a scheduling seed. What a GPU would
leave undefined is an ``EmulationError`` here: a race between barriers, a copy read before its wait,
a diverged barrier, an access outside an array.
"""

from .build import Edit, Module, build, missing_tools
from .launch import EmulationError

__all__ = ["Edit", "EmulationError", "Module", "build", "missing_tools"]
