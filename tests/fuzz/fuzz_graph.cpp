// Any bytes as a graph's file: an Error, or a graph whose edges end at its nodes, of which tokens and encodings are
// made.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "graph_file.hpp"
#include "mambasdk/base.hpp"
#include "node_order.hpp"
#include "seeds.hpp"
#include "spectral.hpp"
#include "tokens.hpp"

namespace graph = mambasdk::graph;

namespace {

std::string star(int leaves) {
  std::string edges;
  for (int leaf = 1; leaf <= leaves; ++leaf) edges += (leaf == 1 ? "[0," : ",[0,") + std::to_string(leaf) + "]";
  return R"({"num_nodes": )" + std::to_string(leaves + 1) + R"(, "edges": [)" + edges + "]}";
}

// What was read must pass the check that operations make; the message of a refusal may quote the file's own words.
bool is_graph(const graph::Edges& edges) {
  try {
    graph::check(edges);
    return true;
  } catch (const mambasdk::Error&) {
    return false;
  }
}

// One thread.
const mambasdk_context kContext = [] {
  mambasdk_context context{};
  context.struct_size = sizeof(context);
  context.device = {1, 0};
  context.parallel_for = [](void*, std::int64_t n, std::int64_t, mambasdk_range_fn f, void* arg) { f(arg, 0, n); };
  return context;
}();

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(
      *argc, *argv,
      {R"({"x": [[1, 2], [3, 4.5], [0, 0]], "edges": [[0, 1], [1, 2], [2, 2]], "edge_attr": [[0.5], [1], [2]]})",
       R"({"num_nodes": 4, "edges": [[0, 3], [1, 1]], "directed": true, "y": [0, null]})", R"({"num_nodes": 0})",
       R"({"x": [[1]], "edge_index": [[0, 0], [0, 0]], "split": {"train": [0]}, "name": "g"})",
       R"({"num_nodes": 999999})", R"({"x": [[1e39]]})", R"({"num_nodes": 2, "adjacency": []})", std::string(4000, '['),
       star(60)});
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
    for (const double v : file.x) {
      if (!std::isfinite(static_cast<float>(v))) std::abort();
    }
    if (!is_graph(file.edges)) std::abort();
    if (graph::encode_laplacian(file.edges, 5).values.size() != nodes * 5) std::abort();
    if (graph::return_probabilities(file.edges, 12).size() != nodes * 12) std::abort();
    if (graph::core_numbers(file.edges).size() != nodes || graph::page_rank(file.edges).size() != nodes) std::abort();
    const graph::TokenOptions options{.walk_length = 2, .walks = 2, .repeats = 1};
    const graph::Tokens tokens = graph::tokenize(file.edges, options, kContext);
    for (std::size_t i = 0; i < tokens.edge.size(); ++i) {
      const auto e = static_cast<std::size_t>(tokens.edge[i]);
      if (tokens.members[static_cast<std::size_t>(tokens.edge_source[i])] != file.edges.source[e]) std::abort();
      if (tokens.members[static_cast<std::size_t>(tokens.edge_target[i])] != file.edges.target[e]) std::abort();
    }
  } catch (const mambasdk::Error& error) {
    if (std::string(error.what()).size() > 400) std::abort();  // messages quote, they do not dump
  }
  return 0;
}
