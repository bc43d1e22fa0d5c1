// What nodes can be sorted by besides their degree, for GMN's pass over all nodes (spec graph-mamba.md, A1).
#pragma once

#include <vector>

#include "graph.hpp"

namespace mambasdk::graph {

// (N): the largest k such that the node is in a subgraph whose nodes all have k neighbours or more; directions and
// self-loops do not count, edges between the same two nodes count once.
[[nodiscard]] std::vector<float> core_numbers(const Edges& edges);

// (N), summing to 1 over each graph: where a random walk is that begins anew with chance 0.15 each step, and where it
// finds no outgoing edge.
[[nodiscard]] std::vector<float> page_rank(const Edges& edges);

}  // namespace mambasdk::graph
