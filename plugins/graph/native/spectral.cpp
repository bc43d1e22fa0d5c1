#include "spectral.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "mambasdk/base.hpp"

namespace mambasdk::graph {

namespace {

// A rotation in the plane of coordinates i and i + 1.
struct Rotation {
  std::size_t i;
  double cosine;
  double sine;
};

// Row i of a symmetric matrix, of which columns i to n are given, with v: their product is returned, and the products
// of the column below the diagonal go to `sums`. Several sums at once: one waits for each addition.
double row_product(const double* row, const double* v, std::size_t i, std::size_t n, double* sums) {
  constexpr std::size_t kLanes = 8;
  const double vi = v[i];
  double lanes[kLanes] = {};
  std::size_t j = i + 1;
  for (; j + kLanes <= n; j += kLanes) {
    for (std::size_t l = 0; l < kLanes; ++l) {
      lanes[l] += row[j + l] * v[j + l];
      sums[j + l] += row[j + l] * vi;
    }
  }
  double sum = row[i] * vi;
  for (; j < n; ++j) {
    sum += row[j] * v[j];
    sums[j] += row[j] * vi;
  }
  for (const double lane : lanes) sum += lane;
  return sum;
}

// Reduces the matrix to diagonal d (n) and off-diagonal e (n - 1) by reflections I - beta v v^T; row k of the matrix
// then holds v from column k + 1 on, and beta (n) its factor.
void tridiagonalize(std::vector<double>& a, std::size_t n, std::vector<double>& d, std::vector<double>& e,
                    std::vector<double>& beta) {
  std::vector<double> p(n);
  for (std::size_t k = 0; k + 1 < n; ++k) {
    double* v = &a[k * n];
    d[k] = v[k];
    double norm = 0.0;
    for (std::size_t j = k + 1; j < n; ++j) norm += v[j] * v[j];
    norm = std::sqrt(norm);
    if (norm == 0.0 || k + 2 == n) {
      e[k] = v[k + 1];
      continue;
    }
    e[k] = v[k + 1] > 0.0 ? -norm : norm;
    v[k + 1] -= e[k];
    double square = 0.0;
    for (std::size_t j = k + 1; j < n; ++j) square += v[j] * v[j];
    if (square == 0.0) continue;
    beta[k] = 2.0 / square;
    // Of the symmetric rest only the upper half is read and kept.
    std::fill(p.begin() + static_cast<std::ptrdiff_t>(k) + 1, p.end(), 0.0);
    for (std::size_t i = k + 1; i < n; ++i) p[i] += row_product(&a[i * n], v, i, n, p.data());
    double along = 0.0;
    for (std::size_t i = k + 1; i < n; ++i) {
      p[i] *= beta[k];
      along += v[i] * p[i];
    }
    const double half = 0.5 * beta[k] * along;
    for (std::size_t i = k + 1; i < n; ++i) p[i] -= half * v[i];
    for (std::size_t i = k + 1; i < n; ++i) {
      double* row = &a[i * n];
      const double vi = v[i];
      const double pi = p[i];
      for (std::size_t j = i; j < n; ++j) row[j] -= vi * p[j] + pi * v[j];
    }
  }
  if (n > 0) d[n - 1] = a[n * n - 1];
}

// Implicit QL with Wilkinson's shift: d becomes the eigenvalues, unsorted; the rotations, in order, turn the identity
// into the eigenvectors of the tridiagonal matrix.
std::vector<Rotation> diagonalize(std::vector<double>& d, std::vector<double>& e) {
  constexpr int kMaxSweeps = 60;
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  std::vector<Rotation> rotations;
  const std::size_t n = d.size();
  for (std::size_t first = 0; first < n; ++first) {
    for (int sweep = 0;; ++sweep) {
      std::size_t last = first;
      while (last + 1 < n && std::abs(e[last]) > kEpsilon * (std::abs(d[last]) + std::abs(d[last + 1]))) ++last;
      if (last == first) break;
      if (sweep == kMaxSweeps) {
        throw Error(MAMBASDK_ERROR_INTERNAL, "graph", "graph: the eigenvalues of its Laplacian do not converge");
      }
      const double ratio = (d[first + 1] - d[first]) / (2.0 * e[first]);
      double bulge = d[last] - d[first] + e[first] / (ratio + std::copysign(std::hypot(ratio, 1.0), ratio));
      double sine = 1.0;
      double cosine = 1.0;
      double shift = 0.0;
      bool split = false;
      for (std::size_t i = last; i-- > first;) {
        const double turned = sine * e[i];
        const double kept = cosine * e[i];
        const double radius = std::hypot(turned, bulge);
        e[i + 1] = radius;
        if (radius == 0.0) {  // the matrix has come apart
          d[i + 1] -= shift;
          e[last] = 0.0;
          split = true;
          break;
        }
        sine = turned / radius;
        cosine = bulge / radius;
        const double corner = d[i + 1] - shift;
        const double change = (d[i] - corner) * sine + 2.0 * cosine * kept;
        shift = sine * change;
        d[i + 1] = corner + shift;
        bulge = cosine * change - kept;
        rotations.push_back({i, cosine, sine});
      }
      if (split) continue;
      d[first] -= shift;
      e[first] = bulge;
      e[last] = 0.0;
    }
  }
  return rotations;
}

// Steps along edges of all walks: so many in any case, and so many for each node and edge and step.
constexpr std::uint64_t kWalkWork = std::uint64_t{1} << 31;
constexpr std::uint64_t kWalkWorkOfEdge = 256;

// Eigenvectors times nodes squared: what turning the unit vectors back costs.
constexpr std::uint64_t kMostEigenvectors = std::uint64_t{1} << 31;

std::uint64_t square(std::int64_t size) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1) * std::max<std::int64_t>(size, 1));
}

}  // namespace

