// libmambasdk_aoti: the engine `aoti` as a native plugin. Runs packages whose model AOTInductor compiled, on the
// libtorch of the process; needs no Python.
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "aoti/model.hpp"
#include "core/error.hpp"
#include "mambasdk/mambasdk.h"

namespace mambasdk::aoti {

namespace {

const mambasdk_api* api = nullptr;  // set before anything else is called

std::string_view text(mambasdk_string s) {
  return {s.data, static_cast<std::size_t>(s.size)};
}
mambasdk_string text(std::string_view s) {
  return {s.data(), s.size()};
}

mambasdk_status* status(ErrorCode code, std::string_view message) noexcept {
  return api->status_create(static_cast<std::int32_t>(code), text(message), text("engine aoti"));
}

template <class F>
mambasdk_status* guard(F&& f) noexcept {
  try {
    f();
    return nullptr;
  } catch (const Error& e) {
    return status(e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return status(ErrorCode::out_of_memory, "out of memory");
  } catch (const std::exception& e) {
    return status(ErrorCode::internal, e.what());
  } catch (...) {
    return status(ErrorCode::internal, "unknown failure");
  }
}

using SharedModel = std::shared_ptr<const Model>;

struct SessionHandle {
  Session session;
  mambasdk_context context{};  // only whether the run is cancelled: threads and memory are torch's
};

SessionHandle& handle(void* session) {
  return *static_cast<SessionHandle*>(session);
}

Tensor from_host(const mambasdk_tensor& t, std::string_view name) {
  if (t.device.type != 1) {
    fail(ErrorCode::unsupported, "input ", name, " is on device type ", t.device.type,
         "; the model was exported for the CPU: copy it there");
  }
  Tensor out = Tensor::contiguous(t.data, {t.dtype.code, t.dtype.bits}, t.shape, t.ndim);
  if (t.data != nullptr) out.data = static_cast<std::byte*>(t.data) + t.byte_offset;
  if (t.strides != nullptr) std::copy_n(t.strides, t.ndim, out.strides.begin());
  return out;
}

// What a returned tensor points to.
struct Output {
  mambasdk_managed_tensor managed{};
  runtime::OwnedTensor owned;
};

mambasdk_managed_tensor* hand_out(runtime::OwnedTensor owned) {
  auto* out = new Output;
  out->owned = std::move(owned);
  Tensor& t = out->owned.view;
  out->managed.dlpack_major = 1;
  out->managed.manager = out;
  out->managed.deleter = [](mambasdk_managed_tensor* self) { delete static_cast<Output*>(self->manager); };
  out->managed.tensor = {t.data, {1, 0}, t.ndim, {t.dtype.code, t.dtype.bits, 1}, t.shape.data(), t.strides.data(), 0};
  return &out->managed;
}

mambasdk_status* model_load(void* /*self*/, const mambasdk_package* package, void** model) {
  return guard([&] {
    *model = new SharedModel(std::make_shared<const Model>(std::string(text(package->directory)),
                                                           text(package->manifest), text(api->isa_detected())));
  });
}

void model_release(void* /*self*/, void* model) {
  delete static_cast<SharedModel*>(model);
}

mambasdk_status* session_create(void* /*self*/, void* model, const mambasdk_context* context, void** session) {
  return guard([&] {
    auto made = std::make_unique<SessionHandle>(SessionHandle{Session(*static_cast<SharedModel*>(model))});
    if (context != nullptr) {
      std::memcpy(&made->context, context, std::min<std::size_t>(sizeof(made->context), context->struct_size));
    }
    *session = made.release();
  });
}

void session_release(void* /*self*/, void* session) {
  delete &handle(session);
}

mambasdk_status* session_run(void* /*self*/, void* session, const mambasdk_named_tensor* inputs,
                             std::uint64_t input_count, const mambasdk_string* output_names, std::uint64_t output_count,
                             mambasdk_managed_tensor** outputs) {
  return guard([&] {
    SessionHandle& s = handle(session);
    if (s.context.is_cancelled != nullptr && s.context.is_cancelled(s.context.user) != 0) {
      fail(ErrorCode::cancelled, "cancelled before the run; a compiled model runs to its end");
    }
    std::vector<NamedTensor> named;
    for (std::uint64_t i = 0; i < input_count; ++i) {
      const std::string_view name = text(inputs[i].name);
      named.push_back({name, from_host(*inputs[i].tensor, name)});
    }
    std::vector<std::string_view> names;
    for (std::uint64_t i = 0; i < output_count; ++i) names.push_back(text(output_names[i]));
    std::vector<runtime::OwnedTensor> made = s.session.run(named, names);
    for (std::uint64_t i = 0; i < output_count; ++i) outputs[i] = hand_out(std::move(made[i]));
  });
}

mambasdk_status* session_reset(void* /*self*/, void* session) {
  return guard([&] { handle(session).session.reset(); });
}

mambasdk_status* session_clone(void* /*self*/, void* session, void** clone) {
  return guard([&] { *clone = new SessionHandle{Session(handle(session).session), handle(session).context}; });
}

mambasdk_status* session_save(void* /*self*/, void* session, void* data, std::uint64_t capacity, std::uint64_t* size) {
  return guard([&] {
    const std::vector<std::byte> image = handle(session).session.save();
    *size = image.size();
    if (data == nullptr) return;
    if (capacity < image.size()) {
      fail(ErrorCode::invalid_argument, "the state needs ", image.size(), " bytes, the buffer has ", capacity);
    }
    std::memcpy(data, image.data(), image.size());
  });
}

mambasdk_status* session_restore(void* /*self*/, void* session, const void* data, std::uint64_t size) {
  return guard(
      [&] { handle(session).session.restore({static_cast<const std::byte*>(data), static_cast<std::size_t>(size)}); });
}

mambasdk_status* initialize(const mambasdk_api* host, mambasdk_registrar* registrar) {
  api = host;
  mambasdk_engine_definition d{};
  d.struct_size = sizeof(d);
  d.name = text("aoti");
  d.doc = text("Runs a model that AOTInductor compiled (model.pt2), on the libtorch of the process, on the CPU.");
  d.model_load = model_load;
  d.model_release = model_release;
  d.session_create = session_create;
  d.session_release = session_release;
  d.session_run = session_run;
  d.session_reset = session_reset;
  d.session_clone = session_clone;
  d.session_save = session_save;
  d.session_restore = session_restore;
  d.executes_code = 1;
  return host->register_engine(registrar, &d);
}

}  // namespace

}  // namespace mambasdk::aoti

extern "C" {

// Called by the runtime's plugin loader (mambasdk.h, "plugins").
MAMBASDK_EXPORT const mambasdk_plugin_descriptor* mambasdk_plugin() {
  static mambasdk_plugin_descriptor d{};
  d.struct_size = sizeof(d);
  d.abi_major = 1;
  d.abi_minor = 1;
  d.name = {"mambasdk-aoti", 13};
  d.version = {MAMBASDK_VERSION, sizeof(MAMBASDK_VERSION) - 1};
  d.requires_isa = {"", 0};
  d.initialize = mambasdk::aoti::initialize;
  d.requires_torch = {"", 0};  // looked for when a model is loaded, with an error that says where
  d.requires_cuda = {"", 0};
  return &d;
}

// For `mambasdk doctor`: the version of the libtorch that a model would run on, or why there is none. Returns 0 and the
// version, or -1 and the reason; *text stays valid until the next call on this thread.
MAMBASDK_EXPORT std::int32_t mambasdk_aoti_torch(const char** text) {
  static thread_local std::string last;
  std::int32_t result = 0;
  try {
    last = mambasdk::aoti::libtorch().version;
  } catch (const std::exception& error) {
    last = error.what();
    result = -1;
  }
  *text = last.c_str();
  return result;
}

}  // extern "C"
