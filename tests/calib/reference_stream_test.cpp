// Sums of a routed site against their definition: two models that send other tokens to an expert.
#include "calque/calib/reference_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace calque::calib {
namespace {

constexpr Index kTokens = 5;

// Rows of a site for some tokens; all tokens if there are no places.
struct Shown {
  const model::SiteSpec* site;
  std::vector<Index> tokens;
  Matrix<float> rows_TK;
  forward::ActivationView view() const {
    return {.f32_TK = rows_TK.view(), .bf16_TK = {}, .device_TK = {}, .tokens = tokens};
  }
};

class FewStates : public forward::HiddenStates {
 public:
  Index sequences() const override { return 1; }
  Index length(Index) const override { return kTokens; }
};

// Shows an observer what it is told to.
class ShowingRunner : public forward::BlockRunner {
 public:
  std::vector<Shown> shown;

  void run_block(const model::BlockSpec&, model::BlockWeights&, forward::HiddenStates&,
                 forward::BlockObserver* observer) override {
    for (const Shown& each : shown) observer->site_input(*each.site, each.view());
  }
  std::unique_ptr<forward::HiddenStates> embed(MatrixView<const std::int32_t>,
                                               std::span<const Index>,
                                               MatrixView<const float>) override {
    return std::make_unique<FewStates>();
  }
  void keep(forward::HiddenStates&, const model::KeptRows&, Index,
            MatrixView<const float>) override {}
  Matrix<float> half_output(const model::BlockSpec&, const model::BlockWeights&,
                            const forward::HiddenStates&, std::size_t, Index) const override {
    return {};
  }
  Matrix<float> head_input(MatrixView<const float>, const forward::HiddenStates&,
                           Index) const override {
    return {};
  }
  void save_states(const forward::HiddenStates&, const io::ByteSink&) const override {}
  std::unique_ptr<forward::HiddenStates> load_states(std::span<const Index>, Index,
                                                     const io::ByteSource&) override {
    return std::make_unique<FewStates>();
  }
  std::unique_ptr<forward::Head> make_head(MatrixView<const float>,
                                           MatrixView<const float>) override {
    return nullptr;
  }
};

class NoWeights : public model::ModelSource {
 public:
  NoWeights() : ModelSource("nothing", {}) {}
  Matrix<float> load(std::string_view) const override { return {}; }
  model::TensorBytes bytes(std::string_view) const override {
    return model::TensorBytes(std::vector<std::byte>());
  }
};

class RoutedSites : public ::testing::Test {
 protected:
  RoutedSites() {
    const auto reader = [](const char* name, Index channels) {
      model::LinearSpec linear;
      linear.name = name;
      linear.weight.name = name;
      linear.weight.shape = {2, channels};
      return linear;
    };
    block_.sites = {
        {.name = "mlp_in", .channels = 3, .from_norm = true},
        {.name = "expert_in",
         .expert = 0,
         .channels = 3,
         .readers = {reader("up", 3)},
         .rows_of = "mlp_in"},
        {.name = "expert_out", .expert = 0, .channels = 2, .readers = {reader("down", 2)}}};
    for (const model::SiteSpec& site : block_.sites)
      for (const model::LinearSpec& linear : site.readers)
        plan_.tensors.push_back({.tensor = linear.weight, .grid = quant::Grid{}});
    family_.blocks = {block_};
    family_.embedding.shape = {7, 3};
    text_.ids_BS = Matrix<std::int32_t>(1, kTokens);
    text_.lengths_B = {kTokens};
  }

