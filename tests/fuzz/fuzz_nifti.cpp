// Any bytes as a NIfTI file, plain or gz, or as a PNG: an Error, or finite voxels of the size that the header says,
// which are written and read back.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <string>
#include <vector>

#include "bytes.hpp"
#include "nifti.hpp"
#include "png.hpp"
#include "seeds.hpp"

namespace medical = mambasdk::medical;

namespace {

constexpr std::int64_t kMaxVoxels = 1 << 16;

std::string text(const std::vector<std::uint8_t>& bytes) {
  return {bytes.begin(), bytes.end()};
}

// A header of `shape` with voxels of a type: its code and the bytes of one.
std::string seed(const medical::Shape& shape, int code, std::size_t bytes) {
  const medical::NiftiHeader header(shape, {2.5, 1, 0.7}, {});
  const std::vector<std::uint8_t> zeros(medical::count_of(shape), 0);
  std::string file = text(medical::write_nifti<std::uint8_t>(header, shape, zeros, false));
  file[70] = static_cast<char>(code & 0xFF), file[71] = static_cast<char>(code >> 8);
  file[72] = static_cast<char>(bytes * 8);
  file.resize(352 + medical::count_of(shape) * bytes);
  for (std::size_t i = 352; i < file.size(); ++i) file[i] = static_cast<char>(i * 37 % 61);
  return file;
}

std::string compressed(const std::string& file) {
  return text(medical::gzip({reinterpret_cast<const std::uint8_t*>(file.data()), file.size()}));
}

void check(const medical::Volume& volume) {
  if (volume.channels < 1 || volume.channels > 3) std::abort();
  if (volume.values.size() != static_cast<std::size_t>(volume.channels) * medical::count_of(volume.shape)) std::abort();
  if (static_cast<std::int64_t>(volume.values.size()) > kMaxVoxels) std::abort();
  for (const float v : volume.values) {
    if (!std::isfinite(v)) std::abort();
  }
}

void read_back(const medical::Nifti& file) {
  const auto& volume = file.volume;
  const std::span<const float> values(volume.values);
  const std::string again =
      text(medical::write_nifti<float>(file.header, volume.shape, values, values.size() % 2 == 0));
  const medical::Nifti found = medical::read_nifti(again, kMaxVoxels, "again");
  if (found.volume.values != volume.values || found.volume.shape != volume.shape) std::abort();
  if (found.header.spacing() != file.header.spacing()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  std::vector<std::uint8_t> labels(35);
  std::iota(labels.begin(), labels.end(), std::uint8_t{0});
  std::vector<std::string> seeds{
      seed({3, 4, 5}, 2, 1),   seed({3, 4, 5}, 4, 2),   seed({1, 6, 5}, 8, 4),
      seed({2, 2, 2}, 16, 4),  seed({2, 2, 2}, 64, 8),  seed({3, 4, 5}, 256, 1),
      seed({3, 4, 5}, 512, 2), seed({3, 4, 5}, 768, 4), text(medical::write_png<std::uint8_t>(5, 7, labels))};
  seeds.push_back(compressed(seeds[1]));
  seeds.push_back(seeds.back() + compressed("more"));
  seeds.push_back(compressed(seed({32, 40, 50}, 4, 2)));  // that of a larger file, which is mostly the same bytes
  mambasdk::fuzz::make_seeds(*argc, *argv, seeds);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  try {
    if (medical::is_png(file)) {
      check(medical::read_png(file, kMaxVoxels, "image"));
      return 0;
    }
    const medical::Nifti found = medical::read_nifti(file, kMaxVoxels, "image");
    check(found.volume);
    for (const double mm : found.header.spacing()) {
      if (!(mm > 0) || !std::isfinite(mm)) std::abort();
    }
    read_back(found);
  } catch (const mambasdk::Error&) {
  } catch (const std::bad_alloc&) {
  }
  return 0;
}
