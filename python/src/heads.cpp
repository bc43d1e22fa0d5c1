// _core.HeadModel and Emitter: what a head in Python is given.
#include "heads.hpp"

#include <pybind11/stl.h>

#include "callbacks.hpp"

namespace mambasdk::python {

namespace {

py::object parse_json(std::string_view text) {
  return py::module_::import("json").attr("loads")(std::string(text));
}

// Of a borrowed object of the library; gone when the head's instance, or the run, ends.
template <class T>
class Borrowed {
 public:
  explicit Borrowed(T object) : object_(std::move(object)) {}
  void end() noexcept { ended_ = true; }
  [[nodiscard]] T& get(const char* what) {
    if (ended_) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, what,
                  std::string("this ") + what + " belongs to a call that has returned; keep what it gave instead");
    }
    return object_;
  }

 private:
  T object_;
  bool ended_ = false;
};

class HeadModel : public Borrowed<const mambasdk_head_model*> {
 public:
  using Borrowed::Borrowed;

  [[nodiscard]] const mambasdk_head_model& c() { return *get("model"); }

  py::dict run(const py::dict& inputs, const std::vector<std::string>& outputs) {
    mambasdk_session* session = c().session;
    const NamedArrays named(inputs);
    std::vector<mambasdk_string> wanted;
    for (const std::string& name : outputs) wanted.push_back(to_c(name));
    std::vector<mambasdk_managed_tensor*> made(outputs.size(), nullptr);
    mambasdk_status* status = nullptr;
    {
      const py::gil_scoped_release unlocked;
      status = api().session_run(session, named.data(), named.size(), wanted.data(), wanted.size(), made.data());
    }
    check_python(status);
    std::vector<Tensor> owned;
    for (mambasdk_managed_tensor* t : made) owned.emplace_back(t);
    py::dict results;
    for (std::size_t i = 0; i < owned.size(); ++i) results[outputs[i].c_str()] = to_python(std::move(owned[i]));
    return results;
  }

  py::dict run_once(const py::dict& given) {
    py::dict own;
    for (const std::string& name : names(c().inputs, c().input_count)) {
      if (!given.contains(name)) {
        throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "model",
                    "the model's input " + name + " is missing; there is " +
                        std::string(py::str(py::str(", ").attr("join")(given))));
      }
      own[name.c_str()] = given[name.c_str()];
    }
    return run(own, names(c().outputs, c().output_count));
  }

  void reset() {
    call([](mambasdk_session* s) { return api().session_reset(s); });
  }
  py::bytes state() {
    const std::vector<std::byte> image = abi1::detail::save_session(c().session);
    return {reinterpret_cast<const char*>(image.data()), image.size()};
  }
  void restore(const py::bytes& image) {
    const std::string_view bytes = image;
    call([&](mambasdk_session* s) { return api().session_restore(s, bytes.data(), bytes.size()); });
  }
  [[nodiscard]] py::list specs(const mambasdk_tensor_spec* specs, std::uint64_t count) {
    py::list out;
    for (std::uint64_t i = 0; i < count; ++i) {
      py::list shape;
      for (std::int32_t d = 0; d < specs[i].ndim; ++d) {
        shape.append(specs[i].shape[d] < 0 ? py::object(py::none()) : py::int_(specs[i].shape[d]));
      }
      py::dict spec;
      spec["name"] = std::string(to_cpp(specs[i].name));
      spec["dtype"] = dtype_name(specs[i].dtype);
      spec["shape"] = shape;
      out.append(spec);
    }
    return out;
  }

 private:
  template <class F>
  void call(F&& f) {
    mambasdk_session* session = c().session;
    mambasdk_status* status = nullptr;
    {
      const py::gil_scoped_release unlocked;
      status = f(session);
    }
    check_python(status);
  }
  static std::vector<std::string> names(const mambasdk_tensor_spec* specs, std::uint64_t count) {
    std::vector<std::string> out;
    for (std::uint64_t i = 0; i < count; ++i) out.emplace_back(to_cpp(specs[i].name));
    return out;
  }
};

class Emitter : public Borrowed<const mambasdk_head_run*> {
 public:
  using Borrowed::Borrowed;

