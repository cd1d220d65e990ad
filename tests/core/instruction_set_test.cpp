#include "calque/core/instruction_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "calque/core/error.h"

namespace calque {
namespace {

TEST(InstructionSet, IsTheOneAskedForOrTheWidest) {
  const char* const asked = std::getenv("CALQUE_ISA");
  const std::string_view widest = name_of(runnable_instruction_sets().back());
  EXPECT_EQ(name_of(instruction_set()), asked == nullptr || *asked == '\0' ? widest : asked);
}

// In a process of its own: a process asks the environment once.
void choose(const char* name) {
  setenv("CALQUE_ISA", name, 1);
  try {
    std::fprintf(stderr, "chosen: %s", std::string(name_of(instruction_set())).c_str());
    std::exit(0);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: %s", error.code().c_str(), error.what());
    std::exit(error.kind() == ErrorKind::kConfig ? 2 : 1);
  }
}

TEST(InstructionSetDeathTest, IsRefusedUnlessItCanRun) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(choose("sse9"), testing::ExitedWithCode(2), "E130: CALQUE_ISA: .*'sse9'.*can use: ");
  for (const InstructionSet set : runnable_instruction_sets())
    EXPECT_EXIT(choose(std::string(name_of(set)).c_str()), testing::ExitedWithCode(0),
                "chosen: " + std::string(name_of(set)));
}

#ifdef CALQUE_AVX512_COPY
// Linux lists the features as well.
std::string processor_flags() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("flags")) return line + " ";
  return "";
}

TEST(InstructionSet, IsOneThatLinuxListsToo) {
  const std::string flags = processor_flags();
  const auto has = [&](const char* flag) {
    return flags.find(std::string(" ") + flag + " ") != std::string::npos;
  };
  const bool avx512 =
      has("avx512f") && has("avx512bw") && has("avx512cd") && has("avx512dq") && has("avx512vl");
  const bool amx = avx512 && has("amx_bf16");
  EXPECT_EQ(runnable_instruction_sets().size(), 1u + avx512 + amx) << flags;
}
#endif

}  // namespace
}  // namespace calque
