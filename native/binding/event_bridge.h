// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "core/base/result.h"
#include "core/disk/event.h"

namespace keyhold::binding {

/// Carries events and the results of asynchronous calls from any thread to the environment that
/// made the plane, over one thread-safe function. That does not keep the event loop alive.
///
/// The queue is not limited by Node, because what goes in is bounded by what made it: one
/// negotiation event per connection, one result per call, and rare events.
class EventBridge : public std::enable_shared_from_this<EventBridge> {
 public:
  /// Makes the value that a promise resolves to.
  using Convert = std::function<Napi::Value(Napi::Env)>;

  static std::shared_ptr<EventBridge> Create(Napi::Env env, Napi::Function on_event);

  // From any thread; ignored once the environment is gone.
  void Emit(Event event);
  void Resolve(uint64_t promise_id, Convert convert);
  /// The plane is gone: what was sent still arrives, then the function is let go.
  void Finish();

  // From the environment's own thread.
  struct Pending {
    uint64_t id;
    Napi::Promise promise;
  };
  Pending NewPromise(Napi::Env env);
  void Reject(Napi::Env env, uint64_t promise_id, const Error& error);
  /// The plane stops: whoever still waits gets nativeCode Closed.
  void RejectAll(Napi::Env env);
  /// The environment is going: nothing reaches it from here on.
  void Shut();

 private:
  using Call = std::function<void(Napi::Env, Napi::Function)>;
  EventBridge() = default;
  void Post(Call call);

  std::mutex mutex_;  // guards the two members below
  bool open_ = false;
  Napi::ThreadSafeFunction function_;

  // Touched on the environment's thread alone.
  uint64_t next_promise_id_ = 1;
  std::map<uint64_t, Napi::Promise::Deferred> promises_;
};

}  // namespace keyhold::binding
