// Models of every family written as GGUF and read back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/model/weight_source.h"
#include "formats/gguf_architectures.h"
#include "formats/support.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::write_random;

ExportRequest gguf(const fs::path& path, const std::string& type) {
  ExportRequest request;
  request.format = "gguf";
  request.path = path;
  request.type = type;
  return request;
}

// A model of fixtures/families, written as `type` without a tokenizer.
struct WrittenFamily {
  WrittenFamily(const std::string& name, const std::string& type)
      : family(
            model::family_of(model::load_config(fs::path(test::fixtures()) / "families" / name))),
        source(fs::path(test::fixtures()) / "families" / name, family.config.stacked_experts),
        plan(plan_export(family, source, {}, gguf(folder / "out.gguf", type))),
        written(write_random(plan, {family, source, folder.path(), nullptr, {}})),
        file(folder / "out.gguf"),
        reader(open_artifact(folder / "out.gguf")) {}

  // The name under which a GGUF file has a tensor: it knows nothing of wrappers.
  std::string read_name(const std::string& name) const {
    const std::string& prefix = family.config.names.model;
    return name.starts_with(prefix + ".") ? "model" + name.substr(prefix.size()) : name;
  }

  TempFolder folder;
  model::FamilySpec family;
  model::CheckpointSource source;
  ExportPlan plan;
  std::map<std::string, quant::QuantizedMatrix> written;
  io::GgufFile file;
  std::unique_ptr<ArtifactReader> reader;
};

const std::vector<std::string> kFamilies = {
    "llama",        "llama3_rope", "llama_bias", "mistral_sliding", "qwen2",     "qwen3",
    "gemma2",       "gemma3",      "phi3",       "mixtral",         "qwen2_moe", "qwen3_moe",
    "ministral3",   "phi4_mini",   "seed_oss",   "smollm3",         "glm4_moe",  "minimax_m2",
    "ernie4_5_moe", "olmo3",       "qwen3_next", "qwen3_5_vl",      "gemma4_vl", "gemma4_moe",
    "gemma4_e",     "gpt_oss"};

class EveryFamilyAsGguf : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Families, EveryFamilyAsGguf, ::testing::ValuesIn(kFamilies));

// BF16 weights are F32 values, so every bit comes back; but of norms that are stored as 1 + weight
// in fp32: half a last place of numbers below 4, 2^-23, and 1 + weight as it was.
TEST_P(EveryFamilyAsGguf, GivesBackEveryWeightOfAnF32File) {
  const WrittenFamily tested(GetParam(), "F32");
  for (const model::TensorSpec& tensor : tested.family.tensors()) {
    const Matrix<float> source = tested.source.load(tensor.name);
    const Matrix<float> read = tested.reader->load(tested.read_name(tensor.name));
    ASSERT_EQ(read.rows(), source.rows()) << tensor.name;
    ASSERT_EQ(read.cols(), source.cols()) << tensor.name;
    for (Index i = 0; i < source.size(); ++i) {
      const float expected = source.data()[i];
      const float actual = read.data()[i];
      if (tensor.gguf_plus_one) {
        ASSERT_EQ(1.0f + actual, 1.0f + expected) << tensor.name << " " << i;
        ASSERT_NEAR(actual, expected, 0x1p-23) << tensor.name << " " << i;
      } else if (tensor.gguf_minus_exp) {
        // e^x and its logarithm are rounded once each, x is below 4.
        ASSERT_NEAR(actual, expected, 0x1p-21) << tensor.name << " " << i;
      } else {
        ASSERT_EQ(actual, expected) << tensor.name << " " << i;
      }
    }
  }
}

// `file` with each layer's gates and ups in one tensor, an expert's gate above its up, as Gemma 4's
// converter has them.
void write_with_pairs(const io::GgufFile& file, const fs::path& path) {
  std::vector<io::GgufTensorDeclaration> declared;
  std::map<std::string, std::vector<std::byte>> bytes;
  for (const io::GgufTensor& tensor : file.tensors()) {
    std::string name = tensor.name;
    io::GgufTensorDeclaration declaration{name, tensor.type, tensor.ne};
    std::vector<std::byte> own(tensor.bytes.begin(), tensor.bytes.end());
    const std::size_t at = name.find("ffn_up_exps");
    if (name.find("ffn_gate_exps") != std::string::npos) continue;
    if (at != std::string::npos) {
      const io::GgufTensor& gate =
          *file.find_tensor(std::string(name).replace(at, 11, "ffn_gate_exps"));
      const std::size_t slab = tensor.bytes.size() / tensor.ne[2];
      own.clear();
      for (std::size_t e = 0; e < tensor.ne[2]; ++e)
        for (const io::GgufTensor* half : {&gate, &tensor})
          own.insert(own.end(), half->bytes.begin() + static_cast<std::ptrdiff_t>(e * slab),
                     half->bytes.begin() + static_cast<std::ptrdiff_t>((e + 1) * slab));
      declaration.name = name.replace(at, 11, "ffn_gate_up_exps");
      declaration.ne[1] *= 2;
    }
    bytes[declaration.name] = std::move(own);
    declared.push_back(std::move(declaration));
  }
  io::GgufWriter writer(path, file.metadata(), std::move(declared));
  for (const auto& [name, own] : bytes) writer.write(name, own);
  writer.finish();
}

class ExpertsInPairs : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Types, ExpertsInPairs, ::testing::Values("F32", "Q8_0"));

