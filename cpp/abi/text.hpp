// Tokenizers, samplers and generation over the C ABI.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "mambasdk/mambasdk.h"
#include "runtime/sampling/sampler.hpp"
#include "runtime/text/tokenizer.hpp"

struct mambasdk_tokenizer {
  std::unique_ptr<mambasdk::runtime::Tokenizer> tokenizer;
};

struct mambasdk_sampler {
  mambasdk::runtime::Sampler sampler;
  std::atomic<bool> in_use{false};
};

struct mambasdk_text_stream {
  mambasdk::runtime::TextStream stream;
  std::string text;  // what the last call returned
  std::atomic<bool> in_use{false};
};

namespace mambasdk::abi {

mambasdk_status* tokenizer_load(mambasdk_string path, mambasdk_tokenizer** tokenizer);
mambasdk_status* tokenizer_of_model(const mambasdk_model* model, mambasdk_tokenizer** tokenizer);
void tokenizer_release(mambasdk_tokenizer* tokenizer);
std::uint64_t tokenizer_vocab_size(const mambasdk_tokenizer* tokenizer);
mambasdk_status* tokenizer_encode(const mambasdk_tokenizer* tokenizer, mambasdk_string text, std::int32_t add_special,
                                  std::int32_t* ids, std::uint64_t capacity, std::uint64_t* count);
mambasdk_status* tokenizer_decode(const mambasdk_tokenizer* tokenizer, const std::int32_t* ids, std::uint64_t id_count,
                                  std::int32_t skip_special, char* text, std::uint64_t capacity, std::uint64_t* size);
mambasdk_status* sampler_create(const mambasdk_sampler_options* options, mambasdk_sampler** sampler);
void sampler_release(mambasdk_sampler* sampler);
mambasdk_status* sampler_sample(mambasdk_sampler* sampler, const float* logits, std::uint64_t vocab_size,
                                std::int32_t* token);
mambasdk_status* sampler_observe(mambasdk_sampler* sampler, const std::int32_t* tokens, std::uint64_t count);
mambasdk_status* text_stream_create(const mambasdk_tokenizer* tokenizer, std::int32_t skip_special,
                                    std::int32_t continues, mambasdk_text_stream** stream);
void text_stream_release(mambasdk_text_stream* stream);
mambasdk_status* text_stream_push(mambasdk_text_stream* stream, std::int32_t token, mambasdk_string* text);
mambasdk_status* text_stream_finish(mambasdk_text_stream* stream, mambasdk_string* text);
mambasdk_status* session_generate(mambasdk_session* session, mambasdk_string prompt,
                                  const mambasdk_generate_options* options, mambasdk_generate_result* result);

}  // namespace mambasdk::abi
