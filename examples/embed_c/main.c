/* embed_c PACKAGE PROMPT COUNT: continues a text greedily, token by token, over the C ABI.
 * Prints the package's description (JSON: inputs, outputs, states), then the token ids, one a line. Half-way it saves
 * the state; at the end it goes back there and checks that the second half comes out the same. */
#include <inttypes.h>
#include <mambasdk/mambasdk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const mambasdk_api* api;

static void check(mambasdk_status* status) {
  if (status == NULL) return;
  fprintf(stderr, "embed_c: %s\n", api->status_message(status).data);
  api->status_release(status);
  exit(1);
}

static mambasdk_string text(const char* s) {
  const mambasdk_string out = {s, strlen(s)};
  return out;
}

/* The likeliest token after `tokens`; the session remembers them. */
static int32_t next_token(mambasdk_session* session, mambasdk_sampler* sampler, int32_t* tokens, int64_t count) {
  int64_t shape[2] = {1, count};
  mambasdk_tensor input = {0};
  input.data = tokens; /* (1, count) */
  input.device.type = 1;
  input.ndim = 2;
  input.dtype.bits = 32;
  input.dtype.lanes = 1;
  input.shape = shape;
  const mambasdk_named_tensor named = {text("tokens"), &input};
  const mambasdk_string wanted = text("last_logits");
  mambasdk_managed_tensor* logits = NULL; /* (1, vocabulary) */
  check(api->session_run(session, &named, 1, &wanted, 1, &logits));
  int32_t token = 0;
  const int64_t vocab_size = logits->tensor.shape[logits->tensor.ndim - 1];
  check(api->sampler_sample(sampler, logits->tensor.data, (uint64_t)vocab_size, &token));
  logits->deleter(logits);
  return token;
}

int main(int argc, char** argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: embed_c PACKAGE PROMPT COUNT\n");
    return 2;
  }
  const long count = strtol(argv[3], NULL, 10);
  api = mambasdk_get_api(MAMBASDK_ABI_MAJOR, MAMBASDK_ABI_MINOR);
  if (api == NULL || count < 1) {
    fprintf(stderr,
            api == NULL ? "embed_c: libmambasdk is older than these headers\n" : "embed_c: COUNT must be positive\n");
    return 1;
  }

  mambasdk_model* model = NULL;
  mambasdk_session* session = NULL;
  mambasdk_tokenizer* tokenizer = NULL;
  mambasdk_sampler* sampler = NULL;
  mambasdk_load_options options = {.struct_size = sizeof(options), .verify = MAMBASDK_VERIFY_ALL};
  check(api->model_load(text(argv[1]), &options, &model));
  const mambasdk_string description = api->model_describe(model);
  printf("%.*s\n", (int)description.size, description.data);
  check(api->session_create(model, NULL, &session));
  check(api->tokenizer_of_model(model, &tokenizer));
  check(api->sampler_create(NULL, &sampler)); /* greedy */

  const mambasdk_string prompt = text(argv[2]);
  uint64_t prompt_count = 0;
  check(api->tokenizer_encode(tokenizer, prompt, 1, NULL, 0, &prompt_count));
  int32_t* prompt_tokens = malloc((prompt_count + 1) * sizeof *prompt_tokens);
  int32_t* tokens = malloc((size_t)count * sizeof *tokens);
  if (prompt_tokens == NULL || tokens == NULL) return 1;
  check(api->tokenizer_encode(tokenizer, prompt, 1, prompt_tokens, prompt_count, &prompt_count));

  const long half = count / 2;
  void* saved = NULL;
  uint64_t saved_size = 0;
  tokens[0] = next_token(session, sampler, prompt_tokens, (int64_t)prompt_count);
  for (long i = 1; i < count; ++i) {
    if (i == half) {
      check(api->session_save(session, NULL, 0, &saved_size));
      saved = malloc((size_t)saved_size);
      if (saved == NULL) return 1;
      check(api->session_save(session, saved, saved_size, &saved_size));
    }
    tokens[i] = next_token(session, sampler, &tokens[i - 1], 1);
  }
  for (long i = 0; i < count; ++i) printf("%" PRId32 "\n", tokens[i]);

  int same = 1;
  if (saved != NULL) {
    check(api->session_restore(session, saved, saved_size));
    for (long i = half; i < count; ++i) {
      int32_t previous = tokens[i - 1];
      same = same && next_token(session, sampler, &previous, 1) == tokens[i];
    }
    if (!same) fprintf(stderr, "embed_c: the restored state gave other tokens\n");
  }

  free(saved);
  free(tokens);
  free(prompt_tokens);
  api->sampler_release(sampler);
  api->tokenizer_release(tokenizer);
  api->session_release(session);
  api->model_release(model);
  return same ? 0 : 1;
}