  void emit(const std::string& name, const py::object& value) {
    const mambasdk_head_run& run = *get("emitter");
    Tensor tensor = from_python(value, name);
    check(run.emit(run.emit_user, to_c(name), tensor.release()));
  }
  void text(const std::string& name, const std::string& value) {
    const py::object bytes = py::module_::import("numpy").attr("frombuffer")(py::bytes(value), "uint8");
    emit(name, bytes);
  }
  void json(const py::object& value) {
    py::dict options;
    options["allow_nan"] = false;
    text("json", py::cast<std::string>(py::module_::import("json").attr("dumps")(value, **options)));
  }
  bool write(const std::string& piece) {
    const mambasdk_head_run& run = *get("emitter");
    if (run.on_text == nullptr) return true;
    std::int32_t answer = 0;
    {
      const py::gil_scoped_release unlocked;
      answer = run.on_text(run.text_user, to_c(piece));
    }
    if (answer == MAMBASDK_TEXT_FAILED) {
      throw Error(MAMBASDK_ERROR_CANCELLED, "emitter", "the receiver of the text failed");
    }
    return answer == 0;
  }
};

struct Instance {
  py::object head;
  std::shared_ptr<HeadModel> model;
};

py::dict to_dict(const mambasdk_named_tensor* inputs, std::uint64_t count) {
  py::dict out;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string name(to_cpp(inputs[i].name));
    const TensorView tensor(name, *inputs[i].tensor);
    out[name.c_str()] = name == "options" ? parse_json(tensor.bytes()) : to_python(*inputs[i].tensor, name);
  }
  return out;
}

}  // namespace

mambasdk_processor_definition python_head(const py::object& factory) {
  mambasdk_processor_definition d{};
  d.struct_size = sizeof(d);
  d.kind = to_c("python");
  d.self = factory.ptr();
  d.create = [](void* self, mambasdk_string config, mambasdk_string directory, void** instance) {
    return call_python("head", [&] {
      const auto make = py::reinterpret_borrow<py::object>(static_cast<PyObject*>(self));
      auto made = std::make_unique<Instance>();
      made->head = make(parse_json(to_cpp(config)), std::string(to_cpp(directory)));
      *instance = made.release();
    });
  };
  d.release = [](void*, void* instance) {
    const py::gil_scoped_acquire locked;
    const std::unique_ptr<Instance> held(static_cast<Instance*>(instance));
    if (held->model) held->model->end();
  };
  d.attach = [](void*, void* instance, const mambasdk_head_model* model) {
    return call_python("head", [&] {
      auto& held = *static_cast<Instance*>(instance);
      held.model = std::make_shared<HeadModel>(model);
      held.head.attr("attach")(held.model);
    });
  };
  d.drive = [](void*, void* instance, const mambasdk_head_run* run) {
    return call_python("head", [&] {
      auto& held = *static_cast<Instance*>(instance);
      const auto emitter = std::make_shared<Emitter>(run);
      struct End {
        Emitter& emitter;
        ~End() { emitter.end(); }
      } end{*emitter};
      held.head.attr("run")(held.model, to_dict(run->inputs, run->input_count), emitter);
    });
  };
  d.reset = [](void*, void* instance) {
    return call_python("head", [&] { static_cast<Instance*>(instance)->head.attr("reset")(); });
  };
  return d;
}

void bind_heads(py::module_& m) {
  py::class_<HeadModel, std::shared_ptr<HeadModel>>(
      m, "HeadModel",
      "The model of a head. The state of its session carries over from run to run; where the head raises, the pipeline "
      "takes it back to where it was before the call.")
      .def("run", &HeadModel::run, py::arg("inputs"), py::arg("outputs"),
           "Run named arrays; returns the named outputs, by name.")
      .def("run_once", &HeadModel::run_once, py::arg("inputs"),
           "Every output of one run on those inputs that are named as the model's own, by name.")
      .def("reset", &HeadModel::reset, "State back to zero.")
      .def("state", &HeadModel::state, "The state as bytes.")
      .def("restore", &HeadModel::restore, py::arg("state"))
      .def_property_readonly(
          "inputs", [](HeadModel& model) { return model.specs(model.c().inputs, model.c().input_count); },
          "A dict of name, dtype (\"f32\") and shape of each; None in a shape is an extent that may change.")
      .def_property_readonly("outputs",
                             [](HeadModel& model) { return model.specs(model.c().outputs, model.c().output_count); })
      .def_property_readonly(
          "description", [](HeadModel& model) { return parse_json(to_cpp(api().model_describe(model.c().model))); },
          "What the package says of its model, as Model.description.");
  py::class_<Emitter, std::shared_ptr<Emitter>>(m, "Emitter", "Takes what a head makes, for the time of one run.")
      .def("__call__", &Emitter::emit, py::arg("name"), py::arg("value"), "An array of the result.")
      .def("json", &Emitter::json, py::arg("value"), "The result as what JSON holds; a pipeline gives it as \"json\".")
      .def("text", &Emitter::text, py::arg("name"), py::arg("value"), "A text of the result: its UTF-8 bytes.")
      .def("write", &Emitter::write, py::arg("piece"), "Text as it is written; False: stop.");
}

}  // namespace mambasdk::python
