"""Loads libmambasdk_torch and completes its operators: shapes for tracing, gradients, autocast.

The library defines `torch.ops.mambasdk.<name>` with the kernels of every registered operation, for the CPU and for
whatever devices plugins have kernels; what is added here needs only the operation's declaration, so an operation of a
plugin gets it too.
"""

from __future__ import annotations

import ctypes
import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mambasdk.errors import MissingDependencyError, UnknownNameError, closest
from mambasdk.installation import library_path
from mambasdk.ops import flops
from mambasdk.ops._autocast import autocast_kernel
from mambasdk.ops._autograd import autograd_kernel, vmap_rule
from mambasdk.ops._backends import DEVICE_KEYS, REFUSING_KEYS, refusing_kernel
from mambasdk.ops._failure import watch
from mambasdk.ops._signature import Binding, Signature

NAMESPACE = "mambasdk"
_OVERRIDE = "MAMBASDK_TORCH_LIBRARY"


def _library_path() -> Path:
    override = os.environ.get(_OVERRIDE)
    path = Path(override) if override else library_path("mambasdk_torch")
    if not path.is_file():
        raise MissingDependencyError(
            f"the PyTorch adapter is missing: there is no {path}",
            way_out=f"{_OVERRIDE} must name libmambasdk_torch"
            if override
            else "reinstall mambasdk (pip install --force-reinstall mambasdk); it was built with MAMBASDK_TORCH=OFF",
        )
    return path.resolve()


class Adapter:
    """The loaded library and the signatures of its operations."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
        except OSError as error:
            raise MissingDependencyError(f"cannot load {path}: {error}") from error
        self._library.mambasdk_torch_register.argtypes = [ctypes.POINTER(ctypes.c_char_p)]
        self._library.mambasdk_torch_register.restype = ctypes.c_int64
        self._library.mambasdk_torch_describe.argtypes = [ctypes.c_int64]
        self._library.mambasdk_torch_describe.restype = ctypes.c_char_p
        self._library.mambasdk_torch_choose_kernel.argtypes = [ctypes.c_int32]
        self._library.mambasdk_torch_choose_kernel.restype = ctypes.c_int32
        watch(self._library)
        self._torch = torch.library.Library(NAMESPACE, "FRAGMENT")
        self._lock = threading.Lock()
        self.signatures: dict[str, Signature] = {}
        self._descriptions: list[bytes] = []  # by the order of registration
        self._kernels: dict[str, list[str]] = {}  # of each operation, names of devices
        self._autocast: set[tuple[str, str]] = set()  # operation, key
        self.refresh()

    def refresh(self) -> None:
        """Register what came since: a plugin may have brought operations, or kernels for a device."""
        with self._lock:
            message = ctypes.c_char_p()
            count = self._library.mambasdk_torch_register(ctypes.byref(message))
            if count < 0:
                raise RuntimeError((message.value or b"libmambasdk_torch failed to register").decode())
            for index in range(count):
                description = self._library.mambasdk_torch_describe(index)
                if index == len(self._descriptions):
                    self._complete(Signature.from_json(description.decode()))
                    self._descriptions.append(b"")
                if description != self._descriptions[index]:
                    self._complete_devices(json.loads(description))
                    self._descriptions[index] = description

    def kernels(self, name: str) -> list[str]:
        """Names of the devices that an operation has kernels for, as of the last refresh."""
        return self._kernels[name]

    def _complete(self, signature: Signature) -> None:
        name = signature.name
        packet = getattr(getattr(torch.ops, NAMESPACE), name)
        op = packet.default
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake_kernel(signature), lib=self._torch)
        for key in REFUSING_KEYS:
            self._torch.impl(name, refusing_kernel(op, signature, self.refresh, partial(self.kernels, name)), key)
        self._torch.impl(name, autograd_kernel(op, signature, self.signatures), "Autograd", with_keyset=True)
        torch.library.register_vmap(f"{NAMESPACE}::{name}", vmap_rule(op, signature), lib=self._torch)
        flops.register(packet, signature)
        self.signatures[name] = signature

    def _complete_devices(self, description: dict[str, Any]) -> None:
        name = description["name"]
        self._kernels[name] = description["kernels"]
        for device in {1, *description["device_types"]}:  # where there is the reference alone, it runs on the CPU
            key = f"Autocast{DEVICE_KEYS[device]}" if device in DEVICE_KEYS else ""
            if not hasattr(torch._C.DispatchKey, key) or (name, key) in self._autocast:
                continue
            op = getattr(getattr(torch.ops, NAMESPACE), name).default
            self._torch.impl(name, autocast_kernel(op, self.signatures[name], key), key, with_keyset=True)
            self._autocast.add((name, key))

    def choose_kernel(self, kernel: int) -> int:
        """Which kernel this thread's calls take: 0 the fastest, 1 the reference. Returns what it was."""
        return int(self._library.mambasdk_torch_choose_kernel(kernel))

    def signature(self, name: str) -> Signature:
        """The signature of an operation, of a plugin that was just loaded too; raises UnknownNameError."""
        if name not in self.signatures:
            self.refresh()
        if name not in self.signatures:
            raise UnknownNameError(f"there is no operation {name!r}", way_out=closest(name, self.signatures))
        return self.signatures[name]


def fake_kernel(signature: Signature) -> Any:
    """The operator's shape function: sizes may be symbolic, memory is never touched."""

    def fake(*args: Any) -> Any:
        binding = Binding(signature, signature.named(args))
        like = binding.tensors[0][1]
        outputs = tuple(like.new_empty(plan.shape, dtype=plan.dtype) for plan in binding.plan())
        return outputs[0] if len(outputs) == 1 else outputs

    return fake


adapter = Adapter(_library_path())
