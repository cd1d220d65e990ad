#include "calque/formats/checkpoint_config.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "calque/core/error.h"
#include "calque/io/json.h"
#include "calque/model/family.h"
#include "support/paths.h"

namespace calque::formats {
namespace {

using io::Json;

TEST(PlainConfig, LosesTheQuantizationAndKeepsTheRestInOrder) {
  const std::string plain = plain_config_json(
      R"({"z": 1, "quantization_config": {"bits": 4}, "torch_dtype": "bfloat16", "a": [2]})",
      "float16", "x/config.json");
  EXPECT_EQ(io::parse_json(plain).dump(), R"({"z":1,"torch_dtype":"float16","a":[2]})");
}

TEST(PlainConfig, UsesTheSpellingOfTheSource) {
  EXPECT_EQ(io::parse_json(plain_config_json(R"({"dtype": "bfloat16"})", "float32", "x")).dump(),
            R"({"dtype":"float32"})");
  EXPECT_EQ(io::parse_json(plain_config_json("{}", "float32", "x")).dump(),
            R"({"torch_dtype":"float32"})");
}

TEST(PlainConfig, RefusesWhatIsNotAnObject) {
  for (const char* text : {"", "{", "[]"}) {
    try {
      plain_config_json(text, "float16", "x/config.json");
      FAIL() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kInput);
      EXPECT_NE(std::string(error.what()).find("x/config.json"), std::string::npos);
    }
  }
}

model::ModelConfig config_for(const std::string& architecture) {
  model::ModelConfig c;
  c.architecture = architecture;
  c.model_type = std::string(model::find_family(architecture)->model_type);
  c.hidden_size = 96;
  c.intermediate_size = 160;
  c.num_layers = 3;
  c.num_heads = 6;
  c.num_kv_heads = 2;
  c.head_dim = 32;
  c.vocab_size = 77;
  c.max_positions = 2048;
  c.rms_norm_eps = 1e-5;
  c.rope.theta = 500000;
  c.window_of_layer = {0, 0, 0};
  c.tie_word_embeddings = true;
  c.bos_token_id = 1;
  c.eos_token_id = 2;
  return c;
}

// The reader of config.json is the definition: what was generated must read back as it was.
void expect_reads_back(const model::ModelConfig& c) {
  const model::ModelConfig read =
      model::parse_config(generated_config_json(c, "float16"), "generated");
  EXPECT_EQ(read.architecture, c.architecture);
  EXPECT_EQ(read.model_type, c.model_type);
  EXPECT_EQ(read.hidden_size, c.hidden_size);
  EXPECT_EQ(read.intermediate_size, c.intermediate_size);
  EXPECT_EQ(read.num_layers, c.num_layers);
  EXPECT_EQ(read.num_heads, c.num_heads);
  EXPECT_EQ(read.num_kv_heads, c.num_kv_heads);
  EXPECT_EQ(read.head_dim, c.head_dim);
  EXPECT_EQ(read.vocab_size, c.vocab_size);
  EXPECT_EQ(read.max_positions, c.max_positions);
  EXPECT_EQ(read.rms_norm_eps, c.rms_norm_eps);
  EXPECT_EQ(read.rope.inverse_frequencies(c.head_dim), c.rope.inverse_frequencies(c.head_dim));
  EXPECT_EQ(read.window_of_layer, c.window_of_layer);
  EXPECT_EQ(read.tie_word_embeddings, c.tie_word_embeddings);
  EXPECT_EQ(read.attention_bias, c.attention_bias);
  EXPECT_EQ(read.mlp_bias, c.mlp_bias);
  EXPECT_EQ(read.hidden_act, c.hidden_act);
  EXPECT_EQ(read.dtype, "float16");
  EXPECT_EQ(read.bos_token_id, c.bos_token_id);
  EXPECT_EQ(read.eos_token_id, c.eos_token_id);
}

TEST(GeneratedConfig, ReadsBackAsTheSameModel) {
  for (const char* name :
       {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
    expect_reads_back(config_for(name));
}

// The models of fixtures/families, as transformers wrote their config.json.
TEST(GeneratedConfig, ReadsBackAsTheSameModelOfEveryFamily) {
  for (const char* name :
       {"gemma2",    "gemma3",          "phi3",       "mixtral",      "qwen2_moe",
        "qwen3_moe", "mistral_sliding", "ministral3", "phi4_mini",    "seed_oss",
        "smollm3",   "glm4_moe",        "minimax_m2", "ernie4_5_moe", "olmo3",
        "exaone4",   "qwen3_next",      "gpt_oss",    "gemma4_moe",   "gemma4_e"}) {
    SCOPED_TRACE(name);
    const model::ModelConfig c =
        model::load_config(std::filesystem::path(test::fixtures()) / "families" / name);
    expect_reads_back(c);
    const model::ModelConfig read =
        model::parse_config(generated_config_json(c, "float16"), "generated");
    EXPECT_EQ(read.query_scale, c.query_scale);
    EXPECT_EQ(read.attention_softcap, c.attention_softcap);
    EXPECT_EQ(read.logit_softcap, c.logit_softcap);
    EXPECT_EQ(read.local_rope.theta, c.local_rope.theta);
    EXPECT_EQ(read.num_experts, c.num_experts);
    EXPECT_EQ(read.routing, c.routing);
    EXPECT_EQ(read.expert_intermediate_size, c.expert_intermediate_size);
    EXPECT_EQ(read.shared_intermediate_size, c.shared_intermediate_size);
    EXPECT_EQ(read.qk_norm, c.qk_norm);
    EXPECT_EQ(read.experts_in_layer, c.experts_in_layer);
    EXPECT_EQ(read.turned_layers, c.turned_layers);
    EXPECT_EQ(read.delta_net_layers, c.delta_net_layers);
    EXPECT_EQ(read.delta_net, c.delta_net);
    EXPECT_EQ(read.full_head_dim, c.full_head_dim);
    EXPECT_EQ(read.full_values_are_keys, c.full_values_are_keys);
    EXPECT_EQ(read.shared_kv_layers, c.shared_kv_layers);
    EXPECT_EQ(read.layer_embedding_size, c.layer_embedding_size);
    EXPECT_EQ(read.rope.proportion, c.rope.proportion);
    EXPECT_EQ(read.rope.channels, c.rope.channels);
    EXPECT_EQ(read.norm_plus_one, c.norm_plus_one);
    EXPECT_EQ(read.attention_out_bias, c.attention_out_bias);
    EXPECT_EQ(read.clamped_gate, c.clamped_gate);
    EXPECT_EQ(read.window_of_layer, c.window_of_layer);
    EXPECT_EQ(read.rope.truncate, c.rope.truncate);
  }
}

TEST(GeneratedConfig, KeepsTheScalingOfPositions) {
  model::ModelConfig c = config_for("LlamaForCausalLM");
  c.rope.scaling = model::RopeSpec::Scaling::kLinear;
  c.rope.factor = 4;
  expect_reads_back(c);
  c.rope.scaling = model::RopeSpec::Scaling::kLlama3;
  c.rope.factor = 8;
  c.rope.low_freq_factor = 1;
  c.rope.high_freq_factor = 4;
  c.rope.original_max_positions = 64;  // so small that all three bands are met at 32 dimensions
  expect_reads_back(c);
  c = config_for("Phi3ForCausalLM");
  c.rope.scaling = model::RopeSpec::Scaling::kLongRope;
  c.rope.original_max_positions = 64;
  c.rope.short_factors.assign(16, 1.5);
  c.rope.long_factors.assign(16, 4.0);
  c.rope.attention_factor = 1.25;
  expect_reads_back(c);
}

TEST(GeneratedConfig, KeepsSlidingWindows) {
  model::ModelConfig c = config_for("MistralForCausalLM");
  c.window_of_layer = {512, 512, 512};
  expect_reads_back(c);
  c = config_for("Qwen2ForCausalLM");
  c.window_of_layer = {0, 512, 512};
  expect_reads_back(c);
}

}  // namespace
}  // namespace calque::formats
