// Types of single matrices of a GGUF export, and exports without a mix.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::plan_of_sizes;
using testing::type_of;

const char* const kSizes =
    R"("hidden_size": 256, "num_hidden_layers": 16, "intermediate_size": 512,
       "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 512)";
const std::string kTied = std::string(kSizes) + R"(, "tie_word_embeddings": true)";

ExportRequest request_with_rules(const std::string& type, std::vector<TensorTypeRule> rules = {}) {
  ExportRequest request;
  request.format = "gguf";
  request.path = "unused.gguf";
  request.type = type;
  request.tensor_types = std::move(rules);
  return request;
}

TEST(TensorTypes, AreSearchedForAnywhereInTheNameAndTheFirstDecides) {
  const ExportPlan plan = plan_of_sizes(
      kSizes,
      request_with_rules("Q4_K_S", {{"blk\\.(4|5)\\.ffn_up", "F16"}, {"ffn_(up|gate)", "Q8_0"}}));
  EXPECT_EQ(type_of(plan, 4, "mlp.up_proj"), "F16");
  EXPECT_EQ(type_of(plan, 4, "mlp.gate_proj"), "Q8_0");
  EXPECT_EQ(type_of(plan, 6, "mlp.up_proj"), "Q8_0");
  EXPECT_EQ(type_of(plan, 6, "mlp.down_proj"), "Q4_K");
}

// In 16 layers, Q4_K_M gives layers 0 and 1, 4, 7, 10, 13 and the last two more bits
// (src/formats/README.md, "Mixes"), counting only matrices that the mix decides: without layer 0's,
// layer 2 is the second one.
TEST(TensorTypes, AreNotCountedByTheMix) {
  const ExportPlan plan = plan_of_sizes(
      kSizes,
      request_with_rules("Q4_K_M", {{"blk\\.0\\.attn_v", "Q3_K"}, {"blk\\.0\\.ffn_down", "Q3_K"}}));
  for (const char* module : {"self_attn.v_proj", "mlp.down_proj"}) {
    EXPECT_EQ(type_of(plan, 0, module), "Q3_K") << module;
    EXPECT_EQ(type_of(plan, 2, module), "Q6_K") << module;
    EXPECT_EQ(type_of(plan, 3, module), "Q4_K") << module;
    EXPECT_EQ(type_of(plan, 5, module), "Q6_K") << module;
    EXPECT_EQ(type_of(plan, 4, module), "Q4_K") << module;
  }
}

TEST(TensorTypes, DecideTheEndsToo) {
  const ExportPlan plan = plan_of_sizes(
      kSizes, request_with_rules("Q4_K_M", {{"token_embd", "Q3_K"}, {"^output\\.", "Q5_K"}}));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q3_K");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q5_K");
}

// As llama-quantize: --token-embedding-type and --output-tensor-type come first, but for the
// second one where the embedding is the output.
TEST(TensorTypes, AreWeakerThanTheKeysOfTheEnds) {
  ExportRequest request = request_with_rules("Q4_K_M", {{"token_embd|^output\\.", "Q3_K"}});
  request.embedding_type = "Q8_0";
  request.output_type = "Q5_K";
  ExportPlan plan = plan_of_sizes(kSizes, request);
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q8_0");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q5_K");
  EXPECT_EQ(plan_of_sizes(kTied, request).at("model.embed_tokens.weight").stored_as, "Q8_0");
  request.embedding_type = "auto";
  EXPECT_EQ(plan_of_sizes(kTied, request).at("model.embed_tokens.weight").stored_as, "Q3_K");
}

TEST(TensorTypes, LeaveVectorsAlone) {
  const ExportPlan plan =
      plan_of_sizes(kSizes, request_with_rules("Q4_K_M", {{"norm|ffn_up", "Q8_0"}}));
  EXPECT_EQ(plan.at("model.norm.weight").stored_as, "F32");
  EXPECT_EQ(type_of(plan, 0, "input_layernorm"), "F32");
}

