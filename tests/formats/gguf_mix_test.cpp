#include "formats/gguf_mix.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using testing::error_of;
using ::testing::HasSubstr;
using testing::plan_of_sizes;
using testing::TinyModel;
using testing::type_of;

const char* const kLlama8B =
    R"("hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
       "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256)";

ExportRequest request_of_mix(const std::string& type) {
  ExportRequest request;
  request.format = "gguf";
  request.path = "unused.gguf";
  request.type = type;
  return request;
}

struct Size {
  std::string type;
  double bits_per_weight;
};
void PrintTo(const Size& size, std::ostream* out) { *out << size.type; }

// Published for llama-quantize, or computed by its rules (src/formats/README.md, "Mixes"): no
// importance matrix, norms F32.
class Sizes : public ::testing::TestWithParam<Size> {};

TEST_P(Sizes, AreThoseOfLlamaQuantizeForLlama31At8B) {
  EXPECT_NEAR(plan_of_sizes(kLlama8B, request_of_mix(GetParam().type)).bits_per_weight,
              GetParam().bits_per_weight, 0.00005);
}

INSTANTIATE_TEST_SUITE_P(
    Mixes, Sizes,
    ::testing::Values(Size{"Q2_K", 3.1593}, Size{"Q2_K_S", 2.9697}, Size{"Q3_K_S", 3.6429},
                      Size{"Q3_K_M", 3.9960}, Size{"Q3_K_L", 4.2979}, Size{"IQ4_XS", 4.4597},
                      Size{"IQ4_NL", 4.6818}, Size{"Q4_K_S", 4.6672}, Size{"Q4_K_M", 4.8944},
                      Size{"Q5_K_S", 5.5704}, Size{"Q5_K_M", 5.7036}, Size{"Q6_K", 6.5633},
                      Size{"Q4_0", 4.6358}, Size{"Q4_1", 5.1031}, Size{"Q5_0", 5.5704},
                      Size{"Q5_1", 6.0377}, Size{"Q8_0", 8.5008}, Size{"Q3_K", 3.9960},
                      Size{"Q4_K", 4.8944}, Size{"Q5_K", 5.7036}),
    [](const auto& tested) { return tested.param.type; });

// The same with an importance matrix, which the smallest types need.
class SmallSizes : public ::testing::TestWithParam<Size> {};

TEST_P(SmallSizes, AreThoseOfLlamaQuantizeForLlama31At8B) {
  const QuantizationRequest calibrated = {.calibrated = true};
  EXPECT_NEAR(plan_of_sizes(kLlama8B, request_of_mix(GetParam().type), calibrated).bits_per_weight,
              GetParam().bits_per_weight, 0.00005);
}

INSTANTIATE_TEST_SUITE_P(Mixes, SmallSizes,
                         ::testing::Values(Size{"IQ1_S", 2.0042}, Size{"IQ1_M", 2.1460},
                                           Size{"IQ2_XXS", 2.3824}, Size{"IQ2_XS", 2.5882},
                                           Size{"IQ2_S", 2.7403}, Size{"IQ2_M", 2.9294},
                                           Size{"IQ3_XXS", 3.2548}, Size{"IQ3_XS", 3.4977},
                                           Size{"IQ3_S", 3.6606}, Size{"IQ3_M", 3.7628}),
                         [](const auto& tested) { return tested.param.type; });

struct Bytes {
  std::string type;
  std::uint64_t tied_1b;
  std::uint64_t mistral_7b;  // 0: not computed there
};
void PrintTo(const Bytes& bytes, std::ostream* out) { *out << bytes.type; }

// Computed independently from the rules (src/formats/README.md, "Mixes").
class ExactBytes : public ::testing::TestWithParam<Bytes> {};

TEST_P(ExactBytes, OfLlama32At1BAndMistral7B) {
  const std::string llama_1b =
      R"("hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
         "tie_word_embeddings": true)";
  const std::string mistral_7b =
      R"("hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000)";
  EXPECT_EQ(plan_of_sizes(llama_1b, request_of_mix(GetParam().type)).tensor_bytes,
            GetParam().tied_1b);
  if (GetParam().mistral_7b == 0) return;
  EXPECT_EQ(plan_of_sizes(mistral_7b, request_of_mix(GetParam().type)).tensor_bytes,
            GetParam().mistral_7b);
}

