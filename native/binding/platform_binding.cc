// SPDX-License-Identifier: Apache-2.0
#include "binding/platform_binding.h"

#include <span>
#include <string>
#include <utility>

#include "binding/addon_data.h"
#include "binding/convert.h"
#include "binding/keys_binding.h"
#include "binding/sealed_values.h"
#include "binding/status_worker.h"
#include "binding/wrapped.h"
#include "core/xts/outer_cipher.h"

namespace keyhold::binding {
namespace {

class PlatformKeyObject final : public Wrapped<PlatformKeyObject, PlatformKey> {
 public:
  static constexpr napi_type_tag kTypeTag{0x6b65'7968'6f6c'6405, 0x27b8'61ce'f04d'93a5};
  static constexpr const char* kClassName = "NativePlatformKey";
  using Wrapped::Wrapped;

  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, kClassName,
                       {Accessor<&PlatformKeyObject::Id>("id"),
                        InstanceMethod<&PlatformKeyObject::SealSetKey>("sealSetKey"),
                        InstanceMethod<&PlatformKeyObject::OpenSetKey>("openSetKey"),
                        InstanceMethod<&PlatformKeyObject::CreateDek>("createDek"),
                        InstanceMethod<&PlatformKeyObject::ExportDek>("exportDek")});
  }

 private:
  static Napi::Value Id(const Napi::CallbackInfo& info) {
    const auto self = CoreOf(info.This(), "this");
    if (self == nullptr) return info.Env().Undefined();
    return Napi::String::New(info.Env(), self->id());
  }

  Napi::Value SealSetKey(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    const auto key = UnwrapSetKey(info[0], "key");
    std::span<const uint8_t> aad;
    if (key == nullptr || !ReadArgument(info, 1, "aad", &aad)) return env.Undefined();
    const auto sealed = core().SealSetKey(*key, aad);
    if (sealed) return ToObject(env, sealed.value());
    Throw(env, sealed.error());
    return env.Undefined();
  }

  Napi::Value OpenSetKey(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    SealedSetKey sealed{};
    std::span<const uint8_t> aad;
    if (!ReadSealed(info[0], "sealed", &sealed) || !ReadArgument(info, 1, "aad", &aad)) {
      return env.Undefined();
    }
    auto key = core().OpenSetKey(sealed, aad);
    if (key) return MakeSetKey(env, key.Take());
    Throw(env, key.error());
    return env.Undefined();
  }

  Napi::Value CreateDek(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    std::span<const uint8_t> aad;
    if (!ReadArgument(info, 0, "aad", &aad)) return env.Undefined();
    const auto created = core().CreateDek(aad);
    if (created) return ToObject(env, created.value());
    Throw(env, created.error());
    return env.Undefined();
  }

  Napi::Value ExportDek(const Napi::CallbackInfo& info) {
    const auto self = UnwrapPlatformKey(info.This(), "this");
    DekExport dek;
    if (self == nullptr || !ReadExport(info, &dek)) return info.Env().Undefined();
    return StatusWorker::Start(info.Env(), [self, dek = std::move(dek)] {
      return self->ExportDek(dek.sealed, dek.aad, dek.digest, dek.path);
    });
  }
};

class OuterCipherObject final : public Wrapped<OuterCipherObject, xts::OuterCipher> {
 public:
  static constexpr napi_type_tag kTypeTag{0x6b65'7968'6f6c'6406, 0xd95a'3e17'4c82'b06f};
  static constexpr const char* kClassName = "NativeOuterCipher";
  using Wrapped::Wrapped;

  static Napi::Function Define(Napi::Env env) {
    return DefineClass(env, kClassName,
                       {InstanceMethod<&OuterCipherObject::Run<true>>("encrypt"),
                        InstanceMethod<&OuterCipherObject::Run<false>>("decrypt"),
                        InstanceMethod<&OuterCipherObject::Wipe>("wipe")});
  }

