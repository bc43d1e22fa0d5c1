// The kinds of processors and heads of the process: the built-in ones, and those that plugins bring.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "runtime/pipeline/kind.hpp"

namespace mambasdk::runtime {

// Entries live as long as the process.
[[nodiscard]] const ProcessorKind* find_processor(Role role, std::string_view kind);
[[nodiscard]] std::vector<const ProcessorKind*> list_processors(Role role);  // by kind
void add_processor(ProcessorKind kind);                                      // Error(invalid_argument) when taken

// Error(not_found) for an unknown kind, with the known ones and `hint`; else those of the kind's create.
[[nodiscard]] std::unique_ptr<Processor> create_processor(std::string_view kind, std::string_view config,
                                                          std::string_view directory, std::string_view hint = {});
[[nodiscard]] std::unique_ptr<Head> create_head(std::string_view kind, std::string_view config,
                                                std::string_view directory, std::string_view hint = {});

}  // namespace mambasdk::runtime
