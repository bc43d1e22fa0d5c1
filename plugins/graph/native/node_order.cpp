#include "node_order.hpp"

#include <algorithm>
#include <set>
#include <utility>

namespace mambasdk::graph {

std::vector<float> core_numbers(const Edges& edges) {
  const auto nodes = static_cast<std::size_t>(edges.nodes());
  std::vector<std::vector<std::size_t>> neighbours(nodes);
  for (std::size_t e = 0; e < edges.source.size(); ++e) {
    const auto a = static_cast<std::size_t>(edges.source[e]);
    const auto b = static_cast<std::size_t>(edges.target[e]);
    if (a == b) continue;
    neighbours[a].push_back(b);
    neighbours[b].push_back(a);
  }
  std::set<std::pair<std::size_t, std::size_t>> left;  // (degree among those left, node)
  std::vector<std::size_t> degree(nodes);
  for (std::size_t v = 0; v < nodes; ++v) {
    auto& list = neighbours[v];
    std::sort(list.begin(), list.end());
    list.erase(std::unique(list.begin(), list.end()), list.end());
    degree[v] = list.size();
    left.emplace(degree[v], v);
  }
  std::vector<float> core(nodes);
  std::size_t level = 0;
  std::vector<char> removed(nodes, 0);
  while (!left.empty()) {
    const auto [least, v] = *left.begin();
    left.erase(left.begin());
    level = std::max(level, least);
    core[v] = static_cast<float>(level);
    removed[v] = 1;
    for (const std::size_t w : neighbours[v]) {
      if (removed[w] != 0) continue;
      left.erase({degree[w], w});
      left.emplace(--degree[w], w);
    }
  }
  return core;
}

std::vector<float> page_rank(const Edges& edges) {
  constexpr double kGoOn = 0.85;
  constexpr int kSteps = 100;  // 0.85^100 is 1e-7
  const auto nodes = static_cast<std::size_t>(edges.nodes());
  const Outgoing outgoing(edges);
  std::vector<double> rank(nodes, 0.0);
  std::vector<double> next(nodes, 0.0);
  for (std::size_t g = 0; g < edges.graphs(); ++g) {
    const auto begin = static_cast<std::size_t>(edges.ptr[g]);
    const auto end = static_cast<std::size_t>(edges.ptr[g + 1]);
    const double even = begin == end ? 0.0 : 1.0 / static_cast<double>(end - begin);
    for (std::size_t v = begin; v < end; ++v) rank[v] = even;
    for (int step = 0; step < kSteps; ++step) {
      double lost = 0.0;
      for (std::size_t v = begin; v < end; ++v) next[v] = 0.0;
      for (std::size_t v = begin; v < end; ++v) {
        const auto edges_out = outgoing.of(static_cast<std::int64_t>(v));
        if (edges_out.empty()) lost += rank[v];
        const double share = edges_out.empty() ? 0.0 : rank[v] / static_cast<double>(edges_out.size());
        for (const std::int64_t e : edges_out) {
          next[static_cast<std::size_t>(edges.target[static_cast<std::size_t>(e)])] += share;
        }
      }
      for (std::size_t v = begin; v < end; ++v) rank[v] = (1.0 - kGoOn) * even + kGoOn * (next[v] + lost * even);
    }
  }
  std::vector<float> out(nodes);
  std::transform(rank.begin(), rank.end(), out.begin(), [](double r) { return static_cast<float>(r); });
  return out;
}

}  // namespace mambasdk::graph
