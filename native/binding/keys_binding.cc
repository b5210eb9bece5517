// SPDX-License-Identifier: Apache-2.0
#include "binding/keys_binding.h"

#include <optional>
#include <span>
#include <utility>

#include "binding/addon_data.h"
#include "binding/convert.h"
#include "binding/sealed_values.h"
#include "binding/status_worker.h"
#include "binding/wrapped.h"
#include "core/base/process.h"
#include "core/shard/plane.h"
#include "core/shard/set_key_reaper.h"

namespace keyhold::binding {
namespace {

constexpr double kNsPerMs = 1e6;
constexpr double kMsMax = 9e12;  // keeps ms * 1e6 inside int64; 285 years

bool ReadMs(const Napi::CallbackInfo& info, size_t index, const char* what, int64_t* out_ns) {
  double ms = 0;
  if (!ReadArgument(info, index, what, &ms)) return false;
  if (ms < 0 || ms > kMsMax) {
    Napi::TypeError::New(info.Env(), std::string(what) + ": expected 0 to 9e12 milliseconds")
        .ThrowAsJavaScriptException();
    return false;
  }
  *out_ns = static_cast<int64_t>(ms * kNsPerMs);
  return true;
}

class LeaseObject final : public Wrapped<LeaseObject, Lease> {
 public:
  static constexpr napi_type_tag kTypeTag{0x6b65'7968'6f6c'6401, 0x9a1d'53c0'77be'4f02};
  static constexpr const char* kClassName = "NativeLease";
  using Wrapped::Wrapped;

  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, kClassName,
        {InstanceMethod<&LeaseObject::Renew>("renew"), InstanceMethod<&LeaseObject::End>("end"),
         InstanceMethod<&LeaseObject::DeadlineBootMs>("deadlineBootMs")});
  }

 private:
  Napi::Value Renew(const Napi::CallbackInfo& info) {
    int64_t start_ns = 0;
    int64_t duration_ns = 0;
    if (ReadMs(info, 0, "proofStartBootMs", &start_ns) &&
        ReadMs(info, 1, "durationMs", &duration_ns)) {
      core().Renew(start_ns, duration_ns);
    }
    return info.Env().Undefined();
  }

  Napi::Value End(const Napi::CallbackInfo& info) {
    core().End();
    // Whoever ends a lease counts on the keys being gone when this returns, and not at the next
    // tick of a shard.
    Plane::EnforceAllLeases(BootTimeNs());
    return info.Env().Undefined();
  }

  Napi::Value DeadlineBootMs(const Napi::CallbackInfo& info) {
    return Napi::Number::New(info.Env(), static_cast<double>(core().deadline_ns()) / kNsPerMs);
  }
};

class SetKeyObject final : public Wrapped<SetKeyObject, SetKey> {
 public:
  static constexpr napi_type_tag kTypeTag{0x6b65'7968'6f6c'6402, 0x41f7'0e6b'd2a8'c935};
  static constexpr const char* kClassName = "NativeSetKey";
  using Wrapped::Wrapped;

  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, kClassName,
        {Accessor<&SetKeyObject::Wiped>("wiped"), InstanceMethod<&SetKeyObject::Wrap>("wrap"),
         InstanceMethod<&SetKeyObject::Equals>("equals"),
         InstanceMethod<&SetKeyObject::BindLease>("bindLease"),
         InstanceMethod<&SetKeyObject::CreateDek>("createDek"),
         InstanceMethod<&SetKeyObject::ResealDek>("resealDek"),
         InstanceMethod<&SetKeyObject::ExportDek>("exportDek"),
         InstanceMethod<&SetKeyObject::Wipe>("wipe")});
  }

 private:
  static Napi::Value Wiped(const Napi::CallbackInfo& info) {
    const auto self = CoreOf(info.This(), "this");
    if (self == nullptr) return info.Env().Undefined();
    return Napi::Boolean::New(info.Env(), self->wiped());
  }

  Napi::Value Wrap(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    std::span<const uint8_t> modulus;
    std::span<const uint8_t> exponent;
    if (!ReadArgument(info, 0, "modulus", &modulus) ||
        !ReadArgument(info, 1, "exponent", &exponent)) {
      return env.Undefined();
    }
    const auto wrapped = core().Wrap(modulus, exponent);
    if (!wrapped) {
      Throw(env, wrapped.error());
      return env.Undefined();
    }
    return CopyBytes(env, wrapped.value());
  }

  Napi::Value Equals(const Napi::CallbackInfo& info) {
    const auto other = UnwrapSetKey(info[0], "other");
    if (other == nullptr) return info.Env().Undefined();
    return Napi::Boolean::New(info.Env(), core().Equals(*other));
  }

  Napi::Value BindLease(const Napi::CallbackInfo& info) {
    auto lease = UnwrapLease(info[0], "lease");
    if (lease == nullptr) return info.Env().Undefined();
    const auto self = UnwrapSetKey(info.This(), "this");
    if (self == nullptr) return info.Env().Undefined();
    self->BindLease(std::move(lease));
    SetKeyReaper::Register(self);  // from here on the shards' timers enforce the lease
    return info.Env().Undefined();
  }

  Napi::Value CreateDek(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    std::span<const uint8_t> aad;
    if (!ReadArgument(info, 0, "aad", &aad)) return env.Undefined();
    const auto created = core().CreateDek(aad);
    if (!created) {
      Throw(env, created.error());
      return env.Undefined();
    }
    return ToObject(env, created.value());
  }

  Napi::Value ResealDek(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    SealedDek sealed{};
    DekDigest digest{};
    const auto to = UnwrapSetKey(info[3], "to");
    std::span<const uint8_t> aad;  // the views of the caller's bytes last, as in Unlock
    std::span<const uint8_t> new_aad;
    if (to == nullptr || !ReadSealed(info[0], "sealed", &sealed) ||
        !ReadDigest(info[2], "digest", &digest) || !ReadArgument(info, 1, "aad", &aad) ||
        !ReadArgument(info, 4, "newAad", &new_aad)) {
      return env.Undefined();
    }
    const auto resealed = core().ResealDek(sealed, aad, digest, *to, new_aad);
    if (resealed) return ToObject(env, resealed.value());
    Throw(env, resealed.error());
    return env.Undefined();
  }

  Napi::Value ExportDek(const Napi::CallbackInfo& info) {
    const auto self = UnwrapSetKey(info.This(), "this");
    DekExport dek;
    if (self == nullptr || !ReadExport(info, &dek)) return info.Env().Undefined();
    return StatusWorker::Start(info.Env(), [self, dek = std::move(dek)] {
      return self->ExportDek(dek.sealed, dek.aad, dek.digest, dek.path);
    });
  }

  Napi::Value Wipe(const Napi::CallbackInfo& info) {
    core().Wipe();
    return info.Env().Undefined();
  }
};

}  // namespace

