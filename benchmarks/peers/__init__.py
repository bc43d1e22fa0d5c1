"""The same operations in PyTorch, written as one would without this SDK: what the benchmarks compare with."""
