// Arrays between Python and the C ABI: NumPy by its buffer, anything else (torch, JAX, CuPy) by DLPack.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "mambasdk/mambasdk.hpp"

namespace mambasdk::python {

namespace py = pybind11;

// A borrowed argument: keeps its Python owner alive for the call.
class Input {
 public:
  Input(py::object source, const std::string& name);
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input();
  [[nodiscard]] const mambasdk_tensor* get() const { return &tensor_; }

 private:
  void from_numpy(const py::array& array, const std::string& name);
  void from_dlpack(const py::object& object, const std::string& name);

  py::object owner_;
  std::vector<std::int64_t> shape_, strides_;
  mambasdk_tensor tensor_{};
};

// Named arguments: bytes and text as vectors of u8, anything else as an array.
class NamedArrays {
 public:
  explicit NamedArrays(const py::dict& inputs);
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

// A tensor the library made, as a Python object: .shape, .dtype, .numpy(), __dlpack__.
class Array {
 public:
  explicit Array(Tensor tensor) : tensor_(std::make_shared<Tensor>(std::move(tensor))) {}
  [[nodiscard]] py::tuple shape() const;
  [[nodiscard]] std::string dtype() const;
  [[nodiscard]] py::array numpy() const;  // shares the memory; TypeError for dtypes that NumPy lacks (bf16)
  [[nodiscard]] py::capsule dlpack() const;

 private:
  std::shared_ptr<Tensor> tensor_;
};

// NumPy where it can hold the dtype, else Array.
[[nodiscard]] py::object to_python(Tensor tensor);
// A copy of a borrowed tensor. Throws value_error where it is not in the CPU's memory.
[[nodiscard]] py::object to_python(const mambasdk_tensor& tensor, const std::string& name);
// A copy of an array as the library takes it over.
[[nodiscard]] Tensor from_python(const py::object& value, const std::string& name);

[[nodiscard]] std::string dtype_name(mambasdk_dtype dtype);             // "f32"; "?" for one without a name
[[nodiscard]] mambasdk_dtype dtype_from_name(const std::string& name);  // all zero for "?"

// Allocates a row-major tensor that the library's outputs are written to.
[[nodiscard]] Tensor allocate(mambasdk_dtype dtype, const std::int64_t* shape, int ndim, bool poison);

void bind_tensor(py::module_& m);
void bind_operations(py::module_& m);
void bind_models(py::module_& m);
void bind_text(py::module_& m);
void bind_pipelines(py::module_& m);
void bind_heads(py::module_& m);

}  // namespace mambasdk::python
