#include "forward/torch/tensor_guard.h"

#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <optional>

#include "calque/core/error.h"
#include "forward/cpu/sequences.h"

namespace calque::forward {

void guarded(const c10::Device& device, const std::function<void()>& body) {
  translate_errors([&] {
    try {
      const c10::InferenceMode inference;
      std::optional<OneThread> one_thread;
      if (device.is_cpu()) one_thread.emplace();
      body();
    } catch (const c10::OutOfMemoryError& error) {
      throw Error(ErrorKind::kResource, "",
                  std::string("forward pass: ") + error.what_without_backtrace() +
                      "; fewer or shorter calibration rows take less, or set "
                      "runtime.stages.forward: cpu");
    }
  });
}

}  // namespace calque::forward
