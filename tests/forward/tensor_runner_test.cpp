// The runner on ATen's operators against the CPU's own arithmetic: on the CPU ("tensors"), and on a
// GPU where there is one that LibTorch can use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "forward/runner_fixture.h"

namespace calque::forward {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<std::string> tensor_devices() {
  std::vector<std::string> devices = {"tensors"};
  if (runner_gpus() > 0) devices.push_back("cuda:0");
  return devices;
}

RunnerOptions options_on(const std::string& device, ComputeDType dtype = ComputeDType::kFloat32) {
  return {.dtype = dtype, .threads = 2, .device = device, .host_views = true};
}

// Each runner's fp32 sums of at most K = 256 products err by up to K * 2^-24 * sum |x w|: 1e-3 of
// the logits at worst (block_runner_test.cpp), so the two are at most twice that apart.
constexpr float kLogitTolerance = 2e-3f;
// The same of a block's inputs and halves, of some 10 in magnitude: twice 5e-4.
constexpr float kSumTolerance = 1e-3f;

class TensorRunner : public ::testing::TestWithParam<std::string> {
 protected:
  model::ModelFolder model{model::family_folder(GetParam())};
  Tokens tokens = Reference(model::family_folder(GetParam())).tokens;
  const model::BlockSpec& block = telling_block(model.family);

