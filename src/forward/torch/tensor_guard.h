#pragma once

#include <c10/core/Device.h>

#include <functional>

namespace calque::forward {

// Runs `body` without records for gradients, on one thread if `device` is the CPU. ATen's
// exceptions leave it as calque::Error: kResource for memory that is not there.
void guarded(const c10::Device& device, const std::function<void()>& body);

}  // namespace calque::forward
