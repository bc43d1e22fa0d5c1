#include "tensor.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

namespace mambasdk::python {

namespace {

struct Entry {
  const char* name;   // ours
  const char* numpy;  // NumPy's, nullptr where it has none
  mambasdk_dtype dtype;
};
constexpr Entry kTypes[] = {{"f64", "float64", {2, 64, 1}},   {"f32", "float32", {2, 32, 1}},
                            {"f16", "float16", {2, 16, 1}},   {"bf16", nullptr, {4, 16, 1}},
                            {"c64", "complex64", {5, 64, 1}}, {"c128", "complex128", {5, 128, 1}},
                            {"i64", "int64", {0, 64, 1}},     {"i32", "int32", {0, 32, 1}},
                            {"u8", "uint8", {1, 8, 1}},       {"bool", "bool", {6, 8, 1}}};

const Entry* find(mambasdk_dtype d) {
  for (const Entry& e : kTypes) {
    if (e.dtype.code == d.code && e.dtype.bits == d.bits) return &e;
  }
  return nullptr;
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
  if (code < 0 || find(dtype) == nullptr || order == '>') {
    throw py::type_error(
        name + " has dtype " + std::string(py::str(array.dtype())) +
        ", expected one of float64, float32, float16, complex64, complex128, int64, int32, uint8, bool");
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

Tensor allocate(mambasdk_dtype dtype, const std::int64_t* shape, int ndim, bool poison) {
  struct Block {
    mambasdk_managed_tensor managed{};
    std::vector<std::int64_t> shape;
    void* data = nullptr;
  };
  auto block = std::make_unique<Block>();
  block->shape.assign(shape, shape + ndim);
  std::size_t bytes = dtype.bits / 8u;
  for (const std::int64_t n : block->shape) bytes *= static_cast<std::size_t>(n);
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
  const Entry* entry = find(tensor_->dtype());
  return entry != nullptr ? entry->name : "?";
}

py::array Array::numpy() const {
  const Entry* entry = find(tensor_->dtype());
  if (entry == nullptr || entry->numpy == nullptr) {
    throw py::type_error("NumPy has no dtype for " + dtype() + "; use torch.from_dlpack");
  }
  auto* keep = new std::shared_ptr<Tensor>(tensor_);
  const py::capsule owner(keep, [](void* p) { delete static_cast<std::shared_ptr<Tensor>*>(p); });
  const auto extents = tensor_->shape();
  const std::vector<py::ssize_t> dims(extents.begin(), extents.end());
  mambasdk_managed_tensor* raw = tensor_->get();
  return py::array(py::dtype(entry->numpy), dims, raw->tensor.data, owner);
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
  if (entry != nullptr && entry->numpy != nullptr) return array.numpy();
  return py::cast(std::move(array));
}

void bind_tensor(py::module_& m) {
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
