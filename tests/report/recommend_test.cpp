#include "calque/report/recommend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "calque/core/error.h"

namespace calque::report {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Point point(const std::string& label, std::uint64_t bytes, double kl) {
  Point p;
  p.label = label;
  p.bytes = bytes;
  p.bits_per_weight = static_cast<double>(bytes) / 100;
  Quality q;
  q.has_kl = true;
  q.kl_mean.value = kl;
  p.qualities = {q};
  return p;
}

const std::vector<Point> kPoints = {point("Q8_0", 850, 0.0001), point("Q4_K_M", 490, 0.003),
                                    point("Q4_0", 495, 0.006), point("Q2_K", 300, 0.04)};

TEST(Recommend, TheSmallestWithinAnErrorBound) {
  EXPECT_EQ(recommend(kPoints, {.max_loss = 0.01}).advice.at(0).point.label, "Q4_K_M");
}

TEST(Recommend, TheClosestWithinASize) {
  EXPECT_EQ(recommend(kPoints, {.max_bytes = 495}).advice.at(0).point.label, "Q4_K_M");
  EXPECT_EQ(recommend(kPoints, {.max_bits_per_weight = 4}).advice.at(0).point.label, "Q2_K");
}

TEST(Recommend, BoundsThatNothingMeetsNameTheNearest) {
  try {
    recommend(kPoints, {.max_loss = 0.01, .max_bytes = 400});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E254");
    EXPECT_THAT(error.what(), HasSubstr("The smallest is Q2_K"));
  }
}

TEST(Recommend, WithoutBoundsAnswersTheUsualNeeds) {
  const Recommendation r = recommend(kPoints, {});
  std::vector<std::string> labels;
  for (const Advice& a : r.advice) labels.push_back(a.point.label);
  EXPECT_THAT(labels, ElementsAre("Q8_0", "Q8_0", "Q4_K_M", "Q2_K", "Q2_K"));
  labels.clear();
  for (const Point& p : r.front) labels.push_back(p.label);
  EXPECT_THAT(labels, ElementsAre("Q2_K", "Q4_K_M", "Q8_0"));
}

Point with_task(Point p, double difference) {
  p.tasks = {{.task = "reading", .difference = {difference, 0.01}}};
  return p;
}

TEST(Recommend, ByATaskCountsTheAnswersThatAreLost) {
  const std::vector<Point> points = {with_task(kPoints[0], 0.0), with_task(kPoints[1], 0.02),
                                     kPoints[2], with_task(kPoints[3], -0.1)};
  const Recommendation usual = recommend(points, {.task = "reading"});
  EXPECT_EQ(usual.advice.at(0).need, "most right answers on reading");
  EXPECT_EQ(usual.advice.at(0).point.label, "Q4_K_M");
  EXPECT_EQ(usual.front.size(), 2u);
  const auto within = [&](double lost) {
    return recommend(points, {.task = "reading", .max_loss = lost}).advice.at(0);
  };
  EXPECT_EQ(within(0.1).point.label, "Q2_K");
  EXPECT_EQ(within(0).point.label, "Q4_K_M");
  EXPECT_EQ(within(0.05).need, "smallest, up to 5 % of reading lost");
  try {
    recommend(points, {.task = "riding"});
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("task 'riding'; tasks: reading"));
  }
}

TEST(Recommend, NothingMeasuredIsRefused) { EXPECT_THROW(recommend({Point{}}, {}), Error); }

ExportSize size_of(std::string_view model, std::string_view usual) {
  return export_size(*std::ranges::find(common_models(), model, &CommonModel::name),
                     *std::ranges::find(usual_exports(), usual, &UsualExport::name));
}

// The figures of llama-quantize's README for this shape, four decimals.
TEST(ExportSize, BitsPerWeightAreThoseThatLlamaCppPublishes) {
  const std::pair<const char*, double> published[] = {{"Q8_0", 8.5008},   {"Q6_K", 6.5633},
                                                      {"Q5_K_M", 5.7036}, {"Q4_K_M", 4.8944},
                                                      {"Q3_K_M", 3.9960}, {"Q2_K", 3.1593}};
  for (const auto& [type, bits] : published)
    EXPECT_NEAR(size_of("Llama-3-8B", type).bits_per_weight, bits, 5e-5) << type;
}

// Sizes of files on the Hub in GB, two decimals: tensors, 0.7 MB (vocabulary of 32,000) to 8 MB
// (128,256) of metadata, and half of the last decimal either way.
TEST(ExportSize, FilesOnTheHubAreAsLarge) {
  const std::tuple<const char*, const char*, double> published[] = {
      {"Llama-2-7B", "Q4_K_M", 4.08},  {"Llama-2-7B", "Q8_0", 7.16},
      {"Llama-3-8B", "Q4_K_M", 4.92},  {"Llama-3-8B", "Q8_0", 8.54},
      {"Llama-2-13B", "Q4_K_M", 7.87}, {"Llama-3-70B", "Q4_K_M", 42.52}};
  for (const auto& [model, type, gigabytes] : published) {
    const double tensors = static_cast<double>(size_of(model, type).tensor_bytes) / 1e9;
    EXPECT_LT(tensors, gigabytes + 0.005) << model << " " << type;
    EXPECT_GT(tensors, gigabytes - 0.005 - 0.008) << model << " " << type;
  }
}

// By hand: 6,979,321,856 linear weights at 4 + (16 + 4) / 128 bits, 2 x 128256 x 4096 and 65 norms
// of 4096 in 16 bits.
TEST(ExportSize, GptqFoldersKeepEmbeddingAndHead) {
  const double expected =
      6979321856.0 * (4 + 20.0 / 128) / 8 + 2 * (2 * 128256.0 * 4096 + 65 * 4096);
  EXPECT_NEAR(static_cast<double>(size_of("Llama-3-8B", "GPTQ 4 bit g128").tensor_bytes), expected,
              1e-3 * expected);
}

}  // namespace
}  // namespace calque::report
