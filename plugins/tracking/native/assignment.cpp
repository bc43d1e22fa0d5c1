#include "assignment.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::tracking {

namespace {

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

// Complete assignment of the rows (no more than columns) by shortest augmenting paths with dual potentials (Jonker and
// Volgenant, Computing 38, 1987; rectangular form). weight(row, column) is finite. Returns each column's row.
template <class Weight>
std::vector<std::size_t> complete_assignment(std::size_t rows, std::size_t columns, std::uint64_t most_steps,
                                             const Weight& weight) {
  std::vector<double> row_potential(rows, 0.0);
  std::vector<double> column_potential(columns, 0.0);
  std::vector<std::size_t> row_of(columns, kNone);
  std::vector<double> distance(columns);
  std::vector<std::size_t> previous(columns);  // the column before this one on the path; kNone: the free row itself
  std::vector<char> done(columns);
  for (std::size_t free_row = 0; free_row < rows; ++free_row) {
    std::fill(distance.begin(), distance.end(), std::numeric_limits<double>::infinity());
    std::fill(previous.begin(), previous.end(), kNone);
    std::fill(done.begin(), done.end(), 0);
    std::size_t row = free_row;
    std::size_t column = kNone;
    double reached = 0.0;
    while (true) {  // Dijkstra on reduced costs until a free column is settled
      std::size_t nearest = kNone;
      if (columns > most_steps) {
        throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "tracker",
                    "tracker: " + std::to_string(rows) + " by " + std::to_string(columns) +
                        " boxes that all overlap take too long to match; filter detections by score, or suppress those "
                        "that cover each other, first");
      }
      most_steps -= columns;
      for (std::size_t j = 0; j < columns; ++j) {
        if (done[j] != 0) continue;
        const double through = reached + weight(row, j) - row_potential[row] - column_potential[j];
        if (through < distance[j]) {
          distance[j] = through;
          previous[j] = column;
        }
        if (nearest == kNone || distance[j] < distance[nearest]) nearest = j;
      }
      column = nearest;
      done[column] = 1;
      reached = distance[column];
      if (row_of[column] == kNone) break;
      row = row_of[column];
    }
    row_potential[free_row] += reached;
    for (std::size_t j = 0; j < columns; ++j) {
      if (done[j] == 0 || row_of[j] == kNone) continue;
      row_potential[row_of[j]] += reached - distance[j];
      column_potential[j] -= reached - distance[j];
    }
    while (column != kNone) {  // shift the rows along the path
      const std::size_t before = previous[column];
      row_of[column] = before == kNone ? free_row : row_of[before];
      column = before;
    }
  }
  return row_of;
}

}  // namespace

// An accepted pair saves its two halves of the limit, so its weight is cost - limit; a pair that saves nothing weighs
// nothing and stands for leaving both out. That is the padded problem of size rows + columns, without the padding.
std::vector<std::int64_t> assign(std::span<const double> cost, std::size_t rows, std::size_t columns, double limit,
                                 std::uint64_t most_steps) {
  std::vector<std::int64_t> column_of(rows, -1);
  if (rows == 0 || columns == 0) return column_of;
  const bool wide = rows <= columns;
  const auto pair_cost = [&](std::size_t i, std::size_t j) {
    return wide ? cost[i * columns + j] : cost[j * columns + i];
  };
  const auto weight = [&](std::size_t i, std::size_t j) {
    const double c = pair_cost(i, j);
    return std::isfinite(c) ? std::min(c - limit, 0.0) : 0.0;
  };
  const auto small_of = complete_assignment(std::min(rows, columns), std::max(rows, columns), most_steps, weight);
  for (std::size_t j = 0; j < small_of.size(); ++j) {
    const std::size_t i = small_of[j];
    if (i == kNone || !(pair_cost(i, j) <= limit) || !std::isfinite(pair_cost(i, j))) continue;
    column_of[wide ? i : j] = static_cast<std::int64_t>(wide ? j : i);
  }
  return column_of;
}

}  // namespace mambasdk::tracking
