// _core.Processor, Pipeline, runtime_describe and declare_component.
#include <pybind11/stl.h>

#include "callbacks.hpp"
#include "engines.hpp"
#include "exclusive.hpp"
#include "heads.hpp"

namespace mambasdk::python {

namespace {

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
    out[name.c_str()] = to_python(tensor.get(), name);
  }
  return out;
}

std::string json_text(const py::object& value) {
  return value.is_none() ? std::string() : py::cast<std::string>(py::module_::import("json").attr("dumps")(value));
}

using SharedProcessor = Exclusive<Processor>;
using SharedPipeline = Exclusive<Pipeline>;

py::dict run_processor(SharedProcessor& processor, const py::dict& inputs) {
  const NamedArrays raw(inputs);
  mambasdk_result* made = nullptr;
  mambasdk_status* status = nullptr;
  processor.use([&](Processor& p) { status = api().processor_run(p.get(), nullptr, raw.data(), raw.size(), &made); });
  check_python(status);
  return to_dict(Result(made));
}

py::dict run_pipeline(SharedPipeline& pipeline, const py::dict& inputs, const py::object& options,
                      const py::object& on_text) {
  const NamedArrays raw(inputs);
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
  mambasdk_status* status = nullptr;
  pipeline.use([&](Pipeline& p) { status = api().pipeline_run(p.get(), raw.data(), raw.size(), &c, &made); });
  relay.rethrow(status);
  check_python(status);
  return to_dict(Result(made));
}

std::unique_ptr<SharedProcessor> make_processor(const std::string& kind, const py::object& config,
                                                const py::object& directory, bool head, const py::object& model) {
  const std::string text = config.is_none() ? "{}" : json_text(config);
  if (!model.is_none()) {
    if (!head) throw py::value_error("a processor has no model; pass head=True");
    mambasdk_processor* made = nullptr;
    check_python(api().head_create(py::cast<const Model&>(model).get(), nullptr, to_c(kind), to_c(text), &made));
    return std::make_unique<SharedProcessor>(Processor(made));
  }
  const std::string path =
      directory.is_none() ? std::string() : py::cast<std::string>(py::module_::import("os").attr("fspath")(directory));
  return std::make_unique<SharedProcessor>(Processor(kind, text, path, head ? Role::head : Role::processor));
}

std::unique_ptr<SharedPipeline> make_pipeline(const Model& model, const py::object& head) {
  mambasdk_pipeline* made = nullptr;
  if (head.is_none()) {
    check_python(api().pipeline_create(model.get(), nullptr, &made));
  } else {
    const mambasdk_processor_definition definition = python_head(head);
    check_python(api().pipeline_create_with(model.get(), nullptr, &definition, &made));
  }
  return std::make_unique<SharedPipeline>(Pipeline(made));
}

}  // namespace

void bind_pipelines(py::module_& m) {
  py::class_<SharedProcessor>(m, "Processor", "One processor or head by itself. Threads that share it take turns.")
      .def(py::init(&make_processor), py::arg("kind"), py::arg("config") = py::none(), py::kw_only(),
           py::arg("directory") = py::none(), py::arg("head") = false, py::arg("model") = py::none(),
           "model: a Model, which a head runs as often as it likes.")
      .def("run", &run_processor, py::arg("inputs"),
           "Run on named arrays, bytes or texts; returns what it emits, by name (\"json\" already parsed).")
      .def(
          "reset",
          [](SharedProcessor& processor) {
            mambasdk_status* status = nullptr;
            processor.use([&](Processor& p) { status = api().processor_reset(p.get()); });
            check_python(status);
          },
          "Forget earlier runs.");

  py::class_<SharedPipeline>(m, "Pipeline",
                             "Processors, model and head of a package, as its manifest says. Threads that share it "
                             "take turns.")
      .def(py::init(&make_pipeline), py::arg("model"), py::kw_only(), py::arg("head") = py::none(),
           "head: in place of the manifest's, a callable `(options: dict, directory: str)` that makes an object with "
           "attach(model: HeadModel), run(model, inputs: dict, emit: Emitter) and reset().",
           py::keep_alive<1, 3>())
      .def("run", &run_pipeline, py::arg("inputs"), py::arg("options") = py::none(), py::kw_only(),
           py::arg("on_text") = py::none(),
           "Run raw inputs (arrays, bytes, texts) by the names of the package's processors; returns the result by "
           "name (\"json\" already parsed). State carries over to the next run.")
      .def(
          "reset",
          [](SharedPipeline& pipeline) {
            mambasdk_status* status = nullptr;
            pipeline.use([&](Pipeline& p) { status = api().pipeline_reset(p.get()); });
            check_python(status);
          },
          "States of the model, the processors and the head back to the start.");

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