TEST_P(ExpertsInPairs, AreReadAsGateAndUp) {
  const WrittenFamily tested("gemma4_moe", GetParam());
  const fs::path path = tested.folder / "pairs.gguf";
  write_with_pairs(tested.file, path);
  const std::unique_ptr<ArtifactReader> paired = open_artifact(path);
  std::size_t pairs = 0;
  for (const model::TensorSpec& tensor : tested.family.tensors()) {
    const std::string name = tested.read_name(tensor.name);
    const Matrix<float> expected = tested.reader->load(name);
    const Matrix<float> actual = paired->load(name);
    ASSERT_THAT(
        std::span(actual.data(), static_cast<std::size_t>(actual.size())),
        ::testing::ElementsAreArray(expected.data(), static_cast<std::size_t>(expected.size())))
        << name;
    const auto codes = paired->quantized(name);
    if (tensor.shape.size() == 2 && codes)
      testing::expect_same(*codes, *tested.reader->quantized(name));
    pairs += tensor.gguf_pair_name.empty() ? 0 : 1;
  }
  EXPECT_EQ(pairs, 2u * 8u * 2u);
}

// All numbers that a forward pass uses. Mistral's windows are not part of a GGUF file.
TEST_P(EveryFamilyAsGguf, GivesBackTheConfiguration) {
  const WrittenFamily tested(GetParam(), "F32");
  const model::ModelConfig& expected = tested.family.config;
  const model::ModelConfig& actual = tested.reader->config();
  const bool mistral = GetParam() == "mistral_sliding";
  EXPECT_EQ(actual.architecture, mistral ? "LlamaForCausalLM" : expected.architecture);
  EXPECT_EQ(actual.hidden_size, expected.hidden_size);
  EXPECT_EQ(actual.intermediate_size, expected.intermediate_size);
  EXPECT_EQ(actual.num_layers, expected.num_layers);
  EXPECT_EQ(actual.num_heads, expected.num_heads);
  EXPECT_EQ(actual.num_kv_heads, expected.num_kv_heads);
  EXPECT_EQ(actual.head_dim, expected.head_dim);
  EXPECT_EQ(actual.vocab_size, expected.vocab_size);
  EXPECT_EQ(actual.max_positions, expected.max_positions);
  EXPECT_EQ(actual.rms_norm_eps, expected.rms_norm_eps);
  EXPECT_EQ(actual.rope.inverse_frequencies(32), expected.rope.inverse_frequencies(32));
  EXPECT_EQ(actual.rope.channels, expected.rope.channels);
  EXPECT_EQ(actual.full_head_dim, expected.full_head_dim);
  EXPECT_EQ(actual.full_values_are_keys, expected.full_values_are_keys);
  EXPECT_EQ(actual.shared_kv_layers, expected.shared_kv_layers);
  EXPECT_EQ(actual.shared_kv_intermediate_size, expected.shared_kv_intermediate_size);
  EXPECT_EQ(actual.layer_embedding_size, expected.layer_embedding_size);
  for (Index layer = 0; layer < expected.num_layers; ++layer)
    EXPECT_EQ(actual.kv_heads_of(layer), expected.kv_heads_of(layer)) << layer;
  EXPECT_EQ(actual.rope.adjacent, expected.rope.adjacent);
  EXPECT_EQ(actual.rope.truncate, expected.rope.truncate);
  EXPECT_EQ(actual.clamped_gate, expected.clamped_gate);
  EXPECT_EQ(actual.turned_layers, expected.turned_layers);
  EXPECT_EQ(actual.local_rope.theta, expected.local_rope.theta);
  EXPECT_EQ(actual.tie_word_embeddings, expected.tie_word_embeddings);
  EXPECT_EQ(actual.hidden_act, expected.hidden_act);
  EXPECT_EQ(actual.norm_plus_one, expected.norm_plus_one);
  EXPECT_EQ(actual.embedding_scale, expected.embedding_scale);
  EXPECT_EQ(actual.query_scale, expected.query_scale);
  EXPECT_EQ(actual.attention_softcap, expected.attention_softcap);
  EXPECT_EQ(actual.logit_softcap, expected.logit_softcap);
  EXPECT_EQ(actual.num_experts, expected.num_experts);
  EXPECT_EQ(actual.routing, expected.routing);
  EXPECT_EQ(actual.expert_intermediate_size, expected.expert_intermediate_size);
  EXPECT_EQ(actual.shared_intermediate_size, expected.shared_intermediate_size);
  EXPECT_EQ(actual.experts_in_layer, expected.experts_in_layer);
  const std::vector<Index> none(expected.window_of_layer.size(), 0);
  EXPECT_EQ(actual.window_of_layer, mistral ? none : expected.window_of_layer);
}

TEST_P(EveryFamilyAsGguf, GivesBackTheBlocksOfEveryQuantizedMatrix) {
  const WrittenFamily tested(GetParam(), "Q8_0");
  std::size_t linears = 0;
  for (const model::LinearSpec& linear : tested.family.linears())
    linears += tested.written.count(linear.weight.name);
  EXPECT_EQ(linears, tested.family.linears().size());
  for (const auto& [name, q] : tested.written) {
    SCOPED_TRACE(name);
    const auto read = tested.reader->quantized(tested.read_name(name));
    ASSERT_TRUE(read.has_value());
    testing::expect_same(*read, q);
  }
}

