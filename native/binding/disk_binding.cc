// SPDX-License-Identifier: Apache-2.0
#include "binding/disk_binding.h"

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <utility>

#include "binding/addon_data.h"
#include "binding/convert.h"
#include "binding/keys_binding.h"
#include "binding/wrapped.h"
#include "core/keys/set_key.h"
#include "core/xts/cipher.h"

namespace keyhold::binding {
namespace {

constexpr double kNsPerMs = 1e6;
constexpr double kNsPerSecond = 1e9;

double ToMs(int64_t ns) { return static_cast<double>(ns) / kNsPerMs; }

/// COMMANDS of src/dataplane/addon.ts, in the order of keyhold::Command.
constexpr std::array<const char*, kCommands> kCommandNames = {
    "read", "write", "flush", "trim", "write_zeroes", "cache", "block_status"};

/// Field `name` of `object`, a Uint8Array of exactly `to.size()` bytes.
template <size_t kBytes>
bool ReadExactly(Napi::Object object, const char* name, std::array<uint8_t, kBytes>* to) {
  std::span<const uint8_t> bytes;
  if (!ReadField(object, name, &bytes)) return false;
  if (bytes.size() != kBytes) {
    Throw(object.Env(), Error{ErrorCode::kInvalidArgument, 0,
                              std::string(name) + ": has " + std::to_string(bytes.size()) +
                                  " bytes, " + std::to_string(kBytes) + " are needed"});
    return false;
  }
  std::copy(bytes.begin(), bytes.end(), to->begin());
  return true;
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
    Napi::Object sealed_object;
    Napi::Object digest_object;
    std::span<const uint8_t> aad;
    SealedDek sealed{};
    DekDigest digest{};
    // The view of the caller's bytes last: reading an object could run a getter, which could take
    // them away.
    if (key == nullptr || !ReadArgument(info, 1, "sealed", &sealed_object) ||
        !ReadArgument(info, 3, "digest", &digest_object) ||
        !ReadExactly(sealed_object, "nonce", &sealed.nonce) ||
        !ReadExactly(sealed_object, "ciphertext", &sealed.ciphertext) ||
        !ReadExactly(sealed_object, "tag", &sealed.tag) ||
        !ReadExactly(digest_object, "salt", &digest.salt) ||
        !ReadField(digest_object, "iterations", &digest.iterations) ||
        !ReadExactly(digest_object, "digest", &digest.digest) ||
        !ReadArgument(info, 2, "aad", &aad)) {
      return env.Undefined();
    }
    const Status unlocked = Open(*key, sealed, aad, digest);
    if (!unlocked) Throw(env, unlocked.error());
    return env.Undefined();
  }

  Status Open(const SetKey& key, const SealedDek& sealed, std::span<const uint8_t> aad,
              const DekDigest& digest) const {
    Result<SecretBuffer> dek = key.OpenDek(sealed, aad, digest);
    if (!dek) return dek.error();
    Result<std::unique_ptr<xts::Cipher>> cipher =
        xts::CreateCipher(core().owner->plane->xts_kernel(), dek.value().bytes(),
                          disk().geometry().sector_size_bytes);
    if (!cipher) return cipher.error();
    return disk().Unlock(cipher.Take());
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
