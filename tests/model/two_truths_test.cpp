// Settings that stand in two places: src/model/README.md has the table. Expected values are what
// transformers 5.24 reads from the same config.json, or a refusal that names both values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "calque/core/error.h"
#include "calque/io/safetensors.h"
#include "calque/model/config.h"
#include "calque/model/tied_head.h"
#include "support/model_fixture.h"
#include "support/temp_folder.h"

namespace calque::model {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json config_of(const char* architecture) {
  return {{"architectures", {architecture}},
          {"model_type", std::string(find_family(architecture)->model_type)},
          {"hidden_size", 96},
          {"intermediate_size", 160},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 100},
          {"max_position_embeddings", 64}};
}

ModelConfig parse(const char* architecture, const json& changes) {
  json config = config_of(architecture);
  config.update(changes);
  return parse_config(config.dump(), "config.json");
}
ModelConfig llama(const json& changes) { return parse("LlamaForCausalLM", changes); }

std::string refusal(const char* architecture, const json& changes) {
  return error_of([&] { parse(architecture, changes); });
}

const json kDefault = {{"rope_type", "default"}, {"rope_theta", 2e4}};
const json kLinear = {{"rope_type", "linear"}, {"factor", 8.0}};

TEST(TwoTruths, RopeScalingTakesThePlaceOfRopeParameters) {
  const ModelConfig config =
      llama({{"rope_parameters", kDefault}, {"rope_scaling", kLinear}, {"rope_theta", 1e6}});
  EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ(config.rope.factor, 8.0);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_THAT(config.remarks,
              ElementsAre(AllOf(HasSubstr("rope_scaling ("), HasSubstr("rope_parameters ("))));
}

TEST(TwoTruths, ThetaOfRopeParametersIsNotReadBesideRopeScaling) {
  const json both = {{"rope_parameters", kDefault}, {"rope_scaling", kLinear}};
  EXPECT_EQ(llama(both).rope.theta, 1e4);  // the class's default
  EXPECT_EQ(llama({{"rope_parameters", kDefault},
                   {"rope_theta", 1e6},
                   {"rope_scaling", {{"type", "linear"}, {"factor", 8.0}, {"rope_theta", 5e5}}}})
                .rope.theta,
            5e5);
}

TEST(TwoTruths, RopeScalingThatSaysNothingIsNone) {
  for (const json& nothing : {json(nullptr), json::object()}) {
    const ModelConfig config = llama({{"rope_parameters", kDefault}, {"rope_scaling", nothing}});
    EXPECT_EQ(config.rope.theta, 2e4);
    EXPECT_THAT(config.remarks, IsEmpty());
  }
}

TEST(TwoTruths, RopeScalingOfAnUnknownTypeIsRefusedBesideRopeParameters) {
  EXPECT_THAT(refusal("Qwen2ForCausalLM", {{"rope_parameters", kDefault},
                                           {"rope_scaling", {{"type", "ntk"}, {"factor", 4.0}}}}),
              HasSubstr("is 'ntk'"));
}

TEST(TwoTruths, ThetaInsideRopeParametersWins) {
  const ModelConfig config = llama({{"rope_parameters", kDefault}, {"rope_theta", 1e6}});
  EXPECT_EQ(config.rope.theta, 2e4);
  EXPECT_THAT(config.remarks,
              ElementsAre(HasSubstr("rope_parameters.rope_theta (20000.0) is used")));
  EXPECT_THAT(llama({{"rope_parameters", kDefault}, {"rope_theta", 2e4}}).remarks, IsEmpty());
  EXPECT_EQ(
      llama({{"rope_parameters", {{"rope_type", "default"}}}, {"rope_theta", 1e6}}).rope.theta,
      1e6);
}

TEST(TwoTruths, RopeTypeWinsOverType) {
  EXPECT_EQ(
      llama({{"rope_parameters", {{"rope_type", "default"}, {"type", "linear"}, {"factor", 2.0}}}})
          .rope.scaling,
      RopeSpec::Scaling::kNone);
}

TEST(TwoTruths, Gemma3AddsRopeScalingToItsFullLayers) {
  const json nested = {{"full_attention", kDefault}, {"sliding_attention", kDefault}};
  const ModelConfig config =
      parse("Gemma3ForCausalLM", {{"rope_parameters", nested}, {"rope_scaling", kLinear}});
  EXPECT_EQ(config.rope.scaling, RopeSpec::Scaling::kLinear);
  EXPECT_EQ(config.rope.theta, 2e4);
  EXPECT_EQ(config.local_rope.scaling, RopeSpec::Scaling::kNone);
}

// transformers warns of such keys and rotates by its defaults.
TEST(TwoTruths, RopeParametersOfTheWrongShapeAreRefused) {
  EXPECT_THAT(refusal("Gemma3ForCausalLM", {{"rope_parameters", kDefault}}),
              HasSubstr("needs an object for full_attention"));
  EXPECT_THAT(refusal("LlamaForCausalLM", {{"rope_parameters", {{"full_attention", kDefault}}}}),
              HasSubstr("an object for each kind of layer"));
}