// Number of tensors per family that llama.cpp's loader looks for (src/formats/README.md,
// "Tensors"). It refuses a file that has one more or one less.
TEST_P(EveryFamilyAsGguf, HasAsManyTensorsAsItsLoaderExpects) {
  const std::map<std::string, std::size_t> expected = {
      {"llama", 3 + 2 * 9},
      {"llama3_rope", 2 + 1 + 2 * 9},  // tied, and rope_freqs
      {"llama_bias", 3 + 2 * (9 + 7)},
      {"mistral_sliding", 3 + 2 * 9},
      {"qwen2", 2 + 2 * (9 + 3)},  // tied
      {"qwen3", 3 + 2 * (9 + 2)},
      {"gemma2", 2 + 4 * (9 + 2)},
      {"gemma3", 2 + 7 * (9 + 4)},
      {"phi3", 3 + 2 * 6},
      {"mixtral", 3 + 2 * 10},                  // router and three stacks
      {"qwen2_moe", 3 + 2 * (10 + 3 + 3 + 1)},  // biases, shared expert, its gate
      {"qwen3_moe", 3 + 2 * (10 + 2)},
      {"ministral3", 2 + 2 * 9},
      {"phi4_mini", 2 + 2 + 2 * 6},  // two lists of rotary factors
      {"seed_oss", 3 + 2 * (9 + 3)},
      {"smollm3", 2 + 4 * 9},
      // A dense layer, and two with router, its bias, three stacks, and a shared expert; glm4_moe
      // has biases of q, k and v, too.
      {"glm4_moe", 3 + 3 * (6 + 2 + 3) + 3 + 2 * (5 + 3)},
      {"minimax_m2", 3 + 2 * (6 + 2 + 5)},
      {"ernie4_5_moe", 2 + 3 * 6 + 3 + 2 * (5 + 3)},
      {"olmo3", 3 + 4 * (9 + 2)},
      // Sinks; biases of four linears, the router and three stacks.
      {"gpt_oss", 3 + 3 * (6 + 1 + 4 + 4 + 4)},
      {"qwen3_next", 3 + 3 * (10 + 8) + (8 + 8)},  // a delta net, attention; experts in both
      {"qwen3_5_vl", 2 + 3 * (11 + 3) + (8 + 3)},  // tied
      // Tied, rope_freqs; four norms, those of q and k, a factor; keys that are values in one
      // layer.
      {"gemma4_vl", 3 + 3 * (7 + 7) - 1},
      {"gemma4_moe", 3 + 2 * (7 + 7) - 1 + 2 * (3 + 3 + 3)},  // norms, router, three stacks
      // Three tensors of the layers' embeddings, and three in each layer; two layers without keys.
      {"gemma4_e", 6 + 5 * (7 + 7 + 3) - 2 * 3}};
  EXPECT_EQ(WrittenFamily(GetParam(), "F32").file.tensors().size(), expected.at(GetParam()));
}

TEST_P(EveryFamilyAsGguf, ListsEveryTensorUnderTheNameThatLoadsIt) {
  const WrittenFamily tested(GetParam(), "F16");
  std::multiset<std::string> expected;
  for (const model::TensorSpec& tensor : tested.family.tensors())
    expected.insert(tested.read_name(tensor.name));
  if (GetParam() == "llama3_rope" || GetParam().starts_with("gemma4"))
    expected.insert("rope_freqs.weight");
  if (GetParam() == "phi4_mini")
    expected.insert({"rope_factors_long.weight", "rope_factors_short.weight"});
  std::multiset<std::string> listed;
  std::uint64_t bytes = 0;
  for (const StoredTensor& stored : tested.reader->tensors()) {
    listed.insert(stored.name);
    bytes += stored.bytes;
    Index elements = 1;
    for (const Index n : stored.shape) elements *= n;
    EXPECT_EQ(tested.reader->load(stored.name).size(), elements) << stored.name;
  }
  EXPECT_EQ(listed, expected);
  std::uint64_t in_file = 0;
  for (const io::GgufTensor& tensor : tested.file.tensors()) in_file += tensor.bytes.size();
  EXPECT_EQ(bytes, in_file);
}