 private:
  template <bool kEncrypt>
  Napi::Value Run(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    uint64_t offset_bytes = 0;
    std::span<const uint8_t> bytes;
    if (!ReadArgument(info, 1, "offsetBytes", &offset_bytes) ||
        !ReadArgument(info, 0, "bytes", &bytes)) {
      return env.Undefined();
    }
    Napi::Uint8Array out = CopyBytes(env, bytes);
    if (env.IsExceptionPending()) return env.Undefined();
    const std::span<uint8_t> target(out.Data(), out.ElementLength());
    const Status done =
        kEncrypt ? core().Encrypt(target, offset_bytes) : core().Decrypt(target, offset_bytes);
    if (done) return out;
    Throw(env, done.error());
    return env.Undefined();
  }

  Napi::Value Wipe(const Napi::CallbackInfo& info) {
    core().Wipe();
    return info.Env().Undefined();
  }
};

Napi::Value PlatformKeyOrThrow(Napi::Env env, Result<std::shared_ptr<PlatformKey>> key) {
  if (key) {
    return PlatformKeyObject::Make(env, AddonData::Of(env).platform_key, key.Take());
  }
  Throw(env, key.error());
  return env.Undefined();
}

Napi::Value CreatePlatformKeyFile(const Napi::CallbackInfo& info) {
  std::string path;
  if (!ReadArgument(info, 0, "path", &path)) return info.Env().Undefined();
  return PlatformKeyOrThrow(info.Env(), PlatformKey::CreateFile(path));
}

Napi::Value LoadPlatformKey(const Napi::CallbackInfo& info) {
  std::string path;
  bool credential = false;
  if (!ReadArgument(info, 0, "path", &path) || !ReadArgument(info, 1, "credential", &credential)) {
    return info.Env().Undefined();
  }
  return PlatformKeyOrThrow(info.Env(), PlatformKey::Load(path, credential));
}

Napi::Value OpenOuterCipher(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto platform = UnwrapPlatformKey(info[0], "platform");
  SealedDek sealed{};
  DekDigest digest{};
  uint32_t sector_size_bytes = 0;
  std::span<const uint8_t> aad;  // the view of the caller's bytes last, as in Unlock
  if (platform == nullptr || !ReadSealed(info[1], "sealed", &sealed) ||
      !ReadDigest(info[3], "digest", &digest) ||
      !ReadArgument(info, 4, "sectorSizeBytes", &sector_size_bytes) ||
      !ReadArgument(info, 2, "aad", &aad)) {
    return env.Undefined();
  }
  const auto dek = platform->OpenDek(sealed, aad, digest);
  if (!dek) {
    Throw(env, dek.error());
    return env.Undefined();
  }
  auto cipher = xts::OuterCipher::Create(dek.value().bytes(), sector_size_bytes);
  if (cipher) {
    return OuterCipherObject::Make(env, AddonData::Of(env).outer_cipher, cipher.Take());
  }
  Throw(env, cipher.error());
  return env.Undefined();
}

}  // namespace

void RegisterPlatform(Napi::Env env, Napi::Object exports) {
  AddonData& data = AddonData::Of(env);
  data.platform_key = Napi::Persistent(PlatformKeyObject::Define(env));
  data.outer_cipher = Napi::Persistent(OuterCipherObject::Define(env));
  exports.Set("createPlatformKeyFile",
              Napi::Function::New<CreatePlatformKeyFile>(env, "createPlatformKeyFile"));
  exports.Set("loadPlatformKey", Napi::Function::New<LoadPlatformKey>(env, "loadPlatformKey"));
  exports.Set("openOuterCipher", Napi::Function::New<OpenOuterCipher>(env, "openOuterCipher"));
}

std::shared_ptr<PlatformKey> UnwrapPlatformKey(Napi::Value value, const char* what) {
  return PlatformKeyObject::CoreOf(value, what);
}

}  // namespace keyhold::binding
