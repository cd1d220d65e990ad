#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "calque/core/exec.h"

namespace calque::test {

// "cpu", "cuda_0": a device's name as a test's name may spell it.
inline std::string label_of_device(const ::testing::TestParamInfo<std::string>& info) {
  std::string label = info.param;
  std::replace(label.begin(), label.end(), ':', '_');
  return label;
}

}  // namespace calque::test

// Runs the tests of `suite`, whose parameter is a device's name, on every device of this machine.
#define CALQUE_ON_EVERY_DEVICE(suite)                                                          \
  INSTANTIATE_TEST_SUITE_P(Devices, suite, ::testing::ValuesIn(::calque::available_devices()), \
                           ::calque::test::label_of_device)
