// _core.load_package, Model and Session.
#include <pybind11/stl.h>

#include <optional>

#include "callbacks.hpp"
#include "engines.hpp"
#include "exclusive.hpp"

namespace mambasdk::python {

namespace {

py::object describe(const Model& model) {
  return py::module_::import("json").attr("loads")(std::string(model.description()));
}

// A session, and what its model can be asked for.
struct SharedSession {
  SharedSession(Session started, std::vector<std::string> names)
      : session(std::move(started)), outputs(std::move(names)) {}

  template <class F>
  auto use(F&& f) {
    return session.use(std::forward<F>(f));
  }

  Exclusive<Session> session;
  std::vector<std::string> outputs;
};

std::unique_ptr<SharedSession> start(const Model& model, const std::string& device) {
  std::vector<std::string> outputs;
  const py::list described = describe(model)["outputs"];
  for (const py::handle output : described) outputs.push_back(py::cast<std::string>(output["name"]));
  return std::make_unique<SharedSession>(Session(model, device), std::move(outputs));
}

py::dict run(SharedSession& session, const py::dict& inputs, const std::optional<std::vector<std::string>>& asked) {
  const std::vector<std::string>& outputs = asked ? *asked : session.outputs;
  const NamedArrays named(inputs);
  std::vector<mambasdk_string> wanted;
  for (const std::string& name : outputs) wanted.push_back(to_c(name));
  std::vector<mambasdk_managed_tensor*> made(outputs.size(), nullptr);
  mambasdk_status* status = nullptr;
  session.use([&](Session& s) {
    status = api().session_run(s.get(), named.data(), named.size(), wanted.data(), wanted.size(), made.data());
  });
  check_python(status);
  std::vector<Tensor> owned;
  for (mambasdk_managed_tensor* t : made) owned.emplace_back(t);
  py::dict results;
  for (std::size_t i = 0; i < owned.size(); ++i) results[outputs[i].c_str()] = to_python(std::move(owned[i]));
  return results;
}

// Integers (L) or (B, L) as int32 (B, L); what does not fit is refused.
py::array as_tokens(const py::object& tokens) {
  const py::module_ numpy = py::module_::import("numpy");
  const py::array given = numpy.attr("asarray")(tokens);
  const std::string got = std::string(py::str(given.dtype())) + " " + std::string(py::str(given.attr("shape")));
  const char kind = given.dtype().kind();
  if ((kind != 'i' && kind != 'u') || given.ndim() < 1 || given.ndim() > 2 || given.size() == 0) {
    throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "step",
                "step: tokens are " + got + ", expected at least one integer, (L) or (B, L)");
  }
  py::array narrow = given.attr("astype")("int32");
  if (!py::cast<bool>(numpy.attr("array_equal")(narrow, given))) {
    throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "step", "step: a token does not fit int32: got " + got);
  }
  return given.ndim() == 2 ? narrow : py::array(narrow.attr("reshape")(1, -1));
}

py::object step(SharedSession& session, const py::object& tokens) {
  const py::array rows = as_tokens(tokens);
  py::dict inputs;
  inputs["tokens"] = rows;
  py::object logits = run(session, inputs, std::vector<std::string>{"last_logits"})["last_logits"];
  if (py::cast<int>(py::module_::import("numpy").attr("ndim")(tokens)) == 1) return logits.attr("reshape")(-1);  // (V)
  return logits.attr("reshape")(rows.shape(0), -1);  // (B, V)
}

py::dict generate(SharedSession& session, const std::string& prompt, std::int64_t max_new_tokens,
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
  const mambasdk_generate_result result = session.use([&](Session& s) { return s.generate(prompt, options); });
  py::dict out;
  out["text"] = text;
  out["prompt_tokens"] = result.prompt_tokens;
  out["new_tokens"] = result.new_tokens;
  out["prefill_seconds"] = result.prefill_seconds;
  out["decode_seconds"] = result.decode_seconds;
  return out;
}

py::dict memory(SharedSession& session) {
  const mambasdk_session_memory found = session.use([](Session& s) { return s.memory(); });
  py::dict out;
  out["mapped_weights"] = found.mapped_weights;
  out["prepared_weights"] = found.prepared_weights;
  out["states"] = found.states;
  out["arena"] = found.arena;
  return out;
}

Model load_package(const py::object& directory, std::optional<bool> verify, bool allow_code,
                   std::optional<std::uint64_t> max_memory, const py::object& model) {
  const std::string path = py::cast<std::string>(py::module_::import("os").attr("fspath")(directory));
  LoadOptions options{.allow_code = allow_code, .max_memory = max_memory.value_or(0)};
  if (verify) options.verify = *verify ? Verify::all : Verify::off;
  if (max_memory && *max_memory == 0) throw py::value_error("max_memory is 0, expected bytes, or None");
  const mambasdk_load_options c = options.c();
  mambasdk_model* made = nullptr;
  mambasdk_status* status = nullptr;
  if (model.is_none()) {
    const py::gil_scoped_release unlocked;
    status = api().model_load(to_c(path), &c, &made);
  } else {
    const mambasdk_engine_definition engine = python_engine(model);
    const py::gil_scoped_release unlocked;
    status = api().model_load_with(to_c(path), &c, &engine, &made);
  }
  check_python(status);
  return Model(made);
}

}  // namespace