  std::unique_ptr<HiddenStates> embed(BlockRunner& runner) const {
    return embedded(runner, model, tokens);
  }
};
INSTANTIATE_TEST_SUITE_P(Families, TensorRunner, ::testing::ValuesIn(model::family_folders()));

TEST_P(TensorRunner, MakesTheLogitsOfTheCpuRunner) {
  const Matrix<float> expected_RV = logits_of(model, tokens, {});
  for (const std::string& device : tensor_devices()) {
    const float difference =
        largest_difference(logits_of(model, tokens, options_on(device)), expected_RV);
    std::printf("%s on %s differs by %.2g\n", GetParam().c_str(), device.c_str(), difference);
    EXPECT_LT(difference, kLogitTolerance) << device;
  }
}

// The CPU runner takes a sequence through linears in chunks of 256 rows, the other one whole.
TEST_P(TensorRunner, MakesTheLogitsOfTheCpuRunnersChunks) {
  constexpr Index kLengths[] = {600, 256};
  Tokens longer{Matrix<std::int32_t>(2, kLengths[0]), {kLengths[0], kLengths[1]}};
  for (Index i = 0; i < longer.ids_BS.size(); ++i)
    longer.ids_BS.data()[i] = tokens.ids_BS.data()[i * 7 % tokens.lengths_B.front()];
  const Matrix<float> expected_RV = logits_of(model, longer, {});
  EXPECT_LT(largest_difference(logits_of(model, longer, options_on("tensors")), expected_RV),
            kLogitTolerance);
  for (const ComputeDType dtype : {ComputeDType::kFloat32, ComputeDType::kBFloat16}) {
    RecordingObserver observer;
    EXPECT_TRUE(same_bits(logits_of(model, longer, {dtype, 2}, &observer),
                          logits_of(model, longer, {dtype, 1})));
  }
}

double mean_difference(const Matrix<float>& a, const Matrix<float>& b) {
  double total = 0;
  for (Index i = 0; i < a.size(); ++i)
    total += std::abs(static_cast<double>(a.data()[i]) - b.data()[i]);
  return total / static_cast<double>(a.size());
}

// The linears of one site alone, the last: further ones would round differently what the first made
// different. Only inputs within some 2^-20 of a tie can be, which is one of 2^15 at the least, so
// the mean stays far below what rounding itself does.
TEST_P(TensorRunner, RoundsInputsAsTheCpuRunner) {
  using Scale = InputGrid::Scale;
  const Matrix<float> exact_RV = logits_of(model, tokens, {});
  for (const InputGrid& grid :
       {InputGrid{Scale::kToken}, InputGrid{Scale::kToken, SmallFloat::kE4M3},
        InputGrid{Scale::kGroup, SmallFloat::kE4M3, 24},
        InputGrid{Scale::kPower, SmallFloat::kE2M1, 24},
        InputGrid{Scale::kCoded, SmallFloat::kE2M1, 16, 300},
        InputGrid{Scale::kTensor, SmallFloat::kE2M1, 0, 0.25f}}) {
    auto grids = std::make_shared<InputGrids>();
    for (const model::LinearSpec& linear : model.family.blocks.back().sites.back().readers)
      grids->emplace(linear.weight.name, grid);
    RunnerOptions rounding;
    rounding.inputs = grids;
    const Matrix<float> expected_RV = logits_of(model, tokens, rounding);
    const double effect = mean_difference(expected_RV, exact_RV);
    EXPECT_GT(effect, 0);
    for (const std::string& device : tensor_devices()) {
      RunnerOptions options = options_on(device);
      options.inputs = grids;
      EXPECT_LT(mean_difference(logits_of(model, tokens, options), expected_RV), 0.2 * effect)
          << device;
    }
  }
}

TEST_P(TensorRunner, RoundsToBFloat16AsTheCpuRunner) {
  const Matrix<float> exact_RV = logits_of(model, tokens, {});
  const Matrix<float> expected_RV = logits_of(model, tokens, {ComputeDType::kBFloat16, 2});
  for (const std::string& device : tensor_devices()) {
    const Matrix<float> rounded_RV =
        logits_of(model, tokens, options_on(device, ComputeDType::kBFloat16));
    const double from_exact = relative_difference(model.family, rounded_RV, exact_RV);
    const double from_cpu = relative_difference(model.family, rounded_RV, expected_RV);
    std::printf("%s on %s in bf16: %.2g from fp32, %.2g from the CPU's\n", GetParam().c_str(),
                device.c_str(), from_exact, from_cpu);
    EXPECT_LT(from_exact, bf16_tolerance(GetParam())) << device;
    EXPECT_GT(from_exact, 0.5 * std::ldexp(1.0, -9)) << device;  // or nothing was rounded
    EXPECT_LT(from_cpu, bf16_tolerance(GetParam())) << device;
  }
}

TEST_P(TensorRunner, MakesTheSameBitsWhenWatched) {
  for (const std::string& device : tensor_devices())
    for (const ComputeDType dtype : {ComputeDType::kFloat32, ComputeDType::kBFloat16}) {
      RecordingObserver observer;
      const Matrix<float> watched_RV =
          logits_of(model, tokens, options_on(device, dtype), &observer);
      EXPECT_TRUE(same_bits(watched_RV, logits_of(model, tokens, options_on(device, dtype))));
    }
}

std::vector<std::string> ready_sites(const RecordingObserver& observer) {
  std::vector<std::string> sites;
  for (const std::string& event : observer.events())
    if (event.find("ready") != std::string::npos) sites.push_back(event);
  return sites;
}

TEST_P(TensorRunner, ShowsTheSameRowsOfTheSameSitesInTheSameOrder) {
  const auto watched = [&](const RunnerOptions& options) {
    model::BlockWeights weights = load_block(model.source, block);
    const auto runner = make_block_runner(model.config, options);
    const auto hidden = embed(*runner);
    RecordingObserver observer;
    runner->run_block(block, weights, *hidden, &observer);
    return observer;
  };
  RecordingObserver expected = watched({});
  for (const std::string& device : tensor_devices()) {
    RecordingObserver shown = watched(options_on(device));
    EXPECT_EQ(ready_sites(shown), ready_sites(expected));
    for (const model::SiteSpec& site : block.sites) {
      const auto& rows = shown.rows(site.name, site.expert);
      const auto& wanted = expected.rows(site.name, site.expert);
      ASSERT_EQ(rows.size(), wanted.size()) << site.name << " " << site.expert;
      if (device == "tensors") {  // others show rows where they are
        EXPECT_EQ(shown.tokens(site.name, site.expert), expected.tokens(site.name, site.expert));
      }
      for (std::size_t t = 0; t < rows.size(); ++t) {
        ASSERT_EQ(rows[t].size(), wanted[t].size());
        for (std::size_t k = 0; k < rows[t].size(); ++k)
          ASSERT_NEAR(rows[t][k], wanted[t][k], kSumTolerance)
              << site.name << " " << site.expert << " row " << t << " column " << k;
      }
    }
  }
}

TEST_P(TensorRunner, TellsWhatEachHalfAdds) {
  const auto halves = [&](const RunnerOptions& options) {
    model::BlockWeights weights = load_block(model.source, block);
    const auto runner = make_block_runner(model.config, options);
    const auto hidden = embed(*runner);
    std::map<std::string, Matrix<float>> outputs;
    std::size_t half = 0;
    RecordingObserver observer([&](const model::SiteSpec& site, model::BlockWeights& current) {
      if (half == block.halves.size() ||
          site.name != block.sites[block.halves[half].first_site].name)
        return;
      outputs[site.name] = runner->half_output(block, current, *hidden, half++, 1);
    });
    runner->run_block(block, weights, *hidden, &observer);
    return outputs;
  };
  const auto expected = halves({});
  for (const std::string& device : tensor_devices()) {
    const auto given = halves(options_on(device));
    EXPECT_EQ(given.size(), block.halves.size());
    for (const auto& [site, wanted] : expected)
      EXPECT_LT(largest_difference(given.at(site), wanted), kSumTolerance)
          << site << " on " << device;
  }
}

// Halving every weight that a site reads, when it is ready: as if the model had always been so.
TEST_P(TensorRunner, ContinuesWithTheWeightsThatASiteGets) {
  const auto halve = [](const model::SiteSpec& site, model::BlockWeights& weights) {
    for (const model::LinearSpec& linear : site.readers) {
      Matrix<float> weight_NK = weights.take(linear.weight.name);
      for (Index i = 0; i < weight_NK.size(); ++i) weight_NK.data()[i] *= 0.5f;
      weights.put(linear.weight.name, std::move(weight_NK));
    }
  };
  for (const std::string& device : tensor_devices()) {
    const RunnerOptions options = options_on(device);
    RecordingObserver observer(halve);
    const Matrix<float> replaced_RV = logits_of(model, tokens, options, &observer);
    const Matrix<float> always_RV =
        logits_of(model, tokens, options, nullptr, [&](Index layer, model::BlockWeights& weights) {
          for (const model::SiteSpec& site :
               model.family.blocks[static_cast<std::size_t>(layer)].sites)
            halve(site, weights);
        });
    EXPECT_TRUE(same_bits(replaced_RV, always_RV)) << device;
    EXPECT_GT(largest_difference(replaced_RV, logits_of(model, tokens, options)), 0.1f) << device;
  }
}

TEST_P(TensorRunner, LeavesPaddingAndEmptySequencesOut) {
  const Index all = tokens.ids_BS.cols();
  for (const std::string& device : tensor_devices())
    for (const std::vector<Index>& lengths :
         {std::vector<Index>{all, all / 2 + 2}, {0, all}, {1, 0}}) {
      tokens.lengths_B = lengths;
      RecordingObserver observer;
      EXPECT_LT(largest_difference(logits_of(model, tokens, options_on(device), &observer),
                                   logits_of(model, tokens, {})),
                kLogitTolerance)
          << device;
    }
}

Tokens repeated(const Tokens& tokens, Index sequences, Index length) {
  Tokens result{Matrix<std::int32_t>(sequences, length),
                std::vector<Index>(static_cast<std::size_t>(sequences), length)};
  for (Index b = 0; b < sequences; ++b)
    for (Index s = 0; s < length; ++s)
      result.ids_BS(b, s) = tokens.ids_BS(b % 2, s * (b + 1) % tokens.ids_BS.cols());
  return result;
}

// 4 heads of 3001 x 3001 scores are more than are computed at a time.
TEST(TensorHead, InputIsTheFinalNormOfTheHiddenStates) {
  for (const std::string& device : tensor_devices()) expect_final_norm(device);
}

TEST(TensorAttention, CutsLongSequences) {
  for (const char* family : {"llama", "mistral_sliding"}) {
    const model::ModelFolder model(model::family_folder(family));
    const Tokens tokens = repeated(Reference(model::family_folder(family)).tokens, 1, 3001);
    const Matrix<float> expected_RV = logits_of(model, tokens, {});
    for (const std::string& device : tensor_devices())
      EXPECT_LT(largest_difference(logits_of(model, tokens, options_on(device)), expected_RV),
                kLogitTolerance)
          << family << " on " << device;
  }
}

// The fixture's caps of 50 and 30 hardly bend its scores and logits; these do.
TEST(TensorAttention, CapsScoresAndLogits) {
  model::ModelConfig config = model::load_config(model::family_folder("gemma2"));
  const Tokens tokens = Reference(model::family_folder("gemma2")).tokens;
  const Matrix<float> weakly_RV = logits_of({model::family_folder("gemma2"), config}, tokens, {});
  config.attention_softcap = 0.5;
  const Matrix<float> scores_RV = logits_of({model::family_folder("gemma2"), config}, tokens, {});
  EXPECT_GT(largest_difference(scores_RV, weakly_RV), 0.1f);
  config.logit_softcap = 2;
  const model::ModelFolder model(model::family_folder("gemma2"), config);
  const Matrix<float> expected_RV = logits_of(model, tokens, {});
  for (const std::string& device : tensor_devices())
    EXPECT_LT(largest_difference(logits_of(model, tokens, options_on(device)), expected_RV),
              kLogitTolerance)
        << device;
}

// 45 sequences of 96 tokens are 4320 rows, more than go through a linear at once.
TEST(TensorRunnerBatches, KeepSequencesInOrder) {
  const model::ModelFolder model(model::family_folder("qwen2_moe"));
  const Tokens tokens = repeated(Reference(model::family_folder("qwen2_moe")).tokens, 45, 96);
  const auto watched = [&](const RunnerOptions& options) {
    RecordingObserver observer;
    const Matrix<float> logits_RV = logits_of(model, tokens, options, &observer);
    return std::pair(std::move(observer), Matrix<float>::copy_of(logits_RV));
  };
  auto [expected, expected_RV] = watched({});
  for (const std::string& device : tensor_devices()) {
    auto [shown, logits_RV] = watched(options_on(device));
    EXPECT_LT(largest_difference(logits_RV, expected_RV), kLogitTolerance);
    for (const model::SiteSpec& site : telling_block(model.family).sites) {
      const auto& rows = shown.rows(site.name, site.expert);
      const auto& wanted = expected.rows(site.name, site.expert);
      ASSERT_EQ(rows.size(), wanted.size());
      if (device == "tensors") {
        EXPECT_EQ(shown.tokens(site.name, site.expert), expected.tokens(site.name, site.expert));
      }
      for (std::size_t t = 0; t < rows.size(); t += 97)
        ASSERT_NEAR(rows[t][0], wanted[t][0], kSumTolerance) << site.name << " " << t;
    }
  }
}

TEST(TensorRunnerOnAGpu, ShowsRowsWhereTheyAre) {
  if (runner_gpus() == 0) GTEST_SKIP() << "no GPU that LibTorch can use";
  class Expecting : public BlockObserver {
   public:
    void site_input(const model::SiteSpec& site, const ActivationView& inputs_TK) override {
      EXPECT_TRUE(inputs_TK.on_device());
      EXPECT_EQ(inputs_TK.device_TK.dtype, DType::kBF16);
      EXPECT_EQ(inputs_TK.device_TK.device, 0);
      EXPECT_EQ(inputs_TK.cols(), site.features());
      EXPECT_GE(inputs_TK.device_TK.stride, inputs_TK.cols());
    }
    void site_ready(const model::SiteSpec&, model::BlockWeights&) override {}
  };
  const model::ModelFolder model(model::family_folder("llama"));
  Expecting observer;
  logits_of(model, Reference(model::family_folder("llama")).tokens,
            {.dtype = ComputeDType::kBFloat16, .device = "cuda:0"}, &observer);
}

TEST(TensorRunnerRefuses, ADeviceThatIsNotThere) {
  const model::ModelFolder model(model::family_folder("llama"));
  EXPECT_THAT(model::error_of([&] { make_block_runner(model.config, options_on("cuda:99")); }),
              AllOf(HasSubstr("'cuda:99'"), HasSubstr("runtime.stages.forward: cpu")));
}

TEST(TensorRunnerRefuses, IdsOutsideTheVocabulary) {
  const model::ModelFolder model(model::family_folder("llama"));
  Tokens tokens = Reference(model::family_folder("llama")).tokens;
  tokens.ids_BS(1, 5) = 320;
  EXPECT_THAT(model::error_of([&] { logits_of(model, tokens, options_on("tensors")); }),
              HasSubstr("token id 320 (sequence 1, position 5)"));
}

}  // namespace
}  // namespace calque::forward
