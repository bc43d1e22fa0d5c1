// For parts that keep state from run to run: a run that fails leaves it as it was. Included by mambasdk/plugin.hpp.
//
//   void run(const Inputs& inputs, Emitter& emit) {
//     plugin::StateChange change(state_);
//     change->frames += 1;       // whatever throws from here on leaves state_ alone
//     emit.json(…);
//     change.commit();           // last
//   }
#ifndef MAMBASDK_PLUGIN_STATE_CHANGE_HPP_
#define MAMBASDK_PLUGIN_STATE_CHANGE_HPP_

#include <type_traits>
#include <utility>

namespace mambasdk {
inline namespace abi1 {
namespace plugin {

// A copy of `state` to work on, which takes its place in commit().
template <class State>
class StateChange {
  static_assert(std::is_nothrow_move_assignable_v<State>, "commit() must not fail");

 public:
  explicit StateChange(State& state) : state_(&state), next_(state) {}
  StateChange(const StateChange&) = delete;
  StateChange& operator=(const StateChange&) = delete;
  [[nodiscard]] State& operator*() noexcept { return next_; }
  [[nodiscard]] State* operator->() noexcept { return &next_; }
  void commit() noexcept { *state_ = std::move(next_); }

 private:
  State* state_;
  State next_;
};

}  // namespace plugin
}  // namespace abi1
}  // namespace mambasdk

#endif  // MAMBASDK_PLUGIN_STATE_CHANGE_HPP_