  // The original sends tokens 0, 1 and 4 to the expert.
  void show_original() {
    runner_.shown.push_back({&block_.sites[0], {}, original_.clone()});
    runner_.shown.push_back({&block_.sites[1], {0, 1, 4}, Matrix<float>(3, 3)});
    runner_.shown.push_back({&block_.sites[2], {0, 1, 4}, original_inner_.clone()});
    model::BlockWeights weights;
    stream().run_block(block_, weights);
  }
  ReferenceStream& stream() {
    if (!stream_)
      stream_ =
          std::make_unique<ReferenceStream>(ReferenceStream::Inputs{.runner = runner_,
                                                                    .weights = weights_,
                                                                    .family = family_,
                                                                    .calibration = text_,
                                                                    .plan = plan_,
                                                                    .statistics = exec_,
                                                                    .scratch = nullptr,
                                                                    .forward_seconds = seconds_},
                                            [](std::span<std::byte>) {});
    return *stream_;
  }
  std::optional<quant::InputShift> shift_at(std::size_t site, std::vector<Index> tokens,
                                            const Matrix<float>& rows_TK) {
    const Shown shown{&block_.sites[site], std::move(tokens), rows_TK.clone()};
    stream().compare(block_.sites[site], shown.view());
    return stream().take(block_.sites[site]);
  }

  static Matrix<float> filled(Index rows, Index cols, std::vector<float> values) {
    Matrix<float> m(rows, cols);
    std::copy(values.begin(), values.end(), m.data());
    return m;
  }

  model::BlockSpec block_;
  model::FamilySpec family_;
  formats::ExportPlan plan_;
  text::TokenBlocks text_;
  NoWeights weights_;
  ShowingRunner runner_;
  Exec exec_ = open_exec("cpu");
  double seconds_ = 0;
  std::unique_ptr<ReferenceStream> stream_;
  const Matrix<float> original_ =
      filled(kTokens, 3, {1, 2, 3, 4, 5, 6, -1, 0, 2, 7, 7, 7, 3, -2, 1});
  const Matrix<float> original_inner_ = filled(3, 2, {9, 9, 1, 2, 3, -4});
};

// sum of (x - x~) x~^T over pairs of rows, by its definition.
Matrix<float> cross_of(const std::vector<std::pair<const float*, const float*>>& pairs, Index K) {
  Matrix<float> sum(K, K);
  for (const auto& [original, input] : pairs)
    for (Index i = 0; i < K; ++i)
      for (Index j = 0; j < K; ++j) sum(i, j) += (original[i] - input[i]) * input[j];
  return sum;
}

void expect_equal(const Matrix<float>& actual, const Matrix<float>& expected) {
  ASSERT_EQ(actual.rows(), expected.rows());
  for (Index i = 0; i < expected.size(); ++i) EXPECT_EQ(actual.data()[i], expected.data()[i]) << i;
}

// The original normed every token, wherever it sent it: token 2 has a partner, too.
TEST_F(RoutedSites, CompareWhatAnExpertReadsWithTheOriginalsNormOfTheSameTokens) {
  show_original();
  const Matrix<float> inputs = filled(3, 3, {4, 5, 5, -1, 1, 2, 2, -2, 1});
  const auto shift = shift_at(1, {1, 2, 4}, inputs);
  ASSERT_TRUE(shift);
  expect_equal(shift->cross_KK, cross_of({{original_.row(1), inputs.row(0)},
                                          {original_.row(2), inputs.row(1)},
                                          {original_.row(4), inputs.row(2)}},
                                         3));
  EXPECT_EQ(shift->energy, 1 + 1 + 1);
}

// Token 2 is new to the expert, and token 0 no longer its own.
TEST_F(RoutedSites, CompareInnerActivationsWhereBothModelsSendTheToken) {
  show_original();
  const Matrix<float> inputs = filled(3, 2, {1, 1, 50, 50, 3, -2});
  const auto shift = shift_at(2, {1, 2, 4}, inputs);
  ASSERT_TRUE(shift);
  expect_equal(shift->cross_KK, cross_of({{original_inner_.row(1), inputs.row(0)},
                                          {original_inner_.row(2), inputs.row(2)}},
                                         2));
  EXPECT_EQ(shift->energy, 1 + 4);
}

TEST_F(RoutedSites, HaveNoShiftWhereTheOriginalSendsNothing) {
  runner_.shown.push_back({&block_.sites[0], {}, original_.clone()});
  model::BlockWeights weights;
  stream().run_block(block_, weights);
  EXPECT_FALSE(shift_at(2, {1}, Matrix<float>(1, 2)));
  EXPECT_FALSE(stream().take(block_.sites[1])) << "nothing was compared";
}

}  // namespace
}  // namespace calque::calib
