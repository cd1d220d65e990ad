#include "calque/core/exec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"

namespace calque {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

std::string refusal(std::string_view device, int threads = 0) {
  try {
    open_exec(device, threads);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kConfig);
    return error.what();
  }
  return "not refused";
}

TEST(Exec, OpensEveryDeviceThatIsListed) {
  for (const std::string& device : available_devices()) EXPECT_EQ(open_exec(device).name(), device);
}

TEST(Exec, AutoIsTheBestDeviceListed) {
  EXPECT_EQ(open_exec("auto", 2).name(), available_devices().back());
}

TEST(Exec, RefusesADeviceThatThisMachineLacks) {
  EXPECT_THAT(available_devices(), Contains("cpu"));
  EXPECT_THAT(refusal("cuda:7"), AllOf(HasSubstr("cuda:7"), HasSubstr("available here: cpu")));
}

TEST(Exec, RefusesAnUnknownDevice) {
  EXPECT_THAT(refusal("gpu"), AllOf(HasSubstr("'gpu'"), HasSubstr("'cuda:N'")));
}

TEST(Exec, RefusesANegativeNumberOfThreads) {
  EXPECT_THAT(refusal("cpu", -2), AllOf(HasSubstr("-2"), HasSubstr("threads")));
}

}  // namespace
}  // namespace calque