INSTANTIATE_TEST_SUITE_P(Mixes, ExactBytes,
                         ::testing::Values(Bytes{"Q2_K", 573042688u, 2718507008u},
                                           Bytes{"Q3_K_M", 683012096u, 3518251008u},
                                           Bytes{"Q4_K_M", 799862784u, 4367704064u},
                                           Bytes{"Q5_K_M", 903671808u, 5130674176u},
                                           Bytes{"Q6_K", 1013968896u, 5941329920u},
                                           Bytes{"Q4_K_S", 767815680u, 0u},
                                           Bytes{"Q8_0", 1313251328u, 7695122432u}),
                         [](const auto& tested) { return tested.param.type; });

// Two query heads a key head, and tied: computed from the rules (src/formats/README.md, "Mixes").
class SmallBytes : public ::testing::TestWithParam<Bytes> {};

TEST_P(SmallBytes, OfAnUntiedModelWithTwoQueriesAKey) {
  const std::string sizes =
      R"("hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192,
         "num_attention_heads": 32, "num_key_value_heads": 16, "vocab_size": 32000)";
  const QuantizationRequest calibrated = {.calibrated = true};
  EXPECT_EQ(plan_of_sizes(sizes, request_of_mix(GetParam().type), calibrated).tensor_bytes,
            GetParam().tied_1b);
}

INSTANTIATE_TEST_SUITE_P(
    Mixes, SmallBytes,
    ::testing::Values(Bytes{"IQ1_S", 276545536u, 0u}, Bytes{"IQ1_M", 296992768u, 0u},
                      Bytes{"IQ2_XXS", 331071488u, 0u}, Bytes{"IQ2_XS", 360431616u, 0u},
                      Bytes{"IQ2_S", 383340544u, 0u}, Bytes{"IQ2_M", 410603520u, 0u},
                      Bytes{"IQ3_XXS", 455692288u, 0u}, Bytes{"IQ3_XS", 491134976u, 0u},
                      Bytes{"IQ3_S", 514727936u, 0u}, Bytes{"IQ3_M", 532553728u, 0u}),
    [](const auto& tested) { return tested.param.type; });

// By the rules: of 32 layers, more bits for 0-3, every third from 6 to 27, and 28-31.
TEST(MixOfQ4_KM, GivesEveryTensorOfLlama31At8BItsType) {
  const ExportPlan plan = plan_of_sizes(kLlama8B, request_of_mix("Q4_K_M"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q4_K");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q6_K");
  EXPECT_EQ(plan.at("model.norm.weight").stored_as, "F32");
  const std::vector<Index> generous = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31};
  for (Index layer = 0; layer < 32; ++layer) {
    SCOPED_TRACE(layer);
    const bool more = std::count(generous.begin(), generous.end(), layer) > 0;
    EXPECT_EQ(type_of(plan, layer, "self_attn.v_proj"), more ? "Q6_K" : "Q4_K");
    EXPECT_EQ(type_of(plan, layer, "mlp.down_proj"), more ? "Q6_K" : "Q4_K");
    for (const char* other : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj",
                              "mlp.gate_proj", "mlp.up_proj"})
      EXPECT_EQ(type_of(plan, layer, other), "Q4_K") << other;
    EXPECT_EQ(type_of(plan, layer, "input_layernorm"), "F32");
  }
  const TensorPlan& q = plan.at("model.layers.0.self_attn.q_proj.weight");
  ASSERT_TRUE(q.grid.has_value());
  EXPECT_EQ(q.grid->block, ggml::Type::kQ4_K);
  EXPECT_EQ(q.bytes, 4096u * 4096u / 256u * 144u);
}

// The rule more(n, count) of src/formats/README.md, "Mixes".
TEST(MoreBits, GoesToTheEndsAndEveryThirdBetween) {
  const auto layers_of = [](Index count) {
    std::vector<Index> layers;
    for (Index i = 0; i < count; ++i)
      if (more_bits(i, count)) layers.push_back(i);
    return layers;
  };
  EXPECT_THAT(layers_of(16), ::testing::ElementsAre(0, 1, 4, 7, 10, 13, 14, 15));
  EXPECT_THAT(layers_of(28),
              ::testing::ElementsAre(0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 24, 25, 26, 27));
}

