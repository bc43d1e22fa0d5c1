// mambasdk-run: continues a text with a model package. Links libmambasdk and nothing of Python.
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mambasdk/mambasdk.hpp"
#include "runtime/package/atomic_write.hpp"

namespace {

constexpr const char* kUsage =
    "usage: mambasdk-run PACKAGE [options]\n"
    "\n"
    "Continues a text with a model package (see `mambasdk export`).\n"
    "\n"
    "  --prompt TEXT              the text to continue; without it, standard input is read\n"
    "  --max-new-tokens N         at most N tokens (default: the package's, else 128)\n"
    "  --temperature T            0 chooses the likeliest token (default: the package's, else 0)\n"
    "  --top-k K --top-p P --min-p P --repetition-penalty R --seed S   (defaults: the package's)\n"
    "  --stop TEXT                end before this text; may be given more than once\n"
    "  --tokens                   print token ids, one a line, instead of text\n"
    "  --load-state FILE          continue a saved sequence\n"
    "  --save-state FILE          save the sequence's state at the end\n"
    "  --plugin PATH              load a native plugin first (`mambasdk paths --plugins`); may be given more than "
    "once\n"
    "  --component NAME=VERSION   what plugins may require of this process, as torch=2.13.0\n"
    "  --describe                 print what each --plugin brought, as JSON, one a line; no package is needed\n"
    "  --device NAME              where the model runs: cpu (default), or a device that a --plugin brings, as cuda:1\n"
    "  --threads N                threads of the runtime's pool (default: all processors)\n"
    "  --verify                   check every file's SHA-256 first (default: files that changed since the last check)\n"
    "  --no-verify                check names and sizes only\n"
    "  --allow-code               let a compiled package execute the machine code that comes with it\n"
    "  --memory BYTES             most memory for states and activations; 512M, 4G (default: 3/4 of what there is)\n"
    "  --stats                    print counts and speeds to standard error\n"
    "  --version, --help\n";

struct Arguments {
  std::string package, prompt, load_state, save_state, device = "cpu";
  std::vector<std::string> plugins, components;
  std::set<std::string, std::less<>> given;  // options of the command line, which stand above the package's
  mambasdk::GenerateOptions generate;
  int threads = 0;
  mambasdk::LoadOptions load;
  bool has_prompt = false, tokens = false, stats = false, describe = false;
};

struct UsageError {
  std::string message;
};

template <class T>
T number(std::string_view option, std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) {
    throw UsageError{std::string(option) + " needs a number, got \"" + std::string(text) + "\""};
  }
  return value;
}

// "4G": a whole number with a suffix K, M, G or T of 1024, or none.
std::uint64_t bytes(std::string_view option, std::string_view text) {
  constexpr std::string_view kSuffixes = "KMGT";
  const std::size_t suffix = text.empty() ? kSuffixes.npos : kSuffixes.find(text.back());
  const int shift = suffix == kSuffixes.npos ? 0 : 10 * (static_cast<int>(suffix) + 1);
  const auto count = number<std::uint64_t>(option, shift == 0 ? text : text.substr(0, text.size() - 1));
  if (count == 0 || count > UINT64_MAX >> shift) {
    throw UsageError{std::string(option) + " needs a size such as 512M, got \"" + std::string(text) + "\""};
  }
  return count << shift;
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    const auto value = [&]() -> std::string_view {
      if (i + 1 >= argc) throw UsageError{std::string(option) + " needs a value"};
      return argv[++i];
    };
    auto& sampler = a.generate.sampler;
    a.given.emplace(option);
    if (option == "--prompt") {
      a.prompt = value();
      a.has_prompt = true;
    } else if (option == "--max-new-tokens") {
      a.generate.max_new_tokens = number<std::int64_t>(option, value());
    } else if (option == "--temperature") {
      sampler.temperature = number<double>(option, value());
    } else if (option == "--top-k") {
      sampler.top_k = number<std::int64_t>(option, value());
    } else if (option == "--top-p") {
      sampler.top_p = number<double>(option, value());
    } else if (option == "--min-p") {
      sampler.min_p = number<double>(option, value());
    } else if (option == "--repetition-penalty") {
      sampler.repetition_penalty = number<double>(option, value());
    } else if (option == "--seed") {
      sampler.seed = number<std::uint64_t>(option, value());
    } else if (option == "--stop") {
      a.generate.stop.emplace_back(value());
    } else if (option == "--load-state") {
      a.load_state = value();
    } else if (option == "--save-state") {
      a.save_state = value();
    } else if (option == "--plugin") {
      a.plugins.push_back(std::filesystem::absolute(value()).string());
    } else if (option == "--component") {
      a.components.emplace_back(value());
      if (a.components.back().find('=') == std::string::npos) throw UsageError{"--component needs NAME=VERSION"};
    } else if (option == "--device") {
      a.device = value();
    } else if (option == "--threads") {
      a.threads = number<int>(option, value());
    } else if (option == "--tokens") {
      a.tokens = true;
    } else if (option == "--verify") {
      a.load.verify = mambasdk::Verify::all;
    } else if (option == "--no-verify") {
      a.load.verify = mambasdk::Verify::off;
    } else if (option == "--allow-code") {
      a.load.allow_code = true;
    } else if (option == "--memory") {
      a.load.max_memory = bytes(option, value());
    } else if (option == "--stats") {
      a.stats = true;
    } else if (option == "--describe") {
      a.describe = true;
    } else if (option.starts_with("--")) {
      throw UsageError{"unknown option " + std::string(option)};
    } else if (a.package.empty()) {
      a.package = option;
    } else {
      throw UsageError{"unexpected argument " + std::string(option)};
    }
  }
  if (a.package.empty() && !a.describe) throw UsageError{"which package?"};
  return a;
}

