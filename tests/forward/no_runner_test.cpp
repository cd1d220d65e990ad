#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "calque/forward/block_runner.h"
#include "support/model_fixture.h"

namespace calque::forward {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(NoLibTorch, SaysWhyAndWhatToDo) {
  EXPECT_THAT(
      model::error_of([] { make_block_runner(model::ModelConfig(), {.device = "tensors"}); }),
      AllOf(HasSubstr("built without LibTorch"), HasSubstr("CALQUE_TORCH=ON")));
  EXPECT_THAT(block_runner_description(),
              HasSubstr("GPUs: none: calque was built without LibTorch"));
}

}  // namespace
}  // namespace calque::forward
