// A plugin by the C++ helpers: an operation, a processor, a head and an engine. It needs ABI 1.0 and brings the last
// three where the host takes them.
#include <mambasdk/plugin.hpp>

#include <cctype>
#include <numeric>

namespace {

namespace plugin = mambasdk::plugin;

struct Halve {
  static constexpr std::string_view signature = "abitest_halve(x: T[N]) -> (y: T[N])";
  static constexpr std::string_view doc = "y = x / 2.";
  static void check(const plugin::OpCall& call) {
    if (call.dim(0) == 13) plugin::fail(MAMBASDK_ERROR_INVALID_ARGUMENT, "abitest_halve: 13 is refused");
  }
  static void cpu(const plugin::OpCall& call) {
    const auto x = call.input(0);
    const auto y = call.output<float>(0);
    const auto* data = static_cast<const float*>(x.get().data);
    const std::int64_t stride = x.get().strides[0];
    plugin::parallel_for(call.context(), call.dim(0), 64, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) y[static_cast<std::size_t>(i)] = data[i * stride] / 2;
    });
  }
};

class Upper {
 public:
  static constexpr std::string_view kind = "abitest_upper";
  static constexpr std::string_view doc = "Text in capital letters.";
  Upper(std::string_view config, std::string_view) {
    if (config.find("broken") != config.npos) throw std::runtime_error("a broken configuration");
  }
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
    std::string text(inputs["text"].bytes());
    for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    emit.text("upper", text);
    emit("runs", std::vector<std::int64_t>{++runs_}, {1});
  }
  void reset() { runs_ = 0; }

 private:
  std::int64_t runs_ = 0;
};

struct Length {
  static constexpr std::string_view kind = "abitest_length";
  static constexpr std::string_view doc = "How long a text is.";
  Length(std::string_view, std::string_view) {}
  void run(const plugin::Inputs& inputs, plugin::Emitter& emit) {
    emit.json("{\"length\": " + std::to_string(inputs["upper"].size()) + "}");
  }
};

// y = the running sum of every x that the session saw.
struct Sums {
  static constexpr std::string_view name = "abitest_sums";
  static constexpr std::string_view doc = "The running sum of x.";
  struct Model {
    Model(std::string_view, std::string_view) {}
  };
  class Session {
   public:
    Session(const Model&, const mambasdk_context&) {}
    std::vector<mambasdk::Tensor> run(const plugin::Inputs& inputs, std::span<const std::string_view> outputs) {
      const auto x = inputs["x"].data<float>();
      sum_ = std::accumulate(x.begin(), x.end(), sum_);
      std::vector<mambasdk::Tensor> made;
      for (std::size_t i = 0; i < outputs.size(); ++i) {
        made.push_back(plugin::make_tensor(std::vector<float>{sum_}, {1}));
      }
      return made;
    }
    void reset() { sum_ = 0; }
    [[nodiscard]] std::unique_ptr<Session> clone() const { return std::make_unique<Session>(*this); }
    [[nodiscard]] std::vector<std::byte> save() const {
      const auto* bytes = reinterpret_cast<const std::byte*>(&sum_);
      return {bytes, bytes + sizeof(sum_)};
    }
    void restore(const std::vector<std::byte>& image) {
      if (image.size() != sizeof(sum_)) plugin::fail(MAMBASDK_ERROR_CORRUPT, "no state of abitest_sums");
      std::memcpy(&sum_, image.data(), sizeof(sum_));
    }

   private:
    float sum_ = 0;
  };
};

}  // namespace

MAMBASDK_PLUGIN_MAIN("mambasdk-abitest", "1.0.0", (plugin::Needs{.abi_minor = 0}), [](plugin::Registrar& r) {
  r.op<Halve>();
  if (r.takes_processors()) {
    r.processor<Upper>();
    r.head<Length>();
  }
  if (r.takes_engines()) r.engine<Sums>();
});