std::vector<float> floats_of(const io::GgufTensor& tensor) {
  EXPECT_EQ(tensor.type, ggml::Type::kF32) << tensor.name;
  std::vector<float> values(tensor.bytes.size() / sizeof(float));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

TEST(GgufOfGemma, StoresNormsPlusOne) {
  const WrittenFamily tested("gemma3", "F16");
  const std::map<std::string, std::string> names = {
      {"model.norm.weight", "output_norm.weight"},
      {"model.layers.5.input_layernorm.weight", "blk.5.attn_norm.weight"},
      {"model.layers.5.post_attention_layernorm.weight", "blk.5.post_attention_norm.weight"},
      {"model.layers.5.pre_feedforward_layernorm.weight", "blk.5.ffn_norm.weight"},
      {"model.layers.5.post_feedforward_layernorm.weight", "blk.5.post_ffw_norm.weight"},
      {"model.layers.5.self_attn.q_norm.weight", "blk.5.attn_q_norm.weight"},
      {"model.layers.5.self_attn.k_norm.weight", "blk.5.attn_k_norm.weight"}};
  for (const auto& [name, stored] : names) {
    const Matrix<float> source = tested.source.load(name);
    const std::vector<float> values = floats_of(*tested.file.find_tensor(stored));
    ASSERT_EQ(static_cast<Index>(values.size()), source.cols()) << name;
    for (Index i = 0; i < source.cols(); ++i)
      EXPECT_EQ(values[static_cast<std::size_t>(i)], 1.0f + source(0, i)) << name;
  }
}

TEST(GgufOfExperts, StacksTheMatricesOfAllExpertsInOrder) {
  const WrittenFamily tested("mixtral", "F32");
  const std::map<std::string, std::string> names = {{"w1", "blk.1.ffn_gate_exps.weight"},
                                                    {"w3", "blk.1.ffn_up_exps.weight"},
                                                    {"w2", "blk.1.ffn_down_exps.weight"}};
  for (const auto& [role, stored] : names) {
    const io::GgufTensor& tensor = *tested.file.find_tensor(stored);
    const bool down = role == "w2";
    EXPECT_THAT(tensor.ne, ElementsAre(down ? 256u : 128u, down ? 128u : 256u, 4u));
    const std::vector<float> values = floats_of(tensor);
    std::size_t at = 0;
    for (int e = 0; e < 4; ++e) {
      const Matrix<float> source = tested.source.load("model.layers.1.block_sparse_moe.experts." +
                                                      std::to_string(e) + "." + role + ".weight");
      ASSERT_TRUE(std::equal(source.data(), source.data() + source.size(), values.data() + at))
          << role << " of expert " << e;
      at += static_cast<std::size_t>(source.size());
    }
  }
}

TEST(GgufOfExperts, KeepsRoutersInF32AndTheSharedGateAsAVector) {
  const WrittenFamily tested("qwen2_moe", "Q8_0");
  const io::GgufTensor& router = *tested.file.find_tensor("blk.0.ffn_gate_inp.weight");
  EXPECT_EQ(router.type, ggml::Type::kF32);
  EXPECT_THAT(router.ne, ElementsAre(128u, 8u));
  const io::GgufTensor& gate = *tested.file.find_tensor("blk.0.ffn_gate_inp_shexp.weight");
  EXPECT_EQ(gate.type, ggml::Type::kF32);
  EXPECT_THAT(gate.ne, ElementsAre(128u));
  EXPECT_THAT(tested.file.find_tensor("blk.0.ffn_up_shexp.weight")->ne, ElementsAre(128u, 128u));
}

TEST(GgufOfPhi3, KeepsFusedMatricesWithGateRowsFirst) {
  const WrittenFamily tested("phi3", "F32");
  EXPECT_EQ(tested.file.find_tensor("blk.0.ffn_gate.weight"), nullptr);
  const std::map<std::string, std::string> names = {
      {"model.layers.0.self_attn.qkv_proj.weight", "blk.0.attn_qkv.weight"},
      {"model.layers.0.mlp.gate_up_proj.weight", "blk.0.ffn_up.weight"}};
  for (const auto& [name, stored] : names) {
    const Matrix<float> source = tested.source.load(name);
    const std::vector<float> values = floats_of(*tested.file.find_tensor(stored));
    EXPECT_TRUE(std::equal(values.begin(), values.end(), source.data())) << name;
  }
}

// The types that loaders require: counts u32, reals f32 (src/formats/README.md, "Metadata").
template <typename T>
void expect_scalar(const io::GgufFile& file, const std::string& key, T value) {
  const io::GgufValue* found = file.find(key);
  ASSERT_NE(found, nullptr) << key;
  const auto* scalar = std::get_if<io::GgufValue::Scalar>(&found->value);
  ASSERT_NE(scalar, nullptr) << key;
  ASSERT_TRUE(std::holds_alternative<T>(*scalar)) << key;
  EXPECT_EQ(std::get<T>(*scalar), value) << key;
}
void expect_count(const io::GgufFile& file, const std::string& key, std::uint32_t value) {
  expect_scalar(file, key, value);
}
void expect_real(const io::GgufFile& file, const std::string& key, float value) {
  expect_scalar(file, key, value);
}

// Values of the fixtures' config.json.
TEST(GgufKeysOfFamilies, SayCapsAndWindowsOfGemma) {
  const WrittenFamily second("gemma2", "F32");
  EXPECT_EQ(second.file.string("general.architecture"), "gemma2");
  expect_real(second.file, "gemma2.attn_logit_softcapping", 50.0f);
  expect_real(second.file, "gemma2.final_logit_softcapping", 30.0f);
  expect_count(second.file, "gemma2.attention.sliding_window", 24);
  expect_count(second.file, "gemma2.attention.key_length", 32);
  expect_count(second.file, "gemma2.attention.value_length", 32);
  const WrittenFamily third("gemma3", "F32");
  expect_real(third.file, "gemma3.rope.freq_base", 1e6f);
  expect_real(third.file, "gemma3.rope.freq_base_swa", 1e4f);
  expect_count(third.file, "gemma3.attention.sliding_window", 24);
  EXPECT_EQ(third.file.find("gemma3.final_logit_softcapping"), nullptr);
}

template <typename T>
std::vector<T> list_of(const io::GgufFile& file, const std::string& key) {
  const io::GgufValue* found = file.find(key);
  if (found == nullptr || !std::holds_alternative<io::GgufValue::Array>(found->value)) return {};
  const auto* list = std::get_if<std::vector<T>>(&std::get<io::GgufValue::Array>(found->value));
  return list == nullptr ? std::vector<T>() : *list;
}

// Names and types of llama.cpp's converter (October 2026).
TEST(GgufKeysOfFamilies, SayWhatDiffersByLayerInGemma4) {
  const WrittenFamily e("gemma4_e", "F32");
  expect_count(e.file, "gemma4.attention.key_length", 64);
  expect_count(e.file, "gemma4.attention.value_length", 64);
  expect_count(e.file, "gemma4.attention.key_length_swa", 32);
  expect_count(e.file, "gemma4.attention.value_length_swa", 32);
  expect_count(e.file, "gemma4.attention.head_count_kv", 1);
  expect_count(e.file, "gemma4.attention.sliding_window", 16);
  expect_count(e.file, "gemma4.attention.shared_kv_layers", 2);
  expect_count(e.file, "gemma4.embedding_length_per_layer_input", 32);
  expect_count(e.file, "gemma4.rope.dimension_count", 64);
  expect_count(e.file, "gemma4.rope.dimension_count_swa", 32);
  expect_real(e.file, "gemma4.rope.freq_base", 1e6f);
  expect_real(e.file, "gemma4.rope.freq_base_swa", 1e4f);
  expect_real(e.file, "gemma4.final_logit_softcapping", 30.0f);
  EXPECT_THAT(list_of<bool>(e.file, "gemma4.attention.sliding_window_pattern"),
              ElementsAre(true, true, false, true, false));
  EXPECT_THAT(list_of<std::int32_t>(e.file, "gemma4.feed_forward_length"),
              ElementsAre(160, 160, 160, 320, 320));
  const WrittenFamily moe("gemma4_moe", "F32");
  EXPECT_THAT(list_of<std::int32_t>(moe.file, "gemma4.attention.head_count_kv"), ElementsAre(2, 1));
  expect_count(moe.file, "gemma4.feed_forward_length", 160);
  expect_count(moe.file, "gemma4.expert_feed_forward_length", 32);
  expect_count(moe.file, "gemma4.attention.shared_kv_layers", 0);
}

// The keys of llama.cpp's converter: pieces with merges, no name of a pre-tokenizer, and as text
// what stands around calls of tools.
TEST(GgufOfGemma4, JoinsPiecesByMergesAndShowsCallsOfTools) {
  const WrittenFamily model("gemma4_e", "F32");
  text::Vocabulary vocabulary = testing::tiny_vocabulary(320);
  vocabulary.tokens[5] = "<|tool_call>";
  vocabulary.types[5] = vocabulary.types[6] = text::Vocabulary::TokenType::kControl;
  vocabulary.merges = {"a b", "ab c"};
  const auto keys_of = [&](const std::string& name) {
    const ExportPlan plan =
        plan_export(model.family, model.source, {}, gguf(model.folder / name, "F32"));
    write_random(plan, {model.family, model.source, model.folder.path(), &vocabulary, {}});
    return io::GgufFile(model.folder / name);
  };
  const io::GgufFile file = keys_of("merges.gguf");
  EXPECT_EQ(file.string("tokenizer.ggml.model"), "gemma4");
  EXPECT_EQ(file.find("tokenizer.ggml.pre"), nullptr);
  EXPECT_EQ(list_of<std::string>(file, "tokenizer.ggml.merges"), vocabulary.merges);
  EXPECT_EQ(list_of<float>(file, "tokenizer.ggml.scores").size(), 320u);
  const auto types = list_of<std::int32_t>(file, "tokenizer.ggml.token_type");
  EXPECT_EQ(types[5], 4);  // user-defined
  EXPECT_EQ(types[6], 3);
  vocabulary.merges.clear();
  const io::GgufFile scored = keys_of("scores.gguf");
  EXPECT_EQ(scored.string("tokenizer.ggml.model"), "llama");
  EXPECT_EQ(scored.string("tokenizer.ggml.pre"), "default");
  EXPECT_EQ(scored.find("tokenizer.ggml.merges"), nullptr);
}

// Half of 64 channels are 32 pairs, a quarter of which turn.
TEST(GgufOfGemma4, HoldsPairsStillByTheirDivisors) {
  const std::vector<float> divisors =
      floats_of(*WrittenFamily("gemma4_e", "F32").file.find_tensor("rope_freqs.weight"));
  ASSERT_EQ(divisors.size(), 32u);
  for (std::size_t i = 0; i < 32; ++i) EXPECT_EQ(divisors[i], i < 8 ? 1.0f : 1e30f) << i;
}

// As llama-quantize: the layers' embeddings have the type of a tied one, their projection stays.
TEST(GgufOfGemma4, StoresTheEmbeddingsOfLayersLikeTheModels) {
  const WrittenFamily tested("gemma4_e", "Q4_0");
  EXPECT_EQ(tested.file.find_tensor("per_layer_token_embd.weight")->type,
            tested.file.find_tensor("token_embd.weight")->type);
  EXPECT_EQ(tested.file.find_tensor("per_layer_model_proj.weight")->type, ggml::Type::kBF16);
  EXPECT_EQ(tested.file.find_tensor("blk.0.inp_gate.weight")->type, ggml::Type::kQ4_0);
  EXPECT_EQ(tested.file.find_tensor("blk.0.proj.weight")->type, ggml::Type::kQ4_0);
}

TEST(GgufKeysOfFamilies, SayCountsAndWidthsOfExperts) {
  const WrittenFamily mixtral("mixtral", "F32");
  EXPECT_EQ(mixtral.file.string("general.architecture"), "llama");
  expect_count(mixtral.file, "llama.expert_count", 4);
  expect_count(mixtral.file, "llama.expert_used_count", 2);
  expect_count(mixtral.file, "llama.feed_forward_length", 256);
  EXPECT_EQ(mixtral.file.find("llama.expert_feed_forward_length"), nullptr);
  const WrittenFamily qwen2("qwen2_moe", "F32");
  expect_count(qwen2.file, "qwen2moe.expert_count", 8);
  expect_count(qwen2.file, "qwen2moe.expert_used_count", 2);
  expect_count(qwen2.file, "qwen2moe.expert_feed_forward_length", 64);
  expect_count(qwen2.file, "qwen2moe.expert_shared_feed_forward_length", 128);
  const WrittenFamily qwen3("qwen3_moe", "F32");
  expect_count(qwen3.file, "qwen3moe.expert_feed_forward_length", 64);
  EXPECT_EQ(qwen3.file.find("qwen3moe.expert_shared_feed_forward_length"), nullptr);
}

TEST(GgufKeysOfFamilies, SayThatPhi3HasNoWindow) {
  const WrittenFamily tested("phi3", "F32");
  expect_count(tested.file, "phi3.attention.sliding_window", 0);
  expect_count(tested.file, "phi3.rope.dimension_count", 32);
  expect_count(tested.file, "phi3.vocab_size", 320);
}

// phi3 with longrope: heads of 32 have 16 pairs. sqrt(1 + ln(512 / 64) / ln(64)) = sqrt(1.5).
TEST(GgufOfPhi3, WritesAndReadsTheFactorsOfLongRope) {
  const fs::path fixture = fs::path(test::fixtures()) / "families" / "phi3";
  const TempFolder folder;
  std::string list = "1.0";
  for (int i = 1; i < 16; ++i) list += ", " + std::to_string(1.0 + 0.25 * i);
  std::string text = io::read_file(fixture / "config.json");
  const auto replace = [&](const std::string& from, const std::string& to) {
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
  };
  replace("\"rope_type\": \"default\"", "\"rope_type\": \"longrope\", \"short_factor\": [" + list +
                                            "], \"long_factor\": [" + list + "]");
  replace("\"original_max_position_embeddings\": 4096", "\"original_max_position_embeddings\": 64");
  const model::FamilySpec family = model::family_of(model::parse_config(text, "config.json"));
  const model::CheckpointSource source(fixture);
  const ExportPlan plan = plan_export(family, source, {}, gguf(folder / "out.gguf", "F32"));
  write_random(plan, {family, source, folder.path(), nullptr, {}});
  const io::GgufFile file(folder / "out.gguf");
  for (const char* name : {"rope_factors_long.weight", "rope_factors_short.weight"}) {
    const std::vector<float> factors = floats_of(*file.find_tensor(name));
    ASSERT_EQ(factors.size(), 16u);
    for (std::size_t i = 0; i < 16; ++i)
      EXPECT_EQ(factors[i], 1.0f + 0.25f * static_cast<float>(i));
  }
  expect_real(file, "phi3.rope.scaling.attn_factor", std::sqrt(1.5f));
  expect_count(file, "phi3.rope.scaling.original_context_length", 64);
  const model::RopeSpec rope = open_artifact(folder / "out.gguf")->config().rope;
  EXPECT_EQ(rope.scaling, model::RopeSpec::Scaling::kLongRope);
  EXPECT_EQ(rope.inverse_frequencies(32), family.config.rope.inverse_frequencies(32));
  EXPECT_EQ(rope.inverse_frequencies(32, 65), family.config.rope.inverse_frequencies(32, 65));
  EXPECT_NEAR(rope.attention_factor, family.config.rope.attention_factor, 1e-6);
}

model::ModelConfig config_of(const std::string& name) {
  return model::load_config(fs::path(test::fixtures()) / "families" / name);
}

std::vector<std::string> gaps_of(const model::ModelConfig& config) {
  return gguf_unsupported(model::family_of(config));
}

TEST(GgufGaps, AreNoneInModelsAsTheyArePublished) {
  for (const std::string& name : kFamilies)
    EXPECT_THAT(gaps_of(config_of(name)), IsEmpty()) << name;
}

TEST(GgufGaps, NameWhatLoadersTakeFromTheArchitecture) {
  model::ModelConfig config = config_of("gemma3");
  config.window_of_layer[2] = 0;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("layer 2 has a window of 0 tokens")));
  config = config_of("gemma2");
  config.attention_softcap = 0;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("'gemma2' cap scores")));
  config = config_of("gemma2");
  config.query_scale = 0.125;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("query_pre_attn_scalar is 64")));
  config = config_of("gemma2");
  config.tie_word_embeddings = false;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("no separate output matrix")));
  config = config_of("qwen2_moe");
  config.experts_in_layer = {false, true};
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("layer 0 has no experts")));
  config = config_of("qwen3_moe");
  config.routing.normalize = false;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("norm_topk_prob is false")));
  config = config_of("qwen3");
  config.attention_bias = true;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("'qwen3' has no bias of o_proj")));
  config = config_of("qwen3_next");
  config.delta_net.key_dim = 16;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("keys have 16 channels a head and its values "
                                                     "32")));
  config = config_of("mixtral");
  config.hidden_act = "gelu_pytorch_tanh";
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("'llama' compute silu")));
}

