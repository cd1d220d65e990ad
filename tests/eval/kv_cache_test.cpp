#include "calque/eval/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "calque/core/dtype.h"
#include "calque/core/error.h"
#include "calque/kernels/ggml.h"

namespace calque::eval {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

model::FamilySpec family(Index head_dim = 64, std::vector<Index> windows = {0, 0, 0}) {
  model::ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.num_layers = 3;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = head_dim;
  config.window_of_layer = std::move(windows);
  return model::family_of(config);
}

KvCacheSpec both(const std::string& type) {
  return {.name = type, .keys = kv_type_from(type), .values = kv_type_from(type), .layers = {}};
}

template <typename Body>
std::string message_of(Body&& body) {
  try {
    body();
  } catch (const Error& error) {
    return std::string(error.code()) + ": " + error.what();
  }
  return "nothing thrown";
}

// The bytes of a row in llama.cpp's block types stand for what the cache gives back.
TEST(KvCacheRounding, IsTheBlockQuantizersRoundTrip) {
  const Exec exec = open_exec("cpu", 1);
  Matrix<float> rows_TD(7, 64);
  std::mt19937 generator(3);
  std::normal_distribution<float> normal;
  for (Index i = 0; i < rows_TD.size(); ++i) rows_TD.data()[i] = normal(generator);
  const std::pair<const char*, ggml::Type> types[] = {
      {"q8_0", ggml::Type::kQ8_0}, {"q5_1", ggml::Type::kQ5_1}, {"q4_0", ggml::Type::kQ4_0}};
  for (const auto& [name, block] : types) {
    Matrix<float> rounded_TD = Matrix<float>::copy_of(rows_TD.view());
    make_kv_cache_rounding(both(name), family())->round_keys({.rows_SD = rounded_TD.view()});
    for (Index t = 0; t < rows_TD.rows(); ++t)
      for (Index first = 0; first < 64; first += 32) {
        std::vector<std::byte> bytes(ggml::info_of(block).block_bytes);
        Matrix<float> value(1, 32);
        ggml_quantize(block, rows_TD.view().rows(t, 1).cols(first, 32), {}, bytes, exec);
        ggml_dequantize(block, bytes, value.view(), exec);
        for (Index i = 0; i < 32; ++i) ASSERT_EQ(rounded_TD(t, first + i), value(0, i)) << name;
      }
  }
}

// 5 / 2 = 2.5 is an e4m3 number, 3.3 / 2 = 1.65 lies between 1.625 and 1.75; 2000 / 2 saturates.
TEST(KvCacheRounding, RoundsByAFoldersOwnScales) {
  const auto rounding = make_scaled_fp8_cache({{1, {{2.0f}, {1.0f, 4.0f}}}});
  EXPECT_FALSE(rounding->rounds(0));
  EXPECT_TRUE(rounding->rounds(1));
  Matrix<float> keys(1, 3);
  keys(0, 0) = 5.0f, keys(0, 1) = 3.3f, keys(0, 2) = 2000.0f;
  rounding->round_keys({.layer = 1, .rows_SD = keys.view()});
  EXPECT_EQ(keys(0, 0), 5.0f);
  EXPECT_EQ(keys(0, 1), 3.25f);
  EXPECT_EQ(keys(0, 2), 896.0f);
  // 460 is beyond 448 with the first head's scale, and 448 with the second's: 115 lies between 112
  // and 120, nearer to 112.
  Matrix<float> values(2, 1);
  values(0, 0) = values(1, 0) = 460.0f;
  rounding->round_values({.layer = 1, .heads = 2, .rows_SD = values.view()});
  EXPECT_EQ(values(0, 0), 448.0f);
  EXPECT_EQ(values(1, 0), 448.0f);
  values(1, 0) = 470.0f;  // 117.5 becomes 120
  rounding->round_values({.layer = 1, .heads = 2, .rows_SD = values.view()});
  EXPECT_EQ(values(1, 0), 480.0f);
}

TEST(KvCacheRounding, TreatsKeysAndValuesApart) {
  KvCacheSpec spec = both("f16");
  spec.values = KvType::kAsComputed;
  const auto rounding = make_kv_cache_rounding(spec, family());
  Matrix<float> keys(1, 64), values(1, 64);
  keys(0, 0) = values(0, 0) = 0.1f;
  rounding->round_keys({.rows_SD = keys.view()});
  rounding->round_values({.rows_SD = values.view()});
  EXPECT_EQ(keys(0, 0), rounded_to_half(0.1f));
  EXPECT_EQ(values(0, 0), 0.1f);
}

// e4m3: 1 sign, 4 exponent (bias 7), 3 mantissa bits; 448 is the largest, 2^-9 the smallest.
TEST(Fp8, RoundsToTheNearestOfItsValuesTiesToEven) {
  EXPECT_EQ(rounded_to_fp8(1.0f), 1.0f);
  EXPECT_EQ(rounded_to_fp8(1.0625f), 1.0f);   // between 1 (mantissa 0) and 1.125 (1)
  EXPECT_EQ(rounded_to_fp8(1.1875f), 1.25f);  // between 1.125 (1) and 1.25 (2)
  EXPECT_EQ(rounded_to_fp8(-1.0626f), -1.125f);
  EXPECT_EQ(rounded_to_fp8(1.95f), 2.0f);     // up into the next binade
  EXPECT_EQ(rounded_to_fp8(434.0f), 448.0f);  // steps of 32: 416, 448
  EXPECT_EQ(rounded_to_fp8(431.0f), 416.0f);
}

TEST(Fp8, SaturatesAndHasSubnormals) {
  EXPECT_EQ(rounded_to_fp8(1e6f), 448.0f);
  EXPECT_EQ(rounded_to_fp8(-std::numeric_limits<float>::infinity()), -448.0f);
  EXPECT_TRUE(std::isnan(rounded_to_fp8(std::numeric_limits<float>::quiet_NaN())));
  EXPECT_EQ(rounded_to_fp8(std::ldexp(1.0f, -9)), std::ldexp(1.0f, -9));
  EXPECT_EQ(rounded_to_fp8(std::ldexp(1.4f, -9)), std::ldexp(1.0f, -9));
  EXPECT_EQ(rounded_to_fp8(std::ldexp(0.5f, -9)), 0.0f);  // tie with zero, which is even
  EXPECT_EQ(rounded_to_fp8(0.0f), 0.0f);
}

// 3 layers x 2 heads x 64 x 100 tokens, keys and values: 76,800 elements.
TEST(KvCacheBytes, CountsScalesAndLayersThatAreNotRounded) {
  EXPECT_EQ(kv_cache_bytes(both("f16"), family(), 100), 76'800u * 2);
  EXPECT_EQ(kv_cache_bytes(both("fp8"), family(), 100), 76'800u);
  EXPECT_EQ(kv_cache_bytes(both("q8_0"), family(), 100), 76'800u / 32 * 34);
  EXPECT_EQ(kv_cache_bytes(both("q5_1"), family(), 100), 76'800u / 32 * 24);
  EXPECT_EQ(kv_cache_bytes(both("q4_0"), family(), 100), 76'800u / 32 * 18);
  KvCacheSpec mixed = both("q4_0");
  mixed.keys = kv_type_from("q8_0");
  mixed.layers = layers_from("1", 3);
  EXPECT_EQ(kv_cache_bytes(mixed, family(), 100), 25'600u * 2 * 2 + 12'800u / 32 * (34 + 18));
}

TEST(KvCacheBytes, HoldsNoMoreThanASlidingWindow) {
  const model::FamilySpec sliding = family(64, {0, 40, 400});
  EXPECT_EQ(kv_cache_bytes(both("fp8"), sliding, 100), 256u * (100 + 40 + 100));
}

TEST(KvLayers, AreReadFromRanges) {
  EXPECT_THAT(layers_from("0-1,3", 5), ElementsAre(true, true, false, true, false));
  EXPECT_TRUE(layers_from("", 5).empty());
  for (const char* bad : {"x", "1-", "3-1", "5", "1,,2", "-1", " 1"})
    EXPECT_THAT(message_of([&] { layers_from(bad, 5); }), HasSubstr("E243")) << bad;
}

TEST(KvCache, RefusesHeadsThatAreNoWholeBlocks) {
  const model::FamilySpec odd = family(80);
  const std::string message = message_of([&] { make_kv_cache_rounding(both("q4_0"), odd); });
  EXPECT_THAT(message, HasSubstr("E241"));
  EXPECT_THAT(message, HasSubstr("80"));
  EXPECT_THAT(message, HasSubstr("32"));
  EXPECT_NO_THROW(make_kv_cache_rounding(both("fp8"), odd));
  EXPECT_THAT(message_of([&] { kv_type_from("q3_0"); }), HasSubstr("E244"));
}

}  // namespace
}  // namespace calque::eval