ggml::Type type_for(const char* mix, const MixModel& model, const char* tensor, Index layer) {
  return type_in_mix(gguf_mix(mix), model, {.gguf_name = tensor, .number = layer});
}

TEST(MixRules, GiveTheValuesOfAnEightyLayerModelMore) {
  const MixModel large = {
      .layers = 80, .heads = 64, .kv_heads = 8, .value_tensors = 80, .eighty_layers = true};
  EXPECT_EQ(type_for("Q3_K_S", large, "blk.9.attn_v.weight", 9), ggml::Type::kQ5_K);
  EXPECT_EQ(type_for("Q4_K_M", large, "blk.10.attn_v.weight", 10), ggml::Type::kQ5_K);
  EXPECT_EQ(type_for("Q4_K_M", large, "blk.0.attn_v.weight", 0), ggml::Type::kQ6_K);
  EXPECT_EQ(type_for("Q4_K_M", large, "blk.10.ffn_down.weight", 10), ggml::Type::kQ4_K);
}

TEST(MixRules, KnowEightyLayerModelsByTheirFamily) {
  const auto eighty = [](const char* architecture, Index kv_heads) {
    model::FamilySpec family;
    family.gguf_architecture = architecture;
    family.config.num_layers = 80;
    family.config.num_heads = 64;
    family.config.num_kv_heads = kv_heads;
    return mix_model(family, false).eighty_layers;
  };
  EXPECT_TRUE(eighty("llama", 8));
  EXPECT_FALSE(eighty("llama", 64));
  EXPECT_TRUE(eighty("qwen2", 64));
  EXPECT_FALSE(eighty("qwen3", 8));
}

TEST(MixRules, GiveTheAttentionOfEightExpertsMore) {
  const MixModel mixtral = {.layers = 32, .heads = 32, .kv_heads = 8, .experts = 8};
  EXPECT_EQ(type_for("Q2_K", mixtral, "blk.5.attn_v.weight", 5), ggml::Type::kQ8_0);
  EXPECT_EQ(type_for("Q2_K", mixtral, "blk.5.attn_k.weight", 5), ggml::Type::kQ8_0);
  EXPECT_EQ(type_for("Q2_K", mixtral, "blk.5.attn_output.weight", 5), ggml::Type::kQ5_K);
  EXPECT_EQ(type_for("Q3_K_L", mixtral, "blk.5.attn_output.weight", 5), ggml::Type::kQ3_K);
  EXPECT_EQ(type_for("Q2_K", mixtral, "blk.5.ffn_down_exps.weight", 5), ggml::Type::kQ3_K);
}

TEST(MixRules, SpendLessOnValuesThatFewQueriesShare) {
  const MixModel two = {.layers = 32, .heads = 8, .kv_heads = 4};
  EXPECT_EQ(type_for("Q2_K", two, "blk.5.attn_v.weight", 5), ggml::Type::kQ3_K);
  EXPECT_EQ(type_for("Q2_K_S", two, "blk.5.attn_v.weight", 5), ggml::Type::kQ2_K);
  EXPECT_EQ(type_for("IQ4_XS", two, "blk.5.attn_v.weight", 5), ggml::Type::kIQ4_XS);
}

TEST(MixRules, SpendLessOnIq4WhenCalibrated) {
  const std::string down = "mlp.down_proj";
  EXPECT_EQ(type_of(plan_of_sizes(kLlama8B, request_of_mix("IQ4_XS")), 3, down), "Q5_K");
  const QuantizationRequest calibrated = {.calibrated = true};
  EXPECT_EQ(type_of(plan_of_sizes(kLlama8B, request_of_mix("IQ4_XS"), calibrated), 3, down),
            "IQ4_XS");
}

TEST(MixRules, RefuseTypesThatNeedImportanceWithoutIt) {
  const Error error = error_of([] { plan_of_sizes(kLlama8B, request_of_mix("IQ2_XS")); });
  EXPECT_EQ(error.code(), "E137");
  EXPECT_THAT(error.what(), HasSubstr("IQ2_XS needs the importance of each column"));
  EXPECT_THAT(error.what(), HasSubstr("there is neither, and 188 tensors have such a type"));
  EXPECT_THAT(error.what(), HasSubstr("blk.*.ffn_up.weight"));
  ExportRequest embedding = request_of_mix("Q4_K_M");
  embedding.embedding_type = "IQ2_XS";
  EXPECT_NO_THROW(plan_of_sizes(kLlama8B, embedding));
  embedding.tensor_types = {{"attn_q", "IQ1_M"}};
  EXPECT_EQ(error_of([&] { plan_of_sizes(kLlama8B, embedding); }).code(), "E137");
}

