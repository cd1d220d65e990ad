#include "calque/formats/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "calque/formats/format.h"
#include "calque/io/file.h"
#include "formats/messages.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::plan_of_sizes;
using testing::TinyModel;

ExportRequest gguf_of_type(const std::string& type, const std::string& embedding = "Q8_0",
                           const std::string& output = "Q8_0") {
  ExportRequest request;
  request.format = "gguf";
  request.path = "unused.gguf";
  request.type = type;
  request.embedding_type = embedding;
  request.output_type = output;
  return request;
}

ExportRequest gptq(const std::string& checkpoint_format = "auto") {
  ExportRequest request;
  request.format = "gptq";
  request.path = "unused";
  request.checkpoint_format = checkpoint_format;
  return request;
}

// Sizes published for llama-quantize; src/formats/README.md, "Mixes", has the rules behind them.
TEST(PlanGguf, GivesThePublishedBitsPerWeightOfLlama31At8B) {
  const ExportPlan plan = plan_of_sizes(
      R"("hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256)",
      gguf_of_type("Q8_0"));
  EXPECT_NEAR(plan.bits_per_weight, 8.5008, 0.00005);
}
TEST(PlanGguf, GivesThePublishedBytesOfLlama32At1B) {
  const ExportPlan plan = plan_of_sizes(
      R"("hidden_size": 2048, "num_hidden_layers": 16, "intermediate_size": 8192,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
         "tie_word_embeddings": true)",
      gguf_of_type("Q8_0"));
  EXPECT_EQ(plan.tensor_bytes, 1313251328u);
}
TEST(PlanGguf, GivesThePublishedBytesOfMistral7B) {
  const ExportPlan plan = plan_of_sizes(
      R"("hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000)",
      gguf_of_type("Q8_0"));
  EXPECT_EQ(plan.tensor_bytes, 7695122432u);
}

class PlanTiny : public ::testing::Test {
 protected:
  const TinyModel& model(const TinyModel::Options& options) {
    model_ = std::make_unique<TinyModel>(folder_ / "model", options);
    return *model_;
  }
  TempFolder folder_;
  std::unique_ptr<TinyModel> model_;
};

// One linear by hand: K = 64, N = 96 at 4 bits and groups of 32: 8*96*4 + 2*12*4 + 2*96*2 + 64*4.
TEST_F(PlanTiny, CountsTheFourTensorsOfAGptqLinear) {
  const ExportPlan plan = model({}).plan(gptq(), {.bits = 4, .group_size = 32, .sym = true});
  const TensorPlan& gate = plan.at("model.layers.0.mlp.gate_proj.weight");
  EXPECT_EQ(gate.bytes, 3072u + 96u + 384u + 256u);
  EXPECT_EQ(gate.stored_as, "GPTQ 4 bit g32");
  EXPECT_TRUE(gate.in_block_linear);
  ASSERT_TRUE(gate.grid.has_value());
  EXPECT_EQ(gate.grid->offset_kind, OffsetKind::kMiddleCode);
  EXPECT_EQ(gate.grid->precision, ScalePrecision::kF16);
}

TEST_F(PlanTiny, CopiesEverythingElseInItsOwnType) {
  const ExportPlan plan = model({}).plan(gptq(), {.bits = 4, .group_size = 32, .sym = true});
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight",
                           "model.layers.1.input_layernorm.weight"}) {
    EXPECT_FALSE(plan.at(name).grid.has_value()) << name;
    EXPECT_FALSE(plan.at(name).in_block_linear) << name;
    EXPECT_EQ(plan.at(name).stored_as, "BF16") << name;
  }
  EXPECT_EQ(plan.at("lm_head.weight").bytes, 40u * 64u * 2u);
}

TEST_F(PlanTiny, SumsBytesAndBitsOverEveryTensorOfTheFamily) {
  const TinyModel& tiny = model({});
  const ExportPlan plan = tiny.plan(gptq(), {.bits = 4, .group_size = 32, .sym = true});
  EXPECT_EQ(plan.tensors.size(), tiny.family().tensors().size());
  std::uint64_t bytes = 0;
  double elements = 0;
  for (const TensorPlan& t : plan.tensors) {
    bytes += t.bytes;
    double count = 1;
    for (const Index n : t.tensor.shape) count *= static_cast<double>(n);
    elements += count;
  }
  EXPECT_EQ(plan.tensor_bytes, bytes);
  EXPECT_DOUBLE_EQ(plan.bits_per_weight, 8.0 * static_cast<double>(bytes) / elements);
}

