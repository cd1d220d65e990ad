#include "calque/model/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <utility>

#include "calque/core/error.h"
#include "mixers/attention/spec.h"
#include "mixers/delta_net/spec.h"
#include "mixers/mlp/spec.h"
#include "support/model_fixture.h"

namespace calque::model {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class EveryFamily : public ::testing::TestWithParam<std::string> {
 protected:
  ModelFolder model{family_folder(GetParam())};
};
INSTANTIATE_TEST_SUITE_P(Families, EveryFamily, ::testing::ValuesIn(family_folders()));

TEST_P(EveryFamily, ClaimsEveryTensorOfTheCheckpointOnce) {
  std::multiset<std::string> claimed;
  for (const TensorSpec& tensor : model.family.tensors()) claimed.insert(tensor.name);
  for (const TensorSpec& tensor : model.family.carried) claimed.insert(tensor.name);
  std::multiset<std::string> stored;
  for (const SourceTensor& tensor : model.source.tensors()) stored.insert(tensor.name);
  EXPECT_EQ(claimed, stored);
}

TEST_P(EveryFamily, HasTheShapesOfTheCheckpoint) {
  EXPECT_NO_THROW(check_against_family(model.source, model.family));
}

TEST_P(EveryFamily, GivesEveryTensorItsOwnGgufNameOrNoneAny) {
  const bool named = !model.family.gguf_architecture.empty();
  // A stack of experts has one name and a slab for each.
  std::set<std::pair<std::string, Index>> names;
  for (const TensorSpec& tensor : model.family.tensors()) {
    EXPECT_EQ(tensor.gguf_name.empty(), !named) << tensor.name;
    const auto place = std::make_pair(tensor.gguf_name, tensor.gguf_expert);
    EXPECT_TRUE(!named || names.insert(place).second) << tensor.gguf_name;
  }
}

// All but the routers, their biases (ERNIE's is a matrix of one row) and the gates of shared
// experts, which stay as they are.
TEST_P(EveryFamily, PutsEveryMatrixOfABlockBehindASite) {
  for (const BlockSpec& block : model.family.blocks) {
    std::set<std::string> matrices;
    for (const TensorSpec& tensor : block.tensors())
      if (tensor.shape.size() == 2 && !tensor.name.ends_with(".gate.weight") &&
          !tensor.name.ends_with(".router.weight") &&
          !tensor.name.ends_with(".router.proj.weight") &&
          !tensor.name.ends_with(".shared_expert_gate.weight") &&
          !tensor.name.ends_with(".e_score_correction_bias"))
        matrices.insert(tensor.name);
    std::set<std::string> read;
    for (const SiteSpec& site : block.sites)
      for (const LinearSpec& linear : site.readers) {
        EXPECT_TRUE(read.insert(linear.weight.name).second) << linear.name;
        EXPECT_EQ(linear.in_features(), site.features()) << linear.name;
      }
    EXPECT_EQ(matrices, read);
  }
}

TEST(Family, CountsTheLinearsThatMayBeQuantized) {
  const auto linears = [](const std::string& folder) {
    return ModelFolder(family_folder(folder)).family.linears().size();
  };
  EXPECT_EQ(linears("llama"), 2u * 7);
  EXPECT_EQ(linears("phi3"), 2u * 4);
  EXPECT_EQ(linears("gemma2"), 4u * 7);
  EXPECT_EQ(linears("gemma3"), 7u * 7);
  EXPECT_EQ(linears("mixtral"), 2u * (4 + 4 * 3));
  EXPECT_EQ(linears("qwen2_moe"), 2u * (4 + 8 * 3 + 3));
  EXPECT_EQ(linears("qwen3_moe"), 2u * (4 + 8 * 3));
  EXPECT_EQ(linears("glm4_moe"), 3u * 4 + 3 + 2 * (8 * 3 + 3));  // one dense layer
  EXPECT_EQ(linears("minimax_m2"), 2u * (4 + 8 * 3));
  EXPECT_EQ(linears("gpt_oss"), 3u * (4 + 5 * 3));
  EXPECT_EQ(linears("ernie4_5_moe"), 3u * 4 + 3 + 2 * (8 * 3 + 3));
  EXPECT_EQ(linears("olmo3"), 4u * 7);
  EXPECT_EQ(linears("gemma4_vl"), 2u * 7 + 6);  // the last layer's values are its keys
  EXPECT_EQ(linears("gemma4_moe"), 2u * (7 + 8 * 3) - 1);
  EXPECT_EQ(linears("gemma4_e"), 3u * 9 + 2 * 7);  // the last two use the keys of earlier ones
}

TEST(Family, NamesTheRolesOfExperts) {
  const auto roles = [](const std::string& folder) {
    const ModelFolder model(family_folder(folder));
    std::vector<std::string> result;
    for (const char* const kind : {"expert_in", "expert_out"})
      for (const LinearSpec& linear : model.family.blocks[0].site(kind, 1).readers)
        result.push_back(linear.role);
    return result;
  };
  EXPECT_THAT(roles("mixtral"), ElementsAre("w1", "w3", "w2"));
  EXPECT_THAT(roles("qwen3_moe"), ElementsAre("gate_proj", "up_proj", "down_proj"));
}

// The layers of mlp_only_layers, and those that decoder_sparse_step skips, are dense.
TEST(Family, MixesDenseLayersAndLayersWithExperts) {
  ModelConfig config = load_config(family_folder("qwen2_moe"));
  config.experts_in_layer = {false, true};
  const FamilySpec family = family_of(config);
  EXPECT_EQ(family.blocks[0].halves[1].mixer->kind(), Mlp::kKind);
  EXPECT_EQ(family.blocks[0].site("mlp_out").channels, 256);
  EXPECT_EQ(family.blocks[1].site("mlp_out").channels, 128);
  EXPECT_EQ(family.blocks[1].unrounded().back().shape, (std::vector<Index>{1, 128}));
}

TEST_P(EveryFamily, FoldsNormsIntoTheInputsOfEachHalf) {
  for (const BlockSpec& block : model.family.blocks)
    for (const std::size_t half : {0u, 1u}) {
      const FoldSpec* fold = block.fold_of(block.site(half == 0 ? "attn_in" : "mlp_in"));
      const std::optional<NormSpec>& norm = block.halves[half].norm;
      ASSERT_EQ(fold != nullptr, norm.has_value());
      if (norm) {
        EXPECT_EQ(fold->absorber.name, norm->weight.name);
      }
    }
}

// Architecture llama and its descendants.
TEST_P(EveryFamily, InterleavesRowsOfQAndKOnlyForGgufLlama) {
  const std::string& architecture = model.family.gguf_architecture;
  const bool llama =
      architecture == "llama" || architecture == "mistral3" || architecture == "smollm3";
  EXPECT_EQ(llama, GetParam().starts_with("llama") || GetParam().starts_with("mis") ||
                       GetParam() == "mixtral" || GetParam() == "ministral3" ||
                       GetParam() == "smollm3");
  for (const TensorSpec& tensor : model.family.tensors()) {
    Index heads = 0;
    // 4 heads and 2 key/value heads in all of these models; biases are interleaved too.
    if (llama && tensor.name.find("q_proj") != std::string::npos) heads = 4;
    if (llama && tensor.name.find("k_proj") != std::string::npos) heads = 2;
    EXPECT_EQ(tensor.gguf_permuted_heads, heads) << tensor.name;
  }
}

TEST_P(EveryFamily, MakesLogitsWithTheHeadOrTheTiedEmbedding) {
  const bool tied =
      GetParam() == "llama3_rope" || GetParam() == "qwen2" || GetParam().starts_with("gemma") ||
      GetParam() == "ministral3" || GetParam() == "phi4_mini" || GetParam() == "smollm3" ||
      GetParam() == "qwen3_vl" || GetParam() == "ernie4_5_moe" || GetParam() == "qwen3_5_vl";
  const TextNames& names = model.config.names;
  const std::string head = names.head + ".weight";
  EXPECT_EQ(model.family.head().name, tied ? names.model + ".embed_tokens.weight" : head);
  EXPECT_EQ(model.family.ignores(head), tied);
  EXPECT_TRUE(model.family.ignores("model.layers.0.self_attn.rotary_emb.inv_freq"));
  EXPECT_FALSE(model.family.ignores("model.layers.0.self_attn.q_proj.weight"));
}

// From the table of tensor names that llama.cpp's converter uses.
TEST(Family, UsesTheNamesOfLlamaCpp) {
  const ModelFolder model(family_folder("qwen3"));
  std::map<std::string, std::string> names;
  for (const TensorSpec& tensor : model.family.tensors()) names[tensor.name] = tensor.gguf_name;
  EXPECT_EQ(names["model.embed_tokens.weight"], "token_embd.weight");
  EXPECT_EQ(names["model.norm.weight"], "output_norm.weight");
  EXPECT_EQ(names["lm_head.weight"], "output.weight");
  const std::map<std::string, std::string> in_layer{
      {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"}, {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  for (const auto& [hf, gguf] : in_layer)
    EXPECT_EQ(names["model.layers.1." + hf + ".weight"], "blk.1." + gguf + ".weight");
}

TEST(Family, StacksRoutedExpertsUnderOneName) {
  const ModelFolder model(family_folder("qwen2_moe"));
  std::map<std::string, TensorSpec> specs;
  for (const TensorSpec& tensor : model.family.tensors()) specs[tensor.name] = tensor;
  const std::string mlp = "model.layers.1.mlp.";
  EXPECT_EQ(specs[mlp + "gate.weight"].gguf_name, "blk.1.ffn_gate_inp.weight");
  EXPECT_EQ(specs[mlp + "shared_expert_gate.weight"].gguf_name, "blk.1.ffn_gate_inp_shexp.weight");
  for (const std::string role : {"gate", "up", "down"}) {
    const TensorSpec& routed = specs[mlp + "experts.5." + role + "_proj.weight"];
    EXPECT_EQ(routed.gguf_name, "blk.1.ffn_" + role + "_exps.weight");
    EXPECT_EQ(routed.gguf_expert, 5);
    const TensorSpec& shared = specs[mlp + "shared_expert." + role + "_proj.weight"];
    EXPECT_EQ(shared.gguf_name, "blk.1.ffn_" + role + "_shexp.weight");
    EXPECT_EQ(shared.gguf_expert, -1);
  }
}

// Names of a published checkpoint of Hy3, and of llama.cpp's converter.
TEST(Family, NamesTheRouterOfHy3) {
  const FamilySpec family = family_of(parse_config(R"({
      "architectures": ["HYV3ForCausalLM"], "model_type": "hy_v3", "hidden_size": 64,
      "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32,
      "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 512,
      "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32})",
                                                   "config.json"));
  std::map<std::string, std::string> names;
  for (const TensorSpec& tensor : family.tensors()) names[tensor.name] = tensor.gguf_name;
  EXPECT_EQ(names.at("model.layers.0.mlp.up_proj.weight"), "blk.0.ffn_up.weight");
  EXPECT_EQ(names.at("model.layers.1.mlp.router.gate.weight"), "blk.1.ffn_gate_inp.weight");
  EXPECT_EQ(names.at("model.layers.1.mlp.expert_bias"), "blk.1.exp_probs_b");
  EXPECT_EQ(names.at("model.layers.1.mlp.shared_mlp.up_proj.weight"), "blk.1.ffn_up_shexp.weight");
  EXPECT_EQ(names.at("model.layers.1.mlp.experts.7.down_proj.weight"),
            "blk.1.ffn_down_exps.weight");
  EXPECT_EQ(names.at("model.layers.1.self_attn.q_norm.weight"), "blk.1.attn_q_norm.weight");
  EXPECT_EQ(names.size(), 3u + 2 * 8 + 3 + 2 + 3 + 8 * 3);
}

// Those of Gemma 1 to 3, and Qwen's from Qwen3-Next on, but for the one inside the delta nets.
TEST_P(EveryFamily, StoresNormsOfOnePlusWeightAsTheirSum) {
  const bool gemma = GetParam().starts_with("gemma") && !GetParam().starts_with("gemma4");
  const bool plus_one = gemma || GetParam() == "qwen3_next" || GetParam() == "qwen3_5_vl";
  for (const TensorSpec& tensor : model.family.tensors())
    EXPECT_EQ(tensor.gguf_plus_one, plus_one && tensor.name.ends_with("norm.weight") &&
                                        !tensor.name.ends_with("linear_attn.norm.weight"))
        << tensor.name;
}

TEST(Family, HasBiasesWhereTheClassHasThem) {
  const auto biased = [](const std::string& folder) {
    std::vector<std::string> roles;
    for (const LinearSpec& linear : ModelFolder(family_folder(folder)).family.linears())
      if (!linear.bias.empty() && linear.name.find("layers.0") != std::string::npos)
        roles.push_back(linear.role);
    return roles;
  };
  EXPECT_THAT(biased("llama"), ElementsAre());
  EXPECT_THAT(biased("llama_bias"), ElementsAre("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj",
                                                "up_proj", "down_proj"));
  EXPECT_THAT(biased("qwen2"), ElementsAre("q_proj", "k_proj", "v_proj"));
  EXPECT_THAT(biased("qwen3"), ElementsAre());
}

TEST(Family, RefusesAnUnknownArchitectureWithThoseItKnows) {
  ModelConfig config;
  config.architecture = "GPT2LMHeadModel";
  EXPECT_THAT(error_of([&] { family_of(config); }),
              AllOf(HasSubstr("'GPT2LMHeadModel' is not supported"), HasSubstr("LlamaForCausalLM"),
                    HasSubstr("Qwen3ForCausalLM")));
}

TEST(Family, NamesSitesAsReportsDo) {
  const auto names = [](const std::string& folder) {
    const ModelFolder model(family_folder(folder));
    std::vector<std::string> result;
    for (const SiteSpec& site : model.family.blocks[0].sites)
      if (site.expert <= 0) result.push_back(site.name);
    return result;
  };
  EXPECT_THAT(names("llama"), ElementsAre("attn_in", "attn_out", "mlp_in", "mlp_out"));
  EXPECT_THAT(names("qwen2_moe"),
              ElementsAre("attn_in", "attn_out", "mlp_in", "expert_in", "expert_out", "mlp_out"));
}

TEST(Family, PutsDeltaNetsInThePlaceOfAttention) {
  for (const char* folder : {"qwen3_next", "qwen3_5_vl"}) {
    const ModelFolder model(family_folder(folder));
    for (const BlockSpec& block : model.family.blocks) {
      const bool full = block.layer == 3;
      EXPECT_EQ(block.halves[0].mixer->kind(), full ? Attention::kKind : DeltaNet::kKind);
      EXPECT_EQ(block.halves[0].mixer->cache().has_value(), full);
    }
    // Every head is normed by the same 32 elements.
    const FoldSpec& fold = *model.family.blocks[0].fold_of(model.family.blocks[0].site("attn_out"));
    EXPECT_EQ(fold.absorber.name, model.family.blocks[0].name + ".linear_attn.norm.weight");
    EXPECT_EQ(fold.kind, FoldSpec::Absorber::kNorm);
    for (Index k = 0; k < 128; ++k) EXPECT_EQ(fold.source_of(k), k % 32);
    const auto& attention = static_cast<const Attention&>(*model.family.blocks[3].halves[0].mixer);
    EXPECT_TRUE(attention.gated);
    EXPECT_EQ(attention.rope->channels, 16);
    EXPECT_EQ(model.family.blocks[3].site("attn_in").readers[0].out_features(), 2 * 4 * 64);
  }
}

// Decays and rates are left alone by all tools.
TEST(Family, LeavesDecaysAndRatesOfDeltaNetsAlone) {
  const auto left = [](const char* folder) {
    std::vector<std::string> roles;
    for (const LinearSpec& linear : ModelFolder(family_folder(folder)).family.linears())
      if (!linear.rounded && linear.name.find("layers.0.") != std::string::npos)
        roles.push_back(linear.role);
    return roles;
  };
  EXPECT_THAT(left("qwen3_next"), ElementsAre("in_proj_ba"));
  EXPECT_THAT(left("qwen3_5_vl"), ElementsAre("in_proj_b", "in_proj_a"));
  EXPECT_THAT(left("qwen2_moe"), ElementsAre());
}

TEST(Family, GivesEveryLayerItsOwnShapesAndPositions) {
  const ModelFolder model(family_folder("gemma3"));
  const auto attention = [&](std::size_t layer) -> const Attention& {
    return static_cast<const Attention&>(*model.family.blocks[layer].halves[0].mixer);
  };
  EXPECT_GT(attention(0).window, 0);
  EXPECT_EQ(attention(0).rope, model.config.local_rope);
  EXPECT_EQ(attention(5).window, 0);
  EXPECT_EQ(attention(5).rope, model.config.rope);
  EXPECT_EQ(attention(0).cache()->window, attention(0).window);
}

}  // namespace
}  // namespace calque::model
