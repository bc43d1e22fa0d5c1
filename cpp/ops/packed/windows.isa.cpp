// Products of windows (contract: windows.hpp): a block's input is copied once, widened and with its padding, to where
// the windows of neighbours overlap just as in the image; register tiles read them there. No window is ever written
// out.
#include "ops/packed/windows.hpp"

#include "ops/packed/pixels.hpp"
#include "ops/packed/window_plan.hpp"
#include "ops/rows_simd.hpp"

namespace mambasdk::MAMBASDK_ISA {
namespace {

constexpr int kMostTileRows = 16;

// One thread's work.
class Worker {
 public:
  MAMBASDK_ALWAYS_INLINE Worker(const Windows& windows, const Plan& plan, void* memory)
      : w_(windows), p_(plan), input_(static_cast<float*>(memory)), pairs_(multiplies_pairs(windows)) {
    runs_ = reinterpret_cast<PackedRun*>(input_ + input_floats(p_));
    plain_ = stores_sums(w_.results, tile_.least);
    if (!plain_) tile_.least = -__builtin_inff();
  }
  // The input's place: runs follow it, and begin where whole vectors do.
  static Index input_floats(const Plan& p) { return ceil_div(p.elements, kLanes) * kLanes; }
  static Index bytes(const Windows& w, const Plan& p) {
    return input_floats(p) * static_cast<Index>(sizeof(float)) +
           w.tap_count[0] * w.tap_count[1] * w.tap_count[2] * static_cast<Index>(sizeof(PackedRun));
  }

  void run(Index task) {
    const Index part = task % p_.panel_parts, block = task / p_.panel_parts;
    if (block != block_) begin_block(block);
    const Index begin = piece_begin(w_.panels, p_.panel_parts, part),
                end = piece_begin(w_.panels, p_.panel_parts, part + 1);
    for (Index panel = begin; panel < end; ++panel) multiply_panel(panel);
  }

 private:
  void begin_block(Index block) {
    block_ = block;
    group_ = block % w_.groups;
    block /= w_.groups;
    const Index column = block % p_.width_blocks;
    block /= p_.width_blocks;
    const Index row = block % p_.height_blocks;
    block /= p_.height_blocks;
    depth_ = block % w_.count[0];
    batch_ = block / w_.count[0];
    top_ = piece_begin(w_.count[1], p_.height_blocks, row);
    height_ = piece_begin(w_.count[1], p_.height_blocks, row + 1) - top_;
    left_ = piece_begin(w_.count[2], p_.width_blocks, column);
    width_ = piece_begin(w_.count[2], p_.width_blocks, column + 1) - left_;
    if (height_ == 0 || width_ == 0) return;
    lines_[1] = Line::of(w_, 1, height_);
    lines_[2] = Line::of(w_, 2, width_);
    if (p_.direct) {
      place_in_image();
    } else {
      copy_input();
      const Index pair = pairs_ ? 2 : 1;
      if (pairs_) {
        make_pairs();
      } else if (w_.rounds) {
        round_input();
      }
      const Index pixel = pixel_pitch(w_);
      pitch_[2] = pixel / pair;
      pitch_[1] = lines_[2].extent * pitch_[2];
      pitch_[0] = lines_[1].extent * pitch_[1];
      origin_ = input_;
      row_pitch_ = lines_[1].step * pitch_[1];
      column_pitch_ = lines_[2].step * pitch_[2];
      list_runs([&](int dim, Index t) { return dim == 0 ? t : lines_[dim].place(w_.taps[dim], t); },
                !lines_[2].by_tap && pixel == w_.channels);
      run_length_ /= pair;
    }
  }

  void place_in_image() {
    for (int d = 0; d < 3; ++d) pitch_[d] = w_.x_stride[d + 1];
    origin_ = static_cast<const float*>(w_.x) + batch_ * w_.x_stride[0] + group_ * w_.channels * w_.x_stride[4] +
              depth_ * w_.step[0] * pitch_[0] + top_ * w_.step[1] * pitch_[1] + left_ * w_.step[2] * pitch_[2];
    row_pitch_ = w_.step[1] * pitch_[1];
    column_pitch_ = w_.step[2] * pitch_[2];
    list_runs([&](int dim, Index t) { return w_.taps[dim][t].offset; }, pitch_[2] == w_.channels);
  }

