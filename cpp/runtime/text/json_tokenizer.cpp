// The tokenizer that a tokenizer.json describes: added tokens, normaliser, pre-tokeniser, BPE, template, decoder.
// Truncation and padding, which some files carry, concern batches of training text and are not applied.
#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "runtime/package/json.hpp"
#include "runtime/package/mapped_file.hpp"
#include "runtime/text/added_tokens.hpp"
#include "runtime/text/bpe.hpp"
#include "runtime/text/decoder.hpp"
#include "runtime/text/normalizer.hpp"
#include "runtime/text/pre_tokenizer.hpp"
#include "runtime/text/tokenizer.hpp"
#include "runtime/text/utf8.hpp"

namespace mambasdk::runtime {
namespace {

using nlohmann::json;

constexpr JsonLimits kTokenizerLimits{
    .max_bytes = std::size_t{256} << 20, .max_depth = 32, .max_values = std::size_t{16} << 20};
constexpr std::size_t kMaxTemplate = 1024;  // tokens around a text
constexpr std::size_t kMaxTemplates = 256;  // processors of post_processor, nested ones included

// Special tokens around an encoded text.
struct Template {
  std::vector<std::int32_t> before, after;
  std::size_t read = 0;  // processors
};

void read_template(const json& value, Template& out, int depth) {
  const std::string where = "tokenizer.json: post_processor";
  if (depth > 16) fail(ErrorCode::corrupt, where, ": sequences are nested too deeply");
  if (++out.read > kMaxTemplates) fail(ErrorCode::unsupported, where, ": more than ", kMaxTemplates, " processors");
  const std::string type = json_string_at(value, "type", where);
  if (type == "ByteLevel") return;  // concerns offsets only
  if (type == "Sequence") {
    for (const json& part : json_array(json_at(value, "processors", where), where)) read_template(part, out, depth + 1);
    return;
  }
  if (type != "TemplateProcessing") {
    fail(ErrorCode::unsupported, where, ": \"", printable(type), "\" is not supported by the native tokenizer");
  }
  const json& special_tokens = json_at(value, "special_tokens", where);
  std::vector<std::int32_t> before, after;
  bool seen = false;
  for (const json& item : json_array(json_at(value, "single", where), where)) {
    if (const json* sequence = json_find(json_object(item, where), "Sequence")) {
      if (seen || json_string_at(*sequence, "id", where) != "A") {
        fail(ErrorCode::unsupported, where, ": a template that is not one sequence A with tokens around it");
      }
      seen = true;
      continue;
    }
    const std::string name = json_string_at(json_at(item, "SpecialToken", where), "id", where);
    for (const json& id : json_array(json_at(json_at(special_tokens, name, where), "ids", where), where)) {
      const std::int64_t number = json_int(id, where);
      if (number < 0 || number > kMaxTokenId) {
        fail(ErrorCode::corrupt, where, ": \"", printable(name), "\" has id ", number);
      }
      (seen ? after : before).push_back(static_cast<std::int32_t>(number));
      if (out.before.size() + out.after.size() + before.size() + after.size() > kMaxTemplate) {
        fail(ErrorCode::unsupported, where, ": more than ", kMaxTemplate, " tokens around a text");
      }
    }
  }
  if (!seen) fail(ErrorCode::unsupported, where, ": a template without the sequence A");
  // A later processor of a Sequence wraps what the earlier ones made.
  out.before.insert(out.before.begin(), before.begin(), before.end());
  out.after.insert(out.after.end(), after.begin(), after.end());
}

class JsonTokenizer final : public Tokenizer {
 public:
  explicit JsonTokenizer(const json& root) {
    const auto part = [&](const char* key) -> const json& {
      static const json none;
      const json* value = json_find(root, key);
      return value == nullptr ? none : *value;
    };
    normalizer_ = Normalizer::from_json(part("normalizer"));
    pre_tokenizer_ = PreTokenizer::from_json(part("pre_tokenizer"));
    model_ = Bpe::from_json(json_at(root, "model", "tokenizer.json"), pre_tokenizer_.is_byte_level());
    added_ = AddedTokens::from_json(part("added_tokens"), normalizer_);
    decoder_ = Decoder::from_json(part("decoder"));
    if (!part("post_processor").is_null()) read_template(part("post_processor"), template_, 0);
    vocab_size_ = std::max(model_.id_limit(), added_.id_limit());
  }