// llama-quantize has a mix for IQ3_XXS without importance, and then refuses it.
TEST(MixRules, GiveIq3OfExpertsAndWithoutImportanceMore) {
  const MixModel plain = {.layers = 32, .heads = 8, .kv_heads = 4};
  EXPECT_EQ(type_for("IQ3_XXS", plain, "blk.5.attn_v.weight", 5), ggml::Type::kIQ3_S);
  EXPECT_EQ(type_for("IQ3_XXS", plain, "blk.3.ffn_down.weight", 3), ggml::Type::kQ4_K);
  EXPECT_EQ(type_for("IQ3_XXS", plain, "blk.4.ffn_down.weight", 4), ggml::Type::kQ3_K);
  const MixModel mixtral = {.layers = 32, .heads = 32, .kv_heads = 8, .experts = 8};
  EXPECT_EQ(type_for("IQ3_M", mixtral, "blk.6.ffn_down_exps.weight", 6), ggml::Type::kQ4_K);
  EXPECT_EQ(type_for("IQ3_M", mixtral, "blk.5.ffn_down_exps.weight", 5), ggml::Type::kIQ3_S);
  EXPECT_EQ(type_for("IQ3_XS", mixtral, "blk.5.attn_k.weight", 5), ggml::Type::kQ8_0);
  EXPECT_EQ(type_for("IQ2_XS", mixtral, "blk.5.attn_k.weight", 5), ggml::Type::kQ4_K);
  EXPECT_EQ(type_for("IQ2_XS", mixtral, "blk.5.attn_v.weight", 5), ggml::Type::kQ4_K);
  EXPECT_EQ(type_for("IQ1_S", mixtral, "blk.5.attn_output.weight", 5), ggml::Type::kQ5_K);
  const MixModel four = {.layers = 32, .heads = 8, .kv_heads = 8, .experts = 4};
  EXPECT_EQ(type_for("IQ2_M", four, "blk.5.attn_v.weight", 5), ggml::Type::kQ4_K);
}

TEST(MixRules, KeepTernaryEmbeddingsReadable) {
  const ExportPlan plan = plan_of_sizes(kLlama8B, request_of_mix("TQ2_0"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q4_K");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q6_K");
  EXPECT_EQ(type_of(plan, 0, "self_attn.v_proj"), "TQ2_0");
}

TEST(MixEnds, TakeTheTypesThatTheJobGives) {
  ExportRequest request = request_of_mix("Q4_K_M");
  request.embedding_type = "Q3_K";
  request.output_type = "Q8_0";
  const ExportPlan plan = plan_of_sizes(kLlama8B, request);
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q3_K");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q8_0");
  EXPECT_EQ(type_of(plan, 4, "self_attn.q_proj"), "Q4_K");
}

TEST(MixEnds, TakeTheEmbeddingsTypeForATiedHeadThatHasNone) {
  const std::string tied = std::string(kLlama8B) + R"(, "tie_word_embeddings": true)";
  ExportRequest request = request_of_mix("Q4_K_M");
  EXPECT_EQ(plan_of_sizes(tied, request).at("model.embed_tokens.weight").stored_as, "Q6_K");
  request.embedding_type = "Q5_K";
  EXPECT_EQ(plan_of_sizes(tied, request).at("model.embed_tokens.weight").stored_as, "Q5_K");
}

// The rules for embedding and output of src/formats/README.md, "Mixes".
TEST(MixEnds, AreQ6KAndTheTypeItselfWithTheOlderTypes) {
  for (const char* type : {"Q4_0", "Q4_1", "Q5_0", "Q5_1"}) {
    const ExportPlan plan = plan_of_sizes(kLlama8B, request_of_mix(type));
    EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, type);
    EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q6_K") << type;
  }
  const ExportPlan plan = plan_of_sizes(kLlama8B, request_of_mix("Q8_0"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q8_0");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q8_0");
}

