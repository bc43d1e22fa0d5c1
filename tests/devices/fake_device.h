/* What the tests ask of the fake device (fake_device.cpp) beside the C ABI. */
#ifndef MAMBASDK_TESTS_FAKE_DEVICE_H_
#define MAMBASDK_TESTS_FAKE_DEVICE_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FAKE_DEVICE_TYPE = 12 /* DLPack's for a device of one's own, torch's PrivateUse1 */, FAKE_DEVICE_COUNT = 2 };

#define FAKE_DEVICE_LACKS "gelu_tanh" /* the operation that it has no kernel for */

typedef struct fake_device_counts {
  int64_t allocations;
  int64_t live_blocks; /* that were not released */
  int64_t copies_to_device;
  int64_t copies_from_device;
  int64_t copies_on_device;
  int64_t bytes_to_device;
  int64_t bytes_from_device;
  int64_t fills;
  int64_t kernels;
  int64_t kernels_on_default_stream;
  int64_t synchronizations;
  int64_t live_streams;
} fake_device_counts;

void fake_device_get_counts(fake_device_counts* counts);
/* The n-th allocation from now on fails (0: the next); negative: none. */
void fake_device_fail_allocation(int64_t n);

/* The functions of the device definition, for who has memory on it by another way (torch). */
void* fake_device_allocate(int32_t index, void* stream, uint64_t bytes);
void fake_device_release(int32_t index, void* stream, void* data);
void fake_device_copy(int32_t index, void* stream, int32_t direction, void* to, const void* from, uint64_t bytes);
void* fake_device_create_stream(int32_t index);
/* 0, or -1 where work on the stream failed: then *message says why, until the next call. */
int32_t fake_device_synchronize(int32_t index, void* stream, const char** message);

#ifdef __cplusplus
}
#endif

#endif
