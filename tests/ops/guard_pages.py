"""Memory that ends, or begins, at a page that nobody may touch: one byte too far is a SIGSEGV."""

from __future__ import annotations

import ctypes
import mmap

import torch

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE


class GuardPages:
    """Blocks of memory between two guard pages; `low` puts a block at the lower one, else it ends at the upper one."""

    def __init__(self, low: bool) -> None:
        self.low = low
        self._maps: dict[int, tuple[int, int]] = {}

    def take(self, size: int, alignment: int = 1) -> int:
        """The address of `size` bytes that hold 0xff."""
        page = mmap.PAGESIZE
        pages = -(-max(size, 1) // page)
        base = _LIBC.mmap(None, (pages + 2) * page, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError
        if _LIBC.mprotect(base + page, pages * page, _READ_WRITE) != 0:
            raise OSError(ctypes.get_errno())
        ctypes.memset(base + page, 0xFF, pages * page)
        address = base + page if self.low else base + page + pages * page - -(-size // alignment) * alignment
        self._maps[address] = (base, (pages + 2) * page)
        return int(address)

    def give(self, address: int) -> None:
        """Unmap a block."""
        _LIBC.munmap(*self._maps.pop(address))

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy with the same strides whose first and last element are those of a block."""
        span = (
            0
            if tensor.numel() == 0
            else 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
        )
        size = span * tensor.element_size()
        address = self.take(size, tensor.element_size())
        if size == 0:
            raw = torch.empty(0, dtype=torch.uint8)
        else:
            raw = torch.frombuffer((ctypes.c_byte * size).from_address(address), dtype=torch.uint8)
        return raw.view(tensor.dtype).as_strided(tensor.shape, tensor.stride()).copy_(tensor)

    def close(self) -> None:
        """Unmap everything."""
        for address in list(self._maps):
            self.give(address)
