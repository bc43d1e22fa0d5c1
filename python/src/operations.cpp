// _core.list_ops and _core.call: every registered operation on NumPy and DLPack arrays.
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "tensor.hpp"

namespace mambasdk::python {

namespace {

const mambasdk_op* find_op(const std::string& name) {
  const mambasdk_op* op = api().op_find(to_c(name));
  if (op == nullptr) {
    throw Error(MAMBASDK_ERROR_NOT_FOUND, "call",
                "call: there is no operation " + name +
                    "; mambasdk.runtime.list_ops() lists them, those of loaded plugins too");
  }
  return op;
}

// The declared inputs and outputs, parsed once per operation.
const nlohmann::json& description(const mambasdk_op* op) {
  static auto* cache = new std::map<const mambasdk_op*, nlohmann::json>;  // under the GIL
  auto& entry = (*cache)[op];
  if (entry.is_null()) entry = nlohmann::json::parse(to_cpp(api().op_describe(op)));
  return entry;
}

py::object json_loads(std::string_view text) {
  return py::module_::import("json").attr("loads")(std::string(text));
}

py::list list_ops() {
  std::vector<const mambasdk_op*> ops(static_cast<std::size_t>(api().op_list(nullptr, 0)));
  const std::uint64_t count = api().op_list(ops.data(), ops.size());
  py::list out;
  for (std::size_t i = 0; i < ops.size() && i < count; ++i) out.append(json_loads(to_cpp(api().op_describe(ops[i]))));
  return out;
}

py::dict call(const std::string& name, const std::string& kernel, bool poison, const py::kwargs& arguments) {
  const mambasdk_op* op = find_op(name);
  const nlohmann::json& declared = description(op);
  std::vector<std::unique_ptr<Input>> keep;
  std::vector<mambasdk_value> values;
  std::size_t used = 0;
  for (const auto& argument : declared["inputs"]) {
    const std::string key = argument["name"];
    const std::string kind = argument["kind"];
    mambasdk_value value{};
    const bool given = arguments.contains(key) && !arguments[key.c_str()].is_none();
    if (arguments.contains(key)) ++used;
    if (given) {
      py::object object = arguments[key.c_str()];
      if (kind == "tensor") {
        keep.push_back(std::make_unique<Input>(std::move(object), name + ": " + key));
        value.kind = MAMBASDK_VALUE_TENSOR;
        value.as.tensor = keep.back()->get();
      } else if (kind == "bool") {
        value.kind = MAMBASDK_VALUE_BOOL;
        value.as.integer = py::cast<bool>(object) ? 1 : 0;
      } else if (kind == "int") {
        value.kind = MAMBASDK_VALUE_INT;
        value.as.integer = py::cast<std::int64_t>(object);
      } else {
        value.kind = MAMBASDK_VALUE_FLOAT;
        value.as.real = py::cast<double>(object);
      }
    }
    values.push_back(value);
  }
  if (used != arguments.size()) {
    for (const auto& item : arguments) {
      const std::string key = py::cast<std::string>(item.first);
      bool known = false;
      for (const auto& argument : declared["inputs"]) known = known || argument["name"] == key;
      if (!known)
        throw py::type_error(name + " has no argument " + key + "; it is " + declared["signature"].get<std::string>());
    }
  }
  if (kernel != "automatic" && kernel != "reference") {
    throw py::value_error("kernel is \"" + kernel + "\", expected \"automatic\" or \"reference\"");
  }
  const std::size_t count = declared["outputs"].size();
  std::vector<mambasdk_output_plan> plans(count);
  check(api().op_plan(op, values.data(), values.size(), plans.data(), count));
  std::vector<Tensor> outputs;
  std::vector<mambasdk_tensor> raw;
  for (const mambasdk_output_plan& plan : plans) {
    outputs.push_back(allocate(plan.dtype, plan.shape, plan.ndim, poison));
    raw.push_back(outputs.back().get()->tensor);
    if (plan.present == 0) raw.back().data = nullptr;
  }
  {
    const py::gil_scoped_release unlocked;
    check(api().op_call(op, nullptr, values.data(), values.size(), raw.data(), raw.size(),
                        kernel == "reference" ? MAMBASDK_KERNEL_REFERENCE : MAMBASDK_KERNEL_AUTOMATIC));
  }
  py::dict results;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string key = declared["outputs"][i]["name"];
    results[key.c_str()] = plans[i].present == 0 ? py::object(py::none()) : to_python(std::move(outputs[i]));
  }
  return results;
}

}  // namespace

void bind_operations(py::module_& m) {
  m.def("list_ops", &list_ops,
        "Every registered operation, by name: a list of dicts with name, signature, doc, inputs, outputs, backward.");
  m.def("call", &call, py::arg("name"), py::pos_only(), py::arg("kernel") = "automatic", py::arg("poison") = false,
        "Call an operation on NumPy or DLPack arrays, arguments by name; returns its outputs by name (None where "
        "absent).\n\n"
        "kernel: \"automatic\" or \"reference\". poison fills the outputs with NaN first (for tests).");
  m.def(
      "load_native_plugin", [](const std::string& path) { return json_loads(load_plugin(path)); }, py::arg("path"),
      "Load a native plugin by absolute path; returns a dict of what it brought.");
}

}  // namespace mambasdk::python
