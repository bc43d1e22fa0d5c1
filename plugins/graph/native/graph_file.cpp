#include "graph_file.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "mambasdk/base.hpp"
#include "mambasdk/plugin/json.hpp"

namespace mambasdk::graph {

namespace {

using nlohmann::json;

// x, edges and edge_attr are lists of lists; y may be one of lists too.
constexpr plugin::JsonLimits kLimits{
    .max_bytes = std::size_t{256} << 20, .max_depth = 8, .max_values = std::size_t{64} << 20};
constexpr std::string_view kKeys[] = {"num_nodes", "x", "edges", "edge_index", "edge_attr",
                                      "directed",  "y", "split", "name"};

[[noreturn]] void corrupt(const std::string& message) {
  throw Error(MAMBASDK_ERROR_CORRUPT, "graph", "graph: " + message);
}

[[noreturn]] void too_large(const std::string& message) {
  throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "graph", "graph: " + message);
}

const json* member(const json& root, const char* name) {
  const auto found = root.find(name);
  return found == root.end() || found->is_null() ? nullptr : &*found;
}

std::int64_t whole(const json& value, const std::string& where, std::int64_t below) {
  const bool fits =
      value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
  if (!fits || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() >= below) {
    corrupt(where + ": expected a whole number from 0 to " + std::to_string(below - 1) + ", got " +
            plugin::quoted(value));
  }
  return value.get<std::int64_t>();
}

// Rows of finite numbers, all of one length, which is returned; a number stands for a row of one.
std::int64_t read_rows(const json& rows, const char* name, std::vector<double>& out) {
  std::int64_t width = -1;
  std::size_t index = 0;
  for (const json& row : rows) {
    const std::string where = std::string(name) + ": row " + std::to_string(index++);
    const std::size_t length = row.is_array() ? row.size() : 1;
    if (width >= 0 && static_cast<std::int64_t>(length) != width) {
      corrupt(where + ": expected " + std::to_string(width) + " numbers as before, got " + std::to_string(length));
    }
    width = static_cast<std::int64_t>(length);
    for (std::size_t i = 0; i < length; ++i) {
      const json& value = row.is_array() ? row[i] : row;
      if (!value.is_number() || !(std::abs(value.get<double>()) <= std::numeric_limits<float>::max())) {
        corrupt(where + ": expected finite numbers that float32 holds, got " + plugin::quoted(value));
      }
      out.push_back(value.get<double>());
    }
  }
  return width < 0 ? 0 : width;
}

const json* array(const json& root, const char* name) {
  const json* found = member(root, name);
  if (found != nullptr && !found->is_array()) corrupt(std::string(name) + ": expected a list");
  return found;
}

void check_keys(const json& root) {
  for (const auto& [key, unused] : root.items()) {
    if (std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys)) continue;
    std::string names;
    for (const std::string_view known : kKeys) names += (names.empty() ? "" : ", ") + std::string(known);
    corrupt("the key \"" + plugin::quoted(std::string_view(key)) + "\" is unknown; there are " + names);
  }
}

std::int64_t count_nodes(const json& root, const json* x, std::size_t bytes, const FileLimits& limits) {
  const json* count = member(root, "num_nodes");
  if (x == nullptr && count == nullptr) corrupt("neither num_nodes nor x says how many nodes there are");
  std::int64_t nodes = x != nullptr ? static_cast<std::int64_t>(x->size()) : 0;
  if (count != nullptr) {
    const std::int64_t said = whole(*count, "num_nodes", std::int64_t{1} << 60);
    if (x != nullptr && said != nodes) {
      corrupt("num_nodes is " + std::to_string(said) + ", x has " + std::to_string(nodes) + " rows");
    }
    nodes = said;
  }
  if (nodes > limits.nodes) {
    too_large(std::to_string(nodes) + " nodes are more than " + std::to_string(limits.nodes) + "; raise max_nodes");
  }
  const std::int64_t most = std::max(kNodesAlways, kNodesOfByte * static_cast<std::int64_t>(bytes));
  if (x == nullptr && nodes > most) {
    too_large("num_nodes: " + std::to_string(nodes) + " nodes without features in a file of " + std::to_string(bytes) +
              " bytes, expected at most " + std::to_string(most) + "; give x");
  }
  return nodes;
}