  [[nodiscard]] std::vector<std::int32_t> encode(std::string_view text, bool add_special) const override {
    if (const std::size_t at = find_invalid_utf8(text); at != std::string_view::npos) {
      fail(ErrorCode::invalid_argument, "encode: the text is not valid UTF-8 at byte ", at, " of ", text.size());
    }
    std::vector<std::int32_t> ids;
    ids.reserve(text.size() / 3 + 8);
    if (add_special) ids = template_.before;
    std::unique_ptr<WordCache> cache = borrow_cache();
    TextBudget budget(text.size());
    if (!added_.any(false)) {
      encode_raw(text, true, *cache, budget, ids);
    } else {
      for (const AddedTokens::Stretch& stretch : added_.find(text, false)) {
        if (stretch.id >= 0) {
          ids.push_back(stretch.id);
        } else {
          encode_raw(text.substr(stretch.begin, stretch.end - stretch.begin), stretch.begin == 0, *cache, budget, ids);
        }
      }
    }
    return_cache(std::move(cache));
    if (add_special) ids.insert(ids.end(), template_.after.begin(), template_.after.end());
    return ids;
  }

  [[nodiscard]] std::string decode(std::span<const std::int32_t> ids, bool skip_special) const override {
    std::vector<SpelledToken> tokens;
    tokens.reserve(ids.size());
    for (const std::int32_t id : ids) {
      const std::string* token = spelling(id);
      if (token == nullptr || (skip_special && added_.is_special(*token))) continue;
      tokens.push_back({*token, kind_of(id, *token)});
    }
    return decoder_.decode(std::move(tokens));
  }

  [[nodiscard]] std::optional<TokenText> token_text(std::int32_t id, bool first) const override {
    const std::string* token = spelling(id);
    if (token == nullptr) return std::nullopt;
    return decoder_.token_text({*token, kind_of(id, *token)}, first);
  }

  [[nodiscard]] std::int32_t vocab_size() const override { return vocab_size_; }

  [[nodiscard]] std::optional<std::int32_t> token_to_id(std::string_view token) const override {
    if (const AddedToken* added = added_.by_content(token)) return added->id;
    return model_.token_to_id(token);
  }

  [[nodiscard]] bool is_special(std::int32_t id) const override {
    const std::string* token = spelling(id);
    return token != nullptr && added_.is_special(*token);
  }

  [[nodiscard]] LeadingCut leading_cut() const override {
    return {decoder_.leading_cut().character, decoder_.leading_cut().count};
  }

 private:
  [[nodiscard]] SpelledToken::Kind kind_of(std::int32_t id, const std::string& token) const {
    if (added_.by_id(id) == nullptr) return SpelledToken::Kind::vocabulary;
    return model_.token_to_id(token) == id ? SpelledToken::Kind::both : SpelledToken::Kind::added;
  }

  [[nodiscard]] const std::string* spelling(std::int32_t id) const {
    const AddedToken* added = added_.by_id(id);
    return added != nullptr ? &added->content : model_.id_to_token(id);
  }

  // Text between added tokens that are looked for as they stand.
  void encode_raw(std::string_view text, bool at_start, WordCache& cache, TextBudget& budget,
                  std::vector<std::int32_t>& ids) const {
    std::string normalized;
    if (!normalizer_.is_identity()) {
      normalized = normalizer_.apply(text, budget);
      text = normalized;
    }
    if (!added_.any(true)) return encode_words(text, at_start, cache, budget, ids);
    for (const AddedTokens::Stretch& stretch : added_.find(text, true)) {
      if (stretch.id >= 0) {
        ids.push_back(stretch.id);
      } else {
        const bool start = at_start && stretch.begin == 0;
        encode_words(text.substr(stretch.begin, stretch.end - stretch.begin), start, cache, budget, ids);
      }
    }
  }

  void encode_words(std::string_view text, bool at_start, WordCache& cache, TextBudget& budget,
                    std::vector<std::int32_t>& ids) const {
    Words words;
    words.views.push_back(text);
    words.at_start = at_start;
    pre_tokenizer_.apply(words, budget);
    for (const std::string_view word : words.views) model_.encode(word, cache, ids);
  }

  // Every encode() under way has a cache of its own; between calls they wait here.
  std::unique_ptr<WordCache> borrow_cache() const {
    {
      const std::lock_guard lock(caches_mutex_);
      if (!caches_.empty()) {
        std::unique_ptr<WordCache> cache = std::move(caches_.back());
        caches_.pop_back();
        return cache;
      }
    }
    return std::make_unique<WordCache>();
  }
  void return_cache(std::unique_ptr<WordCache> cache) const {
    const std::lock_guard lock(caches_mutex_);
    caches_.push_back(std::move(cache));
  }

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  Bpe model_;
  AddedTokens added_;
  Decoder decoder_;
  Template template_;
  std::int32_t vocab_size_ = 0;
  mutable std::mutex caches_mutex_;
  mutable std::vector<std::unique_ptr<WordCache>> caches_;
};

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::from_json(std::string_view text, std::string_view source) {
  const JsonDocument root = parse_json(text, source, kTokenizerLimits);
  return std::make_unique<JsonTokenizer>(json_object(*root, source));
}

std::unique_ptr<Tokenizer> Tokenizer::from_file(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::read(path);
  return from_json(file.text(), path.string());
}

}  // namespace mambasdk::runtime
