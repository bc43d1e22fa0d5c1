// A host that offers another table than this library's: one of an older minor that ends where that minor ended, or one
// of a newer minor with more slots. Loads a plugin, registers and runs what it brings. The memory after the table
// cannot be read, so a plugin that looks beyond struct_size dies here.
//
//   mambasdk_abi_host PLUGIN OP FACTOR {1.0|today|newer} [names that must be, or with a leading - must not be,
//   brought]…
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "abi/plugins.hpp"
#include "mambasdk/mambasdk.h"

namespace {

constexpr std::size_t kSize_1_0 = offsetof(mambasdk_api, runtime_describe);

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "forged_host: %s\n", why.c_str());
  std::exit(1);
}

void never() {
  die("the plugin called a slot that it cannot know");
}

// `bytes` of the real table, then `more` slots, at the very end of a page; the next page cannot be touched.
const mambasdk_api* forge(std::size_t bytes, std::size_t more, std::uint32_t minor) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t size = bytes + more * sizeof(void*);
  const std::size_t room = (size + page - 1) / page * page;
  auto* memory =
      static_cast<char*>(mmap(nullptr, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (memory == MAP_FAILED || mprotect(memory + room, page, PROT_NONE) != 0) die("no memory");
  char* table = memory + room - size;
  std::memcpy(table, mambasdk_get_api(MAMBASDK_ABI_MAJOR, 0), bytes);
  for (std::size_t i = 0; i < more; ++i) {
    const auto slot = &never;
    std::memcpy(table + bytes + i * sizeof(void*), &slot, sizeof(void*));
  }
  auto* api = reinterpret_cast<mambasdk_api*>(table);
  api->struct_size = size;
  api->abi_minor = minor;
  mprotect(memory, room, PROT_READ);
  return api;
}

const mambasdk_plugin_descriptor* plugin = nullptr;
const mambasdk_api* offered = nullptr;

// Ours, so that the plugin's own initialize can be given the forged table.
mambasdk_status* initialize(const mambasdk_api*, mambasdk_registrar* registrar) {
  return plugin->initialize(offered, registrar);
}

std::string text(mambasdk_string s) {
  return {s.data, static_cast<std::size_t>(s.size)};
}

void check(mambasdk_status* status) {
  if (status != nullptr) die(text(mambasdk_get_api(1, 0)->status_message(status)));
}

void run_operation(const char* name, float factor) {
  const mambasdk_api& api = *mambasdk_get_api(1, 0);
  const mambasdk_op* op = api.op_find({name, std::strlen(name)});
  if (op == nullptr) die(std::string("there is no operation ") + name);
  std::vector<float> x(1000), y(1000, 0.0f);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) - 500.0f;
  std::int64_t length = 1000;
  mambasdk_tensor in{x.data(), {1, 0}, 1, {2, 32, 1}, &length, nullptr, 0}, out = in;
  out.data = y.data();
  mambasdk_value values[2] = {};
  values[0].kind = MAMBASDK_VALUE_TENSOR;
  values[0].as.tensor = &in;
  std::uint64_t count = 1;  // the old plugin's has a second one, with a default
  if (text(api.op_describe(op)).find("factor: float") != std::string::npos) count = 2;
  check(api.op_call(op, nullptr, values, count, &out, 1, MAMBASDK_KERNEL_AUTOMATIC));
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (y[i] != factor * x[i]) die("element " + std::to_string(i) + " is " + std::to_string(y[i]));
  }
  length = 13;
  mambasdk_status* refused = api.op_call(op, nullptr, values, count, &out, 1, MAMBASDK_KERNEL_AUTOMATIC);
  if (refused == nullptr) die("the operation's check did not refuse 13 elements");
  if (text(api.status_message(refused)).find("13") == std::string::npos) die("another refusal");
  api.status_release(refused);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) die("PLUGIN OP FACTOR {1.0|today|newer} [NAME|-NAME]...");
  const std::string mode = argv[4];
  if (mode == "1.0") {
    offered = forge(kSize_1_0, 0, 0);
  } else if (mode == "newer") {
    offered = forge(sizeof(mambasdk_api), 64, MAMBASDK_ABI_MINOR + 1);
  } else {
    offered = forge(sizeof(mambasdk_api), 0, MAMBASDK_ABI_MINOR);
  }
  void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) die(dlerror());
  const auto query = reinterpret_cast<mambasdk_plugin_fn>(dlsym(library, "mambasdk_plugin"));
  if (query == nullptr) die("no mambasdk_plugin");
  plugin = query();
  if (plugin->abi_minor > offered->abi_minor) die("the plugin needs a newer minor than this host's");

  // Only as much of the descriptor as its plugin has.
  mambasdk_plugin_descriptor own{};
  std::memcpy(&own, plugin, std::min<std::size_t>(sizeof(own), plugin->struct_size));
  own.struct_size = plugin->struct_size;
  own.initialize = initialize;
  mambasdk_string description{};
  check(mambasdk::abi::plugin_register(&own, {"forged", 6}, &description));
  run_operation(argv[2], std::strtof(argv[3], nullptr));

  const std::string brought = text(description);
  std::puts(brought.c_str());
  for (int i = 5; i < argc; ++i) {
    const bool unwanted = argv[i][0] == '-';
    const std::string name = std::string("\"") + (argv[i] + (unwanted ? 1 : 0)) + "\"";
    if ((brought.find(name) != std::string::npos) == unwanted) die(name + (unwanted ? " is there" : " is missing"));
  }
  return 0;
}
