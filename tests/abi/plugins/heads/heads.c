/* Two heads that run their model themselves, in C. heads.cpp and test_heads.py have the same ones. */
#include <mambasdk/mambasdk.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT(s) {s, sizeof(s) - 1}

static const mambasdk_api* host;
static const mambasdk_string x_name = TEXT("x"), y_name = TEXT("y");

static mambasdk_status* refuse(int32_t code, const char* message) {
  const mambasdk_string origin = TEXT("abiheads");
  return host->status_create(code, (mambasdk_string){message, strlen(message)}, origin);
}

static const mambasdk_tensor* input(const mambasdk_head_run* run, const char* name) {
  for (uint64_t i = 0; i < run->input_count; ++i) {
    const mambasdk_string given = run->inputs[i].name;
    if (given.size == strlen(name) && memcmp(given.data, name, given.size) == 0) return run->inputs[i].tensor;
  }
  return NULL;
}

static int wants_failure(const mambasdk_head_run* run) {
  const mambasdk_tensor* options = input(run, "options");
  if (options == NULL) return 0;
  for (int64_t i = 0; i + 4 <= options->shape[0]; ++i) {
    if (memcmp((const char*)options->data + i, "fail", 4) == 0) return 1;
  }
  return 0;
}

/* A tensor that owns its data. */
struct block {
  mambasdk_managed_tensor managed;
  int64_t shape[3];
};

static void delete_block(mambasdk_managed_tensor* self) {
  free(self->tensor.data);
  free(self->manager);
}

static mambasdk_managed_tensor* own(void* data, mambasdk_dtype dtype, int32_t ndim, const int64_t* shape) {
  struct block* made = calloc(1, sizeof(*made));
  memcpy(made->shape, shape, (size_t)ndim * sizeof(*shape));
  made->managed.dlpack_major = 1;
  made->managed.manager = made;
  made->managed.deleter = delete_block;
  made->managed.tensor.data = data;
  made->managed.tensor.device.type = 1;
  made->managed.tensor.ndim = ndim;
  made->managed.tensor.dtype = dtype;
  made->managed.tensor.shape = made->shape;
  return &made->managed;
}

static mambasdk_status* run_model(const mambasdk_head_model* model, const mambasdk_tensor* x,
                                  mambasdk_managed_tensor** y) {
  const mambasdk_named_tensor named = {x_name, x};
  return host->session_run(model->session, &named, 1, &y_name, 1, y);
}

static mambasdk_status* create(void* self, mambasdk_string config, mambasdk_string directory, void** instance) {
  (void)self;
  (void)config;
  (void)directory;
  *instance = calloc(1, sizeof(int64_t)); /* how often thrice was called */
  return NULL;
}
static void release(void* self, void* instance) {
  (void)self;
  free(instance);
}
static mambasdk_status* reset(void* self, void* instance) {
  (void)self;
  *(int64_t*)instance = 0;
  return NULL;
}

static mambasdk_status* thrice(void* self, void* instance, const mambasdk_head_run* run) {
  (void)self;
  const mambasdk_tensor* x = input(run, "x");
  if (x == NULL) return refuse(MAMBASDK_ERROR_INVALID_ARGUMENT, "input x is missing");
  mambasdk_managed_tensor* y = NULL;
  for (int i = 0; i < 3; ++i) {
    mambasdk_managed_tensor* next = NULL;
    mambasdk_status* status = i == 2 && wants_failure(run)
                                  ? refuse(MAMBASDK_ERROR_INVALID_ARGUMENT, "gave up after the second run")
                                  : run_model(run->model, y == NULL ? x : &y->tensor, &next);
    if (y != NULL) y->deleter(y);
    if (status != NULL) return status;
    y = next;
  }
  mambasdk_status* status = run->emit(run->emit_user, y_name, y);
  if (status != NULL) return status;
  char* json = malloc(64);
  const mambasdk_string json_name = TEXT("json");
  const mambasdk_dtype u8 = {1, 8, 1};
  const int64_t size = snprintf(json, 64, "{\"calls\": %lld}", (long long)*(int64_t*)instance + 1);
  status = run->emit(run->emit_user, json_name, own(json, u8, 1, &size));
  if (status == NULL) ++*(int64_t*)instance;
  return status;
}

