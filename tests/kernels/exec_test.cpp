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

// CUDA lists the fastest device first.
TEST(Exec, AutoIsTheFirstAcceleratorElseTheCpu) {
  const std::string best = available_devices().size() > 1 ? "cuda:0" : "cpu";
  EXPECT_EQ(open_exec("auto", 2).name(), best);
}

TEST(Exec, ListsAcceleratorsOrSaysWhyThereAreNone) {
  std::vector<std::string> names = {"cpu"};
  for (const DeviceFacts& facts : accelerators()) {
    names.push_back(facts.name);
    EXPECT_GT(facts.memory_bytes, 0u);
    EXPECT_LE(facts.free_bytes, facts.memory_bytes);
  }
  EXPECT_EQ(names, available_devices());
  EXPECT_EQ(why_no_accelerator().empty(), names.size() > 1);
}

TEST(Exec, RefusesADeviceThatThisMachineLacks) {
  EXPECT_THAT(available_devices(), Contains("cpu"));
  EXPECT_THAT(refusal("cuda:77"), AllOf(HasSubstr("cuda:77"), HasSubstr("available here: cpu")));
}

TEST(Exec, RefusesAnUnknownDevice) {
  for (const char* name : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda0", ""})
    EXPECT_THAT(refusal(name), AllOf(HasSubstr(std::string("'") + name + "'"), HasSubstr("unknown"),
                                     HasSubstr("'cuda:N'")));
}

TEST(Exec, RefusesANegativeNumberOfThreads) {
  EXPECT_THAT(refusal("cpu", -2), AllOf(HasSubstr("-2"), HasSubstr("threads")));
}

}  // namespace
}  // namespace calque