// Loaders know two kinds of EXAONE 4: 64 layers with a window in three of four, or none anywhere.
TEST(GgufGaps, NameTheLayersOfExaone) {
  model::ModelConfig config = config_of("exaone4");
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("layer 3 has no positions")));
  config.window_of_layer.assign(4, 0);
  config.turned_layers.clear();
  EXPECT_THAT(gaps_of(config), IsEmpty());
  config.num_layers = 64;
  config.window_of_layer.clear();
  for (int i = 0; i < 64; ++i) {
    config.window_of_layer.push_back(i % 4 == 3 ? 0 : 16);
    config.turned_layers.push_back(i % 4 != 3);
  }
  EXPECT_THAT(gaps_of(config), IsEmpty());
}

TEST(GgufGaps, NameLayersAndWeightsOfExperts) {
  model::ModelConfig config = config_of("glm4_moe");
  config.experts_in_layer = {true, false, true};
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("not all from a first one on, as")));
  config = config_of("ernie4_5_moe");
  config.experts_in_layer = {false, true, false};  // every second
  EXPECT_THAT(gaps_of(config), IsEmpty());
  config.experts_in_layer = {true, true, false};
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("or every n-th")));
  config = config_of("minimax_m2");
  config.routing.scale = 2;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("weights are multiplied by 2")));
  config.routing.scale = 1;
  config.routing.scores = model::Routing::Scores::kSoftmax;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("another function of the router's scores")));
}

