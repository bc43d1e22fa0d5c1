#include "processor.hpp"

#include <algorithm>
#include <cmath>

#include "node_order.hpp"
#include "spectral.hpp"
#include "stream.hpp"

namespace mambasdk::graph {

namespace {

constexpr std::int64_t kMost = 1000000000;
constexpr std::int64_t kMaxValues = std::int64_t{1} << 28;  // of a result

[[noreturn]] void bad(const std::string& message) {
  plugin::fail(MAMBASDK_ERROR_INVALID_ARGUMENT, "graph: " + message);
}

// Of a result, before it is made.
void check_size(const char* what, std::initializer_list<std::int64_t> shape) {
  std::int64_t left = kMaxValues;
  for (const std::int64_t extent : shape) {
    if (extent == 0) return;
    left /= extent;
  }
  if (left == 0) {
    bad(std::string(what) + ": " + plugin::to_text(std::span(shape.begin(), shape.size())) + " numbers are more than " +
        std::to_string(kMaxValues) + "; lower the option that asks for them, or cut the graph");
  }
}

// Edges of graphs that the caller has: contiguous i64 tensors.
Edges given_edges(const plugin::Inputs& inputs) {
  const TensorView index = inputs["graph.edge_index"];
  const auto shape = index.shape();
  if (shape.size() != 2 || shape[0] != 2) bad("graph.edge_index: expected i64 (2, E)");
  const auto ends = index.data<std::int64_t>();
  const auto ptr = inputs["graph.ptr"].data<std::int64_t>();
  const auto half = static_cast<std::ptrdiff_t>(ends.size() / 2);
  Edges edges{{ends.begin(), ends.begin() + half}, {ends.begin() + half, ends.end()}, {ptr.begin(), ptr.end()}};
  check(edges);
  return edges;
}

std::vector<std::int64_t> joined(std::vector<std::int64_t> first, const std::vector<std::int64_t>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace

GraphProcessor::GraphProcessor(const plugin::Config& config)
    : node_features_(config.integer("node_features", 0, 0, 1000000)),
      edge_features_(config.integer("edge_features", 0, 0, 1000000)),
      categorical_(config.flag("categorical", false)),
      limits_{config.integer("max_nodes", 1000000, 0, kMost), config.integer("max_edges", 10000000, 0, kMost)},
      laplacian_(config.integer("laplacian", 0, 0, kLargestDense)),
      max_laplacian_nodes_(config.integer("max_laplacian_nodes", 0, 0, kLargestDense)),
      random_walk_(config.integer("random_walk", 0, 0, 10000)),
      order_(config.choice("order", {"degree", "core", "page_rank"})),
      layers_(config.integer("noise_layers", 0, 0, 100000)),
      passes_(config.integer("noise_passes", 1, 1, 100000)),
      buckets_(config.integer("buckets", 0, 0, 100000)),
      tokens_(config.flag("tokens", false)),
      token_options_{config.integer("walk_length", 0, 0, 10000), config.integer("walks", 1, 1, 10000),
                     config.integer("repeats", 1, 1, 10000),
                     static_cast<std::uint64_t>(config.integer("seed", 0, 0, INT64_MAX)),
                     static_cast<std::uint64_t>(config.integer("epoch", 0, 0, INT64_MAX))} {}

void GraphProcessor::run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
  Edges edges;
  std::int64_t largest = max_laplacian_nodes_;
  if (largest == 0) largest = inputs.has("graph") ? kLargestOfFile : kLargestDense;
  if (inputs.has("graph")) {
    const GraphFile file = read_graph(inputs["graph"].bytes(), limits_);
    emit_file(file, emit);
    edges = file.edges;
  } else {
    edges = given_edges(inputs);
  }
  std::uint64_t epoch = token_options_.epoch;
  if (inputs.has("graph.epoch")) {
    const auto given = inputs["graph.epoch"].data<std::int64_t>();
    if (given.size() != 1 || given[0] < 0) bad("graph.epoch: expected one whole number from 0");
    epoch = static_cast<std::uint64_t>(given[0]);
  }
  const std::int64_t nodes = edges.nodes();
  if (laplacian_ > 0) {
    check_size("laplacian", {nodes, laplacian_});
    LaplacianEncoding made = encode_laplacian(edges, static_cast<std::size_t>(laplacian_), largest);
    emit("eigvals", std::move(made.values), {nodes, laplacian_});
    emit("eigvecs", std::move(made.vectors), {nodes, laplacian_});
  }
  if (random_walk_ > 0) {
    check_size("random_walk", {nodes, random_walk_});
    emit("rwse", return_probabilities(edges, static_cast<std::size_t>(random_walk_)), {nodes, random_walk_});
  }
  if (order_ == "core") emit("order_key", core_numbers(edges), {nodes});
  if (order_ == "page_rank") emit("order_key", page_rank(edges), {nodes});
  if (layers_ > 0) emit_draws(edges, epoch, emit);
  if (tokens_) emit_tokens(edges, epoch, inputs.context(), emit);
}

void GraphProcessor::emit_features(std::string_view name, const std::vector<double>& values, std::int64_t rows,
                                   std::int64_t width, std::int64_t wanted, plugin::Emitter& emit) const {
  std::vector<double> ones;
  const std::vector<double>* source = &values;
  if (values.empty() && wanted > 0) {  // none in the file
    check_size(name == "x" ? "node_features" : "edge_features", {rows, wanted});
    ones.assign(static_cast<std::size_t>(rows * wanted), 1.0);
    source = &ones;
    width = wanted;
  }
  if (wanted > 0 && width != wanted && rows > 0) {
    bad(std::string(name) + ": expected " + std::to_string(wanted) + " numbers by row, got " + std::to_string(width));
  }
  if (wanted > 0) width = wanted;
  if (!categorical_) {
    std::vector<float> out(source->size());
    std::transform(source->begin(), source->end(), out.begin(), [](double v) { return static_cast<float>(v); });
    emit(name, std::move(out), {rows, width});
    return;
  }
  std::vector<std::int64_t> out;
  for (const double value : *source) {
    if (value != std::floor(value) || value < 0 || value > 1e9) {
      bad(std::string(name) + ": expected categories, whole numbers from 0, got " + std::to_string(value));
    }
    out.push_back(static_cast<std::int64_t>(value));
  }
  emit(name, std::move(out), {rows, width});
}

void GraphProcessor::emit_file(const GraphFile& file, plugin::Emitter& emit) const {
  const std::int64_t nodes = file.edges.nodes();
  const auto edges = static_cast<std::int64_t>(file.edges.source.size());
  emit_features("x", file.x, nodes, file.node_features, node_features_, emit);
  emit_features("edge_attr", file.edge_attr, edges, file.edge_features, edge_features_, emit);
  emit("edge_index", joined(file.edges.source, file.edges.target), {2, edges});
  emit("batch", std::vector<std::int64_t>(static_cast<std::size_t>(nodes), 0), {nodes});
  emit("ptr", std::vector<std::int64_t>{0, nodes}, {2});
}

void GraphProcessor::emit_draws(const Edges& edges, std::uint64_t epoch, plugin::Emitter& emit) const {
  check_size("noise", {layers_, passes_, edges.nodes()});
  std::vector<float> noise;
  std::vector<std::int64_t> buckets;
  for (std::int64_t layer = 0; layer < layers_; ++layer) {
    for (std::int64_t pass = 0; pass < passes_; ++pass) {
      for (std::size_t g = 0; g < edges.graphs(); ++g) {
        for (std::int64_t node = 0; node < edges.ptr[g + 1] - edges.ptr[g]; ++node) {
          const std::initializer_list<std::uint64_t> place = {
              static_cast<std::uint64_t>(layer), static_cast<std::uint64_t>(pass), static_cast<std::uint64_t>(node)};
          noise.push_back(Stream(token_options_.seed, epoch, Use::noise, place).uniform());
          if (buckets_ == 0) continue;
          Stream stream(token_options_.seed, epoch, Use::bucket, place);
          buckets.push_back(static_cast<std::int64_t>(stream.below(static_cast<std::uint64_t>(buckets_))));
        }
      }
    }
  }
  emit("noise", std::move(noise), {layers_, passes_, edges.nodes()});
  if (buckets_ > 0) emit("buckets", std::move(buckets), {layers_, passes_, edges.nodes()});
}

void GraphProcessor::emit_tokens(const Edges& edges, std::uint64_t epoch, const mambasdk_context& context,
                                 plugin::Emitter& emit) const {
  TokenOptions options = token_options_;
  options.epoch = epoch;
  Tokens made = tokenize(edges, options, context);
  const auto members = static_cast<std::int64_t>(made.members.size());
  const auto places = static_cast<std::int64_t>(made.edge.size());
  emit("members", std::move(made.members), {members});
  emit("member_tokens", std::move(made.member_tokens), {members});
  emit("token_edges", joined(joined(std::move(made.edge), made.edge_source), made.edge_target), {3, places});
}

}  // namespace mambasdk::graph
