// The tensors that a session carries from run to run, whatever the engine: zero at first, saved as safetensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device.hpp"
#include "core/extent.hpp"
#include "core/tensor.hpp"
#include "runtime/engine/growing_memory.hpp"
#include "runtime/engine/owned_tensor.hpp"
#include "runtime/engine/shapes.hpp"
#include "runtime/package/safetensors.hpp"

namespace mambasdk::runtime {

struct StateIdentity;

// A state that grows holds rows along one dim, whose extent has a name: a run reads the rows that are there and appends
// some. In memory that dim is the outermost, so that a row is never moved.
struct StateSpec {
  std::string name;
  DType dtype;
  std::vector<Dimension> shape;
  int grows = -1;                  // the dim; -1: none, a run writes the whole state
  std::int64_t limit = kMostRows;  // rows, at most

  static constexpr std::int64_t kMostRows = std::int64_t{1} << 45;
  [[nodiscard]] bool is_growing() const { return grows >= 0; }
  [[nodiscard]] const std::string& length_name() const { return shape[static_cast<std::size_t>(grows)].symbol; }
};

// So many rows of a growing state, with the strides that they have in memory; without data.
[[nodiscard]] Tensor growing_view(const StateSpec& spec, const Tensor& like, std::int64_t rows);
// The dims of a growing state in the order of memory.
[[nodiscard]] std::vector<std::int64_t> memory_order(const StateSpec& spec);

// A manifest's states. Error: corrupt, for a dtype that there is not or a shape of too many dims.
[[nodiscard]] std::vector<StateSpec> state_specs(const std::vector<TensorSpec>& specs);

class SessionStates {
 public:
  // `specs` must outlive this, and so must the place's stream. max_memory: bytes that the states may take, as bytes()
  // counts them.
  explicit SessionStates(std::span<const StateSpec> specs, std::uint64_t max_memory = UINT64_MAX,
                         const Place& place = Place::host())
      : specs_(specs), max_memory_(max_memory), place_(place) {}

  // Makes zeros, and no rows, where nothing is held yet. Throws Error(invalid_argument) where what is held has another
  // shape, and Error(out_of_memory) for more than max_memory; then what was held is held still.
  void bind(const Symbols& symbols);
  [[nodiscard]] bool empty() const noexcept { return states_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return states_.size(); }
  [[nodiscard]] Tensor now(std::size_t i) const { return side(states_[i], states_[i].now); }  // what the next run reads
  // What it writes; of a growing state the rows that it reads and, behind them, those that it appends.
  [[nodiscard]] Tensor next(std::size_t i) const { return side(states_[i], states_[i].next); }
  void advance(std::size_t i);
  void clear() noexcept { states_.clear(); }
  [[nodiscard]] Extent bytes() const;  // of both sides; of a growing state its memory

  // Before a run that appends appended[i] rows to state i: what bytes() is at least afterwards, and the memory for it,
  // of at most `most` bytes (which must be enough). A row that is written here belongs to no state until advance().
  [[nodiscard]] Extent bytes_after(std::span<const std::int64_t> appended) const;
  void reserve(std::span<const std::int64_t> appended, std::uint64_t most);

  [[nodiscard]] SessionStates copy() const;
  // To go back to. Growing states share their memory with it: it costs none, and rows that it holds are not written.
  [[nodiscard]] SessionStates snapshot() const { return copy_of(true); }

  // A safetensors image of what is held; `metadata` is stored beside it.
  [[nodiscard]] std::vector<std::byte> save(std::map<std::string, std::string> metadata) const;
  // Errors: corrupt, invalid_argument (another model's, by `identity` where it is given), out_of_memory; then what was
  // held is held still.
  void restore(std::span<const std::byte> image, const StateIdentity* identity = nullptr);

 private:
  struct State {
    OwnedTensor now, next;  // of a growing state the shapes of its views of `rows`
    std::shared_ptr<GrowingMemory> rows;
  };
  [[nodiscard]] static Tensor side(const State& state, const OwnedTensor& of) {
    Tensor view = of.view;
    if (state.rows != nullptr) view.data = state.rows->data();
    return view;
  }
  [[nodiscard]] SessionStates copy_of(bool shared_rows) const;
  [[nodiscard]] State make_state(const StateSpec& spec, const std::int64_t* shape) const;
  void set_rows(State& state, std::size_t kept, std::size_t bytes) const;

  std::span<const StateSpec> specs_;
  std::uint64_t max_memory_;
  Place place_;
  std::vector<State> states_;  // empty until the first run binds the batch
};

// Element type of a safetensors dtype ("F32"). Error: unsupported, naming the tensor.
[[nodiscard]] DType stored_dtype(const StoredTensor& t);

}  // namespace mambasdk::runtime
