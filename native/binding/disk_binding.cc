// SPDX-License-Identifier: Apache-2.0
#include "binding/disk_binding.h"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "binding/addon_data.h"
#include "binding/convert.h"
#include "binding/keys_binding.h"
#include "binding/platform_binding.h"
#include "binding/sealed_values.h"
#include "binding/wrapped.h"
#include "core/keys/platform_key.h"
#include "core/keys/set_key.h"
#include "core/xts/cipher.h"
#include "core/xts/double_cipher.h"

namespace keyhold::binding {
namespace {

constexpr double kNsPerMs = 1e6;
constexpr double kNsPerSecond = 1e9;

double ToMs(int64_t ns) { return static_cast<double>(ns) / kNsPerMs; }

/// COMMANDS of src/dataplane/addon.ts, in the order of keyhold::Command.
constexpr std::array<const char*, kCommands> kCommandNames = {
    "read", "write", "flush", "trim", "write_zeroes", "cache", "block_status"};

/// What opens a DEK besides the key that sealed it.
struct SealedWithDigest {
  SealedDek sealed{};
  DekDigest digest{};
  std::span<const uint8_t> aad;
};

/// `{ platform, sealed, aad, digest }`: the outer layer of double encryption.
struct Outer {
  std::shared_ptr<PlatformKey> platform;
  SealedWithDigest dek;
};

/// The fields of an object with an outer layer.
bool ReadOuter(Napi::Object object, Outer* out) {
  const Napi::Value platform = object.Get("platform");
  const Napi::Value sealed = object.Get("sealed");
  const Napi::Value digest = object.Get("digest");
  if (object.Env().IsExceptionPending()) return false;
  out->platform = UnwrapPlatformKey(platform, "platform");
  return out->platform != nullptr && ReadSealed(sealed, "sealed", &out->dek.sealed) &&
         ReadDigest(digest, "digest", &out->dek.digest) && ReadField(object, "aad", &out->dek.aad);
}

class DiskObject final : public Wrapped<DiskObject, DiskHandle> {
 public:
  static constexpr napi_type_tag kTypeTag{0x6b65'7968'6f6c'6404, 0x83d4'16fa'90c2'5b7e};
  static constexpr const char* kClassName = "NativeDisk";
  using Wrapped::Wrapped;

  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, kClassName,
        {Accessor<&DiskObject::Id>("id"), InstanceMethod<&DiskObject::Unlock>("unlock"),
         InstanceMethod<&DiskObject::SetLease>("setLease"),
         InstanceMethod<&DiskObject::Suspend>("suspend"),
         InstanceMethod<&DiskObject::GoOffline>("goOffline"),
         InstanceMethod<&DiskObject::DisconnectClients>("disconnectClients"),
         InstanceMethod<&DiskObject::ConnectionCount>("connectionCount"),
         InstanceMethod<&DiskObject::Stats>("stats"), InstanceMethod<&DiskObject::Close>("close")});
  }

 private:
  Disk& disk() const { return *core().disk; }

  static Napi::Value Id(const Napi::CallbackInfo& info) {
    const auto self = CoreOf(info.This(), "this");
    if (self == nullptr) return info.Env().Undefined();
    return Napi::Number::New(info.Env(), self->disk->id());
  }

  Napi::Value Unlock(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const std::shared_ptr<SetKey> key = UnwrapSetKey(info[0], "key");
    std::optional<Napi::Object> outer_object;
    SealedWithDigest dek;
    Outer outer;
    // The views of the caller's bytes last: reading an object could run a getter, which could take
    // them away. The facade makes `outer` itself, so that it has none.
    if (key == nullptr || !ReadSealed(info[1], "sealed", &dek.sealed) ||
        !ReadDigest(info[3], "digest", &dek.digest) ||
        !ReadArgument(info, 4, "outer", &outer_object) ||
        (outer_object && !ReadOuter(*outer_object, &outer)) ||
        !ReadArgument(info, 2, "aad", &dek.aad)) {
      return env.Undefined();
    }
    const Status unlocked = Open(*key, dek, outer_object ? &outer : nullptr);
    if (!unlocked) Throw(env, unlocked.error());
    return env.Undefined();
  }

  Status Open(const SetKey& key, const SealedWithDigest& inner, const Outer* outer) const {
    const Result<SecretBuffer> dek = key.OpenDek(inner.sealed, inner.aad, inner.digest);
    if (!dek) return dek.error();
    const std::string_view kernel = core().owner->plane->xts_kernel();
    const uint32_t sector = disk().geometry().sector_size_bytes;
    if (outer == nullptr) return Start(xts::CreateCipher(kernel, dek.value().bytes(), sector));
    const Result<SecretBuffer> outer_dek =
        outer->platform->OpenDek(outer->dek.sealed, outer->dek.aad, outer->dek.digest);
    if (!outer_dek) return outer_dek.error();
    return Start(
        xts::CreateDoubleCipher(kernel, dek.value().bytes(), outer_dek.value().bytes(), sector));
  }

  Status Start(Result<std::unique_ptr<xts::Cipher>> cipher) const {
    if (!cipher) return cipher.error();
    return disk().Unlock(cipher.Take());
  }

  Napi::Value SetLease(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    std::shared_ptr<Lease> lease = UnwrapLease(info[0], "lease");
    bool enforced = false;
    if (lease == nullptr || !ReadArgument(info, 1, "enforced", &enforced)) return env.Undefined();
    const Status set = disk().SetLease(std::move(lease), enforced);
    if (!set) Throw(env, set.error());
    return env.Undefined();
  }

