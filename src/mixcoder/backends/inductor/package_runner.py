"""Runs a compiled graph without Python's interpreter lock, so that threads run it side by side.

    package (.pt2) ─▶ its shared library ─▶ AOTInductor's C interface: create a container, run, run, …

torch's own loader computes the same, but holds the lock while it does.
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from torch import Tensor

from mixcoder.torch_private import handles_of, tensors_of

_OUTPUTS = 2
_size, _pointer = ctypes.c_size_t, ctypes.c_void_p


class PackageRunner:
    """A compiled graph of tensors on the CPU that returns two tensors.

    Args:
        package: as `compile_once` makes it.
        concurrency: how many threads may run it at a time.

    Raises:
        RuntimeError: it cannot be run this way.
    """

    def __init__(self, package: Path, concurrency: int) -> None:
        with ZipFile(package) as archive, TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            names = archive.namelist()
            [library] = [name for name in names if name.endswith(".so")]
            if any(name.endswith(".json") and not name.endswith("_metadata.json") for name in names):
                raise RuntimeError("the graph has operations that only torch's own loader provides")
            self._library = ctypes.CDLL(archive.extract(library, folder))
        self._run = self._library.AOTInductorModelContainerRun
        self._run.argtypes = [_pointer, _pointer, _size, _pointer, _size, _pointer, _pointer]
        self._container = _pointer()
        create = self._library.AOTInductorModelContainerCreateWithDevice
        if create(ctypes.byref(self._container), _size(concurrency), b"cpu", None):
            raise RuntimeError("the library of the graph cannot be set up")

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the graph's two tensors for tensors such as it was compiled for."""
        inputs = (_pointer * len(tensors))(*(_pointer_of(handle, None) for handle in handles_of(tensors)))
        outputs = (_pointer * _OUTPUTS)()
        if self._run(self._container, inputs, len(tensors), outputs, _OUTPUTS, None, None):
            raise RuntimeError("a compiled step failed")
        first, second = tensors_of([_capsule_of(output, None, None) for output in outputs])
        return first, second

    def __del__(self) -> None:
        if getattr(self, "_container", None):
            self._library.AOTInductorModelContainerDelete(self._container)


_pointer_of = ctypes.PYFUNCTYPE(_pointer, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_capsule_of = ctypes.PYFUNCTYPE(ctypes.py_object, _pointer, ctypes.c_char_p, _pointer)(
    ("PyCapsule_New", ctypes.pythonapi)
)
