// SPDX-License-Identifier: Apache-2.0
#include "binding/plane_binding.h"

#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "binding/addon_data.h"
#include "binding/convert.h"
#include "binding/disk_binding.h"
#include "binding/event_bridge.h"
#include "binding/keys_binding.h"
#include "binding/tls_options.h"
#include "binding/wrapped.h"

namespace keyhold::binding {
namespace {

constexpr double kNsPerMs = 1e6;
constexpr uint32_t kModeMax = 0777;

bool ReadReplies(Napi::Object object, wire::Replies* out) {
  std::string text;
  if (!ReadField(object, "replies", &text)) return false;
  if (text == "simple") {
    *out = wire::Replies::kSimple;
  } else if (text == "structured") {
    *out = wire::Replies::kStructured;
  } else if (text == "extended") {
    *out = wire::Replies::kExtended;
  } else {
    Napi::TypeError::New(object.Env(),
                         "replies: expected simple, structured or extended, got " + text)
        .ThrowAsJavaScriptException();
    return false;
  }
  return true;
}

/// A NextStep of src/dataplane/addon.ts.
bool ReadNextStep(Napi::Object object, NextStep* out) {
  std::string kind;
  if (!ReadField(object, "kind", &kind)) return false;
  if (kind == "read") {
    out->kind = NextStep::Kind::kRead;
    return true;
  }
  if (kind == "close") {
    out->kind = NextStep::Kind::kClose;
    return true;
  }
  if (kind == "start-tls") {
    out->kind = NextStep::Kind::kStartTls;
    return ReadField(object, "contextId", &out->tls_context_id);
  }
  if (kind != "transmission") {
    Napi::TypeError::New(object.Env(),
                         "next.kind: expected read, close, start-tls or transmission, got " + kind)
        .ThrowAsJavaScriptException();
    return false;
  }
  std::span<const uint8_t> leftover;
  if (!ReadField(object, "diskId", &out->disk_id) || !ReadReplies(object, &out->agreed.replies) ||
      !ReadField(object, "allocationContextId", &out->agreed.allocation_context_id) ||
      !ReadField(object, "leftover", &leftover)) {
    return false;
  }
  out->kind = NextStep::Kind::kTransmission;
  out->leftover.assign(leftover.begin(), leftover.end());
  return true;
}

struct DiskArguments {
  Plane::DiskOptions options;
  std::string store_path;
};

bool ReadDiskOptions(Napi::Object object, DiskArguments* out) {
  DiskGeometry& geometry = out->options.geometry;
  return ReadField(object, "name", &out->options.name) &&
         ReadField(object, "sizeBytes", &geometry.size_bytes) &&
         ReadField(object, "sectorSizeBytes", &geometry.sector_size_bytes) &&
         ReadField(object, "storePath", &out->store_path) &&
         ReadField(object, "dataOffsetBytes", &geometry.data_offset_bytes) &&
         ReadField(object, "readOnly", &geometry.read_only) &&
         ReadField(object, "holes", &geometry.holes) &&
         ReadField(object, "direct", &out->options.direct) &&
         ReadField(object, "leaseEnforced", &out->options.lease_enforced);
}

class PlaneObject final : public Wrapped<PlaneObject, PlaneHandle> {
 public:
  static constexpr napi_type_tag kTypeTag{0x6b65'7968'6f6c'6403, 0x2f60'b8d1'4ce9'a773};
  static constexpr const char* kClassName = "NativePlane";
  using Wrapped::Wrapped;

  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, kClassName,
        {Accessor<&PlaneObject::Id>("id"), Accessor<&PlaneObject::EngineInUse>("engine"),
         InstanceMethod<&PlaneObject::ListenUnix>("listenUnix"),
         InstanceMethod<&PlaneObject::ListenTcp>("listenTcp"),
         InstanceMethod<&PlaneObject::AdoptListener>("adoptListener"),
         InstanceMethod<&PlaneObject::CloseListener>("closeListener"),
         InstanceMethod<&PlaneObject::TakeConnection>("takeConnection"),
         InstanceMethod<&PlaneObject::Respond>("respond"),
         InstanceMethod<&PlaneObject::CloseConnection>("closeConnection"),
         InstanceMethod<&PlaneObject::CreateTlsContext>("createTlsContext"),
         InstanceMethod<&PlaneObject::ReplaceTlsContext>("replaceTlsContext"),
         InstanceMethod<&PlaneObject::OpenDisk>("openDisk"),
         InstanceMethod<&PlaneObject::Connections>("connections"),
         InstanceMethod<&PlaneObject::Stop>("stop"),
         InstanceMethod<&PlaneObject::FailShard>("failShard")});
  }

 private:
  Plane& plane() const { return *core().plane; }

  static Napi::Value Id(const Napi::CallbackInfo& info) {
    const auto self = CoreOf(info.This(), "this");
    if (self == nullptr) return info.Env().Undefined();
    return Napi::Number::New(info.Env(), self->plane->id());
  }

