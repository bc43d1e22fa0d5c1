#include "bytes.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "mambasdk/base.hpp"

namespace mambasdk::medical {

namespace {

constexpr int kGzip = 15 + 16;  // zlib's window bits of a gzip file
constexpr int kZlib = 15;
constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // zlib counts in 32 bits

[[noreturn]] void corrupt(const std::string& name, const std::string& what) {
  throw Error(MAMBASDK_ERROR_CORRUPT, name, name + ": " + what);
}

std::vector<std::uint8_t> compress(std::span<const std::uint8_t> bytes, int window_bits) {
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  struct End {
    z_stream* stream;
    ~End() { deflateEnd(stream); }
  } const end{&stream};
  std::vector<std::uint8_t> out;
  std::size_t at = 0;
  int state = Z_OK;
  std::vector<std::uint8_t> piece(1 << 16);
  while (state != Z_STREAM_END) {
    if (stream.avail_in == 0 && at < bytes.size()) {
      const std::size_t n = std::min(kMostAtOnce, bytes.size() - at);
      stream.next_in = bytes.data() + at;
      stream.avail_in = static_cast<uInt>(n);
      at += n;
    }
    stream.next_out = piece.data();
    stream.avail_out = static_cast<uInt>(piece.size());
    state = deflate(&stream, at == bytes.size() ? Z_FINISH : Z_NO_FLUSH);
    out.insert(out.end(), piece.data(), piece.data() + (piece.size() - stream.avail_out));
  }
  return out;
}

}  // namespace

bool is_gzip(std::string_view bytes) {
  return bytes.starts_with("\x1f\x8b");
}

ByteSource::ByteSource(std::string_view bytes, std::string name)
    : bytes_(bytes), name_(std::move(name)), gzip_(is_gzip(bytes)) {
  if (gzip_ && inflateInit2(&stream_, kGzip) != Z_OK) throw std::bad_alloc();
}

ByteSource::~ByteSource() {
  if (gzip_) inflateEnd(&stream_);
}

std::size_t ByteSource::inflate_into(std::span<std::uint8_t> out) {
  stream_.next_out = out.data();
  stream_.avail_out = static_cast<uInt>(std::min(out.size(), kMostAtOnce));
  const std::size_t wanted = stream_.avail_out;
  while (stream_.avail_out != 0 && !ended_) {
    if (stream_.avail_in == 0) {
      const std::size_t n = std::min(kMostAtOnce, bytes_.size() - at_);
      if (n == 0) corrupt(name_, "the gzip file ends early; it is cut off, copy it again");
      stream_.next_in = reinterpret_cast<const Bytef*>(bytes_.data() + at_);
      stream_.avail_in = static_cast<uInt>(n);
      at_ += n;
    }
    const int state = inflate(&stream_, Z_NO_FLUSH);
    if (state == Z_MEM_ERROR) throw std::bad_alloc();
    if (state == Z_STREAM_END) {
      // A gzip file may be several, one behind the other.
      const std::size_t left = stream_.avail_in + (bytes_.size() - at_);
      const std::string_view rest = bytes_.substr(bytes_.size() - left);
      ended_ = !is_gzip(rest);
      if (!ended_) inflateReset(&stream_);
    } else if (state != Z_OK) {
      corrupt(name_, std::string("the gzip file is damaged: ") + (stream_.msg != nullptr ? stream_.msg : "no stream"));
    }
  }
  return wanted - stream_.avail_out;
}

void ByteSource::read(std::span<std::uint8_t> out) {
  while (!out.empty()) {
    std::size_t n = 0;
    if (gzip_) {
      n = inflate_into(out);
    } else if (at_ < bytes_.size()) {
      n = std::min(out.size(), bytes_.size() - at_);
      std::memcpy(out.data(), bytes_.data() + at_, n);
      at_ += n;
    }
    if (n == 0) corrupt(name_, "the file ends " + std::to_string(out.size()) + " bytes early; it is cut off");
    out = out.subspan(n);
  }
}

void ByteSource::skip(std::int64_t count) {
  std::uint8_t unused[4096];
  while (count > 0) {
    const auto n = std::min<std::int64_t>(count, sizeof unused);
    read({unused, static_cast<std::size_t>(n)});
    count -= n;
  }
}

void ByteSource::finish() {
  constexpr int kPieces = 256;  // extensions that some writers append; what is longer is left unread
  std::uint8_t unused[4096];
  for (int i = 0; gzip_ && !ended_ && i < kPieces; ++i) {
    if (inflate_into(unused) == 0) break;
  }
}

std::int64_t ByteSource::most() const {
  const auto size = static_cast<std::int64_t>(bytes_.size());
  return gzip_ ? size * kBytesOfByte : size;
}

std::vector<std::uint8_t> gzip(std::span<const std::uint8_t> bytes) {
  return compress(bytes, kGzip);
}

std::vector<std::uint8_t> deflate_zlib(std::span<const std::uint8_t> bytes) {
  return compress(bytes, kZlib);
}

void inflate_zlib(std::span<const std::uint8_t> bytes, std::span<std::uint8_t> out, const std::string& name) {
  z_stream stream{};
  if (inflateInit2(&stream, kZlib) != Z_OK) throw std::bad_alloc();
  struct End {
    z_stream* stream;
    ~End() { inflateEnd(stream); }
  } const end{&stream};
  std::size_t in = 0, made = 0;
  while (made < out.size()) {
    if (stream.avail_in == 0) {
      const std::size_t n = std::min(kMostAtOnce, bytes.size() - in);
      if (n == 0) corrupt(name, "its pixels end early; the file is cut off");
      stream.next_in = bytes.data() + in;
      stream.avail_in = static_cast<uInt>(n);
      in += n;
    }
    const std::size_t room = std::min(kMostAtOnce, out.size() - made);
    stream.next_out = out.data() + made;
    stream.avail_out = static_cast<uInt>(room);
    const int state = inflate(&stream, Z_NO_FLUSH);
    made += room - stream.avail_out;
    if (state == Z_MEM_ERROR) throw std::bad_alloc();
    if (state != Z_OK && !(state == Z_STREAM_END && made == out.size())) {
      corrupt(name, std::string("its pixels are damaged: ") + (stream.msg != nullptr ? stream.msg : "the stream ends"));
    }
  }
}

}  // namespace mambasdk::medical
