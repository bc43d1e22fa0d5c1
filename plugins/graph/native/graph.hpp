// Graphs side by side: edges and the nodes of each graph, checked; and each node's outgoing edges.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mambasdk::graph {

struct Edges {
  std::vector<std::int64_t> source;  // (E)
  std::vector<std::int64_t> target;  // (E)
  std::vector<std::int64_t> ptr;     // (G+1), first node of each graph
  [[nodiscard]] std::int64_t nodes() const { return ptr.back(); }
  [[nodiscard]] std::size_t graphs() const { return ptr.size() - 1; }
};

// Throws Error (invalid_argument) unless ptr ascends from 0 and every edge stays within a graph.
void check(const Edges& edges);

// Outgoing edges by node, in the order of the edges.
struct Outgoing {
  explicit Outgoing(const Edges& edges);
  [[nodiscard]] std::span<const std::int64_t> of(std::int64_t node) const {
    const auto begin = static_cast<std::size_t>(first[static_cast<std::size_t>(node)]);
    return {edge.data() + begin, static_cast<std::size_t>(first[static_cast<std::size_t>(node) + 1]) - begin};
  }
  std::vector<std::int64_t> first;  // (N+1)
  std::vector<std::int64_t> edge;   // (E) numbers of edges
};

}  // namespace mambasdk::graph