// llama-quantize's --token-embedding-type is stronger than --output-tensor-type where one tensor
// is both.
TEST(MixEnds, TakeTheEmbeddingsTypeForATiedHeadThatHasBoth) {
  const std::string tied = std::string(kLlama8B) + R"(, "tie_word_embeddings": true)";
  ExportRequest request = request_of_mix("Q4_0");
  request.output_type = "Q8_0";
  EXPECT_EQ(plan_of_sizes(tied, request).at("model.embed_tokens.weight").stored_as, "Q8_0");
  request.embedding_type = "Q5_K";
  EXPECT_EQ(plan_of_sizes(tied, request).at("model.embed_tokens.weight").stored_as, "Q5_K");
}

// The first eighth of 32 layers, if there is an importance matrix (src/formats/README.md, "Mixes").
TEST(MixRules, GiveTheFirstDownMatricesOfTheOlderTypesMoreWhenCalibrated) {
  const QuantizationRequest calibrated = {.calibrated = true};
  const std::pair<const char*, const char*> types[] = {{"Q4_0", "Q4_1"}, {"Q5_0", "Q5_1"}};
  for (const auto& [type, more] : types) {
    EXPECT_EQ(type_of(plan_of_sizes(kLlama8B, request_of_mix(type)), 0, "mlp.down_proj"), type);
    const ExportPlan plan = plan_of_sizes(kLlama8B, request_of_mix(type), calibrated);
    EXPECT_EQ(type_of(plan, 3, "mlp.down_proj"), more);
    EXPECT_EQ(type_of(plan, 4, "mlp.down_proj"), type);
    EXPECT_EQ(type_of(plan, 0, "mlp.up_proj"), type);
  }
  const ExportPlan plan = plan_of_sizes(kLlama8B, request_of_mix("Q4_1"), calibrated);
  EXPECT_EQ(type_of(plan, 0, "mlp.down_proj"), "Q4_1");
}

TEST(MixRules, TreatFusedAttentionAsItsValues) {
  const MixModel phi = {.layers = 32, .heads = 32, .kv_heads = 32, .value_tensors = 32};
  EXPECT_EQ(type_for("Q4_K_M", phi, "blk.0.attn_qkv.weight", 0), ggml::Type::kQ6_K);
  EXPECT_EQ(type_for("Q4_K_M", phi, "blk.4.attn_qkv.weight", 4), ggml::Type::kQ4_K);
  EXPECT_EQ(type_for("Q3_K_L", phi, "blk.4.attn_qkv.weight", 4), ggml::Type::kQ5_K);
}

TEST(MixRules, StoreStackedExpertsOnlyInMxfp4OfExperts) {
  const MixModel experts = {.layers = 4, .heads = 8, .kv_heads = 8, .experts = 4};
  const GgufMix& mix = gguf_mix("MXFP4_MOE");
  EXPECT_EQ(type_in_mix(mix, experts, {"blk.0.ffn_up_exps.weight", 0, true}), ggml::Type::kMXFP4);
  EXPECT_EQ(type_in_mix(mix, experts, {"blk.0.attn_v.weight", 0, false}), ggml::Type::kQ8_0);
  EXPECT_EQ(embedding_in_mix(mix), ggml::Type::kQ8_0);
  EXPECT_EQ(output_in_mix(mix, 256), ggml::Type::kQ8_0);
  EXPECT_EQ(mix.file_type, 38u);
}

TEST(MixRules, HaveBothEndsOfMxfp4InQ8) {
  const ExportPlan plan = plan_of_sizes(kLlama8B, request_of_mix("MXFP4"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q8_0");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q8_0");
  EXPECT_EQ(type_of(plan, 0, "mlp.down_proj"), "MXFP4");
}

// Qwen2.5-0.5B's widths: 896 = 3.5 * 256, 4864 = 19 * 256.
const char* const kNarrow =
    R"("hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864,
       "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
       "tie_word_embeddings": true)";

