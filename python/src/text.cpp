// _core.Tokenizer, SamplerOptions and Sampler.
#include <pybind11/stl.h>

#include "tensor.hpp"

namespace mambasdk::python {

void bind_text(py::module_& m) {
  py::class_<Tokenizer>(m, "Tokenizer", "A Hugging Face tokenizer.json, or a package's own tokenizer.")
      .def(py::init([](const py::object& path) {
             return Tokenizer(std::string_view(py::cast<std::string>(py::module_::import("os").attr("fspath")(path))));
           }),
           py::arg("path"))
      .def_property_readonly("vocab_size", &Tokenizer::vocab_size)
      .def(
          "encode", [](const Tokenizer& t, std::string_view text, bool special) { return t.encode(text, special); },
          py::arg("text"), py::arg("add_special_tokens") = true)
      .def(
          "decode",
          [](const Tokenizer& t, const std::vector<std::int32_t>& ids, bool skip) {
            const std::string text = t.decode(ids, skip);
            return py::reinterpret_steal<py::str>(
                PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "replace"));
          },
          py::arg("ids"), py::arg("skip_special_tokens") = true)
      .def(
          "decode_bytes",
          [](const Tokenizer& t, const std::vector<std::int32_t>& ids, bool skip) {
            return py::bytes(t.decode(ids, skip));
          },
          py::arg("ids"), py::arg("skip_special_tokens") = true);

  py::class_<TextStream>(m, "TextStream", "Text out of tokens as they come: whole characters only.")
      .def(py::init<const Tokenizer&, bool, bool>(), py::arg("tokenizer"), py::kw_only(), py::arg("continues") = false,
           py::arg("skip_special_tokens") = true, py::keep_alive<1, 2>())
      .def("push", &TextStream::push, py::arg("token"), "The text that is complete with this token; may be empty.")
      .def("finish", &TextStream::finish, "What is left at the end.");

  py::class_<SamplerOptions>(
      m, "SamplerOptions",
      "How a token is chosen.\n\n"
      "temperature: 0 takes the most likely token. top_k: only the k most likely, 0 for all. top_p: only "
      "the most likely that together have this probability. min_p: only those with this share of the "
      "highest probability. repetition_penalty: logits of tokens seen before are divided by it where "
      "positive, else multiplied. seed: of the random numbers.")
      .def(py::init([](double temperature, std::int64_t top_k, double top_p, double min_p, double repetition_penalty,
                       std::uint64_t seed) {
             return SamplerOptions{temperature, top_p, min_p, repetition_penalty, top_k, seed};
           }),
           py::kw_only(), py::arg("temperature") = 0.0, py::arg("top_k") = 0, py::arg("top_p") = 1.0,
           py::arg("min_p") = 0.0, py::arg("repetition_penalty") = 1.0, py::arg("seed") = 0)
      .def_readwrite("temperature", &SamplerOptions::temperature)
      .def_readwrite("top_k", &SamplerOptions::top_k)
      .def_readwrite("top_p", &SamplerOptions::top_p)
      .def_readwrite("min_p", &SamplerOptions::min_p)
      .def_readwrite("repetition_penalty", &SamplerOptions::repetition_penalty)
      .def_readwrite("seed", &SamplerOptions::seed);

  py::class_<Sampler>(m, "Sampler", "From logits to a token; remembers tokens for the repetition penalty.")
      .def(py::init<const SamplerOptions&>(), py::arg("options"))
      .def(
          "sample",
          [](Sampler& s, const py::array_t<float, py::array::c_style | py::array::forcecast>& logits) {
            return s.sample({logits.data(), static_cast<std::size_t>(logits.size())});
          },
          py::arg("logits"))
      .def(
          "observe", [](Sampler& s, const std::vector<std::int32_t>& tokens) { s.observe(tokens); }, py::arg("tokens"));
}

}  // namespace mambasdk::python
