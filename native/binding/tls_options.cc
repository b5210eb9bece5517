// SPDX-License-Identifier: Apache-2.0
#include "binding/tls_options.h"

#include <optional>
#include <string>

#include "binding/convert.h"

namespace keyhold::binding {

bool ReadTlsOptions(Napi::Object object, TlsContextOptions* out) {
  using Mode = TlsContextOptions::ClientCertificates;
  std::optional<std::string> cert_file;
  std::optional<std::string> key_file;
  std::optional<std::string> ca_file;
  std::optional<std::string> psk_file;
  std::optional<std::string> ciphers;
  std::string mode;
  std::string version;
  if (!ReadField(object, "certFile", &cert_file) || !ReadField(object, "keyFile", &key_file) ||
      !ReadField(object, "clientCaFile", &ca_file) || !ReadField(object, "pskFile", &psk_file) ||
      !ReadField(object, "clientCertificates", &mode) ||
      !ReadField(object, "minVersion", &version) || !ReadField(object, "ciphers", &ciphers)) {
    return false;
  }
  if ((mode != "none" && mode != "optional" && mode != "required") ||
      (version != "1.2" && version != "1.3")) {
    Napi::TypeError::New(object.Env(), "clientCertificates " + mode + ", minVersion " + version +
                                           ": expected none, optional or required; 1.2 or 1.3")
        .ThrowAsJavaScriptException();
    return false;
  }
  out->cert_file = cert_file.value_or("");
  out->key_file = key_file.value_or("");
  out->client_ca_file = ca_file.value_or("");
  out->psk_file = psk_file.value_or("");
  out->client_certificates = mode == "none"       ? Mode::kNone
                             : mode == "optional" ? Mode::kOptional
                                                  : Mode::kRequired;
  out->tls_1_3_only = version == "1.3";
  out->ciphers = ciphers.value_or("");
  return true;
}

}  // namespace keyhold::binding
