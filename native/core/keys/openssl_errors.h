// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/err.h>

namespace keyhold {

/// Drops what OpenSSL adds to the thread's error queue within a scope. In the addon that queue is
/// Node's own: an entry left behind would surface as the error of an unrelated TLS or crypto call.
class OpensslErrors {
 public:
  OpensslErrors() { ERR_set_mark(); }
  ~OpensslErrors() { ERR_pop_to_mark(); }
  OpensslErrors(const OpensslErrors&) = delete;
  OpensslErrors& operator=(const OpensslErrors&) = delete;
};

}  // namespace keyhold