TEST(TensorTypes, MayBeBlocksInAFileOfFloats) {
  const ExportPlan plan = plan_of_sizes(kSizes, request_with_rules("F16", {{"ffn", "Q8_0"}}));
  EXPECT_EQ(type_of(plan, 0, "mlp.up_proj"), "Q8_0");
  EXPECT_EQ(type_of(plan, 0, "self_attn.q_proj"), "F16");
}

TEST(TensorTypes, ThatMatchNothingAreAnsweredWithTheNearest) {
  const Error error = error_of([] {
    plan_of_sizes(kSizes, request_with_rules("Q4_K_M", {{"blk.3.ffn_dwn", "Q8_0"}}));
  });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.code(), "E151");
  // 16 layers of 7 matrices, embedding and output.
  EXPECT_THAT(error.what(), HasSubstr("'blk.3.ffn_dwn' matches none of 114 matrices. Nearest: "
                                      "'blk.3.ffn_down.weight'"));
  const Error vector = error_of([] {
    plan_of_sizes(kSizes, request_with_rules("Q4_K_M", {{"norm", "Q8_0"}}));
  });
  EXPECT_EQ(vector.code(), "E151");
}

TEST(TensorTypes, ThatAreNoPatternAreRefused) {
  const Error error = error_of([] {
    plan_of_sizes(kSizes, request_with_rules("Q4_K_M", {{"ffn_(down", "Q8_0"}}));
  });
  EXPECT_EQ(error.code(), "E152");
  EXPECT_THAT(error.what(),
              HasSubstr("tensor_types: 'ffn_(down' is not a valid regular expression: "));
  EXPECT_THAT(error.what(), HasSubstr("(at offset 9)"));
}

TEST(TensorTypes, AreSingleTypes) {
  const Error error = error_of([] {
    plan_of_sizes(kSizes, request_with_rules("Q4_K_M", {{"ffn_down", "Q4_K_M"}}));
  });
  EXPECT_EQ(error.code(), "E122");
  EXPECT_THAT(error.what(), HasSubstr("type 'Q4_K_M'; did you mean 'Q4_K'?"));
}

TEST(TensorTypes, NeedRowsOfWholeBlocks) {
  const std::string narrow =
      R"("hidden_size": 96, "num_hidden_layers": 1, "intermediate_size": 160,
         "num_attention_heads": 3, "num_key_value_heads": 1, "vocab_size": 64)";
  ExportRequest request = request_with_rules("Q8_0", {{"ffn_down", "Q4_K"}});
  EXPECT_EQ(error_of([&] { plan_of_sizes(narrow, request); }).code(), "E132");
  request.on_shape_fallback = "allow";
  EXPECT_EQ(type_of(plan_of_sizes(narrow, request), 0, "mlp.down_proj"), "Q5_0");
}

// `pure`, see src/formats/README.md, "Mixes".
TEST(Pure, GivesEveryMatrixTheTypeThatTheMixIsNamedAfter) {
  ExportRequest request = request_with_rules("Q4_K_M", {{"blk.1.ffn_up", "Q2_K"}});
  request.pure = true;
  ExportPlan plan = plan_of_sizes(kSizes, request);
  EXPECT_EQ(type_of(plan, 0, "mlp.down_proj"), "Q4_K");
  EXPECT_EQ(type_of(plan, 0, "self_attn.v_proj"), "Q4_K");
  EXPECT_EQ(type_of(plan, 1, "mlp.up_proj"), "Q2_K");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q4_K");
  EXPECT_EQ(plan.at("model.norm.weight").stored_as, "F32");
  request.output_type = "Q8_0";
  EXPECT_EQ(plan_of_sizes(kSizes, request).at("lm_head.weight").stored_as, "Q8_0");
  EXPECT_EQ(plan_of_sizes(kTied, request).at("model.embed_tokens.weight").stored_as, "Q8_0");
}

