// mambasdk._core: the runtime from Python, over the C ABI alone. Includes no torch header and imports no torch.
#include "tensor.hpp"

namespace {

namespace py = pybind11;
using namespace mambasdk;

// Codes become the Python exceptions that users expect.
void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Error& e) {
    PyObject* type = PyExc_RuntimeError;
    switch (e.code()) {
      case MAMBASDK_ERROR_INVALID_ARGUMENT:
      case MAMBASDK_ERROR_CORRUPT:
      case MAMBASDK_ERROR_VERSION:
        type = PyExc_ValueError;
        break;
      case MAMBASDK_ERROR_NOT_FOUND:
        type = PyExc_LookupError;
        break;
      case MAMBASDK_ERROR_UNSUPPORTED:
        type = PyExc_NotImplementedError;
        break;
      case MAMBASDK_ERROR_IO:
        type = PyExc_OSError;
        break;
      case MAMBASDK_ERROR_OUT_OF_MEMORY:
        type = PyExc_MemoryError;
        break;
      default:
        break;
    }
    PyErr_SetString(type, e.what());
  }
}

py::dict cpu_info() {
  py::dict info;
  info["isa_detected"] = std::string(to_cpp(api().isa_detected()));
  info["isa_active"] = std::string(to_cpp(api().isa_active()));
  info["num_threads"] = api().num_threads();
  return info;
}

}  // namespace

PYBIND11_MODULE(_core, m) {
  m.doc() = "The mambasdk runtime without torch: operations on arrays, model packages, sessions, text.";
  py::register_exception_translator(&translate);
  m.def("abi_version", [] { return py::make_tuple(api().abi_major, api().abi_minor); });
  m.def("version", [] { return std::string(to_cpp(api().version())); });
  m.def("cpu_info", &cpu_info, "Instruction sets found and in use, and the threads of the runtime's own pool.");
  m.def(
      "set_max_isa", [](const std::string& isa) { check(api().set_max_isa(to_c(isa))); }, py::arg("isa"),
      "Cap the instruction set: \"baseline\", \"avx2\", \"avx512\", \"avx512_bf16\" or \"avx512_amx\".");
  m.def(
      "set_num_threads", [](int count) { check(api().set_num_threads(count)); }, py::arg("count"),
      "Threads of the runtime's own pool; 0: as many as processors.");
  mambasdk::python::bind_tensor(m);
  mambasdk::python::bind_operations(m);
  mambasdk::python::bind_text(m);
  mambasdk::python::bind_models(m);
  mambasdk::python::bind_pipelines(m);
}
