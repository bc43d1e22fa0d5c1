/* A plugin of ABI 1.0, in C. libabi10-x86_64.so beside it was built from this file and the frozen 1.0 header by
 * build.sh and is never built again: what was shipped must go on working. */
#include "mambasdk.h"

#define TEXT(s) {s, sizeof(s) - 1}

static const mambasdk_api* host;

static mambasdk_status* refuse(const char* message, uint64_t size) {
  const mambasdk_string origin = TEXT("abi10_scale");
  return host->status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, (mambasdk_string){message, size}, origin);
}

static mambasdk_status* check(void* self, const mambasdk_op_call* call) {
  (void)self;
  static const char message[] = "abi10_scale: 13 elements are refused";
  return call->dims[0] == 13 ? refuse(message, sizeof(message) - 1) : 0;
}

static mambasdk_status* reference(void* self, const mambasdk_op_call* call) {
  (void)self;
  const mambasdk_tensor* x = call->inputs[0].as.tensor;
  const int64_t stride = x->strides != 0 ? x->strides[0] : 1;
  const float* from = (const float*)((const char*)x->data + x->byte_offset);
  float* to = (float*)call->outputs[0].data;
  for (int64_t i = 0; i < call->dims[0]; ++i) to[i] = (float)((double)from[i * stride] * call->inputs[1].as.real);
  return 0;
}

struct work {
  const float* from;
  float* to;
  int64_t stride;
  float factor;
};

static void scale(void* arg, int64_t begin, int64_t end) {
  const struct work* w = (const struct work*)arg;
  for (int64_t i = begin; i < end; ++i) w->to[i] = w->from[i * w->stride] * w->factor;
}

/* By way of scratch memory and the host's threads, so that both are exercised. */
static mambasdk_status* cpu(void* self, const mambasdk_op_call* call) {
  (void)self;
  const mambasdk_context* context = call->context;
  const mambasdk_tensor* x = call->inputs[0].as.tensor;
  const uint64_t bytes = (uint64_t)call->dims[0] * sizeof(float);
  float* scratch = (float*)context->allocate(context->user, bytes, 64);
  static const char message[] = "abi10_scale: no memory";
  if (scratch == 0) return refuse(message, sizeof(message) - 1);
  struct work work = {(const float*)((const char*)x->data + x->byte_offset), scratch,
                      x->strides != 0 ? x->strides[0] : 1, (float)call->inputs[1].as.real};
  context->parallel_for(context->user, call->dims[0], 16, scale, &work);
  for (int64_t i = 0; i < call->dims[0]; ++i) ((float*)call->outputs[0].data)[i] = scratch[i];
  context->release(context->user, scratch, bytes);
  return 0;
}

static mambasdk_status* initialize(const mambasdk_api* api, mambasdk_registrar* registrar) {
  host = api;
  const mambasdk_op_definition op = {sizeof(op),
                                     TEXT("abi10_scale(x: f32[N], factor: float = 2.0) -> (y: f32[N])"),
                                     TEXT("y = factor x."),
                                     0,
                                     check,
                                     reference,
                                     cpu};
  mambasdk_status* status = api->register_op(registrar, &op);
  if (status != 0) return status;
  const mambasdk_string name = TEXT("abi10_scale");
  return api->register_kernel(registrar, name, 2, reference, 0);
}

MAMBASDK_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin(void) {
  static const mambasdk_plugin_descriptor descriptor = {sizeof(descriptor), 1,        0,         TEXT("abi10"),
                                                        TEXT("1.0.0"),      TEXT(""), initialize};
  return &descriptor;
}
