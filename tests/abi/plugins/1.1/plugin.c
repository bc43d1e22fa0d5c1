/* A plugin of ABI 1.1, in C: an engine and a processor. libabi11-x86_64.so beside it was built from this file and the
 * frozen 1.1 header by build.sh and is never built again: what was shipped must go on working. */
#include "mambasdk.h"

#define TEXT(s) {s, sizeof(s) - 1}

static const mambasdk_api* host;

/* One f32 of shape (1), handed out; `used` until the receiver deletes it. */
struct number {
  mambasdk_managed_tensor managed;
  int64_t shape[1];
  float value;
  int used;
};
static struct number numbers[64];

static void delete_number(mambasdk_managed_tensor* self) {
  ((struct number*)self->manager)->used = 0;
}

static mambasdk_managed_tensor* make_number(float value) {
  for (int i = 0; i < 64; ++i) {
    struct number* n = &numbers[i];
    if (n->used) continue;
    n->used = 1;
    n->value = value;
    n->shape[0] = 1;
    n->managed.dlpack_major = 1;
    n->managed.manager = n;
    n->managed.deleter = delete_number;
    n->managed.tensor.data = &n->value;
    n->managed.tensor.device.type = 1;
    n->managed.tensor.ndim = 1;
    n->managed.tensor.dtype.code = 2;
    n->managed.tensor.dtype.bits = 32;
    n->managed.tensor.dtype.lanes = 1;
    n->managed.tensor.shape = n->shape;
    return &n->managed;
  }
  return 0;
}

static mambasdk_status* refuse(const char* message, uint64_t size) {
  const mambasdk_string origin = TEXT("abi11");
  return host->status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, (mambasdk_string){message, size}, origin);
}

/* The engine: y is how often the session ran. Sessions come from a pool and are not reused. */
struct session {
  float runs;
};
static struct session sessions[64];
static int session_count;
static int model;

static mambasdk_status* model_load(void* self, const mambasdk_package* package, void** made) {
  (void)self;
  static const char message[] = "abi11: the package is smaller than that of 1.1";
  if (package->struct_size < sizeof(mambasdk_package)) return refuse(message, sizeof(message) - 1);
  *made = &model;
  return 0;
}
static void model_release(void* self, void* given) {
  (void)self;
  (void)given;
}
static mambasdk_status* session_create(void* self, void* given, const mambasdk_context* context, void** made) {
  (void)self;
  (void)given;
  (void)context;
  static const char message[] = "abi11: no session is left";
  if (session_count == 64) return refuse(message, sizeof(message) - 1);
  *made = &sessions[session_count++];
  return 0;
}
static void session_release(void* self, void* session) {
  (void)self;
  (void)session;
}
static mambasdk_status* session_run(void* self, void* given, const mambasdk_named_tensor* inputs, uint64_t input_count,
                                    const mambasdk_string* names, uint64_t output_count,
                                    mambasdk_managed_tensor** outputs) {
  (void)self;
  (void)inputs;
  (void)input_count;
  (void)names;
  struct session* session = (struct session*)given;
  session->runs += 1;
  for (uint64_t i = 0; i < output_count; ++i) outputs[i] = make_number(session->runs);
  return 0;
}
static mambasdk_status* session_reset(void* self, void* session) {
  (void)self;
  ((struct session*)session)->runs = 0;
  return 0;
}
static mambasdk_status* session_save(void* self, void* session, void* data, uint64_t capacity, uint64_t* size) {
  (void)self;
  *size = sizeof(float);
  if (data != 0 && capacity >= sizeof(float)) *(float*)data = ((struct session*)session)->runs;
  return 0;
}
static mambasdk_status* session_restore(void* self, void* session, const void* data, uint64_t size) {
  (void)self;
  static const char message[] = "abi11: no state of abi11_runs";
  if (size != sizeof(float)) return refuse(message, sizeof(message) - 1);
  const unsigned char* from = (const unsigned char*)data;
  unsigned char* to = (unsigned char*)&((struct session*)session)->runs;
  for (uint64_t i = 0; i < size; ++i) to[i] = from[i];
  return 0;
}

/* The processor: how many bytes it got. */
static mambasdk_status* create(void* self, mambasdk_string config, mambasdk_string directory, void** instance) {
  (void)self;
  (void)config;
  (void)directory;
  *instance = &model;
  return 0;
}
static void release(void* self, void* instance) {
  (void)self;
  (void)instance;
}
static mambasdk_status* run(void* self, void* instance, const mambasdk_context* context,
                            const mambasdk_named_tensor* inputs, uint64_t input_count, mambasdk_emit_fn emit,
                            void* user) {
  (void)self;
  (void)instance;
  (void)context;
  const mambasdk_string name = TEXT("count");
  return emit(user, name, make_number(input_count == 1 ? (float)inputs[0].tensor->shape[0] : -1.0f));
}

static mambasdk_status* initialize(const mambasdk_api* api, mambasdk_registrar* registrar) {
  host = api;
  const mambasdk_engine_definition engine = {.struct_size = sizeof(engine),
                                             .name = TEXT("abi11_runs"),
                                             .doc = TEXT("Counts its runs."),
                                             .model_load = model_load,
                                             .model_release = model_release,
                                             .session_create = session_create,
                                             .session_release = session_release,
                                             .session_run = session_run,
                                             .session_reset = session_reset,
                                             .session_save = session_save,
                                             .session_restore = session_restore};
  mambasdk_status* status = api->register_engine(registrar, &engine);
  if (status != 0) return status;
  const mambasdk_processor_definition processor = {.struct_size = sizeof(processor),
                                                   .kind = TEXT("abi11_count"),
                                                   .doc = TEXT("Counts bytes."),
                                                   .create = create,
                                                   .release = release,
                                                   .run = run};
  return api->register_processor(registrar, MAMBASDK_PROCESSOR, &processor);
}

MAMBASDK_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin(void) {
  static const mambasdk_plugin_descriptor descriptor = {.struct_size = sizeof(descriptor),
                                                        .abi_major = 1,
                                                        .abi_minor = 1,
                                                        .name = TEXT("abi11"),
                                                        .version = TEXT("1.1.0"),
                                                        .requires_isa = TEXT(""),
                                                        .initialize = initialize,
                                                        .requires_torch = TEXT(""),
                                                        .requires_cuda = TEXT("")};
  return &descriptor;
}
