// SPDX-License-Identifier: Apache-2.0
#include "binding/event_bridge.h"

#include <cstring>
#include <utility>

#include "binding/convert.h"

namespace keyhold::binding {
namespace {

constexpr double kNsPerMs = 1e6;

/// Builds the NativeEvent of src/dataplane/addon.ts.
struct EventToObject {
  Napi::Env env;

  Napi::Object Start(const char* kind) const {
    Napi::Object object = Napi::Object::New(env);
    object.Set("kind", kind);
    return object;
  }
  Napi::Object operator()(const ConnectionRefused& event) const {
    Napi::Object object = Start("connection-refused");
    object.Set("listenerId", event.listener_id);
    object.Set("peer", ToObject(env, event.peer));
    object.Set("cause", event.cause);
    return object;
  }
  Napi::Object operator()(const NegotiationOpen& event) const {
    Napi::Object object = Start("negotiation-open");
    object.Set("connectionId", event.connection_id);
    object.Set("listenerId", event.listener_id);
    object.Set("peer", ToObject(env, event.peer));
    return object;
  }
  Napi::Object operator()(const NegotiationData& event) const {
    Napi::Object object = Start("negotiation-data");
    object.Set("connectionId", event.connection_id);
    object.Set("data", CopyBytes(env, event.data));
    return object;
  }
  Napi::Object operator()(const NegotiationTls& event) const {
    Napi::Object object = Start("negotiation-tls");
    object.Set("connectionId", event.connection_id);
    object.Set("tls", ToObject(env, event.tls));
    return object;
  }
  Napi::Object operator()(const ConnectionClosed& event) const {
    Napi::Object object = Start("connection-closed");
    object.Set("connectionId", event.connection_id);
    object.Set("diskId", event.disk_id);
    object.Set("cause", event.cause);
    return object;
  }
  Napi::Object operator()(const TransmissionStarted& event) const {
    Napi::Object object = Start("transmission-started");
    object.Set("connectionId", event.connection_id);
    object.Set("diskId", event.disk_id);
    return object;
  }
  Napi::Object operator()(const LeaseEnded& event) const {
    Napi::Object object = Start("lease-ended");
    object.Set("diskId", event.disk_id);
    object.Set("keyWipedBootMs", static_cast<double>(event.key_wiped_ns) / kNsPerMs);
    return object;
  }
  Napi::Object operator()(const StoreFailed& event) const {
    Napi::Object object = Start("store-error");
    object.Set("diskId", event.disk_id);
    object.Set("operation", event.operation);
    const char* symbol = strerrorname_np(event.errno_value);
    object.Set("errno", symbol != nullptr ? symbol : "EUNKNOWN");
    return object;
  }
  Napi::Object operator()(const StoreBuffered& event) const {
    Napi::Object object = Start("store-buffered");
    object.Set("diskId", event.disk_id);
    object.Set("message", event.reason);
    return object;
  }
  Napi::Object operator()(const ShardDied& event) const {
    Napi::Object object = Start("shard-died");
    object.Set("index", event.index);
    object.Set("message", event.message);
    return object;
  }
};

/// An exception in a callback must end up as an uncaught exception, not as a warning.
void RaiseUncaught(Napi::Env env) {
  if (!env.IsExceptionPending()) return;
  napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

}  // namespace

std::shared_ptr<EventBridge> EventBridge::Create(Napi::Env env, Napi::Function on_event) {
  std::shared_ptr<EventBridge> bridge(new EventBridge());
  bridge->function_ = Napi::ThreadSafeFunction::New(env, on_event, "keyhold.plane", 0, 1);
  if (env.IsExceptionPending()) return nullptr;
  bridge->function_.Unref(env);
  bridge->open_ = true;
  return bridge;
}

void EventBridge::Post(Call call) {
  auto* posted = new Call(std::move(call));
  std::lock_guard lock(mutex_);
  const auto run = [](Napi::Env env, Napi::Function on_event, Call* mine) {
    std::unique_ptr<Call> owned(mine);
    if (env == nullptr) return;  // what is left in the queue when the environment goes
    (*owned)(env, on_event);
    RaiseUncaught(env);
  };
  if (!open_ || function_.NonBlockingCall(posted, run) != napi_ok) delete posted;
}

void EventBridge::Emit(Event event) {
  Post([event = std::move(event)](Napi::Env env, Napi::Function on_event) {
    Napi::HandleScope scope(env);
    const Napi::Object object = std::visit(EventToObject{env}, event);
    if (!env.IsExceptionPending()) on_event.Call({object});
  });
}

void EventBridge::Resolve(uint64_t promise_id, Convert convert) {
  Post([self = shared_from_this(), promise_id, convert = std::move(convert)](Napi::Env env,
                                                                             Napi::Function) {
    Napi::HandleScope scope(env);
    auto found = self->promises_.find(promise_id);
    if (found == self->promises_.end()) return;
    const Napi::Value value = convert(env);
    if (env.IsExceptionPending()) return;
    found->second.Resolve(value);
    self->promises_.erase(found);
  });
}

EventBridge::Pending EventBridge::NewPromise(Napi::Env env) {
  const uint64_t id = next_promise_id_++;
  auto [entry, added] = promises_.emplace(id, Napi::Promise::Deferred::New(env));
  return {id, entry->second.Promise()};
}

void EventBridge::Reject(Napi::Env env, uint64_t promise_id, const Error& error) {
  auto found = promises_.find(promise_id);
  if (found == promises_.end()) return;
  found->second.Reject(ToNapiError(env, error).Value());
  promises_.erase(found);
}

void EventBridge::RejectAll(Napi::Env env) {
  while (!promises_.empty()) {
    Reject(env, promises_.begin()->first,
           Error{ErrorCode::kClosed, 0, "wait for the data plane: it was stopped"});
  }
}

void EventBridge::Finish() {
  std::lock_guard lock(mutex_);
  if (!std::exchange(open_, false)) return;
  function_.Release();
}

void EventBridge::Shut() {
  std::lock_guard lock(mutex_);
  if (!std::exchange(open_, false)) return;
  function_.Abort();
}

}  // namespace keyhold::binding
