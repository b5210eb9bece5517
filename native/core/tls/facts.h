// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace keyhold {

/// What a TLS handshake has proven: the TlsFacts of src/nbd/peer.ts. Plain text, but chosen by
/// whoever made the certificate: not yet safe to print.
struct TlsFacts {
  struct Certificate {
    std::string subject;                         // RFC 2253, ASCII
    std::vector<std::string> subject_alt_names;  // "DNS:…", "URI:…", "IP:…", "email:…"
    std::string fingerprint_sha256;              // 64 lower-case hex digits
  };
  std::string version;  // "TLSv1.3"
  std::string cipher;
  std::optional<Certificate> certificate;  // none: the client showed none
  std::optional<std::string> psk_identity;
};

}  // namespace keyhold