// Keys that llama.cpp's converter writes for these models.
TEST(GgufKeysOfFamilies, SayHowExpertsAreChosen) {
  const WrittenFamily glm("glm4_moe", "F32");
  expect_count(glm.file, "glm4moe.expert_gating_func", 2);
  expect_scalar(glm.file, "glm4moe.expert_weights_norm", true);
  expect_real(glm.file, "glm4moe.expert_weights_scale", 2.5f);
  expect_count(glm.file, "glm4moe.expert_shared_count", 1);
  expect_count(glm.file, "glm4moe.leading_dense_block_count", 1);
  expect_count(glm.file, "glm4moe.rope.dimension_count", 16);
  const WrittenFamily minimax("minimax_m2", "F32");
  expect_count(minimax.file, "minimax-m2.expert_gating_func", 2);
  expect_count(minimax.file, "minimax-m2.expert_feed_forward_length", 64);
  EXPECT_EQ(minimax.file.find("minimax-m2.expert_weights_scale"), nullptr);
  const WrittenFamily ernie("ernie4_5_moe", "Q8_0");
  expect_count(ernie.file, "ernie4_5-moe.interleave_moe_layer_step", 1);
  expect_count(ernie.file, "ernie4_5-moe.leading_dense_block_count", 1);
  expect_count(ernie.file, "ernie4_5-moe.expert_shared_count", 2);
  expect_count(ernie.file, "ernie4_5-moe.expert_shared_feed_forward_length", 64);
  EXPECT_EQ(floats_of(*ernie.file.find_tensor("blk.1.exp_probs_b.bias")).size(), 8u);
}