void bind_models(py::module_& m) {
  const auto save = [](SharedSession& session) {
    const std::vector<std::byte> image = session.use([](Session& s) { return s.save(); });
    return py::bytes(reinterpret_cast<const char*>(image.data()), image.size());
  };
  py::class_<SharedSession>(m, "Session",
                            "One sequence, or batch of them, in progress: the model's state, zero at first.\n\n"
                            "Made by `Model.session()`. Threads that share a session take turns.")
      .def("run", &run, py::arg("inputs"), py::arg("outputs") = py::none(),
           "Run the model on named arrays; the state carries over to the next run.\n\n"
           "inputs: NumPy arrays, or what supports DLPack, of the names, dtypes and shapes of `Model.inputs`.\n"
           "outputs: which of `Model.outputs` to compute; None: all.\n"
           "Returns them by name: NumPy arrays, `Array` for dtypes that NumPy lacks (bfloat16).\n"
           "Raises InvalidArgumentError for a name, dtype or shape that does not fit, MemoryError above the model's "
           "max_memory; the state is then what it was.")
      .def("step", &step, py::arg("tokens"),
           "Feed the next tokens of a language model, one or many, and get the logits after the last of them.\n\n"
           "tokens: integers, (L) or (B, L), of one batch size from step to step.\n"
           "Returns float32 logits, (V) for (L), (B, V) for (B, L). Raises as `run`.")
      .def("generate", &generate, py::arg("prompt"), py::kw_only(), py::arg("max_new_tokens") = 128,
           py::arg("sampler") = SamplerOptions{}, py::arg("stop") = std::vector<std::string>{},
           py::arg("on_text") = py::none(),
           "Continue a text with the package's tokenizer; the state is that after the last token.\n\n"
           "stop: texts that end it. on_text: called with each new piece, whole characters; returning False ends it.\n"
           "Returns a dict: text, prompt_tokens, new_tokens, prefill_seconds, decode_seconds.")
      .def(
          "reset", [](SharedSession& session) { session.use([](Session& s) { s.reset(); }); }, "State back to zero.")
      .def(
          "clone",
          [](SharedSession& session) {
            return std::make_unique<SharedSession>(session.use([](Session& s) { return s.clone(); }), session.outputs);
          },
          "An independent session with the same state.")
      .def("memory", &memory,
           "Bytes that the session uses now, as a dict: `mapped_weights`, read where they lie in the package's files, "
           "and "
           "`prepared_weights`, computed at load, which are the model's; `states`, both sides of each, 0 before the "
           "first "
           "run; `arena`, the activations of every combination of shapes whose plan is kept.\n\n"
           "Raises UnsupportedError for an engine that does not count them.")
      .def("save", save,
           "The state as bytes, to be kept anywhere: a safetensors image that knows which package it is from.")
      .def("state", save, "The same as `save`.")
      .def(
          "restore",
          [](SharedSession& session, const py::bytes& image) {
            const std::string_view bytes = image;
            session.use(
                [&](Session& s) { s.restore({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}); });
          },
          py::arg("state"),
          "Go on from what `save` gave, in this process or another.\n\n"
          "Raises PackageError or InvalidArgumentError for damaged bytes and for the state of another package; the "
          "state is then what it was.");

  py::class_<Model>(
      m, "Model",
      "A model package in memory. Immutable; its sessions, in any number of threads, share it.\n\n"
      "inputs, outputs, states: dicts with name, dtype (\"f32\", \"i32\", …) and shape, a list of extents "
      "and of names of free ones.")
      .def_property_readonly("description", &describe)
      .def_property_readonly("inputs", [](const Model& model) { return py::object(describe(model)["inputs"]); })
      .def_property_readonly("outputs", [](const Model& model) { return py::object(describe(model)["outputs"]); })
      .def_property_readonly("states", [](const Model& model) { return py::object(describe(model)["states"]); })
      .def_property_readonly("manifest", &describe)
      .def("session", &start, py::arg("device") = "cpu",
           "A new session with zero state.\n\n"
           "device: where it runs, a name and an index as \"cuda:1\"; inputs and outputs are on the CPU.")
      .def(
          "tokenizer", [](const Model& model) { return Tokenizer(model); },
          "The package's own tokenizer; raises UnknownNameError where it has none.");

  m.def(
      "load_package", &load_package, py::arg("directory"), py::arg("verify") = py::none(), py::kw_only(),
      py::arg("allow_code") = false, py::arg("max_memory") = py::none(), py::arg("model") = py::none(),
      "Load a model package without torch.\n\n"
      "verify: None compares the files that changed since they were last compared with the manifest's SHA-256, True "
      "all of them, False none.\n"
      "allow_code: machine code inside the package may be executed (the engine aoti does).\n"
      "max_memory: bytes for prepared weights, and for the states and activations of each session; None: three "
      "quarters of the memory that this process may use.\n"
      "model: what runs the package, in place of the engine that its manifest names: an object with inputs and outputs "
      "(lists of dicts of name, dtype and shape; None in a shape is an extent that may change), and session(), which "
      "makes objects with run(inputs: dict, outputs: list) -> dict, reset(), clone(), state() and restore(state).");
}

}  // namespace mambasdk::python
