// A model whose arithmetic leaves the numbers is stopped at the first block where it shows.
#include "calque/forward/not_finite.h"

#include <gmock/gmock.h>

#include <limits>

#include "forward/runner_fixture.h"

namespace calque::forward {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class NotFinite : public ::testing::TestWithParam<const char*> {
 protected:
  // Three sequences, of which only the last has the token 200.
  NotFinite() {
    tokens_.ids_BS = Matrix<std::int32_t>(3, 5);
    for (Index i = 0; i < 15; ++i) tokens_.ids_BS.data()[i] = static_cast<std::int32_t>(i + 7);
    tokens_.ids_BS(2, 3) = 200;
    tokens_.lengths_B = {5, 0, 5};
  }

  // Block 1 leaves an infinity wherever channel 3 is not zero.
  std::string message(ComputeDType dtype, BlockObserver* observer = nullptr) const {
    const model::ModelFolder model(model::family_folder("llama"));
    return model::error_of([&] {
      logits_of(model, tokens_, {.dtype = dtype, .threads = 2, .device = GetParam()}, observer,
                [](Index layer, model::BlockWeights& weights) {
                  if (layer != 1) return;
                  MatrixView<float> down = weights.at("model.layers.1.mlp.down_proj.weight");
                  for (Index k = 0; k < down.cols(); ++k)
                    down(3, k) = std::numeric_limits<float>::max();
                });
    });
  }

  Tokens tokens_;
};

TEST_P(NotFinite, OutputNamesBlockSequenceAndToken) {
  EXPECT_THAT(
      message(ComputeDType::kFloat32),
      AllOf(HasSubstr("output of block model.layers.1 for token"), HasSubstr("of sequence 0"),
            HasSubstr("damaged or too large"), Not(HasSubstr("bfloat16"))));
  EXPECT_THAT(message(ComputeDType::kBFloat16),
              AllOf(HasSubstr("output of block model.layers.1"),
                    HasSubstr("bfloat16, in which it ran: try runtime.forward_dtype: float32")));
}

TEST_P(NotFinite, OutputIsFoundWhileAnObserverLooksOn) {
  RecordingObserver observer;
  EXPECT_THAT(message(ComputeDType::kFloat32, &observer),
              HasSubstr("output of block model.layers.1 for token"));
}

INSTANTIATE_TEST_SUITE_P(Runners, NotFinite, ::testing::Values("cpu", "tensors"));

// Rows 0 to 4 are sequence 0's, 5 to 11 sequence 2's: sequence 1 is empty.
TEST(InputNotFinite, IsCountedThroughTheSequences) {
  model::BlockSpec block;
  block.name = "model.layers.4";
  model::SiteSpec site{.name = "mlp_out", .channels = 3};
  const std::vector<Index> lengths = {5, 0, 7};
  const auto message = [&](Index row) {
    return model::error_of(
        [&] { throw_input_not_finite(block, site, row, lengths, ComputeDType::kFloat32); });
  };
  EXPECT_THAT(message(2), HasSubstr("mlp_out of block model.layers.4, for token 2 of sequence 0, "
                                    "holds NaN or infinity"));
  EXPECT_THAT(message(4), HasSubstr("token 4 of sequence 0"));
  EXPECT_THAT(message(5), HasSubstr("token 0 of sequence 2"));
  EXPECT_THAT(message(10), HasSubstr("token 5 of sequence 2"));
  EXPECT_THAT(message(-1), HasSubstr("mlp_out of block model.layers.4 holds NaN or infinity"));
  site.expert = 6;
  EXPECT_THAT(message(10), HasSubstr("token 10 of those that reach expert 6"));
}

}  // namespace
}  // namespace calque::forward