TEST(ReferenceRounding, RoundsTheOlderTypesToTheirBlocks) {
  const auto grid_of = [](bool by_reference) {
    return *plan_of_sizes(kSizes, request_with_rules("Q4_0"), {.reference_rounding = by_reference})
                .at("model.layers.0.mlp.up_proj.weight")
                .grid;
  };
  EXPECT_EQ(grid_of(true), quant::block_grid(ggml::Type::kQ4_0));
  EXPECT_FALSE(grid_of(false).block.has_value());
  EXPECT_EQ(grid_of(false).bits, 4);
}

// A Mixtral of 16 layers and 8 experts.
ExportPlan plan_of_mixtral(const ExportRequest& request) {
  const calque::testing::TempFolder folder;
  const testing::TinyModel any(folder / "any", {});
  const model::FamilySpec family = model::family_of(model::parse_config(
      R"({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_act": "silu",
          "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
          "hidden_size": 256, "num_hidden_layers": 16, "intermediate_size": 512,
          "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 512,
          "num_local_experts": 8, "num_experts_per_tok": 2})",
      "mixtral"));
  return plan_export(family, any.source(), {}, request);
}

std::string expert(Index layer, Index number, const std::string& matrix) {
  return fmt::format("model.layers.{}.block_sparse_moe.experts.{}.{}.weight", layer, number,
                     matrix);
}

// src/formats/README.md, "Mixes": the layer's number decides for all experts of a stack; w2 is
// down.
TEST(StackedExperts, ShareOneType) {
  const ExportPlan plan = plan_of_mixtral(request_with_rules("Q4_K_M"));
  for (Index number = 0; number < 8; ++number) {
    EXPECT_EQ(plan.at(expert(1, number, "w2")).stored_as, "Q6_K");
    EXPECT_EQ(plan.at(expert(2, number, "w2")).stored_as, "Q4_K");
    EXPECT_EQ(plan.at(expert(4, number, "w2")).stored_as, "Q6_K");
    EXPECT_EQ(plan.at(expert(1, number, "w1")).stored_as, "Q4_K");
  }
  EXPECT_EQ(plan.at("model.layers.2.block_sparse_moe.gate.weight").stored_as, "F32");
  EXPECT_EQ(type_of(plan, 2, "self_attn.v_proj"), "Q8_0");
  EXPECT_EQ(type_of(plan, 2, "self_attn.k_proj"), "Q8_0");
  EXPECT_EQ(type_of(plan, 2, "self_attn.o_proj"), "Q5_K");
}

// Rules count the stack as one matrix and do not change the layer's number.
TEST(StackedExperts, AreNamedByTheirStack) {
  const ExportPlan plan =
      plan_of_mixtral(request_with_rules("Q4_K_M", {{"blk.0.ffn_down_exps", "Q8_0"}}));
  for (Index number = 0; number < 8; ++number)
    EXPECT_EQ(plan.at(expert(0, number, "w2")).stored_as, "Q8_0");
  EXPECT_EQ(plan.at(expert(1, 0, "w2")).stored_as, "Q6_K");
  EXPECT_EQ(plan.at(expert(2, 0, "w2")).stored_as, "Q4_K");
  const Error router = error_of([] {
    plan_of_mixtral(request_with_rules("Q4_K_M", {{"ffn_gate_inp", "Q8_0"}}));
  });
  EXPECT_EQ(router.code(), "E151");
}

TEST(StackedExperts, AreAllThatMxfp4OfExpertsStoresSo) {
  const ExportPlan plan = plan_of_mixtral(request_with_rules("MXFP4_MOE"));
  EXPECT_EQ(plan.at(expert(0, 7, "w1")).stored_as, "MXFP4");
  EXPECT_EQ(plan.at(expert(0, 7, "w2")).stored_as, "MXFP4");
  EXPECT_EQ(type_of(plan, 0, "self_attn.o_proj"), "Q8_0");
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q8_0");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q8_0");
  EXPECT_EQ(plan.at("model.layers.0.block_sparse_moe.gate.weight").stored_as, "F32");
}

}  // namespace
}  // namespace calque::formats