std::vector<std::byte> read_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (file == nullptr) throw mambasdk::Error(MAMBASDK_ERROR_IO, path, path + ": " + std::strerror(errno));
  std::vector<std::byte> bytes;
  std::byte buffer[65536];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;)
    bytes.insert(bytes.end(), buffer, buffer + n);
  std::fclose(file);
  return bytes;
}

// What the package says: the head's options that the command line leaves open; returns the tokens that end a text.
std::set<std::int32_t> take_package_settings(const mambasdk::Model& model, Arguments& a) {
  const auto description = nlohmann::json::parse(model.description());
  const nlohmann::json none = nlohmann::json::object();
  const nlohmann::json options = description.at("head") == "causal_lm" ? description.at("head_options") : none;
  const auto take = [&](const char* name, const char* option, auto& value) {
    if (options.contains(name) && !a.given.contains(option)) options.at(name).get_to(value);
  };
  auto& sampler = a.generate.sampler;
  take("max_new_tokens", "--max-new-tokens", a.generate.max_new_tokens);
  take("temperature", "--temperature", sampler.temperature);
  take("top_k", "--top-k", sampler.top_k);
  take("top_p", "--top-p", sampler.top_p);
  take("min_p", "--min-p", sampler.min_p);
  take("repetition_penalty", "--repetition-penalty", sampler.repetition_penalty);
  take("seed", "--seed", sampler.seed);
  if (options.contains("stop") && !a.given.contains("--stop")) {
    const nlohmann::json& stop = options.at("stop");
    a.generate.stop = stop.is_array() ? stop.get<std::vector<std::string>>() : std::vector{stop.get<std::string>()};
  }
  const nlohmann::json text = description.at("processors").value("text", none);
  const nlohmann::json end = text.value("eos_token_id", nlohmann::json());
  if (end.is_null()) return {};
  return end.is_array() ? end.get<std::set<std::int32_t>>() : std::set{end.get<std::int32_t>()};
}

// Token ids, one a line: the same steps by hand, over logits and a sampler.
void print_tokens(const Arguments& a, const mambasdk::Model& model, mambasdk::Session& session,
                  const std::set<std::int32_t>& end_tokens) {
  const mambasdk::Tokenizer tokenizer(model);
  const std::vector<std::int32_t> prompt = tokenizer.encode(a.prompt);
  mambasdk::Sampler sampler(a.generate.sampler);
  sampler.observe(prompt);
  mambasdk::Tensor logits = session.next_logits(prompt);
  for (std::int64_t i = 0; i < a.generate.max_new_tokens; ++i) {
    const std::int32_t token = sampler.sample(logits.data<float>());
    if (end_tokens.contains(token)) break;
    std::printf("%d\n", token);
    if (i + 1 < a.generate.max_new_tokens) logits = session.next_logits({&token, 1});
  }
}

int run(Arguments& a) {
  const auto start = std::chrono::steady_clock::now();
  if (a.threads > 0) mambasdk::check(mambasdk::api().set_num_threads(a.threads));
  for (const std::string_view component : a.components) {
    const std::size_t equals = component.find('=');
    mambasdk::declare_component(component.substr(0, equals), component.substr(equals + 1));
  }
  for (const std::string& plugin : a.plugins) {
    const std::string brought = mambasdk::load_plugin(plugin);
    if (a.describe) std::printf("%s\n", brought.c_str());
  }
  if (a.describe) {
    std::fprintf(stderr, "mambasdk-run: %zu plugins loaded\n", a.plugins.size());
    return 0;
  }
  if (!a.has_prompt) a.prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  const mambasdk::Model model(a.package, a.load);
  const std::set<std::int32_t> end_tokens = take_package_settings(model, a);
  mambasdk::Session session(model, a.device);
  if (!a.load_state.empty()) session.restore(read_file(a.load_state));
  const double loaded = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (a.tokens) {
    print_tokens(a, model, session, end_tokens);
  } else {
    a.generate.on_text = [](std::string_view text) {
      std::fwrite(text.data(), 1, text.size(), stdout);
      std::fflush(stdout);
      return std::ferror(stdout) == 0;  // the reader went away
    };
    const mambasdk_generate_result result = session.generate(a.prompt, a.generate);
    std::fputc('\n', stdout);
    if (a.stats) {
      const auto rate = [](std::int64_t n, double seconds) {
        return seconds > 0 ? static_cast<double>(n) / seconds : 0.0;
      };
      std::fprintf(stderr,
                   "load: %.1f ms\nprompt: %lld tokens, %.1f tokens/s\ngenerated: %lld tokens, %.1f tokens/s\n"
                   "instruction set: %s, threads: %d\n",
                   loaded * 1e3, static_cast<long long>(result.prompt_tokens),
                   rate(result.prompt_tokens, result.prefill_seconds), static_cast<long long>(result.new_tokens),
                   rate(result.new_tokens, result.decode_seconds),
                   std::string(mambasdk::to_cpp(mambasdk::api().isa_active())).c_str(), mambasdk::api().num_threads());
    }
  }
  if (!a.save_state.empty()) mambasdk::runtime::write_file_atomically(a.save_state, session.save());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--help") return std::fputs(kUsage, stdout) < 0;
    if (std::string_view(argv[i]) == "--version") {
      return std::printf("mambasdk-run %s\n", std::string(mambasdk::to_cpp(mambasdk::api().version())).c_str()) < 0;
    }
  }
  try {
    Arguments arguments = parse(argc, argv);
    return run(arguments);
  } catch (const UsageError& e) {
    std::fprintf(stderr, "mambasdk-run: %s\n%s", e.message.c_str(), kUsage);
    return 2;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mambasdk-run: error: %s\n", e.what());
    return 1;
  }
}
