// A GGUF file as the model that a job starts from.
#include "calque/formats/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <variant>

#include "calque/formats/reader.h"
#include "calque/io/file.h"
#include "calque/io/gguf.h"
#include "formats/support.h"
#include "support/temp_folder.h"

namespace calque::formats {
namespace {

using calque::testing::TempFolder;
using testing::error_of;
using testing::fixture;
using ::testing::HasSubstr;
using Scalar = io::GgufValue::Scalar;

const std::string kQWeight = "model.layers.0.self_attn.q_proj.weight";

ExportRequest gguf_export(const std::filesystem::path& path, const std::string& type) {
  ExportRequest request;
  request.format = "gguf";
  request.path = path;
  request.type = type;
  return request;
}

// Plans that round nothing need no caller but the writer's.
void copy_model(const OpenedModel& opened, const std::filesystem::path& from,
                const ExportRequest& request) {
  const model::FamilySpec family = model::family_of(opened.config);
  const ExportPlan plan = plan_export(family, *opened.weights, {}, request);
  WriterInputs inputs{family, *opened.weights, from, nullptr, {}};
  inputs.provenance.model_name = "other";
  inputs.carried = &opened.metadata;
  open_writer(plan, inputs)->finish();
}

TEST(GgufSource, HoldsTheTensorsOfItsFamilyAsTheyAreStored) {
  const OpenedModel opened = open_model(fixture("gguf/tiny-f16.gguf"));
  const model::FamilySpec family = model::family_of(opened.config);
  EXPECT_NO_THROW(model::check_against_family(*opened.weights, family));
  EXPECT_EQ(opened.weights->tensors().size(), family.tensors().size());
  EXPECT_EQ(opened.weights->at(kQWeight).dtype, DType::kF16);
  EXPECT_EQ(opened.weights->at(kQWeight).shape, (std::vector<Index>{256, 256}));
  EXPECT_EQ(opened.weights->at("model.norm.weight").dtype, DType::kF32);
}

// Rows that llama.cpp's converter permuted come back in Hugging Face's order.
TEST(GgufSource, GivesTheSameValuesAsBytesAndAsNumbers) {
  const OpenedModel opened = open_model(fixture("gguf/tiny-f16.gguf"));
  const auto reader = open_artifact(fixture("gguf/tiny-f16.gguf"));
  for (const model::SourceTensor& tensor : opened.weights->tensors()) {
    const Matrix<float> expected = reader->load(tensor.name);
    const model::TensorBytes bytes = opened.weights->bytes(tensor.name);
    ASSERT_EQ(bytes.get().size(), tensor.byte_count()) << tensor.name;
    std::vector<float> values(static_cast<std::size_t>(tensor.element_count()));
    convert_to_float(bytes.get().data(), tensor.dtype, values.size(), values.data());
    EXPECT_TRUE(std::equal(values.begin(), values.end(), expected.data())) << tensor.name;
    EXPECT_EQ(testing::sha256_of(opened.weights->load(tensor.name)), testing::sha256_of(expected));
  }
}

TEST(GgufSource, NamesTheNearestTensor) {
  const OpenedModel opened = open_model(fixture("gguf/tiny-f16.gguf"));
  const Error error =
      error_of([&] { opened.weights->at("model.layers.0.self_attn.q_proj.weigth"); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_THAT(error.what(), HasSubstr("tiny-f16.gguf: has no tensor"));
  EXPECT_THAT(error.what(), HasSubstr(kQWeight));
}

TEST(GgufSource, CopiedIntoAnotherFileIsTheSame) {
  const TempFolder folder;
  const auto path = fixture("gguf/tiny-f16.gguf");
  copy_model(open_model(path), path, gguf_export(folder / "out.gguf", "F16"));
  const io::GgufFile before(path);
  const io::GgufFile after(folder / "out.gguf");
  ASSERT_EQ(after.tensors().size(), before.tensors().size());
  for (const io::GgufTensor& tensor : before.tensors()) {
    const io::GgufTensor* copy = after.find_tensor(tensor.name);
    ASSERT_NE(copy, nullptr) << tensor.name;
    EXPECT_EQ(copy->type, tensor.type) << tensor.name;
    EXPECT_TRUE(std::ranges::equal(copy->bytes, tensor.bytes)) << tensor.name;
  }
}

TEST(GgufSource, PassesItsTokenizerOn) {
  const TempFolder folder;
  const auto path = fixture("gguf/tiny-f16.gguf");
  copy_model(open_model(path), path, gguf_export(folder / "out.gguf", "F16"));
  const io::GgufFile before(path);
  const io::GgufFile after(folder / "out.gguf");
  int keys = 0;
  for (const auto& [key, value] : before.metadata()) {
    if (!key.starts_with("tokenizer.")) continue;
    ++keys;
    ASSERT_NE(after.find(key), nullptr) << key;
    EXPECT_TRUE(after.find(key)->value == value.value) << key;
  }
  EXPECT_GE(keys, 8);
}

TEST(GgufSource, PassesOnWhatItSaysOfTheModelOnly) {
  const TempFolder folder;
  const auto path = fixture("gguf/tiny-f16.gguf");
  OpenedModel opened = open_model(path);
  std::erase_if(opened.metadata, [](const auto& key) { return key.first == "general.name"; });
  const auto add = [&](const char* key, Scalar value) {
    opened.metadata.emplace_back(key, std::move(value));
  };
  add("general.name", std::string("Tiny One"));
  add("general.license", std::string("apache-2.0"));
  add("general.base_model.0.repo_url", std::string("https://example.org/a/b"));
  add("general.source.path", std::string("/home/somebody/models/tiny"));
  add("general.basename", std::string("C:\\models\\tiny"));
  add("quantize.imatrix.file", std::string("secret.dat"));
  copy_model(opened, path, gguf_export(folder / "out.gguf", "BF16"));
  const io::GgufFile out(folder / "out.gguf");
  EXPECT_EQ(out.string("general.name"), "Tiny One");
  EXPECT_EQ(out.string("general.license"), "apache-2.0");
  EXPECT_EQ(out.string("general.base_model.0.repo_url"), "https://example.org/a/b");
  EXPECT_EQ(out.find("general.source.path"), nullptr);
  EXPECT_EQ(out.find("general.basename"), nullptr);
  EXPECT_EQ(out.find("quantize.imatrix.file"), nullptr);
  EXPECT_EQ(out.integer("general.file_type"), 32);  // BF16, not the source's 1
}

TEST(GgufSource, PutsTheGivenPreInPlaceOfItsOwn) {
  const TempFolder folder;
  const auto path = fixture("gguf/tiny-f16.gguf");
  ExportRequest request = gguf_export(folder / "out.gguf", "F16");
  request.pre = "qwen2";
  copy_model(open_model(path), path, request);
  EXPECT_EQ(io::GgufFile(folder / "out.gguf").string("tokenizer.ggml.pre"), "qwen2");
}

TEST(GgufSource, IsNotOverwrittenByItsOwnExport) {
  const TempFolder folder;
  const auto path = folder / "model.gguf";
  io::copy_file(fixture("gguf/tiny-f16.gguf"), path);
  const OpenedModel opened = open_model(path);
  ExportRequest request = gguf_export(path, "F16");
  request.overwrite = true;
  const Error error = error_of([&] { copy_model(opened, path, request); });
  EXPECT_EQ(error.kind(), ErrorKind::kConfig);
  EXPECT_THAT(error.what(), HasSubstr("model.gguf is the model itself"));
}

TEST(GgufSource, IsRefusedIfQuantized) {
  const Error error = error_of([] { open_model(fixture("gguf/tiny-1layer-Q4_0.gguf")); });
  EXPECT_EQ(error.kind(), ErrorKind::kInput);
  EXPECT_EQ(error.code(), "E169");
  EXPECT_THAT(error.what(), HasSubstr("is already quantized: Q4_0 (8 tensors), Q6_K (1 tensor)"));
  EXPECT_THAT(error.what(), HasSubstr("adds a second loss"));
  EXPECT_THAT(error.what(), HasSubstr("model.allow_requantize: true"));
}

// Dequantized to F32.
TEST(GgufSource, MayBeQuantizedWhenAllowed) {
  const auto path = fixture("gguf/tiny-1layer-Q4_0.gguf");
  const OpenedModel opened = open_model(path, /*allow_requantize=*/true);
  EXPECT_EQ(opened.weights->at(kQWeight).dtype, DType::kF32);
  const Matrix<float> expected = open_artifact(path)->load(kQWeight);
  const model::TensorBytes bytes = opened.weights->bytes(kQWeight);
  const auto* begin = reinterpret_cast<const std::byte*>(expected.data());
  EXPECT_TRUE(std::equal(bytes.get().begin(), bytes.get().end(), begin));
  std::uint64_t stored = 0;
  const io::GgufFile file(path);
  for (const io::GgufTensor& tensor : file.tensors()) stored += tensor.bytes.size();
  EXPECT_EQ(opened.weights->total_bytes(), stored);  // not as F32
}

TEST(OpenModel, RefusesWhatIsNeitherFolderNorGguf) {
  const TempFolder folder;
  io::write_file(folder / "model.gguf", "no header in here");
  EXPECT_THAT(error_of([&] { open_model(folder / "model.gguf"); }).what(),
              HasSubstr("is not a GGUF file (it does not begin with 'GGUF')"));
  EXPECT_THAT(error_of([&] { open_model(folder / "none"); }).what(),
              HasSubstr("none: no such file or folder"));
}

TEST(OpenModel, OpensAFolder) {
  const TempFolder folder;
  const testing::TinyModel model(folder / "Tiny", {});
  const OpenedModel opened = open_model(model.folder());
  EXPECT_TRUE(opened.metadata.empty());
  EXPECT_EQ(opened.config.vocab_size, 40);
  EXPECT_EQ(opened.weights->total_bytes(), model.source().total_bytes());
}

// ---- A configuration that ties the head, and a stored head that differs

// A folder whose config.json says true in place of the model's false.
class StoredHead : public ::testing::Test {
 protected:
  StoredHead() : model_(folder_ / "Tiny", {}) {
    std::string config = io::read_file(model_.folder() / "config.json");
    const std::string untied = "\"tie_word_embeddings\": false";
    config.replace(config.find(untied), untied.size(), "\"tie_word_embeddings\": true");
    io::write_file(model_.folder() / "config.json", config);
  }
  TempFolder folder_;
  testing::TinyModel model_;
};

TEST_F(StoredHead, IsPartOfTheModel) {
  const SourceModel source(model_.folder());
  ASSERT_EQ(source.family.lm_head.size(), 1u);
  EXPECT_THAT(source.family.config.remarks, ::testing::ElementsAre(HasSubstr("lm_head.weight")));
  EXPECT_FALSE(open_artifact(model_.folder())->config().tie_word_embeddings);
}

TEST_F(StoredHead, IsWrittenWithAConfigurationThatSaysSo) {
  const SourceModel source(model_.folder());
  ExportRequest request;
  request.format = "gptq";
  request.path = folder_ / "out";
  const ExportPlan plan =
      plan_export(source.family, *source.weights, {.bits = 4, .group_size = 32}, request);
  testing::write_random(plan, {.family = source.family,
                               .source = *source.weights,
                               .model_folder = model_.folder(),
                               .vocabulary = nullptr,
                               .provenance = {}});
  EXPECT_THAT(io::read_file(folder_ / "out/config.json"),
              HasSubstr("\"tie_word_embeddings\": false"));
  EXPECT_TRUE(open_artifact(folder_ / "out")->has("lm_head.weight"));
}

// ---- Folders that are quantized already

TEST(OpenModel, RefusesAQuantizedFolderWithTheWayOut) {
  const Error error = error_of([] { open_model(fixture("gptqmodel_w4g128_sym_v1"), true); });
  EXPECT_EQ(error.code(), "E169");
  EXPECT_THAT(error.what(), HasSubstr("is already quantized (config.json, quantization_config, "
                                      "quant_method 'gptq')"));
  EXPECT_THAT(error.what(), HasSubstr("calque dequantize "));
}

TEST(OpenModel, RefusesAQuantizedFolderThatItCannotRead) {
  const TempFolder folder;
  const std::string header = R"({"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}})";
  std::string file(8, '\0');
  file[0] = static_cast<char>(header.size());
  io::write_file(folder / "model.safetensors", file + header + "x");
  io::write_file(folder / "config.json",
                 R"({"architectures": ["LlamaForCausalLM"],
                     "quantization_config": {"quant_method": "fp8"}})");
  const Error error = error_of([&] { open_model(folder.path()); });
  EXPECT_EQ(error.code(), "E169");
  EXPECT_THAT(error.what(), HasSubstr("quant_method 'fp8'"));
  EXPECT_THAT(error.what(), HasSubstr("Use the original model (calque dequantize cannot read"));
}