Napi::Value MakeSetKey(Napi::Env env, std::shared_ptr<SetKey> key) {
  return SetKeyObject::Make(env, AddonData::Of(env).set_key, std::move(key));
}

namespace {

Napi::Value GenerateSetKey(const Napi::CallbackInfo& info) {
  auto key = SetKey::Generate();
  if (!key) {
    Throw(info.Env(), key.error());
    return info.Env().Undefined();
  }
  return MakeSetKey(info.Env(), key.Take());
}

Napi::Value CreateLease(const Napi::CallbackInfo& info) {
  return LeaseObject::Make(info.Env(), AddonData::Of(info.Env()).lease, std::make_shared<Lease>());
}

/// Reads the pipe on a thread of libuv's pool: one short wait per set, bounded by the timeout.
class ReceiveWorker final : public Napi::AsyncWorker {
 public:
  ReceiveWorker(Napi::Env env, int read_fd, int timeout_ms)
      : Napi::AsyncWorker(env, "keyhold.receiveSetKey"),
        deferred_(env),
        read_fd_(read_fd),
        timeout_ms_(timeout_ms) {}

  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { received_.emplace(SetKey::Receive(read_fd_, timeout_ms_)); }

  void OnOK() override {
    if (!received_->ok()) {
      deferred_.Reject(ToNapiError(Env(), received_->error()).Value());
      return;
    }
    const Napi::Value key = MakeSetKey(Env(), received_->Take());
    if (!key.IsEmpty()) {
      deferred_.Resolve(key);
    } else {
      deferred_.Reject(Env().GetAndClearPendingException().Value());
    }
  }

 private:
  Napi::Promise::Deferred deferred_;
  int read_fd_;
  int timeout_ms_;
  std::optional<Result<std::shared_ptr<SetKey>>> received_;
};

Napi::Value ReceiveSetKey(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int32_t read_fd = -1;
  if (!ReadArgument(info, 0, "readFd", &read_fd)) return env.Undefined();
  int32_t timeout_ms = 0;
  if (!ReadArgument(info, 1, "timeoutMs", &timeout_ms)) {
    (void)CloseFd(read_fd);  // the descriptor is ours from here on, also when the call is refused
    return env.Undefined();
  }
  auto* worker = new ReceiveWorker(env, read_fd, timeout_ms);  // deletes itself when done
  const Napi::Promise promise = worker->promise();
  worker->Queue();
  return promise;
}

}  // namespace

void RegisterKeys(Napi::Env env, Napi::Object exports) {
  AddonData& data = AddonData::Of(env);
  data.set_key = Napi::Persistent(SetKeyObject::Define(env));
  data.lease = Napi::Persistent(LeaseObject::Define(env));
  exports.Set("generateSetKey", Napi::Function::New<GenerateSetKey>(env, "generateSetKey"));
  exports.Set("receiveSetKey", Napi::Function::New<ReceiveSetKey>(env, "receiveSetKey"));
  exports.Set("createLease", Napi::Function::New<CreateLease>(env, "createLease"));
}

std::shared_ptr<SetKey> UnwrapSetKey(Napi::Value value, const char* what) {
  return SetKeyObject::CoreOf(value, what);
}

std::shared_ptr<Lease> UnwrapLease(Napi::Value value, const char* what) {
  return LeaseObject::CoreOf(value, what);
}

}  // namespace keyhold::binding