// Names, shapes and keys of llama.cpp's converter.
TEST(GgufOfGptOss, HasGateAndUpApartWithTheirBiases) {
  const WrittenFamily tested("gpt_oss", "F32");
  expect_count(tested.file, "gpt-oss.attention.sliding_window", 16);
  expect_count(tested.file, "gpt-oss.expert_feed_forward_length", 64);
  expect_count(tested.file, "gpt-oss.expert_count", 5);
  expect_count(tested.file, "gpt-oss.expert_used_count", 2);
  EXPECT_EQ(tested.file.string("gpt-oss.rope.scaling.type"), "yarn");
  expect_real(tested.file, "gpt-oss.rope.scaling.factor", 8.0f);
  expect_count(tested.file, "gpt-oss.rope.scaling.original_context_length", 64);
  const std::map<std::string, std::vector<std::uint64_t>> shapes = {
      {"blk.0.attn_sinks.weight", {4}},           {"blk.0.post_attention_norm.weight", {128}},
      {"blk.0.ffn_gate_inp.bias", {5}},           {"blk.0.attn_output.bias", {128}},
      {"blk.0.ffn_gate_exps.bias", {64, 5}},      {"blk.0.ffn_up_exps.bias", {64, 5}},
      {"blk.0.ffn_down_exps.bias", {128, 5}},     {"blk.0.ffn_gate_exps.weight", {128, 64, 5}},
      {"blk.0.ffn_up_exps.weight", {128, 64, 5}}, {"blk.0.ffn_down_exps.weight", {64, 128, 5}}};
  for (const auto& [name, ne] : shapes) {
    ASSERT_NE(tested.file.find_tensor(name), nullptr) << name;
    EXPECT_EQ(tested.file.find_tensor(name)->ne, ne) << name;
  }
  // The checkpoint's biases of gate and up alternate.
  const model::CheckpointSource plain(fs::path(test::fixtures()) / "families" / "gpt_oss");
  const Matrix<float> both = plain.load("model.layers.0.mlp.experts.gate_up_proj_bias");
  const std::vector<float> up = floats_of(*tested.file.find_tensor("blk.0.ffn_up_exps.bias"));
  for (Index e = 0; e < 5; ++e)
    for (Index i = 0; i < 64; ++i)
      EXPECT_EQ(up[static_cast<std::size_t>(64 * e + i)], both(e, 2 * i + 1)) << e << " " << i;
}

