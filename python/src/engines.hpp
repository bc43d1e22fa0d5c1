// Models that Python runs.
#pragma once

#include "tensor.hpp"

namespace mambasdk::python {

// The model of one package, as `model` runs it: inputs and outputs (lists of {"name", "dtype", "shape"}; None in a
// shape is an extent that may change), and session(), an object with run(inputs, outputs), reset(), clone(), state()
// and restore(state). The definition borrows `model` until the package is loaded.
[[nodiscard]] mambasdk_engine_definition python_engine(const py::object& model);

}  // namespace mambasdk::python