  static Napi::Value EngineInUse(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto self = CoreOf(info.This(), "this");
    if (self == nullptr) return env.Undefined();
    const EngineChoice& engine = self->plane->engine();
    Napi::Object object = Napi::Object::New(env);
    object.Set("name", std::string(EngineName(engine.engine)));
    object.Set("why", engine.why);
    object.Set("fallback", engine.fallback);
    return object;
  }

  Napi::Value ListenUnix(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    std::string path;
    uint32_t mode = 0;
    if (!ReadArgument(info, 0, "path", &path) || !ReadArgument(info, 1, "mode", &mode)) {
      return env.Undefined();
    }
    if (mode > kModeMax) {
      Throw(env, Error{ErrorCode::kInvalidArgument, 0,
                       "listen on " + path + ": mode " + std::to_string(mode) + " is above 0777"});
      return env.Undefined();
    }
    const Result<uint32_t> listener = plane().ListenUnix(path, mode);
    if (listener) return Napi::Number::New(env, listener.value());
    Throw(env, listener.error());
    return env.Undefined();
  }

  Napi::Value ListenTcp(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    std::string host;
    uint32_t port = 0;
    if (!ReadArgument(info, 0, "host", &host) || !ReadArgument(info, 1, "port", &port)) {
      return env.Undefined();
    }
    if (port > UINT16_MAX) {
      Throw(env, Error{ErrorCode::kInvalidArgument, 0,
                       "listen on tcp port " + std::to_string(port) + ": 0 to 65535 are possible"});
      return env.Undefined();
    }
    const Result<Plane::TcpListener> listener =
        plane().ListenTcp(host, static_cast<uint16_t>(port));
    if (!listener) {
      Throw(env, listener.error());
      return env.Undefined();
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("listenerId", listener.value().id);
    object.Set("port", static_cast<uint32_t>(listener.value().port));
    return object;
  }

  Napi::Value AdoptListener(const Napi::CallbackInfo& info) {
    int32_t fd = -1;
    if (!ReadArgument(info, 0, "fd", &fd)) return info.Env().Undefined();
    const Result<uint32_t> listener = plane().AdoptListener(fd);
    if (listener) return Napi::Number::New(info.Env(), listener.value());
    Throw(info.Env(), listener.error());
    return info.Env().Undefined();
  }

  Napi::Value TakeConnection(const Napi::CallbackInfo& info) {
    int32_t fd = -1;
    std::span<const uint8_t> greeting;
    if (!ReadArgument(info, 0, "fd", &fd) || !ReadArgument(info, 1, "greeting", &greeting)) {
      return info.Env().Undefined();
    }
    const Result<uint32_t> connection = plane().TakeConnection(fd, greeting);
    if (connection) return Napi::Number::New(info.Env(), connection.value());
    Throw(info.Env(), connection.error());
    return info.Env().Undefined();
  }

  Napi::Value CloseListener(const Napi::CallbackInfo& info) {
    uint32_t id = 0;
    if (ReadArgument(info, 0, "listenerId", &id)) plane().CloseListener(id);
    return info.Env().Undefined();
  }

  Napi::Value Respond(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    uint32_t connection_id = 0;
    std::optional<std::span<const uint8_t>> send;
    Napi::Object next_object;
    NextStep next;
    // The bytes last: reading an object could run a getter, which could take the bytes away.
    if (ReadArgument(info, 0, "connectionId", &connection_id) &&
        ReadArgument(info, 2, "next", &next_object) && ReadNextStep(next_object, &next) &&
        ReadArgument(info, 1, "send", &send)) {
      std::vector<uint8_t> bytes;
      if (send) bytes.assign(send->begin(), send->end());
      plane().Respond(connection_id, std::move(bytes), std::move(next));
    }
    return env.Undefined();
  }

  Napi::Value CloseConnection(const Napi::CallbackInfo& info) {
    uint32_t id = 0;
    if (ReadArgument(info, 0, "connectionId", &id)) plane().CloseConnection(id);
    return info.Env().Undefined();
  }

  Napi::Value CreateTlsContext(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Napi::Object object;
    TlsContextOptions options;
    if (!ReadArgument(info, 0, "options", &object) || !ReadTlsOptions(object, &options)) {
      return env.Undefined();
    }
    const Result<uint32_t> context = plane().CreateTlsContext(options);
    if (context) return Napi::Number::New(env, context.value());
    Throw(env, context.error());
    return env.Undefined();
  }

  Napi::Value ReplaceTlsContext(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    uint32_t id = 0;
    Napi::Object object;
    TlsContextOptions options;
    if (!ReadArgument(info, 0, "contextId", &id) || !ReadArgument(info, 1, "options", &object) ||
        !ReadTlsOptions(object, &options)) {
      return env.Undefined();
    }
    const Status replaced = plane().ReplaceTlsContext(id, options);
    if (!replaced) Throw(env, replaced.error());
    return env.Undefined();
  }

  Napi::Value OpenDisk(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Napi::Object object;
    DiskArguments arguments;
    if (!ReadArgument(info, 0, "options", &object) || !ReadDiskOptions(object, &arguments)) {
      return env.Undefined();
    }
    std::shared_ptr<Lease> lease = UnwrapLease(info[1], "lease");
    if (lease == nullptr) return env.Undefined();
    Result<std::shared_ptr<Disk>> disk =
        plane().OpenDisk(std::move(arguments.options), arguments.store_path, std::move(lease));
    if (!disk) {
      Throw(env, disk.error());
      return env.Undefined();
    }
    auto owner = CoreOf(info.This(), "plane");
    return MakeDisk(env, std::make_shared<DiskHandle>(DiskHandle{std::move(owner), disk.Take()}));
  }

  Napi::Value Connections(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const std::vector<Plane::ConnectionInfo> all = plane().Connections();
    Napi::Array array = Napi::Array::New(env, all.size());
    for (uint32_t i = 0; i < all.size(); ++i) {
      Napi::Object object = Napi::Object::New(env);
      object.Set("id", all[i].id);
      object.Set("shard", all[i].shard);
      object.Set("peer", ToObject(env, all[i].peer));
      object.Set("diskId", all[i].disk_id);
      object.Set("connectedAtBootMs", static_cast<double>(all[i].connected_ns) / kNsPerMs);
      object.Set("inFlight", all[i].in_flight);
      object.Set("bytesIn", static_cast<double>(all[i].bytes_in));
      object.Set("bytesOut", static_cast<double>(all[i].bytes_out));
      object.Set("requests", static_cast<double>(all[i].requests));
      object.Set("tls", all[i].tls == nullptr ? env.Null() : ToObject(env, *all[i].tls));
      array.Set(i, object);
    }
    return array;
  }

  Napi::Value Stop(const Napi::CallbackInfo& info) {
    plane().Stop();
    core().bridge->RejectAll(info.Env());
    return info.Env().Undefined();
  }

  Napi::Value FailShard(const Napi::CallbackInfo& info) {
    uint32_t index = 0;
    if (ReadArgument(info, 0, "index", &index)) plane().FailShardForTest(index);
    return info.Env().Undefined();
  }
};

/// What the environment's end has to do for one plane. The plane may be gone by then.
struct Cleanup {
  std::weak_ptr<Plane> plane;
  std::weak_ptr<EventBridge> bridge;