// Of the eigenvectors Q R_1 R_2 … only the wanted columns are made: the rotations go onto unit vectors, last one first.
Eigenpairs smallest_eigenpairs(std::vector<double>& matrix, std::size_t n, std::size_t count) {
  std::vector<double> d(n);
  std::vector<double> e(n, 0.0);
  std::vector<double> beta(n, 0.0);
  tridiagonalize(matrix, n, d, e, beta);
  const std::vector<Rotation> rotations = diagonalize(d, e);
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return d[i] < d[j]; });
  count = std::min(count, n);
  Eigenpairs found{std::vector<double>(count), std::vector<double>(count * n, 0.0)};
  for (std::size_t c = 0; c < count; ++c) {
    found.values[c] = d[order[c]];
    double* z = &found.vectors[c * n];
    z[order[c]] = 1.0;
    for (std::size_t r = rotations.size(); r-- > 0;) {
      const auto [i, cosine, sine] = rotations[r];
      const double low = z[i];
      z[i] = cosine * low + sine * z[i + 1];
      z[i + 1] = cosine * z[i + 1] - sine * low;
    }
    for (std::size_t k = n; k-- > 0;) {
      if (beta[k] == 0.0) continue;
      const double* v = &matrix[k * n];
      double along = 0.0;
      for (std::size_t j = k + 1; j < n; ++j) along += v[j] * z[j];
      for (std::size_t j = k + 1; j < n; ++j) z[j] -= beta[k] * along * v[j];
    }
    // Components that are equal but for rounding count as equal: the first of them decides.
    double largest = 0.0;
    for (std::size_t j = 0; j < n; ++j) largest = std::max(largest, std::abs(z[j]));
    const double* decides = std::find_if(z, z + n, [&](double value) { return std::abs(value) > 0.999999 * largest; });
    if (decides != z + n && *decides < 0.0) std::transform(z, z + n, z, std::negate<>());
  }
  return found;
}

