// Any bytes as a graph's file: an Error, or a graph whose edges end at its nodes, of which tokens and encodings are
// made.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "graph_file.hpp"
#include "mambasdk/base.hpp"
#include "node_order.hpp"
#include "seeds.hpp"
#include "spectral.hpp"

namespace graph = mambasdk::graph;

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(
      *argc, *argv,
      {R"({"x": [[1, 2], [3, 4.5], [0, 0]], "edges": [[0, 1], [1, 2], [2, 2]], "edge_attr": [[0.5], [1], [2]]})",
       R"({"num_nodes": 4, "edges": [[0, 3], [1, 1]], "directed": true, "y": [0, null]})", R"({"num_nodes": 0})"});
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr graph::FileLimits kLimits{64, 256};
  try {
    const graph::GraphFile file = graph::read_graph({reinterpret_cast<const char*>(data), size}, kLimits);
    const auto nodes = static_cast<std::size_t>(file.edges.nodes());
    const std::size_t edges = file.edges.source.size();
    if (nodes > 64 || edges > 256 || file.edges.target.size() != edges) std::abort();
    if (file.x.size() != nodes * static_cast<std::size_t>(file.node_features)) std::abort();
    if (file.edge_attr.size() != edges * static_cast<std::size_t>(file.edge_features)) std::abort();
    graph::check(file.edges);
    if (graph::encode_laplacian(file.edges, 5).values.size() != nodes * 5) std::abort();
    if (graph::return_probabilities(file.edges, 3).size() != nodes * 3) std::abort();
    if (graph::core_numbers(file.edges).size() != nodes || graph::page_rank(file.edges).size() != nodes) std::abort();
  } catch (const mambasdk::Error& error) {
    const std::string said = error.what();
    if (said.find("expected nodes from 0") != std::string::npos) std::abort();  // what was read is a graph
  }
  return 0;
}
