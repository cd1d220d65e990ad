#include "formats/requirements.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "formats/support.h"

// Shapes are those of the published models; results are calculated by hand next to each test.

namespace calque::formats {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

model::FamilySpec family(const std::string& architecture, const std::string& sizes) {
  return model::family_of(
      model::parse_config(fmt::format(R"({{"architectures": ["{}"], "hidden_act": "silu",
          "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 500000.0, {}}})",
                                      architecture, sizes),
                          "sizes"));
}

model::FamilySpec llama3_8b() {
  return family("LlamaForCausalLM",
                R"("hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
                   "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256)");
}
model::FamilySpec qwen2_72b() {
  return family("Qwen2ForCausalLM",
                R"("hidden_size": 8192, "num_hidden_layers": 80, "intermediate_size": 29568,
                   "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 152064)");
}
model::FamilySpec qwen25_05b() {
  return family("Qwen2ForCausalLM",
                R"("hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864,
                   "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
                   "tie_word_embeddings": true)");
}

quant::Grid grid(int bits = 4, Index group_size = 128, bool sym = true) {
  quant::Grid result;
  result.bits = bits;
  result.group_size = group_size;
  result.offset_kind = sym ? OffsetKind::kMiddleCode : OffsetKind::kZeroPoint;
  return result;
}

using GridOf = std::function<std::optional<quant::Grid>(const model::LinearSpec&)>;

GridOf all(const quant::Grid& same) {
  return [same](const model::LinearSpec&) { return std::optional(same); };
}

ExportRequest request(const std::string& format, std::vector<Index> tensor_parallel = {}) {
  ExportRequest result;
  result.format = format;
  result.require.vllm = true;
  result.require.tensor_parallel = std::move(tensor_parallel);
  return result;
}

// The error text; "" if there is no error.
std::string refused(const model::FamilySpec& family, const ExportRequest& request,
                    const GridOf& grid_of) {
  std::vector<TensorPlan> tensors;
  for (const model::LinearSpec& linear : family.linears()) {
    TensorPlan plan;
    plan.tensor = linear.weight;
    plan.grid = grid_of(linear);
    tensors.push_back(plan);
  }
  Refusals refusals;
  check_requirements(family, request, tensors, refusals);
  if (refusals.empty()) return "";
  const Error error = testing::error_of([&] { refusals.throw_if_any(); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  return "[" + error.code() + "] " + error.what();
}

TEST(Requirements, LetLlama3At8BThroughInEveryContainer) {
  for (const char* format : {"gptq", "compressed-tensors"})
    EXPECT_EQ(refused(llama3_8b(), request(format, {1, 2, 4, 8}), all(grid())), "") << format;
  EXPECT_EQ(refused(llama3_8b(), request("awq", {1, 2, 4, 8}), all(grid(4, 128, false))), "");
  EXPECT_EQ(refused(llama3_8b(), request("gptq", {8}), all(grid(8, -1))), "");
}

TEST(Requirements, KnowWhatTransformersDoesNotLoad) {
  ExportRequest transformers;
  transformers.format = "compressed-tensors";
  transformers.require.transformers = true;
  EXPECT_EQ(refused(qwen2_72b(), transformers, all(grid(4, 96))), "");  // nothing of vLLM
  EXPECT_THAT(refused(llama3_8b(), transformers, all(grid(4, 128, false))),
              AllOf(HasSubstr("[E147]"), HasSubstr("compressed-tensors 0.18 to 0.20.1"),
                    HasSubstr("model.layers.*")));
  const model::FamilySpec mixtral =
      family("MixtralForCausalLM",
             R"("hidden_size": 256, "num_hidden_layers": 1, "intermediate_size": 512,
                "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
                "num_local_experts": 2, "num_experts_per_tok": 1)");
  const GridOf mixed = [](const model::LinearSpec& linear) {
    return std::optional(grid(linear.name.ends_with("w2") ? 8 : 4));
  };
  EXPECT_THAT(refused(mixtral, transformers, mixed),
              HasSubstr("[E147] 'require.transformers: true' is not possible: the experts of layer "
                        "0 differ in bits"));
  model::FamilySpec stacked = mixtral;
  stacked.config.stacked_experts = model::StackedExperts::kRows;
  EXPECT_THAT(refused(stacked, transformers, all(grid())),
              HasSubstr("[E147] 'require.transformers: true' is not possible: transformers loads "
                        "the experts of MixtralForCausalLM only unquantized"));
  const GridOf skipped = [](const model::LinearSpec& linear) {
    return linear.name.find(".experts.") == std::string::npos ? std::optional(grid())
                                                              : std::nullopt;
  };
  EXPECT_EQ(refused(stacked, transformers, skipped), "");
  transformers.format = "gptq";
  EXPECT_EQ(refused(llama3_8b(), transformers, all(grid(4, 128, false))), "");
}

TEST(Requirements, AskForNothingUnlessSet) {
  ExportRequest none;
  none.format = "gptq";
  EXPECT_EQ(refused(qwen2_72b(), none, all(grid(3, 16, false))), "");
}

// 29568 = 231 * 128; 14784 = 231 * 64 inputs and 8192 outputs fit Marlin, 7392 = 115.5 * 64 do not.
TEST(Requirements, NameTheGroupSizesThatAllowMoreRanks) {
  const std::string text = refused(qwen2_72b(), request("gptq", {2}), all(grid()));
  EXPECT_THAT(text, HasSubstr("[E141] 'require.tensor_parallel: 2' is not possible: "
                              "model.layers.*.mlp.down_proj has 29568 inputs = 231 groups of 128, "
                              "and 231 is not a multiple of 2. group_size 64 gives TP 1, 2."));
  EXPECT_EQ(refused(qwen2_72b(), request("gptq", {2}), all(grid(4, 64))), "");
}

// 4096 inputs are not a multiple of 3, whatever the groups.
TEST(Requirements, KnowWhenNoGroupSizeHelps) {
  EXPECT_THAT(refused(llama3_8b(), request("gptq", {3}), all(grid())),
              HasSubstr("self_attn.o_proj has 4096 inputs = 32 groups of 128, and 32 is not a "
                        "multiple of 3. No group size allows it."));
}

TEST(Requirements, PutTheRanksOfOneModuleIntoOneMessage) {
  const std::string text = refused(qwen2_72b(), request("gptq", {2, 4, 8}), all(grid()));
  EXPECT_THAT(text, HasSubstr("'require.tensor_parallel: 2, 4, 8' is not possible: "
                              "model.layers.*.mlp.down_proj"));
  // 29568 / 8 = 3696 columns of each of gate and up: 7392 = 115.5 * 64.
  EXPECT_THAT(text, HasSubstr("'require.tensor_parallel: 8' is not possible: "
                              "model.layers.*.mlp.{gate,up}_proj with 29568 outputs"));
}

// 14 heads and 2 K/V heads: 2 ranks get 7 and 1, 7 get 2 and none; 14 would split the two.
TEST(Requirements, NameTheSizesThatShareOutTheHeads) {
  const std::string text = refused(qwen25_05b(), request("gptq", {4}), all(grid(4, 32)));
  EXPECT_THAT(text,
              HasSubstr("'require.tensor_parallel: 4' is not possible: 14 attention heads and "
                        "2 key/value heads cannot be divided evenly. Sizes that work: 1, "
                        "2, 14."));
}

// Qwen 3.5's delta nets: decays and rates stay as they are beside rounded q, k, v and z, which is
// how vLLM fuses them; 16 key heads are shared out, too. q, k, v and z on two ranks: (10240 + 6144)
// / 2 = 128 * 64; out_proj: 6144 / 2 = 24 * 128.
TEST(Requirements, KnowTheShapesOfDeltaNets) {
  const model::FamilySpec nets =
      family("Qwen3_5ForCausalLM",
             R"("hidden_size": 5120, "num_hidden_layers": 4, "intermediate_size": 17408,
                "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256,
                "linear_num_value_heads": 48, "vocab_size": 248320)");
  const GridOf usual = [](const model::LinearSpec& linear) {
    return linear.rounded ? std::optional(grid()) : std::nullopt;
  };
  EXPECT_EQ(refused(nets, request("gptq", {1, 2, 4}), usual), "");
  EXPECT_THAT(
      refused(nets, request("gptq", {24}), usual),
      HasSubstr("24 attention heads and 4 key/value heads (and 16 of the delta nets) cannot "
                "be divided evenly. Sizes that work: 1, 2, 4, 8."));
  const GridOf apart = [](const model::LinearSpec& linear) {
    return linear.rounded ? std::optional(grid(linear.role == "in_proj_z" ? 8 : 4)) : std::nullopt;
  };
  EXPECT_THAT(refused(nets, request("gptq", {1}), apart),
              HasSubstr("vLLM fuses in_proj_qkv, in_proj_z and needs one setting"));
}

// o_proj: 896 / 2 = 448 = 3.5 * 128 = 7 * 64; 896 outputs = 7 * 128 go with 64 inputs.
TEST(Requirements, SplitTheOutputProjectionByGroups) {
  EXPECT_EQ(refused(qwen25_05b(), request("gptq"), all(grid())), "");
  const std::string text = refused(qwen25_05b(), request("gptq", {1, 2}), all(grid()));
  EXPECT_THAT(text, HasSubstr("self_attn.o_proj has 896 inputs = 7 groups of 128"));
  EXPECT_THAT(text, HasSubstr("group_size 64 gives TP 1, 2."));
  EXPECT_EQ(refused(qwen25_05b(), request("gptq", {1, 2}), all(grid(4, 64))), "");
}

// Marlin wants 64 x 128 or 128 x 64: down_proj [4096, 11040 = 172.5 * 64] is neither.
TEST(Requirements, RefuseShapesWithoutAKernel) {
  const model::FamilySpec odd =
      family("LlamaForCausalLM",
             R"("hidden_size": 4096, "num_hidden_layers": 2, "intermediate_size": 11040,
                "num_attention_heads": 32, "vocab_size": 32000)");
  const std::string text = refused(odd, request("gptq"), all(grid(4, 32)));
  EXPECT_THAT(text,
              HasSubstr("[E143] 'require.vllm: true' is not possible: "
                        "model.layers.*.mlp.down_proj would be [4096, 11040] on a rank of 1"));
  const std::string skipped = refused(odd, request("gptq"), [](const model::LinearSpec& linear) {
    return linear.role == "down_proj" ? std::nullopt : std::optional(grid(4, 32));
  });
  EXPECT_EQ(skipped, "");
}

TEST(Requirements, HoldContainersToWhatVllmLoads) {
  const std::string text = refused(llama3_8b(), request("gptq"), all(grid(4, 128, false)));
  EXPECT_THAT(text, HasSubstr("[E146]"));
  EXPECT_THAT(text, HasSubstr("would be 4 bit, group_size 128, asym. vLLM loads GPTQ folders of 4 "
                              "or 8 bits with sym: true only"));
  EXPECT_THAT(refused(llama3_8b(), request("gptq"), all(grid(3))), HasSubstr("[E146]"));
  for (const int bits : {2, 3, 5, 6, 7})
    EXPECT_EQ(refused(llama3_8b(), request("compressed-tensors"), all(grid(bits))), "");
  EXPECT_EQ(refused(llama3_8b(), request("compressed-tensors"), all(grid(8, 64, false))), "");
  EXPECT_THAT(refused(llama3_8b(), request("gptq"), all(grid(4, 256))),
              HasSubstr("would have group_size 256; vLLM's kernels have 32, 64, 128 and -1"));
}

TEST(Requirements, HoldFusedPartsToOneSetting) {
  const std::string text =
      refused(llama3_8b(), request("gptq"), [](const model::LinearSpec& linear) {
        return std::optional(grid(linear.role == "q_proj" ? 8 : 4));
      });
  EXPECT_EQ(
      text,
      "[E142] in layers 0-31: q_proj: 8 bit, group_size 128, sym; k_proj, v_proj: 4 bit, "
      "group_size 128, sym. vLLM fuses q_proj, k_proj, v_proj and needs one setting. Give one "
      "rule to all ('re:.*\\.(q_proj|k_proj|v_proj)'), or leave out require.vllm.");
}

TEST(Requirements, NameTheLayersInWhichFusedPartsDiffer) {
  const std::string text =
      refused(llama3_8b(), request("gptq"), [](const model::LinearSpec& linear) {
        const bool skipped = linear.name == "model.layers.3.mlp.gate_proj" ||
                             linear.name == "model.layers.7.mlp.gate_proj";
        return skipped ? std::nullopt : std::optional(grid());
      });
  EXPECT_THAT(text, HasSubstr("in layers 3, 7: gate_proj: not quantized; up_proj: 4 bit"));
}

TEST(Requirements, LetModulesThatAreNotFusedDiffer) {
  EXPECT_EQ(refused(llama3_8b(), request("gptq", {2}),
                    [](const model::LinearSpec& linear) {
                      return std::optional(grid(linear.role == "down_proj" ? 8 : 4));
                    }),
            "");
}

TEST(Requirements, DoNotApplyToGguf) {
  EXPECT_THAT(refused(llama3_8b(), request("gguf"), all(grid())),
              HasSubstr("[E145] 'require' does not apply to gguf"));
}

TEST(Requirements, RefuseActivationOrderAcrossRanks) {
  ExportRequest ordered = request("gptq", {2});
  ordered.desc_act = true;
  EXPECT_THAT(refused(llama3_8b(), ordered, all(grid())), HasSubstr("Write desc_act: false."));
  ordered.require.tensor_parallel = {1};
  EXPECT_EQ(refused(llama3_8b(), ordered, all(grid())), "");
}

model::FamilySpec with_experts(Index hidden, Index width) {
  return family("Qwen3MoeForCausalLM",
                fmt::format(R"("hidden_size": {}, "num_hidden_layers": 1, "intermediate_size": 256,
                     "num_attention_heads": {}, "vocab_size": 64, "num_experts": 4,
                     "num_experts_per_tok": 2, "moe_intermediate_size": {})",
                            hidden, hidden / 64, width));
}

TEST(Requirements, HoldAllExpertsOfALayerToOneSetting) {
  const model::FamilySpec moe = with_experts(256, 128);
  EXPECT_EQ(refused(moe, request("gptq", {2}), all(grid(4, 64))), "");
  const std::string text = refused(moe, request("gptq"), [](const model::LinearSpec& linear) {
    return std::optional(grid(linear.name == "model.layers.0.mlp.experts.2.down_proj" ? 8 : 4, 64));
  });
  EXPECT_THAT(text, HasSubstr("[E142] in layer 0: 11 of 12 matrices (experts.0.gate_proj, ...): 4 "
                              "bit, group_size 64, sym; 1 of 12 matrices (experts.2.down_proj, "
                              "...): 8 bit"));
}

// 192 / 2 = 96 is not a multiple of 64; 320 inputs are not a multiple of 128.
TEST(Requirements, KnowTheKernelForExperts) {
  EXPECT_THAT(refused(with_experts(256, 192), request("gptq", {2}), all(grid(4, 64))),
              HasSubstr("[E144] 'require.tensor_parallel: 2' is not possible: "
                        "model.layers.*.mlp.experts.*.down_proj has 192 inputs"));
  EXPECT_THAT(refused(with_experts(320, 128), request("gptq"), all(grid(4, 64))),
              HasSubstr("vLLM's kernel for experts needs a multiple of 128"));
  ExportRequest ordered = request("gptq");
  ordered.desc_act = true;
  EXPECT_THAT(refused(with_experts(256, 128), ordered, all(grid(4, 64))),
              HasSubstr("[E144] 'require.vllm: true' is not possible: vLLM's kernels for experts "
                        "know no activation-ordered groups"));
}

TEST(Requirements, AreReportedAllAtOnce) {
  const std::string text =
      refused(qwen25_05b(), request("gptq", {2, 4}), [](const model::LinearSpec& linear) {
        return std::optional(grid(linear.role == "q_proj" ? 3 : 4));
      });
  for (const char* code : {"[E141]", "[E142]", "[E146]"}) EXPECT_THAT(text, HasSubstr(code));
}

}  // namespace
}  // namespace calque::formats