TEST(ShapeFallback, IsRefusedWithItsShareUnlessAllowed) {
  const Error error = error_of([] { plan_of_sizes(kNarrow, request_of_mix("Q4_K_S")); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.code(), "E132");
  EXPECT_THAT(error.what(), HasSubstr("Q4_K needs row lengths in multiples of 256"));
  // The 494,005,120 weights are: embedding 896 * 151936 at 8.5 bits; 24 layers of q, k, o, gate and
  // up at 4.5 (stored: 5.5), v at 4.5 (5.5), in 4 of them at 5.5 (6.0); down 896 * 4864 at 4.5, in
  // 3 of them at 5.5; 49 norms of 896 at 32.
  EXPECT_THAT(error.what(), HasSubstr("140 of 218 tensors have 896"));
  EXPECT_THAT(error.what(), HasSubstr("They would become Q5_0: 5.63 -> 6.14 bits per weight"));
  EXPECT_THAT(error.what(), HasSubstr("Set on_shape_fallback: allow"));
}

// 896 is whole blocks of Q4_0, not of Q6_K, which llama-quantize then replaces.
TEST(ShapeFallback, IsNoneForAnOutputThatOnlyQ6KDoesNotFit) {
  const ExportPlan plan = plan_of_sizes(kNarrow, request_of_mix("Q4_0"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q8_0");
  EXPECT_EQ(type_of(plan, 0, "mlp.down_proj"), "Q4_0");
}

TEST(ShapeFallback, StoresWhatLlamaQuantizeStoresWhenAllowed) {
  const auto plan_of = [](const std::string& type) {
    ExportRequest request = request_of_mix(type);
    request.on_shape_fallback = "allow";
    return plan_of_sizes(kNarrow, request);
  };
  const ExportPlan plan = plan_of("Q4_K_M");
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q8_0");
  EXPECT_EQ(type_of(plan, 0, "self_attn.q_proj"), "Q5_0");
  EXPECT_EQ(type_of(plan, 0, "self_attn.v_proj"), "Q8_0");  // wanted: Q6_K
  EXPECT_EQ(type_of(plan, 0, "mlp.down_proj"), "Q6_K");
  EXPECT_EQ(type_of(plan, 4, "mlp.down_proj"), "Q4_K");
  EXPECT_FALSE(plan.at("model.layers.0.self_attn.q_proj.weight").grid->block.has_value());
  const ExportPlan by_reference = [] {
    ExportRequest request = request_of_mix("Q4_K_M");
    request.on_shape_fallback = "allow";
    return plan_of_sizes(kNarrow, request, {.reference_rounding = true});
  }();
  EXPECT_EQ(by_reference.at("model.layers.0.self_attn.q_proj.weight").grid->block,
            ggml::Type::kQ5_0);
  EXPECT_EQ(type_of(plan_of("Q5_K_S"), 0, "mlp.up_proj"), "Q5_1");
  EXPECT_EQ(type_of(plan_of("Q3_K_S"), 0, "mlp.up_proj"), "Q4_0");
  EXPECT_EQ(type_of(plan_of("IQ4_XS"), 0, "mlp.up_proj"), "IQ4_NL");
  EXPECT_EQ(type_of(plan_of("IQ3_S"), 0, "mlp.up_proj"), "IQ4_NL");
}

TEST(ShapeFallback, CastsRowsThatNoBlockFits) {
  const TempFolder folder;
  TinyModel::Options options;
  options.intermediate = 72;
  const TinyModel model(folder / "model", options);
  ExportRequest request = request_of_mix("Q4_K_M");
  request.on_shape_fallback = "allow";
  const ExportPlan plan = model.plan(request);
  EXPECT_EQ(type_of(plan, 0, "mlp.down_proj"), "F16");
  EXPECT_FALSE(plan.at("model.layers.0.mlp.down_proj.weight").grid.has_value());
  EXPECT_EQ(type_of(plan, 0, "mlp.up_proj"), "Q5_0");
}

TEST(GgufNames, AreAnsweredWithTheNearest) {
  ExportRequest request = request_of_mix("Q4_KM");
  request.output_type = "Q4_K_M";
  request.on_shape_fallback = "alow";
  const Error error = error_of([&] { plan_of_sizes(kLlama8B, request); });
  EXPECT_EQ(error.code(), "E122");
  EXPECT_THAT(error.what(), HasSubstr("type 'Q4_KM'; did you mean 'Q4_K_M'?"));
  EXPECT_THAT(error.what(), HasSubstr("output_type 'Q4_K_M'; did you mean 'Q4_K'?"));
  EXPECT_THAT(error.what(), HasSubstr("on_shape_fallback 'alow'; did you mean 'allow'?"));
}

}  // namespace
}  // namespace calque::formats