  static void Run(void* cleanup) {
    std::unique_ptr<Cleanup> owned(static_cast<Cleanup*>(cleanup));
    if (std::shared_ptr<EventBridge> bridge = owned->bridge.lock()) bridge->Shut();
    if (std::shared_ptr<Plane> plane = owned->plane.lock()) plane->Stop();
  }
};

/// What a plane's events go to. With the plane goes the way to JavaScript.
class Sink {
 public:
  explicit Sink(std::shared_ptr<EventBridge> bridge) : bridge_(std::move(bridge)) {}
  Sink(const Sink&) = delete;
  Sink& operator=(const Sink&) = delete;
  ~Sink() { bridge_->Finish(); }
  void Emit(Event event) const { bridge_->Emit(std::move(event)); }

 private:
  std::shared_ptr<EventBridge> bridge_;
};

Napi::Value CreatePlane(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object options;
  Napi::Function on_event;
  Plane::Options plane_options{};
  uint32_t busy_poll_us = 0;
  if (!ReadArgument(info, 0, "options", &options) || !ReadArgument(info, 1, "onEvent", &on_event) ||
      !ReadField(options, "shards", &plane_options.shards) ||
      !ReadField(options, "xts", &plane_options.xts_kernel) ||
      !ReadField(options, "engine", &plane_options.engine) ||
      !ReadField(options, "cipherThreads", &plane_options.cipher_threads) ||
      !ReadField(options, "busyPollUs", &busy_poll_us)) {
    return env.Undefined();
  }
  plane_options.busy_poll_ns = int64_t{busy_poll_us} * 1000;
  std::shared_ptr<EventBridge> bridge = EventBridge::Create(env, on_event);
  if (bridge == nullptr) return env.Undefined();
  Result<std::shared_ptr<Plane>> plane = Plane::Create(
      std::move(plane_options),
      [sink = std::make_shared<Sink>(bridge)](Event event) { sink->Emit(std::move(event)); });
  if (!plane) {
    Throw(env, plane.error());
    return env.Undefined();
  }
  if (napi_add_env_cleanup_hook(env, &Cleanup::Run, new Cleanup{plane.value(), bridge}) !=
      napi_ok) {
    std::abort();  // only a null argument makes it fail
  }
  return PlaneObject::Make(
      env, AddonData::Of(env).plane,
      std::make_shared<PlaneHandle>(PlaneHandle{std::move(bridge), plane.Take()}));
}

}  // namespace

void RegisterPlane(Napi::Env env, Napi::Object exports) {
  AddonData& data = AddonData::Of(env);
  data.plane = Napi::Persistent(PlaneObject::Define(env));
  data.disk = Napi::Persistent(DefineDisk(env));
  exports.Set("createPlane", Napi::Function::New(env, CreatePlane, "createPlane"));
}

}  // namespace keyhold::binding
