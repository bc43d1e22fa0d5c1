#include "abi/text.hpp"

#include <algorithm>
#include <cstring>

#include "abi/convert.hpp"
#include "abi/models.hpp"
#include "runtime/generation/generate.hpp"
#include "runtime/pipeline/text.hpp"

namespace mambasdk::abi {

namespace {

template <class T>
void require(const T* pointer, const char* name) {
  if (pointer == nullptr) fail(ErrorCode::invalid_argument, name, " is NULL");
}

runtime::SamplingOptions sampling(const mambasdk_sampler_options* options) {
  runtime::SamplingOptions out;
  out.temperature = 0.0;
  if (options == nullptr) return out;
  if (options->struct_size < sizeof(mambasdk_sampler_options)) {
    fail(ErrorCode::invalid_argument, "sampler_options.struct_size is ", options->struct_size, ", expected at least ",
         sizeof(mambasdk_sampler_options));
  }
  if (options->top_k < 0 || options->top_k > INT32_MAX) {
    fail(ErrorCode::invalid_argument, "top_k is ", options->top_k, ", expected 0 (off) or a positive count");
  }
  out.temperature = options->temperature;
  out.top_k = static_cast<std::int32_t>(options->top_k);
  out.top_p = options->top_p;
  out.min_p = options->min_p;
  out.repetition_penalty = options->repetition_penalty;
  out.seed = options->seed;
  return out;
}

}  // namespace

mambasdk_status* tokenizer_load(mambasdk_string path, mambasdk_tokenizer** tokenizer) {
  return guard(view(path), [&] {
    require(tokenizer, "tokenizer");
    *tokenizer = new mambasdk_tokenizer{runtime::Tokenizer::from_file(std::string(view(path)))};
  });
}

mambasdk_status* tokenizer_of_model(const mambasdk_model* model, mambasdk_tokenizer** tokenizer) {
  return guard("tokenizer_of_model", [&] {
    require(model, "model");
    require(tokenizer, "tokenizer");
    *tokenizer = new mambasdk_tokenizer{runtime::package_tokenizer(model->model->package())};
  });
}

void tokenizer_release(mambasdk_tokenizer* tokenizer) {
  delete tokenizer;
}

std::uint64_t tokenizer_vocab_size(const mambasdk_tokenizer* tokenizer) {
  return tokenizer == nullptr ? 0 : tokenizer->tokenizer->vocab_size();
}

mambasdk_status* tokenizer_encode(const mambasdk_tokenizer* tokenizer, mambasdk_string text, std::int32_t add_special,
                                  std::int32_t* ids, std::uint64_t capacity, std::uint64_t* count) {
  return guard("tokenizer_encode", [&] {
    require(tokenizer, "tokenizer");
    require(count, "count");
    const std::vector<std::int32_t> made = tokenizer->tokenizer->encode(view(text), add_special != 0);
    if (capacity > 0) require(ids, "ids");
    std::copy_n(made.begin(), std::min<std::uint64_t>(capacity, made.size()), ids);
    *count = made.size();
  });
}

mambasdk_status* tokenizer_decode(const mambasdk_tokenizer* tokenizer, const std::int32_t* ids, std::uint64_t id_count,
                                  std::int32_t skip_special, char* text, std::uint64_t capacity, std::uint64_t* size) {
  return guard("tokenizer_decode", [&] {
    require(tokenizer, "tokenizer");
    require(size, "size");
    if (id_count > 0) require(ids, "ids");
    const std::string made = tokenizer->tokenizer->decode({ids, static_cast<std::size_t>(id_count)}, skip_special != 0);
    if (capacity > 0) require(text, "text");
    std::copy_n(made.begin(), std::min<std::uint64_t>(capacity, made.size()), text);
    *size = made.size();
  });
}

mambasdk_status* sampler_create(const mambasdk_sampler_options* options, mambasdk_sampler** sampler) {
  return guard("sampler_create", [&] {
    require(sampler, "sampler");
    *sampler = new mambasdk_sampler{runtime::Sampler(sampling(options))};
  });
}

void sampler_release(mambasdk_sampler* sampler) {
  delete sampler;
}

mambasdk_status* sampler_sample(mambasdk_sampler* sampler, const float* logits, std::uint64_t vocab_size,
                                std::int32_t* token) {
  return guard("sampler_sample", [&] {
    require(sampler, "sampler");
    require(token, "token");
    if (vocab_size > 0) require(logits, "logits");
    *token = sampler->sampler.sample({logits, static_cast<std::size_t>(vocab_size)});
  });
}

mambasdk_status* sampler_observe(mambasdk_sampler* sampler, const std::int32_t* tokens, std::uint64_t count) {
  return guard("sampler_observe", [&] {
    require(sampler, "sampler");
    if (count > 0) require(tokens, "tokens");
    sampler->sampler.observe({tokens, static_cast<std::size_t>(count)});
  });
}

mambasdk_status* text_stream_create(const mambasdk_tokenizer* tokenizer, std::int32_t skip_special,
                                    std::int32_t continues, mambasdk_text_stream** stream) {
  return guard("text_stream_create", [&] {
    require(tokenizer, "tokenizer");
    require(stream, "stream");
    *stream = new mambasdk_text_stream{
        runtime::TextStream(*tokenizer->tokenizer, skip_special != 0, /*at_start=*/continues == 0), {}};
  });
}

void text_stream_release(mambasdk_text_stream* stream) {
  delete stream;
}

mambasdk_status* text_stream_push(mambasdk_text_stream* stream, std::int32_t token, mambasdk_string* text) {
  return guard("text_stream_push", [&] {
    require(stream, "stream");
    require(text, "text");
    stream->text = stream->stream.push(token);
    *text = view(std::string_view(stream->text));
  });
}

mambasdk_status* text_stream_finish(mambasdk_text_stream* stream, mambasdk_string* text) {
  return guard("text_stream_finish", [&] {
    require(stream, "stream");
    require(text, "text");
    stream->text = stream->stream.finish();
    *text = view(std::string_view(stream->text));
  });
}

mambasdk_status* session_generate(mambasdk_session* session, mambasdk_string prompt,
                                  const mambasdk_generate_options* options, mambasdk_generate_result* result) {
  return guard("session_generate", [&] {
    require(session, "session");
    runtime::GenerateOptions wanted;
    wanted.sampling = sampling(options != nullptr ? options->sampler : nullptr);
    if (options != nullptr) {
      if (options->struct_size < sizeof(mambasdk_generate_options)) {
        fail(ErrorCode::invalid_argument, "generate_options.struct_size is ", options->struct_size,
             ", expected at least ", sizeof(mambasdk_generate_options));
      }
      wanted.max_new_tokens = options->max_new_tokens;
      for (std::uint64_t i = 0; i < options->stop_count; ++i) wanted.stop.emplace_back(view(options->stop[i]));
      if (options->on_text != nullptr) {
        wanted.on_text = [options](std::string_view text) { return options->on_text(options->user, view(text)) == 0; };
      }
    }
    const runtime::Manifest& manifest = session->model->package().manifest();
    const auto tokenizer = runtime::package_tokenizer(session->model->package());
    if (manifest.text->eos_token_id) wanted.end_token = static_cast<std::int32_t>(*manifest.text->eos_token_id);
    const runtime::GenerateResult made = runtime::generate(*session->session, *tokenizer, view(prompt), wanted);
    if (result == nullptr) return;
    const mambasdk_generate_result full{sizeof(full), made.prompt_tokens, made.new_tokens, made.prefill_seconds,
                                        made.decode_seconds};
    const std::uint64_t size = std::min<std::uint64_t>(result->struct_size, sizeof(full));
    if (size < sizeof(std::uint64_t)) fail(ErrorCode::invalid_argument, "generate_result.struct_size is not set");
    std::memcpy(reinterpret_cast<char*>(result) + sizeof(std::uint64_t),
                reinterpret_cast<const char*>(&full) + sizeof(std::uint64_t), size - sizeof(std::uint64_t));
  });
}

}  // namespace mambasdk::abi
