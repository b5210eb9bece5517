// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

#include <memory>
#include <string>

namespace keyhold::binding {

/// A JavaScript object that shares ownership of a core object.
///
/// Only native code makes one: the constructor is reachable from JavaScript (`object.constructor`),
/// so it demands an External that scripts cannot make. The type tag tells the object from every
/// other, whatever its prototype was set to. Class gives `kTypeTag` and `kClassName`.
template <typename Class, typename Core>
class Wrapped : public Napi::ObjectWrap<Class> {
 public:
  explicit Wrapped(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Class>(info) {
    if (!info[0].IsExternal()) {
      Napi::TypeError::New(info.Env(), std::string(Class::kClassName) + ": illegal constructor")
          .ThrowAsJavaScriptException();
      return;
    }
    core_ = *info[0].As<Napi::External<std::shared_ptr<Core>>>().Data();
    info.This().template As<Napi::Object>().TypeTag(&Class::kTypeTag);
  }

  /// The JavaScript object for `core`; empty with an exception pending when it cannot be made.
  static Napi::Value Make(Napi::Env env, const Napi::FunctionReference& constructor,
                          std::shared_ptr<Core> core) {
    const auto handle = Napi::External<std::shared_ptr<Core>>::New(env, &core);
    return constructor.New({handle});
  }

  /// A read-only accessor. V8 checks the receiver of a method, but not that of an accessor, which
  /// any wrapped object could therefore be passed to: so `kGet` is static and asks CoreOf for it.
  template <Napi::Value (*kGet)(const Napi::CallbackInfo&)>
  static typename Napi::ObjectWrap<Class>::PropertyDescriptor Accessor(const char* name) {
    const auto property = Napi::PropertyDescriptor::Accessor<kGet>(name);
    return static_cast<const napi_property_descriptor&>(property);
  }

  /// The core object behind `value`, or null with a TypeError that names `what` pending. No other
  /// exception may be pending yet: Node-API would make the second one fatal.
  static std::shared_ptr<Core> CoreOf(Napi::Value value, const char* what) {
    if (value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&Class::kTypeTag)) {
      Class* wrapped = Napi::ObjectWrap<Class>::Unwrap(value.As<Napi::Object>());
      if (wrapped != nullptr) return wrapped->core_;
    }
    Napi::TypeError::New(value.Env(), std::string(what) + ": expected a " + Class::kClassName)
        .ThrowAsJavaScriptException();
    return nullptr;
  }

 protected:
  Core& core() const { return *core_; }

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace keyhold::binding
