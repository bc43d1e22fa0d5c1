// Heads that are written in Python.
#pragma once

#include "tensor.hpp"

namespace mambasdk::python {

// Makes heads by `factory(options: dict, directory: str)`, an object with attach(model), run(model, inputs, emit) and
// reset(). The definition borrows `factory`.
[[nodiscard]] mambasdk_processor_definition python_head(const py::object& factory);

}  // namespace mambasdk::python
