// _core.Processor, Pipeline, runtime_describe and declare_component.
#include <pybind11/stl.h>

#include <cstring>

#include "tensor.hpp"

namespace mambasdk::python {

namespace {

// Raw inputs: bytes and text as vectors of u8, anything else as an array.
class RawInputs {
 public:
  explicit RawInputs(const py::dict& inputs) {
    names_.reserve(inputs.size());
    tensors_.reserve(inputs.size());
    shapes_.reserve(inputs.size());
    for (const auto& [key, value] : inputs) {
      names_.push_back(py::cast<std::string>(key));
      py::object object = py::reinterpret_borrow<py::object>(value);
      if (py::isinstance<py::str>(object)) object = object.attr("encode")();
      if (py::isinstance<py::bytes>(object)) {
        const std::string_view data = py::reinterpret_borrow<py::bytes>(object);
        shapes_.push_back(static_cast<std::int64_t>(data.size()));
        tensors_.push_back(
            {const_cast<char*>(data.data()), {1, 0}, 1, dtype_of<std::uint8_t>(), &shapes_.back(), nullptr, 0});
        bytes_.push_back(std::move(object));
        named_.push_back({to_c(names_.back()), &tensors_.back()});
      } else {
        arrays_.push_back(std::make_unique<Input>(std::move(object), names_.back()));
        named_.push_back({to_c(names_.back()), arrays_.back()->get()});
      }
    }
  }
  [[nodiscard]] const mambasdk_named_tensor* data() const { return named_.data(); }
  [[nodiscard]] std::uint64_t size() const { return named_.size(); }

 private:
  std::vector<std::string> names_;
  std::vector<std::int64_t> shapes_;
  std::vector<mambasdk_tensor> tensors_;
  std::vector<py::object> bytes_;
  std::vector<std::unique_ptr<Input>> arrays_;
  std::vector<mambasdk_named_tensor> named_;
};

// Every tensor by name, "json" as what it says.
py::dict to_dict(const Result& result) {
  py::dict out;
  for (std::size_t i = 0; i < result.size(); ++i) {
    const TensorView tensor = result[i];
    const std::string name(tensor.name());
    if (name == "json") {
      out[name.c_str()] = py::module_::import("json").attr("loads")(std::string(result.json()));
      continue;
    }
    const mambasdk_tensor& raw = tensor.get();
    Tensor copy = allocate(raw.dtype, raw.shape, raw.ndim, false);
    if (raw.device.type != 1 || !tensor.is_contiguous()) {
      throw py::value_error("the tensor " + name + " is not in the CPU's memory");
    }
    std::memcpy(copy.get()->tensor.data, static_cast<const char*>(raw.data) + raw.byte_offset,
                tensor.size() * raw.dtype.bits / 8);
    out[name.c_str()] = to_python(std::move(copy));
  }
  return out;
}

std::string json_text(const py::object& value) {
  return value.is_none() ? std::string() : py::cast<std::string>(py::module_::import("json").attr("dumps")(value));
}

py::dict run_processor(Processor& processor, const py::dict& inputs) {
  const RawInputs raw(inputs);
  mambasdk_result* made = nullptr;
  {
    const py::gil_scoped_release unlocked;
    check(api().processor_run(processor.get(), nullptr, raw.data(), raw.size(), &made));
  }
  return to_dict(Result(made));
}

py::dict run_pipeline(Pipeline& pipeline, const py::dict& inputs, const py::object& options,
                      const py::object& on_text) {
  const RawInputs raw(inputs);
  const std::string json = json_text(options);
  const std::function<bool(std::string_view)> relayed = [&](std::string_view piece) {
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();  // Ctrl-C stops a long generation
    if (on_text.is_none()) return true;
    const py::object answer = on_text(std::string(piece));
    return answer.is_none() || py::cast<bool>(answer);
  };
  detail::TextRelay relay{relayed};
  const mambasdk_pipeline_options c{sizeof(c), to_c(json), relay.function(), &relay};
  mambasdk_result* made = nullptr;
  {
    const py::gil_scoped_release unlocked;
    check(api().pipeline_run(pipeline.get(), raw.data(), raw.size(), &c, &made));
  }
  const Result result(made);
  relay.rethrow();
  return to_dict(result);
}

}  // namespace

void bind_pipelines(py::module_& m) {
  py::class_<Processor>(m, "Processor", "One processor or head by itself. One thread at a time.")
      .def(py::init([](const std::string& kind, const py::object& config, const py::object& directory, bool head) {
             const std::string text = config.is_none() ? "{}" : json_text(config);
             const std::string path = directory.is_none()
                                          ? std::string()
                                          : py::cast<std::string>(py::module_::import("os").attr("fspath")(directory));
             return Processor(kind, text, path, head ? Role::head : Role::processor);
           }),
           py::arg("kind"), py::arg("config") = py::none(), py::kw_only(), py::arg("directory") = py::none(),
           py::arg("head") = false)
      .def("run", &run_processor, py::arg("inputs"),
           "Run on named arrays, bytes or texts; returns what it emits, by name (\"json\" already parsed).")
      .def("reset", &Processor::reset, "Forget earlier runs.");

  py::class_<Pipeline>(m, "Pipeline", "Processors, model and head of a package, as its manifest says.")
      .def(py::init([](const Model& model) { return Pipeline(model); }), py::arg("model"))
      .def("run", &run_pipeline, py::arg("inputs"), py::arg("options") = py::none(), py::kw_only(),
           py::arg("on_text") = py::none(),
           "Run raw inputs (arrays, bytes, texts) by the names of the package's processors; returns the result by "
           "name (\"json\" already parsed). State carries over to the next run.")
      .def("reset", &Pipeline::reset, "States of the model, the processors and the head back to the start.");

  m.def(
      "runtime_describe", [] { return py::module_::import("json").attr("loads")(describe_runtime()); },
      "What is in this process: a dict of plugins, engines, processors, heads and components.");
  m.def(
      "declare_component",
      [](const std::string& name, const std::string& version) { declare_component(name, version); }, py::arg("name"),
      py::arg("version"),
      "Say what this process brings, before plugins load: declare_component(\"torch\", torch.__version__).");
}

}  // namespace mambasdk::python
