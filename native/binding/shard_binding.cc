// SPDX-License-Identifier: Apache-2.0
#include "binding/shard_binding.h"

#include "binding/convert.h"
#include "core/shard/plane.h"

namespace keyhold::binding {
namespace {

/// Argument 0 is the plane's id; null, with an exception pending, when there is no such plane.
std::shared_ptr<Plane> PlaneArgument(const Napi::CallbackInfo& info, const char* operation) {
  uint32_t plane_id = 0;
  if (!ReadArgument(info, 0, "planeId", &plane_id)) return nullptr;
  std::shared_ptr<Plane> plane = Plane::Find(plane_id);
  if (plane == nullptr) {
    Throw(info.Env(),
          Error{ErrorCode::kClosed, 0,
                std::string(operation) + ": there is no data plane " + std::to_string(plane_id)});
  }
  return plane;
}

/// Blocks this (worker) thread while the shard runs.
Napi::Value RunShard(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t index = 0;
  const std::shared_ptr<Plane> plane = PlaneArgument(info, "run shard");
  if (plane == nullptr || !ReadArgument(info, 1, "index", &index)) return env.Undefined();
  const Status ended = plane->RunShard(index);
  if (!ended) Throw(env, ended.error());
  return env.Undefined();
}

Napi::Value ShardTicks(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<Plane> plane = PlaneArgument(info, "look at the shards");
  if (plane == nullptr) return env.Undefined();
  const std::vector<uint64_t> ticks = plane->ShardTicks();
  Napi::Array array = Napi::Array::New(env, ticks.size());
  for (uint32_t i = 0; i < ticks.size(); ++i) array.Set(i, static_cast<double>(ticks[i]));
  return array;
}

Napi::Value ShardCpuSeconds(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::shared_ptr<Plane> plane = PlaneArgument(info, "look at the shards");
  if (plane == nullptr) return env.Undefined();
  const std::vector<uint64_t> times = plane->ShardCpuNs();
  Napi::Array array = Napi::Array::New(env, times.size());
  for (uint32_t i = 0; i < times.size(); ++i) array.Set(i, static_cast<double>(times[i]) / 1e9);
  return array;
}

Napi::Value StallShard(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t index = 0;
  uint32_t duration_ms = 0;
  const std::shared_ptr<Plane> plane = PlaneArgument(info, "stall shard");
  if (plane == nullptr || !ReadArgument(info, 1, "index", &index) ||
      !ReadArgument(info, 2, "durationMs", &duration_ms)) {
    return env.Undefined();
  }
  plane->StallShardForTest(index, int64_t{duration_ms} * 1'000'000);
  return env.Undefined();
}

}  // namespace

void RegisterShard(Napi::Env env, Napi::Object exports) {
  exports.Set("runShard", Napi::Function::New<RunShard>(env, "runShard"));
  exports.Set("shardTicks", Napi::Function::New<ShardTicks>(env, "shardTicks"));
  exports.Set("shardCpuSeconds", Napi::Function::New<ShardCpuSeconds>(env, "shardCpuSeconds"));
  exports.Set("stallShard", Napi::Function::New<StallShard>(env, "stallShard"));
}

}  // namespace keyhold::binding
