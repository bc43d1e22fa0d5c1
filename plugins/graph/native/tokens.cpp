#include "tokens.hpp"

#include <algorithm>

#include "stream.hpp"

namespace mambasdk::graph {

namespace {

// Tokens of a run of nodes; places in members count from the run's first.
struct Part {
  Tokens tokens;
  bool failed = false;
};

class Tokenizer {
 public:
  Tokenizer(const Edges& edges, const Outgoing& outgoing, const TokenOptions& options)
      : edges_(edges), outgoing_(outgoing), options_(options), place_(static_cast<std::size_t>(edges.nodes()), -1) {}

  // The tokens of a node; local: its number within its graph.
  void add(std::int64_t node, std::int64_t local, Tokens& out) {
    const auto u = [](std::int64_t value) { return static_cast<std::uint64_t>(value); };
    std::int64_t token = node * options_.per_node();
    for (std::int64_t hop = options_.walk_length; hop >= 0; --hop) {
      for (std::int64_t repeat = 0; repeat < options_.repeats; ++repeat) {
        visited_.assign(1, node);
        for (std::int64_t walk = 0; walk < options_.walks && hop > 0; ++walk) {
          Stream stream(options_.seed, options_.epoch, Use::walk, {u(local), u(hop), u(repeat), u(walk)});
          std::int64_t at = node;
          for (std::int64_t step = 0; step < hop; ++step) {
            const auto next = outgoing_.of(at);
            if (next.empty()) break;
            at = edges_.target[static_cast<std::size_t>(next[stream.below(next.size())])];
            visited_.push_back(at);
          }
        }
        induce(token++, out);
      }
    }
  }

 private:
  // Appends the visited nodes and the edges among them.
  void induce(std::int64_t token, Tokens& out) {
    std::sort(visited_.begin(), visited_.end());
    visited_.erase(std::unique(visited_.begin(), visited_.end()), visited_.end());
    for (const std::int64_t node : visited_) {
      place_[static_cast<std::size_t>(node)] = static_cast<std::int64_t>(out.members.size());
      out.members.push_back(node);
      out.member_tokens.push_back(token);
    }
    for (const std::int64_t node : visited_) {
      for (const std::int64_t e : outgoing_.of(node)) {
        const std::int64_t place = place_[static_cast<std::size_t>(edges_.target[static_cast<std::size_t>(e)])];
        if (place < 0) continue;
        out.edge.push_back(e);
        out.edge_source.push_back(place_[static_cast<std::size_t>(node)]);
        out.edge_target.push_back(place);
      }
    }
    for (const std::int64_t node : visited_) place_[static_cast<std::size_t>(node)] = -1;
  }

  const Edges& edges_;
  const Outgoing& outgoing_;
  const TokenOptions& options_;
  std::vector<std::int64_t> place_;  // (N) of the token at hand; -1 for nodes outside it
  std::vector<std::int64_t> visited_;
};

void append(std::vector<std::int64_t>& to, const std::vector<std::int64_t>& from, std::int64_t shift) {
  for (const std::int64_t value : from) to.push_back(value + shift);
}

}  // namespace

Tokens tokenize(const Edges& edges, const TokenOptions& options, const mambasdk_context& context) {
  const Outgoing outgoing(edges);
  const std::int64_t nodes = edges.nodes();
  // Runs of nodes of one length, whatever the threads: each run is worked on by one.
  const std::int64_t run = std::max<std::int64_t>(256, (nodes + 63) / 64);
  std::vector<Part> parts(static_cast<std::size_t>((nodes + run - 1) / run));
  plugin::parallel_for(context, static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      Part& part = parts[static_cast<std::size_t>(p)];
      try {
        Tokenizer tokenizer(edges, outgoing, options);
        std::size_t graph = 0;
        for (std::int64_t node = p * run; node < std::min(nodes, (p + 1) * run); ++node) {
          while (edges.ptr[graph + 1] <= node) ++graph;
          tokenizer.add(node, node - edges.ptr[graph], part.tokens);
        }
      } catch (...) {
        part.failed = true;  // memory is all that can be missing
      }
    }
  });
  Tokens all;
  for (const Part& part : parts) {
    if (part.failed) throw std::bad_alloc();
    const auto shift = static_cast<std::int64_t>(all.members.size());
    append(all.members, part.tokens.members, 0);
    append(all.member_tokens, part.tokens.member_tokens, 0);
    append(all.edge, part.tokens.edge, 0);
    append(all.edge_source, part.tokens.edge_source, shift);
    append(all.edge_target, part.tokens.edge_target, shift);
  }
  return all;
}

}  // namespace mambasdk::graph
