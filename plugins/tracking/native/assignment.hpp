// Linear assignment with a limit on the cost of a pair.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mambasdk::tracking {

// Of the partial matchings between rows and columns of cost (rows, columns), row-major, one that minimises the sum of
// the pairs' costs plus limit / 2 for every unmatched row and column: exact, by shortest augmenting paths. No pair
// costs more than the limit; costs that are not finite forbid the pair. Ties go to lower indices. Returns the column of
// each row, -1 for none. most_steps: looks at a cost; the least sum may take min(rows, columns)^2 * max(rows, columns)
// of them, boxes that mostly stand apart take a few of each. Throws Error (invalid_argument) beyond.
[[nodiscard]] std::vector<std::int64_t> assign(std::span<const double> cost, std::size_t rows, std::size_t columns,
                                               double limit, std::uint64_t most_steps = UINT64_MAX);

}  // namespace mambasdk::tracking