// Ends of the listed edges, from "edges" or "edge_index".
struct Listed {
  const json* pairs = nullptr;    // [source, target] each
  const json* sources = nullptr;  // or sources and targets by themselves
  const json* targets = nullptr;
  [[nodiscard]] std::size_t size() const {
    return pairs != nullptr ? pairs->size() : sources != nullptr ? sources->size() : 0;
  }
};

Listed listed_edges(const json& root) {
  Listed out;
  out.pairs = array(root, "edges");
  const json* index = array(root, "edge_index");
  if (index == nullptr) return out;
  if (out.pairs != nullptr) corrupt("edges and edge_index are both there; give one of them");
  const bool two = index->size() == 2 && (*index)[0].is_array() && (*index)[1].is_array();
  if (!two || (*index)[0].size() != (*index)[1].size()) {
    corrupt("edge_index: expected two lists of one length, sources and targets");
  }
  out.sources = &(*index)[0];
  out.targets = &(*index)[1];
  return out;
}

}  // namespace

GraphFile read_graph(std::string_view text, const FileLimits& limits) {
  plugin::JsonDocument document;
  if (const auto fault = plugin::read_json(text, kLimits, document)) {
    corrupt("the file is no JSON that can be read: byte " + std::to_string(fault->at) + ": " + fault->reason);
  }
  const json& root = *document;
  if (!root.is_object()) corrupt("expected a JSON object with num_nodes or x, and edges");
  check_keys(root);
  GraphFile file;
  const json* x = array(root, "x");
  const std::int64_t nodes = count_nodes(root, x, text.size(), limits);
  file.edges.ptr = {0, nodes};
  if (x != nullptr) file.node_features = read_rows(*x, "x", file.x);

  const Listed edges = listed_edges(root);
  const json* directed = member(root, "directed");
  if (directed != nullptr && !directed->is_boolean()) corrupt("directed: expected true or false");
  if (edges.sources != nullptr && directed != nullptr && !directed->get<bool>()) {
    corrupt("directed: edge_index lists both directions of an undirected edge; leave directed out, or list edges");
  }
  const bool both_ways = edges.sources == nullptr && (directed == nullptr || !directed->get<bool>());
  const json* attributes = array(root, "edge_attr");
  const std::size_t listed = edges.size();
  if (listed * (both_ways ? 2 : 1) > static_cast<std::uint64_t>(limits.edges)) {
    too_large(std::to_string(listed) + (both_ways ? " undirected" : "") + " edges are more than " +
              std::to_string(limits.edges) + " directed ones; raise max_edges");
  }
  if (attributes != nullptr && attributes->size() != listed) {
    corrupt("edge_attr has " + std::to_string(attributes->size()) + " rows for " + std::to_string(listed) + " edges");
  }
  std::vector<double> rows;
  if (attributes != nullptr) file.edge_features = read_rows(*attributes, "edge_attr", rows);
  const auto width = static_cast<std::size_t>(file.edge_features);
  for (std::size_t e = 0; e < listed; ++e) {
    const std::string where = (edges.sources != nullptr ? "edge_index: edge " : "edges: row ") + std::to_string(e);
    const json* from_end = nullptr;
    const json* to_end = nullptr;
    if (edges.sources != nullptr) {
      from_end = &(*edges.sources)[e];
      to_end = &(*edges.targets)[e];
    } else {
      const json& pair = (*edges.pairs)[e];
      if (!pair.is_array() || pair.size() != 2) corrupt(where + ": expected [source, target]");
      from_end = &pair[0];
      to_end = &pair[1];
    }
    const std::int64_t from = whole(*from_end, where, nodes);
    const std::int64_t to = whole(*to_end, where, nodes);
    for (int way = 0; way < (both_ways && from != to ? 2 : 1); ++way) {
      file.edges.source.push_back(way == 0 ? from : to);
      file.edges.target.push_back(way == 0 ? to : from);
      const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(e * width);
      file.edge_attr.insert(file.edge_attr.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
    }
  }
  return file;
}

}  // namespace mambasdk::graph
