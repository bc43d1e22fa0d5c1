#include "spacing.hpp"

#include <algorithm>
#include <cmath>

namespace mambasdk::medical {

int separate_axis(const Spacing& current, const Spacing& target, double threshold) {
  const auto anisotropic = [&](const Spacing& s) {
    return *std::max_element(s.begin(), s.end()) / *std::min_element(s.begin(), s.end()) > threshold;
  };
  if (!anisotropic(current) && !anisotropic(target)) return -1;
  const Spacing& chosen = anisotropic(current) ? current : target;
  const auto largest = std::max_element(chosen.begin(), chosen.end());
  if (std::count(chosen.begin(), chosen.end(), *largest) != 1) return -1;
  return static_cast<int>(largest - chosen.begin());
}

Shape resampled_shape(const Shape& shape, const Spacing& current, const Spacing& target) {
  Shape out{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double extent = std::nearbyint(current[a] / target[a] * static_cast<double>(shape[a]));
    if (!(current[a] > 0 && target[a] > 0) || !(extent <= 2147483648.0)) {
      plugin::invalid("resampling from " + std::to_string(current[a]) + " to " + std::to_string(target[a]) +
                      " mm: expected positive spacings that give a volume of a size that memory holds");
    }
    out[a] = std::max<std::int64_t>(1, static_cast<std::int64_t>(extent));
  }
  return out;
}

}  // namespace mambasdk::medical
