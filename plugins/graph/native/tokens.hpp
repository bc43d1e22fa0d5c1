// Neighbourhood tokens of GMN: the subgraphs that random walks induce (arXiv 2402.08678; spec graph-mamba.md, A1).
#pragma once

#include "graph.hpp"
#include "mambasdk/plugin.hpp"

namespace mambasdk::graph {

struct TokenOptions {
  std::int64_t walk_length = 0;  // m
  std::int64_t walks = 1;        // M
  std::int64_t repeats = 1;      // s
  std::uint64_t seed = 0;
  std::uint64_t epoch = 0;
  // Tokens of a node: m hops down to 0, so the node itself comes last, s of each.
  [[nodiscard]] std::int64_t per_node() const { return (walk_length + 1) * repeats; }
};

struct Tokens {
  std::vector<std::int64_t> members;        // (T) nodes, ascending within a token
  std::vector<std::int64_t> member_tokens;  // (T) token of each, ascending: node * per_node + place
  std::vector<std::int64_t> edge;           // (P) number of an edge between two members of a token
  std::vector<std::int64_t> edge_source;    // (P) place of its source in members
  std::vector<std::int64_t> edge_target;    // (P)
};

// M walks of h steps for each node v, hop h and repeat r, each with the stream (seed, epoch, v within its graph, h, r,
// walk). A step takes an outgoing edge, each with the same chance; where there is none the walk stays.
[[nodiscard]] Tokens tokenize(const Edges& edges, const TokenOptions& options, const mambasdk_context& context);

}  // namespace mambasdk::graph
