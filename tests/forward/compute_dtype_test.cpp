#include <gmock/gmock.h>
#include <gtest/gtest.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <string_view>

#include "calque/core/error.h"
#include "calque/forward/block_runner.h"
#include "support/model_fixture.h"

namespace calque::forward {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// AMX-BF16 is bit 22 of EDX of CPUID leaf 7 (Intel SDM, volume 2A, CPUID).
bool cpuid_has_amx_bf16() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0;
#else
  return false;
#endif
}

// CALQUE_ISA may keep a process from the tiles that its processor has.
bool may_use_tiles() {
  const char* const named = std::getenv("CALQUE_ISA");
  return named == nullptr || *named == '\0' || std::string_view(named) == "amx";
}

TEST(ComputeDType, KnowsItsNames) {
  EXPECT_EQ(compute_dtype_from("float32"), ComputeDType::kFloat32);
  EXPECT_EQ(compute_dtype_from("bfloat16"), ComputeDType::kBFloat16);
  EXPECT_EQ(name_of(ComputeDType::kFloat32), "float32");
  EXPECT_EQ(name_of(ComputeDType::kBFloat16), "bfloat16");
}

TEST(ComputeDType, ChoosesBFloat16ByItselfOnlyWithTiles) {
  EXPECT_EQ(compute_dtype_from("auto"), cpuid_has_amx_bf16() && may_use_tiles()
                                            ? ComputeDType::kBFloat16
                                            : ComputeDType::kFloat32);
}

TEST(ComputeDType, RefusesOtherNames) {
  EXPECT_THAT(model::error_of([] { compute_dtype_from("fp16"); }),
              AllOf(HasSubstr("'fp16'"), HasSubstr("auto, float32 or bfloat16")));
}

}  // namespace
}  // namespace calque::forward
