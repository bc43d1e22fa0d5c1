// Eigenpairs of a symmetric matrix, smallest first; and the Laplacian encoding of graphs that is made of them.
#pragma once

#include <cstdint>
#include <vector>

#include "graph.hpp"

namespace mambasdk::graph {

inline constexpr std::int64_t kLargestDense = 3000;   // nodes of a graph whose Laplacian is decomposed: n^3 steps
inline constexpr std::int64_t kLargestOfFile = 1500;  // of a file, where nothing else is said: about a second

struct Eigenpairs {
  std::vector<double> values;   // (count), ascending
  std::vector<double> vectors;  // (count, n), of length 1
};

// The `count` smallest eigenpairs of the symmetric matrix (n, n), row-major, which is overwritten. By Householder
// reduction to a tridiagonal matrix and implicit QL (Golub and Van Loan, section 8.3); the component of a vector that
// is largest in magnitude is positive.
[[nodiscard]] Eigenpairs smallest_eigenpairs(std::vector<double>& matrix, std::size_t n, std::size_t count);

struct LaplacianEncoding {
  std::vector<float> values;   // (N, count), not below 0; NaN beyond the nodes of the graph
  std::vector<float> vectors;  // (N, count)
};

// Of D - A of each graph, where A is 1 between two nodes with an edge in any direction, and 0 on the diagonal. Throws
// Error (invalid_argument) for a graph of more than `largest` nodes, and where count times its nodes squared is beyond
// 2^31.
[[nodiscard]] LaplacianEncoding encode_laplacian(const Edges& edges, std::size_t count,
                                                 std::int64_t largest = kLargestDense);

// (N, steps): the chance that a random walk along outgoing edges is back after 1, 2, … steps; it ends where there are
// none. Throws Error (invalid_argument) where that takes more than 2^31 steps along edges, and 256 times (nodes +
// edges) for each step.
[[nodiscard]] std::vector<float> return_probabilities(const Edges& edges, std::size_t steps);

}  // namespace mambasdk::graph
