// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <functional>
#include <optional>
#include <utility>

#include "binding/convert.h"
#include "core/base/result.h"

namespace keyhold::binding {

/// Runs work that may wait for a disk on a thread of libuv's pool; the promise resolves to nothing,
/// or rejects as Throw would throw.
class StatusWorker final : public Napi::AsyncWorker {
 public:
  /// `work` owns everything that it uses.
  static Napi::Value Start(Napi::Env env, std::function<Status()> work) {
    auto* worker = new StatusWorker(env, std::move(work));  // deletes itself when done
    const Napi::Promise promise = worker->deferred_.Promise();
    worker->Queue();
    return promise;
  }

 protected:
  void Execute() override { status_.emplace(work_()); }

  void OnOK() override {
    if (status_->ok()) {
      deferred_.Resolve(Env().Undefined());
    } else {
      deferred_.Reject(ToNapiError(Env(), status_->error()).Value());
    }
  }

 private:
  StatusWorker(Napi::Env env, std::function<Status()> work)
      : Napi::AsyncWorker(env, "keyhold.status"), deferred_(env), work_(std::move(work)) {}

  Napi::Promise::Deferred deferred_;
  std::function<Status()> work_;
  std::optional<Status> status_;
};

}  // namespace keyhold::binding