TEST(TwoTruths, OriginalContextInsideWinsExceptForPhi3) {
  json llama3 = {{"rope_type", "llama3"},
                 {"factor", 8.0},
                 {"low_freq_factor", 1.0},
                 {"high_freq_factor", 4.0},
                 {"original_max_position_embeddings", 16}};
  const json outer = {{"original_max_position_embeddings", 32}};
  json both = outer;
  both["rope_parameters"] = llama3;
  EXPECT_EQ(llama(both).rope.original_max_positions, 16);
  EXPECT_THAT(llama(both).remarks,
              ElementsAre(HasSubstr("rope_parameters.original_max_position_embeddings (16)")));
  llama3.erase("original_max_position_embeddings");
  both["rope_parameters"] = llama3;
  EXPECT_THAT(refusal("LlamaForCausalLM", both), HasSubstr("original_max_position_embeddings"));
  const json factors(12, 1.0);
  const json longrope = {{"rope_type", "longrope"},
                         {"short_factor", factors},
                         {"long_factor", factors},
                         {"original_max_position_embeddings", 16}};
  EXPECT_EQ(parse("Phi3ForCausalLM",
                  {{"rope_parameters", longrope}, {"original_max_position_embeddings", 32}})
                .rope.original_max_positions,
            32);
}

TEST(TwoTruths, ModelTypeAndArchitectureMustAgree) {
  EXPECT_THAT(refusal("LlamaForCausalLM", {{"model_type", "mistral"}}),
              AllOf(HasSubstr("'mistral'"), HasSubstr("LlamaForCausalLM"), HasSubstr("'llama'")));
}

TEST(UnknownClasses, AreRefusedWithThePartsThatNoFamilyHas) {
  const json config = {
      {"architectures", {"MadeUpForCausalLM"}},
      {"kv_lora_rank", 512},
      {"layer_types", {"full_attention", "mamba", "mamba", "sliding_attention"}},
      {"scoring_func", "sqrtsoftplus"},
      {"rope_scaling", {{"type", "spiral"}}},
  };
  EXPECT_THAT(
      error_of([&] { parse_config(config.dump(), "config.json"); }),
      HasSubstr("'MadeUpForCausalLM' is not supported. Unknown of it: attention with latent "
                "keys and values (kv_lora_rank), layers of type 'mamba', routing by "
                "'sqrtsoftplus', rotary positions of type 'spiral'; the nearest is "));
  const json plain = {{"architectures", {"MadeUpForCausalLM"}},
                      {"layer_types", {"full_attention"}},
                      {"scoring_func", "sigmoid"},
                      {"rope_scaling", {{"type", "yarn"}}}};
  EXPECT_THAT(error_of([&] { parse_config(plain.dump(), "config.json"); }),
              HasSubstr("'MadeUpForCausalLM' is not supported; the nearest is "));
}

TEST(TwoTruths, AWrapperOfAnUnknownClassIsRefusedByItsName) {
  json wrapper = {{"architectures", {"Gemma3ForSoundGeneration"}},
                  {"model_type", "gemma3_sound"},
                  {"text_config", {{"model_type", "gemma3_text"}, {"hidden_size", 96}}}};
  EXPECT_THAT(
      error_of([&] { parse_config(wrapper.dump(), "config.json"); }),
      AllOf(HasSubstr("'Gemma3ForSoundGeneration' is not supported"), HasSubstr("'gemma3_text'"),
            HasSubstr("the nearest is Gemma3ForConditionalGeneration")));
  wrapper["text_config"]["model_type"] = "gemma9_text";
  EXPECT_THAT(error_of([&] { parse_config(wrapper.dump(), "config.json"); }),
              HasSubstr("nor is its language model 'gemma9_text'"));
  wrapper["architectures"] = {"Gemma3ForConditionalGeneration"};
  wrapper["model_type"] = "gemma3";
  EXPECT_THAT(error_of([&] { parse_config(wrapper.dump(), "config.json"); }),
              HasSubstr("with the language model 'gemma9_text'"));
}

TEST(TwoTruths, AWrappersOwnKeyTiesTheHeadBeforeThatOfItsText) {
  const auto tied = [](const json& outer, const json& inner) {
    json wrapper = outer;
    wrapper["text_config"] = inner;
    return ties_head(io::parse_json(wrapper.dump()));
  };
  const json yes = {{"tie_word_embeddings", true}}, no = {{"tie_word_embeddings", false}};
  EXPECT_TRUE(tied(yes, no));
  EXPECT_FALSE(tied(no, yes));
  EXPECT_TRUE(tied({{"architectures", {"Qwen2_5_VLForConditionalGeneration"}}}, yes));
  // Without a key: the class's default.
  EXPECT_TRUE(tied({{"architectures", {"Mistral3ForConditionalGeneration"}}}, json::object()));
  EXPECT_FALSE(tied({{"architectures", {"Qwen3VLForConditionalGeneration"}}}, json::object()));
}

