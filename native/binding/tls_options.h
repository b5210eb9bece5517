// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include "core/tls/context.h"

namespace keyhold::binding {

/// A NativeTlsOptions of src/dataplane/addon.ts. False with an exception pending.
bool ReadTlsOptions(Napi::Object object, TlsContextOptions* out);

}  // namespace keyhold::binding
