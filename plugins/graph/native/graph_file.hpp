// Reading a graph from JSON (docs/graph.md). Nothing in a text is trusted.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "graph.hpp"

namespace mambasdk::graph {

struct FileLimits {
  std::int64_t nodes = 1000000;
  std::int64_t edges = 10000000;  // after undirected ones are there both ways
};

inline constexpr std::int64_t kNodesOfByte = 16;
inline constexpr std::int64_t kNodesAlways = 1024;

struct GraphFile {
  Edges edges;  // one graph
  std::int64_t node_features = 0;
  std::int64_t edge_features = 0;
  std::vector<double> x;          // (N, node_features)
  std::vector<double> edge_attr;  // (E, edge_features)
};

// {"num_nodes": N, "x": [[…]…], "edges": [[source, target]…], "edge_attr": [[…]…], "directed": false}. num_nodes may be
// left out where there is x, and the other way round; so may edge_attr. An undirected edge is listed once and becomes
// two. "edge_index": [[source…], [target…]] may stand for "edges"; there, as in .npz, both directions are listed, and
// "directed" may only be true. "y" and "split" are for training, "name" for people; any other key is an error. Where
// nodes are only counted there are at most kNodesOfByte of them for a byte of text, and kNodesAlways. Throws Error
// (corrupt) that says where, (invalid_argument) beyond the limits.
[[nodiscard]] GraphFile read_graph(std::string_view text, const FileLimits& limits);

}  // namespace mambasdk::graph
