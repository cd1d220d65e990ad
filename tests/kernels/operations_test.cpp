#include "calque/kernels/operations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace calque {
namespace {

TEST(Operations, HaveNamesOfTheirOwn) {
  std::set<std::string_view> names;
  for (const Operation operation : all_operations()) names.insert(name_of(operation));
  EXPECT_EQ(names.size(), 12u);  // the enumerators
  EXPECT_THAT(names, ::testing::Not(::testing::Contains("unknown")));
  EXPECT_EQ(name_of(all_operations().front()), "gram");
  EXPECT_EQ(name_of(all_operations().back()), "pack_bits");
}

TEST(Operations, TheCpuProvidesThemAll) {
  for (const Operation operation : all_operations())
    EXPECT_TRUE(provides(open_exec("cpu", 1), operation)) << name_of(operation);
}

TEST(Operations, EveryDeviceSumsGramMatrices) {
  for (const std::string& device : available_devices())
    EXPECT_TRUE(provides(open_exec(device, 1), Operation::kGram)) << device;
}

}  // namespace
}  // namespace calque
