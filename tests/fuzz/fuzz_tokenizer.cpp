// Any bytes as a tokenizer.json, then the same bytes as text: encoding and decoding must hold their contracts.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "core/error.hpp"
#include "runtime/text/tokenizer.hpp"
#include "runtime/text/utf8.hpp"
#include "seeds.hpp"

namespace rt = mambasdk::runtime;

static std::vector<std::string> seeds() {
  const std::string model =
      R"("model":{"type":"BPE","unk_token":"u","fuse_unk":true,"byte_fallback":true,"ignore_merges":true,
"vocab":{"a":0,"b":1,"ab":2,"u":3,"<0x0A>":4,"Ġ":5,"Ġa":6},"merges":["a b",["Ġ","a"]]})";
  const std::string added = R"("added_tokens":[{"id":9,"content":"<s>","special":true,"lstrip":true,"rstrip":true,
"single_word":true,"normalized":false},{"id":10,"content":"  ","special":false,"normalized":true}],)";
  const auto file = [&](const std::string& parts) { return "{" + added + parts + "," + model + "}"; };
  std::string doubling;
  for (int i = 0; i < 30; ++i) {
    doubling += std::string(i == 0 ? "" : ",") + R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  }
  return {
      file(R"("normalizer":{"type":"Sequence","normalizers":[)" + doubling + "]}"),
      file(R"("decoder":{"type":"Sequence","decoders":[)" + doubling + "]}"),
      file(R"("pre_tokenizer":{"type":"Split","pattern":{"Regex":"a+b|\\s+x"},"behavior":"Isolated"})"),
      "{\"added_tokens\":[{\"id\":9,\"content\":\" \",\"lstrip\":true,\"rstrip\":true},"
      "{\"id\":1,\"content\":\"\u00e9\"}]," +
          model + R"(,"decoder":{"type":"ByteLevel"}})",
      file(
          R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true,"use_regex":true},"decoder":{"type":"ByteLevel"})"),
      file(R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"NFKD"},{"type":"Lowercase"},
{"type":"Prepend","prepend":"x"},{"type":"Replace","pattern":{"String":" "},"content":"y"}]},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":
{"Regex":"(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}]++[\\r\\n]*|\\s+(?!\\S)|\\s+"},
"behavior":"Isolated","invert":false},{"type":"Digits","individual_digits":true},
{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]})"),
      file(R"("pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first","split":true},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},
{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[9],"tokens":["<s>"]}}},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},
{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})"),
  };
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  mambasdk::fuzz::make_seeds(*argc, *argv, seeds());
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = rt::Tokenizer::from_json(input);
    std::string text = rt::to_valid_utf8(input.substr(0, 512));
    text += " a\xCC\x81 \xC3\xA9 \xF0\x9F\x98\x80\n\t's 123  ab<s> ";
    text += std::string(2000, 'a') + std::string(2000, ' ');  // what superlinear searches would choke on
    std::vector<std::int32_t> ids = tokenizer->encode(text, true);
    for (const std::int32_t id : ids) {
      if (id < 0) std::abort();
    }
    if (ids.size() > 256 * (text.size() + 16) + 1024) std::abort();
    ids.resize(std::min<std::size_t>(ids.size(), 4096));
    for (std::int32_t id = 0; id < std::min(tokenizer->vocab_size(), 20); ++id) ids.push_back(id);
    for (const bool skip : {false, true}) {
      const std::string decoded = tokenizer->decode(ids, skip);
      if (rt::find_invalid_utf8(decoded) != std::string::npos) std::abort();
      rt::TextStream stream(*tokenizer, skip);
      std::string pieces;
      for (const std::int32_t id : ids) pieces += stream.push(id);
      pieces += stream.finish();
      if (rt::find_invalid_utf8(pieces) != std::string::npos) std::abort();
      if (decoded.find("\xEF\xBF\xBD") == std::string::npos && pieces != decoded) std::abort();
    }
  } catch (const mambasdk::Error&) {
  }
  return 0;
}