  // Neighbouring taps of a line are one run where their pixels are neighbours in memory.
  template <class Place>
  void list_runs(Place place, bool pixels_touch) {
    const Tap* across = w_.taps[2];
    bool one = pixels_touch;
    for (Index t = 1; t < w_.tap_count[2]; ++t) {
      one = one && across[t].offset == across[t - 1].offset + 1 && across[t].index == across[t - 1].index + 1;
    }
    const Index each = one ? least(w_.tap_count[2], 1) : w_.tap_count[2];
    run_length_ = one ? w_.tap_count[2] * w_.channels : w_.channels;
    run_count_ = 0;
    for (Index i = 0; i < w_.tap_count[0]; ++i) {
      for (Index j = 0; j < w_.tap_count[1]; ++j) {
        for (Index k = 0; k < each; ++k) {
          const Index row = (w_.taps[0][i].index * w_.kernel[1] + w_.taps[1][j].index) * w_.kernel[2] + across[k].index;
          runs_[run_count_++] = {place(0, i) * pitch_[0] + place(1, j) * pitch_[1] + place(2, k) * pitch_[2],
                                 row * w_.channels};
        }
      }
    }
  }

  void copy_input() {
    const Index size = w_.x_type.bits / 8;
    const auto* image =
        static_cast<const char*>(w_.x) + (batch_ * w_.x_stride[0] + group_ * w_.channels * w_.x_stride[4]) * size;
    const Index pixel = pixel_pitch(w_);
    PixelLine line{nullptr, w_.x_type, w_.x_stride[3], w_.x_stride[4], w_.channels, w_.in[2], pixel};
    float* to = input_;
    const Index left = left_ * w_.step[2];
    for (Index i = 0; i < w_.tap_count[0]; ++i) {
      const Index d = depth_ * w_.step[0] + w_.taps[0][i].offset;
      for (Index j = 0; j < lines_[1].extent; ++j) {
        const Index h = lines_[1].by_tap ? (top_ + j % height_) * w_.step[1] + w_.taps[1][j / height_].offset
                                         : top_ * w_.step[1] + lines_[1].lowest + j;
        const bool inside = d >= 0 && d < w_.in[0] && h >= 0 && h < w_.in[1];
        line.data = inside ? image + (d * w_.x_stride[1] + h * w_.x_stride[2]) * size : nullptr;
        line.width = inside ? w_.in[2] : 0;
        if (!lines_[2].by_tap) {
          copy_pixels(line, left + lines_[2].lowest, 1, lines_[2].extent, to);
          to += lines_[2].extent * pixel;
          continue;
        }
        for (Index t = 0; t < w_.tap_count[2]; ++t, to += width_ * pixel) {
          copy_pixels(line, left + w_.taps[2][t].offset, w_.step[2], width_, to);
        }
      }
    }
  }

  [[nodiscard]] Index input_size() const { return w_.tap_count[0] * lines_[1].extent * lines_[2].extent * w_.channels; }
  // Both in place.
  void make_pairs() {
    auto* to = reinterpret_cast<bf16*>(input_);
    for_lanes(input_size(), [&](Index i, int count) __attribute__((always_inline)) {
      store_n(to + i, load_n(static_cast<const float*>(input_) + i, count), count);
    });
  }
  void round_input() {
    for_lanes(input_size(), [&](Index i, int count) __attribute__((always_inline)) {
      alignas(64) bf16 rounded[kLanes];
      store(static_cast<bf16*>(rounded), load_n(static_cast<const float*>(input_) + i, count));
      store_n(input_ + i, load(static_cast<const bf16*>(rounded)), count);
    });
  }

  MAMBASDK_ALWAYS_INLINE void multiply() const {
#if defined(__AVX512BF16__)
    if (pairs_) return packed_pair_tile(tile_);
#endif
    packed_tile(tile_);
  }

