#include "tensor.hpp"

#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

#include "core/dtype_table.hpp"

namespace mambasdk::python {

namespace {

struct Entry {
  const char* name;   // ours
  const char* array;  // torch's and NumPy's, "" where they have none
  const char* stored;
  const char* use;
  mambasdk_dtype dtype;
  std::size_t block, bytes;

  // bfloat16 and the types of eight bits have codes of their own, which NumPy lacks.
  [[nodiscard]] bool has_numpy() const {
    return *array != 0 && (dtype.code <= 2 || dtype.code == 5 || dtype.code == 6);
  }
  [[nodiscard]] bool is_computed() const { return std::string_view(use) == "computed"; }
};
constexpr Entry kTypes[] = {
#define MAMBASDK_ENTRY(id, name, code, bits, block, bytes, stored, array, use, T) \
  {name, #array, stored, #use, {code, bits, 1}, block, bytes},
    MAMBASDK_DTYPES(MAMBASDK_ENTRY)
#undef MAMBASDK_ENTRY
};

const Entry* find(mambasdk_dtype d) {
  for (const Entry& e : kTypes) {
    if (e.dtype.code == d.code && e.dtype.bits == d.bits) return &e;
  }
  return nullptr;
}

std::string numpy_types() {
  std::string names;
  for (const Entry& e : kTypes) {
    if (e.has_numpy() && e.is_computed()) names += (names.empty() ? "" : ", ") + std::string(e.array);
  }
  return names;
}

}  // namespace

Input::Input(py::object source, const std::string& name) : owner_(std::move(source)) {
  if (py::isinstance<py::array>(owner_)) {
    from_numpy(py::reinterpret_borrow<py::array>(owner_), name);
  } else if (py::hasattr(owner_, "__dlpack__")) {
    from_dlpack(owner_, name);
  } else {
    throw py::type_error(name + " must be a NumPy array or support __dlpack__, got " +
                         std::string(py::str(py::type::of(owner_).attr("__name__"))));
  }
}

Input::~Input() = default;

void Input::from_numpy(const py::array& array, const std::string& name) {
  const char kind = array.dtype().kind();
  const auto bits = static_cast<std::uint8_t>(array.dtype().itemsize() * 8);
  const int code = kind == 'f' ? 2 : kind == 'i' ? 0 : kind == 'u' ? 1 : kind == 'c' ? 5 : kind == 'b' ? 6 : -1;
  const mambasdk_dtype dtype{static_cast<std::uint8_t>(code), bits, 1};
  const char order = array.dtype().byteorder();
  const Entry* entry = code < 0 ? nullptr : find(dtype);
  if (entry == nullptr || !entry->is_computed() || order == '>') {
    throw py::type_error(name + " has dtype " + std::string(py::str(array.dtype())) + ", expected one of " +
                         numpy_types());
  }
  for (py::ssize_t d = 0; d < array.ndim(); ++d) {
    shape_.push_back(array.shape(d));
    if (array.strides(d) % array.itemsize() != 0) {
      throw py::value_error(name + " has strides that are no multiple of its item size; copy it first");
    }
    strides_.push_back(array.strides(d) / array.itemsize());
  }
  tensor_ = {const_cast<void*>(array.data()),
             {1, 0},
             static_cast<std::int32_t>(array.ndim()),
             dtype,
             shape_.data(),
             strides_.data(),
             0};
}

void Input::from_dlpack(const py::object& object, const std::string& name) {
  // The old capsule is what every producer still gives when no version is asked for.
  py::object capsule = object.attr("__dlpack__")();
  struct Legacy {  // DLPack's DLManagedTensor before 1.0
    mambasdk_tensor tensor;
    void* manager;
    void (*deleter)(Legacy* self);
  };
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor") == 0) {
    throw py::type_error(name + ": __dlpack__ gave no dltensor capsule");
  }
  // Not marked as used: the capsule keeps the tensor and frees it when it dies with this object.
  tensor_ = static_cast<Legacy*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))->tensor;
  owner_ = py::make_tuple(object, capsule);
}

