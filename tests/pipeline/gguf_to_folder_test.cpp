// Folders made from a GGUF file: its config.json and tokenizer say what those of the model it was
// made from say.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "calque/core/error.h"
#include "calque/formats/checkpoint_config.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "calque/io/json.h"
#include "calque/io/safetensors.h"
#include "calque/model/config.h"
#include "calque/text/tokenizer.h"
#include "calque/verify/verify_artifact.h"
#include "support/demo_job.h"
#include "support/paths.h"
#include "support/temp_folder.h"

namespace calque::pipeline {
namespace {

namespace fs = std::filesystem;
using calque::testing::TempFolder;
using ::testing::HasSubstr;

const fs::path kFixtures = test::fixtures();

job::Job plain_job(const fs::path& model, const formats::ExportRequest& request) {
  job::Job job;
  job.name = "test";
  job.model.path = model;
  job.quantization.set_method("rtn");
  job.quantization.grid = {.bits = 4, .group_size = 32, .sym = true};
  job.exports = {request};
  return job;
}

fs::path as_gguf(const fs::path& model, const fs::path& file, const std::string& type) {
  formats::ExportRequest request = folder_export("gguf", file);
  request.type = type;
  run(plain_job(model, request));
  return file;
}

fs::path as_folder(const fs::path& gguf, const fs::path& folder, const std::string& format) {
  run(plain_job(gguf, folder_export(format, folder)));
  return folder;
}

// dtype and remarks are of the file.
model::ModelConfig config_of(const fs::path& folder) {
  model::ModelConfig config = model::load_config(folder);
  config.dtype.clear();
  config.remarks.clear();
  return config;
}

class FamilyThroughGguf : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, FamilyThroughGguf,
                         ::testing::Values("llama", "llama3_rope", "mistral_sliding", "qwen2",
                                           "qwen3", "phi3", "gemma2", "gemma3", "mixtral",
                                           "qwen2_moe", "qwen3_moe", "ministral3", "phi4_mini",
                                           "seed_oss", "smollm3", "glm4_moe", "minimax_m2",
                                           "ernie4_5_moe", "olmo3", "qwen3_vl", "gpt_oss"));

TEST_P(FamilyThroughGguf, HasTheSameConfiguration) {
  const TempFolder out;
  const fs::path model = kFixtures / "families" / GetParam();
  const fs::path folder =
      as_folder(as_gguf(model, out / "model.gguf", "F16"), out / "folder", "gptq");
  model::ModelConfig expected = config_of(model), actual = config_of(folder);
  const std::string family = GetParam();
  if (family == "mistral_sliding") {  // GGUF has one name for both, and no key for the window
    expected.window_of_layer.assign(expected.window_of_layer.size(), 0);
    expected.architecture = "LlamaForCausalLM";
    expected.model_type = "llama";
  }
  for (auto* factors : {&expected.rope.short_factors, &expected.rope.long_factors})
    for (double& factor : *factors) factor = static_cast<float>(factor);  // as GGUF stores them
  expected.wrapper.clear();  // the language model alone goes into GGUF
  expected.names = {};
  EXPECT_FLOAT_EQ(static_cast<float>(actual.rope.attention_factor),
                  static_cast<float>(expected.rope.attention_factor));
  expected.rope.attention_factor = actual.rope.attention_factor;
  // Without a tokenizer, GGUF has no ids. Qwen2's classes have biases whatever their config says.
  for (model::ModelConfig* config : {&expected, &actual}) {
    config->bos_token_id = config->eos_token_id = 0;
    if (family.starts_with("qwen2")) config->attention_bias = true;
  }
  EXPECT_EQ(formats::generated_config_json(actual, ""),
            formats::generated_config_json(expected, ""));
  EXPECT_FALSE(fs::exists(folder / "tokenizer.json"));
}

struct TokenizedModel {
  const char* name;
  const char* architecture;
  const char* tokenizer;
  Index vocab_size;
};
void PrintTo(const TokenizedModel& model, std::ostream* out) { *out << model.name; }

// A model of one narrow layer with the fixture's tokenizer.
void write_model(const TokenizedModel& model, const fs::path& folder) {
  fs::create_directories(folder);
  const fs::path tokenizer = kFixtures / "tokenizers" / model.tokenizer;
  for (const auto& entry : fs::directory_iterator(tokenizer))
    if (entry.path().filename() != "golden.json" && entry.path().filename() != "config.json")
      fs::copy_file(entry.path(), folder / entry.path().filename());
  if (fs::exists(folder / "tokenizer.model"))
    fs::copy_file(fs::path(test::demo_model()) / "tokenizer_config.json",
                  folder / "tokenizer_config.json");
  const io::Json config = {{"architectures", io::Json::array({model.architecture})},
                           {"model_type", model::find_family(model.architecture)->model_type},
                           {"hidden_size", 64},
                           {"intermediate_size", 64},
                           {"num_hidden_layers", 1},
                           {"num_attention_heads", 2},
                           {"num_key_value_heads", 1},
                           {"head_dim", 32},
                           {"max_position_embeddings", 512},
                           {"rms_norm_eps", 1e-5},
                           {"rope_theta", 500000.0},
                           {"hidden_act", "silu"},
                           {"tie_word_embeddings", true},
                           {"vocab_size", model.vocab_size},
                           {"torch_dtype", "bfloat16"}};
  io::write_file(folder / "config.json", config.dump(1));
  std::vector<io::TensorDeclaration> declared;
  for (const model::TensorSpec& tensor : model::family_of(model::load_config(folder)).tensors())
    declared.push_back({tensor.name, DType::kBF16, tensor.shape});
  io::SafetensorsWriter writer(folder, declared);
  for (const io::TensorDeclaration& tensor : declared) {
    std::vector<float> values(tensor.byte_count() / 2);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = 0.1f * std::sin(static_cast<float>(i % 9973) * 1.7f) + 0.01f;
    std::vector<std::byte> bytes(tensor.byte_count());
    convert_from_float(values.data(), DType::kBF16, values.size(), bytes.data());
    writer.write(tensor.name, bytes);
  }
  writer.finish();
}

std::vector<std::string> adversarial_texts(const fs::path& tokenizer) {
  std::vector<std::string> texts;
  const io::Json golden = io::read_json(kFixtures / "tokenizers" / tokenizer / "golden.json");
  for (const io::Json& entry : golden.at("cases").elements())
    texts.push_back(entry.at("text").string());
  return texts;
}

class TokenizerThroughGguf : public ::testing::TestWithParam<TokenizedModel> {
 protected:
  const TempFolder out_;
};
INSTANTIATE_TEST_SUITE_P(
    Kinds, TokenizerThroughGguf,
    ::testing::Values(TokenizedModel{"llama3", "LlamaForCausalLM", "bytelevel_llama3", 3008},
                      TokenizedModel{"qwen2", "Qwen2ForCausalLM", "bytelevel_qwen2", 3008},
                      TokenizedModel{"qwen3", "Qwen3ForCausalLM", "bytelevel_qwen2", 3008},
                      TokenizedModel{"tekken", "MistralForCausalLM", "bytelevel_tekken", 3008},
                      TokenizedModel{"gpt2", "LlamaForCausalLM", "bytelevel_gpt2", 3008},
                      TokenizedModel{"smollm2", "LlamaForCausalLM", "smollm2", 49152},
                      TokenizedModel{"pieces", "LlamaForCausalLM", "sentencepiece_bpe", 4096}),
    [](const auto& model) { return std::string(model.param.name); });

TEST_P(TokenizerThroughGguf, GivesTheSameIds) {
  write_model(GetParam(), out_ / "model");
  const fs::path file = as_gguf(out_ / "model", out_ / "model.gguf", "BF16");
  const fs::path folder = as_folder(file, out_ / "folder", "gptq");
  const auto expected = text::load_tokenizer(out_ / "model");
  const auto actual = text::load_tokenizer(folder);
  for (const std::string& text : adversarial_texts(GetParam().tokenizer))
    for (const bool special : {false, true})
      EXPECT_EQ(actual->encode(text, special), expected->encode(text, special)) << text;
  EXPECT_EQ(actual->prefix(), text::load_tokenizer(file)->prefix());
  EXPECT_EQ(actual->suffix(), expected->suffix());
}

// From file to folder to file, nothing that a reader of GGUF files knows is lost.
TEST_P(TokenizerThroughGguf, GivesTheSameGguf) {
  write_model(GetParam(), out_ / "model");
  const fs::path first = as_gguf(out_ / "model", out_ / "first.gguf", "BF16");
  // Reading the folder as a model to start from needs unquantized weights.
  const fs::path folder = as_folder(first, out_ / "folder", "gptq");
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().find("token") != std::string::npos ||
        entry.path().filename() == "generation_config.json")
      fs::copy_file(entry.path(), out_ / "model" / entry.path().filename(),
                    fs::copy_options::overwrite_existing);
  const fs::path second = as_gguf(out_ / "model", out_ / "second.gguf", "BF16");
  const io::GgufFile before(first), after(second);
  for (const auto& [key, value] : before.metadata())
    if (key.starts_with("tokenizer.") && after.find(key) == nullptr) ADD_FAILURE() << key;
  const auto same = [&](const char* key) {
    ASSERT_EQ(before.find(key) == nullptr, after.find(key) == nullptr) << key;
    if (before.find(key) != nullptr) {
      EXPECT_TRUE(before.find(key)->value == after.find(key)->value) << key;
    }
  };
  for (const char* key :
       {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
        "tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
        "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.chat_template"})
    same(key);
}

