// Processor kind `graph`: a graph's file, or the edges of graphs at hand, to what graph models take.
#pragma once

#include "graph_file.hpp"
#include "mambasdk/plugin.hpp"
#include "mambasdk/plugin/config.hpp"
#include "tokens.hpp"

namespace mambasdk::graph {

// Takes `graph` u8, a file as graph_file.hpp says; or graph.edge_index i64 (2, E) and graph.ptr i64 (G+1), and where
// there is one graph.epoch i64 (1).
//
// Of a file it emits x f32 (N, F), edge_index i64 (2, E), edge_attr f32 (E, Fe), batch i64 (N) and ptr i64 (2).
// Options: node_features, edge_features (how many there must be; 0: as in the file; features that the file does not
// have are 1), categorical (false; x and edge_attr as i64), max_nodes (1000000), max_edges (10000000, directed ones).
// Of both it emits what these options ask for; 0 or none means nothing:
// - laplacian K: eigvals and eigvecs f32 (N, K), of at most max_laplacian_nodes nodes (1500 of a file, 3000 of graphs
// at
//   hand); random_walk R: rwse f32 (N, R)
// - order "core" or "page_rank" (else "degree", nothing): order_key f32 (N)
// - noise_layers L and noise_passes P: noise f32 (L, P, N) from 0 to 1; with buckets B also buckets i64 (L, P, N) < B
// - tokens true, with walk_length m (0), walks M (1), repeats s (1): members i64 (T), member_tokens i64 (T) and
//   token_edges i64 (3, P): edge, and its source and target as places in members
// Everything random follows from seed (0) and epoch (0). No result has more than 2^28 numbers; the walks of tokens take
// at most 2^31 steps.
class GraphProcessor {
 public:
  static constexpr std::string_view kind = "graph";
  static constexpr std::string_view doc = "A graph's JSON file to tensors, with encodings, tokens and random orders.";
  static constexpr std::string_view options[] = {
      "node_features", "edge_features", "categorical",  "max_nodes",    "max_edges", "laplacian",
      "random_walk",   "order",         "noise_layers", "noise_passes", "buckets",   "tokens",
      "walk_length",   "walks",         "repeats",      "seed",         "epoch",     "max_laplacian_nodes"};
  explicit GraphProcessor(const plugin::Config& config);
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit);

 private:
  void emit_file(const GraphFile& file, plugin::Emitter& emit) const;
  void emit_features(std::string_view name, const std::vector<double>& values, std::int64_t rows, std::int64_t width,
                     std::int64_t wanted, plugin::Emitter& emit) const;
  void emit_draws(const Edges& edges, std::uint64_t epoch, plugin::Emitter& emit) const;
  void emit_tokens(const Edges& edges, std::uint64_t epoch, const mambasdk_context& context,
                   plugin::Emitter& emit) const;

  std::int64_t node_features_;
  std::int64_t edge_features_;
  bool categorical_;
  FileLimits limits_;
  std::int64_t laplacian_;
  std::int64_t max_laplacian_nodes_;  // 0: as kLargestOfFile and kLargestDense say
  std::int64_t random_walk_;
  std::string order_;
  std::int64_t layers_;
  std::int64_t passes_;
  std::int64_t buckets_;
  bool tokens_;
  TokenOptions token_options_;
};

}  // namespace mambasdk::graph