  /// The promise of a call that `start` begins; `start` gets what resolves it.
  template <typename Receipt, typename Start, typename Convert>
  Napi::Value Promise(Napi::Env env, Start start, Convert convert) {
    const std::shared_ptr<EventBridge> bridge = core().owner->bridge;
    const EventBridge::Pending pending = bridge->NewPromise(env);
    const Status started = start([bridge, id = pending.id, convert](Receipt receipt) {
      bridge->Resolve(id, [receipt = std::move(receipt), convert](Napi::Env target) {
        return convert(target, receipt);
      });
    });
    if (!started) bridge->Reject(env, pending.id, started.error());
    return pending.promise;
  }

  Napi::Value Suspend(const Napi::CallbackInfo& info) {
    return Promise<SuspendReceipt>(
        info.Env(), [this](auto done) { return disk().Suspend(std::move(done)); },
        [](Napi::Env env, const SuspendReceipt& receipt) -> Napi::Value {
          Napi::Object object = Napi::Object::New(env);
          object.Set("keyWipedBootMs", ToMs(receipt.key_wiped_ns));
          object.Set("parkedRequests", static_cast<double>(receipt.parked_requests));
          return object;
        });
  }

  Napi::Value GoOffline(const Napi::CallbackInfo& info) {
    return Promise<OfflineReceipt>(
        info.Env(), [this](auto done) { return disk().GoOffline(std::move(done)); },
        [](Napi::Env env, const OfflineReceipt& receipt) -> Napi::Value {
          Napi::Object object = Napi::Object::New(env);
          object.Set("requestedBootMs", ToMs(receipt.requested_ns));
          object.Set("keyWipedBootMs", ToMs(receipt.key_wiped_ns));
          object.Set("drainedBootMs", ToMs(receipt.drained_ns));
          if (receipt.flushed_ns) {
            object.Set("flushedBootMs", ToMs(*receipt.flushed_ns));
          } else {
            object.Set("flushError", receipt.flush_error);
          }
          object.Set("refusedRequests", static_cast<double>(receipt.refused_requests));
          object.Set("connections", static_cast<double>(receipt.connections));
          return object;
        });
  }

  Napi::Value DisconnectClients(const Napi::CallbackInfo& info) {
    return Promise<uint64_t>(
        info.Env(), [this](auto done) { return disk().DisconnectClients(std::move(done)); },
        [](Napi::Env env, uint64_t connections) -> Napi::Value {
          return Napi::Number::New(env, static_cast<double>(connections));
        });
  }

  Napi::Value Close(const Napi::CallbackInfo& info) {
    return Promise<bool>(
        info.Env(),
        [this](auto done) {
          const Status closed = disk().Close([done = std::move(done)] { done(true); });
          if (closed) core().owner->plane->RemoveDisk(disk().id());
          return closed;
        },
        [](Napi::Env env, bool) -> Napi::Value { return env.Undefined(); });
  }

  Napi::Value ConnectionCount(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(disk().connections()));
  }

  /// Sets field `command` of `commands` unless the disk has never answered one.
  void AddCommandStats(Napi::Object commands, size_t command) const {
    std::array<uint64_t, kLatencyBuckets> buckets{};
    uint64_t ok = 0;
    uint64_t error = 0;
    uint64_t shutdown = 0;
    uint64_t bytes = 0;
    uint64_t latency_ns = 0;
    for (const ShardCounters& shard : disk().counters()) {
      const CommandCounters& counters = shard.commands[command];
      ok += counters.requests_ok.Get();
      error += counters.requests_error.Get();
      shutdown += counters.requests_shutdown.Get();
      bytes += counters.bytes.Get();
      latency_ns += counters.latency_sum_ns.Get();
      for (size_t i = 0; i < buckets.size(); ++i) buckets[i] += counters.latency_buckets[i].Get();
    }
    if (ok + error + shutdown == 0) return;
    const Napi::Env env = commands.Env();
    Napi::Object object = Napi::Object::New(env);
    object.Set("requestsOk", static_cast<double>(ok));
    object.Set("requestsError", static_cast<double>(error));
    object.Set("requestsShutdown", static_cast<double>(shutdown));
    object.Set("bytes", static_cast<double>(bytes));
    object.Set("latencySumSeconds", static_cast<double>(latency_ns) / kNsPerSecond);
    Napi::Array array = Napi::Array::New(env, buckets.size());
    for (uint32_t i = 0; i < buckets.size(); ++i) array.Set(i, static_cast<double>(buckets[i]));
    object.Set("latencyBuckets", array);
    commands.Set(kCommandNames[command], object);
  }

  Napi::Value Stats(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Napi::Object commands = Napi::Object::New(env);
    for (size_t i = 0; i < kCommands; ++i) AddCommandStats(commands, i);
    uint64_t in_flight = 0;
    uint64_t parked = 0;
    uint64_t encrypted = 0;
    uint64_t decrypted = 0;
    for (const ShardCounters& shard : disk().counters()) {
      in_flight += shard.in_flight.Get();
      parked += shard.parked.Get();
      encrypted += shard.encrypted_bytes.Get();
      decrypted += shard.decrypted_bytes.Get();
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("commands", commands);
    object.Set("inFlight", static_cast<double>(in_flight));
    object.Set("parked", static_cast<double>(parked));
    object.Set("connections", static_cast<double>(disk().connections()));
    object.Set("keyPresent", disk().guard().present());
    object.Set("encryptedBytes", static_cast<double>(encrypted));
    object.Set("decryptedBytes", static_cast<double>(decrypted));
    return object;
  }
};

}  // namespace

Napi::Function DefineDisk(Napi::Env env) { return DiskObject::Define(env); }

Napi::Value MakeDisk(Napi::Env env, std::shared_ptr<DiskHandle> handle) {
  return DiskObject::Make(env, AddonData::Of(env).disk, std::move(handle));
}

}  // namespace keyhold::binding
