/* A native plugin with one operation and its derivative: y = factor * x * weight. */
#include <string.h>

#include "mambasdk/mambasdk.h"

static mambasdk_string text(const char* s) {
  mambasdk_string out = {s, strlen(s)};
  return out;
}

static int64_t offset(const mambasdk_tensor* t, int64_t row, int64_t column) {
  return t->strides == NULL ? row * t->shape[1] + column : row * t->strides[0] + column * t->strides[1];
}

static double load(const mambasdk_tensor* t, int64_t at) {
  const char* data = (const char*)t->data + t->byte_offset;
  return t->dtype.bits == 64 ? ((const double*)data)[at] : (double)((const float*)data)[at];
}

static void store(const mambasdk_tensor* t, int64_t at, double value) {
  char* data = (char*)t->data + t->byte_offset;
  if (t->dtype.bits == 64) {
    ((double*)data)[at] = value;
  } else {
    ((float*)data)[at] = (float)value;
  }
}

static const mambasdk_api* host;

static mambasdk_status* check(void* self, const mambasdk_op_call* call) {
  (void)self;
  const uint8_t bits = call->inputs[call->input_count - 2].as.tensor->dtype.bits;
  if (bits == 32 || bits == 64) return NULL;
  return host->status_create(MAMBASDK_ERROR_INVALID_ARGUMENT, text("toy_scale: weight must be f32 or f64"),
                             text("toy"));
}

static mambasdk_status* forward(void* self, const mambasdk_op_call* call) {
  (void)self;
  const mambasdk_tensor *x = call->inputs[0].as.tensor, *weight = call->inputs[1].as.tensor;
  for (int64_t row = 0; row < x->shape[0]; ++row) {
    for (int64_t d = 0; d < x->shape[1]; ++d) {
      const double w = load(weight, d * (weight->strides == NULL ? 1 : weight->strides[0]));
      store(&call->outputs[0], row * x->shape[1] + d, call->inputs[2].as.real * load(x, offset(x, row, d)) * w);
    }
  }
  return NULL;
}

/* grad_y, x, weight, factor -> grad_x, grad_weight */
static mambasdk_status* backward(void* self, const mambasdk_op_call* call) {
  (void)self;
  const mambasdk_tensor *grad = call->inputs[0].as.tensor, *x = call->inputs[1].as.tensor,
                        *weight = call->inputs[2].as.tensor;
  const double factor = call->inputs[3].as.real;
  for (int64_t d = 0; d < x->shape[1]; ++d) {
    const double w = load(weight, d * (weight->strides == NULL ? 1 : weight->strides[0]));
    double sum = 0;
    for (int64_t row = 0; row < x->shape[0]; ++row) {
      const double g = load(grad, offset(grad, row, d));
      sum += factor * g * load(x, offset(x, row, d));
      store(&call->outputs[0], row * x->shape[1] + d, factor * g * w);
    }
    store(&call->outputs[1], d, sum);
  }
  return NULL;
}

static mambasdk_status* initialize(const mambasdk_api* api, mambasdk_registrar* registrar) {
  host = api;
  mambasdk_op_definition scale = {sizeof scale};
  scale.signature = text("toy_scale(x: T[B,D], weight: T[D], factor: float = 2) -> (y: T[B,D])");
  scale.doc = text("factor * x * weight.");
  scale.check = check;
  scale.reference = forward;
  mambasdk_status* status = api->register_op(registrar, &scale);
  if (status != NULL) return status;
  mambasdk_op_definition derivative = {sizeof derivative};
  derivative.signature = text(
      "toy_scale_backward(grad_y: T[B,D], x: T[B,D], weight: T[D], factor: float) -> (grad_x: T[B,D], grad_weight: "
      "T[D])");
  derivative.doc = text("Derivative of toy_scale.");
  derivative.reference = backward;
  return api->register_op(registrar, &derivative);
}

MAMBASDK_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin(void) {
  static const mambasdk_plugin_descriptor descriptor = {
      sizeof descriptor, MAMBASDK_ABI_MAJOR, 0, {"toy", 3}, {"1.0", 3}, {"", 0}, initialize};
  return &descriptor;
}