TEST(DemoThroughGguf, IsVerifiedInEveryFormat) {
  const TempFolder out;
  const fs::path file = as_gguf(test::demo_model(), out / "demo.gguf", "F16");
  for (const char* format : {"gptq", "awq", "compressed-tensors"}) {
    const fs::path folder = as_folder(file, out / format, format);
    EXPECT_TRUE(config_of(folder) == config_of(test::demo_model()));
    for (const verify::Finding& finding :
         verify::verify_artifact({.artifact = folder, .reference = test::demo_model()}))
      EXPECT_NE(finding.verdict, verify::Finding::Verdict::kFault)
          << format << ": " << finding.message;
    EXPECT_EQ(text::load_tokenizer(folder)->encode("Once upon a time"),
              text::load_tokenizer(test::demo_model())->encode("Once upon a time"));
  }
}

// A pre-tokenizer that calque does not know cannot be written down.
TEST(FolderFromGguf, IsRefusedWithoutAKnownTokenizer) {
  const TempFolder out;
  write_model({"gpt2", "LlamaForCausalLM", "bytelevel_gpt2", 3008}, out / "model");
  formats::ExportRequest request = folder_export("gguf", out / "model.gguf");
  request.type = "BF16";
  request.pre = "unheard-of";
  run(plain_job(out / "model", request));
  try {
    as_folder(out / "model.gguf", out / "folder", "gptq");
    FAIL() << "made a folder";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "E126");
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.ggml.pre 'unheard-of' is not implemented"));
  }
  EXPECT_FALSE(fs::exists(out / "folder"));
}

}  // namespace
}  // namespace calque::pipeline