static mambasdk_status* attach_windows(void* self, void* instance, const mambasdk_head_model* model) {
  (void)self;
  (void)instance;
  if (model->input_count != 1 || model->inputs[0].name.size != 1 || model->inputs[0].name.data[0] != 'x' ||
      model->inputs[0].ndim != 3) {
    return refuse(MAMBASDK_ERROR_UNSUPPORTED, "abiheads: another model");
  }
  return NULL;
}

static mambasdk_status* slide(const mambasdk_head_run* run, const mambasdk_tensor* x, float* mean, float* count) {
  const int64_t channels = x->shape[2], size = 4 * channels;
  for (int64_t start = 0; start + 4 <= x->shape[1]; start += 2) {
    int64_t shape[3] = {1, 4, channels};
    mambasdk_tensor window = *x;
    window.data = (float*)x->data + start * channels;
    window.shape = shape;
    window.strides = NULL;
    mambasdk_status* status = host->session_reset(run->model->session);
    mambasdk_managed_tensor* y = NULL;
    if (status == NULL) status = run_model(run->model, &window, &y);
    if (status != NULL) return status;
    const float* values = y->tensor.data;
    for (int64_t i = 0; i < size; ++i) {
      mean[start * channels + i] += values[i];
      count[start * channels + i] += 1;
    }
    y->deleter(y);
  }
  return NULL;
}

static mambasdk_status* windows(void* self, void* instance, const mambasdk_head_run* run) {
  (void)self;
  (void)instance;
  const mambasdk_tensor* x = input(run, "x");
  if (x == NULL) return refuse(MAMBASDK_ERROR_INVALID_ARGUMENT, "input x is missing");
  mambasdk_session* session = run->model->session;
  uint64_t bytes = 0;
  mambasdk_status* status = host->session_save(session, NULL, 0, &bytes);
  if (status != NULL) return status;
  void* before = malloc((size_t)bytes);
  const int64_t n = x->shape[1] * x->shape[2];
  float* mean = calloc((size_t)n, sizeof(float));
  float* count = calloc((size_t)n, sizeof(float));
  status = host->session_save(session, before, bytes, &bytes);
  if (status == NULL) status = slide(run, x, mean, count);
  if (status == NULL) status = host->session_restore(session, before, bytes);
  for (int64_t i = 0; i < n; ++i) mean[i] /= count[i];
  free(before);
  free(count);
  if (status != NULL) {
    free(mean);
    return status;
  }
  return run->emit(run->emit_user, y_name, own(mean, x->dtype, 3, x->shape));
}

static mambasdk_status* initialize(const mambasdk_api* api, mambasdk_registrar* registrar) {
  host = api;
  mambasdk_processor_definition head = {.struct_size = sizeof(head),
                                        .kind = TEXT("abiheads_c_thrice"),
                                        .doc = TEXT("The model three times."),
                                        .create = create,
                                        .release = release,
                                        .reset = reset,
                                        .drive = thrice};
  mambasdk_status* status = api->register_processor(registrar, MAMBASDK_HEAD, &head);
  if (status != NULL) return status;
  head.kind = (mambasdk_string)TEXT("abiheads_c_windows");
  head.doc = (mambasdk_string)TEXT("The model on windows.");
  head.drive = windows;
  head.attach = attach_windows;
  return api->register_processor(registrar, MAMBASDK_HEAD, &head);
}

MAMBASDK_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin(void) {
  static const mambasdk_plugin_descriptor descriptor = {.struct_size = sizeof(descriptor),
                                                        .abi_major = 1,
                                                        .abi_minor = 2,
                                                        .name = TEXT("mambasdk-abiheads-c"),
                                                        .version = TEXT("1.0.0"),
                                                        .requires_isa = TEXT(""),
                                                        .initialize = initialize,
                                                        .requires_torch = TEXT(""),
                                                        .requires_cuda = TEXT("")};
  return &descriptor;
}