LaplacianEncoding encode_laplacian(const Edges& edges, std::size_t count, std::int64_t largest) {
  const float none = std::numeric_limits<float>::quiet_NaN();
  const auto nodes = static_cast<std::size_t>(edges.nodes());
  LaplacianEncoding out{std::vector<float>(nodes * count, none), std::vector<float>(nodes * count, none)};
  const Outgoing outgoing(edges);
  for (std::size_t g = 0; g < edges.graphs(); ++g) {
    const std::int64_t begin = edges.ptr[g];
    const std::int64_t size = edges.ptr[g + 1] - begin;
    if (size > largest) {
      throw Error(
          MAMBASDK_ERROR_INVALID_ARGUMENT, "graph",
          "graph: its " + std::to_string(size) + " nodes are too many for the Laplacian encoding, expected " +
              std::to_string(largest) + " or fewer; use random_walk, or a model without it" +
              (largest < kLargestDense ? ", or raise max_laplacian_nodes, to at most " + std::to_string(kLargestDense)
                                       : ""));
    }
    if (std::min<std::size_t>(count, static_cast<std::size_t>(size)) > kMostEigenvectors / square(size)) {
      throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "graph",
                  "graph: " + std::to_string(count) + " eigenvectors of " + std::to_string(size) +
                      " nodes take too long; lower laplacian");
    }
    const auto n = static_cast<std::size_t>(size);
    std::vector<double> laplacian(n * n, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      for (const std::int64_t e : outgoing.of(begin + static_cast<std::int64_t>(i))) {
        const auto j = static_cast<std::size_t>(edges.target[static_cast<std::size_t>(e)] - begin);
        if (i != j) laplacian[i * n + j] = laplacian[j * n + i] = -1.0;
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      const auto row = laplacian.begin() + static_cast<std::ptrdiff_t>(i * n);
      laplacian[i * n + i] = -std::accumulate(row, row + static_cast<std::ptrdiff_t>(n), 0.0);
    }
    const Eigenpairs pairs = smallest_eigenpairs(laplacian, n, count);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t row = (static_cast<std::size_t>(begin) + i) * count;
      for (std::size_t c = 0; c < pairs.values.size(); ++c) {
        out.values[row + c] = static_cast<float>(std::max(pairs.values[c], 0.0));
        out.vectors[row + c] = static_cast<float>(pairs.vectors[c * n + i]);
      }
    }
  }
  return out;
}

std::vector<float> return_probabilities(const Edges& edges, std::size_t steps) {
  const auto nodes = static_cast<std::size_t>(edges.nodes());
  const Outgoing outgoing(edges);
  std::vector<float> out(nodes * steps, 0.0F);
  std::vector<double> now(nodes, 0.0);
  std::vector<double> next(nodes, 0.0);
  std::vector<char> listed(nodes, 0);  // in reached_next; a chance may be so small that it counts as 0
  std::vector<std::size_t> reached;
  std::vector<std::size_t> reached_next;
  std::uint64_t work = std::max(kWalkWork, kWalkWorkOfEdge * steps * (nodes + edges.source.size()));
  for (std::size_t start = 0; start < nodes; ++start) {
    reached.assign(1, start);
    now[start] = 1.0;
    for (std::size_t step = 0; step < steps; ++step) {
      reached_next.clear();
      for (const std::size_t node : reached) {
        const auto edges_out = outgoing.of(static_cast<std::int64_t>(node));
        if (edges_out.size() + 1 > work) {
          throw Error(MAMBASDK_ERROR_INVALID_ARGUMENT, "graph",
                      "graph: return probabilities over " + std::to_string(steps) + " steps of " +
                          std::to_string(nodes) + " nodes take too long; lower random_walk, or cut the graph");
        }
        work -= edges_out.size() + 1;
        const double share = edges_out.empty() ? 0.0 : now[node] / static_cast<double>(edges_out.size());
        for (const std::int64_t e : edges_out) {
          const auto to = static_cast<std::size_t>(edges.target[static_cast<std::size_t>(e)]);
          if (listed[to] == 0) reached_next.push_back(to);
          listed[to] = 1;
          next[to] += share;
        }
        now[node] = 0.0;
      }
      for (const std::size_t node : reached_next) listed[node] = 0;
      std::swap(now, next);
      std::swap(reached, reached_next);
      out[start * steps + step] = static_cast<float>(now[start]);
    }
    for (const std::size_t node : reached) now[node] = 0.0;
  }
  return out;
}

}  // namespace mambasdk::graph
