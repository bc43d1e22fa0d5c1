#include "graph.hpp"

#include <algorithm>
#include <numeric>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::graph {

namespace {

[[noreturn]] void bad(const std::string& message) {
  throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "graph", "graph: " + message);
}

}  // namespace

void check(const Edges& edges) {
  if (edges.ptr.empty() || edges.ptr.front() != 0 || !std::is_sorted(edges.ptr.begin(), edges.ptr.end())) {
    bad("ptr: expected ascending numbers from 0, the first node of each graph and the number of nodes");
  }
  for (std::size_t e = 0; e < edges.source.size(); ++e) {
    const std::int64_t from = edges.source[e];
    const std::int64_t to = edges.target[e];
    if (from < 0 || to < 0 || from >= edges.nodes() || to >= edges.nodes()) {
      bad("edge " + std::to_string(e) + " goes from node " + std::to_string(from) + " to " + std::to_string(to) +
          ", expected nodes from 0 to " + std::to_string(edges.nodes() - 1));
    }
    const auto graph_of = [&](std::int64_t node) { return std::upper_bound(edges.ptr.begin(), edges.ptr.end(), node); };
    if (edges.graphs() > 1 && graph_of(from) != graph_of(to)) {
      bad("edge " + std::to_string(e) + " goes from one graph to another");
    }
  }
}

Outgoing::Outgoing(const Edges& edges)
    : first(static_cast<std::size_t>(edges.nodes()) + 1, 0), edge(edges.source.size()) {
  for (const std::int64_t s : edges.source) ++first[static_cast<std::size_t>(s) + 1];
  std::partial_sum(first.begin(), first.end(), first.begin());
  std::vector<std::int64_t> next(first.begin(), first.end() - 1);
  for (std::size_t e = 0; e < edges.source.size(); ++e) {
    edge[static_cast<std::size_t>(next[static_cast<std::size_t>(edges.source[e])]++)] = static_cast<std::int64_t>(e);
  }
}

}  // namespace mambasdk::graph
