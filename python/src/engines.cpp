#include "engines.hpp"

#include <pybind11/stl.h>

#include <cstring>

#include "callbacks.hpp"

namespace mambasdk::python {

namespace {

// The tensors of one direction, as the library takes them.
struct Specs {
  std::vector<std::string> names;
  std::vector<std::vector<std::int64_t>> shapes;
  std::vector<mambasdk_tensor_spec> c;

  explicit Specs(const py::object& listed) {
    for (const py::handle item : listed) {
      names.push_back(py::cast<std::string>(item["name"]));
      std::vector<std::int64_t> shape;
      for (const py::handle extent : item["shape"]) {
        shape.push_back(extent.is_none() ? -1 : py::cast<std::int64_t>(extent));
      }
      shapes.push_back(std::move(shape));
      c.push_back({{}, dtype_from_name(py::cast<std::string>(item["dtype"])), 0, nullptr});
    }
    for (std::size_t i = 0; i < c.size(); ++i) {
      c[i].name = to_c(names[i]);
      c[i].ndim = static_cast<std::int32_t>(shapes[i].size());
      c[i].shape = shapes[i].data();
    }
  }
};

struct PythonModel {
  py::object object;
  Specs inputs, outputs;
  explicit PythonModel(py::object given)
      : object(std::move(given)), inputs(object.attr("inputs")), outputs(object.attr("outputs")) {}
};

py::object& session_of(void* session) {
  return *static_cast<py::object*>(session);
}

template <class T>
void release(void*, void* held) {
  const py::gil_scoped_acquire locked;
  delete static_cast<T*>(held);
}

mambasdk_status* run(void*, void* session, const mambasdk_named_tensor* inputs, std::uint64_t input_count,
                     const mambasdk_string* names, std::uint64_t output_count, mambasdk_managed_tensor** outputs) {
  return call_python("model", [&] {
    py::dict given;
    for (std::uint64_t i = 0; i < input_count; ++i) {
      const std::string name(to_cpp(inputs[i].name));
      given[name.c_str()] = to_python(*inputs[i].tensor, name);
    }
    py::list wanted;
    for (std::uint64_t i = 0; i < output_count; ++i) wanted.append(std::string(to_cpp(names[i])));
    const py::dict made = session_of(session).attr("run")(given, wanted);
    std::vector<Tensor> tensors;
    for (const py::handle name : wanted) {
      if (!made.contains(name)) {
        throw Error(MAMBASDK_ERROR_NOT_FOUND, "model", "the model has no output " + std::string(py::str(name)));
      }
      tensors.push_back(from_python(made[name], py::cast<std::string>(name)));
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) outputs[i] = tensors[i].release();
  });
}

}  // namespace

mambasdk_engine_definition python_engine(const py::object& given) {
  mambasdk_engine_definition d{};
  d.struct_size = sizeof(d);
  d.name = to_c("python");
  d.self = given.ptr();
  d.model_load = [](void* self, const mambasdk_package*, void** made) {
    return call_python(
        "model", [&] { *made = new PythonModel(py::reinterpret_borrow<py::object>(static_cast<PyObject*>(self))); });
  };
  d.model_release = release<PythonModel>;
  d.model_tensors = [](void*, void* held, const mambasdk_tensor_spec** inputs, std::uint64_t* input_count,
                       const mambasdk_tensor_spec** outputs, std::uint64_t* output_count) -> mambasdk_status* {
    const auto& model = *static_cast<PythonModel*>(held);
    *inputs = model.inputs.c.data();
    *input_count = model.inputs.c.size();
    *outputs = model.outputs.c.data();
    *output_count = model.outputs.c.size();
    return nullptr;
  };
  d.session_create = [](void*, void* held, const mambasdk_context*, void** session) {
    return call_python("model",
                       [&] { *session = new py::object(static_cast<PythonModel*>(held)->object.attr("session")()); });
  };
  d.session_release = release<py::object>;
  d.session_run = run;
  d.session_reset = [](void*, void* session) {
    return call_python("model", [&] { session_of(session).attr("reset")(); });
  };
  d.session_clone = [](void*, void* session, void** clone) {
    return call_python("model", [&] { *clone = new py::object(session_of(session).attr("clone")()); });
  };
  d.session_save = [](void*, void* session, void* data, std::uint64_t capacity, std::uint64_t* size) {
    return call_python("model", [&] {
      const py::bytes image = session_of(session).attr("state")();
      const std::string_view bytes = image;
      if (data != nullptr && capacity < bytes.size()) {
        throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "model", "the buffer is too small for the state");
      }
      if (data != nullptr) std::memcpy(data, bytes.data(), bytes.size());
      *size = bytes.size();
    });
  };
  d.session_restore = [](void*, void* session, const void* data, std::uint64_t size) {
    return call_python("model", [&] {
      session_of(session).attr("restore")(py::bytes(static_cast<const char*>(data), static_cast<std::size_t>(size)));
    });
  };
  return d;
}

}  // namespace mambasdk::python
