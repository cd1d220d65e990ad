#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/core/error.h"
#include "calque/forward/block_runner.h"
#include "model/model_fixture.h"

namespace calque::forward {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(NoBlockRunner, SaysWhyAndWhatToDo) {
  EXPECT_THAT(model::error_of([] { make_block_runner(model::ModelConfig(), {}); }),
              AllOf(HasSubstr("built without LibTorch"), HasSubstr("CALQUE_TORCH=ON")));
  EXPECT_THAT(block_runner_description(), HasSubstr("none: calque was built without LibTorch"));
}

}  // namespace
}  // namespace calque::forward