// Bytes of the checkpoint's blocks in the file's order of codes: byte i of a block has code i and
// code i + 16, while byte j of the checkpoint has codes 2j and 2j + 1.
TEST(GgufOfGptOss, KeepsMxfp4BitForBit) {
  const WrittenFamily tested("gpt_oss", "MXFP4_MOE");
  EXPECT_EQ(tested.plan.at("model.layers.2.mlp.experts.3.up_proj.weight").grid, std::nullopt);
  EXPECT_EQ(tested.plan.at("model.layers.2.mlp.experts.3.up_proj.weight").bytes, 64u * 4 * 17);
  const model::CheckpointSource plain(fs::path(test::fixtures()) / "families" / "gpt_oss");
  const std::string stack = "model.layers.2.mlp.experts.gate_up_proj";
  const model::TensorBytes blocks = plain.bytes(stack + "_blocks");
  const model::TensorBytes scales = plain.bytes(stack + "_scales");
  const io::GgufTensor& up = *tested.file.find_tensor("blk.2.ffn_up_exps.weight");
  ASSERT_EQ(up.type, ggml::Type::kMXFP4);
  for (std::size_t e = 0; e < 5; ++e)
    for (std::size_t r = 0; r < 64; ++r)
      for (std::size_t b = 0; b < 4; ++b) {
        const std::size_t from = (e * 128 + 2 * r + 1) * 4 + b;
        const std::byte* const stored = up.bytes.data() + ((e * 64 + r) * 4 + b) * 17;
        ASSERT_EQ(stored[0], scales.get()[from]);
        for (std::size_t i = 0; i < 32; ++i) {
          const std::byte pair = blocks.get()[from * 16 + i / 2];
          const std::byte code = i % 2 == 0 ? pair & std::byte{15} : pair >> 4;
          const std::byte written = stored[1 + i % 16];
          ASSERT_EQ(i < 16 ? written & std::byte{15} : written >> 4, code) << e << r << b << i;
        }
      }
  EXPECT_THAT(tested.plan.remarks, ::testing::Contains(HasSubstr("truncate: false")));
}

TEST(GgufGaps, NameWhatLoadersOfGptOssAssume) {
  model::ModelConfig config = config_of("gpt_oss");
  config.clamped_gate.limit = 6;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("clamped at 6 and have a slope of 1.702")));
  config = config_of("gpt_oss");
  config.attention_bias = false;
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("require biases of q, k, v and o")));
  config = config_of("gpt_oss");
  config.window_of_layer = {0, 16, 0};
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("layer 0 has a window of 0 tokens")));
}

// llama.cpp stops at an assertion in these.
TEST(GgufGaps, NameLayersThatLoadersCannotDoWithout) {
  model::ModelConfig config = config_of("gemma4_vl");
  config.window_of_layer = {0, 0, 0};
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("no layer has a window")));
  config = config_of("gemma4_e");
  config.window_of_layer = {16, 0, 16, 16, 0};
  EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("layer 3 uses keys and values of another "
                                                     "layer than loaders of architecture 'gemma4' "
                                                     "would take, which is layer 1")));
  for (const bool net : {false, true}) {
    config = config_of("qwen3_5_vl");
    config.delta_net_layers.assign(4, net);
    EXPECT_THAT(gaps_of(config), ElementsAre(HasSubstr("require layers with attention and layers "
                                                       "with delta nets")));
  }
  config = config_of("qwen3_5_vl");
  config.head_dim = 16;
  config.rope_sections = {11, 11, 10, 0};
  EXPECT_THAT(gaps_of(config),
              ElementsAre(HasSubstr("mrope_section 11, 11, 10, 0 has 32 pairs, more than a head's "
                                    "16 channels")));
}

TEST(GgufGaps, AreRefusedByThePlan) {
  const fs::path fixture = fs::path(test::fixtures()) / "families" / "gemma3";
  model::ModelConfig config = config_of("gemma3");
  config.window_of_layer[2] = 0;
  const model::FamilySpec family = model::family_of(config);
  const model::CheckpointSource source(fixture);
  const Error error = error_of([&] { plan_export(family, source, {}, gguf("out.gguf", "F32")); });
  EXPECT_EQ(error.code(), "E123");
  EXPECT_THAT(error.what(), HasSubstr("layer 2 has a window of 0 tokens"));
}

// Opens a file whose keys or tensors contradict each other, made from the metadata of a good one.
std::string opening_error(const WrittenFamily& good, const std::string& key, std::uint32_t value) {
  const io::GgufValue damaged{io::GgufValue::Scalar(value)};
  io::GgufMetadata metadata;
  for (const auto& [name, stored] : good.file.metadata())
    metadata.emplace_back(name, name == key ? damaged : stored);
  std::vector<io::GgufTensorDeclaration> declared;
  for (const io::GgufTensor& tensor : good.file.tensors())
    declared.push_back({tensor.name, tensor.type, tensor.ne});
  const fs::path path = good.folder / "damaged.gguf";
  io::GgufWriter writer(path, metadata, declared);
  for (const io::GgufTensor& tensor : good.file.tensors()) writer.write(tensor.name, tensor.bytes);
  writer.finish();
  return error_of([&] { open_artifact(path); }).what();
}

TEST(GgufOfExperts, IsRefusedWithCountsThatItsTensorsDoNotHave) {
  const WrittenFamily good("qwen3_moe", "F32");
  EXPECT_THAT(opening_error(good, "qwen3moe.expert_count", 7),
              HasSubstr("has shape [8, 128], but the metadata requires [7, 128]"));
  EXPECT_THAT(opening_error(good, "qwen3moe.expert_count", 100'000'000),
              HasSubstr("'expert_count' is 100000000 in 2 layers"));
  EXPECT_THAT(opening_error(good, "qwen3moe.expert_used_count", 9),
              HasSubstr("'expert_used_count' is 9 of only 8"));
  EXPECT_THAT(opening_error(good, "qwen3moe.expert_feed_forward_length", 32),
              HasSubstr("has shape [8, 64, 128], but the metadata requires [8, 32, 128]"));
}

}  // namespace
}  // namespace calque::formats
