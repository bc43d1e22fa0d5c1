#include "tokens.hpp"

#include <algorithm>
#include <span>
#include <string>

#include "stream.hpp"

namespace mambasdk::graph {

namespace {

constexpr std::uint64_t kMaxWalkSteps = std::uint64_t{1} << 31;  // of all walks
constexpr std::uint64_t kMaxWork = std::uint64_t{1} << 32;       // looks at edges, of all tokens
constexpr std::uint64_t kMaxMembers = std::uint64_t{1} << 27;    // nodes, and edges, of all tokens

[[noreturn]] void too_much(const char* what) {
  plugin::invalid(std::string("graph: the tokens' ") + what +
                  " are too many; lower walk_length, walks or repeats, or cut the graph");
}

// Tokens of a run of nodes; places in members count from the run's first.
struct Part {
  Tokens tokens;
  bool failed = false;
  bool too_large = false;
};

// The edges of each node by their target, equal ones in order.
std::vector<std::int64_t> sorted_by_target(const Edges& edges, const Outgoing& outgoing) {
  std::vector<std::int64_t> sorted = outgoing.edge;
  const auto target = [&](std::int64_t e) { return edges.target[static_cast<std::size_t>(e)]; };
  for (std::size_t node = 0; node + 1 < outgoing.first.size(); ++node) {
    std::stable_sort(sorted.begin() + outgoing.first[node], sorted.begin() + outgoing.first[node + 1],
                     [&](std::int64_t a, std::int64_t b) { return target(a) < target(b); });
  }
  return sorted;
}

class Tokenizer {
 public:
  Tokenizer(const Edges& edges, const Outgoing& outgoing, std::span<const std::int64_t> sorted,
            const TokenOptions& options, std::uint64_t work)
      : edges_(edges),
        outgoing_(outgoing),
        sorted_(sorted),
        options_(options),
        place_(static_cast<std::size_t>(edges.nodes()), -1),
        work_(work) {}

  // The tokens of a node; local: its number within its graph. False where they take too much work.
  [[nodiscard]] bool add(std::int64_t node, std::int64_t local, Tokens& out) {
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
        if (!induce(token++, out)) return false;
      }
    }
    return true;
  }

 private:
  // Appends the visited nodes and the edges among them.
  [[nodiscard]] bool induce(std::int64_t token, Tokens& out) {
    std::sort(visited_.begin(), visited_.end());
    visited_.erase(std::unique(visited_.begin(), visited_.end()), visited_.end());
    for (const std::int64_t node : visited_) {
      place_[static_cast<std::size_t>(node)] = static_cast<std::int64_t>(out.members.size());
      out.members.push_back(node);
      out.member_tokens.push_back(token);
    }
    for (const std::int64_t node : visited_) {
      const auto edges_out = edges_within(node);
      const std::uint64_t work = edges_out.size() + visited_.size() + 1;
      if (work > work_) return false;
      work_ -= work;
      for (const std::int64_t e : edges_out) {
        const std::int64_t place = place_[static_cast<std::size_t>(edges_.target[static_cast<std::size_t>(e)])];
        if (place < 0) continue;
        out.edge.push_back(e);
        out.edge_source.push_back(place_[static_cast<std::size_t>(node)]);
        out.edge_target.push_back(place);
      }
    }
    for (const std::int64_t node : visited_) place_[static_cast<std::size_t>(node)] = -1;
    return true;
  }

  // Edges of the node in their order, all that end in the token among them. Those of a hub are looked up.
  std::span<const std::int64_t> edges_within(std::int64_t node) {
    constexpr std::size_t kHub = 32;  // a look-up instead of so many looks
    const auto all = outgoing_.of(node);
    if (all.size() <= kHub * visited_.size()) return all;
    const auto begin = sorted_.begin() + outgoing_.first[static_cast<std::size_t>(node)];
    const auto end = begin + static_cast<std::ptrdiff_t>(all.size());
    const auto target = [&](std::int64_t e) { return edges_.target[static_cast<std::size_t>(e)]; };
    found_.clear();
    for (const std::int64_t other : visited_) {
      auto e = std::lower_bound(begin, end, other, [&](std::int64_t a, std::int64_t b) { return target(a) < b; });
      for (; e != end && target(*e) == other; ++e) found_.push_back(*e);
    }
    std::sort(found_.begin(), found_.end());
    return found_;
  }

  const Edges& edges_;
  const Outgoing& outgoing_;
  std::span<const std::int64_t> sorted_;
  const TokenOptions& options_;
  std::vector<std::int64_t> place_;  // (N) of the token at hand; -1 for nodes outside it
  std::vector<std::int64_t> visited_;
  std::vector<std::int64_t> found_;
  std::uint64_t work_;  // that is left
};

// A node has walks of 0 to m steps, `walks` of each, `repeats` times; a token has a member more than steps at most.
void check_walks(std::int64_t nodes, const TokenOptions& options) {
  const auto most = static_cast<double>(nodes) * static_cast<double>(options.repeats);
  const auto length = static_cast<double>(options.walk_length);
  const double steps = most * static_cast<double>(options.walks) * length * (length + 1.0) / 2.0;
  if (steps > static_cast<double>(kMaxWalkSteps)) too_much("walks");
  if (most * (length + 1.0) + std::min(steps, most * (length + 1.0) * static_cast<double>(nodes)) >
      static_cast<double>(kMaxMembers)) {
    too_much("members");
  }
}

void append(std::vector<std::int64_t>& to, const std::vector<std::int64_t>& from, std::int64_t shift) {
  for (const std::int64_t value : from) to.push_back(value + shift);
}

}  // namespace

Tokens tokenize(const Edges& edges, const TokenOptions& options, const mambasdk_context& context) {
  const std::int64_t nodes = edges.nodes();
  check_walks(nodes, options);
  const Outgoing outgoing(edges);
  const std::vector<std::int64_t> sorted = sorted_by_target(edges, outgoing);
  // Runs of nodes of one length, whatever the threads: each run is worked on by one.
  const std::int64_t run = std::max<std::int64_t>(256, (nodes + 63) / 64);
  std::vector<Part> parts(static_cast<std::size_t>((nodes + run - 1) / run));
  plugin::parallel_for(context, static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t p = begin; p < end; ++p) {
      Part& part = parts[static_cast<std::size_t>(p)];
      try {
        Tokenizer tokenizer(edges, outgoing, sorted, options, kMaxWork / parts.size());
        std::size_t graph = 0;
        for (std::int64_t node = p * run; node < std::min(nodes, (p + 1) * run); ++node) {
          while (edges.ptr[graph + 1] <= node) ++graph;
          part.too_large = !tokenizer.add(node, node - edges.ptr[graph], part.tokens) ||
                           part.tokens.edge.size() > kMaxMembers / parts.size();
          if (part.too_large) break;
        }
      } catch (...) {
        part.failed = true;  // memory is all that can be missing
      }
    }
  });
  Tokens all;
  for (const Part& part : parts) {
    if (part.failed) throw std::bad_alloc();
    if (part.too_large) too_much("edges");
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