TEST(TwoTruths, LayerTypesWinOverThePattern) {
  const json types = {"full_attention", "sliding_attention", "sliding_attention"};
  const ModelConfig config =
      parse("Gemma3ForCausalLM",
            {{"layer_types", types}, {"sliding_window_pattern", 2}, {"sliding_window", 16}});
  EXPECT_THAT(config.window_of_layer, ElementsAre(0, 16, 16));
  EXPECT_THAT(config.remarks, ElementsAre(HasSubstr("sliding_window_pattern (2)")));
  EXPECT_THAT(parse("Gemma3ForCausalLM", {{"sliding_window_pattern", 2}, {"sliding_window", 16}})
                  .window_of_layer,
              ElementsAre(16, 0, 16));
  EXPECT_THAT(parse("Gemma3ForCausalLM", {{"_sliding_window_pattern", 2}, {"sliding_window", 16}})
                  .window_of_layer,
              ElementsAre(16, 16, 16));  // transformers reads its own name only
  EXPECT_THAT(
      parse("MistralForCausalLM", {{"layer_types", types}, {"sliding_window", 16}}).window_of_layer,
      ElementsAre(0, 16, 16));
}

TEST(TwoTruths, SlidingLayersWithoutAWindowAreRefused) {
  const json types = {"full_attention", "sliding_attention", "full_attention"};
  EXPECT_THAT(refusal("Qwen2ForCausalLM", {{"layer_types", types}, {"use_sliding_window", false}}),
              HasSubstr("names sliding layers, but there is no sliding_window"));
  EXPECT_THAT(
      parse("Qwen3ForCausalLM",
            {{"use_sliding_window", true}, {"max_window_layers", 0}, {"sliding_window", nullptr}})
          .window_of_layer,
      ElementsAre(0, 0, 0));
}

TEST(TwoTruths, UnknownLayerTypesAreRefused) {
  const json types = {"full_attention", "chunked_attention", "full_attention"};
  EXPECT_THAT(refusal("Gemma3ForCausalLM", {{"layer_types", types}}),
              HasSubstr("has \"chunked_attention\""));
}

TEST(TwoTruths, GemmaReadsTheActivationOfItsClass) {
  const json both = {{"hidden_act", "silu"}, {"hidden_activation", "gelu_pytorch_tanh"}};
  const ModelConfig second = parse("Gemma2ForCausalLM", both);
  EXPECT_EQ(second.hidden_act, "gelu_pytorch_tanh");
  EXPECT_THAT(second.remarks, ElementsAre(HasSubstr("hidden_act (\"silu\") is not")));
  EXPECT_EQ(parse("Gemma2ForCausalLM", {{"hidden_act", "silu"}}).hidden_act, "gelu_pytorch_tanh");
  EXPECT_EQ(parse("GemmaForCausalLM", both).hidden_act, "silu");
}

TEST(TwoTruths, DtypeWinsOverTorchDtype) {
  const ModelConfig config = llama({{"dtype", "float16"}, {"torch_dtype", "bfloat16"}});
  EXPECT_EQ(config.dtype, "float16");
  EXPECT_THAT(config.remarks, ElementsAre(HasSubstr("torch_dtype (\"bfloat16\") is not")));
}

TEST(TwoTruths, TheFamiliesOfTransformersHaveNone) {
  for (const std::string& name : family_folders())
    EXPECT_THAT(load_config(family_folder(name)).remarks, IsEmpty()) << name;
}

// ---- A tied head

// An embedding of 2 x 3 and a head.
void write_pair(const std::filesystem::path& folder, const std::vector<float>& head, DType dtype) {
  const std::vector<float> embedding = {1, 2, 3, 4, 5, 6};
  io::SafetensorsWriter writer(folder, {{"model.embed_tokens.weight", DType::kF32, {2, 3}},
                                        {"lm_head.weight", dtype, {2, 3}}});
  writer.write("model.embed_tokens.weight", std::as_bytes(std::span(embedding)));
  std::vector<std::byte> bytes(head.size() * size_of(dtype));
  convert_from_float(head.data(), dtype, head.size(), bytes.data());
  writer.write("lm_head.weight", bytes);
  writer.finish();
}

ModelConfig settled(const std::vector<float>& head, DType dtype) {
  const calque::testing::TempFolder folder;
  write_pair(folder.path(), head, dtype);
  ModelConfig config;
  config.tie_word_embeddings = true;
  settle_tied_head(CheckpointSource(folder.path()), config);
  return config;
}

TEST(TiedHead, IsUntiedByAStoredHeadThatDiffers) {
  const ModelConfig config = settled({1, 2, 3, 4, 5, 7}, DType::kF32);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_THAT(config.remarks, ElementsAre(AllOf(HasSubstr("tie_word_embeddings: true"),
                                                HasSubstr("lm_head.weight"))));
}

TEST(TiedHead, StaysTiedToEqualValues) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const ModelConfig config = settled({1, 2, 3, 4, 5, 6}, dtype);
    EXPECT_TRUE(config.tie_word_embeddings);
    EXPECT_THAT(config.remarks, IsEmpty());
  }
}

}  // namespace
}  // namespace calque::model
