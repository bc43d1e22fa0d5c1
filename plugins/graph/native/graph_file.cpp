#include "graph_file.hpp"

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::graph {

namespace {

using nlohmann::json;

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
    std::string got = value.dump(-1, ' ', true, json::error_handler_t::replace);
    if (got.size() > 40) got = got.substr(0, 40) + "…";
    corrupt(where + ": expected a whole number from 0 to " + std::to_string(below - 1) + ", got " + got);
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
      if (!value.is_number() || !std::isfinite(value.get<double>())) corrupt(where + ": expected finite numbers");
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

}  // namespace

GraphFile read_graph(std::string_view text, const FileLimits& limits) {
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (root.is_discarded()) corrupt("the file is no JSON");
  if (!root.is_object()) corrupt("expected a JSON object with num_nodes or x, and edges");
  GraphFile file;
  const json* x = array(root, "x");
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
  file.edges.ptr = {0, nodes};
  if (x != nullptr) file.node_features = read_rows(*x, "x", file.x);

  const json* directed = member(root, "directed");
  if (directed != nullptr && !directed->is_boolean()) corrupt("directed: expected true or false");
  const bool both_ways = directed == nullptr || !directed->get<bool>();
  const json* edges = array(root, "edges");
  const json* attributes = array(root, "edge_attr");
  const std::size_t listed = edges == nullptr ? 0 : edges->size();
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
    const json& pair = (*edges)[e];
    const std::string where = "edges: row " + std::to_string(e);
    if (!pair.is_array() || pair.size() != 2) corrupt(where + ": expected [source, target]");
    const std::int64_t from = whole(pair[0], where, nodes);
    const std::int64_t to = whole(pair[1], where, nodes);
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