  void multiply_panel(Index panel) {
    if (height_ == 0 || width_ == 0) return;
    const Index number = group_ * w_.panels + panel;
    tile_.panel = static_cast<const char*>(w_.weight) + number * p_.depth * kPackedColumns * (w_.weight_type.bits / 8);
    tile_.panel_type = w_.weight_type;
    tile_.bias = w_.has_bias ? w_.bias + number * kPackedColumns : w_.bias;
    tile_.columns = static_cast<int>(least(kPackedColumns, w_.columns - panel * kPackedColumns));
    tile_.runs = runs_;
    tile_.run_count = run_count_;
    tile_.run_length = run_length_;
    tile_.a_row = column_pitch_;
    column_ = group_ * w_.columns + panel * kPackedColumns;
    const Index most = packed_tile_rows(), tiles = ceil_div(width_, most);
    Index i = 0;
    if (2 * width_ <= most) {
      for (; i + 2 <= height_; i += 2) multiply_tile(i, 0, width_, 2);
    }
    for (; i < height_; ++i) {
      for (Index t = 0; t < tiles; ++t) {
        const Index begin = piece_begin(width_, tiles, t);
        multiply_tile(i, begin, piece_begin(width_, tiles, t + 1) - begin, 1);
      }
    }
  }

  // `n` windows from (i, j) on, of one line or of two.
  void multiply_tile(Index i, Index j, Index n, int lines) {
    const float* a = origin_ + i * row_pitch_ + j * column_pitch_;
    const Index half = lines == 2 ? n : (n + 1) / 2;
    const Index row = ((batch_ * w_.out[0] + w_.out_first[0] + depth_ * w_.out_step[0]) * w_.out[1] + w_.out_first[1] +
                       (top_ + i) * w_.out_step[1]) *
                          w_.out[2] +
                      w_.out_first[2] + (left_ + j) * w_.out_step[2];
    const Index second = row + (lines == 2 ? w_.out_step[1] * w_.out[2] : half * w_.out_step[2]);
    tile_.rows = static_cast<int>(lines * n);
    tile_.a[0] = a;
    tile_.a[1] = lines == 2 ? a + row_pitch_ : a + half * column_pitch_;
    const Index y_columns = w_.results.columns;
    if (plain_ && tile_.columns % kLanes == 0) {
      tile_.c[0] = static_cast<float*>(w_.results.y) + row * y_columns + column_;
      tile_.c[1] = static_cast<float*>(w_.results.y) + second * y_columns + column_;
      tile_.c_row = w_.out_step[2] * y_columns;
      multiply();
      return;
    }
    alignas(64) float values[kMostTileRows * kPackedColumns];
    tile_.c[0] = values;
    tile_.c[1] = values + half * kPackedColumns;
    tile_.c_row = kPackedColumns;
    multiply();
    finish_tile(w_.results,
                {values, {row, second}, static_cast<int>(half), tile_.rows, w_.out_step[2], column_, tile_.columns});
  }

  const Windows& w_;
  const Plan& p_;
  float* input_;
  PackedRun* runs_;
  bool pairs_;  // tiles read pairs of bfloat16
  bool plain_;
  Index block_ = -1, group_ = 0, depth_ = 0, batch_ = 0;
  Index top_ = 0, left_ = 0, height_ = 0, width_ = 0;  // windows of the block
  Line lines_[3];                                      // of height and width
  const float* origin_ = nullptr;                      // of the block's first window
  Index pitch_[3] = {}, row_pitch_ = 0, column_pitch_ = 0;
  Index run_count_ = 0, run_length_ = 0, column_ = 0;
  PackedTile tile_;
};

}  // namespace

bool window_products(const Windows& w, const Parallel& parallel, const ThreadScratch& scratch) {
  MAMBASDK_SHARE_AVX512(multiplies_pairs(w), window_products(w, parallel, scratch));
  const Plan plan = Plan::of(w);
  const auto bytes = static_cast<std::size_t>(Worker::bytes(w, plan));
  bool ok = true;
  parallel(plan.tasks, plan.grain, [&](Index begin, Index end) {
    void* memory = scratch.get(scratch.self, bytes);
    if (memory == nullptr) {
      __atomic_store_n(&ok, false, __ATOMIC_RELAXED);
      return;
    }
    Worker worker(w, plan, memory);
    for (Index task = begin; task < end; ++task) worker.run(task);
    scratch.put(scratch.self, memory, bytes);
  });
  return ok;
}

}  // namespace mambasdk::MAMBASDK_ISA
