// The C++20 face of the C ABI: header-only, exceptions and RAII on the caller's side of the boundary.
//
//   mambasdk::Model model("packages/tiny");
//   mambasdk::Session session(model);
//   session.generate("def ", {.max_new_tokens = 100, .on_text = [](std::string_view t) { std::cout << t; return true;
//   }});
//
//   mambasdk::Pipeline pipeline(model);  // processors, model and head, as the package's manifest says
//   std::cout << pipeline.run({{"text", mambasdk::TensorRef::bytes("def ")}}).json();
#ifndef MAMBASDK_MAMBASDK_HPP_
#define MAMBASDK_MAMBASDK_HPP_

#include "mambasdk/base.hpp"
#include "mambasdk/model.hpp"
#include "mambasdk/pipeline.hpp"

#endif  // MAMBASDK_MAMBASDK_HPP_
