// _core.load_package, Model and Session.
#include <pybind11/stl.h>

#include "tensor.hpp"

namespace mambasdk::python {

namespace {

py::object describe(const Model& model) {
  return py::module_::import("json").attr("loads")(std::string(model.description()));
}

py::dict run(Session& session, const py::dict& inputs, const std::vector<std::string>& outputs) {
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Input>> keep;
  std::vector<mambasdk_named_tensor> named;
  names.reserve(inputs.size());
  for (const auto& [key, value] : inputs) {
    names.push_back(py::cast<std::string>(key));
    keep.push_back(std::make_unique<Input>(py::reinterpret_borrow<py::object>(value), names.back()));
    named.push_back({to_c(names.back()), keep.back()->get()});
  }
  std::vector<mambasdk_string> wanted;
  for (const std::string& name : outputs) wanted.push_back(to_c(name));
  std::vector<mambasdk_managed_tensor*> made(outputs.size(), nullptr);
  {
    const py::gil_scoped_release unlocked;
    check(api().session_run(session.get(), named.data(), named.size(), wanted.data(), wanted.size(), made.data()));
  }
  std::vector<Tensor> owned;
  for (mambasdk_managed_tensor* t : made) owned.emplace_back(t);
  py::dict results;
  for (std::size_t i = 0; i < owned.size(); ++i) results[outputs[i].c_str()] = to_python(std::move(owned[i]));
  return results;
}

py::dict generate(Session& session, const std::string& prompt, std::int64_t max_new_tokens,
                  const SamplerOptions& sampler, std::vector<std::string> stop, const py::object& on_text) {
  GenerateOptions options;
  options.max_new_tokens = max_new_tokens;
  options.sampler = sampler;
  options.stop = std::move(stop);
  std::string text;
  options.on_text = [&](std::string_view piece) {
    text += piece;
    const py::gil_scoped_acquire locked;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();  // Ctrl-C stops a long generation
    if (on_text.is_none()) return true;
    const py::object answer = on_text(std::string(piece));
    return answer.is_none() || py::cast<bool>(answer);
  };
  mambasdk_generate_result result{};
  {
    const py::gil_scoped_release unlocked;
    result = session.generate(prompt, options);
  }
  py::dict out;
  out["text"] = text;
  out["prompt_tokens"] = result.prompt_tokens;
  out["new_tokens"] = result.new_tokens;
  out["prefill_seconds"] = result.prefill_seconds;
  out["decode_seconds"] = result.decode_seconds;
  return out;
}

}  // namespace

void bind_models(py::module_& m) {
  py::class_<Session>(m, "Session", "One sequence (or batch) in progress, with its state. One thread at a time.")
      .def("run", &run, py::arg("inputs"), py::arg("outputs"),
           "Run named arrays; returns the named outputs. The state carries over to the next run.")
      .def("generate", &generate, py::arg("prompt"), py::kw_only(), py::arg("max_new_tokens") = 128,
           py::arg("sampler") = SamplerOptions{}, py::arg("stop") = std::vector<std::string>{},
           py::arg("on_text") = py::none(),
           "Continue a text. Returns a dict: text, prompt_tokens, new_tokens, prefill_seconds, decode_seconds.")
      .def("reset", &Session::reset, "State back to zero.")
      .def("clone", &Session::clone, "An independent session with the same state.")
      .def(
          "state",
          [](const Session& s) {
            const std::vector<std::byte> image = s.save();
            return py::bytes(reinterpret_cast<const char*>(image.data()), image.size());
          },
          "The state as bytes (a safetensors image).")
      .def(
          "restore",
          [](Session& s, const py::bytes& image) {
            const std::string_view bytes = image;
            s.restore({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
          },
          py::arg("state"));

  py::class_<Model>(m, "Model", "A model package in memory. Immutable; its sessions share it.")
      .def_property_readonly("description", &describe)
      .def_property_readonly("inputs", [](const Model& model) { return py::object(describe(model)["inputs"]); })
      .def_property_readonly("outputs", [](const Model& model) { return py::object(describe(model)["outputs"]); })
      .def_property_readonly("states", [](const Model& model) { return py::object(describe(model)["states"]); })
      .def_property_readonly("manifest", &describe)
      .def(
          "session", [](const Model& model) { return Session(model); }, "A new session with zero state.")
      .def("tokenizer", [](const Model& model) { return Tokenizer(model); });

  m.def(
      "load_package",
      [](const py::object& directory, bool verify) {
        const std::string path = py::cast<std::string>(py::module_::import("os").attr("fspath")(directory));
        const py::gil_scoped_release unlocked;
        return Model(path, verify);
      },
      py::arg("directory"), py::arg("verify") = false,
      "Load a model package without torch. verify checks the SHA-256 of every file first.");
}

}  // namespace mambasdk::python
