"""The parts of benchmarks/families/medical.py: `calls(quick, names)`, `warm_up()`, `measure(quick, memory, rates)`."""
