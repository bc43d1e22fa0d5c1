#include "runtime/package/safetensors_header.hpp"

#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.hpp"
#include "runtime/package/json.hpp"

namespace mambasdk::runtime {
namespace {

constexpr std::string_view kMetadata = "__metadata__";
constexpr std::string_view kWhole = "an entry has dtype, shape and data_offsets, and nothing else";

// {"NAME": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"KEY": "TEXT"}}
class HeaderReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(std::string_view source) : source_(source) {}

  SafetensorsHeader read(std::string_view text) {
    cursor_ = {text.data(), text.data()};
    const char* end = text.data() + text.size();
    nlohmann::json::sax_parse(plugin::detail::JsonIterator(&cursor_, end), plugin::detail::JsonIterator(&cursor_, end),
                              this);
    return std::move(header_);
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    const char* reason = std::strstr(error.what(), ": ");
    refuse(printable(reason != nullptr ? reason + 2 : error.what()));
  }

  bool null() override { refuse_value("null"); }
  bool boolean(bool) override { refuse_value("true or false"); }
  bool number_float(number_float_t, const string_t&) override { refuse_value("a number that is no integer"); }
  bool binary(binary_t&) override { refuse_value("binary data"); }
  bool number_integer(number_integer_t value) override {
    if (depth() != 3) refuse_value("a number");
    refuse(where(), ": ", value, " is negative");  // others come as unsigned
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (depth() != 3) refuse_value("a number");
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max())) {
      refuse(where(), ": ", value, " does not fit a signed 64-bit integer");
    }
    SafetensorsEntry& entry = header_.entries.back();
    if (member_ == Member::shape) {
      if (entry.shape.size() == kMaxSafetensorsRank)
        refuse(where(), ": more than ", kMaxSafetensorsRank, " dimensions");
      entry.shape.push_back(static_cast<std::int64_t>(value));
    } else {
      if (offsets_ == 2) refuse(where(), ": expected [begin, end]");
      (offsets_++ == 0 ? entry.begin : entry.end) = value;
    }
    return true;
  }

  bool string(string_t& value) override {
    if (depth() == 2 && metadata_) {
      if (!header_.metadata.emplace(std::move(key_), std::move(value)).second) refuse("duplicate key in __metadata__");
    } else if (depth() == 2 && member_ == Member::dtype) {
      header_.entries.back().dtype = std::move(value);
    } else {
      refuse_value("a string");
    }
    return true;
  }

  bool key(string_t& name) override {
    if (depth() == 1) {
      metadata_ = name == kMetadata;
      if (metadata_ && std::exchange(had_metadata_, true)) refuse("duplicate key __metadata__");
      key_ = std::move(name);
    } else if (metadata_) {
      key_ = std::move(name);
    } else {
      member_ = name == "dtype"          ? Member::dtype
                : name == "shape"        ? Member::shape
                : name == "data_offsets" ? Member::offsets
                                         : Member::none;
      if (member_ == Member::none) refuse(where(), ": unknown member ", printable(name), "; ", kWhole);
      const unsigned bit = 1u << static_cast<unsigned>(member_);
      if ((seen_ & bit) != 0) refuse("duplicate key ", printable(name));
      seen_ |= bit;
    }
    return true;
  }

  bool start_object(std::size_t) override {
    enter();
    if (depth() == 3) refuse_value("an object");
    if (depth() == 2 && !metadata_) {
      header_.entries.push_back({std::move(key_), {}, {}, 0, 0});
      seen_ = 0;
      offsets_ = 0;
      member_ = Member::none;
    }
    return true;
  }

  bool end_object() override {
    leave();
    if (depth() == 1 && !metadata_) {
      constexpr unsigned all = 1u << static_cast<unsigned>(Member::dtype) | 1u << static_cast<unsigned>(Member::shape) |
                               1u << static_cast<unsigned>(Member::offsets);
      if (seen_ != all || offsets_ != 2) refuse(where(), ": a member is missing; ", kWhole);
    }
    return true;
  }

  bool start_array(std::size_t) override {
    enter();
    if (depth() != 3 || metadata_ || (member_ != Member::shape && member_ != Member::offsets)) refuse_value("an array");
    return true;
  }

  bool end_array() override {
    leave();
    return true;
  }

 private:
  enum class Member : unsigned { none, dtype, shape, offsets };

  template <class... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(ErrorCode::corrupt, source_, ": bad header at byte ", cursor_.at - cursor_.begin, ": ", parts...);
  }
  void enter() {
    if (depth_ == kDepth) refuse("nested deeper than ", kDepth, " levels");
    ++depth_;
  }
  void leave() { --depth_; }
  [[nodiscard]] int depth() const { return depth_; }  // of open containers

  [[nodiscard]] std::string where() const {
    if (metadata_) return std::string(kMetadata);
    return header_.entries.empty() ? "the header" : "tensor " + printable(header_.entries.back().name);
  }
  [[noreturn]] void refuse_value(std::string_view what) const { refuse(where(), ": ", what, " is out of place here"); }

  static constexpr int kDepth = 3;

  std::string_view source_;
  plugin::detail::JsonCursor cursor_{};  // where the lexer is
  int depth_ = 0;
  SafetensorsHeader header_;
  string_t key_;
  Member member_ = Member::none;
  unsigned seen_ = 0;
  int offsets_ = 0;
  bool metadata_ = false;
  bool had_metadata_ = false;
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view text, std::string_view source) {
  return HeaderReader(source).read(text);
}

}  // namespace mambasdk::runtime
