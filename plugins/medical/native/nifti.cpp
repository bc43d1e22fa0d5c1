#include "nifti.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "bytes.hpp"

namespace mambasdk::medical {

namespace {

// Where the members of a header are.
constexpr std::size_t kDim = 40, kDatatype = 70, kBitpix = 72, kPixdim = 76, kVoxOffset = 108, kSlope = 112,
                      kInter = 116, kUnits = 123, kCalMax = 124, kCalMin = 128, kQformCode = 252, kSformCode = 254,
                      kSrow = 280, kMagic = 344;
constexpr std::int64_t kMostExtent = 32767;

// Runs of numbers of more than a byte: offset, bytes of one, how many.
struct Run {
  std::size_t at, size, count;
};
constexpr Run kRuns[] = {{0, 4, 1},   {32, 4, 1},  {36, 2, 1},  {40, 2, 8},  {56, 4, 3},  {68, 2, 4},  {76, 4, 8},
                         {108, 4, 3}, {120, 2, 1}, {124, 4, 4}, {140, 4, 2}, {252, 2, 2}, {256, 4, 6}, {280, 4, 12}};

[[noreturn]] void refuse(std::int32_t code, const std::string& what) {
  throw Error(code, "nifti", "the NIfTI file " + what);
}
[[noreturn]] void corrupt(const std::string& what) {
  refuse(MAMBASDK_ERROR_CORRUPT, "is damaged: " + what);
}

template <class Bits>
Bits little(const std::uint8_t* from) {
  Bits value = 0;
  for (std::size_t i = sizeof(Bits); i-- > 0;) value = static_cast<Bits>(value << 8 | from[i]);
  return value;
}

template <class Bits>
void put_little(std::uint8_t* to, Bits value) {
  for (std::size_t i = 0; i < sizeof(Bits); ++i) to[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

template <std::size_t kBytes>
struct BitsOf;
template <>
struct BitsOf<1> {
  using type = std::uint8_t;
};
template <>
struct BitsOf<2> {
  using type = std::uint16_t;
};
template <>
struct BitsOf<4> {
  using type = std::uint32_t;
};
template <>
struct BitsOf<8> {
  using type = std::uint64_t;
};
template <class T>
using Bits = typename BitsOf<sizeof(T)>::type;

struct Scaling {
  double slope, inter;
  bool present;
};

Scaling scaling_of(const NiftiHeader& header) {
  const double slope = header.real32(kSlope), inter = header.real32(kInter);
  if (slope == 0 || !std::isfinite(slope)) return {1, 0, false};  // the standard's way of saying none
  if (!std::isfinite(inter)) corrupt("its scl_inter is not a number");
  return {slope, inter, slope != 1 || inter != 0};
}

// The stored numbers of type T, piece by piece, so that a file's bytes are not in memory beside its voxels.
template <class T>
void read_voxels(ByteSource& source, bool swapped, const Scaling& scaling, std::vector<float>& out) {
  constexpr std::size_t kPiece = 1 << 14;
  std::vector<std::uint8_t> bytes(kPiece * sizeof(T));
  std::size_t bad = 0;
  for (std::size_t done = 0; done < out.size();) {
    const std::size_t n = std::min(kPiece, out.size() - done);
    source.read({bytes.data(), n * sizeof(T)});
    for (std::size_t i = 0; i < n; ++i) {
      std::uint8_t* at = &bytes[i * sizeof(T)];
      if (swapped) std::reverse(at, at + sizeof(T));
      const T stored = std::bit_cast<T>(little<Bits<T>>(at));
      const auto value = scaling.present
                             ? static_cast<float>(static_cast<double>(stored) * scaling.slope + scaling.inter)
                             : static_cast<float>(stored);
      bad += !std::isfinite(value);
      out[done + i] = value;
    }
    done += n;
  }
  if (bad != 0) {
    refuse(MAMBASDK_ERROR_CORRUPT, "has " + std::to_string(bad) +
                                       " voxels that are no finite float32 numbers; replace "
                                       "them, for example by the background's value");
  }
}

struct Type {
  std::int64_t code, bytes;
  void (*read)(ByteSource&, bool, const Scaling&, std::vector<float>&);
};
constexpr Type kTypes[] = {{2, 1, read_voxels<std::uint8_t>},    {4, 2, read_voxels<std::int16_t>},
                           {8, 4, read_voxels<std::int32_t>},    {16, 4, read_voxels<float>},
                           {64, 8, read_voxels<double>},         {256, 1, read_voxels<std::int8_t>},
                           {512, 2, read_voxels<std::uint16_t>}, {768, 4, read_voxels<std::uint32_t>}};

template <class T>
constexpr std::int64_t kDatatypeOf = 0;
template <>
constexpr std::int64_t kDatatypeOf<std::uint8_t> = 2;
template <>
constexpr std::int64_t kDatatypeOf<std::int16_t> = 4;
template <>
constexpr std::int64_t kDatatypeOf<std::int32_t> = 8;
template <>
constexpr std::int64_t kDatatypeOf<float> = 16;
template <>
constexpr std::int64_t kDatatypeOf<std::uint16_t> = 512;

}  // namespace

NiftiHeader::NiftiHeader(const Shape& shape, const Spacing& spacing, std::span<const double> affine) {
  put_little<std::uint32_t>(bytes_.data(), kHeaderSize);
  set_shape(shape);
  set_real32(kPixdim, 1);
  for (std::size_t a = 0; a < 3; ++a) set_real32(kPixdim + 4 * (3 - a), spacing[a]);
  bytes_[kUnits] = 2;  // mm
  set_integer16(kSformCode, affine.empty() ? 0 : 2);
  for (std::size_t i = 0; i < affine.size(); ++i) set_real32(kSrow + 4 * i, affine[i]);
}

NiftiHeader NiftiHeader::parse(std::span<const std::uint8_t> bytes) {
  if (bytes.size() < kHeaderSize) corrupt("it has " + std::to_string(bytes.size()) + " bytes of a header of 348");
  NiftiHeader header;
  std::copy_n(bytes.begin(), kHeaderSize, header.bytes_.begin());
  const auto size = little<std::uint32_t>(bytes.data());
  header.swapped = size == 0x5C010000;
  const auto size2 = header.swapped ? kHeaderSize : size;
  if (size == 540 || size == 0x1C020000) {
    refuse(MAMBASDK_ERROR_UNSUPPORTED, "is of version 2, expected NIfTI-1; convert it");
  }
  if (size2 != kHeaderSize) corrupt("its header is said to have " + std::to_string(size) + " bytes, expected 348");
  const std::string_view magic(reinterpret_cast<const char*>(&bytes[kMagic]), 3);
  if (magic == "ni1") refuse(MAMBASDK_ERROR_UNSUPPORTED, "is the header of a pair; convert it to one file, .nii");
  if (magic != "n+1") refuse(MAMBASDK_ERROR_UNSUPPORTED, "is Analyze or damaged: its magic is not \"n+1\"; convert it");
  if (header.swapped) {
    for (const Run& run : kRuns) {
      for (std::size_t i = 0; i < run.count; ++i) {
        const auto at = header.bytes_.begin() + static_cast<std::ptrdiff_t>(run.at + i * run.size);
        std::reverse(at, at + static_cast<std::ptrdiff_t>(run.size));
      }
    }
  }
  return header;
}

std::int64_t NiftiHeader::integer16(std::size_t at) const {
  return std::bit_cast<std::int16_t>(little<std::uint16_t>(&bytes_[at]));
}

double NiftiHeader::real32(std::size_t at) const {
  return std::bit_cast<float>(little<std::uint32_t>(&bytes_[at]));
}

void NiftiHeader::set_integer16(std::size_t at, std::int64_t value) {
  put_little(&bytes_[at], static_cast<std::uint16_t>(value));
}

void NiftiHeader::set_real32(std::size_t at, double value) {
  put_little(&bytes_[at], std::bit_cast<std::uint32_t>(static_cast<float>(value)));
}

void NiftiHeader::set_shape(const Shape& shape) {
  const std::int64_t dims = integer16(kDim) == 2 && shape[0] == 1 ? 2 : 3;
  set_integer16(kDim, dims);
  for (std::size_t d = 1; d < 8; ++d) {
    const std::int64_t extent = d <= 3 ? shape[3 - d] : 1;
    if (extent < 1 || extent > kMostExtent) {
      plugin::invalid("a NIfTI-1 file has extents from 1 to 32767, got " + plugin::to_text(shape));
    }
    set_integer16(kDim + 2 * d, extent);
  }
}

Shape NiftiHeader::shape() const {
  const std::int64_t dims = integer16(kDim);
  if (dims < 2 || dims > 7) corrupt("it is said to have " + std::to_string(dims) + " dims, expected 2 or 3");
  Shape shape{1, 1, 1};
  std::int64_t volumes = 1;
  for (std::int64_t d = 1; d <= dims; ++d) {
    const std::int64_t extent = integer16(kDim + 2 * static_cast<std::size_t>(d));
    if (extent < 1) corrupt("its dim " + std::to_string(d) + " is " + std::to_string(extent) + ", expected 1 or more");
    if (d <= 3) {
      shape[static_cast<std::size_t>(3 - d)] = extent;
    } else {
      volumes = std::max(volumes, extent);
    }
  }
  if (volumes != 1) {
    refuse(MAMBASDK_ERROR_UNSUPPORTED, "has " + std::to_string(dims) + " dims, of " + std::to_string(volumes) +
                                           " volumes or more, expected one volume; split it into one file for each");
  }
  return shape;
}

Spacing NiftiHeader::spacing() const {
  const Shape extents = shape();
  Spacing spacing{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double mm = std::abs(real32(kPixdim + 4 * (3 - a)));
    spacing[a] = mm;
    if (std::isfinite(mm) && mm > 0) continue;
    if (extents[a] != 1)
      corrupt("its spacing along dim " + std::to_string(3 - a) + " is " + std::to_string(mm) + " mm");
    spacing[a] = 1;  // an axis of one voxel
  }
  return spacing;
}

bool is_nifti(std::string_view bytes) {
  return is_gzip(bytes) || (bytes.size() >= 4 && (bytes.starts_with(std::string_view("\x5c\x01\0\0", 4)) ||
                                                  bytes.starts_with(std::string_view("\0\0\x01\x5c", 4)) ||
                                                  bytes.starts_with(std::string_view("\x1c\x02\0\0", 4)) ||
                                                  bytes.starts_with(std::string_view("\0\0\x02\x1c", 4))));
}

Nifti read_nifti(std::string_view bytes, std::int64_t max_voxels, const std::string& name) {
  ByteSource source(bytes, name);
  std::array<std::uint8_t, kHeaderSize> start;
  source.read(start);
  Nifti out{NiftiHeader::parse(start), {1, {}, {}}};
  const NiftiHeader& header = out.header;
  out.volume.shape = header.shape();
  (void)header.spacing();  // says what is wrong with it before the voxels are read
  const std::int64_t code = header.integer16(kDatatype);
  const auto type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const Type& t) { return t.code == code; });
  if (type == std::end(kTypes)) {
    refuse(MAMBASDK_ERROR_UNSUPPORTED,
           "has voxels of type " + std::to_string(code) +
               ", expected 2 (uint8), 4 (int16), 8 "
               "(int32), 16 (float32), 64 (float64), 256 (int8), 512 (uint16) or 768 (uint32)");
  }
  const std::int64_t bits = header.integer16(kBitpix);
  if (bits != type->bytes * 8) {
    corrupt("voxels of type " + std::to_string(code) + " are said to have " + std::to_string(bits) + " bits");
  }
  const std::int64_t count = checked_count(out.volume.shape, max_voxels, name);
  const double offset = header.real32(kVoxOffset);
  if (!(offset >= static_cast<double>(kHeaderSize) && offset <= 2147483648.0 && offset == std::floor(offset))) {
    corrupt("its voxels are said to begin at byte " + std::to_string(offset));
  }
  const auto gap = static_cast<std::int64_t>(offset) - static_cast<std::int64_t>(kHeaderSize);
  if (static_cast<std::int64_t>(offset) + count * type->bytes > source.most()) {
    corrupt(std::to_string(bytes.size()) + " bytes cannot hold the " + plugin::to_text(out.volume.shape) +
            " voxels that it is said to have; it is cut off");
  }
  source.skip(gap);
  out.volume.values.resize(static_cast<std::size_t>(count));
  type->read(source, header.swapped, scaling_of(header), out.volume.values);
  source.finish();
  return out;
}

template <class T>
std::vector<std::uint8_t> write_nifti(const NiftiHeader& like, const Shape& shape, std::span<const T> values,
                                      bool compress) {
  constexpr std::size_t kOffset = 352;  // the header and four bytes that say that no extension follows
  NiftiHeader header = like;
  header.set_shape(shape);
  header.set_integer16(kDatatype, kDatatypeOf<T>);
  header.set_integer16(kBitpix, static_cast<std::int64_t>(8 * sizeof(T)));
  header.set_real32(kVoxOffset, kOffset);
  header.set_real32(kSlope, 1);
  header.set_real32(kInter, 0);
  header.set_real32(kCalMax, 0);
  header.set_real32(kCalMin, 0);
  if (values.size() != count_of(shape)) plugin::fail(MAMBASDK_ERROR_INTERNAL, "write_nifti: another number of voxels");
  std::vector<std::uint8_t> file(kOffset + values.size() * sizeof(T));
  std::copy(header.bytes().begin(), header.bytes().end(), file.begin());
  std::copy_n("n+1", 4, file.begin() + static_cast<std::ptrdiff_t>(kMagic));
  for (std::size_t i = 0; i < values.size(); ++i) {
    put_little(&file[kOffset + i * sizeof(T)], std::bit_cast<Bits<T>>(values[i]));
  }
  return compress ? gzip(file) : file;
}

template std::vector<std::uint8_t> write_nifti(const NiftiHeader&, const Shape&, std::span<const std::uint8_t>, bool);
template std::vector<std::uint8_t> write_nifti(const NiftiHeader&, const Shape&, std::span<const std::uint16_t>, bool);
template std::vector<std::uint8_t> write_nifti(const NiftiHeader&, const Shape&, std::span<const std::int16_t>, bool);
template std::vector<std::uint8_t> write_nifti(const NiftiHeader&, const Shape&, std::span<const std::int32_t>, bool);
template std::vector<std::uint8_t> write_nifti(const NiftiHeader&, const Shape&, std::span<const float>, bool);

}  // namespace mambasdk::medical
