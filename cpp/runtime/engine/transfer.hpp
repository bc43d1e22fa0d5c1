// Copies between the host and a session's place.
#pragma once

#include <vector>

#include "core/device.hpp"
#include "runtime/engine/owned_tensor.hpp"

namespace mambasdk::runtime {

// The copies of one call, in the order of the place's stream. Host memory that is on its way must stay until finish()
// has returned, or the destructor, which waits too: so what a caller lent is free again whatever failed.
class Transfer {
 public:
  explicit Transfer(const Place& place) : place_(place) {}
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // To row-major memory at the place, from the host or, contiguous, from the place's device.
  void in(const Tensor& from, void* to);
  // A row-major copy on the host of what lies at the place; its elements are there after finish().
  [[nodiscard]] OwnedTensor out(const Tensor& from);
  void finish();

 private:
  // A strided tensor whose memory comes over whole, to be put in order on the host.
  struct Unordered {
    OwnedTensor memory;
    Tensor view;
    void* to;
  };
  void out_in_rows(const Tensor& from, void* to, int inner, std::int64_t row_bytes);
  void out_whole(const Tensor& from, void* to);

  Place place_;
  bool waiting_ = true;
  std::vector<OwnedTensor> staged_;
  std::vector<Unordered> unordered_;
};

}  // namespace mambasdk::runtime
