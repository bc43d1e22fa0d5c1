// For *_test.cpp: a host that cancels a call after so many questions.
#pragma once

#include <cstdint>

#include "mambasdk/mambasdk.h"

namespace mambasdk::abi::testing {

struct CancellingHost {
  static constexpr int kNever = 1 << 30;
  int left = kNever;  // questions that are answered with "go on"
  mambasdk_context context{};

  CancellingHost() {
    context.struct_size = sizeof(context);
    context.user = this;
    context.is_cancelled = [](void* user) -> std::int32_t {
      return static_cast<CancellingHost*>(user)->left-- <= 0 ? 1 : 0;
    };
  }
  CancellingHost(const CancellingHost&) = delete;
  CancellingHost& operator=(const CancellingHost&) = delete;
};

}  // namespace mambasdk::abi::testing
