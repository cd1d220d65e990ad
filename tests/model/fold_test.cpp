#include "calque/model/fold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <ostream>
#include <random>
#include <set>

#include "model/naive_block.h"

namespace calque::model {
namespace {

using ::testing::HasSubstr;

// Enough tokens that every expert of the fixtures gets some.
constexpr std::int32_t kTokens = 40;

// Scales of one fold: drawn for each row of the absorber, so that channels of one row share them.
std::vector<float> random_scales(const FoldSpec& fold, Index channels, bool powers_of_two) {
  std::mt19937 random(static_cast<unsigned>(channels + fold.first_row + fold.expert));
  std::uniform_real_distribution<float> exponent(-1.0f, 1.0f);
  std::map<Index, float> of_source;
  std::vector<float> scales;
  for (Index k = 0; k < channels; ++k) {
    const float drawn = exponent(random);
    const float scale = std::exp2(powers_of_two ? std::round(drawn) : drawn);
    scales.push_back(of_source.emplace(fold.source_of(k), scale).first->second);
  }
  return scales;
}

struct FoldedBlock {
  std::string folder;
  Index layer = -1;  // -1: telling_block
  friend void PrintTo(const FoldedBlock& block, std::ostream* to) {
    *to << block.folder << ", layer " << block.layer;
  }
};

// One layer of every family, and the fourth where it has another mixer.
std::vector<FoldedBlock> folded_blocks() {
  std::vector<FoldedBlock> blocks;
  for (const std::string& folder : family_folders()) blocks.push_back({folder});
  for (const char* folder : {"qwen3_next", "qwen3_5_vl"}) blocks.push_back({folder, 3});
  return blocks;
}

// A block of a golden model, its weights and what it makes of some embeddings.
class EveryFamilyFolds : public ::testing::TestWithParam<FoldedBlock> {
 protected:
  NaiveBlock::Rows output(const BlockWeights& weights) const {
    std::vector<std::int32_t> ids;
    for (std::int32_t i = 0; i < kTokens; ++i) ids.push_back((7 + 11 * i) % 320);
    NaiveBlock naive{model.config, block, weights, buffers, {}, {}};
    naive.kept = naive_kept(model, ids);
    naive.run(naive_embedding(model, ids, buffers));
    return naive.hidden;
  }
  // Without the biases of the choice, which keep some experts from ever being chosen here.
  BlockWeights load() const {
    BlockWeights weights = load_block(model.source, block);
    for (const TensorSpec& tensor : block.tensors())
      if (tensor.name.ends_with("e_score_correction_bias"))
        weights.put(tensor.name, Matrix<float>(1, tensor.shape.back()));
    return weights;
  }
  static Index channels_of(const FoldSpec& fold) { return fold.consumers.front().shape[1]; }

  // Largest change of the output, of the largest output.
  double change(const BlockWeights& weights) const {
    const NaiveBlock::Rows after = output(weights);
    double largest = 0, difference = 0;
    for (std::size_t t = 0; t < after.size(); ++t)
      for (std::size_t i = 0; i < after[t].size(); ++i) {
        largest = std::max(largest, std::abs(before[t][i]));
        difference = std::max(difference, std::abs(after[t][i] - before[t][i]));
      }
    return difference / largest;
  }

