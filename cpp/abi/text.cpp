#include "abi/text.hpp"

#include <algorithm>
#include <cstring>

#include "abi/convert.hpp"
#include "abi/models.hpp"
#include "runtime/generation/generate.hpp"
#include "runtime/pipeline/text.hpp"

namespace mambasdk::abi {

namespace {

runtime::SamplingOptions sampling(const mambasdk_sampler_options* options) {
  runtime::SamplingOptions out;
  out.temperature = 0.0;
  if (options == nullptr) return out;
  const auto given = read_options(options, sizeof(mambasdk_sampler_options), "sampler_options");
  if (given.top_k < 0 || given.top_k > INT32_MAX) {
    fail(ErrorCode::invalid_argument, "top_k is ", given.top_k, ", expected 0 (off) or a positive count");
  }
  out.temperature = given.temperature;
  out.top_k = static_cast<std::int32_t>(given.top_k);
  out.top_p = given.top_p;
  out.min_p = given.min_p;
  out.repetition_penalty = given.repetition_penalty;
  out.seed = given.seed;
  return out;
}

}  // namespace

mambasdk_status* tokenizer_load(mambasdk_string path, mambasdk_tokenizer** tokenizer) {
  return guard(name_or_empty(path), [&] {
    require(tokenizer, "tokenizer");
    auto made = std::make_unique<mambasdk_tokenizer>();
    made->tokenizer = runtime::Tokenizer::from_file(std::string(checked_path(path, "the path")));
    *tokenizer = made.release();
  });
}

mambasdk_status* tokenizer_of_model(const mambasdk_model* model, mambasdk_tokenizer** tokenizer) {
  return guard("tokenizer_of_model", [&] {
    require(model, "model");
    require(tokenizer, "tokenizer");
    auto made = std::make_unique<mambasdk_tokenizer>();
    made->tokenizer = runtime::package_tokenizer(model->model->package());
    *tokenizer = made.release();
  });
}

void tokenizer_release(mambasdk_tokenizer* tokenizer) {
  delete tokenizer;
}

std::uint64_t tokenizer_vocab_size(const mambasdk_tokenizer* tokenizer) {
  if (tokenizer == nullptr) return 0;
  return guard_value(std::uint64_t{0}, [&] { return static_cast<std::uint64_t>(tokenizer->tokenizer->vocab_size()); });
}

mambasdk_status* tokenizer_encode(const mambasdk_tokenizer* tokenizer, mambasdk_string text, std::int32_t add_special,
                                  std::int32_t* ids, std::uint64_t capacity, std::uint64_t* count) {
  return guard("tokenizer_encode", [&] {
    require(tokenizer, "tokenizer");
    require(count, "count");
    const std::vector<std::int32_t> made =
        tokenizer->tokenizer->encode(checked_text(text, "the text"), add_special != 0);
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
    require_array(ids, id_count, "ids");
    const std::string made = tokenizer->tokenizer->decode({ids, static_cast<std::size_t>(id_count)}, skip_special != 0);
    if (capacity > 0) require(text, "text");
    std::copy_n(made.begin(), std::min<std::uint64_t>(capacity, made.size()), text);
    *size = made.size();
  });
}

mambasdk_status* sampler_create(const mambasdk_sampler_options* options, mambasdk_sampler** sampler) {
  return guard("sampler_create", [&] {
    require(sampler, "sampler");
    *sampler = new mambasdk_sampler{runtime::Sampler(sampling(options)), {false}};
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
    require_array(logits, vocab_size, "logits");
    const InUse use(sampler->in_use, "sampler");
    *token = sampler->sampler.sample({logits, static_cast<std::size_t>(vocab_size)});
  });
}

mambasdk_status* sampler_observe(mambasdk_sampler* sampler, const std::int32_t* tokens, std::uint64_t count) {
  return guard("sampler_observe", [&] {
    require(sampler, "sampler");
    require_array(tokens, count, "tokens");
    const InUse use(sampler->in_use, "sampler");
    sampler->sampler.observe({tokens, static_cast<std::size_t>(count)});
  });
}

mambasdk_status* text_stream_create(const mambasdk_tokenizer* tokenizer, std::int32_t skip_special,
                                    std::int32_t continues, mambasdk_text_stream** stream) {
  return guard("text_stream_create", [&] {
    require(tokenizer, "tokenizer");
    require(stream, "stream");
    *stream = new mambasdk_text_stream{
        runtime::TextStream(*tokenizer->tokenizer, skip_special != 0, /*at_start=*/continues == 0), {}, {false}};
  });
}

void text_stream_release(mambasdk_text_stream* stream) {
  delete stream;
}

mambasdk_status* text_stream_push(mambasdk_text_stream* stream, std::int32_t token, mambasdk_string* text) {
  return guard("text_stream_push", [&] {
    require(stream, "stream");
    require(text, "text");
    const InUse use(stream->in_use, "text stream");
    stream->text = stream->stream.push(token);
    *text = view(std::string_view(stream->text));
  });
}

mambasdk_status* text_stream_finish(mambasdk_text_stream* stream, mambasdk_string* text) {
  return guard("text_stream_finish", [&] {
    require(stream, "stream");
    require(text, "text");
    const InUse use(stream->in_use, "text stream");
    stream->text = stream->stream.finish();
    *text = view(std::string_view(stream->text));
  });
}

mambasdk_status* session_generate(mambasdk_session* session, mambasdk_string prompt,
                                  const mambasdk_generate_options* options, mambasdk_generate_result* result) {
  return guard("session_generate", [&] {
    require(session, "session");
    // All of it is looked at before the session moves.
    if (result != nullptr) (void)read_options(result, sizeof(std::uint64_t), "generate_result");
    const std::string_view text = checked_text(prompt, "the prompt");
    runtime::GenerateOptions wanted;
    mambasdk_generate_options given{};
    if (options != nullptr) {
      given = read_options(options, sizeof(mambasdk_generate_options), "generate_options");
      wanted.max_new_tokens = given.max_new_tokens;
      require_array(given.stop, given.stop_count, "generate_options.stop");
      for (std::uint64_t i = 0; i < given.stop_count; ++i) {
        wanted.stop.emplace_back(checked_text(given.stop[i], "a stop text"));
      }
      if (given.on_text != nullptr) {
        wanted.on_text = [&given](std::string_view piece) { return shown(given.on_text(given.user, view(piece))); };
      }
    }
    wanted.sampling = sampling(given.sampler);
    const InUse use(session->in_use, "session");
    runtime::check_generates_text(*session->model);
    const runtime::Manifest& manifest = session->model->package().manifest();
    const auto tokenizer = runtime::package_tokenizer(session->model->package());
    wanted.end_tokens = manifest.text->eos_token_ids;
    const runtime::GenerateResult made = runtime::generate(*session->session, *tokenizer, text, wanted);
    if (result == nullptr) return;
    const mambasdk_generate_result full{sizeof(full), made.prompt_tokens, made.new_tokens, made.prefill_seconds,
                                        made.decode_seconds};
    fill_struct(*result, full);
  });
}

}  // namespace mambasdk::abi
