#include "forward/torch/tensor_guard.h"

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "calque/core/error.h"

namespace calque::forward {
namespace {

// Makes ATen, and oneDNN below it, stay on the calling thread.
class OneThread {
 public:
  OneThread() : before_(at::get_num_threads()) { at::set_num_threads(1); }
  ~OneThread() { at::set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;  // OpenMP keeps the number for each thread
};

// "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."
std::uint64_t bytes_in(const std::string& reason) {
  constexpr std::string_view kBefore = "tried to allocate ";
  const std::size_t at = reason.find(kBefore);
  return at == std::string::npos ? 0 : std::strtoull(&reason[at + kBefore.size()], nullptr, 10);
}

void translate_errors(const std::function<void()>& body) {
  try {
    body();
  } catch (const c10::Error& error) {
    const std::string reason = error.what_without_backtrace();
    if (reason.find("allocate memory") != std::string::npos) throw_out_of_memory(bytes_in(reason));
    throw Error(ErrorKind::kInternal, "", "LibTorch: " + reason);
  }
}

}  // namespace

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