  ModelFolder model{family_folder(GetParam().folder)};
  const BlockSpec& block = GetParam().layer < 0
                               ? telling_block(model.family)
                               : model.family.blocks[static_cast<std::size_t>(GetParam().layer)];
  Buffers buffers = exact_buffers(model.config);
  NaiveBlock::Rows before = output(load());
};
INSTANTIATE_TEST_SUITE_P(Families, EveryFamilyFolds, ::testing::ValuesIn(folded_blocks()));

// A weight that is rounded once or twice errs by 2^-23 of itself at most; (1 + w) / s - 1 rounds
// twice, by at most 2^-24 (1 + |v - 1| / v) of v = (1 + w) / s, where v is above 0.4. A sum of 256
// such products errs by at most 16 times that of its own size (the absolute values of random terms
// sum to the root of their number), and four linears follow one another at most: 4 * 16 * 2.5 *
// 2^-24.
constexpr double kRounded = 1e-5;

TEST_P(EveryFamilyFolds, ChangesNothingWithPowersOfTwo) {
  for (const FoldSpec& fold : block.folds) {
    BlockWeights weights = load();
    apply_fold(fold, random_scales(fold, channels_of(fold), true), weights);
    const bool exact = fold.kind != FoldSpec::Absorber::kNormPlusOne;
    EXPECT_LE(change(weights), exact ? 1e-12 : kRounded)
        << fold.absorber.name << " for " << fold.site;
  }
}

TEST_P(EveryFamilyFolds, RoundsOnlyWithOtherScales) {
  BlockWeights weights = load();
  for (const FoldSpec& fold : block.folds)
    apply_fold(fold, random_scales(fold, channels_of(fold), false), weights);
  EXPECT_LE(change(weights), kRounded);
}

// Each consumer and each bias is needed: without one, the output is another.
TEST_P(EveryFamilyFolds, NeedsEveryConsumerAndBias) {
  for (const FoldSpec& fold : block.folds) {
    const std::vector<float> scales = random_scales(fold, channels_of(fold), true);
    for (std::size_t i = 0; i < fold.consumers.size(); ++i) {
      FoldSpec forgetful = fold;
      forgetful.consumers.erase(forgetful.consumers.begin() + static_cast<std::ptrdiff_t>(i));
      BlockWeights weights = load();
      apply_fold(forgetful, scales, weights);
      EXPECT_GT(change(weights), 10 * kRounded) << fold.consumers[i].name;
    }
    if (fold.bias.empty()) continue;
    FoldSpec forgetful = fold;
    forgetful.bias.clear();
    BlockWeights weights = load();
    apply_fold(forgetful, scales, weights);
    EXPECT_GT(change(weights), 10 * kRounded) << fold.bias.front().name;
  }
}

// A router with a norm of its own.
bool reads_raw_states(const HalfSpec& half, const TensorSpec& matrix) {
  if (half.mixer->kind() != Experts::kKind) return false;
  const auto& experts = static_cast<const Experts&>(*half.mixer);
  return experts.router_norm && matrix.name == experts.router.name;
}

TEST_P(EveryFamilyFolds, MultipliesEveryReaderOfTheActivation) {
  for (const FoldSpec& fold : block.folds) {
    std::multiset<std::string> readers;
    for (const SiteSpec& site : block.sites)
      if (block.fold_of(site) == &fold)
        for (const LinearSpec& linear : site.readers) readers.insert(linear.weight.name);
    const HalfSpec& half = block.halves[block.half_of(fold)];
    if (fold.site == block.sites[half.first_site].name)
      for (const TensorSpec& matrix : half.mixer->unrounded())
        if (!reads_raw_states(half, matrix)) readers.insert(matrix.name);
    std::multiset<std::string> consumers;
    for (const TensorSpec& consumer : fold.consumers) consumers.insert(consumer.name);
    EXPECT_EQ(readers, consumers) << fold.site;
  }
}

// A norm of the values takes their scales out again, an embedding of the layer is not its weight,
// and a clamped gate lets no scale through.
TEST_P(EveryFamilyFolds, HasAFoldForEverySiteButThoseOfRawHiddenStates) {
  for (std::size_t h = 0; h < block.halves.size(); ++h) {
    const HalfSpec& half = block.halves[h];
    for (const SiteSpec& site : block.sites_of(half)) {
      const bool normed_values = site.name == "attn_out" && model.family.name == "gemma4";
      const bool clamped = model.config.clamped_gate && site.name == "expert_out";
      const bool folds = !clamped && (!site.from_norm || half.norm.has_value()) && !normed_values &&
                         half.mixer->kind() != LayerEmbedding::kKind;
      EXPECT_EQ(block.fold_of(site) != nullptr, folds) << site.name;
    }
  }
}

// By hand: heads of 2 channels, two query heads a K/V head, v's rows from 3 on. Channels 0 and 2
// are made by row 3, channels 1 and 3 by row 4.
TEST(DivideAbsorber, DividesTheRowsThatMakeTheChannels) {
  FoldSpec fold;
  fold.kind = FoldSpec::Absorber::kRows;
  fold.first_row = 3;
  fold.head_dim = 2;
  fold.shared_by = 2;
  Matrix<float> absorber(5, 1);
  for (Index n = 0; n < 5; ++n) absorber(n, 0) = 12;
  const std::vector<float> scales{2, 4, 2, 4};
  divide_absorber(fold, scales, absorber);
  EXPECT_EQ(std::vector<float>(absorber.data(), absorber.data() + 5),
            (std::vector<float>{12, 12, 12, 6, 3}));
  Matrix<float> bias(1, 5);
  bias(0, 0) = bias(0, 4) = 1;
  divide_bias(fold, scales, bias);
  EXPECT_EQ(bias(0, 0), 1.0f);
  EXPECT_EQ(bias(0, 4), 0.25f);
}

TEST(DivideAbsorber, DividesOnePlusTheWeight) {
  FoldSpec fold;
  fold.kind = FoldSpec::Absorber::kNormPlusOne;
  Matrix<float> norm(1, 2);
  norm(0, 0) = 0.5f;
  divide_absorber(fold, std::vector<float>{2, 0.5f}, norm);
  EXPECT_EQ(norm(0, 0), -0.25f);  // 1.5 / 2 - 1
  EXPECT_EQ(norm(0, 1), 1.0f);    // 1 / 0.5 - 1
}

TEST(ApplyFold, RefusesScalesThatDoNotFit) {
  const ModelFolder model(family_folder("llama"));
  const BlockSpec& block = model.family.blocks.front();
  BlockWeights weights = load_block(model.source, block);
  const auto refusal = [&](const std::string& kind, const std::vector<float>& scales) {
    return error_of([&] { apply_fold(*block.fold_of(block.site(kind)), scales, weights); });
  };
  std::vector<float> scales(128, 1.0f);
  EXPECT_THAT(refusal("attn_in", std::vector<float>(127, 1.0f)),
              HasSubstr("127 scales for the 128 columns of model.layers.0.self_attn.q_proj"));
  for (const float bad : {0.0f, -1.0f, std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    scales[5] = bad;
    EXPECT_THAT(refusal("attn_in", scales), HasSubstr("scale of channel 5"));
  }
  // Query heads 0 and 1 (of 32 channels) share a K/V head.
  scales[5] = 2;
  EXPECT_THAT(refusal("attn_out", scales), HasSubstr("channel 37 has scale 1"));
}

}  // namespace
}  // namespace calque::model
