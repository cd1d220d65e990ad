#pragma once

#include <gtest/gtest.h>

#include "calque/core/exec.h"

namespace calque::test {

// For tests that compare the first GPU with the CPU; skipped where there is none.
class BothDevices : public ::testing::Test {
 protected:
  void SetUp() override {
    if (accelerators().empty()) GTEST_SKIP() << why_no_accelerator();
    gpu_ = open_exec("cuda:0", 2);
  }

  Exec cpu_ = open_exec("cpu", 2);
  Exec gpu_ = cpu_;
};

}  // namespace calque::test