TEST_F(PlanTiny, KeepsZeroPointsAwayFromZeroOnlyForAsymmetricV1) {
  const TinyModel& tiny = model({});
  const auto min_zero = [&](const std::string& checkpoint_format, bool sym) {
    return tiny.plan(gptq(checkpoint_format), {.bits = 4, .group_size = 32, .sym = sym})
        .at("model.layers.0.mlp.up_proj.weight")
        .grid->min_zero;
  };
  EXPECT_EQ(min_zero("gptq", false), 1);
  EXPECT_EQ(min_zero("gptq_v2", false), 0);
  EXPECT_EQ(min_zero("auto", false), 0);
  EXPECT_EQ(min_zero("gptq", true), 0);
}

TEST_F(PlanTiny, TakesOneGroupForAWholeRow) {
  const ExportPlan plan = model({}).plan(gptq(), {.bits = 8, .group_size = -1, .sym = true});
  const TensorPlan& down = plan.at("model.layers.0.mlp.down_proj.weight");  // [64, 96]
  EXPECT_EQ(down.bytes, 24u * 64u * 4u + 16u * 4u + 64u * 2u + 96u * 4u);
  EXPECT_EQ(down.stored_as, "GPTQ 8 bit per row");
}

TEST_F(PlanTiny, RefusesAWidthThatGptqHasNoRoomFor) {
  const Error error = error_of([&] { model({}).plan(gptq(), {.bits = 5, .group_size = 32}); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.code(), "E121");
  EXPECT_THAT(error.what(), HasSubstr("stores 2, 3, 4 or 8 bits, bits is 5"));
  EXPECT_THAT(error.what(), AllOf(HasSubstr("compressed-tensors (2, 3, 4, 5, 6, 7 or 8 bits)"),
                                  HasSubstr("gguf Q5_0")));
}

TEST_F(PlanTiny, NamesTheGroupSizesThatFitEveryModule) {
  TinyModel::Options options;
  options.hidden = 192;
  options.heads = 6;
  options.kv_heads = 3;
  options.intermediate = 320;
  const Error error =
      error_of([&] { model(options).plan(gptq(), {.bits = 4, .group_size = 128}); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.code(), "E131");
  EXPECT_THAT(error.what(), HasSubstr("group_size 128 does not divide in_features 192 of "
                                      "model.layers.*.self_attn.{q,k,v,o}_proj, "
                                      "model.layers.*.mlp.{gate,up}_proj (12 modules; 192 = "
                                      "2^6·3). Sizes that fit every module: 32, 64, -1."));
  EXPECT_THAT(error.what(), HasSubstr("in_features 320 of model.layers.*.mlp.down_proj (2 modules; "
                                      "320 = 2^6·5)"));
}

TEST_F(PlanTiny, RefusesAGroupSizeOfZero) {
  const Error error = error_of([&] { model({}).plan(gptq(), {.bits = 4, .group_size = 0}); });
  EXPECT_EQ(error.code(), "E131");
  EXPECT_THAT(error.what(), HasSubstr("group_size is 0"));
}

TEST_F(PlanTiny, RefusesModulesThatDoNotFillWords) {
  TinyModel::Options options;
  options.intermediate = 72;
  const Error error = error_of([&] { model(options).plan(gptq(), {.bits = 4, .group_size = -1}); });
  EXPECT_EQ(error.code(), "E132");
  EXPECT_THAT(error.what(), HasSubstr("out_features in multiples of 32; "
                                      "model.layers.*.mlp.{gate,up}_proj has 72"));
  EXPECT_THAT(error.what(), HasSubstr("in_features in multiples of 32; "
                                      "model.layers.*.mlp.down_proj has 72"));
}

TEST_F(PlanTiny, ReportsEveryReasonAtOnce) {
  TinyModel::Options options;
  options.intermediate = 72;
  const Error error =
      error_of([&] { model(options).plan(gptq("gptq_v3"), {.bits = 6, .group_size = 128}); });
  EXPECT_EQ(error.code(), "E121");
  for (const char* code : {"[E121]", "[E122]", "[E131]", "[E132]"})
    EXPECT_THAT(error.what(), HasSubstr(code));
  EXPECT_THAT(error.what(), HasSubstr("'gptq_v3'; did you mean 'gptq_v2'?"));
}

TEST_F(PlanTiny, SuggestsTheNearestFormat) {
  ExportRequest request;
  request.format = "gguff";
  const Error error = error_of([&] { model({}).plan(request); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_THAT(error.what(), HasSubstr("unknown export format 'gguff'; did you mean 'gguf'?"));
}

TEST_F(PlanTiny, SuggestsTheNearestGgufType) {
  const Error error = error_of([&] { model({}).plan(gguf_of_type("q4_0", "Q8_1", "F17")); });
  EXPECT_EQ(error.code(), "E122");
  EXPECT_THAT(error.what(), HasSubstr("type 'q4_0'; did you mean 'Q4_0'?"));
  EXPECT_THAT(error.what(), HasSubstr("embedding_type 'Q8_1'; did you mean 'Q8_0'?"));
  EXPECT_THAT(error.what(), HasSubstr("output_type 'F17'; did you mean 'F16'?"));
}

TEST_F(PlanTiny, RefusesRowsThatAreNotWholeBlocks) {
  TinyModel::Options options;
  options.intermediate = 72;
  options.layers = 1;
  const Error error = error_of([&] { model(options).plan(gguf_of_type("Q4_1")); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_EQ(error.code(), "E132");
  // 64 * 72 of 31424: 2 * 40 * 64 embeddings, 3 * 64 norms, 192 * 64 attention, 3 * 72 * 64 MLP.
  EXPECT_THAT(error.what(), HasSubstr("Q4_1 needs row lengths in multiples of 32; 1 of 12 tensors "
                                      "have 72 (14.7% of weights): "));
}

TEST_F(PlanTiny, GivesEachPartOfAGgufItsType) {
  const ExportPlan plan = model({}).plan(gguf_of_type("Q4_1", "F16", "Q5_0"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "F16");
  EXPECT_FALSE(plan.at("model.embed_tokens.weight").grid.has_value());
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "Q5_0");
  EXPECT_FALSE(plan.at("lm_head.weight").in_block_linear);
  EXPECT_EQ(plan.at("lm_head.weight").grid->bits, 5);
  EXPECT_EQ(plan.at("model.norm.weight").stored_as, "F32");
  const TensorPlan& q = plan.at("model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(q.stored_as, "Q4_1");
  EXPECT_EQ(q.bytes, 64u * 2u * 20u);
  EXPECT_EQ(q.grid->group_size, 32);
  EXPECT_EQ(q.grid->offset_kind, OffsetKind::kMinimum);
}

TEST_F(PlanTiny, GivesATiedEmbeddingTheTypeOfTheOutput) {
  TinyModel::Options options;
  options.tied = true;
  const ExportPlan plan = model(options).plan(gguf_of_type("Q4_0", "auto", "Q5_1"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "Q5_1");
  EXPECT_EQ(error_of([&] { plan.at("lm_head.weight"); }).kind(), ErrorKind::kInternal);
}

TEST_F(PlanTiny, StoresEverythingAsTheTypeOfAnUnquantizedGguf) {
  const ExportPlan plan = model({}).plan(gguf_of_type("BF16", "no type", "nor this"));
  EXPECT_EQ(plan.at("model.embed_tokens.weight").stored_as, "BF16");
  EXPECT_EQ(plan.at("lm_head.weight").stored_as, "BF16");
  EXPECT_EQ(plan.at("model.layers.0.mlp.up_proj.weight").stored_as, "BF16");
  EXPECT_EQ(plan.at("model.layers.0.input_layernorm.weight").stored_as, "F32");
  for (const TensorPlan& t : plan.tensors) EXPECT_FALSE(t.grid.has_value()) << t.tensor.name;
}

TEST_F(PlanTiny, RefusesFamiliesThatGgufDoesNotKnow) {
  const TinyModel& tiny = model({});
  model::FamilySpec family = tiny.family();
  family.gguf_architecture.clear();
  const Error error =
      error_of([&] { plan_export(family, tiny.source(), {}, gguf_of_type("F16")); });
  EXPECT_EQ(error.code(), "E123");
  EXPECT_THAT(error.what(),
              HasSubstr("cannot write family 'llama' (LlamaForCausalLM) as GGUF. Export gptq, "
                        "awq or compressed-tensors instead."));
}

TEST_F(PlanTiny, RefusesLlama3ScalingWhereGgufHasNoPlaceForIt) {
  TinyModel::Options options;
  options.architecture = "Qwen2ForCausalLM";
  options.rope_scaling = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 64})";
  const Error error = error_of([&] { model(options).plan(gguf_of_type("F16")); });
  EXPECT_EQ(error.code(), "E123");
  EXPECT_THAT(error.what(), HasSubstr("architecture 'qwen2'"));
}

TEST_F(PlanTiny, RefusesAScaleTypeThatDoesNotExist) {
  ExportRequest request = gptq();
  request.scale_dtype = "float61";
  const Error error = error_of([&] { model({}).plan(request, {.bits = 4, .group_size = 32}); });
  EXPECT_EQ(error.code(), "E122");
  EXPECT_THAT(error.what(), HasSubstr("scale_dtype 'float61'; did you mean 'float16'?"));
}

TEST(Formats, AreListedWithASummary) {
  std::vector<std::string_view> names;
  for (const Format* format : formats()) names.push_back(format->name);
  EXPECT_THAT(names, ::testing::ElementsAre("gptq", "awq", "compressed-tensors", "mlx", "gguf"));
  for (const Format* format : formats()) EXPECT_FALSE(format->summary.empty());
}

TEST(Messages, FactorisesSizes) {
  EXPECT_EQ(factorisation(2880), "2^6·3^2·5");
  EXPECT_EQ(factorisation(1), "1");
  EXPECT_EQ(factorisation(7), "7");
}

}  // namespace
}  // namespace calque::formats