NamedArrays::NamedArrays(const py::dict& inputs) {
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

Tensor allocate(mambasdk_dtype dtype, const std::int64_t* shape, int ndim, bool poison) {
  const Entry* entry = find(dtype);
  if (entry == nullptr) throw py::type_error("an output's dtype is unknown to these bindings");
  struct Block {
    mambasdk_managed_tensor managed{};
    std::vector<std::int64_t> shape;
    void* data = nullptr;
  };
  auto block = std::make_unique<Block>();
  block->shape.assign(shape, shape + ndim);
  std::size_t bytes = entry->bytes;
  for (const std::int64_t n : block->shape) bytes *= static_cast<std::size_t>(n);
  bytes /= entry->block;
  block->data = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
  if (block->data == nullptr) throw std::bad_alloc();
  if (poison) std::memset(block->data, 0xff, bytes);  // NaN in every float format
  block->managed.dlpack_major = 1;
  block->managed.manager = block.get();
  block->managed.deleter = [](mambasdk_managed_tensor* self) {
    auto* owner = static_cast<Block*>(self->manager);
    std::free(owner->data);
    delete owner;
  };
  block->managed.tensor = {block->data, {1, 0}, ndim, dtype, block->shape.data(), nullptr, 0};
  return Tensor(&block.release()->managed);
}

py::tuple Array::shape() const {
  const auto extents = tensor_->shape();
  py::tuple out(extents.size());
  for (std::size_t i = 0; i < extents.size(); ++i) out[i] = extents[i];
  return out;
}

std::string Array::dtype() const {
  return dtype_name(tensor_->dtype());
}

py::array Array::numpy() const {
  const Entry* entry = find(tensor_->dtype());
  if (entry == nullptr || !entry->has_numpy()) {
    throw py::type_error("NumPy has no dtype for " + dtype() + "; use torch.from_dlpack");
  }
  auto* keep = new std::shared_ptr<Tensor>(tensor_);
  const py::capsule owner(keep, [](void* p) { delete static_cast<std::shared_ptr<Tensor>*>(p); });
  const auto extents = tensor_->shape();
  const std::vector<py::ssize_t> dims(extents.begin(), extents.end());
  mambasdk_managed_tensor* raw = tensor_->get();
  return py::array(py::dtype(entry->array), dims, raw->tensor.data, owner);
}

py::capsule Array::dlpack() const {
  struct Legacy {
    mambasdk_tensor tensor;
    void* manager;
    void (*deleter)(Legacy* self);
    std::shared_ptr<Tensor> keep;
  };
  auto* out = new Legacy{tensor_->get()->tensor, nullptr, [](Legacy* self) { delete self; }, tensor_};
  PyObject* capsule = PyCapsule_New(out, "dltensor", [](PyObject* self) {
    if (PyCapsule_IsValid(self, "dltensor") == 0) return;  // consumed
    auto* unused = static_cast<Legacy*>(PyCapsule_GetPointer(self, "dltensor"));
    unused->deleter(unused);
  });
  if (capsule == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::capsule>(capsule);
}

py::object to_python(Tensor tensor) {
  const Entry* entry = find(tensor.dtype());
  Array array(std::move(tensor));
  if (entry != nullptr && entry->has_numpy()) return array.numpy();
  return py::cast(std::move(array));
}

py::object to_python(const mambasdk_tensor& tensor, const std::string& name) {
  if (tensor.device.type != 1) throw py::value_error("the tensor " + name + " is not in the CPU's memory");
  Tensor copy = allocate(tensor.dtype, tensor.shape, tensor.ndim, false);
  const std::size_t item = tensor.dtype.bits / 8u;
  const char* from = static_cast<const char*>(tensor.data) + tensor.byte_offset;
  char* to = static_cast<char*>(copy.get()->tensor.data);
  if (TensorView(name, tensor).is_contiguous()) {
    std::memcpy(to, from, copy.size() * item);
    return to_python(std::move(copy));
  }
  std::vector<std::int64_t> at(static_cast<std::size_t>(tensor.ndim), 0);
  for (std::size_t n = copy.size(); n > 0; --n, to += item) {
    std::int64_t offset = 0;
    for (std::size_t d = 0; d < at.size(); ++d) offset += at[d] * tensor.strides[d];
    std::memcpy(to, from + offset * static_cast<std::int64_t>(item), item);
    for (std::size_t d = at.size(); d-- > 0 && ++at[d] == tensor.shape[d];) at[d] = 0;
  }
  return to_python(std::move(copy));
}

Tensor from_python(const py::object& value, const std::string& name) {
  const py::array array = py::module_::import("numpy").attr("array")(value, py::arg("order") = "C");
  const Input input(array, name);
  Tensor copy = allocate(input.get()->dtype, input.get()->shape, input.get()->ndim, false);
  std::memcpy(copy.get()->tensor.data, input.get()->data, static_cast<std::size_t>(array.nbytes()));
  return copy;
}

std::string dtype_name(mambasdk_dtype dtype) {
  const Entry* entry = find(dtype);
  return entry != nullptr ? entry->name : "?";
}

mambasdk_dtype dtype_from_name(const std::string& name) {
  for (const Entry& entry : kTypes) {
    if (name == entry.name) return entry.dtype;
  }
  if (name == "?") return {};
  throw py::value_error("there is no dtype " + name);
}

void bind_tensor(py::module_& m) {
  m.def(
      "dtype_table",
      [] {
        py::list lines;
        for (const Entry& e : kTypes) {
          py::dict line;
          line["name"] = e.name;
          line["array"] = e.array;
          line["stored"] = e.stored;
          line["use"] = e.use;
          line["dlpack"] = py::make_tuple(int{e.dtype.code}, int{e.dtype.bits});
          line["block"] = py::make_tuple(e.block, e.bytes);
          lines.append(std::move(line));
        }
        return lines;
      },
      "The library's element types, one dict each.");
  py::class_<Array>(m, "Array", "A tensor made by the runtime. Supports DLPack; `numpy()` shares its memory.")
      .def_property_readonly("shape", &Array::shape)
      .def_property_readonly("dtype", &Array::dtype)
      .def("numpy", &Array::numpy)
      .def("__dlpack__", [](const Array& a, const py::args&, const py::kwargs&) { return a.dlpack(); })
      .def("__dlpack_device__", [](const Array&) { return py::make_tuple(1, 0); })
      .def("__repr__", [](const Array& a) {
        return "<mambasdk Array " + a.dtype() + " " + std::string(py::str(py::object(a.shape()))) + ">";
      });
}

}  // namespace mambasdk::python
