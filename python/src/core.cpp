// mambasdk._core: the runtime from Python, over the C ABI alone. Includes no torch header and imports no torch.
#include "tensor.hpp"

namespace {

namespace py = pybind11;
using namespace mambasdk;

// The class that a code becomes: one of mambasdk.errors, each of which is the builtin error that a caller expects too.
py::object exception_type(int code) {
  const auto own = [](const char* name) { return py::object(py::module_::import("mambasdk.errors").attr(name)); };
  switch (code) {
    case MAMBASDK_ERROR_INVALID_ARGUMENT:
      return own("InvalidArgumentError");
    case MAMBASDK_ERROR_CORRUPT:
      return own("PackageError");
    case MAMBASDK_ERROR_VERSION:
      return own("PackageVersionError");
    case MAMBASDK_ERROR_NOT_FOUND:
      return own("UnknownNameError");
    case MAMBASDK_ERROR_UNSUPPORTED:
      return own("UnsupportedError");
    case MAMBASDK_ERROR_IO:
      return py::reinterpret_borrow<py::object>(PyExc_OSError);
    case MAMBASDK_ERROR_OUT_OF_MEMORY:
      return py::reinterpret_borrow<py::object>(PyExc_MemoryError);
    default:
      return py::reinterpret_borrow<py::object>(PyExc_RuntimeError);
  }
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const Error& e) {
    py::set_error(exception_type(e.code()), e.what());
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
  mambasdk::python::bind_heads(m);
  mambasdk::python::bind_pipelines(m);
}
