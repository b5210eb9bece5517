// SPDX-License-Identifier: Apache-2.0
#include "binding/process_binding.h"

#include <openssl/crypto.h>

#include "binding/convert.h"
#include "core/base/listening_fd.h"
#include "core/base/notify.h"
#include "core/base/process.h"
#include "core/disk/lease.h"
#include "core/secret/secret_pages.h"
#include "core/store/discard.h"
#include "core/store/file_store.h"
#include "core/xts/cipher.h"

namespace keyhold::binding {
namespace {

Napi::Value BootTimeMs(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(BootTimeNs()) / 1e6);
}

Napi::Value OpensslVersion(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), OpenSSL_version(OPENSSL_VERSION_STRING));
}

Napi::Value XtsKernels(const Napi::CallbackInfo& info) {
  Napi::Array names = Napi::Array::New(info.Env());
  for (const std::string_view name : xts::AvailableKernels()) {
    names.Set(names.Length(), Napi::String::New(info.Env(), name.data(), name.size()));
  }
  return names;
}

/// Opens the store and lets go of it again.
Napi::Value CheckDirectIo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string path;
  DirectIo direct{.required = true};
  if (!ReadArgument(info, 0, "path", &path) ||
      !ReadArgument(info, 1, "sectorSizeBytes", &direct.sector_size_bytes) ||
      !ReadArgument(info, 2, "dataOffsetBytes", &direct.data_offset_bytes)) {
    return env.Undefined();
  }
  const auto store = FileStore::Open(path, true, 0, direct);
  if (!store) Throw(env, store.error());
  return env.Undefined();
}

Napi::Value DiscardRangeOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string path;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  if (!ReadArgument(info, 0, "path", &path) ||
      !ReadArgument(info, 1, "offsetBytes", &offset_bytes) ||
      !ReadArgument(info, 2, "lengthBytes", &length_bytes)) {
    return env.Undefined();
  }
  const auto discarded = DiscardRange(path, offset_bytes, length_bytes);
  if (discarded) return Napi::Boolean::New(env, discarded.value());
  Throw(env, discarded.error());
  return env.Undefined();
}

Napi::Value PeerCredentialsOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int32_t fd = -1;
  if (!ReadArgument(info, 0, "fd", &fd)) return env.Undefined();
  const auto credentials = ReadPeerCredentials(fd);
  if (!credentials) {
    Throw(env, credentials.error());
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("uid", Napi::Number::New(env, credentials.value().uid));
  result.Set("gid", Napi::Number::New(env, credentials.value().gid));
  result.Set("pid", Napi::Number::New(env, credentials.value().pid));
  return result;
}

Napi::Value ForbidCoreDumpsOf(const Napi::CallbackInfo& info) {
  const Status done = ForbidCoreDumps();
  if (!done) Throw(info.Env(), done.error());
  return info.Env().Undefined();
}

Napi::Value HasMemfdSecretOf(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), secret::HasMemfdSecret());
}

Napi::Value CreatePipeOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto pipe = CreatePipe();
  if (!pipe) {
    Throw(env, pipe.error());
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("readFd", Napi::Number::New(env, pipe.value().read_fd));
  result.Set("writeFd", Napi::Number::New(env, pipe.value().write_fd));
  return result;
}

Napi::Value ClaimListenerOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int32_t fd = -1;
  if (!ReadArgument(info, 0, "fd", &fd)) return env.Undefined();
  const Result<ListeningAddress> claimed = ClaimListeningFd(fd);
  if (!claimed) {
    Throw(env, claimed.error());
    return env.Undefined();
  }
  const ListeningAddress& address = claimed.value();
  Napi::Object result = Napi::Object::New(env);
  if (address.is_unix) {
    result.Set("kind", "unix");
    result.Set("path", address.path);
  } else {
    result.Set("kind", "tcp");
    result.Set("host", address.host);
    result.Set("port", static_cast<uint32_t>(address.port));
  }
  return result;
}

Napi::Value NotifyOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string socket_path;
  std::string state;
  if (!ReadArgument(info, 0, "socketPath", &socket_path) ||
      !ReadArgument(info, 1, "state", &state)) {
    return env.Undefined();
  }
  const Status sent = NotifyServiceManager(socket_path, state);
  if (!sent) Throw(env, sent.error());
  return env.Undefined();
}

Napi::Value CloseFdOf(const Napi::CallbackInfo& info) {
  int32_t fd = -1;
  if (!ReadArgument(info, 0, "fd", &fd)) return info.Env().Undefined();
  const Status done = CloseFd(fd);
  if (!done) Throw(info.Env(), done.error());
  return info.Env().Undefined();
}

}  // namespace

void RegisterProcess(Napi::Env env, Napi::Object exports) {
  exports.Set("bootTimeMs", Napi::Function::New<BootTimeMs>(env, "bootTimeMs"));
  exports.Set("opensslVersion", Napi::Function::New<OpensslVersion>(env, "opensslVersion"));
  exports.Set("checkDirectIo", Napi::Function::New<CheckDirectIo>(env, "checkDirectIo"));
  exports.Set("discardRange", Napi::Function::New<DiscardRangeOf>(env, "discardRange"));
  exports.Set("xtsKernels", Napi::Function::New<XtsKernels>(env, "xtsKernels"));
  exports.Set("peerCredentials", Napi::Function::New<PeerCredentialsOf>(env, "peerCredentials"));
  exports.Set("forbidCoreDumps", Napi::Function::New<ForbidCoreDumpsOf>(env, "forbidCoreDumps"));
  exports.Set("hasMemfdSecret", Napi::Function::New<HasMemfdSecretOf>(env, "hasMemfdSecret"));
  exports.Set("createPipe", Napi::Function::New<CreatePipeOf>(env, "createPipe"));
  exports.Set("claimListener", Napi::Function::New<ClaimListenerOf>(env, "claimListener"));
  exports.Set("notify", Napi::Function::New<NotifyOf>(env, "notify"));
  exports.Set("closeFd", Napi::Function::New<CloseFdOf>(env, "closeFd"));
}

}  // namespace keyhold::binding