TEST(OpenModel, SaysThatTheDtypeIsAnother) {
  const TempFolder folder;
  const testing::TinyModel model(folder / "Tiny", {});  // bfloat16, as its config.json says
  EXPECT_TRUE(open_model(model.folder()).config.remarks.empty());
  std::string config = io::read_file(model.folder() / "config.json");
  config.replace(config.find("bfloat16"), 8, "float16");
  io::write_file(model.folder() / "config.json", config);
  const OpenedModel opened = open_model(model.folder());
  ASSERT_EQ(opened.config.remarks.size(), 1u);
  EXPECT_THAT(opened.config.remarks[0], HasSubstr("dtype float16, but the weights are stored in "
                                                  "bfloat16"));
}

TEST(OpenModel, SaysThatAnIndexIsNotRead) {
  const TempFolder folder;
  const testing::TinyModel model(folder / "Tiny", {});
  const auto index = model.folder() / "model.safetensors.index.json";
  io::write_file(index, R"({"weight_map": {"a": "model.safetensors"}})");
  EXPECT_TRUE(open_model(model.folder()).config.remarks.empty());
  for (const char* other : {R"({"weight_map": {"a": "model-00001-of-00002.safetensors"}})", "{"}) {
    io::write_file(index, other);
    EXPECT_THAT(open_model(model.folder()).config.remarks,
                ::testing::ElementsAre(HasSubstr("model.safetensors.index.json")));
  }
}

TEST(OpenModel, SaysThatPlainWeightsAreCalledQuantized) {
  const TempFolder folder;
  const testing::TinyModel model(folder / "Tiny", {});
  io::write_file(model.folder() / "hf_quant_config.json", R"({"quantization": {}})");
  const OpenedModel opened = open_model(model.folder());
  ASSERT_EQ(opened.config.remarks.size(), 1u);
  EXPECT_THAT(opened.config.remarks[0], HasSubstr("hf_quant_config.json: the weights are not"));
  EXPECT_EQ(opened.left_out, std::vector<std::string>{"hf_quant_config.json"});
}

}  // namespace
}  // namespace calque::formats
